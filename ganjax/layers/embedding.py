"""A vector for each class, and for mixtures of classes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from ganjax.layers.spectral import spectrally_normalised

_fan_in = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)


class Embed(nn.Module):
    """A table of vectors by class; the parameter of `nn.Embed`.

    A mixture of classes, given by their shares, has the mixture of their vectors: so one can go from class
    to class.

    Attributes:
      num_embeddings: labels are in [0, num_embeddings).
      features: F.
      embedding_init: of the table.
      spectral: the table is spectrally normalised.
      dtype: of the result; the table is float32.
    """

    num_embeddings: int
    features: int
    embedding_init: nn.initializers.Initializer = _fan_in
    spectral: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, labels: jax.Array, *, train: bool = False) -> jax.Array:
        """int [n] or shares float [n, num_embeddings] -> [n, F].

        Raises:
          ValueError: for labels of another shape or type.
        """
        table = self.param("embedding", self.embedding_init, (self.num_embeddings, self.features))
        if self.spectral:
            table = spectrally_normalised(self, table, train=train)
        (table,) = promote_dtype(table, dtype=self.dtype)
        if labels.ndim == 1 and jnp.issubdtype(labels.dtype, jnp.integer):
            return jnp.take(table, labels, axis=0)
        if labels.shape[1:] == (self.num_embeddings,) and jnp.issubdtype(labels.dtype, jnp.floating):
            return labels.astype(table.dtype) @ table
        raise ValueError(
            f"labels {labels.dtype} {list(labels.shape)}: expected integers [n], or shares of the classes "
            f"[n, {self.num_embeddings}]"
        )
