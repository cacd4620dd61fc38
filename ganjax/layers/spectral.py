"""Spectral normalisation (Miyato et al. 2018, "Spectral normalization for generative adversarial networks").

A layer's kernel, as a matrix of all its inputs by its outputs, is divided by its largest singular value.
The value is estimated by power iteration, one iteration a forward pass in training; the two vectors live in
the collection `spectral`, and the stored kernel is never changed.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from ganjax.layers.channels import add_bias
from ganjax.layers.conv import PaddingLike, conv


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.linalg.norm(x) + 1e-12)


def spectrally_normalised(module: nn.Module, kernel: jax.Array, *, train: bool) -> jax.Array:
    """`kernel` over its spectral norm, as estimated with vectors that `module` keeps.

    For use inside a compact `__call__`, once a module: declares `u` [F] and `v` [the rest] in the module's
    collection `spectral`. They count as constants in derivatives (Miyato et al. 2018, appendix A).

    Args:
      module: whose collection it is.
      kernel: [..., F], float32.
      train: makes one power iteration and keeps its vectors; without, the kept ones serve as they are.
    Returns:
      the shape and type of `kernel`.
    """
    # In full float32: a TPU's or a GPU's default precision would leave the norm only three digits.
    product = lambda a, b: jnp.matmul(a, b, precision=lax.Precision.HIGHEST)  # noqa: E731
    matrix = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32)
    constant = lax.stop_gradient(matrix)

    def random_unit() -> jax.Array:
        return _unit(jax.random.normal(module.make_rng("params"), (matrix.shape[1],)))

    kept_u = module.variable("spectral", "u", random_unit)
    kept_v = module.variable("spectral", "v", lambda: _unit(product(constant, kept_u.value)))
    u, v = kept_u.value, kept_v.value
    if train and not module.is_initializing():
        v = _unit(product(constant, u))
        u = _unit(product(v, constant))
        kept_u.value, kept_v.value = u, v
    sigma = jnp.sum(product(v, matrix) * u)
    return (kernel / jnp.maximum(sigma, 1e-12)).astype(kernel.dtype)  # a kernel of zeros stays zero


class SpectralConv(nn.Module):
    """Convolution, NHWC, with a spectrally normalised kernel; the parameters of `ganjax.layers.Conv`.

    Attributes:
      features: output channels F.
      kernel_size: (KH, KW).
      strides: over height and width.
      padding: "SAME", "VALID" or a pair for each axis.
      use_bias: adds a bias [F], which is not normalised.
      dtype: for compute; parameters and the norm are float32.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: PaddingLike = "SAME"
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', features]."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        kernel = spectrally_normalised(self, kernel, train=train)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv(x, kernel, self.strides, self.padding)
        return add_bias(y, bias)


class SpectralDense(nn.Module):
    """Linear map of the last axis with a spectrally normalised kernel; the parameters of `nn.Dense`.

    Attributes:
      features: F.
      use_bias: adds a bias [F], which is not normalised.
      dtype: for compute; parameters and the norm are float32.
    """

    features: int
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[..., C] -> [..., features]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        kernel = spectrally_normalised(self, kernel, train=train)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = x @ kernel
        return add_bias(y, bias)
