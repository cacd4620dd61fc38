"""Exported generators: what sampling needs of a run, for those with ganjax and for those with jax alone.

    generator.safetensors              the leaves that sampling reads, by their paths in the state
    generator.json                     whose they are, and the sha256 of every other file
    generator.stablehlo                seeds [n] and, if conditional, labels [n] -> images
    generator_from_latents.stablehlo   latents [n, Z] and labels -> images, where the model has latents
    latents.stablehlo                  seeds [n] -> latents [n, Z], likewise

The last three are `jax.export` functions. They hold their weights, run on CPU, CUDA and TPU, and take any n;
docs/export.md shows how to call them. `ganjax.generator` reads the folder.
"""

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax import export as jax_export

from ganjax import random
from ganjax.checkpoint import fingerprint, flatten
from ganjax.errors import RunError, UsageError, one_line
from ganjax.gan import Array, Gan, GanState
from ganjax.report.files import write_atomically, writing
from ganjax.sampling import prepared

WEIGHTS = "generator.safetensors"
DESCRIPTION = "generator.json"
FROM_SEEDS = "generator.stablehlo"
FROM_LATENTS = "generator_from_latents.stablehlo"
LATENTS = "latents.stablehlo"
FILES = (WEIGHTS, FROM_SEEDS, FROM_LATENTS, LATENTS)

PARTS = ("params", "stats", "ema")  # of a state, what networks are made of

FORMAT = 1
PLATFORMS = ("cpu", "cuda", "tpu")

# What the weights' file says of itself, in its header.
HEADER = (
    "experiment",
    "config",
    "seed",
    "data",
    "num_classes",
    "image_shape",
    "latent_shape",
    "step",
    "stage",
    "fingerprint",
    "versions",
)

# The calls that an exported program may make. Others reach what lies outside of it: Python callbacks, and
# kernels that a file would bring along.
_HARMLESS_CALLS = {
    "Sharding",
    "SPMDFullToShardShape",
    "SPMDShardToFullShape",
    "annotate_device_placement",
    "cu_threefry2x32_ffi",
    "hip_threefry2x32_ffi",
    "shape_assertion",
    "stablehlo.dynamic_reduce_window",
    "stablehlo.dynamic_rng_bit_generator",
    "stablehlo.dynamic_top_k",
}


class Record(TypedDict, total=False):
    """What is recorded of whose a generator is.

    Attributes:
      step: of the run; default: the state's.
      stage: of the experiment, the one that the gan is trained in; default: 0.
      experiment: its name, by which `load_generator` finds its code; default: there is none.
      config: the experiment's settings, as `ganjax.config.to_json` gives them.
      seed: of the run.
      data: "name:split" -> `Dataset.spec` of what the experiment loads, so that it can be built without data.
    """

    step: int | None
    stage: int
    experiment: str | None
    config: Mapping[str, Any] | None
    seed: int | None
    data: Mapping[str, Any] | None


def export_generator(
    folder: epath.PathLike,
    gan: Gan,
    state: GanState,
    *,
    num_classes: int = 0,
    **record: Unpack[Record],
) -> list[str]:
    """Writes a generator's folder. One that holds an exported generator is written over.

    Which leaves of the state it takes is found by tracing `gan.sample`: those that are read, and the rest of
    their players' parameters and statistics, which the family's options may read.

    Args:
      folder: is made if need be.
      gan: its `sample` is exported, with its default options.
      state: of the gan, on the host or one device.
      num_classes: how many classes a label can name; 0: `sample` takes no labels.
      **record: whose it is.
    Returns:
      the names of the files.
    Raises:
      UsageError: the folder holds something else, or the model draws from more than seeds and labels.
      RunError: `sample` can't be exported for any batch and platform, or a file can't be written.
    """
    folder = epath.Path(folder).expanduser()
    check_folder(folder)
    state_fingerprint = fingerprint(state)
    state = prepared(gan, state)[0].replace(opt_state={})
    shapes = shapes_of(state)
    image_shape, latent_shape = sample_shapes(gan, shapes, num_classes)
    leaves = flatten(state)
    read = _exportable(lambda: _all_read(gan, shapes, num_classes, latent_shape))
    functions = _functions(
        gan, shapes, {name: leaves[name] for name in leaves if name in read}, num_classes, latent_shape
    )
    description = {
        "format": FORMAT,
        **_described(state, state_fingerprint, (image_shape, latent_shape), num_classes, record),
        "platforms": list(PLATFORMS),
        "functions": _signatures(functions, num_classes, image_shape, latent_shape),
    }
    stored = {name: leaves[name] for name in _with_players(read, shapes)}
    files = {WEIGHTS: _to_safetensors(stored, header(description))}
    files |= {name: bytes(function.serialize()) for name, function in functions.items()}
    description["files"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    description["sha256"] = digest(description)
    for name, content in files.items():
        write_atomically(folder / name, content)
    # Last, when what it names is there. A folder that was left between two files is refused by the hashes.
    write_atomically(folder / DESCRIPTION, json.dumps(description, indent=2).encode() + b"\n")
    with writing(folder):
        for name in set(FILES) - set(files):  # of the generator that was there before
            (folder / name).unlink(missing_ok=True)
    return [*files, DESCRIPTION]


def export_weights(
    path: epath.PathLike,
    gan: Gan,
    state: GanState,
    *,
    num_classes: int = 0,
    **record: Unpack[Record],
) -> int:
    """Writes one safetensors file of all players' parameters, averages and statistics, by their paths in the
    state, with what the networks are built from in its header; what optimizers remember is left out.

    Args: as of `export_generator`.
    Returns:
      how many arrays it has.
    Raises:
      UsageError: the model draws from more than seeds and labels.
      RunError: the file can't be written.
    """
    trained = prepared(gan, state)[0].replace(opt_state={})
    shapes = sample_shapes(gan, shapes_of(trained), num_classes)
    described = _described(state, fingerprint(state), shapes, num_classes, record)
    leaves = {
        f"{part}/{name}": leaf for part in PARTS for name, leaf in flatten(getattr(state, part)).items()
    }
    write_atomically(path, _to_safetensors(leaves, header(described)))
    return len(leaves)


def _described(
    state: GanState,
    state_fingerprint: str,
    shapes: tuple[list[int], list[int] | None],
    num_classes: int,
    record: Record,
) -> dict[str, Any]:
    """What is recorded of a generator, of whatever form; `shapes`: of an image, and of a latent."""
    step = record.get("step")
    return {
        "experiment": record.get("experiment"),
        "config": dict(record.get("config") or {}),
        "seed": record.get("seed"),
        "data": dict(record.get("data") or {}),
        "num_classes": num_classes,
        "image_shape": shapes[0],
        "latent_shape": shapes[1],
        "step": int(state.step) if step is None else step,
        "stage": record.get("stage", 0),
        "fingerprint": state_fingerprint,
        "versions": {name: _version(name) for name in ("ganjax", "jax")},
    }


def check_folder(folder: epath.Path) -> None:
    """Raises UsageError unless a generator can be written there: it is new, empty or has one."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder")
    # A process that was killed while it wrote leaves half a file, under another name.
    there = {path.name for path in folder.iterdir() if path.suffix != ".part"} if folder.exists() else set()
    if there - {*FILES, DESCRIPTION} and DESCRIPTION not in there:
        raise UsageError(
            f"{folder} holds other files and no exported generator; name an empty folder, or a new one"
        )


def images_of(
    gan: Gan,
    state: GanState,
    seeds: Array,
    labels: Array | None = None,
    latents: Array | None = None,
    options: Mapping[str, Any] | None = None,
) -> Array:
    """float32 images [n, ...] by seed [n], one seed one latent; to be traced."""
    extra = {} if latents is None else {"latents": latents}
    images = gan.sample(state, random.from_seeds(seeds), labels, **extra, **(options or {}))
    if not isinstance(images, jax.Array) or images.shape[:1] != seeds.shape:
        raise UsageError("this model can't be exported: it gives something else than one array of images")
    return images.astype(jnp.float32)


def latents_of(gan: Gan, seeds: Array) -> Array:
    """float32 latents [n, Z] by seed [n], of a gan that has latents."""
    assert gan.latents is not None
    return gan.latents(random.from_seeds(seeds)).astype(jnp.float32)


def example_inputs(num_classes: int, count: Any = 2) -> dict[str, jax.ShapeDtypeStruct]:
    """The form of `count` seeds, and of as many labels if the model is conditional."""
    inputs = {"seeds": jax.ShapeDtypeStruct((count,), jnp.uint32)}
    if num_classes:
        inputs["labels"] = jax.ShapeDtypeStruct((count,), jnp.int32)
    return inputs


def sample_shapes(gan: Gan, shapes: GanState, num_classes: int) -> tuple[list[int], list[int] | None]:
    """The shapes of one image and of one latent; None for a gan without latents.

    Raises:
      UsageError: its sample asks for more than seeds and labels.
    """
    inputs = example_inputs(num_classes)
    try:
        images = jax.eval_shape(lambda state, inputs: images_of(gan, state, **inputs), shapes, inputs)
    except UsageError:
        raise
    except ValueError as error:  # what the family says of a condition that it lacks
        raise UsageError(
            f"this model can't be drawn from by seeds and labels alone: {one_line(error)}"
        ) from error
    if gan.latents is None:
        return list(images.shape[1:]), None
    latents = jax.eval_shape(lambda seeds: latents_of(gan, seeds), inputs["seeds"])
    return list(images.shape[1:]), list(latents.shape[1:])


# What sampling reads.


def shapes_of(tree: Any) -> Any:
    """The tree with shapes and types in the place of its arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), tree)


def leaf_names(shapes: GanState) -> list[str]:
    """Every leaf's path, as `ganjax.checkpoint.flatten` names it, in the tree's order."""
    return [name for name, *_ in _paths(shapes)]


def leaves_read(
    gan: Gan, shapes: GanState, inputs: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> set[str]:
    """The names of the leaves that `gan.sample` reads with these inputs (seeds, labels, latents) and options.

    They are the arguments that its program has left when what no result depends on is taken away. The inputs'
    shapes must be known: a program for any batch keeps all of its arguments.
    """

    def draw(state: GanState, inputs: Mapping[str, Array]) -> Array:
        return images_of(gan, state, **inputs, options=options)

    exported = jax_export.export(jax.jit(draw), platforms=PLATFORMS[:1])(shapes, dict(inputs))
    names = leaf_names(shapes)  # the first arguments; the inputs come after
    return {names[i] for i in exported.module_kept_var_idx if i < len(names)}


def _all_read(gan: Gan, shapes: GanState, num_classes: int, latent_shape: Sequence[int] | None) -> set[str]:
    """What is read from seeds or from latents."""
    inputs = example_inputs(num_classes)
    read = leaves_read(gan, shapes, inputs)
    if latent_shape is not None:
        inputs["latents"] = jax.ShapeDtypeStruct((*inputs["seeds"].shape, *latent_shape), jnp.float32)
        read |= leaves_read(gan, shapes, inputs)
    return read


def filled(shapes: GanState, leaves: Mapping[str, Any]) -> GanState:
    """A state of these leaves by name and zeros for others. To be traced: what isn't read is free."""
    tree = [
        leaves[name] if name in leaves else jnp.zeros(leaf.shape, leaf.dtype)
        for name, leaf in zip(leaf_names(shapes), jax.tree.leaves(shapes), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(shapes), tree)


def _paths(shapes: GanState) -> list[tuple[str, str, str]]:
    """Of every leaf in the tree's order: its name, its collection (params, stats, ema, ...), its player."""
    text = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    return [
        (text(path), text(path[:1]), text(path[1:2]))
        for path, _ in jax.tree_util.tree_flatten_with_path(shapes)[0]
    ]


def _with_players(read: set[str], shapes: GanState) -> list[str]:
    """The names that are `read`, with all of the collections of players that they are of, and these players'
    statistics."""
    paths = _paths(shapes)
    groups = {(where, player) for name, where, player in paths if name in read and where in ("params", "ema")}
    groups |= {("stats", player) for name, where, player in paths if name in read and where == "stats"}
    groups |= {("stats", player) for _, player in groups}
    return [name for name, where, player in paths if name in read or (where, player) in groups]


# Functions.


def _functions(
    gan: Gan,
    shapes: GanState,
    weights: Mapping[str, np.ndarray],
    num_classes: int,
    latent_shape: Sequence[int] | None,
) -> dict[str, jax_export.Exported]:
    """The functions by the names of their files."""

    def from_seeds(seeds: Array, labels: Array | None = None) -> Array:
        return images_of(gan, filled(shapes, _opaque(weights)), seeds, labels)

    def from_latents(latents: Array, labels: Array | None = None) -> Array:
        # What is drawn besides the latents is seed 0's, as in --mode=interpolate.
        seeds = jnp.zeros(latents.shape[0], jnp.uint32)
        return images_of(gan, filled(shapes, _opaque(weights)), seeds, labels, latents)

    n = jax_export.symbolic_shape("n")[0]
    seeds, *labels = example_inputs(num_classes, n).values()
    functions = {FROM_SEEDS: _exported(from_seeds, seeds, *labels)}
    if latent_shape is not None:
        latents = jax.ShapeDtypeStruct((n, *latent_shape), jnp.float32)
        functions[FROM_LATENTS] = _exported(from_latents, latents, *labels)
        functions[LATENTS] = _exported(lambda seeds: latents_of(gan, seeds), seeds)
    return functions


def _signatures(
    names: Iterable[str], num_classes: int, image_shape: Sequence[int], latent_shape: Sequence[int] | None
) -> dict[str, Any]:
    """What the functions take and give, for who reads the description."""
    seeds = {"seeds": "uint32 [n]"}
    labels = {"labels": f"int32 [n], 0 to {num_classes - 1}"} if num_classes else {}
    latents = f"float32 {shape_text(latent_shape or ())}"
    images = f"float32 {shape_text(image_shape)}" + (" in [-1, 1]" if len(image_shape) == 3 else "")
    signatures = {
        FROM_SEEDS: {"arguments": {**seeds, **labels}, "gives": images},
        FROM_LATENTS: {"arguments": {"latents": latents, **labels}, "gives": images},
        LATENTS: {"arguments": seeds, "gives": latents},
    }
    return {name: signatures[name] for name in names}


def check_calls(exported: jax_export.Exported) -> None:
    """Raises RunError if the program calls out of itself."""
    text = exported.mlir_module()
    for match in re.finditer("custom_call", text):
        target = re.match(r'\s*@"?([\w.$]+)"?\(', text[match.end() : match.end() + 200])
        if target is None or target[1] not in _HARMLESS_CALLS:
            name = target[1] if target else "something that can't be made out"
            raise RunError(f"it calls {name}, which lies outside of the program")


def _exported(function: Callable, *arguments: jax.ShapeDtypeStruct) -> jax_export.Exported:
    with _without_paths():
        exported = _exportable(lambda: jax_export.export(jax.jit(function), platforms=PLATFORMS)(*arguments))
    try:
        check_calls(exported)
    except RunError as error:
        raise RunError(f"this model's sample can't be exported: {error}") from error
    return exported


@contextlib.contextmanager
def _without_paths() -> Iterator[None]:
    """Within it, programs name source files without their folders, which are nobody's business elsewhere."""
    before = jax.config.jax_hlo_source_file_canonicalization_regex  # type: ignore[attr-defined]
    jax.config.update("jax_hlo_source_file_canonicalization_regex", r".*[/\\]")
    try:
        yield
    finally:
        jax.config.update("jax_hlo_source_file_canonicalization_regex", before)


def _exportable(trace: Callable[[], Any]) -> Any:
    try:
        return trace()
    except UsageError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # what tracing and lowering raise
        where = ", ".join(PLATFORMS)
        raise RunError(
            f"this model's sample can't be exported for any batch on {where}: {one_line(error)}"
        ) from error


def _opaque(leaves: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Constants that the compiler leaves alone: it would take long to compute with them beforehand."""
    return jax.lax.optimization_barrier({name: jnp.asarray(leaf) for name, leaf in leaves.items()})


# Files.


def header(description: Mapping[str, Any]) -> dict[str, str]:
    """The metadata in the weights' file: text as it is, everything else as JSON."""
    values = {key: description[key] for key in HEADER}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return {"format": "np", **texts}


def digest(description: Mapping[str, Any]) -> str:
    """sha256 of a description without its own."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def shape_text(shape: Sequence[int]) -> str:
    """A batch's shape, as in "[n, 28, 28, 1]"."""
    return f"[{', '.join(['n', *map(str, shape)])}]"


def _to_safetensors(leaves: Mapping[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    from safetensors.numpy import save

    content = save({name: np.array(leaf, order="C") for name, leaf in leaves.items()}, metadata=metadata)
    # The library puts the metadata down in a random order: the same generator should be the same bytes.
    start = 8 + int.from_bytes(content[:8], "little")
    text = json.dumps(json.loads(content[8:start]) | {"__metadata__": metadata}).encode()
    text += b" " * (-len(text) % 8)  # where the arrays begin is aligned
    return len(text).to_bytes(8, "little") + text + content[start:]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return None
