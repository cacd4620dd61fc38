"""Means over devices: the values of `pmean`, added in the order of the axis, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import collectives

N = 4
pytestmark = pytest.mark.skipif(jax.device_count() < N, reason="needs four devices")


def mapped(function):
    return jax.pmap(function, "data", devices=jax.devices()[:N])


@pytest.fixture
def values() -> np.ndarray:
    """Of such sizes that the order of a sum shows in its last bits."""
    draw = np.random.default_rng(0)
    return (draw.normal(size=(N, 500)) * 10.0 ** draw.integers(-4, 5, (N, 500))).astype(np.float32)


def test_the_sum_is_taken_in_the_order_of_the_axis(values):
    expected = ((values[0] + values[1]) + values[2]) + values[3]
    others = (values[3] + values[2]) + (values[1] + values[0])
    assert (expected != others).any()
    for form in (
        lambda x: collectives.mean({"a": x}, "data", ordered=True)["a"],
        lambda x: collectives.statistic(x, "data"),
    ):
        for device in np.asarray(mapped(form)(values)):
            np.testing.assert_array_equal(device, expected / np.float32(N))


def test_the_other_form_is_pmean(values):
    found = np.asarray(mapped(lambda x: collectives.mean(x, "data"))(values))
    np.testing.assert_allclose(found[0], values.mean(0), rtol=1e-3, atol=1e-3)


def test_without_an_axis_nothing_happens(values):
    assert collectives.mean(values, None, ordered=True) is values


def test_a_statistics_gradient_reaches_every_device(values):
    """The derivative of the devices' mean loss in each device's part, as if the batch were whole."""
    x = jnp.asarray(values[:, :3] / 1e4)

    def whole(x):
        return jnp.mean(
            jnp.sum(jnp.sin((x - jnp.mean(x, 0, keepdims=True)) * jnp.arange(1.0, N + 1)[:, None]), 1)
        )

    def local(x):
        place = jax.lax.axis_index("data") + 1.0
        return jnp.sum(jnp.sin((x - collectives.statistic(x, "data")) * place))

    expected = jax.grad(whole)(x)
    # A device's part counts with 1/N in the mean loss.
    np.testing.assert_allclose(np.asarray(mapped(jax.grad(local))(x)) / N, expected, rtol=1e-4, atol=1e-5)

    def along(x):
        return jax.jvp(lambda x: collectives.statistic(x, "data"), (x,), (2 * x,))[1]

    np.testing.assert_allclose(
        np.asarray(mapped(along)(x))[0], 2 * np.asarray(x).mean(0), rtol=1e-5, atol=1e-6
    )

    def curvature(x):
        return jax.grad(lambda x: jnp.sum(jax.grad(local)(x) ** 2))(x)

    def whole_curvature(x):
        return jax.grad(lambda x: jnp.sum((N * jax.grad(whole)(x)) ** 2))(x)

    np.testing.assert_allclose(np.asarray(mapped(curvature)(x)), whole_curvature(x), rtol=1e-3, atol=1e-3)


def test_a_gathered_batchs_gradient_is_the_sum_of_what_every_loss_owes(values):
    """As if the batch were whole: each device's loss depends on every part."""
    x = jnp.asarray(values[:, :6].reshape(N, 2, 3) / 1e4)
    weights = jnp.arange(1.0, 2 * N + 1)[:, None]

    def loss(everyone, place):
        return jnp.sum(jnp.sin(everyone * weights * place))

    def whole(x):
        return sum(loss(x.reshape(2 * N, 3), place + 1.0) for place in range(N))

    def local(x):
        return loss(collectives.gather(x, "data"), jax.lax.axis_index("data") + 1.0)

    gathered = np.asarray(mapped(lambda x: collectives.gather(x, "data"))(x))
    for device in gathered:
        np.testing.assert_array_equal(device, x.reshape(2 * N, 3))
    found = np.asarray(mapped(jax.grad(local))(x))
    np.testing.assert_allclose(found, jax.grad(whole)(x), rtol=1e-3, atol=1e-4)

    def curvature(x):
        return jax.grad(lambda x: jnp.sum(jax.grad(local)(x) ** 2))(x)

    def whole_curvature(x):
        return jax.grad(lambda x: jnp.sum(jax.grad(whole)(x) ** 2))(x)

    expected = np.asarray(whole_curvature(x))
    np.testing.assert_allclose(
        np.asarray(mapped(curvature)(x)), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )


def test_a_gathered_batchs_gradient_is_added_in_the_order_of_the_axis(values):
    def local(x, cotangents):
        return jax.vjp(lambda x: collectives.gather(x, "data"), x)[1](cotangents)[0]

    # On device e, what its loss owes to the part of device d: values[e] scaled by d + 1.
    cotangents = np.stack([np.concatenate([values[e] * (d + 1) for d in range(N)]) for e in range(N)])
    found = np.asarray(mapped(local)(values, cotangents))
    for d in range(N):
        owed = [(values[e] * (d + 1)).astype(np.float32) for e in range(N)]
        np.testing.assert_array_equal(found[d], ((owed[0] + owed[1]) + owed[2]) + owed[3])
