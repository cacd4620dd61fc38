import itertools
from fractions import Fraction

import jax
import numpy as np
import pytest

from ganjax.layers import conv
from ganjax.layers.winograd import (
    best_tiles,
    multiplications,
    transforms,
    winograd_conv,
    winograd_input_gradient,
    winograd_kernel_gradient,
)
from tests.layers.arrays import assert_close, fast, images, lax_conv, pulled

SIZES = {2: (2, 3, 4), 3: (2, 3, 4)}  # by taps, the tiles of one axis
PAIRS = [(taps, pair) for taps, sizes in SIZES.items() for pair in itertools.product(sizes, sizes)]


@pytest.mark.parametrize(("tile", "taps"), [(tile, taps) for taps, sizes in SIZES.items() for tile in sizes])
def test_transforms_are_a_correlation_exactly(tile, taps):
    """Bilinear in data and taps, so that it is enough to see each pair of entries; in fractions."""

    def exact(matrix):
        fractions = [[Fraction(entry).limit_denominator(1000) for entry in row] for row in matrix]
        assert [[float(entry) for entry in row] for row in fractions] == [list(row) for row in matrix]
        return fractions

    data, kernel, output = (exact(matrix) for matrix in transforms(tile, taps))
    for place, tap, pixel in itertools.product(range(tile), range(taps), range(tile + taps - 1)):
        product = sum(o * k[tap] * d[pixel] for o, k, d in zip(output[place], kernel, data, strict=True))
        assert product == int(pixel == place + tap)


@pytest.mark.parametrize(
    ("taps", "tiles"),
    # In the default tests, square ones.
    [pytest.param(*pair, marks=[] if pair[1][0] == pair[1][1] else [pytest.mark.slow]) for pair in PAIRS],
)
def test_products_are_the_convolution_and_its_gradients(taps, tiles):
    # Divided into tiles; not; smaller than one.
    outputs = [(2 * tiles[0], tiles[1]), (2 * tiles[0] + 1, 2 * tiles[1] - 1), (1, 1)]

    def both(xs, kernel):
        results = []
        for x in xs:
            value, of_image, of_kernel = pulled(lax_conv, x, kernel)
            # As it is in `pulled`: the gradient of a sum with the cotangent.
            cotangent = jax.numpy.sin(1 + jax.numpy.arange(value.size, dtype=value.dtype)).reshape(
                value.shape
            )
            ours = (
                winograd_conv(x, kernel, tiles),
                winograd_input_gradient(cotangent, kernel, tiles),
                winograd_kernel_gradient(x, cotangent, taps, tiles),
            )
            results.append((ours, (value, of_image, of_kernel)))
        return results

    xs = [images(2, h + taps - 1, w + taps - 1, 8, seed=i) for i, (h, w) in enumerate(outputs)]
    # Two features are few beside eight channels, for the kernel's gradient.
    for ours, expected in fast(both)(xs, images(taps, taps, 8, 2, seed=9)):
        assert_close(ours, expected)


def test_kernel_gradient_of_as_many_features_as_channels():
    x, g = images(1, 5, 6, 3), images(1, 3, 4, 4, seed=1)
    kernel = images(3, 3, 3, 4)
    ours = fast(lambda x, g: winograd_kernel_gradient(x, g, 3, (2, 4)))(x, g)
    expected = fast(lambda x, g: jax.vjp(lambda k: lax_conv(x, k), kernel)[1](g)[0])(x, g)
    assert_close(ours, expected)


@pytest.mark.parametrize(("taps", "channels"), [(2, 128), (3, 64), (3, 256)])
def test_error_of_the_chosen_tiles(taps, channels):
    tiles = best_tiles(64, 32, 32, taps, channels, channels)
    assert tiles is not None
    x, kernel = images(2, 13, 12, channels), images(taps, taps, channels, channels, seed=1)
    ours = np.asarray(fast(lambda x, k: winograd_conv(x, k, tiles))(x, kernel), np.float64)
    exact_x, exact_kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    rows, columns = ours.shape[1:3]
    exact = np.zeros(ours.shape)
    for i, j in itertools.product(range(taps), range(taps)):
        exact += exact_x[:, i : i + rows, j : j + columns] @ exact_kernel[i, j]
    error = np.abs(ours - exact).max() / np.abs(exact).max()
    assert 0 < error < 3e-6


def test_tiles_are_for_many_channels_and_rows():
    assert best_tiles(8, 16, 16, 3, 64, 64) == (2, 4)
    assert best_tiles(8, 16, 16, 3, 16, 16) is None  # few channels: the transforms of data cost more
    assert best_tiles(1, 4, 4, 3, 256, 256) is None  # few rows: the kernel's transform does
    assert best_tiles(64, 32, 32, 2, 256, 256) == (4, 4)
    assert best_tiles(64, 32, 32, 5, 256, 256) is None
    # More places of the output that a tile covers in vain, and the smaller tile is the cheaper one.
    assert best_tiles(512, 2, 2, 3, 256, 256) == (2, 2)
    for taps, channels, size in itertools.product((2, 3), (16, 64, 512), (4, 7, 8, 32)):
        tiles = best_tiles(64, size, size, taps, channels, channels)
        assert taps == 2 or tiles not in ((4, 4), (3, 4), (4, 3))
        if tiles is not None:
            defined = 64 * size**2 * taps**2 * channels**2
            assert multiplications(64, size, size, taps, channels, channels, tiles) < defined


def test_conv_of_many_channels_goes_through_the_products():
    def dots(channels):
        x = jax.ShapeDtypeStruct((8, 16, 16, channels), np.float32)
        kernel = jax.ShapeDtypeStruct((3, 3, channels, channels), np.float32)
        texts = [jax.jit(conv).lower(x, kernel).as_text()]
        for argument in (0, 1):
            gradient = jax.grad(lambda x, k: conv(x, k).sum(), argument)
            texts.append(jax.jit(gradient).trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text())
        return [(text.count("dot_general"), text.count("stablehlo.convolution")) for text in texts]

    # Tiles of 2x4: 4 * 6 products.
    assert dots(64) == [(24, 0), (24, 0), (24, 0)]
    assert [products for products, _ in dots(32)] == [0, 0, 0]
