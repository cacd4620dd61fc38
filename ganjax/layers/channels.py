"""Sums over everything but the channels, and what goes the other way.

Gradients of biases, and statistics and gradients of normalisation, are sums over hundreds of thousands of
rows. On a CPU XLA's own reduction takes several times as long for them as a product with a row of ones; the
gradient of a product is one too, and XLA knows that a product with a single column of ones is a broadcast.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax


# Traced once for each shape: a network has hundreds of them.
@jax.jit
def column_sums(x: jax.Array) -> jax.Array:
    """[M, C] -> [C], the sum over rows."""
    return lax.platform_dependent(
        x, cpu=lambda x: (jnp.ones((1, x.shape[0]), x.dtype) @ x)[0], default=lambda x: jnp.sum(x, 0)
    )


@functools.partial(jax.jit, static_argnames="count")
def rows(x: jax.Array, count: int) -> jax.Array:
    """[C] -> [count, C], the same row `count` times."""
    return lax.platform_dependent(
        x,
        cpu=lambda x: jnp.ones((count, 1), x.dtype) @ x.reshape(1, -1),
        default=lambda x: jnp.broadcast_to(x.reshape(1, -1), (count, x.shape[0])),
    )


def outer_products(x: jax.Array, g: jax.Array, parts: int = 1) -> jax.Array:
    """[M, C], [M, F] -> [C, F], the sum over rows of outer products: a gradient in a kernel, for a CPU.

    Args:
      x, g: the rows.
      parts: into how many the rows are cut, for the cores, where M can be divided so. XLA does not cut them
        by itself; it does run several products at once.
    """
    # Both arguments are read across the rows; XLA is the faster for it if a much smaller one comes first.
    few = 4 * g.shape[1] <= x.shape[1]
    a, b = (g, x) if few else (x, g)
    if parts > 1 and isinstance(x.shape[0], int) and x.shape[0] % parts == 0:
        a, b = (y.reshape(parts, y.shape[0] // parts, y.shape[1]) for y in (a, b))
        products = jnp.sum(lax.dot_general(a, b, (((1,), (1,)), ((0,), (0,)))), 0)
    else:
        products = lax.dot_general(a, b, (((0,), (0,)), ((), ())))
    return products.T if few else products


def add_bias(y: jax.Array, bias: jax.Array | None) -> jax.Array:
    """[..., F] plus a bias [F], or as it is where there is none."""
    if bias is None:
        return y
    flat = y.reshape(-1, y.shape[-1])
    return (flat + rows(bias, flat.shape[0])).reshape(y.shape)
