"""Compact conditional networks: a conditional GAN (Mirza & Osindero 2014) in the convolutional form of
Radford et al. 2016. In the generator the label's embedding is joined to the latents,
and each class has scales and shifts of its own; the discriminator takes the inner product of the label's
embedding with the image's features (Miyato & Koyama 2018, "cGANs with projection discriminator").
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import BatchNorm, ConditionalBatchNorm, Conv, ConvTranspose, Embed
from ganjax.nets.parts import check_labels, dropped, head

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
    """Latents and label -> dense -> `stages` 4x4 transposed convolutions of stride 2 -> tanh.

    Attributes:
      image_shape: (H, W, C), H and W multiples of 2^stages.
      num_classes: 0 leaves the label out.
      width: channels at half the image's size; twice as many at each halving below.
      stages: how often the size doubles; 2 goes from 7x7 to 28x28.
      embedding: size of the label's embedding.
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    width: int = 64
    stages: int = 2
    embedding: int = 50
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array | None, *, train: bool) -> jax.Array:
        """[n, Z], int [n] or None -> [n, H, W, C] float32 in [-1, 1]."""
        check_image_shape(self.image_shape, 2**self.stages)
        check_labels(self.num_classes, labels)
        height, width = (side >> self.stages for side in self.image_shape[:2])
        channels = self.width << (self.stages - 1)
        x = latents
        if labels is not None:
            embed = Embed(self.num_classes, self.embedding, dtype=self.dtype, name="label_embedding")
            x = jnp.concatenate([x, embed(labels)], axis=-1)
        x = nn.Dense(height * width * channels, use_bias=False, dtype=self.dtype)(x)
        x = x.reshape(-1, height, width, channels)

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
        for stage in reversed(range(self.stages - 1)):
            x = nn.relu(norm(up(self.width << stage, use_bias=False)(x)))
        x = up(self.image_shape[2])(x)
        return jnp.tanh(x.astype(jnp.float32))


class ConditionalDiscriminator(nn.Module):
    """Image -> `stages` 4x4 convolutions of stride 2, leaky ReLU 0.2 -> features; with the label -> logit.

    The logit is a linear function of the features, plus their inner product with the label's embedding.

    Attributes:
      num_classes: 0 leaves the label out.
      width: channels at half the image's size; twice as many at each halving.
      stages: how often the size halves, at least once.
      dropout: rate, after every hidden activation.
      minibatch_discrimination: kernels B of `MinibatchDiscrimination` before the logit; 0: without.
      dtype: for compute, up to the features.
      axis_name: of an enclosing `pmap` whose devices' batches are one to minibatch discrimination.
    """

    num_classes: int
    width: int = 64
    stages: int = 2
    dropout: float = 0.0
    minibatch_discrimination: int = 0
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, labels: jax.Array | None, *, train: bool, keys: jax.Array | None = None
    ) -> jax.Array:
        """[n, H, W, C] in [-1, 1], int [n] or None, PRNG keys [n] or None -> logits [n], float32."""
        del train
        check_image_shape(images.shape[1:], 2**self.stages)
        x = images.astype(self.dtype or images.dtype)
        for stage in range(self.stages):
            if stage:
                x = dropped(x, self.dropout, keys)
            x = Conv(self.width << stage, (4, 4), (2, 2), kernel_init=_normal, dtype=self.dtype)(x)
            x = nn.leaky_relu(x, 0.2)
        return head(
            self,
            x,
            labels,
            keys,
            num_classes=self.num_classes,
            dropout=self.dropout,
            kernels=self.minibatch_discrimination,
            axis_name=self.axis_name,
        )
