from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.layers import Conv, SpectralConv, SpectralDense

KEY = jax.random.key(0)
LAYERS = {
    "conv": (SpectralConv(5, (3, 3), (2, 1)), Conv(5, (3, 3), (2, 1)), (2, 6, 6, 3)),
    "dense": (SpectralDense(5), nn.Dense(5), (2, 7)),
}


@pytest.fixture(params=LAYERS)
def case(request) -> Any:
    """(spectral layer, plain layer, input, variables with a kernel of norms that are not 1)."""
    layer, plain, shape = LAYERS[request.param]
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    variables: Any = layer.init(KEY, x, train=True)
    params = {"kernel": 3.0 * variables["params"]["kernel"], "bias": jnp.arange(5.0)}
    return layer, plain, x, {"params": params, "spectral": variables["spectral"]}


def apply(layer, variables, x, *, train) -> tuple[jax.Array, Any]:
    return layer.apply(variables, x, train=train, mutable=["spectral"])


def settled(layer, variables, x, count=200):
    """The variables after so many forward passes in training."""
    step = jax.jit(lambda variables: {**variables, **apply(layer, variables, x, train=True)[1]})
    for _ in range(count):
        variables = step(variables)
    return variables


def matrix(variables) -> np.ndarray:
    kernel = np.asarray(variables["params"]["kernel"], np.float64)
    return kernel.reshape(-1, kernel.shape[-1])


def test_parameters_are_those_of_the_plain_layer(case):
    layer, plain, x, _ = case
    ours, theirs = layer.init(KEY, x, train=True)["params"], plain.init(KEY, x)["params"]
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_after_many_passes_the_kernel_is_over_its_largest_singular_value(case):
    layer, plain, x, variables = case
    after = settled(layer, variables, x)
    jax.tree.map(np.testing.assert_array_equal, after["params"], variables["params"])
    sigma = np.linalg.svd(matrix(variables), compute_uv=False)[0]
    assert not 0.9 < sigma < 1.1
    exact = {"kernel": variables["params"]["kernel"] / sigma, "bias": variables["params"]["bias"]}
    expected = plain.apply({"params": exact}, x)
    for train in (True, False):
        np.testing.assert_allclose(apply(layer, after, x, train=train)[0], expected, rtol=0.01, atol=0.01)


def test_the_first_pass_by_hand(case):
    """v = unit(W u), u' = unit(W^T v), sigma = v^T W u' (Miyato et al. 2018, algorithm 1)."""
    layer, plain, x, variables = case
    weight, u = matrix(variables), np.asarray(variables["spectral"]["u"], np.float64)
    v = weight @ u
    v /= np.linalg.norm(v)
    u = weight.T @ v
    u /= np.linalg.norm(u)
    params = variables["params"]
    exact = {"kernel": params["kernel"] / (v @ weight @ u), "bias": params["bias"]}
    y, changes = apply(layer, variables, x, train=True)
    np.testing.assert_allclose(y, plain.apply({"params": exact}, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(changes["spectral"]["u"], u, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(changes["spectral"]["v"], v, rtol=1e-4, atol=1e-6)


def test_initialising_and_evaluating_make_no_iteration(case):
    layer, _, x, variables = case
    _, changes = apply(layer, variables, x, train=False)
    jax.tree.map(np.testing.assert_array_equal, changes["spectral"], variables["spectral"])
    for train in (True, False):
        again = layer.init(KEY, x, train=train)["spectral"]
        jax.tree.map(np.testing.assert_array_equal, again, variables["spectral"])
    for vector in changes["spectral"].values():
        np.testing.assert_allclose(np.linalg.norm(vector), 1.0, rtol=1e-5)


def test_in_the_gradient_the_vectors_are_constants(case):
    """d/dW of f(W / sigma), sigma = v^T W u: (G - <G, W / sigma> v u^T) / sigma, where G = f'(W / sigma)
    (Miyato et al. 2018, equation 12)."""
    layer, plain, x, variables = case
    variables = settled(layer, variables, x, count=3)
    params, spectral = variables["params"], variables["spectral"]

    def loss(kernel, train):
        return jnp.sum(
            jnp.sin(apply(layer, {**variables, "params": {**params, "kernel": kernel}}, x, train=train)[0])
        )

    weight = matrix(variables)
    for train in (True, False):
        moved = apply(layer, variables, x, train=True)[1]["spectral"] if train else spectral
        u, v = (np.asarray(moved[name], np.float64) for name in ("u", "v"))
        sigma = v @ weight @ u
        normalised = params["kernel"] / np.float32(sigma)
        outer = jax.grad(
            lambda kernel: jnp.sum(jnp.sin(plain.apply({"params": {**params, "kernel": kernel}}, x)))
        )(normalised)
        outer = np.asarray(outer, np.float64).reshape(weight.shape)
        expected = (outer - np.sum(outer * weight / sigma) * np.outer(v, u)) / sigma
        ours = jax.grad(loss)(params["kernel"], train)
        np.testing.assert_allclose(ours.reshape(weight.shape), expected, rtol=1e-3, atol=1e-4)


def test_the_scale_of_the_kernel_is_of_no_consequence(case):
    layer, _, x, variables = case
    doubled = {**variables, "params": {**variables["params"], "kernel": 2 * variables["params"]["kernel"]}}
    a, b = (apply(layer, v, x, train=True)[0] for v in (variables, doubled))
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_kernel_of_zeros_stays_zero(case):
    layer, _, x, variables = case
    zeros = {**variables, "params": {"kernel": 0 * variables["params"]["kernel"], "bias": jnp.arange(5.0)}}
    y, changes = apply(layer, zeros, x, train=True)
    np.testing.assert_array_equal(y, np.broadcast_to(np.arange(5.0), y.shape))
    assert all(np.isfinite(vector).all() for vector in changes["spectral"].values())


@pytest.mark.parametrize("kind", LAYERS)
def test_bfloat16_is_for_compute_only(kind):
    layer, _, shape = LAYERS[kind]
    rough = layer.clone(dtype=jnp.dtype("bfloat16"))
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    variables = rough.init(KEY, x, train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    y, changes = apply(rough, variables, x, train=True)
    exact, expected = apply(layer, variables, x, train=True)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.05)
    # The norm is of the float32 kernel: no vector is rounded.
    jax.tree.map(np.testing.assert_array_equal, changes, expected)


def test_without_a_bias():
    for layer, _, shape in LAYERS.values():
        variables: Any = layer.clone(use_bias=False).init(KEY, jnp.zeros(shape), train=True)
        assert set(variables["params"]) == {"kernel"}
