import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.layers import SelfAttention, attend, attention_weights
from ganjax.layers import attention as attention_module
from tests.nets.networks import FAST, random_variables

KEY = jax.random.key(0)


def draws(*shapes, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.normal(size=shape).astype(np.float32) for shape in shapes]


def by_definition(queries, keys, values):
    """Zhang et al. 2019, equations 1 and 2, one query at a time, in float64."""
    outputs = np.zeros((*queries.shape[:2], values.shape[-1]))
    weights = np.zeros((*queries.shape[:2], keys.shape[1]))
    for i in range(queries.shape[0]):
        for j in range(queries.shape[1]):
            products = [math.exp(float(np.dot(queries[i, j], key))) for key in keys[i].astype(np.float64)]
            weights[i, j] = np.array(products) / sum(products)
            outputs[i, j] = weights[i, j] @ values[i]
    return outputs, weights


@pytest.mark.parametrize("held", [1 << 26, 24, 1])
def test_it_is_what_it_is_defined_as(held):
    """In one piece, in parts of which each holds so many weights, and a query at a time."""
    queries, keys, values = draws((2, 6, 3), (2, 4, 3), (2, 4, 5))
    outputs, weights = by_definition(queries, keys, values)
    np.testing.assert_allclose(attention_weights(queries, keys), weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(attend(queries, keys, values, held=held), outputs, rtol=1e-5, atol=1e-6)


def test_derivatives_are_those_of_the_plain_formula():
    """Of every input, and second ones, whole and in parts."""
    arrays = draws((1, 4, 2), (1, 2, 2), (1, 2, 3))
    (cotangent,) = draws((1, 4, 3), seed=1)

    def plain(q, k, v):
        return jnp.sum(jnp.square(attention_weights(q, k) @ v) * cotangent)

    def whole(q, k, v):
        return jnp.sum(jnp.square(attend(q, k, v)) * cotangent)

    def parts(q, k, v):
        return jnp.sum(jnp.square(attend(q, k, v, held=4)) * cotangent)

    def first(function):
        return jax.grad(function, (0, 1, 2))

    def second(function):
        return jax.grad(lambda *x: sum(jnp.sum(jnp.sin(g)) for g in first(function)(*x)), (0, 1, 2))

    def both(function):
        return jax.jit(lambda *x: (first(function)(*x), second(function)(*x)), compiler_options=FAST)(*arrays)

    expected = both(plain)
    for function in (whole, parts):
        for ours, theirs in zip(*map(jax.tree.leaves, (both(function), expected)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_large_products_do_not_overflow():
    queries, keys, values = draws((1, 2, 3), (1, 4, 3), (1, 4, 2))
    found = attend(1e4 * queries, keys, values)
    best = np.argmax(queries[0] @ keys[0].T, axis=1)
    np.testing.assert_allclose(found[0], values[0][best], rtol=1e-5)


@pytest.mark.parametrize(
    ("length", "held", "parts"), [(6, 48, 1), (6, 47, 2), (6, 10, 6), (6, 16, 3), (7, 20, 7)]
)
def test_parts_are_equal_and_small_enough(length, held, parts):
    assert attention_module._parts(2, length, 4, held) == parts


def test_memory_is_bounded():
    """Of a backward pass over 2,048 queries, the largest array is that of a part's weights."""
    forms = [jax.ShapeDtypeStruct((1, n, c), jnp.float32) for n, c in ((2048, 4), (512, 4), (512, 8))]
    gradient = jax.grad(lambda *x: jnp.sum(attend(*x, held=1 << 16)), (0, 1, 2))
    program = jax.jit(gradient).lower(*forms).as_text()
    shapes = re.findall(r"tensor<(\d+(?:x\d+)*)xf32>", program)
    sizes = [math.prod(map(int, shape.split("x"))) for shape in shapes]
    assert max(sizes) <= 1 << 16


def images(shape=(2, 4, 6, 16)):
    return draws(shape)[0]


def variables_of(layer, x, share=0.7):
    """Random kernels, and a share that is not 0."""
    form = jax.eval_shape(lambda: layer.init(KEY, x, train=True))
    variables = random_variables(form)
    return {**variables, "params": {**variables["params"], "share": np.float32(share)}}


def applied(layer, variables, x, *, train=True, mutable=("spectral",)):
    apply = functools.partial(layer.apply, train=train, mutable=list(mutable))
    return jax.jit(apply, compiler_options=FAST)(variables, x)


def test_the_layer_by_hand():
    """theta, phi to C/8 channels, g to C/2, phi and g pooled, back to C, times the share, plus the input."""
    x = images()
    layer = SelfAttention(spectral=False)
    variables = variables_of(layer, x)
    kernels = {name: np.asarray(p["kernel"]) for name, p in variables["params"].items() if name != "share"}
    assert {name: k.shape for name, k in kernels.items()} == {
        "theta": (16, 2),
        "phi": (16, 2),
        "g": (16, 8),
        "output": (8, 16),
    }

    def pooled(y):
        return y.reshape(2, 2, 2, 3, 2, -1).max(axis=(2, 4)).reshape(2, 6, -1)

    queries = (x @ kernels["theta"]).reshape(2, 24, 2)
    outputs, weights = by_definition(queries, pooled(x @ kernels["phi"]), pooled(x @ kernels["g"]))
    expected = x + 0.7 * (outputs.reshape(2, 4, 6, 8) @ kernels["output"])
    found, sown = applied(layer, variables, x, mutable=("intermediates",))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    (shown,) = sown["intermediates"]["attention"]
    np.testing.assert_allclose(shown, weights.reshape(2, 4, 6, 2, 3), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.sum(shown, axis=(3, 4)), 1.0, rtol=1e-5)


def test_it_begins_as_the_identity_and_can_learn():
    x = images()
    layer = SelfAttention()
    form = jax.eval_shape(lambda: layer.init(KEY, x, train=True))
    assert form["params"]["share"].shape == ()
    variables = variables_of(layer, x, share=0.0)

    def total(params):
        y: Any = layer.apply({**variables, "params": params}, x, train=False)
        return jnp.sum(jnp.sin(y)), y

    slope, y = jax.jit(jax.grad(total, has_aux=True), compiler_options=FAST)(variables["params"])
    np.testing.assert_array_equal(y, x)
    assert abs(float(slope["share"])) > 1e-3


def test_every_kernel_is_spectrally_normalised():
    x = images()
    layer = SelfAttention()
    variables = variables_of(layer, x)
    assert set(variables["spectral"]) == {"theta", "phi", "g", "output"}
    doubled = jax.tree.map(lambda p: p if p.ndim == 0 else 2 * p, variables["params"])
    plain, _ = applied(layer, variables, x)
    again, _ = applied(layer, {**variables, "params": doubled}, x)
    np.testing.assert_allclose(again, plain, rtol=1e-4, atol=1e-5)


def test_half_precision_is_for_compute():
    x = images()
    layer = SelfAttention(dtype=jnp.bfloat16)
    variables = variables_of(layer, x)
    rough, _ = applied(layer, variables, x.astype(jnp.bfloat16))
    assert rough.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    exact, _ = applied(SelfAttention(), variables, x)
    np.testing.assert_allclose(np.asarray(rough, np.float32), exact, atol=0.1)


def test_odd_sides_are_refused():
    with pytest.raises(ValueError, match="over 3x4 pixels: expected even sides"):
        SelfAttention().init(KEY, jnp.zeros((1, 3, 4, 8)), train=True)
