"""What stands in for images that can't be decoded: the next one of the set that can, with its own label."""

import threading
from collections.abc import Callable
from typing import TypeVar

from ganjax.data.images import Damaged
from ganjax.errors import RunError

T = TypeVar("T")


class StandIns:
    """Reads examples of a set and, if asked to, the next readable one in the place of a damaged one.

    Which one that is depends on the data alone, so that batches keep their size and a resumed run sees what
    an uninterrupted one sees. Threads may share it.

    Attributes:
      skipped: a line for every damaged image that was met, in the order in which they were. Grows.
    """

    def __init__(self, num_examples: int, skip: bool):
        self.skipped: list[str] = []
        self._num_examples, self._skip = num_examples, skip
        self._damaged: dict[int, str] = {}  # place -> why
        self._lock = threading.Lock()

    def read(self, read: Callable[[int], T], index: int) -> T:
        """`read(index)`, or that of the next example, the first coming after the last, that isn't damaged.

        Raises:
          Damaged: the example is, and nobody asked to skip it.
          RunError: all are; or whatever else `read` raises: a file that is gone is no damaged one.
        """
        if not self._skip:
            return read(index)
        for offset in range(self._num_examples):
            place = (index + offset) % self._num_examples
            if place in self._damaged:
                continue
            try:
                return read(place)
            except Damaged as error:
                with self._lock:
                    if place not in self._damaged:
                        self.skipped.append(f"skipped {error}")
                        self._damaged[place] = str(error)
        raise RunError(f"none of {self._num_examples} images can be read. {self._damaged[0]}")
