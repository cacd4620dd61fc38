"""Samples by seed: one seed is one latent, whatever the batch or the device."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import random
from ganjax.gan import Gan, GanState
from ganjax.parallel import Program


class Sampler:
    """Draws from a trained `Gan` in batches of one fixed size, so that a picture has the same bytes
    whatever it is drawn along with.

    Args:
      gan: its `sample` draws.
      chunk: how many at a time; the last batch is filled up and cut off.
    """

    def __init__(self, gan: Gan, chunk: int = 64):
        self._gan, self._chunk = gan, chunk
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
        options: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Images, float32 [n, H, W, C] in [-1, 1], on the host.

        Args:
          state: of the gan, on the host or one device.
          seeds: n integers in [0, 2^32).
          labels: n labels for a conditional model.
          latents: [n, Z] in place of those that the seeds give.
          options: the family's own, static.
        """
        options = dict(options or {})
        inputs: dict[str, np.ndarray] = {"seeds": np.asarray(seeds, np.uint32)}
        if labels is not None:
            inputs["labels"] = np.asarray(labels, np.int32)
        if latents is not None:
            inputs["latents"] = np.asarray(latents, np.float32)
        # Only what sampling reads; the optimizers' state stays where it is.
        state = state.replace(opt_state={})

        def draw(state, inputs):
            keys = random.from_seeds(inputs["seeds"])
            extra = {"latents": inputs["latents"]} if "latents" in inputs else {}
            return self._gan.sample(state, keys, inputs.get("labels"), **extra, **options)

        name = (tuple(inputs), tuple(sorted(options.items())))
        if name not in self._programs:
            self._programs[name] = Program(jax.jit(draw))
        n = len(inputs["seeds"])
        images = []
        for start in range(0, n, self._chunk):
            part = {k: v[start : start + self._chunk] for k, v in inputs.items()}
            count = len(part["seeds"])
            fill = self._chunk - count
            part = {k: np.concatenate([v, np.repeat(v[:1], fill, axis=0)]) for k, v in part.items()}
            images.append(np.asarray(self._programs[name](state, part), np.float32)[:count])
        return np.concatenate(images)


def latents(gan: Gan, seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    """The latents [n, Z] of n seeds. Raises ValueError if the gan has none."""
    if gan.latents is None:
        raise ValueError("this model has no latents to go between")
    return np.asarray(gan.latents(random.from_seeds(jnp.asarray(np.asarray(seeds, np.uint32)))))


def slerp(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Spherical interpolation (Shoemake 1985; for latents, White 2016).

    Args:
      start, end: [Z].
      t: [T], 0 at the start, 1 at the end.
    Returns:
      [T, Z].
    """
    cosine = np.dot(start, end) / max(float(np.linalg.norm(start) * np.linalg.norm(end)), 1e-12)
    omega = np.arccos(np.clip(cosine, -1.0, 1.0))
    t = np.asarray(t, np.float64)[:, None]
    if np.sin(omega) < 1e-6:  # parallel: a straight line is the limit
        return ((1 - t) * start + t * end).astype(np.float32)
    weights = np.sin((1 - t) * omega), np.sin(t * omega)
    return ((weights[0] * start + weights[1] * end) / np.sin(omega)).astype(np.float32)
