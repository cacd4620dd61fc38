"""Compact conditional networks for small images: a conditional GAN (Mirza & Osindero 2014) in the
convolutional form of Radford et al. 2016. In the generator the label's embedding is joined to the latents,
and each class has scales and shifts of its own; the discriminator takes the inner product of the label's
embedding with the image's features (Miyato & Koyama 2018, "cGANs with projection discriminator").
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import BatchNorm, ConditionalBatchNorm, Conv, ConvTranspose

_normal = nn.initializers.normal(0.02)


def check_image_shape(shape: Sequence[int], factor: int) -> None:
    """Raises ValueError unless `shape` is (height, width, channels), the sides multiples of `factor`."""
    if len(shape) != 3:
        raise ValueError(f"image shape {tuple(shape)}: expected (height, width, channels)")
    height, width, _ = shape
    if height % factor or width % factor or min(height, width) < factor:
        raise ValueError(
            f"image_size {height}x{width}: this network halves images, and needs sides that are "
            f"multiples of {factor}"
        )


class ConditionalGenerator(nn.Module):
    """Latents and label -> dense -> two 4x4 transposed convolutions of stride 2 -> tanh.

    Attributes:
      image_shape: (H, W, C), H and W multiples of 4.
      num_classes: 0 leaves the label out.
      width: channels at half the image's size; twice as many at a quarter.
      embedding: size of the label's embedding.
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    width: int = 64
    embedding: int = 50
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array | None, *, train: bool) -> jax.Array:
        """[n, Z], int [n] or None -> [n, H, W, C] float32 in [-1, 1]."""
        check_image_shape(self.image_shape, 4)
        height, width, channels = self.image_shape
        if bool(self.num_classes) != (labels is not None):
            raise ValueError(f"labels {labels} for a generator of {self.num_classes} classes")
        x = latents
        if labels is not None:
            embed = nn.Embed(self.num_classes, self.embedding, dtype=self.dtype, name="label_embedding")
            x = jnp.concatenate([x, embed(labels)], axis=-1)
        x = nn.Dense(height // 4 * (width // 4) * 2 * self.width, use_bias=False, dtype=self.dtype)(x)
        x = x.reshape(-1, height // 4, width // 4, 2 * self.width)

        def norm(x: jax.Array) -> jax.Array:
            if labels is None:
                return BatchNorm(dtype=self.dtype, axis_name=self.axis_name)(x, train=train)
            return ConditionalBatchNorm(self.num_classes, dtype=self.dtype, axis_name=self.axis_name)(
                x, labels, train=train
            )

        x = nn.relu(norm(x))
        up = functools.partial(
            ConvTranspose, kernel_size=(4, 4), strides=(2, 2), kernel_init=_normal, dtype=self.dtype
        )
        x = up(self.width, use_bias=False)(x)
        x = nn.relu(norm(x))
        x = up(channels)(x)
        return jnp.tanh(x.astype(jnp.float32))


class ConditionalDiscriminator(nn.Module):
    """Image -> two 4x4 convolutions of stride 2, leaky ReLU 0.2 -> features; with the label -> logit.

    The logit is a linear function of the features, plus their inner product with the label's embedding.

    Attributes:
      num_classes: 0 leaves the label out.
      width: channels at half the image's size; twice as many at a quarter.
      dtype: for compute, up to the features.
    """

    num_classes: int
    width: int = 64
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array | None, *, train: bool) -> jax.Array:
        """[n, H, W, C] in [-1, 1], int [n] or None -> logits [n], float32."""
        del train
        check_image_shape(images.shape[1:], 4)
        x = images.astype(self.dtype or images.dtype)
        for features in (self.width, 2 * self.width):
            x = Conv(features, (4, 4), (2, 2), kernel_init=_normal, dtype=self.dtype)(x)
            x = nn.leaky_relu(x, 0.2)
        # Logits in float32 in any dtype: they are sums of thousands of terms, and bfloat16 has 8 bits.
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        logits = nn.Dense(1)(x).squeeze(-1)
        if self.num_classes:
            embed = nn.Embed(self.num_classes, x.shape[-1], embedding_init=_normal)
            logits = logits + jnp.sum(embed(labels) * x, axis=-1)
        return logits
