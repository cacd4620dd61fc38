"""Every experiment at a tiny size: two steps, finite, of the right shapes, and resumable."""

import dataclasses
import importlib
import pkgutil

import numpy as np
import pytest

import experiments
from ganjax import config, loop
from ganjax.checkpoint import Checkpoints, flatten
from ganjax.cli import main
from ganjax.cli.experiments import summary
from ganjax.gan import Experiment
from ganjax.loop import Schedule
from ganjax.sampling import Sampler
from tests.doubles import Recorder, compiled_fast

__all__ = ["compiled_fast"]  # the fixture

NAMES = sorted(m.name for m in pkgutil.iter_modules(experiments.__path__) if not m.name.startswith("_"))
QUIET = Schedule(log_steps=1, preview_steps=0, save_minutes=0)


def module_of(name: str):
    return importlib.import_module(f"experiments.{name}")


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
    assert {"dataset", "image_size", "batch_size", "steps", "dtype"} <= keys
    assert module.TINY["dataset"] == "random"
    assert module.TINY["steps"] == 2
    assert config.from_json(module.Config, config.to_json(settings)) == settings
    for key in keys:
        assert f"--config.{key}" in config.describe(module.Config)


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


@pytest.mark.parametrize("name", NAMES)
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

    found = checkpoints.restore(lambda meta: loop.abstract_state(experiment, meta["stage"]), pytest.fail)
    assert found is not None
    state, meta = found
    for leaf_name, leaf in flatten(state).items():
        if np.issubdtype(leaf.dtype, np.floating):
            assert np.isfinite(leaf).all(), leaf_name

    stage = experiment.stages[meta["stage"]]
    labels = np.arange(3) % experiment.num_classes if experiment.num_classes else None
    images = Sampler(stage.gan, chunk=64)(state, [0, 1, 2], labels)
    assert images.shape == (3, *stage.data.image_shape)
    assert images.dtype == np.float32
    assert np.isfinite(images).all()
    assert np.abs(images).max() <= 1
    assert len({image.tobytes() for image in images}) == 3

    for stop in (1, None):  # the same, taken up again in the middle
        part = loop.train(
            tiny(name),
            seed=0,
            observer=Recorder(),
            checkpoints=Checkpoints(tmp_path / "parts"),
            schedule=QUIET._replace(stop=stop),
            parallel="none",
        )
    assert part.resumed_from == [1]
    assert part.fingerprint == whole.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_steps_in_half_precision(name):
    result = loop.train(
        tiny(name, dtype="bfloat16"), seed=0, observer=Recorder(), schedule=QUIET, parallel="none"
    )
    assert all(np.isfinite(value) for value in result.metrics.values())
