"""A stage's batches in turn, read ahead by threads where the set is larger than memory.

Which examples a batch holds is a function of the seed and of how many came before it, so a feed has no
state to be saved: one that is started at a later batch gives what the first would have given from there on,
whatever the number of threads and hosts.
"""

import os
from typing import Any

import jax
import numpy as np

from ganjax.data import images
from ganjax.data.source import Source
from ganjax.errors import UsageError

# What one thread reads at a time: all of them work on one batch, so that no more than a few are in memory.
_PART = 16
# Batches that are read ahead of the one in use.
_AHEAD = 2


def default_workers() -> int:
    """How many threads read where nobody says: as many as this process has cores, at most 16."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    return min(16, cores)


class Feed:
    """Iterates over `count` raw batches; a context manager, since threads may be at work for it.

    Batch k holds the examples `source.indices(seed, first + k * batch_size, batch_size)`, of which this
    process reads `rows`. A set that is in memory is read when the batch is asked for: that is one indexing,
    and threads would take cores from the training. Others are read by `workers` threads of grain, two batches
    or 16 examples a thread ahead; Pillow, zlib and file systems work outside Python's lock.

    Args:
      source: what to read.
      seed: of the order of examples.
      first: how many examples of the run come before the first batch.
      batch_size: of the global batch, over all processes.
      count: how many batches.
      rows: this process's share of each batch: contiguous, step 1.
      workers: threads; 0: everything is read in the caller's, when it is asked for; None: `default_workers`.
    Raises:
      UsageError: an argument is out of range. In iterating, what `source.read` raises, at its batch; the feed
        ends with it.
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int,
        first: int,
        batch_size: int,
        count: int,
        rows: slice = slice(None),
        workers: int | None = None,
    ):
        start, stop, step = rows.indices(batch_size)
        if step != 1 or stop <= start:
            raise UsageError(
                f"rows={rows}: expected contiguous rows of a batch of {batch_size}, at least one"
            )
        if workers is not None and workers < 0:
            raise UsageError(f"workers={workers}: must be at least 0")
        self._source, self._seed, self._first, self._batch_size = source, seed, first, batch_size
        self._rows = range(start, stop)
        self._count, self._given = count, 0
        self._closed = False
        self._threads: Any = None
        workers = default_workers() if workers is None else workers
        self._resident = source.resident() is not None
        self._parts = 1
        if workers and not self._resident and count > 0:
            self._parts = -(-len(self._rows) // _PART)
            self._threads = self._read_ahead(workers)

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Any:
        """The next batch: a tree of numpy arrays, the caller's own."""
        if self._closed or self._given >= self._count:
            raise StopIteration
        if self._threads is None:
            batch = self._read(self._given)
        else:
            parts = [self._next_part() for _ in range(self._parts)]
            batch = parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: np.concatenate(x), *parts)
        self._given += 1
        return batch

    def close(self) -> None:
        """Gives up what was read ahead. Threads end with the few examples that they have in hand."""
        self._closed = True
        if self._threads is not None:
            self._threads.close()

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read_ahead(self, workers: int) -> Any:
        import grain  # here: it takes a while to import, and a set in memory needs none

        ahead = max(workers, _AHEAD * self._parts)
        options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=ahead)
        # A MapDataset: its order does not depend on the number of threads, as a DataLoader's does on workers
        parts = grain.MapDataset.range(self._count * self._parts).map(self._try_to_read)
        threads = iter(parts.to_iter_dataset(options))
        threads.start_prefetch()
        return threads

    def _next_part(self) -> Any:
        part, error = next(self._threads)
        if error is not None:
            self.close()
            raise error
        return part

    def _try_to_read(self, number: int) -> tuple[Any, Exception | None]:
        """The part, or why not: grain adds advice of its own to exceptions that pass through it."""
        try:
            return self._read(number), None
        except Exception as error:
            return None, error

    def _read(self, number: int) -> Any:
        """Part `number` of all the parts of all batches."""
        batch, part = divmod(int(number), self._parts)
        chosen = self._rows if self._parts == 1 else self._rows[part * _PART : (part + 1) * _PART]
        start = self._first + batch * self._batch_size
        indices = self._source.indices(self._seed, start, self._batch_size)
        indices = jax.tree.map(lambda x: x[chosen.start : chosen.stop], indices)
        if self._resident:
            return self._source.read(indices)
        with images.in_this_thread():
            return self._source.read(indices)
