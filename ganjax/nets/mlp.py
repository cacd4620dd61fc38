"""Fully connected networks: those of the first GANs (Goodfellow et al. 2014, "Generative adversarial nets"),
for images of any shape, and for points.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import Embed
from ganjax.nets.parts import (
    activation,
    check_choice,
    check_labels,
    dropped,
    head,
    normalised,
    with_reference,
)

_glorot = nn.initializers.glorot_uniform()


class MLPGenerator(nn.Module):
    """Latents -> dense layers, each with its norm, activation and dropout -> dense -> image.

    Attributes:
      image_shape: of any rank, for instance (28, 28, 1), or (2,) for points in the plane.
      hidden: widths of the hidden layers, in order.
      activation: "leaky_relu" (slope 0.2) or "relu".
      norm: "none", "batch", or "virtual" (Salimans et al. 2016), whose reference examples go through the
        network with every batch. A layer before a norm has no bias, which the norm would take out again.
      reference_size: reference examples of the virtual norm.
      dropout: rate, after every hidden activation; of the reference examples nothing is dropped.
      num_classes: labels are in [0, num_classes), their embeddings joined to the latents; 0: no labels.
      embedding: size of the label's embedding.
      bounded: ends in tanh; else in the dense layer.
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    image_shape: tuple[int, ...]
    hidden: tuple[int, ...] = (256, 512, 1024)
    activation: str = "leaky_relu"
    norm: str = "none"
    reference_size: int = 64
    dropout: float = 0.0
    num_classes: int = 0
    embedding: int = 50
    bounded: bool = True
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        latents: jax.Array,
        labels: jax.Array | None = None,
        *,
        train: bool,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """[n, Z], int [n] or None, PRNG keys [n] or None -> [n, *image_shape] float32, in [-1, 1] if bounded.

        Raises:
          ValueError: an attribute is not as above, or there are labels without classes or the reverse.
        """
        check_sizes(self.image_shape, self.hidden)
        check_labels(self.num_classes, labels)
        check_choice("norm", self.norm, ("none", "batch", "virtual"))
        act = activation(self.activation)
        reference = self.reference_size if self.norm == "virtual" else 0
        if self.norm == "virtual":
            latents, labels = with_reference(self, reference, latents, labels, self.num_classes)
        x = latents
        if labels is not None:
            embed = Embed(self.num_classes, self.embedding, dtype=self.dtype, name="label_embedding")
            x = jnp.concatenate([x, embed(labels)], axis=-1)
        for width in self.hidden:
            x = nn.Dense(width, use_bias=self.norm == "none", kernel_init=_glorot, dtype=self.dtype)(x)
            x = normalised(
                x,
                self.norm,
                train=train,
                dtype=self.dtype,
                axis_name=self.axis_name,
                reference=reference,
            )
            x = dropped(act(x), self.dropout, keys, reference)
        x = nn.Dense(math.prod(self.image_shape), kernel_init=_glorot, dtype=self.dtype)(x[reference:])
        x = x.astype(jnp.float32).reshape(-1, *self.image_shape)
        return jnp.tanh(x) if self.bounded else x


class MLPDiscriminator(nn.Module):
    """Image or point, flat -> dense layers, each with its activation and dropout -> logit.

    Attributes:
      hidden: widths of the hidden layers, in order.
      activation: "leaky_relu" (slope 0.2) or "relu".
      dropout: rate, after every hidden activation.
      minibatch_discrimination: kernels B of `MinibatchDiscrimination` before the logit; 0: without.
      num_classes: labels are in [0, num_classes): the logit is a linear function of the features, plus their
        inner product with the label's embedding; 0: no labels.
      dtype: for compute, up to the features.
      axis_name: of an enclosing `pmap` whose devices' batches are one to minibatch discrimination.
    """

    hidden: tuple[int, ...] = (1024, 512, 256)
    activation: str = "leaky_relu"
    dropout: float = 0.0
    minibatch_discrimination: int = 0
    num_classes: int = 0
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        labels: jax.Array | None = None,
        *,
        train: bool,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """[n, ...], int [n] or None, PRNG keys [n] or None -> logits [n], float32.

        Raises:
          ValueError: an attribute is not as above, or there are labels without classes or the reverse.
        """
        del train
        check_sizes(images.shape[1:], self.hidden)
        act = activation(self.activation)
        x = images.reshape(images.shape[0], -1).astype(self.dtype or images.dtype)
        for i, width in enumerate(self.hidden):
            x = act(nn.Dense(width, kernel_init=_glorot, dtype=self.dtype)(x))
            if i + 1 < len(self.hidden):
                x = dropped(x, self.dropout, keys)
        return head(
            self,
            x,
            labels,
            keys,
            num_classes=self.num_classes,
            dropout=self.dropout,
            kernels=self.minibatch_discrimination,
            axis_name=self.axis_name,
            kernel_init=_glorot,
        )


def check_sizes(image_shape: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    """Raises ValueError unless there is at least one hidden layer, and all sizes are at least 1."""
    if not image_shape or min(image_shape) < 1:
        raise ValueError(f"image shape {tuple(image_shape)}: expected at least one axis, each of at least 1")
    if not hidden or min(hidden) < 1:
        raise ValueError(f"hidden={tuple(hidden)}: expected at least one layer, each of at least one unit")
