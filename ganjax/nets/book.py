"""The conditional GAN of the textbooks, for small images: the label enters both networks as an image
channel of its own (a convolutional form of Mirza & Osindero 2014, "Conditional generative adversarial nets").

Without batch normalisation, and without the book's dropout before the logit: the discriminator has none yet.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import Conv, ConvTranspose
from ganjax.nets.conditional import check_image_shape

_glorot = nn.initializers.glorot_uniform()


class BookGenerator(nn.Module):
    """Latents -> dense and label -> embedding -> dense, joined; two 4x4 transposed convolutions of stride 2,
    leaky ReLU 0.2; a 7x7 convolution; tanh.

    Attributes:
      image_shape: (H, W, C), H and W multiples of 4.
      num_classes: labels are in [0, num_classes).
      width: channels throughout.
      embedding: size of the label's embedding.
      dtype: for compute.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    width: int = 128
    embedding: int = 50
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """[n, Z], int [n] -> [n, H, W, C] float32 in [-1, 1]."""
        del train
        check_image_shape(self.image_shape, 4)
        height, width = self.image_shape[0] // 4, self.image_shape[1] // 4
        dense = functools.partial(nn.Dense, kernel_init=_glorot, dtype=self.dtype)
        embed = nn.Embed(self.num_classes, self.embedding, dtype=self.dtype, name="label_embedding")
        label = dense(height * width, name="label_channel")(embed(labels))
        x = dense(height * width * self.width, name="latent_channels")(latents)
        x = nn.leaky_relu(x, 0.2).reshape(-1, height, width, self.width)
        x = jnp.concatenate([x, label.reshape(-1, height, width, 1)], axis=-1)
        for _ in range(2):
            x = ConvTranspose(self.width, (4, 4), (2, 2), kernel_init=_glorot, dtype=self.dtype)(x)
            x = nn.leaky_relu(x, 0.2)
        x = Conv(self.image_shape[2], (7, 7), kernel_init=_glorot, dtype=self.dtype)(x)
        return jnp.tanh(x.astype(jnp.float32))


class BookDiscriminator(nn.Module):
    """Image and label -> embedding -> dense, joined; two 3x3 convolutions of stride 2, leaky ReLU 0.2; logit.

    Attributes:
      num_classes: labels are in [0, num_classes).
      width: channels throughout.
      embedding: size of the label's embedding.
      dtype: for compute, up to the features.
    """

    num_classes: int
    width: int = 128
    embedding: int = 50
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """[n, H, W, C] in [-1, 1], int [n] -> logits [n], float32."""
        del train
        check_image_shape(images.shape[1:], 4)
        height, width = images.shape[1:3]
        embed = nn.Embed(self.num_classes, self.embedding, dtype=self.dtype, name="label_embedding")
        dense = nn.Dense(height * width, kernel_init=_glorot, dtype=self.dtype, name="label_channel")
        label = dense(embed(labels)).reshape(-1, height, width, 1)
        x = jnp.concatenate([images.astype(label.dtype), label], axis=-1)
        for _ in range(2):
            x = Conv(self.width, (3, 3), (2, 2), kernel_init=_glorot, dtype=self.dtype)(x)
            x = nn.leaky_relu(x, 0.2)
        # Logits in float32 in any dtype: they are sums of thousands of terms, and bfloat16 has 8 bits.
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return nn.Dense(1, kernel_init=_glorot)(x).squeeze(-1)
