"""Images as the FID's Inception sees them: resized to 299x299 and scaled, in three ways that do not agree.

The original graph resizes by TensorFlow 1's bilinear rule, whose pixel 0 lies on pixel 0, so that the image
moves by a part of a pixel; PyTorch's lays centres over centres. Neither widens its filter where the image
shrinks, so that it aliases. Parmar et al. 2022 show what that does to the FID, and filter.

All of them are linear and separable: a matrix for the rows and one for the columns, most of it zeros.

References:
  Parmar, Zhang and Zhu, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", 2022.
  Keys, "Cubic convolution interpolation for digital image processing", 1981.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganjax import errors

SIZE = 299
RESIZERS = ("tf1", "pytorch", "clean")


def check_resizer(name: str) -> str:
    """`name`, if it is one of `RESIZERS`. Raises UsageError otherwise."""
    if name not in RESIZERS:
        raise errors.UsageError(f"resize={name!r}: {errors.nearest(str(name), RESIZERS)}")
    return name


@functools.cache
def matrix(name: str, length: int, size: int = SIZE) -> np.ndarray:
    """What a resizer does along one axis: float64 [size, length], rows adding up to 1.

    Args:
      name: "tf1": output o lies at o * length / size, linear. "pytorch": at (o + 1/2) * length / size - 1/2,
        not before pixel 0, linear. "clean": Keys's cubic with a = -1/2, as many times as wide as the image
        shrinks, cut off at the border and normalised.
      length: pixels of the image, at least 1.
      size: pixels of the result.
    """
    scale = length / size
    rows = np.arange(size)
    weights = np.zeros((size, length))
    if name == "clean":
        # A pixel is an area: its middle is at + 1/2, and what reaches beyond the border is left out.
        width = max(scale, 1.0)
        distance = (np.arange(length)[None] + 0.5 - (rows[:, None] + 0.5) * scale) / width
        weights = _cubic(np.abs(distance))
        # Whole pixels on either side of what the filter spans, rounded, as Pillow has it.
        middle = (rows[:, None] + 0.5) * scale
        first = np.maximum(np.floor(middle - 2 * width + 0.5), 0)
        end = np.minimum(np.floor(middle + 2 * width + 0.5), length)
        pixels = np.arange(length)[None]
        weights = np.where((pixels >= first) & (pixels < end), weights, 0)
        return weights / weights.sum(axis=1, keepdims=True)
    # In float32, as both references reckon: with large images the parts differ in the fourth digit.
    rows, scale, half = rows.astype(np.float32), np.float32(scale), np.float32(0.5)
    place = rows * scale if name == "tf1" else np.maximum((rows + half) * scale - half, 0)
    below = np.minimum(np.floor(place).astype(int), length - 1)
    above = np.minimum(below + 1, length - 1)
    part = place - below.astype(np.float32)
    weights[np.arange(size), below] += 1 - part
    weights[np.arange(size), above] += part
    return weights


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys's kernel at distances of at least 0."""
    a = -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def inception_input(images: jax.Array, name: str) -> jax.Array:
    """What the network is given: resized, and scaled as the resizer's authors scale.

    Args:
      images: uint8 [N, H, W, C]: grey (C = 1), colours (3), or colours and alpha (4), which are laid over
        white and rounded, as a viewer shows them.
      name: one of `RESIZERS`. "tf1" and "clean" scale by (x - 128) / 128, "pytorch" by x / 127.5 - 1.
    Returns:
      float32 [N, 299, 299, 3].
    """
    x = images.astype(jnp.float32)
    if images.shape[3] == 4:
        alpha = x[..., 3:] / 255
        x = jnp.round(x[..., :3] * alpha + 255 * (1 - alpha))
    n, height, width, _ = x.shape
    if (height, width) != (SIZE, SIZE):
        down = jnp.asarray(matrix(name, height), jnp.float32)
        across = jnp.asarray(matrix(name, width), jnp.float32)

        # HIGHEST: accelerators would round pixels to bfloat16, which moves the FID.
        def rows(x: jax.Array) -> jax.Array:
            return jnp.einsum("oh,nhwc->nowc", down, x, precision=lax.Precision.HIGHEST)

        def columns(x: jax.Array) -> jax.Array:
            return jnp.einsum("pw,nowc->nopc", across, x, precision=lax.Precision.HIGHEST)

        # A cubic overshoots; the bilinear ones can't.
        x = jnp.clip(columns(rows(x)), 0, 255)
    x = x / 127.5 - 1 if name == "pytorch" else (x - 128) / 128
    return jnp.broadcast_to(x, (n, SIZE, SIZE, 3))
