"""Networks that classify, or predict numbers, and tell real images from generated ones by the same features
(Salimans et al. 2016, "Improved techniques for training GANs", section 5 and their code's sizes).

A discriminator here gives logits [n, K], whose meaning is the family's to say, and predicted numbers [n, T],
both float32, T perhaps 0; and it sows its "features" [n, F], the activations before these.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import BatchNorm, Dropout, GaussianNoise, WeightNormConv, WeightNormDense
from ganjax.nets.conditional import check_image_shape
from ganjax.nets.mlp import check_sizes


class SoftplusGenerator(nn.Module):
    """Latents -> dense layers, each with batch norm and softplus -> weight-normalised dense -> image.

    Attributes:
      image_shape: (H, W, C).
      hidden: widths of the hidden layers.
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    image_shape: tuple[int, int, int]
    hidden: tuple[int, ...] = (500, 500)
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, Z], None -> [n, H, W, C] float32 in [-1, 1]."""
        del labels
        check_sizes(self.image_shape, self.hidden)
        x = latents
        for width in self.hidden:
            x = nn.Dense(width, use_bias=False, dtype=self.dtype)(x)
            x = nn.softplus(BatchNorm(dtype=self.dtype, axis_name=self.axis_name)(x, train=train))
        x = WeightNormDense(math.prod(self.image_shape), scale=1.0, dtype=self.dtype)(x)
        return jnp.tanh(x.astype(jnp.float32)).reshape(-1, *self.image_shape)


class NoisyMLP(nn.Module):
    """Image, flat, with noise -> weight-normalised dense layers, each with ReLU and noise -> outputs.

    Hidden weights have a fixed length, by which activations before the ReLU begin with a variance of about 1,
    where the paper's code measures that on the first batch.

    Attributes:
      outputs: logits K.
      targets: predicted numbers T.
      hidden: widths of the hidden layers.
      input_noise: standard deviation on images, whose pixels are taken in [0, 1].
      noise: standard deviation on every hidden activation.
      dtype: for compute, up to the features.
    """

    outputs: int
    targets: int = 0
    hidden: tuple[int, ...] = (1000, 500, 250, 250, 250)
    input_noise: float = 0.3
    noise: float = 0.5
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """[n, H, W, C] in [-1, 1], PRNG keys [n] or None (no noise) -> logits [n, K], numbers [n, T]."""
        del train
        check_sizes(images.shape[1:], self.hidden)
        x = 0.5 * (images.reshape(images.shape[0], -1) + 1)  # black is 0
        x = x.astype(self.dtype or images.dtype)
        x = GaussianNoise(self.input_noise)(x, keys)
        for i, width in enumerate(self.hidden):
            x = nn.relu(WeightNormDense(width, **_fixed(first=not i), dtype=self.dtype)(x))
            if i + 1 < len(self.hidden):
                x = GaussianNoise(self.noise)(x, keys)
        return _head(self, x, self.outputs, self.targets, lambda y: GaussianNoise(self.noise)(y, keys))


class NoisyConvNet(nn.Module):
    """Image with noise -> five convolutions, each with ReLU and noise -> mean over pixels -> outputs. All
    weight-normalised, hidden weights as `NoisyMLP`'s.

    5x5 and 3x3 of stride 2, 3x3, 3x3 without padding, 1x1. On few labels alone it errs less than the dense
    one, for it need not learn that a stroke is the same thing everywhere.

    Attributes:
      outputs: logits K.
      targets: predicted numbers T.
      width: channels of the first convolution; the next two have twice as many, the last two four times.
      input_noise, noise: as of `NoisyMLP`.
      pool: features are means over pixels; if not, the pixels one by one: for what hangs on where a stroke
        is, as the angle of a whole does.
      dtype: for compute, up to the features.
    """

    outputs: int
    targets: int = 0
    width: int = 32
    input_noise: float = 0.3
    noise: float = 0.5
    pool: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """[n, H, W, C] in [-1, 1], PRNG keys [n] or None (no noise) -> logits [n, K], numbers [n, T].

        Raises:
          ValueError: sides below 9.
        """
        del train
        height, width = images.shape[1:3]
        if min(height, width) < 9:
            raise ValueError(f"image_size {height}x{width}: this network needs sides of at least 9")
        x = 0.5 * (images + 1)  # black is 0
        x = GaussianNoise(self.input_noise)(x.astype(self.dtype or images.dtype), keys)
        layers = (
            (1, 5, 2, "SAME"),
            (2, 3, 2, "SAME"),
            (2, 3, 1, "SAME"),
            (4, 3, 1, "VALID"),
            (4, 1, 1, "SAME"),
        )
        for i, (multiple, size, stride, padding) in enumerate(layers):
            layer = WeightNormConv(
                multiple * self.width,
                (size, size),
                (stride, stride),
                padding,
                **_fixed(first=not i),
                dtype=self.dtype,
            )
            x = nn.relu(layer(x))
            if i + 1 < len(layers):
                x = GaussianNoise(self.noise)(x, keys)
        x = x.astype(jnp.float32)
        x = jnp.mean(x, axis=(1, 2)) if self.pool else x.reshape(x.shape[0], -1)
        return _head(self, x, self.outputs, self.targets, lambda y: GaussianNoise(self.noise)(y, keys))


class WeightNormConvNet(nn.Module):
    """Image -> two groups of three 3x3 convolutions, the last of a group with stride 2, each group behind
    dropout -> one without padding, two of 1x1 -> mean over pixels -> outputs. All weight-normalised, leaky
    ReLU 0.2.

    Attributes:
      outputs: logits K.
      targets: predicted numbers T.
      width: channels of the first group; the rest has twice as many.
      input_dropout: rate on pixels.
      dropout: rate before the second group, and before what follows it.
      dtype: for compute, up to the features.
    """

    outputs: int
    targets: int = 0
    width: int = 96
    input_dropout: float = 0.2
    dropout: float = 0.5
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """[n, H, W, C] in [-1, 1], PRNG keys [n] or None (nothing is dropped) -> [n, K], [n, T]."""
        del train
        check_image_shape(images.shape[1:], 4)
        if min(images.shape[1:3]) < 12:
            height, width = images.shape[1:3]
            raise ValueError(f"image_size {height}x{width}: this network needs sides of at least 12")
        conv = functools.partial(WeightNormConv, dtype=self.dtype)
        act = functools.partial(nn.leaky_relu, negative_slope=0.2)
        x = Dropout(self.input_dropout)(images.astype(self.dtype or images.dtype), keys)
        for width in (self.width, 2 * self.width):
            for strides in ((1, 1), (1, 1), (2, 2)):
                x = act(conv(width, (3, 3), strides)(x))
            x = Dropout(self.dropout)(x, keys)
        x = act(conv(2 * self.width, (3, 3), padding="VALID")(x))
        for _ in range(2):
            x = act(conv(2 * self.width, (1, 1))(x))
        return _head(self, jnp.mean(x.astype(jnp.float32), axis=(1, 2)), self.outputs, self.targets)


def _fixed(*, first: bool) -> dict[str, Any]:
    """Of a layer whose weights have a fixed length, by which it gives a variance of about 1: of pixels, most
    of them dark, or of ReLUs, both with noise. Directions begin as long as the paper's: they turn as fast."""
    kernel_init = nn.initializers.normal(0.1)
    return {"scale": 2.5 if first else 1.3, "learn_scale": False, "kernel_init": kernel_init}


def _head(
    module: nn.Module, x: jax.Array, outputs: int, targets: int, noise=lambda x: x
) -> tuple[jax.Array, jax.Array]:
    """From the features [n, F] to outputs; within a compact call. The features are sown without the noise."""
    x = x.astype(jnp.float32)
    module.sow("intermediates", "features", x)
    # As precise in any dtype as elsewhere: an angle in bfloat16 would be off by half a per cent
    y = WeightNormDense(outputs + targets, scale=1.0)(noise(x))
    return y[:, :outputs], y[:, outputs:]
