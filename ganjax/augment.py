"""Augmentations inside the training step, and noise that is annealed away.

An augmentation is a function

    (images [n, H, W, C] in [-1, 1], PRNG keys [n]) -> images of the same shape

that is differentiable in the images, so that the generator can learn through it. One key is one draw: what
happens to an example depends on its key alone, not on its companions or on how many devices share the batch.
Any size and number of channels will do.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import random
from ganjax.errors import nearest

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]


def diff_augment(policy: str = "color,translation,cutout") -> Augmentation:
    """DiffAugment: everything that the discriminator sees, real and generated, in both players' phases.

    Args:
      policy: the words "color", "translation" and "cutout", in the order in which they are applied, between
        commas; "" changes nothing.
    Raises:
      ValueError: for another word.
    References:
      Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training": `color`, `translate`
      by up to 1/8 of the size, `cutout` of half the size.
    """
    words = [word.strip() for word in policy.split(",")] if policy.strip() else []
    for word in words:
        if word not in _WORDS:
            raise ValueError(f"augmentation policy {policy!r}: no {word!r}; {nearest(word, list(_WORDS))}")
    steps = [(f"{i} {word}", _WORDS[word]) for i, word in enumerate(words)]

    def augment(images: jax.Array, keys: jax.Array) -> jax.Array:
        for name, step in steps:
            images = step(images, _streams(keys, name))
        return images

    return augment


def color(images: jax.Array, keys: jax.Array) -> jax.Array:
    """Brightness, saturation and contrast of DiffAugment, in this order.

    Uniform draws: -0.5 to 0.5 is added; the difference from a pixel's mean over the channels is multiplied by
    0 to 2 (nothing for one channel); that from the image's mean by 0.5 to 1.5. Values may leave [-1, 1].
    """
    images = images + (_draw(images, keys, "brightness") - 0.5)
    grey = jnp.mean(images, axis=3, keepdims=True)
    images = grey + 2.0 * _draw(images, keys, "saturation") * (images - grey)
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return mean + (0.5 + _draw(images, keys, "contrast")) * (images - mean)


def translation(images: jax.Array, keys: jax.Array, share: float = 0.125) -> jax.Array:
    """Moved by whole pixels along both axes, by up to `share` of the size either way; zeros move in."""
    for axis, name in ((1, "move rows"), (2, "move columns")):
        size = images.shape[axis]
        largest = int(size * share + 0.5)
        by = random.randint(_streams(keys, name), -largest, largest + 1)
        images = take_along(images, jnp.arange(size)[None] - by[:, None], axis)
    return images


def cutout(images: jax.Array, keys: jax.Array, share: float = 0.5) -> jax.Array:
    """Zeros in a rectangle of `share` of the height and of the width, whose centre is uniform over the image;
    what sticks out of the image is cut off."""
    outside = []
    for axis, name in ((1, "cut rows"), (2, "cut columns")):
        size = images.shape[axis]
        length = int(size * share + 0.5)
        # An even length has no middle pixel: its centre is between pixels or at one of the two ends.
        centre = random.randint(_streams(keys, name), 0, size + 1 - length % 2)[:, None]
        places = jnp.arange(size)[None]
        first = centre - length // 2
        outside.append((places < first) | (places >= first + length))
    keep = outside[0][:, :, None, None] | outside[1][:, None, :, None]
    return jnp.where(keep, images, 0.0)


def flip_and_shift(max_shift: int = 4, *, flip: bool = True) -> Augmentation:
    """A mirror image in half of the cases, moved by up to `max_shift` pixels along both axes either way.

    The image's reflection moves in, so that a background has no seam.

    Args:
      max_shift: 0 or more; ValueError for images that are no larger than that.
      flip: left to right; digits and letters must not be flipped.
    References:
      Zhang et al. 2020, "Consistency regularization for generative adversarial networks", section 3.
    """
    if max_shift < 0:
        raise ValueError(f"flip_and_shift({max_shift}): expected a number of pixels, 0 or more")

    def augment(images: jax.Array, keys: jax.Array) -> jax.Array:
        if min(images.shape[1:3]) <= max_shift:
            raise ValueError(
                f"flip_and_shift({max_shift}): images {images.shape[1:3]} must be larger than the shift"
            )
        for axis, name in ((1, "shift rows"), (2, "shift columns")):
            size = images.shape[axis]
            by = random.randint(_streams(keys, name), -max_shift, max_shift + 1)
            source = jnp.abs(jnp.arange(size)[None] - by[:, None])
            source = (size - 1) - jnp.abs((size - 1) - source)
            if axis == 2 and flip:
                mirrored = random.uniform(_streams(keys, "flip"), ()) < 0.5
                source = jnp.where(mirrored[:, None], (size - 1) - source, source)
            images = take_along(images, source, axis)
        return images

    return augment


def jitter(enlarge: float, *, flip: bool = True) -> Augmentation:
    """An image that is resized to a larger one, cropped back at a random place, and mirrored in half of the
    cases: of translations from image to image, of both images of a pair.

    Bilinear. An enlargement of 0.117 brings 256 pixels to 286.

    Args:
      enlarge: the share by which height and width grow, 0 or more; the larger size is rounded to whole pixels
        and every place within it is as likely.
      flip: left to right.
    Raises:
      ValueError: a share below 0.
    References:
      Isola et al. 2017, "Image-to-image translation with conditional adversarial networks", appendix 6.2.
    """
    if not enlarge >= 0:
        raise ValueError(f"jitter({enlarge}): expected a share of at least 0")

    def augment(images: jax.Array, keys: jax.Array) -> jax.Array:
        for axis, name in ((1, "jitter rows"), (2, "jitter columns")):
            size = images.shape[axis]
            larger = round(size * (1 + enlarge))
            first = random.randint(_streams(keys, name), 0, larger - size + 1)
            # The centres of the crop's pixels, in pixels of the image, and at the border the border.
            places = jnp.arange(size)[None] + first[:, None]
            source = jnp.clip((places + 0.5) * (size / larger) - 0.5, 0, size - 1)
            if axis == 2 and flip:
                mirrored = random.uniform(_streams(keys, "flip"), ()) < 0.5
                source = jnp.where(mirrored[:, None], size - 1 - source, source)
            # Of two copies, for these are exact: in one product with the weights of both neighbours what an
            # example's rounds to would hang on how many stand beside it.
            before = jnp.floor(source).astype(jnp.int32)
            share = jnp.expand_dims(source - before, (2, 3) if axis == 1 else (1, 3)).astype(images.dtype)
            least, most = (take_along(images, place, axis) for place in (before, before + 1))
            images = (1 - share) * least + share * most
        return images

    return augment


def distort(turn: float, stretch: float = 0.0, elastic: float = 0.0) -> Augmentation:
    """An image that is turned around its middle, stretched, differently along its two axes, and bent.

    Uniform draws: of the angle, in [-turn, turn]; of the logarithms of the two factors, in
    [-log(1 + stretch), log(1 + stretch)]. Besides, each pixel is moved along either axis by a normal draw
    that changes smoothly from pixel to pixel, over about a seventh of the side. What is at the border is
    repeated outside of it. Pixels are interpolated along each axis once.

    Args:
      turn: degrees, in [0, 45].
      stretch: a share of the size, 0 or more.
      elastic: pixels, the standard deviation of a pixel's own way, 0 or more.
    Raises:
      ValueError: a number out of its range.
    References:
      Catmull & Smith 1980, "3-D transformations of images in scanline order": in two passes, one an axis.
      Simard, Steinkraus & Platt 2003, "Best practices for convolutional neural networks applied to visual
      document analysis": elastic deformations (of 1.4 pixels, for digits of 29x29).
    """
    distorted = distort_and_tell(turn, stretch, elastic)
    return lambda images, keys: distorted(images, keys)[0]


def distort_and_tell(
    turn: float, stretch: float = 0.0, elastic: float = 0.0
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """`distort`, whose arguments, errors and sources are these too, for who predicts angles.

    Returns:
      (images [n, H, W, C], PRNG keys [n]) -> images [n, H, W, C], and the degrees [n], in [-turn, turn], by
      which each was turned, counterclockwise.
    """
    if not 0 <= turn <= 45:
        raise ValueError(f"distort(turn={turn}): expected degrees from 0 to 45")
    if not stretch >= 0:
        raise ValueError(f"distort(stretch={stretch}): expected a share of at least 0")
    if not elastic >= 0:
        raise ValueError(f"distort(elastic={elastic}): expected pixels, at least 0")

    def augment(images: jax.Array, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        names = ("turn", "stretch rows", "stretch columns")
        share, rows, columns = (2 * random.uniform(_streams(keys, name), (1, 1)) - 1 for name in names)
        angle, largest = jnp.deg2rad(turn) * share, jnp.log1p(jnp.float32(stretch))
        high, wide = jnp.exp(largest * rows), jnp.exp(largest * columns)
        # From the middle: row v and column u of the result are of row y and column x of the image,
        #     x = (u cos + v sin) / wide,  y = (v cos - u sin) / high.
        # The first pass brings x to u within a row y, the second y to v within a column u.
        height, width = images.shape[1:3]
        down = (jnp.arange(height) - (height - 1) / 2)[None, :, None]
        right = (jnp.arange(width) - (width - 1) / 2)[None, None, :]
        x = (right / jnp.cos(angle) + down * high * jnp.tan(angle)) / wide
        y = (down * jnp.cos(angle) - right * jnp.sin(angle)) / high
        if elastic:
            x = x + elastic * _smooth(_streams(keys, "elastic columns"), height, width)
            y = y + elastic * _smooth(_streams(keys, "elastic rows"), height, width)
        images = _along_rows(images, x + (width - 1) / 2)
        turned = _along_rows(jnp.swapaxes(images, 1, 2), jnp.swapaxes(y, 1, 2) + (height - 1) / 2)
        # Rows grow downwards: what is turned from x to y is turned clockwise.
        return jnp.swapaxes(turned, 1, 2), -turn * share[:, 0, 0]

    return augment


def instance_noise(images: jax.Array, keys: jax.Array, sigma: float | jax.Array) -> jax.Array:
    """Normal noise of standard deviation `sigma` on everything that the discriminator sees.

    Args:
      images: [n, ...], of any rank: points [n, 2] too.
      keys: PRNG keys [n].
      sigma: a scalar, which may be traced: `anneal(0.1, steps)(step)`.
    References:
      Sønderby et al. 2017, "Amortised MAP inference for image super-resolution"; Arjovsky & Bottou 2017.
    """
    return images + jnp.asarray(sigma, images.dtype) * random.normal(keys, images.shape[1:], images.dtype)


def anneal(start: float, steps: int) -> Callable[[jax.Array], jax.Array]:
    """`start` at step 0, on a straight line to 0 at step `steps`, then 0. ValueError for steps < 1."""
    if steps < 1:
        raise ValueError(f"anneal(steps={steps}): expected at least 1")
    return lambda step: start * jnp.clip((steps - jnp.asarray(step)) / steps, 0.0, 1.0)


_WORDS: dict[str, Augmentation] = {"color": color, "translation": translation, "cutout": cutout}


def _streams(keys: jax.Array, name: str) -> jax.Array:
    """Keys [n] of the stream `name` under each of `keys`."""
    return jax.vmap(lambda key: random.stream(key, name))(keys)


def _draw(images: jax.Array, keys: jax.Array, name: str) -> jax.Array:
    """Uniform in [0, 1), [n, 1, 1, 1]."""
    return random.uniform(_streams(keys, name), (1, 1, 1), images.dtype)


def _smooth(keys: jax.Array, height: int, width: int) -> jax.Array:
    """Normal draws [n, height, width], of neighbours nearly the same one: smoothed by a Gaussian whose
    standard deviation is a seventh of the side."""

    def weights(size: int) -> jax.Array:
        """[size, knots]: the normal draws at knots a seventh apart, two beyond each border, are mixed."""
        radius = size / 7
        knots = radius * np.arange(-2, 10)
        mixed = np.exp(-0.5 * np.square((np.arange(size)[:, None] + 0.5 - knots) / radius))
        return jnp.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), jnp.float32)

    down, right = weights(height), weights(width)
    drawn = random.normal(keys, (down.shape[1], right.shape[1]))
    return jnp.einsum("hk,nkl,wl->nhw", down, drawn, right, precision=jax.lax.Precision.HIGHEST)


def take_along(images: jax.Array, source: jax.Array, axis: int) -> jax.Array:
    """Along `axis` (1 or 2), place i of an example gets what was at place source[n, i], 0 if that is outside.

    As a product with a matrix of zeros and ones: exact at the highest precision, and derivatives of any order
    are products too, where a gather has scatters, which accelerators add up in an order of their own.
    """
    matrix = jax.nn.one_hot(source, images.shape[axis], dtype=images.dtype)
    pattern = "nij,njwc->niwc" if axis == 1 else "nij,nhjc->nhic"
    return jnp.einsum(pattern, matrix, images, precision=jax.lax.Precision.HIGHEST)


def _along_rows(images: jax.Array, source: jax.Array) -> jax.Array:
    """Within its row h, place i of an example gets what is at place source[n, h, i], between two pixels their
    mean by nearness, and outside of the image the border. As products, for `take_along`'s reasons."""
    size = images.shape[2]
    source = jnp.clip(source, 0, size - 1)[..., None]
    shares = jnp.maximum(0, 1 - jnp.abs(source - jnp.arange(size)[None, None, None])).astype(images.dtype)
    return jnp.einsum("nhij,nhjc->nhic", shares, images, precision=jax.lax.Precision.HIGHEST)
