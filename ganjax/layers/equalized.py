"""Equalized learning rate and pixel norm (Karras et al. 2018, "Progressive growing of GANs for improved
quality, stability, and variation", sections 4.1 and 4.2).

Kernels are drawn from N(0, 1) and scaled by He's constant, gain / sqrt(fan in), each time they are used. So
all parameters are of one size, and Adam, whose steps do not depend on the gradient's size, moves all layers
alike.
"""

import functools
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from ganjax.layers.channels import add_bias
from ganjax.layers.conv import conv, conv_pool, upsample_conv
from ganjax.layers.resample import downsample, upsample

# Outputs of so many pixels a CPU computes as a product of patches.
SMALL = 64

SQRT2 = math.sqrt(2.0)  # He's gain, before a rectifier


def pixel_norm(x: jax.Array, epsilon: float = 1e-8) -> jax.Array:
    """x over the root mean square of its last axis, [..., C]; computed in float32.

    Of images, each pixel by itself; of latents, each latent by its second moment.

    References:
      Karras et al. 2018, section 4.2.
    """
    y = x.astype(jnp.float32)
    y = y * lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + epsilon)
    return y.astype(x.dtype)


def equalized(
    module: nn.Module, shape: tuple[int, ...], gain: float, multiplier: float, use_bias: bool, bias: float
) -> tuple[jax.Array, jax.Array | None]:
    """The kernel and the bias of a layer, as they are used; declares the parameters "kernel" and "bias".

    For use inside a compact `__call__`. The last axis of `shape` is the output's, the others are the fan in.
    """
    if not multiplier > 0.0:
        raise ValueError(f"multiplier={multiplier}: expected a number above 0")
    kernel = module.param("kernel", nn.initializers.normal(1.0 / multiplier), shape)
    kernel = kernel * (gain * multiplier / math.sqrt(math.prod(shape[:-1])))
    if not use_bias:
        return kernel, None
    value = nn.initializers.constant(bias / multiplier)
    return kernel, module.param("bias", value, shape[-1:]) * multiplier


class EqualizedDense(nn.Module):
    """Linear map of the last axis, with equalized learning rate.

    Attributes:
      features: F.
      gain: sqrt(2) before a rectifier, 1 where nothing follows.
      multiplier: of the learning rate: parameters are 1 / multiplier as large, and scaled by it when used
        (Karras et al. 2019, appendix C).
      use_bias: adds a bias [F].
      bias: what it begins at.
      dtype: for compute; parameters are float32.
    """

    features: int
    gain: float = SQRT2
    multiplier: float = 1.0
    use_bias: bool = True
    bias: float = 0.0
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] -> [..., features]. Raises ValueError for a multiplier that is not above 0."""
        shape = (x.shape[-1], self.features)
        kernel, bias = equalized(self, shape, self.gain, self.multiplier, self.use_bias, self.bias)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return add_bias(x @ kernel, bias)


class EqualizedConv(nn.Module):
    """Convolution, "SAME", of stride 1, with equalized learning rate.

    Attributes:
      features: output channels F.
      kernel_size: of both sides, odd.
      resample: "up" upsamples by 2 (nearest) before the convolution, "down" takes the mean over 2x2 pixels
        after it, in one with it (`upsample_conv`, `conv_pool`); "" does neither.
      gain: sqrt(2) before a rectifier, 1 where nothing follows.
      use_bias: adds a bias [F].
      dtype: for compute; parameters are float32.
    """

    features: int
    kernel_size: int = 3
    resample: Literal["", "up", "down"] = ""
    gain: float = SQRT2
    use_bias: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, H, W, C] -> [n, H', W', features]. Raises ValueError for sizes that do not fit."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel, bias = equalized(self, shape, self.gain, 1.0, self.use_bias, 0.0)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        operation = {"": conv, "up": upsample_conv, "down": conv_pool}[self.resample]
        pixels = x.shape[1] * x.shape[2] * {"": 1.0, "up": 4.0, "down": 0.25}[self.resample]
        if self.kernel_size > 1 and pixels <= SMALL:
            small = functools.partial(by_patches, resample=self.resample)
            y = lax.platform_dependent(x, kernel, cpu=small, default=operation)
        else:
            y = operation(x, kernel)
        return add_bias(y, bias)


def by_patches(x: jax.Array, kernel: jax.Array, resample: str) -> jax.Array:
    """`conv`, `upsample_conv` ("up") or `conv_pool` ("down") with an odd, square kernel, as one product of
    patches.

    Its gradients of any order are products too: on a CPU several times as fast as convolutions of few pixels.
    """
    size = kernel.shape[0]
    x = upsample(x) if resample == "up" else x
    y = jnp.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    height, width = x.shape[1:3]
    taps = [y[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    y = jnp.concatenate(taps, axis=-1)
    if resample == "down":  # the mean of patches, for the product is linear
        y = downsample(y)
    return y @ kernel.reshape(-1, kernel.shape[-1])
