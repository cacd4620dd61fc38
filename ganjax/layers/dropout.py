"""Dropout whose masks are each example's own (Srivastava et al. 2014)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import random


class Dropout(nn.Module):
    """Sets activations to zero with probability `rate`, and divides the others by 1 - rate.

    An example's mask depends on its key and on the layer's place in the network, not on the batch around it,
    so the number of devices changes nothing. Whether anything is dropped is the keys' to say, in training and
    in evaluation.

    Attributes:
      rate: in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """[n, ...], PRNG keys [n] or None (nothing is dropped) -> the shape and type of x.

        Raises:
          ValueError: the rate is not in [0, 1), or there are not as many keys as examples.
        """
        if not 0 <= self.rate < 1:
            raise ValueError(f"dropout={self.rate}: expected a rate from 0 to below 1")
        if keys is None or self.rate == 0:
            return x
        if keys.shape != x.shape[:1]:
            raise ValueError(f"dropout takes one key an example: got keys {keys.shape} for {x.shape}")
        # By the layer's path, for all layers of a network are given the same keys.
        place = "/".join(self.path)
        keys = jax.vmap(lambda key: random.stream(key, place))(keys)
        kept = random.uniform(keys, x.shape[1:]) >= self.rate
        return jnp.where(kept, x / jnp.asarray(1 - self.rate, x.dtype), jnp.zeros((), x.dtype))
