"""A pool of past generated images, of which the discriminator is shown some instead of the newest ones
(Shrivastava et al. 2017, "Learning from simulated and unsupervised images through adversarial training").

It is part of the state (`GanState.carry`). Images enter it in the order of the global batch, and what happens
to each is drawn from its own key, so that every layout of devices keeps the same pool.
"""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp


class Pool(flax.struct.PyTreeNode):
    """Past images.

    Attributes:
      images: float32 [K, ...], of which the first `count` are there.
      count: int32 [], at most K.
    """

    images: jax.Array
    count: jax.Array


def empty_pool(size: int, shape: Sequence[int]) -> Pool:
    """A pool for `size` images of this shape, at least 1. ValueError for less."""
    if size < 1:
        raise ValueError(f"pool of {size} images: expected at least 1")
    return Pool(jnp.zeros((size, *shape), jnp.float32), jnp.zeros((), jnp.int32))


def exchange(pool: Pool, images: jax.Array, keys: jax.Array) -> tuple[jax.Array, Pool]:
    """What the discriminator is shown for each new image, and the pool afterwards.

    Until the pool is full, the image itself, which enters the pool. Then, in half of the cases, a random one
    of the pool, whose place the image takes; in the other half the image itself, and the pool stays.

    Args:
      pool: before.
      images: [N, ...], of the global batch.
      keys: PRNG keys [N].
    Returns:
      [N, ...] and the pool.
    """
    size = pool.images.shape[0]

    def one(pool: Pool, new: tuple[jax.Array, jax.Array]) -> tuple[Pool, jax.Array]:
        image, key = new
        of_place, of_swap = jax.random.split(key)
        full = pool.count == size
        place = jnp.where(full, jax.random.randint(of_place, (), 0, size), pool.count)
        swap = full & (jax.random.uniform(of_swap) < 0.5)
        old = pool.images[place]
        kept = jnp.where(full & ~swap, old, image)
        after = Pool(pool.images.at[place].set(kept), jnp.minimum(pool.count + 1, size))
        return after, jnp.where(swap, old, image)

    pool, shown = jax.lax.scan(one, pool, (images.astype(jnp.float32), keys))
    return shown.astype(images.dtype), pool
