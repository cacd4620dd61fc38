"""Standing statistics (Brock et al. 2019): a trained generator's batch statistics, measured over many batches
of its own.

The running statistics that training leaves are of the last steps, and of weights that moved meanwhile; those
of averaged weights were never measured at all.
"""

from collections.abc import Callable

import jax
import numpy as np

from ganjax.gan import Array, Tree
from ganjax.parallel import Program

MOMENTS = "moments"  # the collection that BatchNorm sows its batch's mean and variance into


def standing_statistics(
    forward: Callable[[Tree, Tree, Array], tuple[Tree, Tree]], params: Tree, stats: Tree, count: int
) -> Tree:
    """The collections of a network after `count` batches, with the statistics of all of these as one.

    The other collections go from batch to batch: the vectors of spectral norms settle on these weights.

    Args:
      forward: (params, collections, number of the batch) -> (collections after a pass in training,
        "moments").
      params: of the network.
      stats: the network's collections; "batch_stats" among them.
      count: of batches, at least 1.
    Raises:
      ValueError: there are no batch statistics, or `count` is below 1.
    """
    if "batch_stats" not in stats:
        raise ValueError("standing_statistics: this generator has no batch statistics")
    if count < 1:
        raise ValueError(f"standing_statistics={count}: expected at least 1 batch")
    params = jax.device_put(params)
    step = Program(jax.jit(forward))
    found = []
    for i in range(count):
        stats, moments = step(params, stats, np.int32(i))
        found.append(jax.device_get(moments))
    measured = jax.tree.map(lambda *x: np.stack(x).astype(np.float64), *found)
    return {**jax.device_get(stats), "batch_stats": _pooled(measured)}


def _pooled(moments: Tree) -> Tree:
    """Of "mean" and "var" of each layer, a tuple of [batches, C], those of all batches together, [C]."""
    if "mean" not in moments:
        return {name: _pooled(layer) for name, layer in moments.items()}
    means, variances = (np.concatenate(moments[name]) for name in ("mean", "var"))
    return {
        "mean": means.mean(0).astype(np.float32),
        "var": (variances.mean(0) + means.var(0)).astype(np.float32),
    }
