"""What a convolution is computed as on a CPU.

A convolution, its gradient with respect to the input and that with respect to the kernel are three bilinear
functions,

    forward(x, kernel) -> y        input_gradient(g, kernel) -> x        kernel_gradient(x, g) -> kernel

and the derivatives of each are the other two. So each is written here in the form that runs best, and
`ganjax.layers.conv` tells JAX how they belong together. All in plain XLA, which on a CPU is good at matrix
products and contiguous slices, and bad at strided, dilated and very narrow convolutions and at their
gradients. A stride that divides the kernel becomes channels (space to depth), which for the input's gradient
taps of zeros can make it; two or three taps go through Winograd's products; few channels through patches and
one matrix product. What comes in as a gradient is computed once for both (`settled`).
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ganjax.layers.boundary import apart, settled
from ganjax.layers.channels import outer_products
from ganjax.layers.winograd import (
    best_tiles,
    winograd_conv,
    winograd_input_gradient,
    winograd_kernel_gradient,
)

NUMBERS = ("NHWC", "HWIO", "NHWC")
Pads = tuple[tuple[int, int], tuple[int, int]]

# Below this many channels the transforms of Winograd's products cost more than the products save.
WINOGRAD_CHANNELS = 16
# Up to this many taps times channels, patches are small enough to be written out.
PATCH_SIZE = 160
# A matrix of products is at most so large for its rows to be cut in two.
PARTED_SIZE = 2**16
# Winograd's products are used where they take at most this share of what the sum as it is defined takes:
# where the two are even, the sum compiles in half the time.
WINOGRAD_SHARE = 0.9
# In a convolution with a stride they have to save a quarter: its blocks and transforms take long beside what
# is left to multiply.
WINOGRAD_STRIDED = 0.75


class Geometry(NamedTuple):
    """A convolution of images [N, H, W, C] with kernels [KH, KW, C, F], without dilation and groups.

    Attributes:
      size: (H, W) of x.
      kernel: (KH, KW).
      strides: along height and width.
      pads: for each axis how far x is padded with zeros at its ends; negative: cut.
    """

    size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: Pads

    @property
    def output(self) -> tuple[int, int]:
        """(H', W') of y."""
        rows, columns = (
            (size + before + after - kernel) // stride + 1
            for size, kernel, stride, (before, after) in zip(*self, strict=True)
        )
        return rows, columns

    @property
    def divides(self) -> bool:
        """The strides divide the kernel."""
        return all(kernel % stride == 0 for kernel, stride in zip(self.kernel, self.strides, strict=True))

    @property
    def completed(self) -> "Geometry":
        """The same with taps of zeros at the kernel's ends, so that the strides divide it."""
        down, across = (-size % stride for size, stride in zip(self.kernel, self.strides, strict=True))
        (rows, columns), ((top, bottom), (left, right)) = self.kernel, self.pads
        return self._replace(
            kernel=(rows + down, columns + across), pads=((top, bottom + down), (left, right + across))
        )

    @property
    def taps(self) -> tuple[int, int]:
        """Taps along each axis once the strides are channels."""
        return self.kernel[0] // self.strides[0], self.kernel[1] // self.strides[1]


def forward(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """y [N, H', W', F]."""
    if geometry.divides and not _strided_as_it_is(x.shape[0], geometry, kernel.shape[2], kernel.shape[3]):
        return _correlate(_blocks(x, geometry), _kernel_to_depth(kernel, geometry.strides))
    x = pad(x, geometry.pads)
    if _is_small(kernel.shape[:3]):
        rows, columns = geometry.output
        patches = _patches(x, geometry.kernel, geometry.strides, (rows, columns))
        return _product(patches, kernel.reshape(-1, kernel.shape[3]))
    return _as_it_is(x, kernel, geometry.strides)


def input_gradient(g: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """The gradient with respect to x [N, H, W, C], from that with respect to y [N, H', W', F].

    It is the transposed convolution of g.
    """
    taps, strides = geometry.taps, geometry.strides
    if not geometry.divides:
        whole, (channels, features) = geometry.completed, kernel.shape[2:]
        depth = strides[0] * strides[1] * channels
        # Around a small image too much would be computed that is cut off.
        if max(g.shape[1:3]) > 8 and _winograd_tiles(g.shape[0], g.shape[1:3], whole.taps, depth, features):
            (down, across), (rows, columns) = whole.kernel, geometry.kernel
            kernel = jnp.pad(kernel, ((0, down - rows), (0, across - columns), (0, 0), (0, 0)))
            return input_gradient(g, kernel, whole)
        return _phases(settled(g), kernel, geometry)
    g = settled(g)
    if strides == (1, 1):
        # Only what is not cut off again. Overlapping three taps' data, as below, takes longer.
        (top, bottom), (left, right) = geometry.pads
        pads = (taps[0] - 1 - top, taps[0] - 1 - bottom), (taps[1] - 1 - left, taps[1] - 1 - right)
        return _correlate(pad(g, pads), turned(kernel))
    blocks_kernel = _kernel_to_depth(kernel, strides)
    tiles = _winograd_tiles(g.shape[0], g.shape[1:3], taps, *blocks_kernel.shape[2:])
    if tiles is not None:
        blocks = winograd_input_gradient(g, blocks_kernel, tiles)
    elif max(g.shape[1:3]) <= 8 and blocks_kernel.shape[2] > PATCH_SIZE:
        # One convolution to all phases would compute too much around a small image that is cut off.
        return _phases(g, kernel, geometry)
    else:
        around = (taps[0] - 1, taps[0] - 1), (taps[1] - 1, taps[1] - 1)
        blocks = _correlate(pad(g, around), turned(blocks_kernel))
    x = depth_to_space(blocks, strides)
    ends = [
        (-before, size + before - length)
        for size, length, (before, _) in zip(geometry.size, x.shape[1:3], geometry.pads, strict=True)
    ]
    return pad(x, (ends[0], ends[1]))


def turned(kernel: jax.Array) -> jax.Array:
    """The kernel of the adjoint: [KH, KW, C, F] -> [KH, KW, F, C], taps in reverse order.

    In two steps: XLA has a fast loop for a transpose, and a tenfold slower one for both at once.
    """
    return apart(lambda kernel: kernel.swapaxes(2, 3), jnp.flip(kernel, (0, 1)))


def kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry) -> jax.Array:
    """The gradient with respect to the kernel [KH, KW, C, F], from x and the gradient with respect to y."""
    channels, features = x.shape[3], g.shape[3]
    g = settled(g)
    if geometry.divides:
        gradient = _correlate_kernel_gradient(_blocks(x, geometry), g)
        return _depth_to_kernel(gradient, geometry.strides, channels)
    x = pad(x, geometry.pads)
    rows, columns = geometry.output
    if _is_small((*geometry.kernel, channels)):
        patches = _patches(x, geometry.kernel, geometry.strides, (rows, columns))
        return _sum_of_products(patches, g).reshape(*geometry.kernel, channels, features)
    x, blank = varying_alike(x, jnp.zeros((*geometry.kernel, channels, features), x.dtype))
    return jax.linear_transpose(lambda kernel: _as_it_is(x, kernel, geometry.strides), blank)(g)[0]


def varying_alike(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays, each varying over all the axes of an enclosing `shard_map` that any of them varies over.

    Otherwise the forms of a gradient, of which some sum over such an axis by themselves, have unlike types.
    """
    varying = [_varying_axes(array) for array in arrays]
    missing = [tuple(sorted(frozenset().union(*varying) - axes)) for axes in varying]
    return tuple(
        lax.pcast(array, names, to="varying") if names else array
        for array, names in zip(arrays, missing, strict=True)
    )


def _varying_axes(array: jax.Array) -> frozenset[str]:
    kind: Any = jax.typeof(array)
    if hasattr(kind, "manual_axis_type"):
        return kind.manual_axis_type.varying
    return getattr(kind, "vma", frozenset())  # its name in other versions of JAX


def _correlate(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution at stride 1 without padding."""
    taps, (channels, features) = kernel.shape[:2], kernel.shape[2:]
    rows, columns = x.shape[1] - taps[0] + 1, x.shape[2] - taps[1] + 1
    if taps == (1, 1):
        return _product(x, kernel[0, 0])
    tiles = _winograd_tiles(x.shape[0], (rows, columns), taps, channels, features)
    if tiles is not None:
        return winograd_conv(x, kernel, tiles)
    if _is_small((*taps, channels)):
        patches = _patches(x, taps, (1, 1), (rows, columns))
        return _product(patches, kernel.reshape(-1, features))
    if _is_small((*taps, features)):
        # All products at once, each pixel's [taps, features]; then what meets at an output is summed.
        products = _product(x, kernel.transpose(2, 0, 1, 3).reshape(channels, -1))
        total = None
        for i, j in itertools.product(range(taps[0]), range(taps[1])):
            first = (i * taps[1] + j) * features
            term = products[:, i : i + rows, j : j + columns, first : first + features]
            total = term if total is None else total + term
        assert total is not None
        return total
    return _as_it_is(x, kernel)


def _correlate_kernel_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """The gradient of `_correlate` with respect to its kernel."""
    rows, columns = g.shape[1:3]
    taps = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    channels, features = x.shape[3], g.shape[3]
    if taps == (1, 1):
        return _sum_of_products(x, g)[None, None]
    tiles = _winograd_tiles(x.shape[0], (rows, columns), taps, channels, features)
    if tiles is not None:
        return winograd_kernel_gradient(x, g, taps[0], tiles)
    if _is_small((*taps, features)) and features < channels:
        around = (taps[0] - 1, taps[0] - 1), (taps[1] - 1, taps[1] - 1)
        patches = _patches(pad(g, around), taps, (1, 1), x.shape[1:3])  # turned round
        gradient = _sum_of_products(x, patches).reshape(channels, *taps, features)
        return jnp.flip(gradient, (1, 2)).transpose(1, 2, 0, 3)
    if _is_small((*taps, channels)):
        patches = _patches(x, taps, (1, 1), (rows, columns))
        return _sum_of_products(patches, g).reshape(*taps, channels, features)
    x, blank = varying_alike(x, jnp.zeros((*taps, channels, features), x.dtype))
    return jax.linear_transpose(lambda kernel: _as_it_is(x, kernel), blank)(g)[0]


def _as_it_is(x: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1)) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=NUMBERS)


def _phases(g: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """The input's gradient in sub-pixel form: a pixel at phase r of the stride only ever meets every
    stride-th tap, so each phase is a convolution at stride 1, and the phases are interleaved."""
    channels = kernel.shape[2]
    axes = []
    for size, taps, stride, (before, _) in zip(*geometry, strict=True):
        count = -(-size // stride)
        phases = []
        for r in range(stride):
            # x[stride * q + r] meets tap j of y[p] where stride * p + j = stride * q + r + before
            first = (r + before) % stride
            shift = (r + before - first) // stride  # p = q + shift at the first tap, and then falls
            phases.append((first, -(-(taps - first) // stride), shift))
        axes.append((count, phases))
    (rows, down), (columns, across) = axes
    outputs = []
    for (top, taps_h, shift_h), (left, taps_w, shift_w) in itertools.product(down, across):
        if taps_h <= 0 or taps_w <= 0:  # a stride longer than the kernel leaves gaps
            outputs.append(jnp.zeros((g.shape[0], rows, columns, channels), g.dtype))
            continue
        part = kernel[top :: geometry.strides[0], left :: geometry.strides[1]]
        pads = [
            (taps - 1 - shift, count + shift - length)
            for taps, shift, count, length in (
                (taps_h, shift_h, rows, g.shape[1]),
                (taps_w, shift_w, columns, g.shape[2]),
            )
        ]
        outputs.append(_correlate(pad(g, (pads[0], pads[1])), turned(part)))
    blocks = jnp.concatenate(outputs, axis=-1)
    return depth_to_space(blocks, geometry.strides)[:, : geometry.size[0], : geometry.size[1]]


def pad(x: jax.Array, pads: Pads) -> jax.Array:
    """Pads height and width with zeros, and cuts where negative.

    By hand: jaxlib 0.10.2 gets convolutions with negative padding wrong on the CPU, (-1, 1) say.
    """
    keep, ends = [], []
    for size, (low, high) in zip(x.shape[1:3], pads, strict=True):
        length = size + low + high
        start = min(max(-low, 0), size)
        stop = max(size - max(-high, 0), start)
        before = min(max(low, 0), length)
        keep.append(slice(start, stop))
        ends.append((before, length - (stop - start) - before))
    x = x[:, keep[0], keep[1]]
    if not any(map(any, ends)):
        return x
    # Not jnp.pad: within a function apart, as `blocks` is below, that is another one apart.
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*end, 0) for end in ends), (0, 0, 0)))


def depth_to_space(x: jax.Array, strides: tuple[int, int]) -> jax.Array:
    """[N, H, W, s * t * C] -> [N, s * H, t * W, C], the channels ordered (s, t, C)."""
    if strides == (1, 1):
        return x
    n, height, width, depth = x.shape
    channels = depth // (strides[0] * strides[1])
    x = x.reshape(n, height, width, *strides, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height * strides[0], width * strides[1], channels)


def _blocks(x: jax.Array, geometry: Geometry) -> jax.Array:
    """The padded x, its strides made channels: exactly what the outputs need."""
    strides, taps = geometry.strides, geometry.taps
    pads = []
    for size, count, stride, tap, (before, _) in zip(
        geometry.size, geometry.output, strides, taps, geometry.pads, strict=True
    ):
        pads.append((before, (count + tap - 1) * stride - size - before))
    if strides == (1, 1):
        return pad(x, (pads[0], pads[1]))

    def blocks(x: jax.Array) -> jax.Array:
        x = pad(x, (pads[0], pads[1]))
        n, height, width, channels = x.shape
        x = x.reshape(n, height // strides[0], strides[0], width // strides[1], strides[1], channels)
        x = x.transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(n, height // strides[0], width // strides[1], -1)

    return apart(blocks, x)


def _kernel_to_depth(kernel: jax.Array, strides: tuple[int, int]) -> jax.Array:
    """[KH, KW, C, F] -> [KH / s, KW / t, s * t * C, F], in the order of `_blocks`."""
    if strides == (1, 1):
        return kernel
    height, width, channels, features = kernel.shape
    rows, columns = height // strides[0], width // strides[1]

    def to_depth(kernel: jax.Array) -> jax.Array:
        kernel = kernel.reshape(rows, strides[0], columns, strides[1], channels, features)
        return kernel.transpose(0, 2, 1, 3, 4, 5).reshape(rows, columns, -1, features)

    return apart(to_depth, kernel)


def _depth_to_kernel(kernel: jax.Array, strides: tuple[int, int], channels: int) -> jax.Array:
    """The inverse of `_kernel_to_depth`."""
    if strides == (1, 1):
        return kernel
    rows, columns, _, features = kernel.shape
    kernel = kernel.reshape(rows, columns, *strides, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(rows * strides[0], columns * strides[1], channels, features)


def _windows(
    x: jax.Array, kernel: Sequence[int], strides: tuple[int, int], output: Sequence[int]
) -> list[jax.Array]:
    """For each tap, row by row, the pixels that it meets [N, H', W', C]."""
    rows, columns = output
    down, across = strides
    if strides != (1, 1):
        # By a reshape: the transpose of a strided slice is slow on a CPU.
        height, width = (
            (rows + (kernel[0] - 1) // down) * down,
            (columns + (kernel[1] - 1) // across) * across,
        )
        x = pad(x, ((0, height - x.shape[1]), (0, width - x.shape[2])))
        x = x.reshape(x.shape[0], height // down, down, width // across, across, x.shape[3])
    else:
        x = x[:, :, None, :, None]
    taps = []
    for i, j in itertools.product(range(kernel[0]), range(kernel[1])):
        top, left = i // down, j // across
        taps.append(x[:, top : top + rows, i % down, left : left + columns, j % across])
    return taps


def _patches(
    x: jax.Array, kernel: Sequence[int], strides: tuple[int, int], output: Sequence[int]
) -> jax.Array:
    """[N, H', W', KH * KW * C]."""
    return jnp.concatenate(_windows(x, kernel, strides, output), axis=-1)


def _product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """[N, H, W, C] times [C, F]."""
    n, height, width, channels = x.shape
    return (x.reshape(n * height * width, channels) @ matrix).reshape(n, height, width, matrix.shape[1])


def _sum_of_products(x: jax.Array, g: jax.Array) -> jax.Array:
    """The sum over all pixels of outer products: [N, H, W, C] and [N, H, W, F] -> [C, F]."""
    # It is one product of many rows to a small matrix, which XLA would give to a core alone.
    parts = 2 if x.shape[3] * g.shape[3] <= PARTED_SIZE else 1
    return outer_products(x.reshape(-1, x.shape[3]), g.reshape(-1, g.shape[3]), parts)


def _is_small(shape: tuple[int, ...]) -> bool:
    size = 1
    for length in shape:
        size *= length
    return size <= PATCH_SIZE


def _strided_as_it_is(count: Any, geometry: Geometry, channels: int, features: int) -> bool:
    """For a stride that divides the kernel: it is not worth making it channels."""
    small = _is_small((*geometry.kernel, channels)) or _is_small((*geometry.taps, features))
    if small or geometry.strides == (1, 1):
        return False
    depth = geometry.strides[0] * geometry.strides[1] * channels
    tiles = _winograd_tiles(count, geometry.output, geometry.taps, depth, features, WINOGRAD_STRIDED)
    return tiles is None


def _winograd_tiles(
    count: Any,
    output: Sequence[int],
    taps: Sequence[int],
    channels: int,
    features: int,
    at_most: float = WINOGRAD_SHARE,
) -> tuple[int, int] | None:
    """Tiles for Winograd's products, or None where they are not for these sizes; see `best_tiles`."""
    if taps[0] != taps[1] or min(channels, features) < WINOGRAD_CHANNELS:
        return None
    return best_tiles(_number(count), output[0], output[1], taps[0], channels, features, at_most)


def _number(count: Any) -> int:
    """A batch's size; where it is not known yet, as in an export for any, that of a large one."""
    return count if isinstance(count, int) else 64
