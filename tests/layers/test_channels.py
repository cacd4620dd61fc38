import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from ganjax.layers import add_bias, column_sums, rows
from ganjax.layers.channels import outer_products
from tests.layers.arrays import assert_close, fast, images


def by_hand(x, bias, vector):
    return x.sum(0), jnp.broadcast_to(vector, (6, 4)), x.reshape(3, 2, 4) + bias.reshape(1, 1, 4)


def ours(x, bias, vector):
    return column_sums(x), rows(vector, 6), add_bias(x.reshape(3, 2, 4), bias)


def arguments(*batch: int):
    return images(*batch, 6, 4), images(*batch, 4, seed=1), images(*batch, 4, seed=2)


def test_values_and_gradients_are_those_of_the_definition():
    def derivatives(function):
        def loss(*args):
            return sum(jnp.sum(jnp.sin(part)) for part in function(*args))

        def squared_norm(*args):
            return sum(jnp.sum(jnp.square(g)) for g in jax.grad(loss, (0, 1, 2))(*args))

        def all_of_them(*args):
            tangents = tuple(jnp.cos(a) for a in args)
            return (
                function(*args),
                jax.grad(loss, (0, 1, 2))(*args),
                jax.jvp(function, args, tangents)[1],
                jax.grad(squared_norm, (0, 1, 2))(*args),
            )

        return all_of_them

    left, right = fast(lambda *args: [derivatives(f)(*args) for f in (ours, by_hand)])(*arguments())
    assert_close(left, right)
    assert_close(column_sums(jnp.asarray([[1.0, 2.0], [3.0, 5.0]])), jnp.asarray([4.0, 7.0]))


def test_vmap():
    left, right = fast(lambda *args: [jax.vmap(f)(*args) for f in (ours, by_hand)])(*arguments(3))
    assert_close(left, right)
    shared = fast(lambda x, bias: jax.vmap(lambda x: add_bias(x, bias))(x))(images(3, 6, 4), images(4))
    assert_close(shared, images(3, 6, 4) + images(4).reshape(1, 1, 4))


def test_bfloat16_stays_bfloat16():
    lower = tuple(a.astype(jnp.bfloat16) for a in arguments())
    left, right = fast(lambda *args: [f(*args) for f in (ours, by_hand)])(*lower)
    assert {part.dtype for part in left} == {jnp.dtype("bfloat16")}
    assert_close(left, right, 1e-2)


def test_no_bias_leaves_the_array_alone():
    y = images(2, 3)
    assert add_bias(y, None) is y


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_sums_over_rows_are_products_on_a_cpu_only(platform):
    def sums(x, bias):
        return column_sums(x), jax.grad(lambda bias: jnp.vdot(add_bias(x, bias), x))(bias)

    traced = jax.jit(sums).trace(images(6, 4), images(4))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert (text.count("stablehlo.dot_general") >= 2) == (platform == "cpu")
    # Over the first axis; `vdot` has none in its gradient.
    assert ("dimensions = [0]" in text and "stablehlo.reduce" in text) == (platform != "cpu")


def test_one_value_for_any_number_of_rows():
    """As an export for any batch has it."""
    (count,) = export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((count, 4), jnp.float32)
    bias = images(4, seed=1)
    exported = export.export(jax.jit(lambda x: (column_sums(x), add_bias(x, bias))))(x)
    for size in (1, 5):
        now = images(size, 4)
        left = exported.call(now)
        assert_close(left, (now.sum(0), now + np.asarray(bias).reshape(1, 4)))


@pytest.mark.parametrize("shapes", [((12, 5), (12, 3)), ((12, 16), (12, 2)), ((7, 3), (7, 3))])
def test_outer_products_in_parts_are_the_same_sum(shapes):
    x, g = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes))
    for parts in (1, 2, 4):  # 7 rows can't be divided
        products = jax.jit(outer_products, static_argnums=2)(x, g, parts)
        np.testing.assert_allclose(products, x.T @ g, rtol=1e-5, atol=1e-6)
