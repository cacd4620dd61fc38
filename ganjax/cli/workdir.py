"""A run's folder: whose run it is, and what it was trained with."""

import json
import os
import platform
import subprocess
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import jax
from etils import epath

from ganjax import config as settings
from ganjax import data
from ganjax.checkpoint import Checkpoints
from ganjax.cli.command import Command, resolve
from ganjax.cli.compilation_cache import num_cores
from ganjax.errors import RunError, UsageError
from ganjax.gan import Experiment, GanState
from ganjax.loop import abstract_state, saved_state
from ganjax.parallel import arrangement
from ganjax.report.files import write_atomically

PACKAGES = ("ganjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Run(NamedTuple):
    """An experiment with its settings, built, and the folder it is kept in.

    Attributes:
      folder: may not exist yet.
      config: the experiment's dataclass.
      experiment: built.
      record: what config.json holds, or will hold.
    """

    folder: epath.Path
    config: Any
    experiment: Experiment
    record: dict[str, Any]


def folder_of(command: Command) -> epath.Path:
    """The run's folder: `--workdir`, or one named for experiment and seed."""
    if command.flags.workdir:
        return epath.Path(command.flags.workdir).expanduser()
    name = epath.Path(command.name).stem if command.name.endswith(".py") else command.name
    return epath.Path("runs") / f"{name}-seed{command.flags.seed}"


def read_config(folder: epath.PathLike) -> dict[str, Any]:
    """What config.json of a run's folder holds.

    Raises:
      RunError: there is none, or it is damaged.
    """
    path = epath.Path(folder).expanduser() / "config.json"
    try:
        record = json.loads(path.read_text())
        if (
            not isinstance(record, dict)
            or not {"experiment", "config", "seed"} <= set(record)
            or not isinstance(record["experiment"], str)
            or not isinstance(record["config"], dict)
            or not isinstance(record.get("data", {}), dict)
            or not all(isinstance(spec, dict) for spec in record.get("data", {}).values())
        ):
            raise ValueError("it is not a run's description")
        return record
    except OSError as error:
        raise RunError(f"{path.parent} holds no run ({path.name} can't be read); train one first") from error
    except (ValueError, RecursionError) as error:  # RecursionError: brackets in brackets
        raise RunError(f"{path} is damaged: {error}") from error


def open_run(command: Command) -> Run:
    """The run that was trained in the command's folder, for the modes that use one.

    Settings come from its config.json; those on the command line must agree. Needs no data.

    Raises:
      RunError: nothing was trained there.
      UsageError: the folder holds another run, or a setting differs.
    """
    folder = folder_of(command)
    if not (folder / "config.json").exists():
        raise RunError(
            f"{folder}: nothing was trained there; train first, with "
            f"--experiment={command.name}{_workdir_flag(command)}"
        )
    record = read_config(folder)
    wanted = {"experiment": command.name, "config": settings.to_json(resolve(command, record["config"]))}
    if command.flags["seed"].present:
        wanted["seed"] = command.flags.seed
    lines = settings.differences({key: record[key] for key in wanted}, wanted)
    if lines:
        raise UsageError(
            f"{folder} holds another run: {'; '.join(lines)}. Leave that out, or name another --workdir."
        )
    specs = record.get("data", {})

    def load(name: str, *, split: str = "train", **options: Any) -> data.Dataset:
        if _place(name, split) in specs:
            return data.from_spec(specs[_place(name, split)])
        return data.load(name, split=split, data_dir=command.flags.data_dir, **options)

    config = resolve(command, record["config"])
    return Run(folder, config, _build(command, config, load), record)


def claim(command: Command) -> Run:
    """The command's run, with its folder made and its config.json written, or recognised.

    Raises:
      UsageError: the folder holds another run.
      RunError: the folder is a file, or can't be written.
    """
    folder = folder_of(command)
    config = resolve(command)
    specs: dict[str, dict[str, Any]] = {}

    def load(name: str, *, split: str = "train", **options: Any) -> data.Dataset:
        dataset = data.load(name, split=split, data_dir=command.flags.data_dir, **options)
        specs[_place(name, split)] = dataset.spec()
        return dataset

    experiment = _build(command, config, load)
    for stage in experiment.stages:  # before anything is written
        arrangement(command.flags.parallel, stage.batch_size)
    identity = {
        "experiment": command.name,
        "config": settings.to_json(config),
        "seed": command.flags.seed,
        "data": specs,
    }
    record = identity | _surroundings()
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--workdir={folder} is a file; name a folder, or one that does not exist yet")
    if (folder / "config.json").exists():
        there = read_config(folder)
        lines = settings.differences({key: there.get(key) for key in identity}, identity)
        if lines:
            raise UsageError(
                f"{folder} holds another run: {'; '.join(lines)}. Give this one a --workdir of its own."
            )
        return Run(folder, config, experiment, there)
    try:
        # A process that was killed while it wrote config.json leaves half of it under another name.
        if folder.exists() and any(path.suffix != ".part" for path in folder.iterdir()):
            raise UsageError(
                f"--workdir={folder} holds other files and no run; name an empty folder, or a new one"
            )
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--workdir={folder} can't be written: {error.strerror or error}") from error
    write_atomically(folder / "config.json", json.dumps(record, indent=2).encode() + b"\n")
    return Run(folder, config, experiment, record)


def last_state(run: Run, warn: Callable[[str], None]) -> tuple[GanState, dict[str, Any]]:
    """The state and the meta of the run's last whole checkpoint; changes nothing in the folder.

    Raises:
      RunError: there is none.
    """
    found = None
    if (run.folder / "checkpoints").exists():
        checkpoints = Checkpoints(run.folder / "checkpoints", read_only=True)
        found = checkpoints.restore(lambda meta: saved_state(run.experiment, meta), warn)
    if found is None:
        raise RunError(f"{run.folder} holds no checkpoint yet; train first")
    return found


def check_labels(labels: tuple[int, ...], num_classes: int, flag: str = "--labels") -> None:
    """Raises UsageError unless every label is a class of the model."""
    if labels and not num_classes:
        raise UsageError(f"{flag}: this model takes no labels")
    for label in labels:
        if not 0 <= label < num_classes:
            raise UsageError(f"{flag}={label}: this model's classes are 0-{num_classes - 1}")


def _place(name: str, split: str) -> str:
    return f"{name}:{split}"


def _build(command: Command, config: Any, load: Callable[..., data.Dataset]) -> Experiment:
    try:
        experiment = command.module.build(config, load)
        for stage in range(len(experiment.stages)):  # what does not fit shows before anything is compiled
            abstract_state(experiment, stage)
        return experiment
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{command.name}: {' '.join(str(error).split())}") from error


def _surroundings() -> dict[str, Any]:
    """What is recorded of where a run ran, and never compared."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return {
        "versions": versions,
        "devices": [device.device_kind for device in jax.devices()],
        "platform": jax.default_backend(),
        "cores": num_cores(),
        "git_revision": _git_revision(),
    }


def _git_revision() -> str | None:
    where = os.path.dirname(os.path.abspath(__file__))
    try:
        answer = subprocess.run(
            ["git", "-C", where, "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def _workdir_flag(command: Command) -> str:
    return f" --workdir={command.flags.workdir}" if command.flags.workdir else ""
