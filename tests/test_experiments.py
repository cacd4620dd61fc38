"""Every experiment at a tiny size: two steps, finite, of the right shapes, and resumable."""

import dataclasses
import functools
import importlib
import os
import pathlib
import pkgutil
import re
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest

import experiments
from ganjax import config, loop, members
from ganjax.checkpoint import Checkpoints, flatten
from ganjax.cli import main
from ganjax.cli.experiments import summary
from ganjax.gan import Experiment, GanState
from ganjax.loop import Schedule
from ganjax.parallel import Arrangement, Runner
from ganjax.sampling import Sampler
from tests.doubles import Recorder, compiled_fast

__all__ = ["compiled_fast"]  # the fixture

NAMES = sorted(m.name for m in pkgutil.iter_modules(experiments.__path__) if not m.name.startswith("_"))
QUIET = Schedule(log_steps=1, preview_steps=0, save_minutes=0)
# On several devices by default: convolutions with labels, and points. The others are for the long tests.
ON_DEVICES = {"cgan_mnist", "gan_ring"}
# Two steps of these by default; of the others, up to half a minute of compiling each, in the long tests.
QUICK = {"cgan_mnist", "gan_mnist", "gan_ring"}


def module_of(name: str):
    return importlib.import_module(f"experiments.{name}")


def named(among: set[str]):
    """The experiments, those that are not `among` these marked slow."""
    return [pytest.param(name, marks=[] if name in among else [pytest.mark.slow]) for name in NAMES]


def tiny(name: str, **changes) -> Experiment:
    module = module_of(name)
    settings = config.override(module.Config(), module.TINY | changes, experiment=name)
    config.validate(settings)
    return module.build(settings)


def test_there_are_experiments():
    assert "cgan_mnist" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_its_settings(name):
    module = module_of(name)
    settings = module.Config()
    config.validate(settings)
    field = dataclasses.fields(settings)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, field, getattr(settings, field))
    keys = {field.name for field in dataclasses.fields(settings)}
    assert {"batch_size", "steps", "dtype"} <= keys
    if "dataset" in keys:  # of images
        assert {"image_size", "channels"} <= keys
        assert module.TINY["dataset"] == "random"
    assert module.TINY["steps"] == 2
    assert config.from_json(module.Config, config.to_json(settings)) == settings
    for key in keys:
        assert f"--config.{key}" in config.describe(module.Config)
    if "seeds" in keys:
        assert tiny(name, seeds=2).seeds == 2  # and not parsed and forgotten


@pytest.mark.parametrize("name", NAMES)
def test_its_docstring(name):
    """A summary for --mode=list, the command, and where it is from."""
    text = module_of(name).__doc__ or ""
    line = summary(module_of(name))
    assert 20 <= len(line) <= 100
    assert line.endswith(".")
    assert text.split("\n")[1] == ""
    assert f"python run.py --experiment={name}" in text


def test_list_names_them_all(capsys):
    assert main(["--mode=list"], package="experiments") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(summary(module_of(name)) in line for name, line in zip(NAMES, lines, strict=True))


@pytest.mark.parametrize("name", named(QUICK))
def test_two_steps(name, tmp_path):
    experiment = tiny(name)
    recorder = Recorder()
    checkpoints = Checkpoints(tmp_path / "whole")
    whole = loop.train(
        experiment, seed=0, observer=recorder, checkpoints=checkpoints, schedule=QUIET, parallel="none"
    )
    assert whole.step == 2
    assert whole.metrics
    assert all(np.isfinite(value) for value in whole.metrics.values())
    assert recorder.steps("log") == [1, 2]
    assert members.summary(
        [whole.metrics] * 2
    )  # of several seeds: no metric has the name of another's deviation

    found = checkpoints.restore(lambda meta: loop.abstract_state(experiment, meta["stage"]), pytest.fail)
    assert found is not None
    state, meta = found
    for leaf_name, leaf in flatten(state).items():
        if np.issubdtype(leaf.dtype, np.floating):
            assert np.isfinite(leaf).all(), leaf_name

    stage = experiment.stages[meta["stage"]]
    labels = np.arange(3) % experiment.num_classes if experiment.num_classes else None
    if experiment.show is not None and experiment.show.conditions is not None:  # it translates
        assert experiment.show.count == 3
        conditions = experiment.show.conditions()
        translations = Sampler(stage.gan, chunk=4)(state, [0, 1, 2], conditions=conditions)
        shape = next(iter(conditions.values())).shape
        drawn = [images for images in translations.values() if images.ndim == 4]  # others are scores
        assert all(images.shape[:3] == shape[:3] for images in drawn)
        assert experiment.show.picture(translations, experiment.show.columns).dtype == np.uint8
    else:
        drawn = [Sampler(stage.gan, chunk=64)(state, [0, 1, 2], labels)]
        assert drawn[0].shape == (3, *stage.data.image_shape)
    for images in drawn:
        assert images.dtype == np.float32
        assert np.isfinite(images).all()
        if images.ndim == 4:
            assert np.abs(images).max() <= 1
        assert len({image.tobytes() for image in images}) == 3

    assert_resumes(name, "none", tmp_path / "parts", whole.fingerprint)


def assert_resumes(name: str, kind: str, folder: pathlib.Path, fingerprint: str) -> None:
    """Two steps, a restart after the first: the bits of a run that was not interrupted."""
    for stop in (1, None):
        part = loop.train(
            tiny(name),
            seed=0,
            observer=Recorder(),
            checkpoints=Checkpoints(folder),
            schedule=QUIET._replace(stop=stop),
            parallel=kind,
        )
    assert part.resumed_from == [1]
    assert part.step == 2
    assert part.fingerprint == fingerprint


needs_devices = pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")


@needs_devices
@pytest.mark.parametrize("kind", ["pmap", "sharded"])
@pytest.mark.parametrize("name", named({"gan_ring"}))
def test_resuming_on_several_devices(name, kind, tmp_path):
    whole = loop.train(tiny(name), seed=0, observer=Recorder(), schedule=QUIET, parallel=kind)
    assert_resumes(name, kind, tmp_path, whole.fingerprint)


# Parameters whose exact gradient is zero, so that what moves them is rounding: biases before a norm. Of the
# experiments' players, as in "params/generator/Conv_0/bias".
MOVED_BY_ROUNDING: dict[str, str] = {
    "dcgan_upsampling_mnist": r"(params|ema)/generator/Dense_1/bias",
    "ragan_mnist": r"params/discriminator/Dense_1/bias",  # its loss sees differences of logits alone
    "wgan_mnist": r"(params|ema)/generator/ConvTranspose_[01]/bias|params/discriminator/Conv_[01]/bias",
    # A critic's: what real and generated images say of it cancels but for a few units.
    **dict.fromkeys(
        ("anomaly_mnist", "anomaly_fashion_mnist", "anomaly_folder"), r"params/discriminator/Dense_0/bias"
    ),
    # Of residual blocks: the norm behind the last of them takes out what all of their shortcuts add up.
    "sngan_cifar10": r"(params|ema)/generator/UpBlock_\d/(Conv_0|shortcut)/bias",
    **dict.fromkeys(
        (
            "sngan_mnist",
            "sngan_cond_cifar10",
            "sagan_mnist",
            "sagan_cifar10",
            "sagan_128",
            "biggan_cifar10",
            "biggan_128",
            "biggan_deep_128",
        ),
        r"(params|ema)/generator/(up|flat)_\d/(conv_1|conv_3|shortcut)/bias",
    ),
}
STEPS = 5


class Trained(NamedTuple):
    """What five steps gave."""

    state: GanState
    metrics: list[dict[str, float]]


@functools.cache
def trained(name: str, kind: str, devices: int) -> Trained:
    experiment = tiny(name, steps=STEPS)
    stage = experiment.stages[0]
    placed = Arrangement(kind, tuple(jax.devices()[:devices]))
    runner = Runner(placed, stage.gan, stage.data.transform, stage.batch_size, stage.steps)
    key = loop.stage_key(0, 0)
    state = runner.put(runner.create(key, stage.data.example(stage.batch_size)))
    history = []
    for step in range(STEPS):
        indices = stage.data.indices(0, step * stage.batch_size, stage.batch_size)
        state, metrics = runner.step(state, stage.data.read(indices), key, step)
        history.append({name: float(value) for name, value in metrics.items()})
    return Trained(runner.get(state), history)


def layouts():
    """One of each in the default tests; eight devices only where there are as many."""
    for devices in (1, 2, 4, 8):
        for kind in ("pmap", "sharded"):
            marks = [pytest.mark.skipif(jax.device_count() < devices, reason=f"needs {devices} devices")]
            if (devices, kind) not in ((2, "pmap"), (4, "sharded")):
                marks.append(pytest.mark.slow)
            yield pytest.param(kind, devices, marks=marks, id=f"{kind}_on_{devices}")


@pytest.mark.parametrize(("kind", "devices"), list(layouts()))
@pytest.mark.parametrize("name", named(ON_DEVICES))
def test_the_number_of_devices_does_not_change_what_is_trained(name, kind, devices):
    expected, found = trained(name, "none", 1), trained(name, kind, devices)
    for ours, theirs in zip(found.metrics, expected.metrics, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5, rel=1e-5)
    exempt = MOVED_BY_ROUNDING.get(name)
    theirs = flatten(expected.state)
    for path, leaf in flatten(found.state).items():
        if path.startswith(("params/", "ema/")) and not (exempt and re.fullmatch(exempt, path)):
            norm = float(np.linalg.norm(theirs[path]))
            assert np.linalg.norm(leaf - theirs[path]) <= 1e-4 * max(norm, 1e-3), path


@pytest.mark.slow
def test_on_eight_devices():
    """The tests of eight devices, in a process that has as many."""
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "", __file__, "-k", "_on_8"]
    root = pathlib.Path(__file__).parents[1]
    # A second forced number would be added to the first.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["GANJAX_TEST_DEVICES"] = "8"
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    assert re.search(rf"{2 * len(NAMES)} passed", done.stdout), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_steps_in_half_precision(name):
    result = loop.train(
        tiny(name, dtype="bfloat16"), seed=0, observer=Recorder(), schedule=QUIET, parallel="none"
    )
    assert all(np.isfinite(value) for value in result.metrics.values())
