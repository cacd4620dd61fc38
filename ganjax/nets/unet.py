"""The U-Net that pix2pix translates images with (Isola et al. 2017, "Image-to-image translation with
conditional adversarial networks", after Ronneberger et al. 2015).

What the decoder draws at a size it draws from its own maps and from the encoder's of that size.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import Conv, ConvTranspose, Dropout
from ganjax.nets.conditional import check_image_shape
from ganjax.nets.translation import image_norm, normal_kernel

MOST = 8  # times the first stage's channels: no stage has more


class UNet(nn.Module):
    """Image -> `stages` 4x4 convolutions of stride 2 down, as many transposed ones up, with skips -> tanh.

    The paper's encoder C64-C128-C256-C512-C512-C512-C512-C512 is that of 8 stages, for 256 pixels. As there,
    the first stage has no norm, and dropout in the first stages of the decoder is the only noise, in sampling
    too. The innermost stage has none either: of a single pixel an instance norm would leave nothing (the
    paper's authors say so of their own code).

    Attributes:
      channels: of the output.
      stages: how often the size halves.
      width: channels at half the image's size; twice as many at each halving, up to 8 times.
      dropout: rate.
      dropout_stages: of the decoder, from the innermost on, that have dropout; None: 3 of 8 stages and 2 of
        7, as the paper's authors have it, and 1 of fewer.
      norm: "batch", by the running statistics in evaluation; "instance", which batch normalisation is where
        a batch is one image; or "none".
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    channels: int
    stages: int = 8
    width: int = 64
    dropout: float = 0.5
    dropout_stages: int | None = None
    norm: str = "batch"
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool, keys: jax.Array | None = None) -> jax.Array:
        """[n, H, W, C] in [-1, 1], PRNG keys [n] or None -> [n, H, W, channels] float32 in [-1, 1].

        Raises:
          ValueError: sides that are no multiples of 2^stages.
        """
        check_image_shape(images.shape[1:], 2**self.stages)
        conv = functools.partial(
            Conv, kernel_size=(4, 4), strides=(2, 2), kernel_init=normal_kernel, dtype=self.dtype
        )
        up = functools.partial(
            ConvTranspose, kernel_size=(4, 4), strides=(2, 2), kernel_init=normal_kernel, dtype=self.dtype
        )
        norm = functools.partial(
            image_norm, kind=self.norm, train=train, dtype=self.dtype, axis_name=self.axis_name
        )
        plain = self.norm == "none"  # where a norm takes a bias out again, there is none
        widths = [self.width * min(2**stage, MOST) for stage in range(self.stages)]
        x = images.astype(self.dtype or images.dtype)
        skips = []
        for stage, features in enumerate(widths):
            if stage:
                x = nn.leaky_relu(x, 0.2)
            bare = stage in (0, self.stages - 1)
            x = conv(features, use_bias=bare or plain)(x)
            x = x if bare else norm(x)
            skips.append(x)
        x = skips.pop()
        dropped = self.dropout_stages
        dropped = min(max(self.stages - 5, 1), 3) if dropped is None else dropped
        for stage, features in enumerate(reversed(widths[:-1])):
            x = norm(up(features, use_bias=plain)(nn.relu(x)))
            if stage < dropped:
                x = Dropout(self.dropout)(x, keys)
            x = jnp.concatenate([x, skips.pop()], axis=-1)
        x = up(self.channels)(nn.relu(x))
        return jnp.tanh(x.astype(jnp.float32))
