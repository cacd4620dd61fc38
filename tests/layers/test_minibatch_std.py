"""The standard deviation over a group, against its definition, on one device and on four."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.layers import minibatch_std

needs_devices = pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
X = np.random.default_rng(0).normal(size=(8, 2, 3, 5)).astype(np.float32)


def defined(x: np.ndarray, group: int) -> np.ndarray:
    channel = np.empty((*x.shape[:-1], 1), np.float32)
    for first in range(0, len(x), group):
        channel[first : first + group] = x[first : first + group].std(axis=0).mean()
    return np.concatenate([x, channel], axis=-1)


@pytest.mark.parametrize("group", [2, 4, 8])
def test_on_one_device(group):
    np.testing.assert_allclose(minibatch_std(jnp.asarray(X), group), defined(X, group), rtol=1e-4)


@needs_devices
@pytest.mark.parametrize("group", [2, 4])  # within a device, and over two of them
def test_on_four_devices(group):
    parts = X.reshape(4, 2, *X.shape[1:])
    found = jax.pmap(lambda x: minibatch_std(x, group, "data"), axis_name="data")(parts)
    np.testing.assert_allclose(found.reshape(8, 2, 3, 6), defined(X, group), rtol=1e-4)


@needs_devices
def test_its_gradient_on_four_devices():
    weight = np.random.default_rng(1).normal(size=(8, 2, 3, 6)).astype(np.float32)

    def value(x, weight, axis=None):
        return jnp.sum(weight * minibatch_std(x, 4, axis))

    expected = jax.grad(value)(jnp.asarray(X), weight)
    over = jax.pmap(jax.grad(lambda x, w: value(x, w, "data")), axis_name="data")
    found = over(X.reshape(4, 2, 2, 3, 5), weight.reshape(4, 2, 2, 3, 6))
    np.testing.assert_allclose(found.reshape(X.shape), expected, rtol=1e-4, atol=1e-6)


def test_a_batch_smaller_than_a_group_is_one_and_others_must_be_divided():
    np.testing.assert_allclose(minibatch_std(jnp.asarray(X[:3]), 4), defined(X[:3], 3), rtol=1e-4)
    with pytest.raises(ValueError, match="groups of 4 do not divide a batch of 6"):
        minibatch_std(jnp.asarray(X[:6]), 4)
    with pytest.raises(ValueError, match="got \\(2, 3\\)"):
        minibatch_std(jnp.zeros((2, 3)))
    same = minibatch_std(jnp.ones((4, 1, 1, 2)))
    np.testing.assert_allclose(same[..., -1], 1e-4)  # and its gradient is finite
    gradient = jax.grad(lambda x: jnp.sum(minibatch_std(x)))(jnp.ones((4, 1, 1, 2)))
    assert np.isfinite(gradient).all()
