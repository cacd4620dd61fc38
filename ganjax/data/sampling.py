"""The order of examples: a pure function of the seed and the place in the run."""

import functools

import numpy as np

from ganjax.errors import UsageError


@functools.lru_cache(maxsize=16)  # only saves time: a batch needs one epoch's order, seldom two
def epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the examples, int64 [num_examples], for one epoch under one seed.

    Sorted raw Philox output, not `Generator.permutation`: numpy promises that the bit streams stay as they
    are between versions and platforms, and promises nothing of what its distributions make of them.
    """
    # the epoch as a spawn key: as a second word of entropy it could run into the words of a large seed
    bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(epoch,)))
    order = np.argsort(bits.random_raw(num_examples), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def batch_indices(num_examples: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Which examples make up the batch of a step.

    The epochs, each in an order of its own, are laid end to end, and batches are cut from them without
    gaps: no example is dropped, a batch may straddle epochs, and a set may be smaller than a batch.

    Args:
      num_examples: the size of the set, at least 1.
      batch_size: at least 1.
      seed: at least 0.
      step: batches of this size before this one, at least 0.
    Returns:
      int64 [batch_size], each in [0, num_examples).
    Raises:
      UsageError: an argument is below its minimum.
    """
    given = {"num_examples": num_examples, "batch_size": batch_size, "seed": seed, "step": step}
    for (name, value), minimum in zip(given.items(), (1, 1, 0, 0), strict=True):
        if value < minimum:
            raise UsageError(f"{name}={value}: must be at least {minimum}")
    start = int(step) * int(batch_size)
    pieces, missing = [], int(batch_size)
    while missing:
        epoch, place = divmod(start + batch_size - missing, int(num_examples))
        piece = epoch_order(int(num_examples), int(seed), epoch)[place : place + missing]
        pieces.append(piece)
        missing -= len(piece)
    return np.concatenate(pieces)
