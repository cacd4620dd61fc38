"""Images of two domains, A and B, for translation from one to the other: in pairs, or not.

Both are `Source`s whose batches are {"A": [n, H, W, C], "B": [n, H', W', C']}, floats in [-1, 1]. Jitter is
part of the compiled step, and drawn from the key of the example's place in the global batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax.augment import Augmentation
from ganjax.data.dataset import Dataset
from ganjax.data.labelled import Unlabelled
from ganjax.data.source import to_float
from ganjax.data.zip import Zip
from ganjax.gan import Batch, Context

DOMAINS = ("A", "B")

Divide = Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # [n, H, W, C] -> a side of each domain


class Paired(Unlabelled):
    """A set of which each image makes a pair. A `Source`.

    Attributes:
      dataset: the set.
      divide: images, floats [n, H, W, C] in [-1, 1] -> the two sides; pure.
      jitter: what every image goes through before that; None: nothing.
    """

    def __init__(self, dataset: Dataset, divide: Divide, jitter: Augmentation | None = None):
        super().__init__(dataset)
        self.divide, self.jitter = divide, jitter

    def transform(self, batch: Batch, context: Context) -> Batch:
        """Raw images to pairs, jittered alike."""
        images = to_float(batch["image"])
        if self.jitter is not None:
            images = self.jitter(images, context.example_keys("jitter"))
        return dict(zip(DOMAINS, self.divide(images), strict=True))

    def sides(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """The pairs at these places of the set as they are, on the host: float32, by domain."""
        sides = self.divide(to_float(jnp.asarray(self.read(places)["image"])))
        return {name: np.asarray(side) for name, side in zip(DOMAINS, sides, strict=True)}


def by_channels(first: int) -> Divide:
    """The first side of a pair is the first so many channels, as `ganjax.data.pairs` has it."""
    return lambda images: (images[..., :first], images[..., first:])


def edges(images: jax.Array, strength: float = 4.0) -> jax.Array:
    """A drawing of an image: dark lines where its brightness changes, on white.

    The magnitude of Sobel's gradient of the luma, smoothed over 3x3 pixels, times `strength`.

    Args:
      images: floats [n, H, W, 3 or 4] in [-1, 1].
      strength: 4 draws a change of 1/4 of the range, within a pixel, as black.
    Returns:
      [n, H, W, 1] in [-1, 1].
    """
    x = luma(images)[..., 0]

    def along(x: jax.Array, axis: int, before: float, here: float, after: float) -> jax.Array:
        """The sum of a pixel and its neighbours on an axis, times these; the border repeats itself."""
        padded = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="edge")
        size = x.shape[axis]
        first, middle, last = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3))
        return before * first + here * middle + after * last

    for axis in (1, 2):
        x = along(x, axis, 0.25, 0.5, 0.25)
    slopes = [along(along(x, axis, -0.5, 0.0, 0.5), 3 - axis, 0.25, 0.5, 0.25) for axis in (1, 2)]
    magnitude = jnp.sqrt(jnp.square(slopes[0]) + jnp.square(slopes[1]))
    return (1 - 2 * jnp.minimum(strength * magnitude, 1))[..., None]


def luma(images: Any) -> Any:
    """[..., 3 or 4] -> [..., 1], by the weights of ITU-R BT.601, as Pillow makes images grey."""
    return 0.299 * images[..., :1] + 0.587 * images[..., 1:2] + 0.114 * images[..., 2:3]


class Unpaired(Zip):
    """Two sets, each in an order of its own; they need not be of one size. A `Source`.

    Args:
      a: of domain A.
      b: of domain B.
      jitter: what every image goes through; None: nothing.
    """

    def __init__(self, a: Dataset, b: Dataset, jitter: Augmentation | None = None):
        super().__init__({"A": a, "B": b})
        self.datasets, self.jitter = {"A": a, "B": b}, jitter

    def transform(self, batch: Batch, context: Context) -> Batch:
        """Raw images to what losses see, each jittered by itself."""
        images = {name: to_float(batch[name]["image"]) for name in DOMAINS}
        if self.jitter is None:
            return images
        return {
            name: self.jitter(some, context.example_keys(f"jitter {name}")) for name, some in images.items()
        }

    def sides(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """The images at these places of both sets as they are, on the host: float32, by domain.

        A set that is smaller begins again.
        """
        return {
            name: np.asarray(to_float(jnp.asarray(data.read(places % data.num_examples)["image"])))
            for name, data in self.datasets.items()
        }
