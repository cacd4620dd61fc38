"""Equalized learning rate and pixel norm, against their definitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.layers import EqualizedConv, EqualizedDense, pixel_norm

KEY = jax.random.key(0)


@pytest.mark.parametrize(("resample", "side"), [("", 4), ("up", 8), ("down", 2)])
def test_a_convolution_uses_its_kernel_times_he_s_constant(resample, side):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2, 4, 4, 5)).astype(np.float32)
    layer = EqualizedConv(3, resample=resample)
    form = jax.eval_shape(lambda: layer.init(KEY, x))["params"]
    assert {name: leaf.shape for name, leaf in form.items()} == {"kernel": (3, 3, 5, 3), "bias": (3,)}
    params = {name: draw.normal(size=leaf.shape).astype(np.float32) for name, leaf in form.items()}
    kernel = params["kernel"] * np.sqrt(2 / (3 * 3 * 5))  # He et al. 2015, equation 10
    wide = x.repeat(2, 1).repeat(2, 2) if resample == "up" else x
    padded = np.pad(wide, ((0, 0), (1, 1), (1, 1), (0, 0)))
    n = wide.shape[1]
    taps = [(i, j) for i in range(3) for j in range(3)]
    expected = np.sum([padded[:, i : i + n, j : j + n] @ kernel[i, j] for i, j in taps], axis=0)
    if resample == "down":
        expected = expected.reshape(2, 2, 2, 2, 2, 3).mean((2, 4))
    found: Any = layer.apply({"params": params}, x)
    assert found.shape == (2, side, side, 3)
    np.testing.assert_allclose(found, expected + params["bias"], rtol=1e-4, atol=1e-5)


def test_a_multiplier_changes_the_parameters_and_not_the_layer():
    x = np.ones((1, 200), np.float32)
    ours = EqualizedDense(300, gain=1.0, multiplier=0.01, bias=0.5)
    y, variables = ours.init_with_output(KEY, x)
    layer: Any = variables["params"]
    kernel, bias = layer["kernel"], layer["bias"]
    assert np.std(kernel) == pytest.approx(100, rel=0.02)
    np.testing.assert_allclose(bias, 50.0)
    np.testing.assert_allclose(y, x @ kernel * 0.01 / np.sqrt(200) + 0.5, rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda p: jnp.sum(ours.apply({"params": p}, x)))(layer)  # pyright: ignore
    np.testing.assert_allclose(gradient["bias"], 0.01)
    with pytest.raises(ValueError, match="multiplier=0"):
        EqualizedDense(3, multiplier=0.0).init(KEY, x)


def test_layers_keep_the_variance():
    """So said of He's constant: what comes out of many layers is neither lost nor exploded."""
    x = jax.random.normal(KEY, (64, 256))
    for i in range(4):
        x = jnp.maximum(EqualizedDense(256).init_with_output(jax.random.key(i), x)[0], 0)
    assert float(jnp.mean(jnp.square(x))) == pytest.approx(1.0, abs=0.4)


def test_pixel_norm():
    x = np.array([[3.0, 4.0], [0.0, 0.0], [-6.0, 8.0]], np.float32).reshape(1, 3, 1, 2)
    root = np.sqrt(12.5)
    expected = np.array([[3 / root, 4 / root], [0, 0], [-6 / (2 * root), 8 / (2 * root)]])
    np.testing.assert_allclose(pixel_norm(jnp.asarray(x)).reshape(3, 2), expected, rtol=1e-6)
    assert pixel_norm(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
