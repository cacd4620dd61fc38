"""Means over the devices of a mapped axis, for `pmap` and `shard_map`.

`pmean` adds in an order that depends on how the devices are laid out over processes, so its last bits do too.
The ordered forms gather first and add in the order of the axis: the same bits for the same number of
devices, at the price of moving every device's copy to every other.
"""

import functools
from typing import Any

import jax

Tree = Any


def mean(tree: Tree, axis_name: str | None, *, ordered: bool = False) -> Tree:
    """The mean over devices of every leaf; `tree` as it is where `axis_name` is None.

    Args:
      tree: of arrays, of one shape on every device.
      axis_name: of the enclosing `pmap` or `shard_map`.
      ordered: add in the order of the axis, whatever the layout of the devices.
    """
    if axis_name is None:
        return tree
    if not ordered:
        return jax.lax.pmean(tree, axis_name)
    return jax.tree.map(lambda x: _ordered_mean(x, axis_name), tree)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def statistic(x: jax.Array, axis_name: str) -> jax.Array:
    """The mean over devices of a batch statistic, ordered, also in the gradient that goes back through it.

    The gradient of what every device then computes with it reaches every device's `x`: the mean over devices
    is its own adjoint.
    """
    return _ordered_mean(x, axis_name)


@statistic.defjvp
def _statistic_jvp(axis_name: str, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    # As the adjoint of itself: reverse mode takes the adjoint again, and runs the ordered sum as it is
    # written. That of `all_gather` adds in an order of its own.
    adjoint = jax.linear_transpose(lambda cotangent: _ordered_mean(cotangent, axis_name), x)
    return statistic(x, axis_name), adjoint(dx)[0]


def _ordered_mean(x: jax.Array, axis_name: str) -> jax.Array:
    copies = jax.lax.all_gather(x, axis_name)
    return (_ordered_sum(copies) / copies.shape[0]).astype(x.dtype)


def _ordered_sum(copies: jax.Array) -> jax.Array:
    total = copies[0]
    for i in range(1, copies.shape[0]):
        total = total + copies[i]
    return total


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def gather(x: jax.Array, axis_name: str) -> jax.Array:
    """The global batch [N, ...] from the local one [n, ...], on every device; its gradient is ordered too.

    The gradient in a device's part is the sum over devices of what each loss owes to that part. So the mean
    over devices of the parameters' gradients is the gradient of the mean loss, as if the batch were whole.
    """
    return jax.lax.all_gather(x, axis_name, tiled=True)


@gather.defjvp
def _gather_jvp(axis_name: str, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    everyone = gather(x, axis_name)

    def owed(cotangent: jax.Array) -> jax.Array:
        parts = cotangent.reshape(-1, *x.shape)
        return _ordered_sum(jax.lax.all_to_all(parts, axis_name, 0, 0))

    # The adjoint of its adjoint, as for `statistic`.
    return everyone, jax.linear_transpose(owed, everyone)(dx)[0]
