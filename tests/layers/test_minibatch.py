import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.layers import MinibatchDiscrimination
from tests.layers.arrays import assert_close


def features(count: int = 4, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, 5)), jnp.float32)


LAYER = MinibatchDiscrimination(kernels=3, dims=2)
TENSOR = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3, 2)) / 3, jnp.float32)
VARIABLES = {"params": {"tensor": TENSOR}}


def test_the_papers_formula_example_by_example():
    x = np.asarray(features(), np.float64)
    matrices = np.einsum("na,abc->nbc", x, np.asarray(TENSOR, np.float64))
    expected = np.zeros((4, 3))
    for i in range(4):
        for j in range(4):
            if i != j:
                expected[i] += np.exp(-np.abs(matrices[i] - matrices[j]).sum(-1))
    y = np.asarray(LAYER.apply(VARIABLES, features()))
    assert_close(y, np.concatenate([x, expected], axis=1).astype(np.float32), 1e-5)


def test_copies_are_nearest_and_one_alone_has_none():
    y = np.asarray(LAYER.apply(VARIABLES, jnp.tile(features(1), (4, 1))))
    np.testing.assert_array_equal(y[:, 5:], 3)  # exp(0) from each of three others
    np.testing.assert_array_equal(np.asarray(LAYER.apply(VARIABLES, features(1)))[:, 5:], 0)


def test_copies_have_finite_gradients():
    def nearness(x: jax.Array) -> jax.Array:
        y: Any = LAYER.apply(VARIABLES, x)
        return jnp.sum(y[:, 5:])

    gradient = jax.grad(nearness)(jnp.tile(features(1), (4, 1)))
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
def test_over_devices_it_is_that_of_the_whole_batch():
    """Outputs, and the gradients of the mean loss: those in the kernel as a step averages them, those in the
    features, which enter the other device's loss too."""
    x, weights = features(6), jnp.asarray(np.random.default_rng(2).normal(size=(6, 8)), jnp.float32)

    def loss(variables, x, weights, layer) -> Any:
        y = layer.apply(variables, x)
        return jnp.mean(jnp.sum(jnp.sin(2 * y) * weights, axis=1)), y

    def both(layer):
        return jax.value_and_grad(functools.partial(loss, layer=layer), argnums=(0, 1), has_aux=True)

    (_, y), (of_kernel, of_x) = both(LAYER)(VARIABLES, x, weights)

    def on_each(x, weights):
        (_, y), (of_kernel, of_x) = both(LAYER.clone(axis_name="data"))(VARIABLES, x, weights)
        return y, jax.lax.pmean(of_kernel, "data"), of_x

    split = [leaf.reshape(2, 3, -1) for leaf in (x, weights)]
    ys, kernels, xs = jax.pmap(on_each, "data", devices=jax.devices()[:2])(*split)
    assert_close(np.asarray(ys).reshape(y.shape), np.asarray(y))
    # A device's loss is the mean of its half: it counts with 1/2 in the mean of all.
    assert_close(np.asarray(xs).reshape(x.shape) / 2, np.asarray(of_x))
    for device in range(2):
        assert_close(jax.tree.map(lambda leaf: leaf[device], kernels), of_kernel)
    # Without the axis each device would see its own half.
    apart = jax.pmap(lambda x: LAYER.apply(VARIABLES, x), "data", devices=jax.devices()[:2])(split[0])
    assert np.abs(np.asarray(apart).reshape(y.shape) - y).max() > 0.1


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"features \[n, A\]; got \(2, 3, 3, 1\)"):
        LAYER.apply(VARIABLES, jnp.zeros((2, 3, 3, 1)))
    with pytest.raises(ValueError, match="kernels=0, dims=2: both must be at least 1"):
        MinibatchDiscrimination(0, 2).init(jax.random.key(0), features())
