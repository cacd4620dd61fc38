"""Self-attention over an image's pixels (Zhang et al. 2019, "Self-attention generative adversarial
networks").

Attention of L queries to M keys has a matrix of L x M weights an image. `attend` never holds more of it than
a bounded number of queries need, forward and backward, so that memory grows with L + M. It is plain XLA on
every platform, since here queries and keys are much narrower than values, which libraries' fused kernels do
not take, and has derivatives of any order.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from ganjax.layers.spectral import spectrally_normalised

# Weights that are held at once; 256 MiB in float32.
HELD = 1 << 26


def attention_weights(queries: jax.Array, keys: jax.Array) -> jax.Array:
    """The softmax over keys of queries' products with them, unscaled as in SAGAN: [n, L, K], [n, M, K] ->
    float32 [n, L, M]."""
    return nn.softmax(_products(queries, keys), axis=-1)


def _products(queries: jax.Array, keys: jax.Array) -> jax.Array:
    """[n, L, K], [n, M, K] -> float32 [n, L, M]."""
    return jnp.einsum("nlk,nmk->nlm", queries, keys, preferred_element_type=jnp.float32)


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array, *, held: int = HELD) -> jax.Array:
    """Each query's mean of the values, weighed by `attention_weights`.

    Args:
      queries: [n, L, K].
      keys: [n, M, K].
      values: [n, M, V].
      held: how many weights may be held at once; with more of them, queries are taken a part at a time, and
        a part's weights are computed again for the derivative.
    Returns:
      [n, L, V], of the values' type.
    """
    n, length, _ = queries.shape
    parts = _parts(n, length, keys.shape[1], held)
    if parts == 1:
        return _attend(queries, keys, values)
    part = jax.checkpoint(lambda q: _attend(q, keys, values))
    cut = jnp.moveaxis(queries.reshape(n, parts, length // parts, -1), 1, 0)
    return jnp.moveaxis(lax.map(part, cut), 0, 1).reshape(n, length, -1)


def _attend(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """The sum over exponentials divides their product with the values, which is narrower than they are."""
    logits = _products(queries, keys)
    # A constant for each query, which takes itself out again; without it the exponentials could overflow.
    logits = logits - lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    product = jnp.einsum(
        "nlm,nmv->nlv", weights.astype(values.dtype), values, preferred_element_type=jnp.float32
    )
    return (product / total).astype(values.dtype)


def _parts(n: int, length: int, keys: int, held: int) -> int:
    """The smallest number of equal parts of the queries whose weights are few enough."""
    if not isinstance(n, int):  # exported for any batch: as if for one image
        n = 1
    wanted = min(-(-n * length * keys // held), length)
    return next(parts for parts in range(max(wanted, 1), length + 1) if length % parts == 0)


class SelfAttention(nn.Module):
    """x plus a share of what attention gives at each pixel; the share is learned and begins at 0.

    Queries and keys ("theta", "phi") have C / 8 channels, values ("g") C / 2; keys and values are 2x2
    max-pooled, and a 1x1 convolution ("output") brings the result back to C channels. None has a bias. The
    weights [n, H, W, H / 2, W / 2] are sown into "intermediates" as "attention", where that is asked for.

    Attributes:
      spectral: all kernels are spectrally normalised.
      kernel_init: of the kernels.
      dtype: for compute; the softmax is float32.
    """

    spectral: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[n, H, W, C], H and W even -> the same.

        Raises:
          ValueError: H or W is odd.
        """
        n, height, width, channels = x.shape
        if height % 2 or width % 2:
            raise ValueError(f"self-attention over {height}x{width} pixels: expected even sides")

        def projected(y: jax.Array, features: int, name: str) -> jax.Array:
            return PixelDense(features, self.spectral, self.kernel_init, self.dtype, name=name)(
                y, train=train
            )

        def pooled(y: jax.Array) -> jax.Array:
            y = y.reshape(n, height // 2, 2, width // 2, 2, y.shape[-1])
            return jnp.max(y, axis=(2, 4)).reshape(n, height * width // 4, y.shape[-1])

        narrow, wide = max(channels // 8, 1), max(channels // 2, 1)
        queries = projected(x, narrow, "theta").reshape(n, height * width, narrow)
        keys = pooled(projected(x, narrow, "phi"))
        values = pooled(projected(x, wide, "g"))
        if self.is_mutable_collection("intermediates"):
            weights = attention_weights(queries, keys)
            self.sow("intermediates", "attention", weights.reshape(n, height, width, height // 2, width // 2))
        y = attend(queries, keys, values).reshape(n, height, width, wide)
        share = self.param("share", nn.initializers.zeros_init(), ())
        return x + share.astype(x.dtype) * projected(y, channels, "output")


class PixelDense(nn.Module):
    """A 1x1 convolution without bias, as the product that it is; its kernel is [C, features]."""

    features: int
    spectral: bool
    kernel_init: nn.initializers.Initializer
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[..., C] -> [..., features]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        if self.spectral:
            kernel = spectrally_normalised(self, kernel, train=train)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], self.features)
