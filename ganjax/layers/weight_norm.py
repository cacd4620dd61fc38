"""Weight normalisation (Salimans & Kingma 2016, "Weight normalization: a simple reparameterization to
accelerate training of deep neural networks").

The weights that lead to an output have a direction, which is learned as `kernel`, and a length of their own,
which is learned as `scale`: w = scale * kernel / |kernel|. Unlike batch statistics, this makes no example
depend on the others of its batch.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from ganjax.layers.channels import add_bias
from ganjax.layers.conv import PaddingLike, conv


def weight_normalised(kernel: jax.Array, scale: jax.Array) -> jax.Array:
    """[..., F], [F] -> the kernel whose weights of output f have the norm |scale[f]|."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    # Within the root, so that a kernel of zeros has a gradient that is finite
    norms = jnp.sqrt(jnp.sum(jnp.square(matrix), axis=0) + 1e-12)
    return (matrix * (scale / norms)[None]).reshape(kernel.shape)


class WeightNormDense(nn.Module):
    """Linear map of the last axis with weight normalisation.

    Attributes:
      features: F.
      scale: initial length of each output's weights. The paper sets it by the first batch; here it is a
        constant, for initial parameters hang on no data. The default keeps the mean square through a layer of
        ReLUs.
      learn_scale: the length is a parameter; else it stays, and what a layer gives can't outgrow noise behind
      it.
      use_bias: adds a bias [F].
      dtype: for compute; parameters and norms are float32.
    """

    features: int
    scale: float = 2**0.5
    learn_scale: bool = True
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.05)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] -> [..., features]."""
        kernel, bias = _parameters(self, (x.shape[-1], self.features))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return add_bias(x @ kernel, bias)


class WeightNormConv(nn.Module):
    """Convolution, NHWC, with weight normalisation.

    Attributes:
      features: output channels F.
      kernel_size: (KH, KW).
      strides: over height and width.
      padding: "SAME", "VALID" or a pair for each axis.
      scale, learn_scale, use_bias, dtype: as in `WeightNormDense`.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: PaddingLike = "SAME"
    scale: float = 2**0.5
    learn_scale: bool = True
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.05)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', features]."""
        kernel, bias = _parameters(self, (*self.kernel_size, x.shape[-1], self.features))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return add_bias(conv(x, kernel, self.strides, self.padding), bias)


def _parameters(module: Any, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array | None]:
    """The normalised kernel and the bias of a layer, within its compact call."""
    features = (module.features,)
    kernel = module.param("kernel", module.kernel_init, shape)
    scale = jnp.full(features, module.scale)
    if module.learn_scale:
        scale = module.param("scale", nn.initializers.constant(module.scale), features)
    bias = module.param("bias", nn.initializers.zeros_init(), features) if module.use_bias else None
    return weight_normalised(kernel, scale), bias
