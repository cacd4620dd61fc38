"""DCGAN's networks (Radford et al. 2016, "Unsupervised representation learning with deep convolutional
generative adversarial networks"), for any image whose sides halve evenly.

Departures: 4x4 kernels, of which every output of a stride of 2 meets the same number of taps (the paper's
5x5 leave a checkerboard); no bias where batch normalisation would take it out again.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import BatchNorm, Conv, ConvTranspose
from ganjax.nets.conditional import check_image_shape

_normal = nn.initializers.normal(0.02)


def _check_unconditional(labels: jax.Array | None) -> None:
    if labels is not None:
        raise ValueError("DCGAN's networks take no labels")


class DCGANGenerator(nn.Module):
    """Latents -> dense -> `stages` 4x4 transposed convolutions of stride 2, batch norm, ReLU -> tanh.

    Attributes:
      image_shape: (H, W, C), H and W multiples of 2^stages.
      width: channels at half the image's size; twice as many at each halving below.
      stages: how often the size doubles; 4 goes from 4x4 to 64x64.
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    image_shape: tuple[int, int, int]
    width: int = 64
    stages: int = 4
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, Z], None -> [n, H, W, C] float32 in [-1, 1]."""
        check_image_shape(self.image_shape, 2**self.stages)
        _check_unconditional(labels)
        height, width = (side >> self.stages for side in self.image_shape[:2])
        channels = self.width << (self.stages - 1)
        x = nn.Dense(height * width * channels, use_bias=False, kernel_init=_normal, dtype=self.dtype)(
            latents
        )
        x = x.reshape(-1, height, width, channels)
        x = nn.relu(BatchNorm(dtype=self.dtype, axis_name=self.axis_name)(x, train=train))
        for stage in reversed(range(self.stages - 1)):
            up = ConvTranspose(
                self.width << stage, (4, 4), (2, 2), use_bias=False, kernel_init=_normal, dtype=self.dtype
            )
            x = nn.relu(BatchNorm(dtype=self.dtype, axis_name=self.axis_name)(up(x), train=train))
        x = ConvTranspose(self.image_shape[2], (4, 4), (2, 2), kernel_init=_normal, dtype=self.dtype)(x)
        return jnp.tanh(x.astype(jnp.float32))


class DCGANDiscriminator(nn.Module):
    """Image -> `stages` 4x4 convolutions of stride 2, batch norm but for the first, leaky ReLU 0.2 -> logit.

    Attributes:
      width: channels at half the image's size; twice as many at each halving.
      stages: how often the size halves.
      dtype: for compute, up to the features.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    width: int = 64
    stages: int = 4
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, H, W, C] in [-1, 1], None -> logits [n], float32."""
        check_image_shape(images.shape[1:], 2**self.stages)
        _check_unconditional(labels)
        x = images.astype(self.dtype or images.dtype)
        for stage in range(self.stages):
            first = stage == 0
            x = Conv(
                self.width << stage, (4, 4), (2, 2), use_bias=first, kernel_init=_normal, dtype=self.dtype
            )(x)
            if not first:
                x = BatchNorm(dtype=self.dtype, axis_name=self.axis_name)(x, train=train)
            x = nn.leaky_relu(x, 0.2)
        # Logits in float32 in any dtype: they are sums of thousands of terms, and bfloat16 has 8 bits.
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return nn.Dense(1, kernel_init=_normal)(x).squeeze(-1)
