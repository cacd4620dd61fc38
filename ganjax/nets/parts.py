"""What several of the networks are made of: choices by name, the end of a discriminator, a reference batch.

The functions create layers in the compact `__call__` that calls them, under the names that they would have
there.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from ganjax.layers import (
    BatchNorm,
    Dropout,
    Embed,
    LayerNorm,
    MinibatchDiscrimination,
    VirtualBatchNorm,
    add_bias,
    upsample_conv,
)

_glorot, _lecun = nn.initializers.glorot_uniform(), nn.initializers.lecun_normal()


class UpsampleConv(nn.Module):
    """Nearest upsampling by 2 and a "SAME" convolution, as `upsample_conv` computes them.

    Attributes:
      features: output channels F.
      kernel_size: (KH, KW), both odd.
      use_bias: adds a bias [F].
      dtype: for compute.
      kernel_init: Glorot's, uniform, by default.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    use_bias: bool = False
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = _glorot

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, H, W, C] -> [n, 2 * H, 2 * W, features]."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return add_bias(upsample_conv(x, kernel), bias)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless `value` is one of the `choices`."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")


def check_labels(num_classes: int, labels: jax.Array | None) -> None:
    """Raises ValueError unless there are labels where there are classes, and only there."""
    if labels is not None and not num_classes:
        raise ValueError("this network takes no labels: its num_classes is 0")
    if labels is None and num_classes:
        raise ValueError(f"this network of {num_classes} classes needs a label for each example")


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """ "relu", or "leaky_relu" with a slope of 0.2 below zero."""
    check_choice("activation", name, ("relu", "leaky_relu"))
    return nn.relu if name == "relu" else lambda x: nn.leaky_relu(x, 0.2)


def normalised(
    x: jax.Array,
    norm: str,
    *,
    train: bool,
    dtype: jnp.dtype | None = None,
    axis_name: str | None = None,
    reference: int = 0,
) -> jax.Array:
    """[n, ..., C] -> [n, ..., C], by "batch", "layer" or "virtual" normalisation, or as it is by "none".

    Args:
      axis_name: for "batch", see `BatchNorm`.
      reference: for "virtual", see `VirtualBatchNorm`.
    """
    if norm == "batch":
        return BatchNorm(dtype=dtype, axis_name=axis_name)(x, train=train)
    if norm == "layer":
        return LayerNorm(dtype=dtype)(x)
    if norm == "virtual":
        return VirtualBatchNorm(reference, dtype=dtype)(x)
    check_choice("norm", norm, ("none", "batch", "layer", "virtual"))
    return x


def with_reference(
    module: nn.Module, size: int, latents: jax.Array, labels: jax.Array | None = None, num_classes: int = 0
) -> tuple[jax.Array, jax.Array | None]:
    """The latents and labels of `size` reference examples, and the given ones behind them.

    For use inside a compact `__call__` of a network with virtual batch normalisation. The reference latents
    are standard normal, drawn as the network is initialised, in its collection `reference`; their labels
    are the classes in turn.

    Args:
      latents: [n, Z].
      labels: int [n], or None.
    Returns:
      [size + n, Z], and int [size + n] or None.
    Raises:
      ValueError: size is below 1.
    """
    if size < 1:
        raise ValueError(f"reference_size={size}: virtual batch normalisation needs at least one example")

    def draw() -> jax.Array:
        values = jax.random.normal(module.make_rng("params"), (size, latents.shape[-1]))
        # With so few bits the mean over any number of devices is exact, and the reference stays what it is.
        return values.astype(jnp.bfloat16).astype(jnp.float32)

    reference = module.variable("reference", "latents", draw).value
    latents = jnp.concatenate([reference.astype(latents.dtype), latents])
    if labels is not None:
        labels = jnp.concatenate([(jnp.arange(size) % num_classes).astype(labels.dtype), labels])
    return latents, labels


def dropped(x: jax.Array, rate: float, keys: jax.Array | None, reference: int = 0) -> jax.Array:
    """`Dropout` of all but the first `reference` rows: the reference batch is the same at every step."""
    if reference:
        return jnp.concatenate([x[:reference], Dropout(rate)(x[reference:], keys)])
    return Dropout(rate)(x, keys)


def head(
    module: nn.Module,
    x: jax.Array,
    labels: jax.Array | None = None,
    keys: jax.Array | None = None,
    *,
    num_classes: int = 0,
    dropout: float = 0.0,
    kernels: int = 0,
    axis_name: str | None = None,
    kernel_init: nn.initializers.Initializer = _lecun,
) -> jax.Array:
    """The end of a discriminator: from the last hidden activations to logits.

    The activations, flat, are sown as `module`'s intermediate "features"; then come dropout, minibatch
    discrimination and a dense layer to one. With classes, the inner product of the label's embedding with the
    features is added (Miyato & Koyama 2018, "cGANs with projection discriminator").

    Args:
      x: [n, ...].
      labels: int [n], or None.
      keys: PRNG keys [n] for dropout, or None: nothing is dropped.
      num_classes: 0 leaves the label out.
      dropout: rate.
      kernels: of `MinibatchDiscrimination`; 0: without.
      axis_name: see `MinibatchDiscrimination`.
      kernel_init: of the dense layer.
    Returns:
      [n], float32.
    """
    check_labels(num_classes, labels)
    # Logits in float32 in any dtype: they are sums of thousands of terms, and bfloat16 has 8 bits.
    x = x.reshape(x.shape[0], -1).astype(jnp.float32)
    module.sow("intermediates", "features", x)
    x = Dropout(dropout)(x, keys)
    joined = MinibatchDiscrimination(kernels, axis_name=axis_name)(x) if kernels else x
    logits = nn.Dense(1, kernel_init=kernel_init)(joined).squeeze(-1)
    if labels is not None:
        embed = Embed(num_classes, x.shape[-1], embedding_init=nn.initializers.normal(0.02))
        logits = logits + jnp.sum(embed(labels) * x, axis=-1)
    return logits
