"""Modulated and filtered convolutions against their definitions, in double precision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from ganjax import random
from ganjax.layers.modulated import FilteredConv, ModulatedConv, filtered_conv, modulated_conv

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


@pytest.fixture(autouse=True)
def in_double_precision():
    with jax.enable_x64(True):
        yield


def by_definition(x: np.ndarray, kernel: np.ndarray, resample: str) -> np.ndarray:
    """By scipy: zeros between, the convolution and the filter one after the other, every second pixel."""
    n, height, width, channels = x.shape
    size, features = kernel.shape[0], kernel.shape[3]
    outputs = []
    for example in range(n):
        of_features = []
        for feature in range(features):
            total: np.ndarray | float = 0.0
            for channel in range(channels):
                image, taps = x[example, :, :, channel], kernel[:, :, channel, feature]
                if resample == "up":
                    spread = np.zeros((2 * height, 2 * width))
                    spread[::2, ::2] = image
                    image = 4 * scipy.signal.convolve2d(spread, FILTER)
                elif resample == "down":
                    image = scipy.signal.convolve2d(image, FILTER)
                total = total + scipy.signal.correlate2d(image, taps)
            # The filter moves by half a pixel to either side, and both have grown what they were given.
            assert isinstance(total, np.ndarray)
            edge = {"": size // 2, "up": size // 2 + 1, "down": size // 2 + 2}[resample]
            rows = {"": height, "up": 2 * height, "down": height}[resample]
            columns = {"": width, "up": 2 * width, "down": width}[resample]
            step = 2 if resample == "down" else 1
            of_features.append(total[edge : edge + rows : step, edge : edge + columns : step])
        outputs.append(np.stack(of_features, axis=-1))
    return np.stack(outputs)


@pytest.mark.parametrize("size", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("resample", ["", "up", "down"])
def test_filtered_convolutions(resample, size):
    draw = np.random.default_rng(0)
    x, kernel = draw.normal(size=(2, 4, 6, 2)), draw.normal(size=(size, size, 2, 3))
    expected = by_definition(x, kernel, resample)
    found = filtered_conv(jnp.asarray(x), jnp.asarray(kernel), resample)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)  # the filter is float32
    # Large enough for the other form.
    large = jnp.zeros((1, 10, 8, 2))
    found = jax.eval_shape(lambda x: filtered_conv(x, jnp.asarray(kernel), resample), large)
    assert found.shape == (1, *(int(side * {"": 1, "up": 2, "down": 0.5}[resample]) for side in (10, 8)), 3)


def test_odd_sides_cannot_be_halved():
    with pytest.raises(ValueError, match="even height and width"):
        filtered_conv(jnp.zeros((1, 4, 5, 2)), jnp.zeros((3, 3, 2, 2)), "down")


@pytest.mark.parametrize("resample", ["up", pytest.param("", marks=pytest.mark.slow)])
@pytest.mark.parametrize("demodulate", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_modulation_is_a_kernel_for_each_example(resample, demodulate):
    draw = np.random.default_rng(1)
    x, kernel = draw.normal(size=(3, 4, 4, 2)), draw.normal(size=(3, 3, 2, 5))
    scales = draw.normal(size=(3, 2))
    found = modulated_conv(
        jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(scales), resample, demodulate=demodulate
    )
    for example in range(3):
        own = kernel * scales[example][:, None]
        if demodulate:
            own = own / np.sqrt(np.sum(np.square(own), axis=(0, 1, 2)) + 1e-8)
        (expected,) = filtered_conv(jnp.asarray(x[example : example + 1]), jnp.asarray(own), resample)
        np.testing.assert_allclose(found[example], expected, rtol=1e-12, atol=1e-12)


def test_the_layers_scale_by_the_fan_in():
    draw = np.random.default_rng(2)
    x, style = draw.normal(size=(2, 4, 4, 3)), draw.normal(size=(2, 6))
    params = {
        "style": {"kernel": draw.normal(size=(6, 3)), "bias": draw.normal(size=3)},
        "kernel": draw.normal(size=(3, 3, 3, 4)),
        "bias": draw.normal(size=4),
    }
    form = jax.eval_shape(lambda: ModulatedConv(4).init(jax.random.key(0), x, style))["params"]
    assert jax.tree.map(jnp.shape, form) == jax.tree.map(np.shape, params)
    scales = style @ params["style"]["kernel"] / np.sqrt(6) + params["style"]["bias"]
    kernel = params["kernel"] / np.sqrt(27)
    found: Any = ModulatedConv(4).apply({"params": params}, x, style)
    expected = modulated_conv(jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(scales))
    expected = np.asarray(expected) + params["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    params = {"kernel": params["kernel"], "bias": draw.normal(size=4)}
    found = FilteredConv(4).apply({"params": params}, x)
    expected = np.asarray(filtered_conv(jnp.asarray(x), jnp.asarray(kernel))) + params["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_noise_is_the_examples_own():
    keys = random.from_seeds(np.array([3, 4, 3]))
    x, style = jnp.zeros((3, 4, 4, 2)), jnp.ones((3, 5))
    layer = ModulatedConv(2, noise=True)
    form = jax.eval_shape(lambda: layer.init(jax.random.key(0), x, style))["params"]
    assert form["strength"].shape == ()
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), form) | {"strength": jnp.asarray(0.5)}
    found = np.asarray(layer.apply({"params": params}, x, style, keys))
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])
    assert np.array_equal(found[..., 0], found[..., 1])
    np.testing.assert_allclose(found[..., 0], 0.5 * random.normal(keys, (4, 4)), rtol=1e-6)
    assert not np.any(np.asarray(layer.apply({"params": params}, x, style)))
