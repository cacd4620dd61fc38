"""Loads trained generators: from a folder that --mode=export wrote (`ganjax.export`), or from a run's.

Nothing that is read is executed as code. There is no pickle; no module is imported because a file names it,
unless it is one of ganjax's own experiments; an exported function that calls out of its program is refused.
"""

import hashlib
import inspect
import json
import warnings
from collections.abc import Hashable, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax import export as jax_export

from ganjax import config as settings
from ganjax import data, members
from ganjax import export as exports
from ganjax.checkpoint import Checkpoints, fingerprint, flatten, unflatten
from ganjax.errors import RunError, UsageError, nearest, one_line
from ganjax.export import DESCRIPTION, FROM_LATENTS, FROM_SEEDS, LATENTS, WEIGHTS
from ganjax.gan import Array, Experiment, Gan, GanState
from ganjax.loop import abstract_state
from ganjax.parallel import Program
from ganjax.sampling import Sampler, at_once, checked_seeds, in_chunks, prepared

PACKAGE = "ganjax.experiments"  # whose modules may be imported because a file names them


class _Source(Protocol):
    """What a generator draws by."""

    options: tuple[str, ...]

    def images(self, inputs: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> np.ndarray: ...

    def latents(self, seeds: np.ndarray) -> np.ndarray: ...


class Generator:
    """A trained generator: images by seed and label.

    Attributes:
      experiment: its name; None where it was exported without one.
      config: the experiment's settings, as config.json holds them.
      num_classes: labels are in [0, num_classes); 0: it takes none.
      image_shape: (H, W, C), or the shape of one sample of what else the model generates.
      latent_shape: (Z,); None for a model without latents.
      step: of the run, the one at which the weights were saved.
      fingerprint: of the whole state that they are from, as result.json has it where a run has one seed.
      options: the names of the family's options that it takes; () where it draws by exported functions.
    """

    def __init__(self, description: Mapping[str, Any], source: _Source):
        self.experiment: str | None = description["experiment"]
        self.config: dict[str, Any] = dict(description["config"])
        self.num_classes: int = description["num_classes"]
        self.image_shape: tuple[int, ...] = tuple(description["image_shape"])
        latent_shape = description["latent_shape"]
        self.latent_shape: tuple[int, ...] | None = None if latent_shape is None else tuple(latent_shape)
        self.step: int = description["step"]
        self.fingerprint: str = description["fingerprint"]
        self.options: tuple[str, ...] = source.options
        self._source = source

    def __call__(
        self,
        seeds: Sequence[int] | np.ndarray | None = None,
        labels: Sequence[int] | np.ndarray | None = None,
        *,
        latents: np.ndarray | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Images, float32 [n, H, W, C] in [-1, 1], on the host. One seed is one latent, as in --mode=sample.

        Args:
          seeds: n integers in [0, 2^32). With `latents` they may be left out; what is drawn besides the
            latents, like noise, is seed 0's then.
          labels: n labels, of a conditional model.
          latents: float32 [n, Z], in place of those that the seeds give.
          **options: the family's own, of those that `options` names.
        Raises:
          UsageError: labels are missing, out of range or of no use; a seed is out of range; latents are of
            another shape; there are not as many of one as of the other; an option is unknown, not hashable,
            or reads what was not exported; the exported functions are given seeds beside latents.
        """
        inputs: dict[str, np.ndarray] = {}
        if latents is not None:
            inputs["latents"] = self._checked_latents(latents)
            seeds = np.zeros(len(inputs["latents"]), np.uint32) if seeds is None else seeds
        if seeds is None:
            raise UsageError("seeds are missing: expected a list of integers")
        inputs["seeds"] = _checked_seeds(seeds)
        if labels is not None or self.num_classes:
            inputs["labels"] = self._checked_labels(labels)
        n = len(inputs["seeds"])
        for name, values in inputs.items():
            if len(values) != n:
                raise UsageError(f"{len(values)} {name} for {n} seeds: expected one for each")
        for name, value in options.items():
            if name not in self.options:
                hint = nearest(name, self.options) if self.options else "it takes none"
                raise UsageError(f"{name}: this generator has no such option; {hint}")
            if not isinstance(value, Hashable):
                raise UsageError(f"{name}: options are static; expected a number, text or a tuple")
        return self._source.images(inputs, options)

    def latents(self, seeds: Sequence[int] | np.ndarray) -> np.ndarray:
        """The latents, float32 [n, Z], of n seeds. Raises UsageError if the model has none."""
        if self.latent_shape is None:
            raise UsageError("this model has no latents")
        return self._source.latents(_checked_seeds(seeds))

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        classes = f", {self.num_classes} classes" if self.num_classes else ""
        return f"<Generator {self.experiment}, step {self.step}: {shape}{classes}>"

    def _checked_latents(self, latents: Any) -> np.ndarray:
        if self.latent_shape is None:
            raise UsageError("this model has no latents")
        values = np.asarray(latents, np.float32)
        if values.shape[1:] != self.latent_shape or not values.size:
            expected = exports.shape_text(self.latent_shape)
            raise UsageError(f"latents {list(values.shape)}: expected {expected}")
        return values

    def _checked_labels(self, labels: Any) -> np.ndarray:
        if not self.num_classes:
            raise UsageError("labels: this model takes none")
        expected = f"expected one from 0 to {self.num_classes - 1} for each image"
        if labels is None:
            raise UsageError(f"labels are missing: {expected}")
        values = np.asarray(labels)
        if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
            raise UsageError(f"labels {values.dtype} {list(values.shape)}: {expected}")
        if len(wrong := values[(values < 0) | (values >= self.num_classes)]):
            raise UsageError(f"label {wrong[0]}: {expected}")
        return values.astype(np.int32)


def load_generator(
    path: epath.PathLike, *, experiment: ModuleType | None = None, member: int = 0
) -> Generator:
    """The generator in a folder that --mode=export wrote, or that of the last checkpoint in a run's folder.

    The code of its experiment is looked for by name among those that come with ganjax, and nowhere else: what
    a file names is not imported. For an experiment of your own import its module and pass it on, as in
    `import my_gan; load_generator(path, experiment=my_gan)`. Without it an exported generator draws by its
    exported functions: the same images, without the family's options.

    Args:
      path: of the folder.
      experiment: the experiment's module, with its `Config` and `build`.
      member: of a run of several seeds, whose generator; 0 is the first seed's. An exported one has no other.
    Raises:
      RunError: the folder holds neither, or its files are missing, damaged, altered, or do not fit the code.
      UsageError: `experiment` is no experiment's module, or the run has no such member.
    """
    for part in ("Config", "build"):
        if experiment is not None and not hasattr(experiment, part):
            raise UsageError(f"experiment={experiment!r}: not an experiment, it has no {part}")
    folder = epath.Path(path).expanduser()
    if (folder / DESCRIPTION).exists():
        if member:
            raise UsageError(f"member={member}: {folder} is an exported generator, which is of one seed")
        return _exported(folder, experiment)
    if (folder / "config.json").exists():
        return _trained(folder, experiment, member)
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; name one that --mode=export wrote, or a run's")
    raise RunError(
        f"{folder} holds neither an exported generator ({DESCRIPTION} is missing) nor a run (config.json is)"
    )


def _exported(folder: epath.Path, module: ModuleType | None) -> Generator:
    description = _read_description(folder / DESCRIPTION)
    files = {name: _read_file(folder / name, expected) for name, expected in description["files"].items()}
    leaves, header = _from_safetensors(folder / WEIGHTS, files.pop(WEIGHTS))
    for key, value in exports.header(description).items():
        if header.get(key) != value:
            raise RunError(f"{folder}: {WEIGHTS} is of another generator than {DESCRIPTION} ({key} differs)")
    module = module or _own_experiment(description["experiment"])
    if module is None:
        functions = {name: _function(folder / name, content) for name, content in files.items()}
        _check_functions(folder, functions, description)
        return Generator(description, _Functions(functions))
    try:
        experiment = _build(module, description)
        stage = experiment.stages[description["stage"]]
        shapes = abstract_state(experiment, description["stage"]).replace(opt_state={})
        _check_leaves(shapes, leaves)
        source = _Code(stage.gan, exports.shapes_of(shapes), leaves)
        here = (experiment.num_classes, *exports.sample_shapes(stage.gan, shapes, experiment.num_classes))
        there = tuple(description[key] for key in ("num_classes", "image_shape", "latent_shape"))
        if here != there:
            raise ValueError(f"classes and shapes are {list(there)} there and {list(here)} here")
        source.prepare(exports.example_inputs(experiment.num_classes))
    except (ValueError, LookupError, TypeError) as error:
        raise RunError(
            f"{folder / WEIGHTS} does not fit {description['experiment']} ({one_line(error)}): the "
            f"code has changed since. Go back to that code, or call {FROM_SEEDS}, which needs none"
        ) from error
    return Generator(description, source)


def _trained(folder: epath.Path, module: ModuleType | None, member: int) -> Generator:
    from ganjax.cli.workdir import read_config

    record = read_config(folder)
    module = module or _own_experiment(record["experiment"])
    if module is None:
        raise RunError(
            f"{folder}: {record['experiment']} is not among ganjax's own experiments; import its module and "
            "pass it as experiment=, or export the run"
        )
    try:
        experiment = _build(module, record)
    except (ValueError, LookupError, TypeError) as error:
        raise RunError(
            f"{folder / 'config.json'} does not fit {record['experiment']} ({one_line(error)})"
        ) from error
    members.check_member(member, record["seed"], experiment.seeds, "member")
    found = None
    if (folder / "checkpoints").exists():
        found = Checkpoints(folder / "checkpoints", read_only=True).restore(
            lambda meta: members.form_of(abstract_state(experiment, meta["stage"]), experiment.seeds),
            lambda text: warnings.warn(text, stacklevel=5),
        )
    if found is None:
        raise RunError(f"{folder} holds no checkpoint yet; train first")
    state, meta = found
    if experiment.seeds > 1:
        state = members.of(state, member, experiment.seeds)
        meta = {**meta, "fingerprint": fingerprint(state)}
    gan = experiment.stages[meta["stage"]].gan
    state = prepared(gan, state)[0].replace(opt_state={})
    shapes = exports.shapes_of(state)
    image_shape, latent_shape = exports.sample_shapes(gan, shapes, experiment.num_classes)
    description = {
        "experiment": record["experiment"],
        "config": record["config"],
        "num_classes": experiment.num_classes,
        "image_shape": image_shape,
        "latent_shape": latent_shape,
        "step": meta["step"],
        "fingerprint": meta["fingerprint"],
    }
    return Generator(description, _Code(gan, shapes, flatten(state)))


# What draws.


class _Code:
    """Draws by the experiment's code.

    Args:
      gan: its `sample` draws.
      shapes: of the gan's state.
      leaves: of the state by name, at least those that are read.
    """

    def __init__(self, gan: Gan, shapes: GanState, leaves: Mapping[str, np.ndarray]):
        self._gan, self._shapes, self._leaves = gan, shapes, leaves
        self._prepared: dict[Any, tuple[Sampler, GanState]] = {}
        parameters = list(inspect.signature(gan.sample).parameters.values())[
            3:
        ]  # state, keys and labels first
        named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self.options = tuple(name for name in named if name != "latents")

    def images(self, inputs: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> np.ndarray:
        sampler, state = self.prepare(inputs, options)
        labels, latents = inputs.get("labels"), inputs.get("latents")
        return sampler(state, inputs["seeds"], labels, latents=latents, options=options)

    def latents(self, seeds: np.ndarray) -> np.ndarray:
        return np.asarray(exports.latents_of(self._gan, jnp.asarray(seeds)))

    def prepare(self, inputs: Mapping[str, Any], options: Mapping[str, Any] | None = None):
        """A sampler for such inputs, and a state of nothing but the leaves that it reads, on the device.

        Raises:
          UsageError: one of them is not there.
        """
        options = dict(options or {})
        key = (tuple(sorted(inputs)), tuple(sorted(options.items())))
        if key not in self._prepared:
            examples = {name: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype) for name, x in inputs.items()}
            read = exports.leaves_read(self._gan, self._shapes, examples, options)
            if missing := sorted(read - set(self._leaves)):
                reads = f"with {', '.join(options)} this model reads" if options else "this model reads"
                raise UsageError(f"{reads} {missing[0]}, which was not exported; load the run's own folder")
            leaves = jax.device_put({name: self._leaves[name] for name in sorted(read)})
            state = GanState(jnp.int32(0), params=leaves, stats={}, opt_state={}, ema={}, carry=())
            self._prepared[key] = Sampler(self._gan._replace(sample=self._sample)), state
        return self._prepared[key]

    def _sample(self, state: GanState, keys: Array, labels: Array | None, **options: Any) -> Array:
        return self._gan.sample(exports.filled(self._shapes, state.params), keys, labels, **options)


class _Functions:
    """Draws by exported functions, by the names of their files."""

    options: tuple[str, ...] = ()

    def __init__(self, functions: Mapping[str, jax_export.Exported]):
        self._programs = {name: Program(jax.jit(function.call)) for name, function in functions.items()}

    def images(self, inputs: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> np.ndarray:
        assert not options
        if "latents" in inputs and inputs["seeds"].any():
            raise UsageError("seeds beside latents need the experiment's code; leave the seeds out")
        first, name = ("latents", FROM_LATENTS) if "latents" in inputs else ("seeds", FROM_SEEDS)
        return self._call(name, {key: inputs[key] for key in (first, "labels") if key in inputs})

    def latents(self, seeds: np.ndarray) -> np.ndarray:
        return self._call(LATENTS, {"seeds": seeds})

    def _call(self, name: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return in_chunks(lambda part: self._programs[name](*(part[key] for key in inputs)), inputs, at_once())


# The experiment.


def _own_experiment(name: str | None) -> ModuleType | None:
    """The module of one of ganjax's own experiments; None for every other name."""
    from ganjax.cli import experiments

    try:
        known = experiments.names(PACKAGE)
    except ModuleNotFoundError:  # a checkout that is not installed
        return None
    return experiments.find(name, PACKAGE) if name in known else None


def _build(module: ModuleType, record: Mapping[str, Any]) -> Experiment:
    """The experiment with its recorded settings, on its data's metadata. ValueError if they don't fit."""
    config = settings.from_json(module.Config, record["config"])
    settings.validate(config)
    specs = record.get("data", {})

    def load(name: str, *, split: str = "train", **options: Any) -> data.Dataset:
        del options
        if f"{name}:{split}" not in specs:
            raise ValueError(f"the data {name} ({split}) are not described there")
        return data.from_spec(specs[f"{name}:{split}"])

    return module.build(config, load)


def _check_leaves(shapes: GanState, leaves: dict[str, np.ndarray]) -> None:
    """Raises ValueError where a leaf is unknown or of another shape or type."""
    wanted = dict(zip(exports.leaf_names(shapes), jax.tree.leaves(shapes), strict=True))
    unflatten({name: wanted[name] for name in leaves if name in wanted}, leaves)


def _checked_seeds(seeds: Any) -> np.ndarray:
    try:
        return checked_seeds(seeds)
    except ValueError as error:
        raise UsageError(str(error)) from error


# Files.


def _read_description(path: epath.Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_bytes())
        if not isinstance(description, dict) or "format" not in description:
            raise ValueError("it is not a generator's description")
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {one_line(error)}") from error
    if description["format"] != exports.FORMAT:
        raise RunError(
            f"{path} has format {description['format']!r}, and this ganjax reads {exports.FORMAT}: "
            "load it with the version that wrote it"
        )
    if description.pop("sha256", None) != exports.digest(description):
        raise RunError(f"{path} is not what was written, its sha256 differs; export the run again")
    for key, form in _FORM.items():
        if key not in description or not isinstance(description[key], form):
            raise RunError(f"{path} is damaged: {key} is missing, or of another type")
    files = description["files"]
    belong = {WEIGHTS, FROM_SEEDS} <= set(files) <= set(exports.FILES)
    if not belong or not all(isinstance(expected, dict) for expected in files.values()):
        raise RunError(f"{path} is damaged: it names other files than a generator's")
    return description


_FORM: dict[str, Any] = {
    "experiment": str | None,
    "config": dict,
    "seed": int | None,
    "data": dict,
    "num_classes": int,
    "image_shape": list,
    "latent_shape": list | None,
    "step": int,
    "stage": int,
    "fingerprint": str,
    "versions": dict,
    "files": dict,
}


def _read_file(path: epath.Path, expected: Mapping[str, Any]) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing; export the run again") from error
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != expected.get("sha256"):
        size = (
            ""
            if len(content) == expected.get("bytes")
            else f", {len(content)} bytes of {expected.get('bytes')}"
        )
        raise RunError(f"{path} is not what was written{size}, its sha256 differs; export the run again")
    return content


def read_weights(path: epath.PathLike) -> dict[str, np.ndarray]:
    """The leaves in a `.safetensors` file that --mode=export wrote, by their paths in a run's state.

    Raises:
      RunError: it can't be read, or is damaged.
    """
    file = epath.Path(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RunError(f"{file} can't be read: {error.strerror or error}") from error
    return _from_safetensors(file, content)[0]


def read_exported(path: epath.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The leaves in a safetensors file that --mode=export wrote, and what its header says of them.

    Raises:
      RunError: it can't be read, is damaged, or is of another origin.
    """
    file = epath.Path(path)
    try:
        leaves, texts = _from_safetensors(file, file.read_bytes())
        header = {
            key: texts[key] if key in ("experiment", "fingerprint") else json.loads(texts[key])
            for key in exports.HEADER
        }
        if not all(isinstance(value, _FORM[key]) for key, value in header.items()):
            raise ValueError("its header is damaged")
    except OSError as error:
        raise RunError(f"{file} can't be read: {error.strerror or error}") from error
    except KeyError as error:
        raise RunError(f"{file} is no weights of ours: its header has no {error.args[0]}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file} is damaged: {one_line(error)}") from error
    return leaves, header


_TYPES = {
    "BOOL": "bool",
    "BF16": "bfloat16",
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}


def _from_safetensors(path: epath.Path, content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The leaves by name, and the metadata in the header."""
    from safetensors import SafetensorError, deserialize

    try:
        leaves = {
            name: np.frombuffer(leaf["data"], jnp.dtype(_TYPES[leaf["dtype"]])).reshape(leaf["shape"])
            for name, leaf in deserialize(content)
        }
        size = int.from_bytes(content[:8], "little")
        return leaves, json.loads(content[8 : 8 + size]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged, or no safetensors file ({one_line(error)})") from error


def _function(path: epath.Path, content: bytes) -> jax_export.Exported:
    try:
        exported = jax_export.deserialize(bytearray(content))
        exports.check_calls(exported)
        return exported
    except RunError as error:
        raise RunError(f"{path} is refused: {error}") from error
    except Exception as error:  # flatbuffers and MLIR raise what they like
        raise RunError(
            f"{path} is damaged, or no exported function that jax {jax.__version__} can read "
            f"({one_line(error)})"
        ) from error


def _check_functions(
    folder: epath.Path, functions: Mapping[str, jax_export.Exported], description: Mapping[str, Any]
) -> None:
    """Raises RunError unless the functions are there, and take and give what the description says."""
    seeds, labels = ("uint32[n]",), ("int32[n]",) if description["num_classes"] else ()
    image = _form("float32", "n", *description["image_shape"])
    forms = {FROM_SEEDS: ((*seeds, *labels), (image,))}
    if description["latent_shape"] is not None:
        latent = _form("float32", "n", *description["latent_shape"])
        forms |= {FROM_LATENTS: ((latent, *labels), (image,)), LATENTS: (seeds, (latent,))}
    for name, expected in forms.items():
        if name not in functions:
            raise RunError(f"{folder / name} is missing; export the run again")
        avals = functions[name].in_avals, functions[name].out_avals
        found = tuple(tuple(_form(aval.dtype, *aval.shape) for aval in side) for side in avals)
        if found != expected:
            raise RunError(f"{folder / name} is from {_arrow(found)}, not {_arrow(expected)}")


def _form(dtype: Any, *shape: Any) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def _arrow(sides: Sequence[Sequence[str]]) -> str:
    return " to ".join(", ".join(side) for side in sides)
