"""The conditional GAN of the textbooks, for small images: the label enters both networks as an image
channel of its own (a convolutional form of Mirza & Osindero 2014, "Conditional generative adversarial nets").

Without batch normalisation.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import Conv, ConvTranspose, Embed
from ganjax.nets.conditional import check_image_shape
from ganjax.nets.parts import head

_glorot = nn.initializers.glorot_uniform()
# Of labels' embeddings: with flax's own the discriminator's label channel begins twenty times as faint as an
# image, and what it is trained with does not follow its label for thousands of steps.
_normal = nn.initializers.normal(1.0)


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
        embed = Embed(self.num_classes, self.embedding, _normal, dtype=self.dtype, name="label_embedding")
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
      dropout: rate, before the logit; 0.4 in the book.
      dtype: for compute, up to the features.
    """

    num_classes: int
    width: int = 128
    embedding: int = 50
    dropout: float = 0.0
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, labels: jax.Array, *, train: bool, keys: jax.Array | None = None
    ) -> jax.Array:
        """[n, H, W, C] in [-1, 1], int [n], PRNG keys [n] or None -> logits [n], float32."""
        del train
        check_image_shape(images.shape[1:], 4)
        height, width = images.shape[1:3]
        embed = Embed(self.num_classes, self.embedding, _normal, dtype=self.dtype, name="label_embedding")
        dense = nn.Dense(height * width, kernel_init=_glorot, dtype=self.dtype, name="label_channel")
        label = dense(embed(labels)).reshape(-1, height, width, 1)
        x = jnp.concatenate([images.astype(label.dtype), label], axis=-1)
        for _ in range(2):
            x = Conv(self.width, (3, 3), (2, 2), kernel_init=_glorot, dtype=self.dtype)(x)
            x = nn.leaky_relu(x, 0.2)
        return head(self, x, keys=keys, dropout=self.dropout, kernel_init=_glorot)
