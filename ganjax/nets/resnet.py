"""The residual networks of SNGAN for small images (Miyato et al. 2018, "Spectral normalization for
generative adversarial networks", table 4; the blocks are those of Gulrajani et al. 2017).

The paper states no initialisation: kernels are Glorot uniform, those of the blocks' 3x3 convolutions times
sqrt(2), as its authors' code has it. A 1x1 convolution commutes with nearest
upsampling and with mean pooling, so shortcuts run theirs on the smaller of the two sizes; a convolution that
batch normalisation follows has no bias.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from ganjax.layers import (
    BatchNorm,
    Conv,
    SpectralConv,
    SpectralDense,
    add_bias,
    conv_pool,
    downsample,
    spectrally_normalised,
    upsample,
)
from ganjax.nets.conditional import check_image_shape
from ganjax.nets.parts import UpsampleConv, check_choice, head, normalised

_glorot = nn.initializers.glorot_uniform()
_larger = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")  # Glorot's times sqrt(2)


class ConvPool(nn.Module):
    """`conv_pool` with a bias, and a kernel that may be spectrally normalised."""

    features: int
    dtype: jnp.dtype | None = None
    spectral: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        kernel = self.param("kernel", _larger, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        if self.spectral:
            kernel = spectrally_normalised(self, kernel, train=train)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return add_bias(conv_pool(x, kernel), bias)


class SpectralConvPool(ConvPool):
    """`ConvPool`, spectrally normalised."""

    spectral: bool = True


class UpBlock(nn.Module):
    """BN, ReLU, upsample, 3x3 conv, BN, ReLU, 3x3 conv; the shortcut upsamples and has a 1x1 conv."""

    features: int
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = nn.relu(BatchNorm(dtype=self.dtype, axis_name=self.axis_name)(x, train=train))
        y = UpsampleConv(self.features, dtype=self.dtype, kernel_init=_larger)(y)
        y = nn.relu(BatchNorm(dtype=self.dtype, axis_name=self.axis_name)(y, train=train))
        y = Conv(self.features, (3, 3), kernel_init=_larger, dtype=self.dtype)(y)
        shortcut = Conv(self.features, (1, 1), kernel_init=_glorot, dtype=self.dtype, name="shortcut")(x)
        return y + upsample(shortcut)


def _convolved(
    x: jax.Array,
    features: int,
    size: tuple[int, int],
    *,
    spectral: bool,
    train: bool,
    dtype: jnp.dtype | None,
    name: str | None = None,
) -> jax.Array:
    options: Any = {"kernel_init": _glorot if size == (1, 1) else _larger, "dtype": dtype, "name": name}
    if spectral:
        return SpectralConv(features, size, **options)(x, train=train)
    return Conv(features, size, **options)(x)


class DownBlock(nn.Module):
    """Norm, ReLU, 3x3 conv, norm, ReLU, 3x3 conv, mean pool; the shortcut has a 1x1 conv and pools.

    The first block of a network has no norms, and leaves out the first ReLU, which would cut off half of the
    image.
    """

    features: int
    first: bool = False
    dtype: jnp.dtype | None = None
    spectral: bool = True
    norm: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        options: Any = {"spectral": self.spectral, "train": train, "dtype": self.dtype}
        norm = "none" if self.first else self.norm
        y = x if self.first else nn.relu(normalised(x, norm, train=train, dtype=self.dtype))
        y = _convolved(y, self.features, (3, 3), **options)
        y = nn.relu(normalised(y, norm, train=train, dtype=self.dtype))
        pool = SpectralConvPool if self.spectral else ConvPool
        y = pool(self.features, dtype=self.dtype)(y, train=train)
        return y + _convolved(downsample(x), self.features, (1, 1), name="shortcut", **options)


class Block(nn.Module):
    """Norm, ReLU, 3x3 conv, norm, ReLU, 3x3 conv, added to the input, whose size and channels stay."""

    dtype: jnp.dtype | None = None
    spectral: bool = True
    norm: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = x
        for _ in range(2):
            y = nn.relu(normalised(y, self.norm, train=train, dtype=self.dtype))
            y = _convolved(y, x.shape[-1], (3, 3), spectral=self.spectral, train=train, dtype=self.dtype)
        return x + y


class ResNetGenerator(nn.Module):
    """Latents -> dense -> `stages` residual blocks that double the size -> BN, ReLU, 3x3 conv -> tanh.

    Attributes:
      image_shape: (H, W, C), H and W multiples of 2^stages.
      width: channels throughout.
      stages: how often the size doubles; 3 goes from 4x4 to 32x32.
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    image_shape: tuple[int, int, int]
    width: int = 256
    stages: int = 3
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, Z], None -> [n, H, W, C] float32 in [-1, 1]."""
        check_image_shape(self.image_shape, 2**self.stages)
        if labels is not None:
            raise ValueError("this generator takes no labels")
        height, width = (side >> self.stages for side in self.image_shape[:2])
        x = nn.Dense(height * width * self.width, kernel_init=_glorot, dtype=self.dtype)(latents)
        x = x.reshape(-1, height, width, self.width)
        for _ in range(self.stages):
            x = UpBlock(self.width, dtype=self.dtype, axis_name=self.axis_name)(x, train=train)
        x = nn.relu(BatchNorm(dtype=self.dtype, axis_name=self.axis_name)(x, train=train))
        x = Conv(self.image_shape[2], (3, 3), kernel_init=_glorot, dtype=self.dtype)(x)
        return jnp.tanh(x.astype(jnp.float32))


class ResNetDiscriminator(nn.Module):
    """Image -> `stages` residual blocks that halve the size, two that keep it -> ReLU, sum or mean -> logit.

    By default SNGAN's, every layer spectrally normalised. With spectral=False and pool="mean" it is the
    critic of WGAN-GP (Gulrajani et al. 2017, "Improved training of Wasserstein GANs", appendix), whose
    generator is `ResNetGenerator` with width=128.

    Attributes:
      width: channels throughout.
      stages: how often the size halves, at least once.
      spectral: every kernel is spectrally normalised.
      norm: "none" or "layer", before every ReLU but those of the first block and the last one.
      pool: "sum" or "mean" over the pixels at the end.
      dtype: for compute, up to the features.
    """

    width: int = 128
    stages: int = 2
    spectral: bool = True
    norm: str = "none"
    pool: str = "sum"
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, H, W, C] in [-1, 1], None -> logits [n], float32."""
        check_image_shape(images.shape[1:], 2**self.stages)
        if labels is not None:
            raise ValueError("this discriminator takes no labels")
        check_choice("norm", self.norm, ("none", "layer"))
        check_choice("pool", self.pool, ("sum", "mean"))
        options: Any = {"dtype": self.dtype, "spectral": self.spectral, "norm": self.norm}
        x = images.astype(self.dtype or images.dtype)
        for stage in range(self.stages):
            x = DownBlock(self.width, first=stage == 0, **options)(x, train=train)
        for _ in range(2):
            x = Block(**options)(x, train=train)
        # Sum and logits in float32 in any dtype: bfloat16 has 8 bits.
        pool = jnp.sum if self.pool == "sum" else jnp.mean
        x = pool(nn.relu(x).astype(jnp.float32), axis=(1, 2))
        if not self.spectral:
            return head(self, x, kernel_init=_glorot)
        self.sow("intermediates", "features", x)
        return SpectralDense(1, kernel_init=_glorot)(x, train=train).squeeze(-1)
