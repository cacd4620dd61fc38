"""The small convolutional GAN of a tutorial: the generator enlarges by nearest upsampling, the discriminator
shrinks by max pooling, and every hidden activation is tanh. A form of Radford et al. 2016, "Unsupervised
representation learning with deep convolutional generative adversarial networks", that leaves out their advice
on strides and activations.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import BatchNorm, Conv
from ganjax.nets.conditional import check_image_shape
from ganjax.nets.parts import UpsampleConv, check_labels, head

_glorot = nn.initializers.glorot_uniform()


class UpsamplingGenerator(nn.Module):
    """Latents -> dense, tanh -> dense, batch norm, tanh -> two nearest upsamplings, each with a 5x5
    convolution and tanh.

    Attributes:
      image_shape: (H, W, C), H and W multiples of 4.
      width: channels at half the image's size; twice as many at a quarter, 16 times as many units before.
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    image_shape: tuple[int, int, int]
    width: int = 64
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, Z], None -> [n, H, W, C] float32 in [-1, 1]."""
        check_image_shape(self.image_shape, 4)
        check_labels(0, labels)
        height, width = self.image_shape[0] // 4, self.image_shape[1] // 4
        dense = functools.partial(nn.Dense, kernel_init=_glorot, dtype=self.dtype)
        up = functools.partial(UpsampleConv, kernel_size=(5, 5), use_bias=True, dtype=self.dtype)
        x = nn.tanh(dense(16 * self.width)(latents))
        x = dense(height * width * 2 * self.width)(x)
        # Over the flat activations: each pixel of each channel has statistics of its own.
        x = nn.tanh(BatchNorm(dtype=self.dtype, axis_name=self.axis_name)(x, train=train))
        x = nn.tanh(up(self.width)(x.reshape(-1, height, width, 2 * self.width)))
        return jnp.tanh(up(self.image_shape[2])(x).astype(jnp.float32))


class UpsamplingDiscriminator(nn.Module):
    """Image -> two 5x5 convolutions, each with tanh and a 2x2 max pool -> dense, tanh -> logit.

    Attributes:
      width: channels at the image's size; twice as many at half of it, 16 times as many units at the end.
      dropout: rate, before the logit.
      minibatch_discrimination: kernels B of `MinibatchDiscrimination` before the logit; 0: without.
      dtype: for compute, up to the features.
      axis_name: of an enclosing `pmap` whose devices' batches are one to minibatch discrimination.
    """

    width: int = 64
    dropout: float = 0.0
    minibatch_discrimination: int = 0
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        labels: jax.Array | None = None,
        *,
        train: bool,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """[n, H, W, C] in [-1, 1], None, PRNG keys [n] or None -> logits [n], float32."""
        del train
        check_image_shape(images.shape[1:], 4)
        x = images.astype(self.dtype or images.dtype)
        for features in (self.width, 2 * self.width):
            x = nn.tanh(Conv(features, (5, 5), kernel_init=_glorot, dtype=self.dtype)(x))
            n, height, width, _ = x.shape
            x = jnp.max(x.reshape(n, height // 2, 2, width // 2, 2, features), axis=(2, 4))
        x = nn.Dense(16 * self.width, kernel_init=_glorot, dtype=self.dtype)(x.reshape(x.shape[0], -1))
        return head(
            self,
            nn.tanh(x),
            labels,
            keys,
            dropout=self.dropout,
            kernels=self.minibatch_discrimination,
            axis_name=self.axis_name,
            kernel_init=_glorot,
        )
