"""Samples by seed: one seed is one latent, whatever the batch or the device."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ganjax import random
from ganjax.gan import Gan, GanState
from ganjax.parallel import Program


def at_once() -> int:
    """How many pictures are drawn at a time where each may be asked for alone, as by --mode=sample: on a CPU
    few, so that a single one comes soon."""
    return 4 if jax.default_backend() == "cpu" else 64


class Sampler:
    """Draws from a trained `Gan` in batches of one fixed size, so that a picture has the same bytes
    whatever it is drawn along with.

    Args:
      gan: its `sample` draws.
      chunk: how many at a time; the last batch is filled up and cut off. None: `at_once()`.
      devices: which share the work, an equal part of a chunk each; None: jax's default device alone.
    Raises:
      ValueError: where `chunk` is less than 1, or does not divide evenly over the devices.
    """

    def __init__(self, gan: Gan, chunk: int | None = None, devices: Sequence[Any] | None = None):
        chunk = at_once() if chunk is None else chunk
        if chunk < 1:
            raise ValueError(f"chunk={chunk}: expected at least 1")
        if devices and chunk % len(devices):
            raise ValueError(f"chunk={chunk}: it does not divide evenly over {len(devices)} devices")
        self._gan, self._chunk = gan, chunk
        self._whole = self._split = None
        if devices and len(devices) > 1:
            mesh = Mesh(np.asarray(devices), ("devices",))
            self._whole, self._split = NamedSharding(mesh, P()), NamedSharding(mesh, P("devices"))
        self._programs: dict[Any, Program] = {}

    @property
    def compile_seconds(self) -> float:
        """Seconds spent compiling so far."""
        return sum(program.compile_seconds for program in self._programs.values())

    def __call__(
        self,
        state: GanState,
        seeds: Sequence[int] | np.ndarray,
        labels: Sequence[int] | np.ndarray | None = None,
        *,
        latents: np.ndarray | None = None,
        conditions: Any = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Images, float32 [n, H, W, C] in [-1, 1], or the tree that the family gives, on the host.

        Args:
          state: of the gan, on the host or one device.
          seeds: n integers in [0, 2^32).
          labels: n labels for a conditional model, or shares of its classes, float [n, classes], where its
            networks take mixtures.
          latents: [n, Z] in place of those that the seeds give.
          conditions: of a family that draws from something else than labels: a tree of arrays [n, ...].
          options: the family's own, static and hashable; but floats are inputs of the compiled program, so
            that another value is not another program.
        Raises:
          ValueError: where there are no seeds, one is out of range, or the others are not as many.
        """
        options = dict(options or {})
        numbers = {name: np.float32(value) for name, value in options.items() if type(value) is float}
        options = {name: value for name, value in options.items() if name not in numbers}
        inputs: dict[str, Any] = {"seeds": checked_seeds(seeds)}
        if labels is not None:
            labels = np.asarray(labels)
            inputs["labels"] = labels.astype(np.float32 if labels.ndim > 1 else np.int32)
        if latents is not None:
            inputs["latents"] = np.asarray(latents, np.float32)
        if conditions is not None:
            inputs["conditions"] = jax.tree.map(np.asarray, conditions)
        n = len(inputs["seeds"])
        for name, tree in inputs.items():
            for values in jax.tree.leaves(tree):
                if len(values) != n:
                    raise ValueError(f"{len(values)} {name} for {n} seeds: expected one for each")
        # Once for all chunks, and only what sampling reads: the optimizers' state stays where it is.
        state = jax.device_put(state.replace(opt_state={}), self._whole)

        def draw(state, inputs, numbers):
            keys = random.from_seeds(inputs["seeds"])
            extra = {"latents": inputs["latents"]} if "latents" in inputs else {}
            given = inputs.get("conditions", inputs.get("labels"))
            return self._gan.sample(state, keys, given, **extra, **options, **numbers)

        # Of another shape it is another program.
        shapes = tuple((x.shape[1:], x.dtype) for x in jax.tree.leaves(inputs))
        forms = jax.tree.structure(inputs), jax.tree.structure(state)
        program = (forms, shapes, tuple(sorted(options.items())), tuple(sorted(numbers)))
        if program not in self._programs:
            self._programs[program] = Program(jax.jit(draw))
        draw_chunk = self._programs[program]
        return in_chunks(
            lambda part: draw_chunk(state, jax.device_put(part, self._split), numbers), inputs, self._chunk
        )


def in_chunks(draw: Callable[[dict[str, Any]], Any], inputs: Mapping[str, Any], chunk: int) -> Any:
    """`draw` of inputs [n, ...] in batches of `chunk`, the last filled up and cut off: float32 [n, ...].

    Inputs may be trees of arrays, and so may be what is drawn.
    """
    n = len(jax.tree.leaves(dict(inputs))[0])
    drawn = []
    for start in range(0, n, chunk):
        count = min(chunk, n - start)

        def part(x: np.ndarray, start: int = start, count: int = count) -> np.ndarray:
            some = x[start : start + count]
            return np.concatenate([some, np.repeat(some[:1], chunk - count, axis=0)])

        samples = draw(jax.tree.map(part, dict(inputs)))
        drawn.append(jax.tree.map(lambda x, count=count: np.asarray(x, np.float32)[:count], samples))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *drawn)


def latents(
    gan: Gan, seeds: Sequence[int] | np.ndarray, options: Mapping[str, Any] | None = None
) -> np.ndarray:
    """The latents [n, Z] of n seeds, with the family's options of drawing them.

    Raises:
      ValueError: the gan has none, or a seed is out of range.
    """
    if gan.latents is None:
        raise ValueError("this model has no latents to go between")
    return np.asarray(gan.latents(random.from_seeds(checked_seeds(seeds)), **(options or {})))


def prepared(
    gan: Gan, state: GanState, options: Mapping[str, Any] | None = None
) -> tuple[GanState, Mapping[str, Any]]:
    """The state that is sampled from in the place of a trained one, and what protocols say of it.

    Raises:
      ValueError: there are options, and the gan prepares nothing.
    """
    if gan.prepare is not None:
        return gan.prepare(state, **(options or {}))
    if options:
        raise ValueError(f"this model has no {', '.join(options)}: it is sampled from as it was trained")
    return state, {}


def checked_seeds(seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    """As uint32 [n]; numpy alone would take an int64 seed modulo 2^32.

    Raises:
      ValueError: there are none, or one is no integer in [0, 2^32).
    """
    values = np.asarray(seeds)
    if values.ndim != 1 or not values.size or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"expected a list of integer seeds; got {values.dtype} {list(values.shape)}")
    for seed in (values.min(), values.max()):
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed {seed}: expected an integer from 0 to {2**32 - 1}")
    return values.astype(np.uint32)


def slerp(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Spherical interpolation (Shoemake 1985; for latents, White 2016).

    Args:
      start, end: [Z].
      t: [T], 0 at the start, 1 at the end.
    Returns:
      float32 [T, Z]. Between parallel vectors, and from or to zero, a straight line; between opposite ones
      too, through zero, because no great circle is the shortest.
    """
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    t = np.asarray(t, np.float64)[:, None]
    lengths = float(np.linalg.norm(start) * np.linalg.norm(end))
    omega = np.arccos(np.clip(np.dot(start, end) / lengths, -1.0, 1.0)) if lengths else 0.0
    if np.sin(omega) < 1e-6:
        return ((1 - t) * start + t * end).astype(np.float32)
    weights = np.sin((1 - t) * omega), np.sin(t * omega)
    return ((weights[0] * start + weights[1] * end) / np.sin(omega)).astype(np.float32)
