"""--mode=import: a run's folder from networks that were trained elsewhere: NVIDIA's StyleGAN2-ADA pickles
(`ganjax.official`), and safetensors that --mode=export wrote."""

import dataclasses
import functools
import gc
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import flags
from etils import epath

from ganjax import config as settings
from ganjax import data, official, transfer
from ganjax.checkpoint import Checkpoints, unflatten
from ganjax.cli import experiments, workdir
from ganjax.errors import RunError, UsageError, nearest, one_line
from ganjax.export import WEIGHTS
from ganjax.families.adversarial import DISCRIMINATOR, GENERATOR
from ganjax.gan import Experiment, GanState
from ganjax.generator import read_exported
from ganjax.loop import abstract_state
from ganjax.parallel import state_at_first
from ganjax.report.files import writing
from ganjax.weights import is_safetensors

EXPERIMENT = "stylegan2_folder"  # what official networks become
UNKNOWN = "imported"  # the name of data that nobody has named
# Settings that a network leaves open, and on which the state of a new run does not hang.
_FREE = ("dataset", "resize", "mirror", "batch_size", "steps", "dtype", "r1")
_PART = ".part"


def run(overrides: Mapping[str, str], values: flags.FlagValues, package: str) -> int:
    """Imports; returns the exit code."""
    if values.source is None:
        raise UsageError("--source=FILE is missing: the networks to import")
    if values.out is None:
        raise UsageError("--out=FOLDER is missing: the run's folder, which is made")
    source, folder = epath.Path(values.source).expanduser(), epath.Path(values.out).expanduser()
    if source.is_dir() and (source / WEIGHTS).exists():
        source = source / WEIGHTS
    if not source.exists() or source.is_dir():
        raise UsageError(f"--source={values.source}: expected a file: NVIDIA's .pkl, or our .safetensors")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--out={folder} is there and not empty; name a new folder")
    load = functools.partial(data.load, data_dir=values.data_dir)
    with open(source, "rb") as file:
        ours = is_safetensors(file.read(9), source.stat().length)
    make = _of_ours if ours else _of_official
    record, state, told = make(source, dict(overrides), package, load)
    jax.clear_caches()  # of what was traced to know the state's form: writing takes memory too
    gc.collect()
    record["imported"] = {"source": source.name, "bytes": source.stat().length, "sha256": _sha256(source)}
    _write(folder, record, state)
    print(f"{folder}: {told}, step {int(state.step)}, from {source.name}")
    return 0


Made = tuple[dict[str, Any], GanState, str]


def _of_official(source: epath.Path, overrides: dict[str, str], package: str, load: Callable) -> Made:
    found = official.read_official(source)
    module = experiments.find(EXPERIMENT, package)
    height, width, channels = found.image_shape
    decided = {
        **found.settings,
        "image_size": height if height == width else (height, width),
        "channels": channels,
        "conditional": bool(found.num_classes),
        "constant_noise": True,
    }
    for name in sorted(set(overrides) & set(decided)):
        raise UsageError(f"--config.{name}: the networks in the file decide that, it is {decided[name]}")
    for name in sorted(set(overrides) - set(_FREE)):
        raise UsageError(
            f"--config.{name} does nothing in --mode=import, which takes {', '.join(_FREE)}; "
            "give it to a new run with --init_from"
        )
    try:
        config = dataclasses.replace(module.Config(), dataset=found.dataset or UNKNOWN, **decided)
    except ValueError as error:
        raise RunError(f"{source}: its networks are not ours ({one_line(error)})") from error
    config = settings.override(config, overrides, experiment=EXPERIMENT)
    spec = {
        "image_shape": list(found.image_shape),
        "num_classes": found.num_classes,
        "class_names": [str(i) for i in range(found.num_classes)],
        "num_examples": 1,
    }
    named = "dataset" in overrides
    experiment, specs = _built(module, config, load if named else None, spec)
    if named and (classes := experiment.num_classes) != found.num_classes:
        raise UsageError(f"--config.dataset has {classes} classes, and the networks {found.num_classes}")
    step = (found.images or 0) // config.batch_size
    record = _record(EXPERIMENT, config, 0, specs)
    generator = found.average if found.generator is None else found.generator
    known = {
        "params": {GENERATOR: generator},
        "ema": {GENERATOR: found.average},
        "stats": {GENERATOR: found.generator_stats},
    }
    if found.discriminator is not None:
        known["params"][DISCRIMINATOR] = found.discriminator
    try:
        state = _state(experiment, known, step)
    except ValueError as error:
        raise RunError(f"{source}: its networks are not ours ({one_line(error)})") from error
    parts = {"generator": found.generator, "average": found.average, "discriminator": found.discriminator}
    told = ", ".join(name for name, tree in parts.items() if tree is not None)
    classes = f", {found.num_classes} classes" if found.num_classes else ""
    return record, state, f"{told} of {height}x{width}x{channels}{classes}"


def _state(experiment: Experiment, known: dict[str, Any], step: int) -> GanState:
    """The state with these parts; optimizers and what is remembered besides are as at first, which is zero.

    A discriminator that is not known is new. Raises ValueError where they do not fit.
    """
    if DISCRIMINATOR not in known["params"]:
        known["params"][DISCRIMINATOR] = _new(experiment).params[DISCRIMINATOR]
    form = abstract_state(experiment, 0)
    # Optimizers begin with zeros, and so does what is remembered. These take no memory.
    zeros = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), form)
    state = zeros.replace(
        step=np.asarray(step, np.int32), **{name: known[name] for name in ("params", "ema")}
    )
    stats = {player: known["stats"].get(player, tree) for player, tree in zeros.stats.items()}
    state = state.replace(stats=stats)
    names = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in _leaves(state)}
    return unflatten(form, names)


def _leaves(state: GanState) -> Any:
    return jax.tree_util.tree_flatten_with_path(state)[0]


def _new(experiment: Experiment) -> GanState:
    """The state that the experiment begins with, on the host."""
    stage = experiment.stages[0]
    first = functools.partial(state_at_first, stage.gan, stage.data.transform)
    return jax.device_get(jax.jit(first)(jax.random.key(0), stage.data.example(stage.batch_size)))


def _of_ours(source: epath.Path, overrides: dict[str, str], package: str, load: Callable) -> Made:
    leaves, header = read_exported(source)
    name = header["experiment"]
    if name not in (known := experiments.names(package)):
        raise UsageError(
            f"{source} is of the experiment {name}, which is not here; {nearest(str(name), known)}"
        )
    for key in overrides:
        raise UsageError(f"--config.{key}: the file has its settings; change them in a run with --init_from")
    module = experiments.find(name, package)
    try:
        recorded = header["config"] | ({"seeds": 1} if "seeds" in header["config"] else {})
        config = settings.from_json(module.Config, recorded)
        experiment, specs = _built(module, config, None, {}, header["data"])
        if not 0 <= header["stage"] < len(experiment.stages):
            raise ValueError(f"it has no stage {header['stage']}")
    except ValueError as error:
        raise RunError(
            f"{source} does not fit {name} ({one_line(error)}): the code has changed since"
        ) from error
    if len(experiment.stages) > 1:
        raise RunError(f"{source}: {name} trains in several stages, and such runs are not imported")
    state = transfer.with_weights(_new(experiment), leaves, str(source)).state
    state = state.replace(step=np.asarray(header["step"], np.int32))
    return _record(name, config, header["seed"] or 0, specs), state, f"{name}, {len(leaves)} arrays"


def _built(
    module: Any,
    config: Any,
    load: Callable | None,
    spec: Mapping[str, Any],
    known: Mapping[str, Any] | None = None,
) -> tuple[Experiment, dict[str, Any]]:
    """The experiment, and the metadata of what it loads, by its name: those that are `known`, or the set that
    `load` finds, or `spec`."""
    specs: dict[str, dict[str, Any]] = {}

    def find(name: str, *, split: str = "train", **options: Any) -> data.Dataset:
        place = workdir.place(name, split)
        if known is not None and place not in known:
            raise ValueError(f"the data {place} are not described there")
        if load is not None:
            dataset = load(name, split=split, **options)
        else:
            described = known[place] if known is not None else {"name": name, "split": split, **spec}
            dataset = data.from_spec(described)
        specs[place] = dataset.spec()
        return dataset

    settings.validate(config)
    try:
        return module.build(config, find), specs
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(one_line(error)) from error


def _record(name: str, config: Any, seed: int, specs: dict[str, Any]) -> dict[str, Any]:
    identity = {
        "experiment": name,
        "config": settings.to_json(config),
        "seed": seed,
        "data": specs,
        "init_from": None,
    }
    return identity | workdir.surroundings()


def _write(folder: epath.Path, record: Mapping[str, Any], state: GanState) -> None:
    """The run's folder, whole or not at all."""
    part = folder.parent / f".{folder.name}{_PART}"
    step = int(state.step)
    meta = {
        "step": step,
        "stage": 0,
        "images_seen": step * record["config"]["batch_size"],
        "wall_seconds": 0.0,
        "resumed_from": [],
        "metrics": {},
    }
    with writing(folder):
        try:
            part.rmtree(missing_ok=True)
            with Checkpoints(part / "checkpoints", lean=True) as checkpoints:
                checkpoints.save(step, state, meta)
            (part / "config.json").write_text(json.dumps(record, indent=2) + "\n")
            if folder.exists():  # and empty
                folder.rmdir()
            part.rename(folder)
        except BaseException:
            shutil.rmtree(os.fspath(part), ignore_errors=True)
            raise


def _sha256(path: epath.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
