"""What stands in for images that can't be decoded: the next one of the set that can, with its own label."""

import copy
import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np

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
        self._skip = skip
        self._places = np.arange(num_examples)  # of which one may stand in, ascending
        self._damaged: dict[int, str] = {}  # place -> why
        self._lock = threading.Lock()

    def among(self, places: np.ndarray) -> "StandIns":
        """The same of a part of the set: what stands in for its images is of the part too.

        So images that are held out are met in no other part. What is found damaged is known to both.

        Args:
          places: int64 [n], those of the part.
        """
        part = copy.copy(self)
        part._places = np.sort(places)
        return part

    def read(self, read: Callable[[int], T], index: int) -> T:
        """`read(index)`, or that of the next example, the first coming after the last, that isn't damaged.

        Args:
          read: of a place.
          index: a place of the set, or of the part.

        Raises:
          Damaged: the example is, and nobody asked to skip it.
          RunError: all are; or whatever else `read` raises: a file that is gone is no damaged one.
        """
        if not self._skip:
            return read(index)
        first, count = int(np.searchsorted(self._places, index)), len(self._places)
        for offset in range(count):
            place = int(self._places[(first + offset) % count])
            if place in self._damaged:
                continue
            try:
                return read(place)
            except Damaged as error:
                with self._lock:
                    if place not in self._damaged:
                        self.skipped.append(f"skipped {error}")
                        self._damaged[place] = str(error)
        raise RunError(f"none of {count} images can be read. {self._damaged[int(self._places[0])]}")
