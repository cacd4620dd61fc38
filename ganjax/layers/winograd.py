"""Convolutions with fewer multiplications, in plain XLA (Winograd 1980; Lavin & Gray 2016).

A correlation with r taps that is wanted at m places is a product of two polynomials, and m + r - 1 products
are enough for it where the definition takes m * r: evaluate both at m + r - 1 points, multiply, interpolate
(Toom and Cook). In two dimensions the transforms nest, and what is left between them are
(m + r - 1) * (n + r - 1) matrix products over channels. With 3x3 taps and tiles of 2x4 that is a third of the
multiplications, with 2x2 taps and tiles of 4x4 it is 25/64.

The transforms are sums of slices. In float32 the tiles that are used keep the largest error below 3e-6 of
the largest output; of the sum as it is defined, over 256 channels, the error is 5e-7.
"""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganjax.layers.boundary import apart
from ganjax.layers.channels import outer_products

# (tile m, taps r) -> the finite points; infinity is always one more. Small ones, chosen for the least error.
_POINTS = {
    (2, 2): (0, 1),
    (3, 2): (0, 1, -1),
    (4, 2): (0, Fraction(1, 2), -1, 2),
    (2, 3): (0, 1, -1),
    (3, 3): (0, Fraction(1, 2), -1, 2),
    (4, 3): (0, 1, -1, Fraction(1, 2), -2),
}
# By measurement: how many multiplications take the time of transforming a number of data, or of the kernel.
TRANSFORM_DATA = 30
TRANSFORM_KERNEL = 60


class Transforms(NamedTuple):
    """y = output @ ((kernel @ w) * (data @ d)) is the correlation of m + r - 1 data d with r taps w.

    Attributes:
      data: [m + r - 1, m + r - 1].
      kernel: [m + r - 1, r].
      output: [m, m + r - 1].
    """

    data: tuple[tuple[float, ...], ...]
    kernel: tuple[tuple[float, ...], ...]
    output: tuple[tuple[float, ...], ...]


@functools.cache
def transforms(tile: int, taps: int) -> Transforms:
    """The transforms of `tile` outputs of a correlation with `taps` taps; exact, as all entries are dyadic
    or rounded once from fractions."""
    points = [Fraction(point) for point in _POINTS[tile, taps]]

    def times(polynomial: list[Fraction], root: Fraction) -> list[Fraction]:
        shifted = [Fraction(0), *polynomial]
        return [a - root * b for a, b in zip(shifted, [*polynomial, Fraction(0)], strict=True)]

    def product(roots: Sequence[Fraction]) -> list[Fraction]:
        polynomial = [Fraction(1)]
        for root in roots:
            polynomial = times(polynomial, root)
        return polynomial

    data, kernel = [], []
    for i, point in enumerate(points):
        others = points[:i] + points[i + 1 :]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        data.append([*product(others), Fraction(0)])
        kernel.append([point**j / scale for j in range(taps)])
    data.append(product(points))
    kernel.append([Fraction(0)] * (taps - 1) + [Fraction(1)])
    output = [[point**j for point in points] + [Fraction(int(j == tile - 1))] for j in range(tile)]

    def floats(rows: list[list[Fraction]]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(float(entry) for entry in row) for row in rows)

    return Transforms(floats(data), floats(kernel), floats(output))


def multiplications(
    count: int, height: int, width: int, taps: int, channels: int, features: int, tiles: tuple[int, int]
) -> float:
    """What a convolution costs with these tiles, in multiplications, the transforms counted as what they
    take the time of on a CPU.

    Args:
      count: N, images.
      height, width: of the output.
      taps: r, along each axis.
      channels, features: C and F.
      tiles: outputs to a tile along height and width.
    """
    rows = count * -(-height // tiles[0]) * -(-width // tiles[1])
    products = (tiles[0] + taps - 1) * (tiles[1] + taps - 1)
    return products * (
        rows * channels * features
        + TRANSFORM_DATA * rows * (channels + features)
        + TRANSFORM_KERNEL * channels * features
    )


def best_tiles(
    count: int, height: int, width: int, taps: int, channels: int, features: int, at_most: float = 1
) -> tuple[int, int] | None:
    """The cheapest tiles, or None where they cost `at_most` times what the sum as it is defined costs, or
    more; the other arguments are those of `multiplications`."""
    sizes = [tile for tile, r in _POINTS if r == taps]
    # Tiles of 4 of three taps are the least exact: on one axis, beside 2 on the other.
    pairs = [(a, b) for a in sizes for b in sizes if taps == 2 or 4 not in (a, b) or 2 in (a, b)]
    if not pairs:
        return None

    def cost(tiles: tuple[int, int]) -> float:
        return multiplications(count, height, width, taps, channels, features, tiles)

    best = min(pairs, key=cost)
    defined = count * height * width * taps**2 * channels * features
    return best if cost(best) < at_most * defined else None


def winograd_conv(x: jax.Array, kernel: jax.Array, tiles: tuple[int, int]) -> jax.Array:
    """The correlation of images with a kernel at stride 1, without padding.

    Args:
      x: [N, H, W, C].
      kernel: [r, r, C, F], r 2 or 3.
      tiles: outputs to a tile along height and width.
    Returns:
      [N, H - r + 1, W - r + 1, F].
    """
    taps, features = kernel.shape[0], kernel.shape[3]
    height, width = x.shape[1] - taps + 1, x.shape[2] - taps + 1
    down, across = (transforms(tile, taps) for tile in tiles)
    grid = (x.shape[0], -(-height // tiles[0]), -(-width // tiles[1]), features)
    products = _pairwise(
        lambda data, weights: (_matrix(data) @ weights).reshape(grid),
        _transformed_data(x, taps, tiles),
        _transformed_kernel(kernel, tiles),
    )

    def lines(column: list[jax.Array]) -> jax.Array:
        return _interleave([_combine(row, column) for row in down.output], 1, height)

    columns = [apart(lines, list(column)) for column in zip(*products, strict=True)]
    return _interleave([_combine(row, columns) for row in across.output], 2, width)


def winograd_input_gradient(g: jax.Array, kernel: jax.Array, tiles: tuple[int, int]) -> jax.Array:
    """The adjoint of `winograd_conv` in x, with the transforms that its other gradient uses too.

    Args:
      g: [N, H', W', F].
      kernel: [r, r, C, F].
      tiles: as in `winograd_conv`.
    Returns:
      [N, H' + r - 1, W' + r - 1, C].
    """
    taps, channels = kernel.shape[0], kernel.shape[2]
    down, across = (transforms(tile, taps) for tile in tiles)
    grid = (g.shape[0], -(-g.shape[1] // tiles[0]), -(-g.shape[2] // tiles[1]), channels)

    def product(output: jax.Array, weights: jax.Array) -> jax.Array:
        return jax.lax.dot_general(_matrix(output), weights, (((1,), (1,)), ((), ()))).reshape(grid)

    products = _pairwise(product, _transformed_output(g, taps, tiles), _transformed_kernel(kernel, tiles))

    def lines(column: list[jax.Array]) -> jax.Array:
        pixels = [_combine(row, column) for row in zip(*down.data, strict=True)]
        return _overlap(pixels, 1, tiles[0], g.shape[1] + taps - 1)

    columns = [apart(lines, list(column)) for column in zip(*products, strict=True)]
    pixels = [_combine(row, columns) for row in zip(*across.data, strict=True)]
    return _overlap(pixels, 2, tiles[1], g.shape[2] + taps - 1)


def winograd_kernel_gradient(x: jax.Array, g: jax.Array, taps: int, tiles: tuple[int, int]) -> jax.Array:
    """The gradient of `winograd_conv` with respect to its kernel.

    Args:
      x: [N, H, W, C].
      g: [N, H - r + 1, W - r + 1, F], the gradient with respect to the output.
      taps: r.
      tiles: as in `winograd_conv`.
    Returns:
      [r, r, C, F].
    """
    down, across = (transforms(tile, taps) for tile in tiles)

    def product(data: jax.Array, output: jax.Array) -> jax.Array:
        return outer_products(_matrix(data), _matrix(output))

    products = _pairwise(product, _transformed_data(x, taps, tiles), _transformed_output(g, taps, tiles))
    rows = [[_combine([k[n] for k in across.kernel], row) for n in range(taps)] for row in products]
    return jnp.stack(
        [
            jnp.stack([_combine([k[m] for k in down.kernel], column) for column in zip(*rows, strict=True)])
            for m in range(taps)
        ]
    )


def _pairwise(
    function: Callable[[jax.Array, jax.Array], jax.Array],
    a: Sequence[Sequence[jax.Array]],
    b: Sequence[Sequence[jax.Array]],
) -> list[list[jax.Array]]:
    return [[function(*both) for both in zip(*rows, strict=True)] for rows in zip(a, b, strict=True)]


def _transformed_data(x: jax.Array, taps: int, tiles: tuple[int, int]) -> list[list[jax.Array]]:
    """By point of the height's transform and of the width's, [N, tiles down, tiles across, C]."""
    down, across = (transforms(tile, taps) for tile in tiles)
    grid = [-(-(size - taps + 1) // tile) for size, tile in zip(x.shape[1:3], tiles, strict=True)]

    def lines(x: jax.Array) -> list[jax.Array]:
        bands = _windows(x, 1, tiles[0], taps, grid[0])
        return [_combine(row, bands) for row in down.data]

    points = []
    for line in lines(x):
        windows = _windows(line, 2, tiles[1], taps, grid[1])
        points.append([_combine(row, windows) for row in across.data])
    return points


def _transformed_kernel(kernel: jax.Array, tiles: tuple[int, int]) -> list[list[jax.Array]]:
    """By point, [C, F]."""
    taps = kernel.shape[0]
    down, across = (transforms(tile, taps) for tile in tiles)
    points = []
    for coefficients in down.kernel:
        part = _combine(coefficients, [kernel[k] for k in range(taps)])
        points.append([_combine(row, [part[k] for k in range(taps)]) for row in across.kernel])
    return points


def _transformed_output(g: jax.Array, taps: int, tiles: tuple[int, int]) -> list[list[jax.Array]]:
    """By point, [N, tiles down, tiles across, F]: the adjoint of what makes outputs of products."""
    down, across = (transforms(tile, taps) for tile in tiles)
    grid = -(-g.shape[1] // tiles[0]), -(-g.shape[2] // tiles[1])

    def lines(g: jax.Array) -> list[jax.Array]:
        bands = _windows(g, 1, tiles[0], 1, grid[0])
        return [_combine(row, bands) for row in zip(*down.output, strict=True)]

    points = []
    for line in lines(g):
        pixels = _windows(line, 2, tiles[1], 1, grid[1])
        points.append([_combine(row, pixels) for row in zip(*across.output, strict=True)])
    return points


def _matrix(x: jax.Array) -> jax.Array:
    """[N, H, W, C] -> [N * H * W, C]."""
    return x.reshape(x.shape[0] * x.shape[1] * x.shape[2], x.shape[3])


def _combine(coefficients: Sequence[float], arrays: Sequence[jax.Array]) -> jax.Array:
    """The sum of the arrays, each times its coefficient."""
    total = None
    for coefficient, array in zip(coefficients, arrays, strict=True):
        if coefficient:
            term = array if coefficient == 1 else array * jnp.asarray(coefficient, array.dtype)
            total = term if total is None else total + term
    assert total is not None
    return total


def _windows(x: jax.Array, axis: int, tile: int, taps: int, count: int) -> list[jax.Array]:
    """The tile + taps - 1 entries of each of `count` overlapping windows along an axis, zeros beyond the end.

    By a reshape and contiguous slices: the transpose of a strided slice, which pads between the entries,
    takes XLA twenty times as long on a CPU.
    """
    groups = count + -(-(taps - 1) // tile)
    missing = groups * tile - x.shape[axis]
    if missing > 0:
        x = _pad(x, axis, 0, missing)
    elif missing < 0:
        x = jax.lax.slice_in_dim(x, 0, groups * tile, axis=axis)
    x = x.reshape(*x.shape[:axis], groups, tile, *x.shape[axis + 1 :])
    windows = []
    for i in range(tile + taps - 1):
        group = jax.lax.slice_in_dim(x, i // tile, i // tile + count, axis=axis)
        windows.append(jax.lax.index_in_dim(group, i % tile, axis + 1, keepdims=False))
    return windows


def _interleave(arrays: Sequence[jax.Array], axis: int, size: int) -> jax.Array:
    """Entry t of array i becomes entry t * len(arrays) + i of the axis, which is cut to `size`."""
    x = jnp.stack(arrays, axis + 1)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, size, axis=axis)


def _overlap(arrays: Sequence[jax.Array], axis: int, tile: int, size: int) -> jax.Array:
    """The adjoint of `_windows`: entry t of array i is added to entry t * tile + i of the axis."""
    count = arrays[0].shape[axis]
    groups = -(-size // tile)

    parts = []
    for offset in range(tile):
        total = None
        for i in range(offset, len(arrays), tile):
            shift = i // tile
            array = arrays[i]
            if shift + count > groups:  # these fall on what the axis does not have
                array = jax.lax.slice_in_dim(array, 0, groups - shift, axis=axis)
            term = _pad(array, axis, shift, groups - shift - array.shape[axis])
            total = term if total is None else total + term
        assert total is not None
        parts.append(total)
    return _interleave(parts, axis, size)


def _pad(x: jax.Array, axis: int, before: int, after: int) -> jax.Array:
    """Zeros at the ends of an axis. Not jnp.pad: within a function apart that is another one apart."""
    if not before and not after:
        return x
    ends = [(before, after, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ends)
