"""Resampling of images, NHWC: nearest, with a filter (`upfirdn`), pixel shuffle, bilinear.

Filtering is the sum of a few shifted, scaled slices of the image, in polyphase form: of the taps, an output
pixel meets only those that fall on a pixel, and no output is computed that is dropped. On a CPU that is ten
to a hundred times as fast as XLA's depthwise convolution, forward and backward.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Pair = int | tuple[int, int]
Padding = int | Sequence[tuple[int, int]]


def _pair(value: Pair, name: str) -> tuple[int, int]:
    """(vertical, horizontal), both at least 1."""
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int | np.integer) and v >= 1 for v in pair):
        raise ValueError(f"{name}={value!r}: expected a positive integer, or two: (vertical, horizontal)")
    return int(pair[0]), int(pair[1])


def _check_images(x: jax.Array, what: str) -> None:
    if x.ndim != 4:
        raise ValueError(f"{what} takes images [N, H, W, C]; got shape {x.shape}")


def _check_floating(x: jax.Array, what: str) -> None:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{what} takes images of a floating type; got {x.dtype}")


def _check_divides(x: jax.Array, factor: tuple[int, int], what: str) -> None:
    if x.shape[1] % factor[0] or x.shape[2] % factor[1]:
        raise ValueError(f"{what} of {x.shape} by {factor}: height and width are not multiples of that")


def upsample(x: jax.Array, factor: Pair = 2) -> jax.Array:
    """Nearest neighbour: each pixel becomes a block of `factor` times `factor`.

    Args:
      x: [N, H, W, C] of any type.
      factor: one, or (vertical, horizontal).
    Returns:
      [N, H * factor, W * factor, C].
    Raises:
      ValueError: x is not of rank 4, or the factor is not positive.
    """
    _check_images(x, "upsample")
    fh, fw = _pair(factor, "factor")
    n, h, w, c = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (n, h, fh, w, fw, c))
    return blocks.reshape(n, h * fh, w * fw, c)


def downsample(x: jax.Array, factor: Pair = 2) -> jax.Array:
    """Mean of each block of `factor` times `factor` pixels. (Nearest neighbour is a slice, x[:, ::2, ::2].)

    Args:
      x: [N, H, W, C] of a floating type.
      factor: one, or (vertical, horizontal).
    Returns:
      [N, H / factor, W / factor, C].
    Raises:
      ValueError: x is not of rank 4 or not floating, or the factor is not positive or does not divide.
    """
    _check_images(x, "downsample")
    _check_floating(x, "downsample")
    fh, fw = _pair(factor, "factor")
    _check_divides(x, (fh, fw), "downsample")
    n, h, w, c = x.shape
    return jnp.mean(x.reshape(n, h // fh, fh, w // fw, fw, c), (2, 4))


def crossfaded(old: jax.Array, new: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """(1 - alpha) old + alpha new, of one shape; where alpha is 0 or 1, one of the two to the bit.

    In float32 at least, for in bfloat16 alpha would go in steps of 1/256. The result has the type of `old`.
    """
    dtype = jnp.promote_types(old.dtype, jnp.float32)
    alpha = jnp.asarray(alpha, dtype)
    return ((1 - alpha) * old.astype(dtype) + alpha * new.astype(dtype)).astype(old.dtype)


# One pass of a filter. Along each axis, where z is the image with up - 1 zeros after each pixel, and zeros
# without end on both sides,
#   output[o] = sum over j of taps[j] * z[o * down + j - before],   0 <= o < size.
# A primitive of its own, for its transpose: that is such a pass too, in which `up` and `down` change places
# and the taps are reversed. Autodiff would make a sum of padded images of the sum of slices, and of two
# passes XLA on the CPU then computes one as often as the other has taps (for twelve, ten times slower).


def _phases(taps: int, up: int, down: int, before: int, size: int) -> list[tuple[int, range, range]]:
    """Outputs o = phase, phase + len(phases), ... meet the same taps, a step further in the input each.

    Returns:
      For each phase its number of outputs, its taps, and the input pixels under these at its first output.
    """
    period = up // math.gcd(up, down)
    phases = []
    for phase in range(min(period, size)):
        tap = (before - phase * down) % up  # the first that falls on a pixel
        pixel = (phase * down + tap - before) // up
        met = range(tap, taps, up)
        phases.append((-(-(size - phase) // period), met, range(pixel, pixel + len(met))))
    return phases


def _interleave(parts: list[jax.Array], axis: int, size: int) -> jax.Array:
    """Pixels of each part in turn along `axis`, `size` in all: late parts may be one short."""
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    filled = []
    for part in parts:
        widths = [(0, 0)] * part.ndim
        widths[axis] = (0, shape[axis] - part.shape[axis])
        filled.append(jnp.pad(part, widths) if widths[axis][1] else part)
    if shape[-1] < 8:
        y = jnp.stack(filled, axis + 1)
    else:  # One loop that selects its part: with many channels faster on the CPU than copying them together.
        wide = [*shape[: axis + 1], len(parts), *shape[axis + 1 :]]
        phase = lax.broadcasted_iota(jnp.int32, wide, axis + 1)
        y = jnp.expand_dims(filled[0], axis + 1)
        for i, part in enumerate(filled[1:], start=1):
            y = jnp.where(phase == i, jnp.expand_dims(part, axis + 1), y)
    shape[axis] *= len(parts)
    return lax.slice_in_dim(y.reshape(shape), 0, size, axis=axis)


def _sum_of_slices(x: jax.Array, *, taps, up, down, before, size) -> jax.Array:
    """[..., H, W, C] -> [..., *size, C]; each option is one for each axis, `taps` a tuple of rows."""
    axes = (x.ndim - 3, x.ndim - 2)
    steps = [d // math.gcd(u, d) for u, d in zip(up, down, strict=True)]
    phases = [_phases(*a) for a in zip((len(taps), len(taps[0])), up, down, before, size, strict=True)]
    # Zeros around the image where a tap reaches beyond, and off with what no tap meets.
    low, widths = [], [(0, 0, 0)] * x.ndim
    for axis, step, of_axis in zip(axes, steps, phases, strict=True):
        reach = [(pixels[0], pixels[-1] + (count - 1) * step) for count, _, pixels in of_axis if pixels]
        first, last = min((a for a, _ in reach), default=0), max((b for _, b in reach), default=0)
        low.append(first)
        widths[axis] = (-first, last + 1 - x.shape[axis], 0)
    x = lax.pad(x, jnp.zeros((), x.dtype), widths)
    rows = []
    for height, taps_h, pixels_h in phases[0]:
        columns = []
        for width, taps_w, pixels_w in phases[1]:
            y = None
            for (i, top), (j, left) in itertools.product(
                zip(taps_h, pixels_h, strict=True), zip(taps_w, pixels_w, strict=True)
            ):
                if taps[i][j] == 0:
                    continue
                met = x
                for axis, start, count, step in zip(
                    axes, (top - low[0], left - low[1]), (height, width), steps, strict=True
                ):
                    met = lax.slice_in_dim(met, start, start + (count - 1) * step + 1, step, axis)
                y = taps[i][j] * met if y is None else y + taps[i][j] * met
            if y is None:
                y = jnp.zeros((*x.shape[:-3], height, width, x.shape[-1]), x.dtype)
            columns.append(y)
        rows.append(_interleave(columns, axes[1], size[1]))
    return _interleave(rows, axes[0], size[0])


_filter_pass = Primitive("filter_pass")
_filter_pass.def_impl(jax.jit(_sum_of_slices, static_argnames=("taps", "up", "down", "before", "size")))


@_filter_pass.def_abstract_eval
def _(x, *, size, **_):
    return x.update(shape=(*x.shape[:-3], *size, x.shape[-1]))


def _transposed(cotangent, x, *, taps, up, down, before, size):
    del size
    reversed_taps = tuple(row[::-1] for row in taps[::-1])
    last = (len(taps) - 1 - before[0], len(taps[0]) - 1 - before[1])
    back = _filter_pass.bind(
        cotangent, taps=reversed_taps, up=down, down=up, before=last, size=x.aval.shape[-3:-1]
    )
    return [back]


def _batched(arguments, dims, **options):
    return _filter_pass.bind(jnp.moveaxis(arguments[0], dims[0], 0), **options), 0


ad.deflinear2(_filter_pass, _transposed)
batching.primitive_batchers[_filter_pass] = _batched
mlir.register_lowering(_filter_pass, mlir.lower_fun(_sum_of_slices, multiple_results=False))


def fir_filter(taps: Sequence[float] | np.ndarray, *, normalize: bool = True) -> np.ndarray:
    """The taps of a one-dimensional filter, as `upfirdn` takes them.

    Args:
      taps: [K], for instance [1, 3, 3, 1].
      normalize: divides by their sum, so that a constant image keeps its value.
    Returns:
      float32 [K].
    Raises:
      ValueError: `taps` is not one-dimensional, or to be normalised and sums to 0.
    """
    filter = np.asarray(taps, np.float64)
    if filter.ndim != 1 or not filter.size:
        raise ValueError(f"taps: expected at least one, in one dimension; got shape {filter.shape}")
    if normalize:
        if filter.sum() == 0 or not np.isfinite(filter.sum()):
            raise ValueError(f"taps={taps}: with the sum {filter.sum()} they cannot be normalised")
        filter = filter / filter.sum()
    return filter.astype(np.float32)


def _filter_array(filter: np.ndarray | Sequence[float]) -> np.ndarray:
    if isinstance(filter, Tracer):
        raise ValueError("filter: expected values known when the function is traced; got a traced array")
    taps = np.asarray(filter, np.float64)
    if taps.ndim not in (1, 2) or not taps.size:
        raise ValueError(f"filter: expected [K] (for both axes) or [KH, KW]; got shape {taps.shape}")
    return taps


def _sides(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(padding, int | np.integer):
        side = (int(padding), int(padding))
        return side, side
    try:
        (top, bottom), (left, right) = padding
        return (int(top), int(bottom)), (int(left), int(right))
    except (TypeError, ValueError):
        raise ValueError(
            f"padding={padding!r}: expected an integer or ((top, bottom), (left, right))"
        ) from None


def upfirdn(
    x: jax.Array,
    filter: np.ndarray | Sequence[float],
    *,
    up: Pair = 1,
    down: Pair = 1,
    padding: Padding = 0,
    gain: float = 1.0,
    flip: bool = False,
) -> jax.Array:
    """Inserts zeros, pads, filters and subsamples, in one: the resampling of StyleGAN.

    In this order, for each image and channel by itself:
    1. after each row and each column, the last too, up - 1 of zeros: H * up by W * up;
    2. `padding` of zeros around it, cut off where negative;
    3. the convolution with `filter` where it lies wholly inside, which makes the image smaller by K - 1:
       output[o] = sum over k of filter[k] * padded[o + K - 1 - k]. That is true convolution: a lone pixel
       paints the filter as it stands. With `flip` it is correlation, filter[k] * padded[o + k];
    4. of the rows and columns 0, down, 2 * down, ...; times `gain`.
    So the height is ceil((H * up + top + bottom - K + 1) / down), and the width likewise.

    Args:
      x: [N, H, W, C] of a floating type. Below float32 it is computed in float32.
      filter: [K], used along both axes, or [KH, KW]. It is used as it is (`fir_filter` normalises) and is a
        constant: no gradient, no traced array.
      up, down: one factor, or (vertical, horizontal).
      padding: of all sides, or ((top, bottom), (left, right)), in pixels of the image with the zeros.
      gain: factor of the output.
      flip: correlation instead of convolution.
    Returns:
      [N, H', W', C] of x's dtype.
    Raises:
      ValueError: ranks, factors or padding are not as above, x is not floating, or nothing would be left.

    References:
      Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", and 2021, "Alias-free
      generative adversarial networks". Zhang 2019, "Making convolutional networks shift-invariant again".
    """
    _check_images(x, "upfirdn")
    _check_floating(x, "upfirdn")
    taps, up, down = _filter_array(filter), _pair(up, "up"), _pair(down, "down")
    sides = _sides(padding)
    if not flip:
        taps = np.flip(taps)
    kernel = taps.shape if taps.ndim == 2 else (taps.size, taps.size)
    lengths = [n * u + sum(p) - k + 1 for n, u, p, k in zip(x.shape[1:3], up, sides, kernel, strict=True)]
    if min(lengths) < 1:
        raise ValueError(
            f"upfirdn of {x.shape} by a filter of {kernel}, up={up}, padding={sides}: nothing is left, "
            f"the filter is larger than the padded image"
        )
    size = [-(-length // d) for length, d in zip(lengths, down, strict=True)]
    before = (sides[0][0], sides[1][0])

    def one_pass(x, taps, axes):
        """Over the axes named, the other left as it is."""
        pick = partial(zip, axes, strict=True)
        return _filter_pass.bind(
            x,
            taps=tuple(map(tuple, taps.tolist())),
            up=tuple(u if a else 1 for a, u in pick(up)),
            down=tuple(d if a else 1 for a, d in pick(down)),
            before=tuple(b if a else 0 for a, b in pick(before)),
            size=tuple(s if a else n for a, s, n in zip(axes, size, x.shape[1:3], strict=True)),
        )

    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if taps.ndim == 2:
        y = one_pass(y, taps * float(gain), (True, True))
    else:
        y = one_pass(y, taps[None, :] * float(gain), (False, True))
        y = one_pass(y, taps[:, None], (True, False))
    return y.astype(x.dtype)


def _kernel_size(filter: np.ndarray | Sequence[float]) -> tuple[int, int]:
    taps = _filter_array(filter)
    return (taps.shape[0], taps.shape[-1])


def blur(x: jax.Array, filter: np.ndarray | Sequence[float]) -> jax.Array:
    """Convolution with a filter, sizes unchanged, zeros beyond the border.

    A filter of even length moves the image by half a pixel, down and to the right.

    Args:
      x: [N, H, W, C] of a floating type.
      filter: as in `upfirdn`, [1, 2, 1] normalised for instance.
    Returns:
      [N, H, W, C].
    Raises:
      ValueError: as `upfirdn`.
    """
    kh, kw = _kernel_size(filter)
    return upfirdn(x, filter, padding=((kh // 2, (kh - 1) // 2), (kw // 2, (kw - 1) // 2)))


def upsample_filtered(
    x: jax.Array, filter: np.ndarray | Sequence[float], factor: Pair = 2, gain: float = 1.0
) -> jax.Array:
    """Zeros between the pixels, then a filter and a gain that makes up for the zeros: StyleGAN's upsampling.

    With a normalised filter such as [1, 3, 3, 1] a constant image keeps its value, but for the border, where
    the filter meets zeros. The image keeps its place (the centre of the input lies on that of the output)
    where the filter's length and the factor are both even or both odd; else it moves by half a pixel of the
    output, down and to the right.

    Args:
      x: [N, H, W, C] of a floating type.
      filter: as in `upfirdn`; normalised, its sum is 1.
      factor: one, or (vertical, horizontal).
      gain: of the output, besides the vertical times the horizontal factor for the zeros.
    Returns:
      [N, H * factor, W * factor, C].
    Raises:
      ValueError: as `upfirdn`.

    References:
      Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN".
    """
    factor = _pair(factor, "factor")
    sides = [((k + f - 1) // 2, (k - f) // 2) for k, f in zip(_kernel_size(filter), factor, strict=True)]
    return upfirdn(x, filter, up=factor, padding=sides, gain=gain * factor[0] * factor[1])


def downsample_filtered(
    x: jax.Array, filter: np.ndarray | Sequence[float], factor: Pair = 2, gain: float = 1.0
) -> jax.Array:
    """A filter, then every factor-th pixel: StyleGAN's downsampling.

    The image keeps its place as in `upsample_filtered`, else it moves by half a pixel of the input.

    Args:
      x: [N, H, W, C] of a floating type.
      filter: as in `upfirdn`.
      factor: one, or (vertical, horizontal).
      gain: of the output.
    Returns:
      [N, H / factor, W / factor, C].
    Raises:
      ValueError: the factor does not divide height and width; and as `upfirdn`.
    """
    _check_images(x, "downsample_filtered")
    factor = _pair(factor, "factor")
    _check_divides(x, factor, "downsample_filtered")
    sides = [((k - f + 1) // 2, (k - f) // 2) for k, f in zip(_kernel_size(filter), factor, strict=True)]
    return upfirdn(x, filter, down=factor, padding=sides, gain=gain)


def pixel_shuffle(x: jax.Array, factor: Pair = 2) -> jax.Array:
    """Channels to space: out[n, h * f + i, w * f + j, c] = x[n, h, w, c * f * f + i * f + j].

    The order of the channels is PyTorch's, so that copied weights fit.

    Args:
      x: [N, H, W, C * f * f] of any type.
      factor: f, or (vertical, horizontal).
    Returns:
      [N, H * f, W * f, C].
    Raises:
      ValueError: x is not of rank 4, or its channels are no multiple of f * f.

    References:
      Shi et al. 2016, "Real-time single image and video super-resolution using an efficient sub-pixel
      convolutional neural network".
    """
    _check_images(x, "pixel_shuffle")
    fh, fw = _pair(factor, "factor")
    n, h, w, channels = x.shape
    if channels % (fh * fw):
        raise ValueError(
            f"pixel_shuffle of {x.shape} by {(fh, fw)}: {channels} channels are no multiple of {fh * fw}"
        )
    c = channels // (fh * fw)
    return x.reshape(n, h, w, c, fh, fw).transpose(0, 1, 4, 2, 5, 3).reshape(n, h * fh, w * fw, c)


def pixel_unshuffle(x: jax.Array, factor: Pair = 2) -> jax.Array:
    """Space to channels, the inverse of `pixel_shuffle`.

    Args:
      x: [N, H, W, C] of any type.
      factor: f, or (vertical, horizontal).
    Returns:
      [N, H / f, W / f, C * f * f].
    Raises:
      ValueError: x is not of rank 4, or the factor does not divide height and width.
    """
    _check_images(x, "pixel_unshuffle")
    fh, fw = _pair(factor, "factor")
    _check_divides(x, (fh, fw), "pixel_unshuffle")
    n, h, w, c = x.shape
    blocks = x.reshape(n, h // fh, fh, w // fw, fw, c).transpose(0, 1, 3, 5, 2, 4)
    return blocks.reshape(n, h // fh, w // fw, c * fh * fw)


def resize_bilinear(x: jax.Array, size: tuple[int, int], *, antialias: bool = False) -> jax.Array:
    """Bilinear resizing to any size: `jax.image.resize`, computed in float32 at least.

    Pixels are areas: the output's centre o + 1/2 reads the input at (o + 1/2) * H / H' (PyTorch's
    `align_corners=False`), and what lies beyond the border is the border. By whole factors
    `upsample_filtered` is several times as fast on a CPU; with [1, 3, 3, 1] and factor 2 it is the same away
    from the border.

    Args:
      x: [N, H, W, C] of a floating type.
      size: (H', W').
      antialias: where the image shrinks, widens the filter by that factor, and so averages.
    Returns:
      [N, H', W', C].
    Raises:
      ValueError: x is not of rank 4 or not floating, or the size is not positive.
    """
    _check_images(x, "resize_bilinear")
    _check_floating(x, "resize_bilinear")
    height, width = _pair(size, "size")
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    y = jax.image.resize(y, (x.shape[0], height, width, x.shape[3]), "bilinear", antialias=antialias)
    return y.astype(x.dtype)
