"""The order of examples: a pure function of the seed and the place in the run."""

import functools
from collections.abc import Callable

import numpy as np

from ganjax.errors import UsageError


def epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the examples, int64 [num_examples], for one epoch under one seed. Read-only.

    Sorted raw Philox output, not `Generator.permutation`: numpy promises that the bit streams stay as they
    are between versions and platforms, and promises nothing of what its distributions make of them.
    """
    return _orders(num_examples, seed)(epoch)


# Only saves time. The sets and seeds that are read in turn are few (a run may train several seeds), but a set
# may have many millions of examples: of each the orders of two epochs are kept, which is what batches around
# the end of an epoch are cut from.
@functools.lru_cache(maxsize=256)
def _orders(num_examples: int, seed: int) -> Callable[[int], np.ndarray]:
    @functools.lru_cache(maxsize=2)
    def order_of(epoch: int) -> np.ndarray:
        # the epoch as a spawn key: as a second word of entropy it could run into the words of a large seed
        bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(epoch,)))
        order = np.argsort(bits.random_raw(num_examples), kind="stable").astype(np.int64, copy=False)
        order.flags.writeable = False
        return order

    return order_of


def spread(num_examples: int, most: int) -> np.ndarray:
    """Places in a set that are evenly spread over it, int64 [min(num_examples, most)], ascending: all, or
    some of every part, for sets are often sorted by class."""
    return np.linspace(0, num_examples - 1, min(num_examples, most)).astype(np.int64)


def batch_indices(num_examples: int, seed: int, start: int, count: int) -> np.ndarray:
    """Which examples come after the first `start` of a run.

    The epochs, each in an order of its own, are laid end to end, and batches are cut from them without
    gaps: no example is dropped, a batch may straddle epochs, and a set may be smaller than a batch.

    Args:
      num_examples: the size of the set, at least 1.
      seed: at least 0.
      start: examples before these, over the whole run, at least 0.
      count: at least 1.
    Returns:
      int64 [count], each in [0, num_examples).
    Raises:
      UsageError: an argument is below its minimum.
    """
    given = {"num_examples": num_examples, "seed": seed, "start": start, "count": count}
    for (name, value), minimum in zip(given.items(), (1, 0, 0, 1), strict=True):
        if value < minimum:
            raise UsageError(f"{name}={value}: must be at least {minimum}")
    pieces, missing = [], int(count)
    while missing:
        epoch, place = divmod(int(start) + int(count) - missing, int(num_examples))
        piece = epoch_order(int(num_examples), int(seed), epoch)[place : place + missing]
        pieces.append(piece)
        missing -= len(piece)
    return np.concatenate(pieces)
