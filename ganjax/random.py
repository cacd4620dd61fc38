"""Randomness by name: every draw comes from a key, a named stream and an example's place in the batch.

A stream is a name, folded into a key; an example's key is its stream's key with the example's index in
the *global* batch folded in. So a draw depends neither on what else was drawn, nor on the order, nor on
how many devices share the batch.
"""

import functools
import zlib

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike


def stream(key: jax.Array, name: str) -> jax.Array:
    """The key of the stream `name` under `key`."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def streams(keys: jax.Array, name: str) -> jax.Array:
    """The keys [n] of the stream `name` under each of the `keys` [n]."""
    return jax.vmap(lambda key: stream(key, name))(keys)


def per_example(key: jax.Array, index: jax.Array) -> jax.Array:
    """One key for each place in the batch.

    Args:
      key: a scalar PRNG key.
      index: int32 [n], places in the global batch.
    Returns:
      PRNG keys [n].
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def from_seeds(seeds: ArrayLike) -> jax.Array:
    """PRNG keys [n] from integer seeds [n]: one seed is one draw, whatever its place in the batch.

    Always threefry: where `jax_default_prng_impl` is "rbg", a vmapped draw depends on its companions.

    Args:
      seeds: in [0, 2^32).
    """
    make = functools.partial(jax.random.key, impl="threefry2x32")
    return jax.vmap(make)(jnp.asarray(seeds, jnp.uint32))


def normal(keys: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Standard normal [n, *shape]: an independent draw of `shape` from each of the `keys` [n]."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)


def normal_or_given(noise: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`normal` of PRNG keys [n]; numbers [n, *shape] are given back as they are."""
    return normal(noise, shape) if jnp.issubdtype(noise.dtype, jax.dtypes.prng_key) else noise


def uniform(keys: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Uniform in [0, 1), [n, *shape]: an independent draw of `shape` from each of the `keys` [n]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape, dtype))(keys)


def randint(keys: jax.Array, minimum: int, maximum: int) -> jax.Array:
    """Integers int32 [n] in [minimum, maximum): one from each of the `keys` [n]."""
    return jax.vmap(lambda key: jax.random.randint(key, (), minimum, maximum, jnp.int32))(keys)


def truncated_normal(
    keys: jax.Array, shape: tuple[int, ...], bound: float, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Standard normal within [-bound, bound], [n, *shape]: `normal(keys, shape)` with every entry that lies
    beyond drawn again until it does not.

    Args:
      keys: PRNG keys [n].
      shape: of each draw.
      bound: above 0.
    """

    def draw(key: jax.Array) -> jax.Array:
        first = jax.random.normal(key, shape, dtype)
        # What is drawn again and again until it lies within has this distribution.
        again = jax.random.truncated_normal(stream(key, "again"), -bound, bound, shape, dtype)
        return jnp.where(jnp.abs(first) <= bound, first, again)

    return jax.vmap(draw)(keys)
