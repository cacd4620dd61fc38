"""The augmentations of ADA (Karras et al. 2020, "Training generative adversarial networks with limited data",
appendix B): eighteen transforms in six groups, each applied to an image with a probability p.

As long as p is below 1, or a little less, the distribution of augmented images tells that of the images
themselves, so that a generator whose images are augmented before the discriminator sees them learns to make
images that are not: the transforms do not leak.

    augment = ada("blit,geom,color")
    images = augment(images, keys, p)

It is differentiable in the images, and an example's draws come from its key alone. All groups do something
for images of one, three and four channels and of any height and width. What the groups draw:

    blit     x-flip; turns by 90 degrees (by 180 where an image is not square); shifts by whole pixels, up to
             1/8 of the size
    geom     isotropic scaling by 2^(0.2 N); rotation by any angle; scaling of one axis against the other by
             2^(0.2 N); another rotation; shifts by 0.125 N of the size. N is standard normal
    color    brightness + 0.2 N; contrast * 2^(0.5 N); inverted luma; rotated hue; saturation * 2^N
    filter   four frequency bands, each * 2^N, at a constant power
    noise    0.1 |N| times noise of every pixel
    cutout   zeros in a rectangle of half the height and width
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import random
from ganjax.augment import take_along
from ganjax.errors import nearest
from ganjax.layers.resample import upfirdn

GROUPS = ("blit", "geom", "color", "filter", "noise", "cutout")
DEFAULT = "blit,geom,color"

# An orthonormal wavelet's low-pass filter of twelve taps with six vanishing moments, nearly symmetric
# (Daubechies 1992, "Ten lectures on wavelets", symlets, table 6.3).
SYM6 = np.array(
    [
        0.015404109327027373,
        0.0034907120842174702,
        -0.11799011114819057,
        -0.048311742585633,
        0.4910559419267466,
        0.787641141030194,
        0.3379294217276218,
        -0.07263752278646252,
        -0.021060292512300564,
        0.04472490177066578,
        0.0017677118642428036,
        -0.007800708325034148,
    ]
)
# The one of four taps, in closed form.
SYM2 = np.array([1 - 3**0.5, 3 - 3**0.5, 3 + 3**0.5, 1 + 3**0.5]) / (4 * 2**0.5)

# Around an image that is twice as large, what the filter that shrinks it again reaches.
_REACH = len(SYM6) // 2 - 1
# Pixel i of an enlarged image is around 2 i plus this: where the filter's centre of mass is, which is not its
# middle, so that what is smooth is turned about the image's middle. To 1 / 32, so that places are exact.
_CENTRE = float(np.round(32 * (np.arange(len(SYM6)) @ SYM6 / SYM6.sum() - _REACH)) / 32)

# The share of the power of natural images that is in each band, lowest first: as 1 / f, about.
BAND_POWER = np.array([10.0, 1.0, 1.0, 1.0]) / 13.0

Augmentation = Callable[[jax.Array, jax.Array, jax.Array | float], jax.Array]


def groups_of(policy: str) -> tuple[str, ...]:
    """The groups that a policy, words between commas, names, in the order in which they are applied.

    Raises:
      ValueError: for another word, or one that is said twice.
    """
    words = [word.strip() for word in policy.split(",")] if policy.strip() else []
    for word in words:
        if word not in GROUPS:
            raise ValueError(f"augmentation groups {policy!r}: no {word!r}; {nearest(word, list(GROUPS))}")
        if words.count(word) > 1:
            raise ValueError(f"augmentation groups {policy!r}: {word!r} is there twice")
    return tuple(group for group in GROUPS if group in words)


def ada(policy: str = DEFAULT) -> Augmentation:
    """(images [n, H, W, C] in [-1, 1], keys [n], p) -> images, each transform applied with probability p.

    Args:
      policy: names of groups between commas; "" changes nothing.
    Raises:
      ValueError: for another word; the augmentation raises it for images of other than 1, 3 or 4 channels, or
        with sides below 2.
    """
    groups = groups_of(policy)

    def augment(images: jax.Array, keys: jax.Array, p: jax.Array | float) -> jax.Array:
        _, height, width, channels = images.shape
        if channels not in (1, 3, 4) or min(height, width) < 2:
            raise ValueError(f"ada: images of 1, 3 or 4 channels, 2x2 at least; got {images.shape}")
        draw = Draws(keys, p, images.dtype)
        if "blit" in groups:
            images = blit(images, *draw.blits(height, width))
        if "geom" in groups:
            images = warp(images, draw.geometry(height, width))
        if "color" in groups:
            images = recolour(images, draw.colours())
        if "filter" in groups:
            images = filter_bands(images, draw.gains())
        if "noise" in groups:
            noise = random.normal(random.streams(keys, "noise"), images.shape[1:], images.dtype)
            images = images + _beside(draw.noise(), images) * noise
        if "cutout" in groups:
            images = cut(images, *draw.cuts())
        return images

    return augment


class Draws:
    """What happens to each of n images: by its key, [n] of every kind.

    Attributes:
      keys: PRNG keys [n].
      p: the probability of each transform.
      dtype: of what is drawn.
    """

    def __init__(self, keys: jax.Array, p: jax.Array | float, dtype: jnp.dtype):
        self.keys, self.p, self.dtype = keys, jnp.asarray(p, jnp.float32), dtype
        # One draw of each kind for all transforms: each is named by its place.
        self._uniform = random.uniform(random.streams(keys, "uniform"), (len(_UNIFORM),))
        self._normal = random.normal(random.streams(keys, "normal"), (len(_NORMAL),))

    def uniform(self, name: str) -> jax.Array:
        """[n] in [0, 1)."""
        return self._uniform[:, _UNIFORM.index(name)]

    def normal(self, name: str) -> jax.Array:
        """[n]."""
        return self._normal[:, _NORMAL.index(name)].astype(self.dtype)

    def happens(self, name: str, p: jax.Array | None = None) -> jax.Array:
        """bool [n]: whether a transform is applied, with probability p."""
        return self.uniform(f"{name} happens") < (self.p if p is None else p)

    def if_it_happens(self, name: str, value: jax.Array, otherwise: float, p: jax.Array | None = None):
        """[n]: what a transform is done with; `otherwise`, which does nothing, where it does not happen."""
        value = value.astype(self.dtype)
        return jnp.where(self.happens(name, p), value, jnp.asarray(otherwise, self.dtype))

    def power_of_two(self, name: str, deviation: float) -> jax.Array:
        """[n]: 2 to the power of a normal number; 1 where the transform does not happen."""
        return self.if_it_happens(name, jnp.exp2(deviation * self.normal(name)), 1.0)

    def angle(self, name: str, p: jax.Array | None = None) -> jax.Array:
        """[n], uniform between -pi and pi; 0 where the transform does not happen."""
        return self.if_it_happens(name, (2.0 * self.uniform(name) - 1.0) * math.pi, 0.0, p)

    def blits(self, height: int, width: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Whether an image is flipped, bool [n]; by how many right angles it is turned, and by how many
        rows and columns it is moved, int32 [n]."""
        flip = self.happens("flip") & (self.uniform("flip") < 0.5)
        kinds, angle = (4, 1) if height == width else (2, 2)
        turns = jnp.where(self.happens("turn"), jnp.floor(self.uniform("turn") * kinds) * angle, 0)
        shift = self.happens("shift")
        moves = [
            jnp.where(shift, jnp.round((2.0 * self.uniform(name) - 1.0) * 0.125 * size), 0)
            for name, size in (("shift rows", height), ("shift columns", width))
        ]
        return flip, turns.astype(jnp.int32), moves[0].astype(jnp.int32), moves[1].astype(jnp.int32)

    def geometry(self, height: int, width: int) -> jax.Array:
        """Matrices [n, 2, 3], as `warp` takes them."""
        # Of the two rotations, around the one scaling of an axis, one at least happens with probability p.
        once = 1.0 - jnp.sqrt(1.0 - self.p)
        scale, stretch = self.power_of_two("scale", 0.2), self.power_of_two("stretch", 0.2)
        before, after = self.angle("rotate before", once), self.angle("rotate after", once)
        moves = [
            self.if_it_happens("move", 0.125 * size * self.normal(f"move {axis}"), 0.0)
            for axis, size in (("rows", height), ("columns", width))
        ]
        # From an output's place to its input's: the inverses, the last transform's first.
        stretched = jnp.stack([stretch, 1.0 / stretch], axis=-1)[:, :, None] / scale[:, None, None]
        matrix = _rotation(-before) @ (stretched * _rotation(-after))
        back = -jnp.stack(moves, axis=-1)[:, :, None]
        return jnp.concatenate([matrix, matrix @ back], axis=2)

    def colours(self) -> jax.Array:
        """Matrices [n, 3, 4]: colours to colours, and what is added."""
        grey = jnp.full((3,), 3**-0.5, self.dtype)
        onto_grey = jnp.outer(grey, grey)[None]
        rest = jnp.eye(3, dtype=self.dtype)[None] - onto_grey
        # Around the axis of greys (Rodrigues): cos of what is orthogonal to it, sin of the cross product.
        across = jnp.asarray([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], self.dtype)[None] * (3**-0.5)
        added = self.if_it_happens("brightness", 0.2 * self.normal("brightness"), 0.0)
        contrast = self.power_of_two("contrast", 0.5)
        inverted = self.if_it_happens("luma", jnp.where(self.uniform("luma") < 0.5, -1.0, 1.0), 1.0)
        hue = self.angle("hue")
        saturation = self.power_of_two("saturation", 1.0)
        luma = inverted * contrast
        colour = saturation * contrast
        matrix = _beside(luma, onto_grey) * onto_grey + _beside(colour, rest) * (
            _beside(jnp.cos(hue), rest) * rest + _beside(jnp.sin(hue), across) * across
        )
        offset = jnp.broadcast_to((luma * added)[:, None, None], (len(luma), 3, 1))
        return jnp.concatenate([matrix, offset], axis=2)

    def gains(self) -> jax.Array:
        """Of four frequency bands, lowest first: [n, 4]."""
        power = jnp.asarray(BAND_POWER, self.dtype)[None]
        gains = jnp.ones((self.keys.shape[0], 4), self.dtype)
        for band in range(4):
            gain = self.power_of_two(f"band {band}", 1.0)
            one = jnp.where(jnp.arange(4)[None] == band, gain[:, None], jnp.ones((), self.dtype))
            gains = gains * one / jnp.sqrt(jnp.sum(power * jnp.square(one), axis=1, keepdims=True))
        return gains

    def noise(self) -> jax.Array:
        """Standard deviations [n]."""
        return self.if_it_happens("noise", 0.1 * jnp.abs(self.normal("noise")), 0.0)

    def cuts(self) -> tuple[jax.Array, jax.Array]:
        """What `cut` takes: places [n, 2] and sizes [n]."""
        places = jnp.stack([self.uniform("cut rows"), self.uniform("cut columns")], axis=-1)
        size = self.if_it_happens("cut", jnp.full(places.shape[:1], 0.5), 0.0)
        return places.astype(self.dtype), size


_NORMAL = (
    *("scale", "stretch", "move rows", "move columns", "brightness", "contrast", "saturation", "noise"),
    *(f"band {band}" for band in range(4)),
)
_UNIFORM = (
    *("flip", "turn", "shift rows", "shift columns", "rotate before", "rotate after", "luma", "hue"),
    *("cut rows", "cut columns"),
    *(
        f"{name} happens"
        for name in (
            *("flip", "turn", "shift", "scale", "rotate before", "stretch", "rotate after", "move"),
            *("brightness", "contrast", "luma", "hue", "saturation", "noise", "cut"),
            *(f"band {band}" for band in range(4)),
        )
    ),
)


def _beside(values: jax.Array, like: jax.Array) -> jax.Array:
    """[n] as [n, 1, ...], to broadcast against `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _rotation(angle: jax.Array) -> jax.Array:
    """[n] -> [n, 2, 2], of (row, column)."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)


def _reflected(places: jax.Array, size: int) -> jax.Array:
    """Places beyond an image's outer pixels, 0 and size - 1, mirrored at them as often as it takes."""
    last = size - 1
    places = jnp.mod(jnp.abs(places), 2 * last)
    return last - jnp.abs(last - places)


def blit(
    images: jax.Array, flip: jax.Array, turns: jax.Array, rows: jax.Array, columns: jax.Array
) -> jax.Array:
    """Images that are flipped left to right, turned and moved, in this order; pixels as they were.

    Args:
      images: [n, H, W, C].
      flip: bool [n].
      turns: int [n], right angles counter-clockwise, 0 to 3; 0 or 2 where the image is not square.
      rows, columns: int [n], by how much they are moved down and to the right; the reflection moves in.
    """
    height, width = images.shape[1:3]
    if height == width:
        # One right angle here; turns by 0 or 180 degrees, which remain, are mirrored rows and columns.
        quarter = _beside(turns % 2 == 1, images)
        images = jnp.where(quarter, _turned(images, flip), images)
        flip = flip & (turns % 2 == 0)
    half = turns >= 2
    row = _reflected(jnp.arange(height)[None] - rows[:, None], height)
    column = _reflected(jnp.arange(width)[None] - columns[:, None], width)
    row = jnp.where(half[:, None], height - 1 - row, row)
    column = jnp.where((half ^ flip)[:, None], width - 1 - column, column)
    return take_along(take_along(images, row, 1), column, 2)


def _turned(images: jax.Array, flip: jax.Array) -> jax.Array:
    """Square images that were flipped, where that is so, by a right angle counter-clockwise."""
    flipped = jnp.where(_beside(flip, images), images[:, :, ::-1], images)
    return flipped.swapaxes(1, 2)[:, ::-1]


def warp(images: jax.Array, matrices: jax.Array) -> jax.Array:
    """Images under affine maps, as the paper does it: at twice the size, enlarged and shrunk by a wavelet's
    filters, so that the identity gives the image back; in between each pixel is looked up bilinearly.

    Beyond an image is its reflection.

    Args:
      images: [n, H, W, C].
      matrices: [n, 2, 3], from the place of an output pixel (its row and column, from the image's centre, and
        1) to that in the input.
    Returns:
      [n, H, W, C].
    """
    n, height, width, channels = images.shape
    filter = SYM6 / SYM6.sum()
    pad = [(0, 0), (_REACH, _REACH), (_REACH, _REACH), (0, 0)]
    large = jnp.pad(images, pad, mode="reflect")
    large = upfirdn(large, filter, up=2, padding=((1, 0), (1, 0)), gain=4.0)
    sizes = large.shape[1:3]  # 2 H + 10 and 2 W + 10
    first_pixel = _REACH + _CENTRE

    axes = [
        (jnp.arange(size, dtype=images.dtype) - first_pixel) / 2 - (length - 1) / 2
        for size, length in zip(sizes, (height, width), strict=True)
    ]
    rows = jnp.broadcast_to(axes[0][:, None], sizes).reshape(1, -1)
    columns = jnp.broadcast_to(axes[1][None], sizes).reshape(1, -1)
    lower, share = [], []
    for axis, length in enumerate((height, width)):
        a, b, c = (matrices[:, axis, k, None] for k in range(3))
        # 0 is the first pixel, 2 (length - 1) the last.
        place = 2 * (a * rows + b * columns + c + (length - 1) / 2)
        inside = (place >= -first_pixel) & (place <= sizes[axis] - 1 - first_pixel)
        place = jnp.where(inside, place, _reflected(place, 2 * length - 1)) + first_pixel
        first = jnp.clip(jnp.floor(place), 0, sizes[axis] - 2)
        lower.append(first.astype(jnp.int32))
        share.append((place - first)[..., None])
    flat = large.reshape(n, -1, channels)

    def pixels(row: int, column: int) -> jax.Array:
        places = (lower[0] + row) * sizes[1] + lower[1] + column
        return jnp.take_along_axis(flat, places[..., None], axis=1, mode="promise_in_bounds")

    above = (1 - share[1]) * pixels(0, 0) + share[1] * pixels(0, 1)
    below = (1 - share[1]) * pixels(1, 0) + share[1] * pixels(1, 1)
    looked_up = ((1 - share[0]) * above + share[0] * below).reshape(large.shape)
    return upfirdn(looked_up, filter, down=2, flip=True)


def recolour(images: jax.Array, matrices: jax.Array) -> jax.Array:
    """Every pixel's colour by an affine map. A fourth channel stays as it is; one alone is a grey.

    Args:
      images: [n, H, W, C], C of 1, 3 or 4.
      matrices: [n, 3, 4].
    """
    if images.shape[3] == 1:
        means = jnp.mean(matrices, axis=1)
        return images * _beside(jnp.sum(means[:, :3], axis=1), images) + _beside(means[:, 3], images)
    matrices = matrices[:, None, None]
    colours = sum(
        (images[..., channel : channel + 1] * matrices[..., channel] for channel in range(3)),
        matrices[..., 3],
    )
    return jnp.concatenate([colours, images[..., 3:]], axis=-1) if images.shape[3] > 3 else colours


@functools.cache
def filter_bank() -> np.ndarray:
    """[4, 43]: filters of four bands of frequencies, up to pi / 8, pi / 4, pi / 2 and pi, that add up to one
    pixel.

    A wavelet's low pass and its high pass, each there and back, add up to one pixel. So each band of an
    octave is the high pass of what the low passes leave of it.
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    high_pass = SYM2 * (-1.0) ** np.arange(len(SYM2))
    high = np.convolve(high_pass, high_pass[::-1]) / 2
    rest, bands = np.ones(1), []
    for octave in range(3):
        spread_low, spread_high = (_spread(taps, 2**octave) for taps in (low, high))
        bands.append(np.convolve(rest, spread_high))
        rest = np.convolve(rest, spread_low)
    bands = [rest, *bands[::-1]]
    length = max(map(len, bands))
    return np.stack([np.pad(band, (length - len(band)) // 2) for band in bands])


def _spread(taps: np.ndarray, step: int) -> np.ndarray:
    """Taps with step - 1 zeros between them."""
    spread = np.zeros((len(taps) - 1) * step + 1)
    spread[::step] = taps
    return spread


def filter_bands(images: jax.Array, gains: jax.Array) -> jax.Array:
    """Images whose frequency bands, along either axis, are multiplied by gains; beyond them their reflection.

    Args:
      images: [n, H, W, C].
      gains: [n, 4], lowest band first.
    """
    taps = gains @ jnp.asarray(filter_bank(), gains.dtype)
    reach = taps.shape[1] // 2
    for axis in (1, 2):
        widths = [(0, 0)] * 4
        widths[axis] = (reach, reach)
        padded, size = jnp.pad(images, widths, mode="reflect"), images.shape[axis]
        images = sum(
            _beside(taps[:, k], images) * jax.lax.slice_in_dim(padded, k, k + size, axis=axis)
            for k in range(1, taps.shape[1])
        ) + _beside(taps[:, 0], images) * jax.lax.slice_in_dim(padded, 0, size, axis=axis)
    return images


def cut(images: jax.Array, places: jax.Array, size: jax.Array) -> jax.Array:
    """Zeros in a rectangle.

    Args:
      images: [n, H, W, C].
      places: [n, 2], its centre from the top and from the left, as shares of the height and the width.
      size: [n], its height and width likewise; 0 cuts nothing.
    """
    inside = jnp.ones(images.shape[:3], bool)
    for axis in (0, 1):
        length = images.shape[axis + 1]
        centre = ((jnp.arange(length) + 0.5) / length).astype(images.dtype)[None]
        near = jnp.abs(centre - places[:, axis, None]) < size[:, None] / 2
        inside &= near[:, :, None] if axis == 0 else near[:, None, :]
    return jnp.where(inside[..., None], jnp.zeros((), images.dtype), images)
