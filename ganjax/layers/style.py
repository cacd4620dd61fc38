"""What a generator is steered by in its layers (Karras et al. 2019, "A style-based generator architecture for
generative adversarial networks"): a style for all pixels, noise for each."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ganjax import random
from ganjax.layers.channels import rows
from ganjax.layers.equalized import EqualizedDense


class AdaIN(nn.Module):
    """Adaptive instance normalisation (Huang & Belongie 2017), by style (Karras et al. 2019, eq. 1).

    Every channel of an example is normalised by its own mean and variance over all pixels; its scale and its
    shift are linear in the example's style. The scale begins around 1, the shift around 0. Statistics are
    float32 in any `dtype`.

    Attributes:
      epsilon: added to the variance.
      dtype: of the result; default: the input's.
    """

    epsilon: float = 1e-8
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, style: jax.Array) -> jax.Array:
        """[n, H, W, C], [n, S] -> [n, H, W, C]."""
        n, channels = x.shape[0], x.shape[-1]
        affine = EqualizedDense(2 * channels, gain=1.0, name="style")(style.astype(jnp.float32))
        scale, shift = affine[:, None, :channels] + 1.0, affine[:, None, channels:]
        y = x.astype(jnp.float32).reshape(n, -1, channels)
        y = y - jnp.mean(y, axis=1, keepdims=True)
        scale = scale * lax.rsqrt(jnp.mean(jnp.square(y), axis=1, keepdims=True) + self.epsilon)
        return (y * scale + shift).astype(self.dtype or x.dtype).reshape(x.shape)


class Noise(nn.Module):
    """Adds to every channel the same standard normal noise of one value a pixel, each channel by a strength
    of its own, which is learned and begins at 0 (Karras et al. 2019, section 2)."""

    @nn.compact
    def __call__(self, x: jax.Array, noise: jax.Array | None) -> jax.Array:
        """[n, H, W, C], noise as PRNG keys [n] or [n, H, W], None for none -> [n, H, W, C]."""
        strength = self.param("strength", nn.initializers.zeros_init(), x.shape[-1:])
        if noise is None:
            return x
        noise = random.normal_or_given(noise, x.shape[1:-1]).reshape(-1, 1)
        added = noise * rows(strength, noise.shape[0])
        return x + added.reshape(x.shape).astype(x.dtype)
