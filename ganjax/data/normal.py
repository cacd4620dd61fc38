"""Images of some classes, to learn what is normal: without labels, and some of them held out."""

import functools
import re
import threading
from typing import Any
from zlib import crc32

import numpy as np

from ganjax.config import parse_integers
from ganjax.data.dataset import Dataset
from ganjax.data.labelled import labels_of
from ganjax.data.sampling import batch_indices, epoch_order
from ganjax.data.source import to_float
from ganjax.errors import UsageError, shortened
from ganjax.gan import Batch, Context


def classes_of(
    text: str, class_names: tuple[str, ...], name: str, setting: str = "normal"
) -> tuple[int, ...]:
    """The classes that a setting names, by their names or numbers, as in "0-8", "1,3" or "good"; "": all.

    Where all classes are called by numbers, numbers are these names, in ranges too; else places from 0 on.

    Raises:
      UsageError: one is unknown.
    """
    if not text:
        return tuple(range(len(class_names)))
    parts = [part.strip() for part in text.split(",")]
    if all(part in class_names for part in parts):
        return tuple(sorted({class_names.index(part) for part in parts}))
    known = ", ".join(class_names[:20]) + (", ..." if len(class_names) > 20 else "")
    unknown = UsageError(
        f"--config.{setting}={shortened(text)}: expected classes of {name} ({known or 'it has none'}), by "
        "name or, as in 0-8, by number"
    )
    numbered = all(re.fullmatch("[0-9]{1,9}", name) for name in class_names)
    places = {int(name) if numbered else place: place for place, name in enumerate(class_names)}
    try:
        chosen = parse_integers(text, name=f"config.{setting}", maximum=max(places, default=-1))
    except UsageError as error:
        raise unknown from error
    if not set(chosen) <= set(places):
        raise unknown
    return tuple(sorted({places[number] for number in chosen}))


class Normal:
    """The images of the classes that count as normal, but for a share that is held out. A `Source`.

    Attributes:
      dataset: all there is.
      classes: which are normal; of a set without labels all images are.
      image_shape: (H, W, C).
    """

    def __init__(self, dataset: Dataset, classes: tuple[int, ...], held_out: float):
        self.dataset, self.classes, self._share = dataset, classes, held_out
        self.image_shape = dataset.image_shape
        self._lock = threading.Lock()

    @property
    def skipped(self) -> Any:
        """A line for every damaged image that was met and replaced."""
        return self.dataset.skipped

    @functools.cached_property
    def _divided(self) -> tuple[np.ndarray, np.ndarray]:
        count = self.dataset.num_examples
        order = epoch_order(count, crc32(b"held out"), 0)
        if self.dataset.num_classes and len(self.classes) < self.dataset.num_classes:
            order = order[np.isin(labels_of(self.dataset)[order], self.classes)]
        kept = round(self._share * len(order))
        if not len(order) - kept:
            raise UsageError(f"{self.dataset.name}: there is no normal image to learn from")
        return np.sort(order[kept:]), np.sort(order[:kept])

    @property
    def places(self) -> np.ndarray:
        """Which images are learned from, int64 [n]. Hangs on the set alone. Raises UsageError: none is."""
        with self._lock:
            return self._divided[0]

    @property
    def held_out(self) -> np.ndarray:
        """Which normal images are held out, int64 [m]."""
        with self._lock:
            return self._divided[1]

    def check(self, seed: int) -> None:
        """Raises UsageError where no normal image is left to learn from."""
        del seed
        _ = self.places

    def indices(self, seed: int, start: int, count: int) -> np.ndarray:
        """Which images come after the run's first `start`: int64 [count]."""
        places = self.places
        return places[batch_indices(len(places), seed, start, count)]

    def example(self, count: int) -> dict[str, np.ndarray]:
        """Zeros of the form that `read` gives."""
        return {"image": self.dataset.example(count)["image"]}

    def read(self, indices: Any) -> dict[str, np.ndarray]:
        """The images at `indices`: "image" uint8 [n, H, W, C]."""
        return {"image": self.dataset.read(indices)["image"]}

    def resident(self) -> dict[str, np.ndarray] | None:
        """The whole set's images, or None if they are too large."""
        whole = self.dataset.resident()
        return None if whole is None else {"image": whole["image"]}

    def transform(self, batch: Batch, context: Context) -> Batch:
        """Raw images to floats in [-1, 1]."""
        del context
        return {"image": to_float(batch["image"])}
