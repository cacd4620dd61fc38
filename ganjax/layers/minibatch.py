"""What a discriminator sees of a batch beside the single example: minibatch discrimination (Salimans et al.
2016, "Improved techniques for training GANs", section 3.2), and the standard deviation over a group (Karras
et al. 2018, "Progressive growing of GANs for improved quality, stability, and variation", section 3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import collectives


class MinibatchDiscrimination(nn.Module):
    """Appends to each example's features how near they are to those of the others in its batch.

    A tensor T [A, B, C] maps features f [A] to M [B, C], and for each of the B kernels

        o_b(x_i) = sum over the j other than i of exp(-||M_b(x_i) - M_b(x_j)||_1).

    The example itself is left out of the sum; in the paper's formula it would add exp(0) = 1 to every o_b. An
    example's output so depends on its companions: real and generated examples go through in batches of their
    own, and a gradient penalty for each example is not defined.

    Attributes:
      kernels: B, at least 1.
      dims: C.
      axis_name: of an enclosing `pmap` or `shard_map`: the batch is that over all its devices; None: the
        local one.
      kernel_init: of T.
    """

    kernels: int
    dims: int = 5
    axis_name: str | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, A] -> [n, A + kernels] float32.

        Raises:
          ValueError: x is not of rank 2, or there are no kernels or dimensions.
        """
        if x.ndim != 2:
            raise ValueError(f"minibatch discrimination takes features [n, A]; got {x.shape}")
        if self.kernels < 1 or self.dims < 1:
            raise ValueError(
                f"minibatch discrimination: kernels={self.kernels}, dims={self.dims}: both must be at least 1"
            )
        count, features = x.shape
        tensor = self.param("tensor", self.kernel_init, (features, self.kernels, self.dims))
        x = x.astype(jnp.float32)  # o is a function of small differences
        mine = (x @ tensor.reshape(features, -1)).reshape(count, self.kernels, self.dims)
        # In creating variables there is no axis yet.
        axis_name = None if self.is_initializing() else self.axis_name
        if axis_name is None:
            first, everyone = 0, mine
        else:
            first, everyone = jax.lax.axis_index(axis_name) * count, collectives.gather(mine, axis_name)
        distance = jnp.sum(jnp.abs(mine[:, None] - everyone[None]), axis=-1)  # [n, N, B]
        places = first + jnp.arange(count)
        others = places[:, None] != jnp.arange(everyone.shape[0])[None]
        near = jnp.where(others[:, :, None], jnp.exp(-distance), 0)
        return jnp.concatenate([x, jnp.sum(near, axis=1)], axis=1)


def minibatch_std(
    x: jax.Array, group: int = 4, axis_name: str | None = None, epsilon: float = 1e-8
) -> jax.Array:
    """Appends a channel that says how unlike the examples of a group are: [n, H, W, C] -> [n, H, W, C + 1].

    It is the standard deviation over the group, of each of the H W C features, in the mean over these: one
    number a group. Groups are of examples that follow each other in the *global* batch, so that they are the
    same however many devices share it; where a device holds no whole groups, all of the batch is gathered.

    Args:
      x: [n, H, W, C]; the statistic is float32 in any type.
      group: examples to a group, at least 1; a smaller batch is one group.
      axis_name: of an enclosing `pmap` or `shard_map`: the batch is that over all its devices; None: the
        local one.
      epsilon: added to the variance.
    Raises:
      ValueError: x is not of rank 4, or the group is below 1 or does not divide the batch.
    """
    if x.ndim != 4:
        raise ValueError(f"minibatch_std takes features [n, H, W, C]; got {x.shape}")
    n = x.shape[0]
    total = n if axis_name is None else n * jax.lax.axis_size(axis_name)
    size = min(group, total)
    if size < 1 or total % size:
        raise ValueError(
            f"minibatch_std: groups of {group} do not divide a batch of {total}; take a multiple"
        )
    y = x.astype(jnp.float32).reshape(n, -1)
    whole = n % size == 0
    if not whole:
        assert axis_name is not None
        y = collectives.gather(y, axis_name)
    y = y.reshape(-1, size, y.shape[-1])
    y = y - jnp.mean(y, axis=1, keepdims=True)
    deviation = jnp.mean(jnp.sqrt(jnp.mean(jnp.square(y), axis=1) + epsilon), axis=1)
    each = jnp.repeat(deviation, size)
    if not whole:
        each = jax.lax.dynamic_slice_in_dim(each, jax.lax.axis_index(axis_name) * n, n)
    channel = jnp.broadcast_to(each[:, None, None, None], (*x.shape[:-1], 1))
    return jnp.concatenate([x, channel.astype(x.dtype)], axis=-1)
