import re

import jax
import jax.numpy as jnp
import pytest

from ganjax.layers.boundary import apart, settled
from tests.layers.arrays import images


def chain(x):
    return jnp.tanh(apart(lambda x: 2 * jnp.sin(x), x) + 1)


def fused(x):
    return jnp.tanh(2 * jnp.sin(x) + 1)


def computations(function, *arguments):
    """What the compiled program's entry runs."""
    text = jax.jit(function).lower(*arguments).compile().as_text() or ""
    return re.findall(r"= \S+ (call|fusion)\(", text[text.index("ENTRY") :])


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="looks at what XLA:CPU compiles")
def test_no_fusion_crosses_it_in_either_direction_of_differentiation():
    x = images(1, 4, 4, 3)
    assert "call" not in computations(fused, x)
    assert computations(chain, x).count("call") == 1

    def linear(x):
        return 3 * apart(lambda x: 2 * x[:, 1:], x)

    def adjoint(g):
        return jax.linear_transpose(linear, x)(g)[0]

    assert computations(adjoint, x[:, 1:]).count("call") == 1


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="looks at what XLA:CPU compiles")
def test_what_is_settled_is_computed_once():
    x = images(1, 4, 4, 3)

    def uses(y):
        return jnp.cumsum(y, 1), y[:, ::-1]

    def sines(function):
        return (jax.jit(function).lower(x).compile().as_text() or "").count(" sine(")

    assert sines(lambda x: uses(2 * jnp.sin(x))) == 2
    assert sines(lambda x: uses(settled(2 * jnp.sin(x)))) == 1
    assert jnp.array_equal(settled(x), x)


def test_values_and_transformations_are_the_functions_own():
    x = images(2, 4, 4, 3)
    for transform in (
        lambda f: f,
        lambda f: jax.grad(lambda x: f(x).sum()),
        lambda f: lambda x: jax.jvp(f, (x,), (x,)),
        jax.vmap,
    ):
        ours, expected = transform(chain)(x), transform(fused)(x)
        assert jax.tree.all(jax.tree.map(lambda a, b: jnp.allclose(a, b, rtol=1e-6), ours, expected))


def test_several_arguments_and_results():
    ours = jax.jit(lambda a, b: apart(lambda a, b: {"sum": a + b, "pair": [a, b]}, a, b))(1.0, 2.0)
    assert ours == {"sum": 3.0, "pair": [1.0, 2.0]}
