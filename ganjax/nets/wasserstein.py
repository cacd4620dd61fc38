"""The Wasserstein GAN of a textbook, for small images (Arjovsky et al. 2017, "Wasserstein GAN").

The book keeps a bias before each batch normalisation, which takes it out again; so does this, and its
parameters can be compared.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import BatchNorm, Conv, ConvTranspose
from ganjax.nets.conditional import check_image_shape
from ganjax.nets.parts import check_choice, check_labels, head, normalised

_normal = nn.initializers.normal(0.02)


class WassersteinGenerator(nn.Module):
    """Latents -> dense, leaky ReLU 0.2 -> two 4x4 transposed convolutions of stride 2, each with batch norm
    and leaky ReLU 0.2 -> 7x7 convolution, tanh.

    Attributes:
      image_shape: (H, W, C), H and W multiples of 4.
      width: channels throughout.
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    image_shape: tuple[int, int, int]
    width: int = 128
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, Z], None -> [n, H, W, C] float32 in [-1, 1]."""
        check_image_shape(self.image_shape, 4)
        check_labels(0, labels)
        height, width = self.image_shape[0] // 4, self.image_shape[1] // 4
        x = nn.Dense(height * width * self.width, kernel_init=_normal, dtype=self.dtype)(latents)
        x = nn.leaky_relu(x, 0.2).reshape(-1, height, width, self.width)
        up = functools.partial(
            ConvTranspose, self.width, (4, 4), (2, 2), kernel_init=_normal, dtype=self.dtype
        )
        for _ in range(2):
            x = BatchNorm(dtype=self.dtype, axis_name=self.axis_name)(up()(x), train=train)
            x = nn.leaky_relu(x, 0.2)
        x = Conv(self.image_shape[2], (7, 7), kernel_init=_normal, dtype=self.dtype)(x)
        return jnp.tanh(x.astype(jnp.float32))


class WassersteinCritic(nn.Module):
    """Image -> two 4x4 convolutions of stride 2, each with norm and leaky ReLU 0.2 -> a linear score.

    Attributes:
      width: channels throughout.
      norm: "batch", as in the book; "layer" or "none" for a gradient penalty, which is each example's own
        (Gulrajani et al. 2017, "Improved training of Wasserstein GANs").
      dtype: for compute, up to the features.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    width: int = 64
    norm: str = "batch"
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, H, W, C] in [-1, 1], None -> scores [n], float32."""
        check_image_shape(images.shape[1:], 4)
        check_choice("norm", self.norm, ("batch", "layer", "none"))
        x = images.astype(self.dtype or images.dtype)
        for _ in range(2):
            x = Conv(self.width, (4, 4), (2, 2), kernel_init=_normal, dtype=self.dtype)(x)
            x = normalised(x, self.norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
            x = nn.leaky_relu(x, 0.2)
        return head(self, x, labels, kernel_init=_normal)
