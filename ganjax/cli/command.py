"""From words to a mode: flags, the experiment, its settings."""

import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from absl import flags

from ganjax import config as settings
from ganjax.cli import Signals, experiments
from ganjax.errors import RunError, UsageError, nearest, shortened

USAGE = """\
python run.py --experiment=NAME [--mode=train] [--config.KEY=VALUE ...] [flags]
python run.py --mode=evaluate --real=PATH --fake=PATH [--inception=FILE] [flags]
python run.py --mode=import --source=FILE --out=FOLDER
python run.py --mode=list
"""


class Command(NamedTuple):
    """A command line, read.

    Attributes:
      name: of the experiment, as it was given.
      module: of the experiment.
      overrides: key -> text of the `--config.` settings.
      flags: values by name.
      package: where experiments are looked for by name.
      signals: for the mode that wants to end in its own way.
      started: `time.monotonic()` at the start of the process.
    """

    name: str
    module: ModuleType
    overrides: dict[str, str]
    flags: flags.FlagValues
    package: str
    signals: Signals
    started: float


def run(argv: Sequence[str], *, package: str, signals: Signals, started: float) -> int:
    """Runs a command line; see `ganjax.cli.main`."""
    overrides, rest = settings.split_arguments(argv)
    values = read_flags(rest)
    if values.help:
        print(_help(values, package))
        return 0
    mode = values.mode
    if mode == "list":
        _refuse_foreign_flags(values, mode)
        for key in overrides:
            raise UsageError(f"--config.{key} does nothing in --mode=list")
        return list_experiments(package)
    if mode == "import":
        return _import(overrides, values, package)
    if mode == "evaluate" and values["fake"].present:
        return _evaluate_sets(overrides, values)
    name = values.experiment or _recorded_experiment(values)
    if name.endswith(".py"):
        name = os.path.normpath(name)  # ./my_gan.py is my_gan.py: one run
    if not name:
        raise UsageError(f"--experiment=NAME is missing; {nearest('', experiments.names(package))}")
    module = experiments.find(name, package)
    command = Command(name, module, overrides, values, package, signals, started)
    if mode in MODES:
        _refuse_foreign_flags(values, mode)
    from ganjax.cli import compilation_cache  # imports jax

    with compilation_cache.enabled(values.compilation_cache):
        return _run_mode(command, mode)


def read_flags(words: Sequence[str]) -> flags.FlagValues:
    """The flags of a command line, without its settings. Raises UsageError for what is none, or its value."""
    values = _define()
    for word in words:
        if re.fullmatch(r"--?flagfile(=.*)?", word, re.DOTALL):  # absl's own; it can't hold a --config.
            raise UsageError(f"{shortened(word)}: flags are given on the command line, not in a file")
    try:
        left = values(["ganjax", *words])[1:]
    except (flags.Error, ValueError) as error:  # ValueError: absl's for --nohelp=1
        raise UsageError(" ".join(str(error).split())) from error
    if left:
        raise UsageError(f"{shortened(left[0])}: not a flag; flags are given as --NAME=VALUE")
    _check(values)
    return values


def _evaluate_sets(overrides: dict[str, str], values: flags.FlagValues) -> int:
    """--mode=evaluate of two sets of images: there is no run, so what belongs to one is refused."""
    for key in overrides:
        raise UsageError(f"--config.{key} does nothing with --fake, which is judged without an experiment")
    for name in ("experiment", "workdir", "seed", "checkpoint", "num_samples", *_OF_DRAWING):
        if values[name].present:
            raise UsageError(f"--{name} does nothing with --fake, which is judged without a run")
    _refuse_foreign_flags(values, "evaluate")
    from ganjax.cli import compilation_cache, evaluate

    with compilation_cache.enabled(values.compilation_cache):
        return evaluate.run_sets(values)


def _import(overrides: dict[str, str], values: flags.FlagValues, package: str) -> int:
    """--mode=import: what it makes says which experiment it is."""
    if values["experiment"].present:
        raise UsageError("--experiment does nothing in --mode=import, where the file says what it is")
    _refuse_foreign_flags(values, "import")
    from ganjax.cli import compilation_cache, importing

    with compilation_cache.enabled(values.compilation_cache):
        return importing.run(overrides, values, package)


def _run_mode(command: Command, mode: str) -> int:
    if mode in MODES:
        return MODES[mode]()(command)
    own = _own_modes(command)
    if mode in own:
        if mode in OF_FAMILIES:
            _refuse_foreign_flags(command.flags, mode)
        return own[mode](command)
    raise UsageError(
        f"--mode={mode}: there is no such mode; {nearest(mode, [*MODES, 'import', 'list', *own])}"
    )


def _own_modes(command: Command) -> Mapping[str, Callable]:
    """What the experiment adds to the modes; nothing where it has not been trained, for it is not built."""
    from ganjax.cli import workdir

    try:
        return workdir.open_run(command).experiment.modes
    except RunError:
        return {}


def list_experiments(package: str) -> int:
    """Prints every experiment with its summary."""
    known = experiments.names(package)
    width = max(map(len, known), default=0)
    for name in known:
        print(f"{name:{width}}  {experiments.summary(experiments.find(name, package))}")
    return 0


def _mode(name: str) -> Callable[[Command], int]:
    import importlib

    return importlib.import_module(f"ganjax.cli.{name}").run


# A mode's module is imported when it is asked for: it imports jax.
MODES = {
    name: functools.partial(_mode, name)
    for name in (
        "train",
        "sample",
        "interpolate",
        "style_mix",
        "project",
        "pca",
        "attention",
        "evaluate",
        "plot",
        "export",
        "explore",
    )
}

# Of these modes, which a family adds (`Experiment.modes`), the flags are known here.
OF_FAMILIES = ("translate", "classify", "anomaly")

_ANY = (*MODES, *OF_FAMILIES)
_DRAWN = ("sample", "interpolate", "style_mix", "project", "pca")
_OF_DRAWING = ("truncation", "truncation_mode", "standing_statistics")
_BELONGS_TO = {
    "workdir": _ANY,
    "seed": _ANY,
    "data_dir": (*_ANY, "import"),
    "compilation_cache": (*_ANY, "import"),
    "source": ("import",),
    "steps": ("train", "project"),
    "parallel": ("train",),
    "model_parallel": ("train",),
    "deterministic": ("train",),
    "coordinator_address": ("train",),
    "num_processes": ("train",),
    "process_id": ("train",),
    "data_workers": ("train",),
    "skip_corrupt": ("train", "evaluate", "anomaly"),
    "input": OF_FAMILIES,
    "direction": ("translate",),
    "target": ("translate", "project"),
    "false_alarm_rate": ("anomaly",),
    "save_steps": ("train",),
    "save_minutes": ("train",),
    "keep": ("train",),
    "keep_best": ("train",),
    "init_from": ("train",),
    "log_steps": ("train",),
    "preview_steps": ("train",),
    "checkpoint": (*_DRAWN, "attention", "evaluate", "export", "explore", *OF_FAMILIES),
    "member": (*_DRAWN, "attention", "export", "explore", "classify", "anomaly"),
    "seeds": ("sample", "interpolate", "pca", "attention"),
    "labels": (*_DRAWN, "attention"),
    "out": (*_DRAWN, "attention", "evaluate", "plot", "export", "import", *OF_FAMILIES),
    "truncation": ("sample", "interpolate", "style_mix", "pca", "attention", "evaluate"),
    "truncation_cutoff": ("sample", "interpolate", "style_mix", "pca"),
    "truncation_mode": ("sample", "interpolate", "attention", "evaluate"),
    "standing_statistics": ("sample", "interpolate", "project", "attention", "evaluate", "explore"),
    "noise": ("sample", "interpolate", "style_mix", "pca"),
    "mix": ("sample",),
    "directions": ("sample", "interpolate", "style_mix", "explore"),
    "move": ("sample", "interpolate", "style_mix"),
    "latent": ("sample",),
    "rows": ("style_mix",),
    "columns": ("style_mix",),
    "layers": ("style_mix", "pca"),
    "components": ("pca",),
    "amount": ("pca",),
    "space": ("interpolate", "project"),
    "draws": ("project",),
    "between": ("interpolate",),
    "paths": ("interpolate",),
    "loop": ("interpolate",),
    "queries": ("attention",),
    "frames": ("interpolate",),
    "fps": ("interpolate", "project"),
    "metrics": ("train", "evaluate", "plot"),
    "num_samples": ("train", "evaluate", "pca"),
    "real": ("evaluate",),
    "fake": ("evaluate",),
    "real_split": ("train", "evaluate"),
    "inception": ("train", "evaluate"),
    "resize": ("train", "evaluate"),
    "lpips": ("train", "evaluate", "project"),
    "host": ("explore",),
    "port": ("explore",),
}


def _define() -> flags.FlagValues:
    values = flags.FlagValues()

    def text(name: str, default: str | None, help: str) -> None:
        flags.DEFINE_string(name, default, help, flag_values=values)

    def integer(name: str, default: int | None, help: str, minimum: int, maximum: int | None = None) -> None:
        flags.DEFINE_integer(
            name, default, help, lower_bound=minimum, upper_bound=maximum, flag_values=values
        )

    text("experiment", None, "A name that --mode=list shows, a dotted module, or a path to a .py file.")
    text(
        "mode",
        "train",
        "What to do: train, sample, interpolate, style_mix, project, pca, attention, evaluate, plot, export, "
        "explore, import, list, or what the family adds.",
    )
    text("workdir", None, "The run's folder. Default: runs/EXPERIMENT-seedSEED.")
    integer("seed", 0, "Of everything random in training.", 0, 2**32 - 1)
    text(
        "data_dir", None, "Where prepared TFDS datasets are. Default: $TFDS_DATA_DIR, ~/tensorflow_datasets."
    )
    text(
        "compilation_cache",
        None,
        "Where compiled programs are kept for the next start: a folder, or off. "
        "Default: $GANJAX_COMPILATION_CACHE, jax's own setting, xla in $GANJAX_CACHE or ~/.cache/ganjax.",
    )
    integer(
        "steps",
        None,
        "train: stop after this many steps of the run. Default: its end. project: how many. Default: 500.",
        1,
        10_000_000,
    )
    flags.DEFINE_enum(
        "parallel",
        "auto",
        ["auto", "none", "pmap", "sharded"],
        "train: one device (none), one program a device (pmap), or one program over all (sharded); "
        "auto: pmap on several devices, none on one.",
        flag_values=values,
    )
    integer(
        "model_parallel",
        1,
        "train: with --parallel=sharded, over how many devices each copy of the model is spread.",
        1,
    )
    flags.DEFINE_bool(
        "deterministic",
        False,
        "train: the same bits however devices are laid out over processes, and on a GPU every time; slower.",
        flag_values=values,
    )
    text(
        "coordinator_address",
        None,
        "train: HOST:PORT of process 0, where several processes train together; on TPU pods and under Slurm "
        "they find each other.",
    )
    integer("num_processes", None, "train: how many processes train together.", 1)
    integer("process_id", None, "train: which of them this one is, from 0.", 0)
    integer(
        "data_workers",
        None,
        "train: threads that read data larger than memory ahead of the steps; 0: none, a batch is read when "
        "it is needed. Default: one a core, at most 16. Changes no batch.",
        0,
        1024,
    )
    flags.DEFINE_bool(
        "skip_corrupt",
        False,
        "train, evaluate: where an image can't be decoded, read the next one of the set that can, and say "
        "so. Without it, that ends the run.",
        flag_values=values,
    )
    integer("save_steps", 0, "train: a checkpoint every so many steps; 0: by time only.", 0)
    flags.DEFINE_float(
        "save_minutes",
        1.0,
        "train: a checkpoint every so many minutes; 0: by steps only.",
        lower_bound=0.0,
        flag_values=values,
    )
    integer("keep", 3, "train: how many of the latest checkpoints are kept.", 1)
    text(
        "keep_best",
        None,
        "train: besides, the checkpoint with the lowest value of a metric is kept: METRIC or METRIC:min; "
        "METRIC:max keeps that with the highest.",
    )
    text(
        "init_from",
        None,
        "train: a new run begins with the weights of another: the folder of a run, of an exported generator, "
        "or a .safetensors of --mode=export. Optimizers begin afresh.",
    )
    integer("log_steps", 50, "train: a line in the logs every so many steps; 0: none.", 0)
    integer("preview_steps", 500, "train: fixed samples every so many steps; 0: only at the end.", 0)
    text(
        "checkpoint",
        "last",
        "All modes that use a trained model: which: last, best (of a run with --keep_best) or a step; "
        "evaluate: also all.",
    )
    integer(
        "member",
        0,
        "All modes that use a trained model but evaluate and translate: of a run of several seeds "
        "(--config.seeds), whose model; 0: the first.",
        0,
    )
    text("seeds", None, "sample, interpolate, pca, attention: which latents, as in 0-63 or 1,5,9-12.")
    text(
        "labels",
        None,
        "sample, interpolate, attention: which classes, as in 0-9; every seed is drawn for every label. "
        "style_mix, project: the class, one. pca: which are analysed.",
    )
    text(
        "out",
        None,
        "sample: a .png grid, an .npz or a folder. interpolate: a .png strip, a .gif, an .mp4 or a folder. "
        "style_mix, attention: a .png. evaluate: a .json. plot: a .png. export: a folder or a .safetensors. "
        "project, pca, translate, anomaly: a folder. classify: a .csv or a .json. import: the new run's "
        "folder. Default: in the workdir.",
    )
    text(
        "source",
        None,
        "import: the networks: a StyleGAN2-ADA .pkl of NVIDIA's, of which nothing is run, or a .safetensors "
        "that --mode=export wrote.",
    )
    flags.DEFINE_float(
        "truncation",
        None,
        "sample, interpolate, style_mix, pca, attention, evaluate: the bound of latents' entries or, of "
        "StyleGAN, psi, by which styles are drawn to their mean: less of it, more fidelity and less variety.",
        flag_values=values,
    )
    integer(
        "truncation_cutoff",
        None,
        "sample, interpolate, style_mix, pca: of how many of the first layers --truncation is. Default: all.",
        0,
    )
    flags.DEFINE_enum(
        "noise",
        None,
        ["random", "const", "none"],
        "sample, interpolate, style_mix, pca: the noise in the layers of StyleGAN and StyleGAN2: each seed's "
        "own (random, sample's default), the same for every picture (const, the others' default), or none.",
        flag_values=values,
    )
    text(
        "mix",
        None,
        "sample: SEED:LAYERS, as in 7:4-7: in these layers the styles are that seed's. Or several, with "
        "commas between.",
    )
    text(
        "directions",
        None,
        "sample, interpolate, style_mix: the directions.npz of --mode=pca, for --move. explore: that of its "
        "sliders. Default there: it finds some, and keeps them in the workdir.",
    )
    text(
        "move",
        None,
        "sample, interpolate, style_mix: COMPONENT:AMOUNT, as in 0:2.5, or COMPONENT:AMOUNT:LAYERS: so many "
        "standard deviations along a direction. Or several, with commas between.",
    )
    text(
        "latent",
        None,
        "sample: in the place of seeds, an .npz of --mode=project; or several, with commas between.",
    )
    text("rows", None, "style_mix: seeds, a row each. Default: 0-3.")
    text("columns", None, "style_mix: seeds, a column each. Default: 4-8.")
    text(
        "layers",
        None,
        "style_mix: in which layers the style is the column's, as in 0-3. pca: which the strips move. "
        "Default of pca: all.",
    )
    integer(
        "components", None, "pca: how many directions. Default: 10, or all where they are less.", 1, 100_000
    )
    flags.DEFINE_float(
        "amount", 3.0, "pca: how far strips go either way, in standard deviations.", flag_values=values
    )
    flags.DEFINE_enum(
        "space",
        None,
        ["z", "w", "w+"],
        "interpolate: the way is through latents (z, the default) or styles (w). project: what is looked for "
        "is a latent (z), a style for all layers (w), or one for each (w+). Default of project: w+; z of a "
        "generator without styles.",
        flag_values=values,
    )
    integer(
        "draws",
        None,
        "project: of how many seeds the nearest is the start, if it is nearer than the mean style. Default: "
        "1000, fewer of images above 64x64.",
        0,
        1_000_000,
    )
    flags.DEFINE_enum(
        "truncation_mode",
        None,
        ["resample", "clamp"],
        "sample, interpolate, attention, evaluate: entries of latents beyond --truncation are drawn again "
        "(resample, the default), or set to it (clamp).",
        flag_values=values,
    )
    integer(
        "standing_statistics",
        None,
        "sample, interpolate, attention, evaluate: the batch statistics that samples are drawn with are "
        "measured over so many batches; 0: the running ones. Default: the experiment's.",
        0,
        1_000_000,
    )
    flags.DEFINE_enum(
        "between",
        "seeds",
        ["seeds", "labels"],
        "interpolate: what is gone between: seeds, a row a label, or labels, a row a seed.",
        flag_values=values,
    )
    text(
        "queries",
        None,
        "attention: whose attention is shown: pixels, as in 14x14,7x20 (row x column). Default: five.",
    )
    integer("paths", 1, "interpolate: into how many paths, a row each, the seeds are divided.", 1, 10_000)
    flags.DEFINE_bool(
        "loop",
        None,
        "interpolate: the way goes back to the first; --noloop: it ends at the last. Default: films loop, "
        "strips don't.",
        flag_values=values,
    )
    integer("frames", 8, "interpolate: frames from one seed, or label, to the next.", 1, 10_000)
    integer("fps", 12, "interpolate, project: frames a second of the GIF or MP4.", 1, 50)
    text(
        "metrics",
        None,
        "evaluate: which metrics, comma separated; see docs/metrics.md. Default: those of the run's kind of "
        "data, and of --inception and --lpips. train: the same, with --config.evaluate_every. "
        "plot: which besides losses and logits.",
    )
    integer(
        "num_samples",
        10_000,
        "evaluate, and train with --config.evaluate_every: samples drawn. pca: latents that are mapped.",
        1,
        10_000_000,
    )
    text(
        "input",
        None,
        "translate, classify, anomaly: an image, or a folder of images, in folders too; the last two: or an "
        ".npz.",
    )
    text(
        "direction",
        None,
        "translate: AtoB or BtoA, of a model that goes both ways. Default: the first that it goes.",
    )
    text(
        "target",
        None,
        "translate: what should come out, a file or a folder with the names of --input's, for the sheet of "
        "comparison. project: an image, or a folder of images.",
    )
    flags.DEFINE_float(
        "false_alarm_rate",
        None,
        "anomaly: the share of normal images, by those that were held out, that may be taken for anomalies. "
        "Default: the run's --config.false_alarms.",
        flag_values=values,
    )
    text("real", None, "evaluate: the images to compare with --fake: a folder, an .npz or a data set's name.")
    text("fake", None, "evaluate: instead of a run's samples these images: a folder or an .npz.")
    text(
        "real_split",
        None,
        "evaluate, train: which split of the data FID and its like compare with. Default: train.",
    )
    text(
        "inception",
        None,
        "evaluate, train: the file with the weights of the FID Inception, for fid, kid, precision, ...; "
        "docs/metrics.md says where to get it.",
    )
    flags.DEFINE_enum(
        "resize",
        "tf1",
        ["tf1", "pytorch", "clean"],
        "evaluate, train: how images are resized for Inception: as the original graph does, as pytorch-fid "
        "or as clean-fid.",
        flag_values=values,
    )
    text(
        "lpips",
        None,
        "train, evaluate: the file with VGG16's or AlexNet's weights and LPIPS's, for lpips_diversity, "
        "perceptual_path_length and its like in w. project: the same; without it pixels are compared.",
    )
    text(
        "host",
        "localhost",
        "explore: the address to listen at. Beyond localhost, as with 0.0.0.0, everyone who reaches the "
        "machine can use the page.",
    )
    integer("port", 8000, "explore: the port to listen at; 0: any that is free.", 0, 65_535)
    flags.DEFINE_bool("help", False, "Shows this.", short_name="h", flag_values=values)
    return values


def _check(values: flags.FlagValues) -> None:
    """Refuses what absl lets through: NaN, which is within any bounds, and paths that can't be."""
    if math.isnan(values.save_minutes):
        raise UsageError("--save_minutes=nan: expected a number of minutes of at least 0")
    for name in ("workdir", "data_dir", "out", "input", "target", "source", "directions"):
        if path := getattr(values, name):
            from ganjax.report.files import unusable

            if reason := unusable(path):
                raise UsageError(f"--{name}={shortened(path, 200)}: {reason}; name another place")


def _refuse_foreign_flags(values: flags.FlagValues, mode: str) -> None:
    for name, modes in _BELONGS_TO.items():
        if values[name].present and mode not in modes:
            raise UsageError(f"--{name} does nothing in --mode={mode}; it belongs to {', '.join(modes)}")


def _recorded_experiment(values: flags.FlagValues) -> str:
    """With `--workdir` alone, the experiment is the one that was trained there."""
    if not values.workdir or values.mode == "train":
        return ""
    from ganjax.cli import workdir

    name = workdir.read_config(values.workdir)["experiment"]
    folder = os.path.realpath(os.path.expanduser(values.workdir))
    if name.endswith(".py") and os.path.realpath(os.path.expanduser(name)).startswith(folder + os.sep):
        # A run that comes from somebody else must not bring along what is run.
        raise UsageError(
            f"{values.workdir}: its config.json names a program in the folder itself, {name}; "
            "if you trust it, name it yourself, with --experiment="
        )
    return name


def _help(values: flags.FlagValues, package: str) -> str:
    lines = [USAGE]
    for name in [*_BELONGS_TO, "experiment", "mode"]:
        flag = values[name]
        default = "" if flag.default in (None, "") else f" Default: {flag.default}."
        lines.append(f"  --{name}: {flag.help}{default}")
    if values.experiment:
        module = experiments.find(values.experiment, package)
        lines += ["", inspect.cleandoc(module.__doc__ or ""), "", "Settings, --config.KEY=VALUE:"]
        lines.append(settings.describe(module.Config))
    else:
        lines += ["", "With --experiment=NAME --help, its settings too. The experiments:"]
        lines += [f"  {name}" for name in experiments.names(package)]
    return "\n".join(lines)


def resolve(command: Command, recorded: dict[str, Any] | None = None) -> Any:
    """The experiment's config: its defaults or the `recorded` ones, with the command's overrides."""
    config = command.module.Config()
    if recorded is not None:
        config = settings.from_json(command.module.Config, recorded)
    config = settings.override(config, command.overrides, experiment=command.name)
    settings.validate(config)
    return config
