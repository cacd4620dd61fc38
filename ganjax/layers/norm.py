"""Normalisation in plain mean, variance and rsqrt.

Flax's own layers compute alike, but XLA then no longer sees that the discriminator's and the generator's
phase run one and the same generator pass, and runs it twice (tests count the convolutions).
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ganjax import collectives
from ganjax.layers.channels import add_bias, column_sums, rows
from ganjax.layers.embedding import Embed
from ganjax.layers.spectral import SpectralDense


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015).

    With `train`, normalises by the batch's statistics and moves the running ones, in the collection
    `batch_stats`; without, normalises by the running ones. Statistics are float32 in any `dtype`. The batch's
    own mean and variance are sown into "moments", where that is asked for.

    Attributes:
      momentum: share of the running statistics that is kept; 0.9 is PyTorch's 0.1.
      epsilon: added to the variance.
      dtype: of the result; default: the input's.
      axis_name: of an enclosing `pmap` or `shard_map`: the statistics are those of the batch over all its
        devices; None: of the local batch.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[..., C] -> [..., C]."""
        features = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, jnp.float32)
        y = x.astype(jnp.float32).reshape(-1, *features)
        count = y.shape[0]
        if train:
            # In creating variables there is no axis yet.
            axis_name = None if self.is_initializing() else self.axis_name
            total = count if axis_name is None else count * jax.lax.axis_size(axis_name)

            def over_all(local: jax.Array) -> jax.Array:
                return local if axis_name is None else collectives.statistic(local, axis_name)

            mean = over_all(column_sums(y) / count)
            y = y - rows(mean, count)
            var = over_all(column_sums(jnp.square(y)) / count)
            if not self.is_initializing():
                self.sow("moments", "mean", mean)
                self.sow("moments", "var", var)
                unbiased = var * (total / max(total - 1, 1))
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased
        else:
            mean, var = running_mean.value, running_var.value
            y = y - rows(mean, count)
        scale = lax.rsqrt(var + self.epsilon)
        if self.use_scale:
            scale = scale * self.param("scale", self.scale_init, features)
        # Not y * scale - mean * scale, which subtracts two large numbers where the mean is large.
        y = y * rows(scale, count)
        if self.use_bias:
            y = add_bias(y, self.param("bias", nn.initializers.zeros_init(), features))
        return y.astype(self.dtype or x.dtype).reshape(x.shape)


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation with a scale and a shift for each class (de Vries et al. 2017).

    The scale is 1 + gamma, gamma and the shift embeddings of the label that begin at 0.

    Attributes:
      num_classes: labels are in [0, num_classes).
      momentum, epsilon, dtype, axis_name: as in `BatchNorm`.
    """

    num_classes: int
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array, *, train: bool) -> jax.Array:
        """[n, ..., C], int [n] or shares of the classes [n, num_classes] -> [n, ..., C]."""

        def by_class(name: str) -> jax.Array:
            zeros = nn.initializers.zeros_init()
            embed = Embed(self.num_classes, x.shape[-1], embedding_init=zeros, dtype=self.dtype, name=name)
            return embed(labels)

        return _modulated(self, x, by_class, train=train)


class EmbeddedBatchNorm(nn.Module):
    """Batch normalisation with a scale and a shift that are linear in a vector (Brock et al. 2019).

    The vector is a class embedding that all layers share, with latents beside it or without. The scale is
    1 + gamma; the maps to gamma and the shift have no bias.

    Attributes:
      spectral: both maps are spectrally normalised.
      kernel_init: of both maps.
      momentum, epsilon, dtype, axis_name: as in `BatchNorm`.
    """

    spectral: bool = False
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array, *, train: bool) -> jax.Array:
        """[n, ..., C], [n, E] -> [n, ..., C]."""

        def linear(name: str) -> jax.Array:
            options: Any = {
                "use_bias": False,
                "kernel_init": self.kernel_init,
                "dtype": self.dtype,
                "name": name,
            }
            if self.spectral:
                return SpectralDense(x.shape[-1], **options)(vector, train=train)
            return nn.Dense(x.shape[-1], **options)(vector)

        return _modulated(self, x, linear, train=train)


def _modulated(
    module: "ConditionalBatchNorm | EmbeddedBatchNorm",
    x: jax.Array,
    given: Callable[[str], jax.Array],
    *,
    train: bool,
) -> jax.Array:
    """[n, ..., C], normalised, times 1 + given("gamma") [n, C] plus given("shift"); within a compact call."""
    norm = BatchNorm(
        module.momentum,
        module.epsilon,
        use_scale=False,
        use_bias=False,
        dtype=module.dtype,
        axis_name=module.axis_name,
        name="BatchNorm_0",
    )
    y = norm(x, train=train)
    wide = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    return (y * (1 + given("gamma").reshape(wide)) + given("shift").reshape(wide)).astype(y.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016): each example by its own statistics, over all axes but the first.

    So it goes with a gradient penalty for each example, which batch statistics do not (Gulrajani et al.
    2017). Scale and bias are one a channel. Statistics are float32 in any `dtype`.

    Attributes:
      epsilon: added to the variance.
      dtype: of the result; default: the input's.
    """

    epsilon: float = 1e-5
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, ..., C] -> [n, ..., C]."""
        features = x.shape[-1:]
        y = x.astype(jnp.float32).reshape(x.shape[0], -1)
        y = y - jnp.mean(y, axis=1, keepdims=True)
        y = y * lax.rsqrt(jnp.mean(jnp.square(y), axis=1, keepdims=True) + self.epsilon)
        y = y.reshape(-1, *features)
        y = y * rows(self.param("scale", nn.initializers.ones_init(), features), y.shape[0])
        y = add_bias(y, self.param("bias", nn.initializers.zeros_init(), features))
        return y.astype(self.dtype or x.dtype).reshape(x.shape)


class InstanceNorm(nn.Module):
    """Instance normalisation (Ulyanov et al. 2016): each example's channels by their own statistics.

    In training and evaluation alike; so is batch normalisation of a batch of one. Statistics are float32 in
    any `dtype`. Where there is a single pixel, nothing is left of it but the bias.

    Attributes:
      epsilon: added to the variance.
      use_scale, use_bias: learn a scale, a bias, of each channel.
      dtype: of the result; default: the input's.
    """

    epsilon: float = 1e-5
    use_scale: bool = False
    use_bias: bool = False
    dtype: jnp.dtype | None = None
    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, ..., C] -> [n, ..., C]."""
        count, features = math.prod(x.shape[1:-1]), x.shape[-1]
        y = x.astype(jnp.float32).reshape(x.shape[0], count, features)

        def wide(statistic: jax.Array) -> jax.Array:
            # [n, C] -> [n, count, C]. With axes that are kept XLA does not merge two passes that are alike.
            return lax.broadcast_in_dim(statistic, y.shape, (0, 2))

        y = y - wide(jnp.mean(y, axis=1))
        scale = lax.rsqrt(jnp.mean(jnp.square(y), axis=1) + self.epsilon)
        if self.use_scale:
            scale = scale * self.param("scale", self.scale_init, (features,)).reshape(1, features)
        y = y * wide(scale)
        if self.use_bias:
            y = add_bias(y, self.param("bias", nn.initializers.zeros_init(), (features,)))
        return y.astype(self.dtype or x.dtype).reshape(x.shape)


class VirtualBatchNorm(nn.Module):
    """Virtual batch normalisation (Salimans et al. 2016, "Improved techniques for training GANs", 3.5).

    The input begins with the activations of R reference examples, the same at every step. Each example behind
    them is normalised by the statistics of a batch of R + 1, the reference and itself: so it does not depend
    on the others of its batch, and training and evaluation are alike. The reference examples are normalised
    by their own statistics. Scale and bias are one a channel. Statistics are float32 in any `dtype`.

    Attributes:
      reference: R, at least 1.
      epsilon: added to the variance.
      dtype: of the result; default: the input's.
    """

    reference: int
    epsilon: float = 1e-5
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[R + n, ..., C] -> [R + n, ..., C].

        Raises:
          ValueError: R is below 1, or x has fewer rows.
        """
        if not 1 <= self.reference <= x.shape[0]:
            raise ValueError(
                f"virtual batch normalisation by {self.reference} reference examples of {x.shape}: expected "
                f"at least one, and no more than there are rows"
            )
        features = x.shape[-1:]
        y = x.astype(jnp.float32).reshape(-1, *features)
        each = math.prod(x.shape[1:-1])
        count = each * self.reference
        y = y - rows(column_sums(y[:count]) / count, y.shape[0])
        var = column_sums(jnp.square(y[:count])) / count
        reference = y[:count] * rows(lax.rsqrt(var + self.epsilon), count)
        # From here on the reference's mean is 0. An example counts as one of R + 1: its mean moves that of
        # all by `share` of itself, and the variance of all is that within the parts and that between them.
        y = y[count:].reshape(x.shape[0] - self.reference, each, *features)
        share = 1 / (self.reference + 1)
        mean = jnp.mean(y, axis=1, keepdims=True)
        within = jnp.mean(jnp.square(y - mean), axis=1, keepdims=True)
        var = (1 - share) * var.reshape(1, 1, -1) + share * within + share * (1 - share) * jnp.square(mean)
        y = (y - share * mean) * lax.rsqrt(var + self.epsilon)
        y = jnp.concatenate([reference, y.reshape(-1, *features)])
        y = y * rows(self.param("scale", nn.initializers.ones_init(), features), y.shape[0])
        y = add_bias(y, self.param("bias", nn.initializers.zeros_init(), features))
        return y.astype(self.dtype or x.dtype).reshape(x.shape)
