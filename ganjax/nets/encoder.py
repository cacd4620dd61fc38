"""From images to latents."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import Conv
from ganjax.nets.conditional import check_image_shape
from ganjax.nets.dcgan import DCGANGenerator
from ganjax.nets.parts import normalised

_normal = nn.initializers.normal(0.02)


class ConvEncoder(nn.Module):
    """Image -> `stages` 4x4 convolutions of stride 2, layer norm but for the first, leaky ReLU 0.2 ->
    latents.

    Layer norm, so that an image's latents do not hang on others.

    Attributes:
      latent_size: Z.
      width: channels at half the image's size; twice as many at each halving.
      stages: how often the size halves.
      hidden: units of a dense layer behind the last maps; 0: without.
      dtype: for compute.
    """

    latent_size: int
    width: int = 64
    stages: int = 2
    hidden: int = 0
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """[n, H, W, C] in [-1, 1] -> [n, Z], float32."""
        check_image_shape(images.shape[1:], 2**self.stages)
        conv = functools.partial(
            Conv, kernel_size=(4, 4), strides=(2, 2), kernel_init=_normal, dtype=self.dtype
        )
        x = nn.leaky_relu(conv(self.width)(images.astype(self.dtype or images.dtype)), 0.2)
        for stage in range(1, self.stages):
            x = normalised(conv(self.width << stage)(x), "layer", train=train, dtype=self.dtype)
            x = nn.leaky_relu(x, 0.2)
        x = x.reshape(x.shape[0], -1)
        if self.hidden:
            x = nn.Dense(self.hidden, kernel_init=_normal, dtype=self.dtype)(x)
            x = nn.leaky_relu(normalised(x, "layer", train=train, dtype=self.dtype), 0.2)
        return nn.Dense(self.latent_size)(x.astype(jnp.float32))


class EncoderDecoderEncoder(nn.Module):
    """Image -> latents -> image -> latents (Akcay et al. 2018): DCGAN's generator between two `ConvEncoder`s.

    Attributes:
      image_shape: (H, W, C).
      latent_size: Z.
      width, stages, hidden, dtype: of the three.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    image_shape: tuple[int, int, int]
    latent_size: int = 100
    width: int = 64
    stages: int = 2
    hidden: int = 0
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[n, H, W, C] in [-1, 1] -> [n, H, W, C], [n, Z], [n, Z], all float32."""
        sizes = {"width": self.width, "stages": self.stages, "hidden": self.hidden, "dtype": self.dtype}
        latents = ConvEncoder(self.latent_size, name="encoder", **sizes)(images, train=train)
        decoder = DCGANGenerator(self.image_shape, axis_name=self.axis_name, name="decoder", **sizes)
        again = decoder(latents, train=train)
        return again, latents, ConvEncoder(self.latent_size, name="again", **sizes)(again, train=train)
