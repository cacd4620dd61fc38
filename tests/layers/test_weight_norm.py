import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random
from ganjax.layers import GaussianNoise, WeightNormConv, WeightNormDense, conv, weight_normalised

DRAW = np.random.default_rng(0)
KEYS = random.from_seeds(jnp.arange(6))


def test_by_hand():
    kernel = jnp.array([[3.0, 0.0], [4.0, -2.0]])
    found = weight_normalised(kernel, jnp.array([10.0, 3.0]))
    np.testing.assert_allclose(found, [[6, 0], [8, -3]], rtol=1e-6)


def test_the_length_of_weights_is_the_scale_and_not_the_kernels():
    x = jnp.asarray(DRAW.normal(size=(2, 5, 4, 3)), jnp.float32)
    layer = WeightNormConv(2, (3, 3), (2, 2))
    params = layer.init(jax.random.key(0), x)["params"]
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "kernel": (3, 3, 3, 2),
        "scale": (2,),
        "bias": (2,),
    }
    params = {"kernel": 7 * params["kernel"], "scale": jnp.array([1.0, 2.0]), "bias": jnp.array([0.0, 5.0])}
    direction = np.asarray(params["kernel"]) / np.sqrt(np.square(params["kernel"]).sum((0, 1, 2)))
    expected = conv(x, jnp.asarray(direction * [1, 2], jnp.float32), 2) + jnp.array([0, 5.0]).reshape(
        1, 1, 1, 2
    )
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-5)


def test_dense_is_a_convolution_of_one_pixel():
    x = jnp.asarray(DRAW.normal(size=(2, 3)), jnp.float32)
    params = WeightNormDense(4).init(jax.random.key(0), x)["params"]
    wide = {**params, "kernel": params["kernel"].reshape(1, 1, 3, 4)}
    found = WeightNormDense(4).apply({"params": params}, x)
    assert isinstance(found, jax.Array)
    other = WeightNormConv(4, (1, 1)).apply({"params": wide}, x.reshape(2, 1, 1, 3))
    np.testing.assert_allclose(found.reshape(2, 1, 1, 4), other, rtol=1e-5)


def test_a_length_that_stays():
    x = jnp.asarray(DRAW.normal(size=(2, 3)), jnp.float32)
    layer = WeightNormDense(4, scale=3.0, learn_scale=False)
    params = layer.init(jax.random.key(0), x)["params"]
    assert set(params) == {"kernel", "bias"}
    expected = x @ weight_normalised(params["kernel"], jnp.full(4, 3.0))
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-5)


def test_a_kernel_of_zeros_has_a_finite_gradient():
    gradient = jax.grad(lambda kernel: jnp.sum(weight_normalised(kernel, jnp.ones(2))))(jnp.zeros((3, 2)))
    assert np.isfinite(gradient).all()


def test_noise():
    x = jnp.full((6, 40, 50), 3.0)
    y = np.asarray(GaussianNoise(0.5).apply({}, x, KEYS))
    # 2,000 draws an example: five standard deviations.
    np.testing.assert_allclose(y.mean((1, 2)), 3.0, atol=0.06)
    np.testing.assert_allclose(y.std((1, 2)), 0.5, atol=0.04)
    order = np.array([4, 1, 3])
    np.testing.assert_array_equal(GaussianNoise(0.5).apply({}, x[order], KEYS[order]), y[order])
    assert len({row.tobytes() for row in y}) == 6
    assert GaussianNoise(0.5).apply({}, x, None) is x
    with pytest.raises(ValueError, match=r"noise=-1\.0: expected a standard deviation of at least 0"):
        GaussianNoise(-1.0).apply({}, x, None)
    with pytest.raises(ValueError, match=r"one key an example: got keys \(5,\) for \(6, 40, 50\)"):
        GaussianNoise(0.5).apply({}, x, KEYS[:5])
