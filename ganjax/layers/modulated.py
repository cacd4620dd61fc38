"""StyleGAN2's convolutions (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN"):
modulated by a style, and with filtered resampling."""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from ganjax import random
from ganjax.layers.channels import add_bias
from ganjax.layers.conv import conv, conv_transpose
from ganjax.layers.equalized import SMALL, EqualizedDense, by_patches, equalized
from ganjax.layers.resample import downsample_filtered, fir_filter, upfirdn

FILTER = fir_filter([1, 3, 3, 1])

Resample = Literal["", "up", "down"]


def filtered_conv(x: jax.Array, kernel: jax.Array, resample: Resample = "") -> jax.Array:
    """A "SAME" convolution with an odd, square kernel; with "up", of an image of twice the sides, with zeros
    between the pixels, filtered with [1, 3, 3, 1]; with "down", of the filtered image, of which half the rows
    and columns are left.

    An enlarged image is filtered after the convolution, one that is shrunk before it, so that no convolution
    meets all pixels of the large one; both being linear, the order makes no other difference. Nothing is cut
    off in between: it is one convolution, with a kernel of three more taps, of an image with zeros around it.

    Args:
      x: [n, H, W, C].
      kernel: [K, K, C, F], K odd.
      resample: see above.
    Returns:
      [n, H', W', F].
    Raises:
      ValueError: for "down", H or W is odd.
    """
    size = kernel.shape[0]
    if resample == "up":
        # Four for the zeros between the pixels.
        y = conv_transpose(x, kernel, 2, [(size - 1, size - 1)] * 2)
        before = 2 - size // 2
        return upfirdn(y, FILTER, padding=((before, before),) * 2, gain=4.0)
    if resample == "down":
        if x.shape[1] % 2 or x.shape[2] % 2:
            raise ValueError(f"filtered_conv: images of even height and width can be halved; got {x.shape}")
        if size == 1:
            return conv(downsample_filtered(x, FILTER), kernel)
        pad = size // 2 + 1
        return conv(upfirdn(x, FILTER, padding=pad), kernel, 2, "VALID")
    if size > 1 and x.shape[1] * x.shape[2] <= SMALL:
        return lax.platform_dependent(x, kernel, cpu=lambda x, k: by_patches(x, k, ""), default=conv)
    return conv(x, kernel)


class FilteredConv(nn.Module):
    """`filtered_conv` with equalized learning rate: a kernel from N(0, 1), scaled by 1 / sqrt(fan in).

    Attributes:
      features: output channels F.
      kernel_size: of both sides, odd.
      resample: see `filtered_conv`.
      use_bias: adds a bias [F].
      dtype: for compute; parameters are float32.
    """

    features: int
    kernel_size: int = 3
    resample: Resample = ""
    use_bias: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, H, W, C] -> [n, H', W', features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel, bias = equalized(self, shape, 1.0, 1.0, self.use_bias, 0.0)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return add_bias(filtered_conv(x, kernel, self.resample), bias)


class ModulatedConv(nn.Module):
    """A convolution whose kernel's inputs are scaled by an example's style, and whose outputs are normalised
    by what that does to a kernel's norm (section 2.2).

    With k the kernel and s the scales of an example, the kernel is s_i k_ijf over the square root of its sum
    of squares over inputs i and taps j. It is the images that are scaled here, before and after one
    convolution with k: the same values, where a kernel for each example would take a convolution of as many
    groups as there are examples.

    Noise of one value a pixel is added to all channels, times a strength that begins at 0 (appendix B: one
    for the layer, where StyleGAN's `Noise` has one a channel), and a bias.

    Attributes:
      features: output channels F.
      kernel_size: of both sides, odd.
      resample: see `filtered_conv`.
      demodulate: outputs are normalised.
      noise: there is noise.
      epsilon: added to the sum of squares.
      dtype: for compute; parameters, scales and norms are float32.
    """

    features: int
    kernel_size: int = 3
    resample: Resample = ""
    demodulate: bool = True
    noise: bool = False
    epsilon: float = 1e-8
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, style: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        """[n, H, W, C], [n, S], noise as PRNG keys [n] or [n, H', W'], None for none ->
        [n, H', W', features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        scales = EqualizedDense(x.shape[-1], gain=1.0, bias=1.0, name="style")(style)
        kernel, bias = equalized(self, shape, 1.0, 1.0, True, 0.0)
        assert bias is not None
        y = modulated_conv(
            x.astype(self.dtype or x.dtype),
            kernel,
            scales,
            self.resample,
            demodulate=self.demodulate,
            epsilon=self.epsilon,
        )
        if self.noise:
            strength = self.param("strength", nn.initializers.zeros_init(), ())
            if noise is not None:
                drawn = random.normal_or_given(noise, y.shape[1:-1])
                y = y + (strength * drawn)[..., None].astype(y.dtype)
        return add_bias(y, bias.astype(y.dtype))


def modulated_conv(
    x: jax.Array,
    kernel: jax.Array,
    scales: jax.Array,
    resample: Resample = "",
    *,
    demodulate: bool = True,
    epsilon: float = 1e-8,
) -> jax.Array:
    """`ModulatedConv`: [n, H, W, C], [K, K, C, F], [n, C] -> [n, H', W', F] of x's type."""
    y = filtered_conv(x * scales[:, None, None].astype(x.dtype), kernel.astype(x.dtype), resample)
    if not demodulate:
        return y
    # Of all taps at once, for they are scaled alike.
    squares = jnp.square(scales) @ jnp.sum(jnp.square(kernel), axis=(0, 1))
    return y * lax.rsqrt(squares + epsilon)[:, None, None].astype(x.dtype)


def scaled_leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU of slope 0.2 times sqrt(2), which keeps the size of what goes in."""
    return nn.leaky_relu(x, 0.2) * jnp.asarray(math.sqrt(2.0), x.dtype)
