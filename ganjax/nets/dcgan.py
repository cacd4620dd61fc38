"""DCGAN's networks (Radford et al. 2016, "Unsupervised representation learning with deep convolutional
generative adversarial networks"), for any image whose sides halve evenly.

Departures: 4x4 kernels, of which every output of a stride of 2 meets the same number of taps (the paper's
5x5 leave a checkerboard); no bias where batch normalisation would take it out again.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import Conv, ConvTranspose
from ganjax.nets.conditional import check_image_shape
from ganjax.nets.parts import check_choice, dropped, head, normalised, with_reference

_normal = nn.initializers.normal(0.02)


def stages_for(image_shape: Sequence[int]) -> int:
    """How often an image can be halved: until a side is odd, or would fall below 4.

    28x28 makes 2, 32x32 makes 3, 64x64 makes 4.

    Args:
      image_shape: (H, W, C).
    Raises:
      ValueError: the image can't be halved once so, or the shape is not one of three.
    """
    check_image_shape(image_shape, 1)
    height, width = image_shape[:2]
    stages = 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 8:
        height, width, stages = height // 2, width // 2, stages + 1
    if not stages:
        raise ValueError(
            f"image_size {height}x{width}: this network halves images to sides of at least 4, and needs even "
            f"sides of at least 8"
        )
    return stages


def _check_unconditional(labels: jax.Array | None) -> None:
    if labels is not None:
        raise ValueError("DCGAN's networks take no labels")


class DCGANGenerator(nn.Module):
    """Latents -> dense -> `stages` 4x4 transposed convolutions of stride 2, batch norm, ReLU -> tanh.

    With `hidden` another dense layer comes first, as in the form that the paper's authors gave it for small
    images: of two stages only, what a network draws would else hang on the latents by a linear map.

    Attributes:
      image_shape: (H, W, C), H and W multiples of 2^stages.
      width: channels at half the image's size; twice as many at each halving below.
      stages: how often the size doubles; 4 goes from 4x4 to 64x64.
      hidden: units of a dense layer before the first maps; 0: without.
      norm: "batch", or "virtual" (Salimans et al. 2016), whose reference examples go through the network with
        every batch.
      reference_size: reference examples of the virtual norm.
      dropout: rate, after every hidden activation; of the reference examples nothing is dropped.
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    image_shape: tuple[int, int, int]
    width: int = 64
    stages: int = 4
    hidden: int = 0
    norm: str = "batch"
    reference_size: int = 64
    dropout: float = 0.0
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        latents: jax.Array,
        labels: jax.Array | None = None,
        *,
        train: bool,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """[n, Z], None, PRNG keys [n] or None -> [n, H, W, C] float32 in [-1, 1]."""
        check_image_shape(self.image_shape, 2**self.stages)
        _check_unconditional(labels)
        check_choice("norm", self.norm, ("batch", "virtual"))
        reference = self.reference_size if self.norm == "virtual" else 0
        if self.norm == "virtual":
            latents, _ = with_reference(self, reference, latents)

        def activated(x: jax.Array) -> jax.Array:
            x = normalised(
                x,
                self.norm,
                train=train,
                dtype=self.dtype,
                axis_name=self.axis_name,
                reference=reference,
            )
            return dropped(nn.relu(x), self.dropout, keys, reference)

        height, width = (side >> self.stages for side in self.image_shape[:2])
        channels = self.width << (self.stages - 1)
        dense = functools.partial(nn.Dense, use_bias=False, kernel_init=_normal, dtype=self.dtype)
        x = activated(dense(self.hidden)(latents)) if self.hidden else latents
        x = dense(height * width * channels)(x)
        x = activated(x.reshape(-1, height, width, channels))
        for stage in reversed(range(self.stages - 1)):
            up = ConvTranspose(
                self.width << stage, (4, 4), (2, 2), use_bias=False, kernel_init=_normal, dtype=self.dtype
            )
            x = activated(up(x))
        last = ConvTranspose(self.image_shape[2], (4, 4), (2, 2), kernel_init=_normal, dtype=self.dtype)
        x = last(x[reference:] if reference else x)
        return jnp.tanh(x.astype(jnp.float32))


class DCGANDiscriminator(nn.Module):
    """Image -> `stages` 4x4 convolutions of stride 2, a norm but for the first, leaky ReLU 0.2 -> logit.

    Attributes:
      width: channels at half the image's size; twice as many at each halving.
      stages: how often the size halves.
      hidden: units of a dense layer behind the last maps; 0: without.
      norm: "batch"; "layer" or "none" for a gradient penalty, which is each example's own.
      dropout: rate, after every hidden activation.
      minibatch_discrimination: kernels B of `MinibatchDiscrimination` before the logit; 0: without.
      dtype: for compute, up to the features.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    width: int = 64
    stages: int = 4
    hidden: int = 0
    norm: str = "batch"
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
        check_image_shape(images.shape[1:], 2**self.stages)
        _check_unconditional(labels)
        check_choice("norm", self.norm, ("batch", "layer", "none"))
        x = images.astype(self.dtype or images.dtype)

        def activated(x: jax.Array, norm: str) -> jax.Array:
            x = normalised(x, norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
            return nn.leaky_relu(x, 0.2)

        use_bias = self.norm != "batch"
        conv = functools.partial(
            Conv, kernel_size=(4, 4), strides=(2, 2), kernel_init=_normal, dtype=self.dtype
        )
        x = activated(conv(self.width)(x), "none")
        for stage in range(1, self.stages):
            x = dropped(x, self.dropout, keys)
            x = activated(conv(self.width << stage, use_bias=use_bias)(x), self.norm)
        if self.hidden:
            x = dropped(x.reshape(x.shape[0], -1), self.dropout, keys)
            dense = nn.Dense(self.hidden, use_bias=use_bias, kernel_init=_normal, dtype=self.dtype)
            x = activated(dense(x), self.norm)
        return head(
            self,
            x,
            keys=keys,
            dropout=self.dropout,
            kernels=self.minibatch_discrimination,
            axis_name=self.axis_name,
            kernel_init=_normal,
        )
