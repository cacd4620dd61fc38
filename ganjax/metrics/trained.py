"""Networks that the toolkit trains for its metrics by itself: how they begin, are compiled and are kept."""

import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

Params = Any

# XLA's own weight gradients of convolutions are two to ten times slower than a matrix product on a CPU.
CPU_COMPILER_OPTIONS: dict[str, Any] = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def compile_for_backend(
    function: Callable,
    *arguments: Any,
    donate: tuple[int, ...] = (),
    options: Mapping[str, Any] | None = None,
) -> Callable:
    """`function` compiled for the shapes of `arguments`, on a CPU with options that speed its gradients.

    The options are experimental in XLA: a release that refuses them gets the program without.

    Args:
      function: a jax function.
      arguments: arrays, or `jax.ShapeDtypeStruct`s.
      donate: the places of arguments whose memory the result may take over.
      options: instead of `CPU_COMPILER_OPTIONS`.
    """
    if jax.default_backend() == "cpu":
        chosen = dict(CPU_COMPILER_OPTIONS if options is None else options)
        try:
            return (
                jax.jit(function, donate_argnums=donate, compiler_options=chosen).lower(*arguments).compile()
            )
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            logging.debug("compiling without %s: %s", chosen, error)
    return jax.jit(function, donate_argnums=donate).lower(*arguments).compile()


def first_params(network: nn.Module, image_shape: tuple[int, ...], seed: int) -> Params:
    """LeCun's normal kernels and zero biases, drawn by numpy: compiling flax's own takes seconds on a CPU.

    Args:
      network: takes uint8 images [n, *image_shape].
      image_shape: (H, W, C).
      seed: of the kernels.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
    shapes: Any = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    draw = np.random.default_rng([seed])
    flat = {}
    for path, leaf in sorted(flax.traverse_util.flatten_dict(shapes).items()):
        scale = 0.0 if path[-1] == "bias" else np.prod(leaf.shape[:-1]) ** -0.5
        flat[path] = (scale * draw.standard_normal(leaf.shape)).astype(np.float32)
    return jax.tree.map(jnp.asarray, flax.traverse_util.unflatten_dict(flat))


def schedule(peak: float, steps: int) -> optax.Schedule:
    """A linear warm-up over the first fifth of `steps`, then a cosine down to 0."""
    warmup = max(1, steps // 5)
    return optax.warmup_cosine_decay_schedule(peak / 25, peak, warmup, max(steps, warmup + 1))


def flatten(params: Params) -> dict[str, np.ndarray]:
    """Parameters by path, `Conv_0/kernel`."""
    return {
        "/".join(path): np.asarray(value) for path, value in flax.traverse_util.flatten_dict(params).items()
    }


def identity(params: Params) -> str:
    """The sha256 of parameters, in hex: two networks of one kind agree everywhere if these agree."""
    digest = hashlib.sha256()
    for name, value in sorted(flatten(params).items()):
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def cache_path(
    kind: str, about: list, arrays: list[np.ndarray], folder: str | os.PathLike | None
) -> pathlib.Path:
    """The file in which a network is kept that was trained on these arrays.

    Args:
      kind: of network; the file's name begins with it.
      about: JSON of what else decides over its parameters.
      arrays: what it was trained on.
      folder: default `$GANJAX_CACHE`, or `~/.cache/ganjax`.
    """
    digest = hashlib.sha256(json.dumps(about).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    home = pathlib.Path(folder or os.environ.get("GANJAX_CACHE") or pathlib.Path.home() / ".cache/ganjax")
    return home / f"{kind}-{digest.hexdigest()[:32]}.npz"


def save(path: str | os.PathLike, params: Params, about: Mapping[str, Any]) -> None:
    """Writes an `.npz` without pickles. A reader sees the old file or the new, never half.

    Args:
      path: the file; folders on the way to it are made.
      params: of the network.
      about: JSON-able, what `load` gives back.
    Raises:
      OSError: the file can't be written.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about, "identity": identity(params)})
    arrays = {f"params/{name}": value for name, value in flatten(params).items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, about=np.array(text), **arrays)
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def kept(path: pathlib.Path, params: Params, about: Mapping[str, Any]) -> None:
    """`save`, for a cache: what can't be written is told and no error, for the work is done."""
    try:
        save(path, params, about)
    except OSError as error:
        logging.warning("%s could not be cached as %s: %s", path.name.split("-")[0], path, error)


def load(path: str | os.PathLike, matches: Mapping[str, Any]) -> tuple[Params, dict[str, Any]] | None:
    """What `save` wrote: parameters and `about`; None where there is no such file or it is damaged.

    Args:
      path: the `.npz`.
      matches: what `about` must say.
    """
    path = pathlib.Path(path)
    try:
        # Opened here: numpy leaves its own handle open when the archive's directory is damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            flat = {name.removeprefix("params/"): file[name] for name in file.files if name != "about"}
        params = flax.traverse_util.unflatten_dict(flat, sep="/")
        if identity(params) != about["identity"]:
            raise ValueError("its parameters do not have the sha256 that it states")
        for name, value in matches.items():
            if about[name] != value:
                raise ValueError(f"its {name} is {about[name]}")
    except FileNotFoundError:
        return None
    # zipfile answers changed bytes with a dozen kinds of errors, and each of them means the same here.
    except Exception as error:
        logging.warning("%s is damaged (%s)", path, error)
        return None
    return params, about
