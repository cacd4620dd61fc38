"""Mixtures of Gaussians in the plane: data of which all is known, so that lost modes can be counted."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from ganjax import random
from ganjax.gan import Batch, Context

_MARGIN = 5  # standard deviations beyond the outermost centre: less than one example in 100,000 lies outside


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """Equally likely, round Gaussians: as many different points as a run asks for. A `Source`.

    An example is a mode's number on the host, drawn uniformly and independently; the compiled step adds the
    noise, from the key of the example's place in the global batch. Networks see points divided by `scale`, so
    that they lie in [-1, 1] but for the noise of a few.

    Attributes:
      name: what to call it.
      centers: float32 [K, 2].
      std: of each mode, in both coordinates, above 0.
      conditional: batches have the mode's number as a label.
      num_classes: K if conditional, else 0.
      image_shape: (2,), of one example as networks see it.
      scale: what points are divided by for networks: the largest coordinate of a centre, and 5 `std`.
    Raises:
      ValueError: another shape, or `std` is not above 0.
    """

    name: str
    centers: np.ndarray
    std: float
    conditional: bool = False
    num_classes: int = dataclasses.field(init=False)
    image_shape: tuple[int, ...] = dataclasses.field(default=(2,), init=False)
    scale: float = dataclasses.field(init=False)

    def __post_init__(self):
        centers = np.array(self.centers, np.float32)
        if centers.ndim != 2 or centers.shape[1] != 2 or not len(centers) or not np.isfinite(centers).all():
            raise ValueError(f"{self.name}: centers {list(centers.shape)}: expected finite [K, 2], K >= 1")
        if not 0 < self.std < np.inf:
            raise ValueError(f"{self.name}: std={self.std}: expected a number above 0")
        centers.flags.writeable = False
        object.__setattr__(self, "centers", centers)
        object.__setattr__(self, "num_classes", len(centers) if self.conditional else 0)
        object.__setattr__(self, "scale", float(np.abs(centers).max() + _MARGIN * self.std))

    def indices(self, seed: int, start: int, count: int) -> np.ndarray:
        """The modes of the examples after the run's first `start`: int64 [count], independent and uniform."""
        # Raw words of a counter: numpy promises that they stay as they are, and any place can be reached.
        bits = np.random.Philox(np.random.SeedSequence(seed))
        bits.advance(start // 4)  # a step of the counter gives four words
        words = bits.random_raw(start % 4 + count)[start % 4 :]
        return (words % np.uint64(len(self.centers))).astype(np.int64)

    def example(self, count: int) -> dict[str, np.ndarray]:
        """Zeros of the form that `read` gives."""
        return {"mode": np.zeros(count, np.int32)}

    def read(self, indices: Any) -> dict[str, np.ndarray]:
        """The modes again: "mode" int32 [n]."""
        return {"mode": np.asarray(indices, np.int32)}

    def resident(self) -> dict[str, np.ndarray]:
        """Every mode's number once, for an accelerator to gather from."""
        return {"mode": np.arange(len(self.centers), dtype=np.int32)}

    def transform(self, batch: Batch, context: Context) -> Batch:
        """Modes to points: "image" float32 [n, 2], divided by `scale`; if conditional, "label" int32 [n]."""
        noise = random.normal(context.example_keys("noise of the plane"), (2,))
        points = (jnp.asarray(self.centers)[batch["mode"]] + self.std * noise) / self.scale
        return {"image": points, "label": batch["mode"]} if self.conditional else {"image": points}

    def points(self, samples: Any) -> np.ndarray:
        """What a network made, float [n, 2], in the units of `centers` and `std`: float64 [n, 2].

        Raises:
          ValueError: another shape.
        """
        samples = np.asarray(samples, np.float64)
        if samples.ndim != 2 or samples.shape[1] != 2:
            raise ValueError(f"{self.name}: samples {list(samples.shape)}: expected points [n, 2]")
        return samples * self.scale


def ring(modes: int = 8, radius: float = 2.0, std: float = 0.02, *, conditional: bool = False) -> Mixture:
    """Modes on a circle, the first at (radius, 0).

    By default those of Metz et al. 2017, "Unrolled Generative Adversarial Networks", appendix A: eight, of
    standard deviation 0.02, on a circle of radius 2. (The ring of Lin et al. 2018, "PacGAN", has radius 1 and
    standard deviation 0.01: the same picture at half the size.)

    Raises:
      ValueError: there is no mode, or `radius` or `std` is not above 0.
    """
    if modes < 1 or not 0 < radius < np.inf:
        raise ValueError(
            f"ring of modes={modes}, radius={radius}: expected at least 1 mode, a radius above 0"
        )
    angles = 2 * np.pi * np.arange(modes) / modes
    return Mixture("ring", radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), std, conditional)


def grid(side: int = 5, spacing: float = 2.0, std: float = 0.05, *, conditional: bool = False) -> Mixture:
    """Modes on a square grid around the origin, row by row from below, left to right.

    By default those of Lin et al. 2018, "PacGAN", after Dumoulin et al. 2017 and Srivastava et al. 2017
    ("VEEGAN"): five by five, at -4, -2, 0, 2 and 4, of standard deviation 0.05.

    Raises:
      ValueError: there is no mode, or `spacing` or `std` is not above 0.
    """
    if side < 1 or not 0 < spacing < np.inf:
        raise ValueError(f"grid of side={side}, spacing={spacing}: expected at least 1, and above 0")
    places = spacing * (np.arange(side) - (side - 1) / 2)
    centers = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
    return Mixture("grid", centers, std, conditional)
