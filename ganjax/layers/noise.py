"""Gaussian noise on activations, each example's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import random


class GaussianNoise(nn.Module):
    """Adds normal noise to activations. As with `Dropout`, an example's noise depends on its key and on the
    layer's place in the network, and whether any is added is the keys' to say.

    Attributes:
      deviation: the standard deviation, at least 0.
    """

    deviation: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """[n, ...], PRNG keys [n] or None (nothing is added) -> the shape and type of x.

        Raises:
          ValueError: the deviation is below 0, or there are not as many keys as examples.
        """
        if not self.deviation >= 0:
            raise ValueError(f"noise={self.deviation}: expected a standard deviation of at least 0")
        if keys is None or self.deviation == 0:
            return x
        if keys.shape != x.shape[:1]:
            raise ValueError(f"noise takes one key an example: got keys {keys.shape} for {x.shape}")
        keys = random.streams(keys, "/".join(self.path))  # or layers would share theirs
        noise = random.normal(keys, x.shape[1:])
        return x + (self.deviation * noise).astype(jnp.dtype(x.dtype))
