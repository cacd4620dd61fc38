import jax
import numpy as np
import pytest
from PIL import Image

from ganjax.errors import UsageError
from ganjax.metrics import resizing
from ganjax.metrics.resizing import RESIZERS, check_resizer, inception_input, matrix

fast = jax.jit(inception_input, static_argnums=1, compiler_options={"xla_backend_optimization_level": 0})


def images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_clean_is_pillow_on_floats():
    for length, size in ((7, 19), (40, 13), (299, 299), (3, 2), (1, 5)):
        row = images(length, seed=length).astype(np.float32)
        expected = Image.fromarray(row[None], mode="F").resize((size, 1), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(matrix("clean", length, size) @ row, np.asarray(expected)[0], atol=1e-4)


def test_pytorch_lays_centres_over_centres():
    for length, size in ((7, 19), (40, 13), (5, 5), (1, 5)):
        row = images(length, seed=length).astype(np.float32)
        expected = jax.image.resize(row, (size,), "bilinear", antialias=False)
        np.testing.assert_allclose(matrix("pytorch", length, size) @ row, expected, atol=1e-4)


def test_tf1_by_hand():
    # Output o of 4 lies at o * 2 / 4: on pixel 0, between, on pixel 1, and beyond it, where pixel 1 goes on.
    np.testing.assert_array_equal(matrix("tf1", 2, 4), [[1, 0], [0.5, 0.5], [0, 1], [0, 1]])
    # It does not average where it shrinks: pixels 0 and 2 of 4.
    np.testing.assert_array_equal(matrix("tf1", 4, 2), [[1, 0, 0, 0], [0, 0, 1, 0]])
    # A row of 32 is moved towards the beginning against PyTorch's: by (1 - 32 / 299) / 2 pixels.
    ramp = np.arange(32.0)
    moved = (matrix("tf1", 32) - matrix("pytorch", 32)) @ ramp
    np.testing.assert_allclose(moved[20:-20], (1 - 32 / 299) / 2, atol=1e-4)


@pytest.mark.parametrize("name", RESIZERS)
def test_scale_and_channels(name):
    x = images(2, 6, 9, 3)
    y = fast(x, name)
    assert y.shape == (2, 299, 299, 3)
    down, across = matrix(name, 6), matrix(name, 9)
    expected = np.clip(np.einsum("oh,nhwc,pw->nopc", down, x, across), 0, 255)
    expected = expected / 127.5 - 1 if name == "pytorch" else (expected - 128) / 128
    np.testing.assert_allclose(y, expected, atol=1e-5)
    black_and_white = fast(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1), name)
    low, high = (-1, 1) if name == "pytorch" else (-1, 127 / 128)
    np.testing.assert_allclose(black_and_white[0], low, atol=1e-6)
    np.testing.assert_allclose(black_and_white[1], high, atol=1e-6)
    # Grey is the same three times; alpha lies over white, rounded as a viewer rounds.
    np.testing.assert_array_equal(fast(x[..., :1], name), fast(np.repeat(x[..., :1], 3, -1), name))
    alpha = images(2, 6, 9, 1, seed=1)
    seen = np.round(x * (alpha / 255) + 255 * (1 - alpha / 255)).astype(np.uint8)
    np.testing.assert_allclose(fast(np.concatenate([x, alpha], -1), name), fast(seen, name), atol=1e-5)


def test_an_image_of_the_right_size_is_left_alone():
    x = images(1, 299, 299, 3)
    for name in RESIZERS:
        scaled = x / np.float32(127.5) - 1 if name == "pytorch" else (x - np.float32(128)) / 128
        np.testing.assert_allclose(fast(x, name), scaled, atol=1e-6)


def test_an_unknown_resizer_is_refused():
    assert [check_resizer(name) for name in resizing.RESIZERS] == list(RESIZERS)
    with pytest.raises(UsageError, match=r"resize='tf': did you mean tf1\?"):
        check_resizer("tf")
