"""Few labels and many images: a labelled set's balanced part, and images without anything.

No label can leak. What is not chosen comes from `Unlabelled`, whose examples have no other entry than the
image, and `Labelled` never gives an example that was not chosen.
"""

import functools
import threading
from typing import Any
from zlib import crc32

import numpy as np

from ganjax.data.dataset import Dataset
from ganjax.data.sampling import batch_indices, epoch_order
from ganjax.data.source import to_float
from ganjax.data.zip import Zip
from ganjax.errors import UsageError
from ganjax.gan import Batch, Context

_PART = 4096  # examples of a set larger than memory that are read at a time, for their labels


def labels_of(dataset: Dataset) -> np.ndarray:
    """The labels of a labelled set, int32 [N]. A set larger than memory is read once, in parts."""
    whole, count = dataset.resident(), dataset.num_examples
    if whole is not None:
        return whole["label"]
    parts = (np.arange(start, min(start + _PART, count)) for start in range(0, count, _PART))
    return np.concatenate([dataset.read(part)["label"] for part in parts])


class Labelled:
    """As many examples of each class as are asked for, chosen by the seed. A `Source`.

    The set is gone through in an order of the seed's, and of each class the first are taken: so of two
    numbers under one seed the examples of the smaller are among those of the larger.

    Attributes:
      dataset: labelled.
      per_class: how many of each class.
    """

    def __init__(self, dataset: Dataset, per_class: int, setting: str = "labels_per_class"):
        """Raises UsageError, by the setting's name, where there are no classes, or too few examples."""
        if not dataset.num_classes:
            raise UsageError(f"{dataset.name} has no labels; name a labelled set with --config.dataset=")
        wanted = per_class * dataset.num_classes
        if per_class < 1 or wanted > dataset.num_examples:
            raise UsageError(
                f"{setting}={per_class}: expected at least 1, and, of {dataset.num_classes} classes, "
                f"no more in all than the {dataset.num_examples} examples of {dataset.name}"
            )
        self.dataset, self.per_class, self._setting = dataset, per_class, setting
        self._lock, self._known = threading.Lock(), None
        self.chosen = functools.lru_cache(maxsize=1024)(self._chosen)

    @property
    def skipped(self) -> Any:
        """A line for every damaged image that was met and replaced."""
        return self.dataset.skipped

    def _labels(self) -> np.ndarray:
        with self._lock:
            if self._known is None:
                self._known = labels_of(self.dataset)
            return self._known

    def _chosen(self, seed: int) -> np.ndarray:
        """Which examples are labelled under this seed: int64 [classes * per_class], in the set's order.

        Raises:
          UsageError: a class has fewer examples.
        """
        order = epoch_order(self.dataset.num_examples, _seed(seed), 0)
        labels, found = self._labels()[order], []
        for label, name in enumerate(self.dataset.class_names):
            some = order[labels == label][: self.per_class]
            if len(some) < self.per_class:
                raise UsageError(
                    f"{self._setting}={self.per_class}: {self.dataset.name} has {len(some)} examples of "
                    f"class {name}"
                )
            found.append(some)
        return np.sort(np.concatenate(found))

    def check(self, seed: int) -> None:
        """Raises UsageError where a class has too few examples."""
        self.chosen(seed)

    def indices(self, seed: int, start: int, count: int) -> np.ndarray:
        """Which of the chosen examples come after the run's first `start`: int64 [count]."""
        chosen = self.chosen(seed)
        return chosen[batch_indices(len(chosen), seed, start, count)]

    def example(self, count: int) -> dict[str, np.ndarray]:
        """Zeros of the form that `read` gives."""
        return self.dataset.example(count)

    def read(self, indices: Any) -> dict[str, np.ndarray]:
        """The examples at `indices`."""
        return self.dataset.read(indices)

    def resident(self) -> dict[str, np.ndarray] | None:
        """The whole set, or None if it is too large."""
        return self.dataset.resident()

    def transform(self, batch: Batch, context: Context) -> Batch:
        """Raw examples to what losses see."""
        return self.dataset.transform(batch, context)


class Few(Labelled):
    """As `Labelled`, with a seed of its own for the choice: all runs and all their members have the same
    examples.

    Attributes:
      image_shape: (H, W, C).
    """

    def __init__(self, dataset: Dataset, per_class: int, choice: int):
        super().__init__(dataset, per_class, "images_per_class")
        self.image_shape, self._choice = dataset.image_shape, choice

    @property
    def places(self) -> np.ndarray:
        """Which examples, int64 [classes * per_class]."""
        return self.chosen(self._choice)

    def check(self, seed: int) -> None:
        """Raises UsageError where a class has too few examples."""
        del seed
        self.chosen(self._choice)

    def indices(self, seed: int, start: int, count: int) -> np.ndarray:
        """Which of them come after the run's first `start`: int64 [count]."""
        return self.places[batch_indices(len(self.places), seed, start, count)]


class Unlabelled:
    """A set's images, and nothing else of it. A `Source`.

    Attributes:
      dataset: any.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    @property
    def skipped(self) -> Any:
        """A line for every damaged image that was met and replaced."""
        return self.dataset.skipped

    def indices(self, seed: int, start: int, count: int) -> np.ndarray:
        """Which images come after the run's first `start`: int64 [count]."""
        return self.dataset.indices(seed, start, count)

    def example(self, count: int) -> dict[str, np.ndarray]:
        """Zeros of the form that `read` gives."""
        return {"image": self.dataset.example(count)["image"]}

    def read(self, indices: Any) -> dict[str, np.ndarray]:
        """The images at `indices`: "image" uint8 [n, H, W, C]."""
        return {"image": self.dataset.read(indices)["image"]}

    def resident(self) -> dict[str, np.ndarray] | None:
        """The whole set, or None if it is too large."""
        whole = self.dataset.resident()
        return None if whole is None else {"image": whole["image"]}

    def transform(self, batch: Batch, context: Context) -> Batch:
        """Raw images to floats in [-1, 1]."""
        del context
        return {"image": to_float(batch["image"])}


class FewLabels(Zip):
    """Batches {"labelled": {"image", "label", ...}, "unlabelled": {"image"}}, as many of either. A `Source`.

    Attributes:
      labelled: what is chosen from.
      image_shape: (H, W, C) of both.
    """

    def __init__(self, labelled: Labelled, unlabelled: Unlabelled):
        """Raises UsageError where the images differ in size."""
        super().__init__({"labelled": labelled, "unlabelled": unlabelled})
        shapes = labelled.dataset.image_shape, unlabelled.dataset.image_shape
        if shapes[0] != shapes[1]:
            raise UsageError(
                f"labelled images of {shapes[0]} and unlabelled ones of {shapes[1]}: expected one size; set "
                "image_size and channels"
            )
        self.labelled, self.image_shape = labelled, shapes[0]


def _seed(seed: int) -> int:
    """A seed for the choice, which batches do not use."""
    words = np.random.SeedSequence(seed, spawn_key=(crc32(b"labelled"),)).generate_state(2, np.uint32)
    return int(words[0]) << 32 | int(words[1])
