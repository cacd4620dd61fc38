"""A run's folder: whose run it is, and what it was trained with."""

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from ganjax import config as settings
from ganjax import data, members, transfer
from ganjax.checkpoint import Best, Checkpoints
from ganjax.cli.command import Command, resolve
from ganjax.cli.compilation_cache import num_cores
from ganjax.cli.lock import NAME as LOCK_NAME
from ganjax.cli.lock import locked
from ganjax.errors import RunError, UsageError, shortened
from ganjax.gan import Experiment, GanState
from ganjax.loop import abstract_state, metric_names, saved_state
from ganjax.parallel import arrangement
from ganjax.report import images as pictures
from ganjax.report.files import write_atomically

IDENTITY = ("experiment", "config", "seed", "data", "init_from")  # what makes a run the same run
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
            or type(record["seed"]) is not int
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

    Settings come from its config.json; those on the command line must agree. Needs no data, which are looked
    for when they are first read.

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
    lines = _differences({key: record[key] for key in wanted}, wanted, command.module.Config)
    if lines:
        raise UsageError(
            f"{folder} holds another run: {'; '.join(lines)}. Leave that out, or name another --workdir."
        )
    specs = record.get("data", {})

    def load(name: str, *, split: str = "train", **options: Any) -> data.Dataset:
        options.setdefault("skip_corrupt", command.flags.skip_corrupt)

        def find() -> data.Dataset:
            return data.load(name, split=split, data_dir=command.flags.data_dir, **options)

        spec = specs.get(place(name, split))
        kept = {name: options[name] for name in data.OPTIONS if name in options}
        return find() if spec is None else data.from_spec(spec, find, **kept)

    config = resolve(command, record["config"])
    return Run(folder, config, _build(command, config, load), record)


@contextlib.contextmanager
def lock_of(command: Command) -> Iterator[bool]:
    """Keeps other processes out of the folder (`ganjax.cli.lock`) if it holds a run: true.

    Before anything else, so that nobody waits for a run to be built that is refused.

    Raises:
      RunError: another process trains there.
    """
    folder = folder_of(command)
    known = (folder / "config.json").exists()
    with locked(folder) if known else contextlib.nullcontext():
        yield known


def plan(command: Command) -> Run:
    """The command's run, built; its folder is not touched.

    Raises:
      UsageError: a setting does not fit, or the run has no metric as `--keep_best` names it.
    """
    config = resolve(command)
    inherits = command.flags.init_from is not None
    if inherits and hasattr(config, "with_weights"):  # what is none by default may depend on it
        config = config.with_weights()
    specs: dict[str, dict[str, Any]] = {}

    def load(name: str, *, split: str = "train", **options: Any) -> data.Dataset:
        options.setdefault("skip_corrupt", command.flags.skip_corrupt)
        dataset = data.load(name, split=split, data_dir=command.flags.data_dir, **options)
        specs[place(name, split)] = dataset.spec()
        return dataset

    experiment = _build(command, config, load)
    if experiment.frozen and not inherits:
        raise UsageError(
            f"{', '.join(experiment.frozen)}: layers that do not move would keep random weights; give those "
            "of another run, with --init_from=FOLDER, or --config.freeze_d=0"
        )
    for stage in experiment.stages:
        of_largest = stage.batch_size == getattr(config, "batch_size", stage.batch_size)
        size = "batch_size" if of_largest else "batch_sizes"
        placed = arrangement(
            command.flags.parallel,
            stage.batch_size,
            command.flags.model_parallel,
            command.flags.deterministic,
            setting=size,
        )
        micro_batches = max(phase.accumulate for phase in stage.gan.phases)
        if stage.batch_size // placed.parts % micro_batches:
            raise UsageError(
                f"--config.{size}={stage.batch_size}: it does not split evenly over {placed.parts} "
                f"devices times {micro_batches} micro-batches (accumulate)"
            )
        check = getattr(stage.data, "check", lambda seed: None)
        for member in range(experiment.seeds):
            check(command.flags.seed + member)
    if inherits and not (folder_of(command) / "config.json").exists():  # what does not fit, before it is made
        fits = transfer.initial(command.flags.init_from, lambda text: None, experiment.frozen)
        fits(abstract_state(experiment._replace(seeds=1), 0))
    if not experiment.evaluate_every:  # or `ganjax.cli.train` does, which knows what is measured
        check_metric(command, experiment)
    members.check(command.flags.seed, experiment.seeds)
    identity = {
        "experiment": command.name,
        "config": settings.to_json(config),
        "seed": command.flags.seed,
        "data": specs,
        "init_from": command.flags.init_from,
    }
    return Run(folder_of(command), config, experiment, identity | surroundings())


@contextlib.contextmanager
def claimed(run: Run, locked_already: bool) -> Iterator[Run]:
    """A planned run, with its folder made and its config.json written, or recognised.

    While it lasts, no other process trains there.

    Args:
      run: from `plan`.
      locked_already: what `lock_of` gave.
    Raises:
      UsageError: the folder holds another run.
      RunError: another process trains there; the folder is a file, or can't be written.
    """
    folder = run.folder
    with contextlib.ExitStack() as stack:
        if not locked_already:
            _make(folder)
            stack.enter_context(locked(folder))
        if (folder / "config.json").exists():  # also where another process has been quicker
            there = read_config(folder)
            identity = {key: run.record[key] for key in IDENTITY}
            lines = _differences({key: there.get(key) for key in identity}, identity, type(run.config))
            if lines:
                raise UsageError(
                    f"{folder} holds another run: {'; '.join(lines)}. Give this one a --workdir of its own."
                )
            yield run._replace(record=there)
            return
        write_atomically(folder / "config.json", json.dumps(run.record, indent=2).encode() + b"\n")
        yield run


def _differences(there: dict[str, Any], here: dict[str, Any], config_class: type) -> list[str]:
    """In words, what two runs differ in; of another experiment, that alone, for the rest follows from it.

    A setting that came after the run there is no difference while it has its default, for defaults of new
    settings leave old runs as they were.
    """
    if there["experiment"] != here["experiment"]:
        return settings.differences({"experiment": there["experiment"]}, {"experiment": here["experiment"]})
    came_later = {
        name: value
        for name, value in settings.to_json(config_class()).items()
        if name not in there["config"] and here["config"].get(name) == value
    }
    config = {name: value for name, value in here["config"].items() if name not in came_later}
    return settings.differences(there, here | {"config": config})


def _make(folder: epath.Path) -> None:
    """Makes the folder of a new run, which may be there and empty."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--workdir={folder} is a file; name a folder, or one that does not exist yet")
    try:
        # A process that was killed while it wrote config.json leaves half of it under another name.
        if folder.exists() and any(
            path.suffix != ".part" and path.name != LOCK_NAME for path in folder.iterdir()
        ):
            raise UsageError(
                f"--workdir={folder} holds other files and no run; name an empty folder, or a new one"
            )
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--workdir={folder} can't be written: {error.strerror or error}") from error


def best_of(command: Command) -> Best | None:
    """What `--keep_best` asks for.

    Raises:
      UsageError: it is not of that form.
    """
    text = command.flags.keep_best
    if text is None:
        return None
    try:
        return Best.parse(text)
    except ValueError:
        raise UsageError(f"--keep_best={text}: expected METRIC, METRIC:min or METRIC:max") from None


def check_metric(command: Command, experiment: Experiment, measured: Sequence[str] = ()) -> None:
    """Raises UsageError unless the run's steps report the metric that `--keep_best` names.

    Args:
      command: has the flag.
      experiment: whose steps.
      measured: names of what is measured besides, while it trains.
    """
    best = best_of(command)
    if best is not None and best.metric not in (names := [*metric_names(experiment), *measured]):
        raise UsageError(
            f"--keep_best={command.flags.keep_best}: the run has no metric {best.metric}; "
            f"choose from: {', '.join(names)}"
        )


def last_state(
    run: Run, warn: Callable[[str], None], checkpoint: str = "last", member: int | None = 0
) -> tuple[GanState, dict[str, Any]]:
    """The state and the meta of one of the run's checkpoints; changes nothing in the folder.

    Args:
      run: as it was opened.
      warn: is told of checkpoints that are damaged.
      checkpoint: "last", the latest that is whole; "best", as the run's `--keep_best` has it; or a step.
      member: of a run of several seeds, whose state: 0 is the first seed's; None: the state of all, as
        `ganjax.members` has it.
    Raises:
      RunError: there is none, or the one that was asked for is damaged.
      UsageError: `checkpoint` is none of these, there is none of that step, or no such member.
    """
    if member is None:
        return _whole_state(run, warn, checkpoint)
    seed, seeds = run.record["seed"], run.experiment.seeds
    members.check_member(member, seed, seeds)
    state, meta = _whole_state(run, warn, checkpoint)
    return members.of(state, member, seeds), meta


def chosen_state(command: Command, run: Run) -> tuple[GanState, dict[str, Any]]:
    """`last_state` of the checkpoint and the member that the flags name; what it tells goes to stderr."""
    flags = command.flags
    return last_state(run, lambda text: print(text, file=sys.stderr), flags.checkpoint, flags.member)


def _whole_state(run: Run, warn: Callable[[str], None], checkpoint: str) -> tuple[GanState, dict[str, Any]]:
    """`last_state` of all members."""
    if checkpoint not in ("last", "best") and not re.fullmatch("[0-9]{1,18}", checkpoint):
        raise UsageError(f"--checkpoint={shortened(checkpoint)}: expected last, best or a step")
    if not (run.folder / "checkpoints").exists():
        raise RunError(f"{run.folder} holds no checkpoint yet; train first")

    def target(meta: dict[str, Any]) -> GanState:
        return saved_state(run.experiment, meta)

    with Checkpoints(run.folder / "checkpoints", read_only=True) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise RunError(f"{run.folder} holds no checkpoint yet; train first")
        if checkpoint == "last":
            found = checkpoints.restore(target, warn)
            assert found is not None
            return found
        listed = f"choose last or a step, of {', '.join(map(str, steps))}"
        step = checkpoints.best_step() if checkpoint == "best" else int(checkpoint)
        if step is None:
            raise UsageError(f"--checkpoint=best: {run.folder} was not trained with --keep_best; {listed}")
        if step not in steps:
            raise UsageError(
                f"--checkpoint={checkpoint}: {run.folder} has no checkpoint of that step; {listed}"
            )
        return checkpoints.restore_step(target, step)


def checkpoints_of(run: Run) -> list[str]:
    """The steps of the run's checkpoints, as `last_state` takes them.

    Raises:
      RunError: there is none.
    """
    if not (run.folder / "checkpoints").exists():
        raise RunError(f"{run.folder} holds no checkpoint yet; train first")
    with Checkpoints(run.folder / "checkpoints", read_only=True) as checkpoints:
        steps = checkpoints.steps()
    if not steps:
        raise RunError(f"{run.folder} holds no checkpoint yet; train first")
    return [str(step) for step in steps]


def check_drawn_from_seeds(run: Run, mode: str) -> None:
    """Raises UsageError where a mode draws by seed and the model draws from something that is given."""
    show = run.experiment.show
    if show is not None and show.conditions is not None:
        instead = ", ".join(f"--mode={own}" for own in run.experiment.modes) or "its own modes"
        raise UsageError(
            f"--mode={mode}: this model draws from what it is given, and not from seeds; use {instead}"
        )


def picture_of(experiment: Experiment) -> Callable[[Any, int], np.ndarray]:
    """(samples as networks give them, columns) -> uint8 [H, W, C]: a grid, unless the experiment differs.

    Images that are smaller than those of the last stage are enlarged to these, pixel by pixel, so that the
    grids of a run that grows have one size, and make a film.
    """
    if experiment.show is not None:
        return experiment.show.picture
    last = experiment.stages[-1].data

    def sheet(images: np.ndarray, columns: int) -> np.ndarray:
        if len(experiment.stages) > 1 and isinstance(last, data.Dataset):
            scale = max(last.image_shape[0] // images.shape[1], 1)
            images = np.asarray(images).repeat(scale, axis=1).repeat(scale, axis=2)
        return pictures.sheet(images, columns)

    return sheet


def check_labels(labels: tuple[int, ...], num_classes: int, flag: str = "--labels") -> None:
    """Raises UsageError unless every label is a class of the model."""
    if labels and not num_classes:
        raise UsageError(f"{flag}: this model takes no labels")
    for label in labels:
        if not 0 <= label < num_classes:
            raise UsageError(f"{flag}={label}: this model's classes are 0-{num_classes - 1}")


def place(name: str, split: str) -> str:
    """Where config.json has a data set's metadata."""
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


def surroundings() -> dict[str, Any]:
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
        "processor": processor(),
        "cores": num_cores(),
        "git_revision": _git_revision(),
    }


def processor() -> str:
    """The name of this machine's processor."""
    try:
        with open("/proc/cpuinfo") as file:
            models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        models = []
    return models[0] if models else platform.processor() or platform.machine()


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
