"""Sets of images to measure, of a data set, a model or arrays: read by place, as often as needed."""

import dataclasses
import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ganjax import errors
from ganjax.data import Dataset
from ganjax.gan import GanState
from ganjax.metrics import frechet
from ganjax.report.images import to_uint8
from ganjax.sampling import Sampler

CHUNK = 200  # images that are read at a time


@dataclasses.dataclass(frozen=True)
class Images:
    """A set of uint8 images of one shape.

    Attributes:
      count: how many.
      image_shape: (H, W, C).
      read: (start, stop) -> the images at these places, uint8 [stop - start, H, W, C].
      read_labels: -> their classes, integers [count]; None: they have none.
      num_classes: labels are in [0, num_classes).
      class_names: one a class, where the classes have names.
      about: what a protocol says of the set.
    """

    count: int
    image_shape: tuple[int, int, int]
    read: Callable[[int, int], np.ndarray]
    read_labels: Callable[[], np.ndarray] | None = None
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """The images' classes, read when they are first asked for; None where they have none."""
        return None if self.read_labels is None else np.asarray(self.read_labels())

    @functools.cached_property
    def digest(self) -> str:
        """sha256 over shape, pixels and labels, in hex: equal for equal content, wherever it lies."""
        found = hashlib.sha256(repr((self.count, self.image_shape)).encode())
        for _, chunk in self.chunks(4096):
            found.update(np.ascontiguousarray(chunk).data)
        if self.labels is not None:
            found.update(np.ascontiguousarray(self.labels, np.int64).data)
        return found.hexdigest()

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[int, np.ndarray]]:
        """The images in order, at most `size` at a time, each with the place of its first."""
        for start in range(0, self.count, size):
            yield start, self.read(start, min(start + size, self.count))

    def kept(self, size: int = CHUNK, tell: Callable[[int, int], None] | None = None) -> "Images":
        """The same images, read now and kept in memory; `tell` is given how many are there, of how many."""
        parts = []
        for start, chunk in self.chunks(size):
            parts.append(chunk)
            if tell is not None:
                tell(start + len(chunk), self.count)
        pixels = np.concatenate(parts)
        return dataclasses.replace(self, read=lambda start, stop: pixels[start:stop])


def _resized(data: Dataset) -> dict[str, str]:
    return {} if data.resize == "crop" else {"resize": data.resize}


def of_dataset(data: Dataset, about: Mapping[str, Any] | None = None) -> Images:
    """All images of a set, in its order."""

    def read(start: int, stop: int) -> np.ndarray:
        return data.read(np.arange(start, stop))["image"]

    def read_labels() -> np.ndarray:  # decodes every image of a set that is not kept in memory
        starts = range(0, data.num_examples, 4096)
        places = (np.arange(start, min(start + 4096, data.num_examples)) for start in starts)
        return np.concatenate([data.read(some)["label"] for some in places])

    return Images(
        data.num_examples,
        data.image_shape,
        read,
        read_labels if data.num_classes else None,
        data.num_classes,
        data.class_names,
        {"set": data.name, "split": data.split, **_resized(data)} if about is None else about,
    )


def of_arrays(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    num_classes: int = 0,
    about: Mapping[str, Any] | None = None,
) -> Images:
    """uint8 images [N, H, W, C] and, where there are any, their labels [N]."""
    height, width, channels = images.shape[1:]
    return Images(
        len(images),
        (height, width, channels),
        lambda start, stop: images[start:stop],
        None if labels is None else lambda: labels,
        num_classes if labels is not None else 0,
        about=about or {},
    )


def none(image_shape: tuple[int, int, int]) -> Images:
    """No images of this shape."""
    return of_arrays(np.zeros((0, *image_shape), np.uint8))


def of_model(
    sampler: Sampler,
    state: GanState,
    count: int,
    image_shape: tuple[int, int, int],
    labels: np.ndarray | None = None,
    num_classes: int = 0,
    about: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Images:
    """Samples of a model, of the seeds 0 to `count` - 1.

    Raises, when they are read:
      RunError: the model answers with NaN.
    """

    def read(start: int, stop: int) -> np.ndarray:
        some = None if labels is None else labels[start:stop]
        samples = sampler(state, np.arange(start, stop), some, options=options)
        if np.isnan(samples).any():
            raise errors.RunError(
                f"the samples of seeds {start}-{stop - 1} hold NaN: this model has diverged; "
                "take an earlier one with --checkpoint="
            )
        return to_uint8(samples)

    read_labels = None if labels is None else lambda: labels
    return Images(count, image_shape, read, read_labels, num_classes, about=about or {})


def is_statistics(path: str) -> bool:
    """Whether a file is an `.npz` of statistics, with arrays mu and sigma, and not of images."""
    if not path.endswith(".npz"):
        return False
    try:
        with zipfile.ZipFile(os.path.expanduser(path)) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
    return {"mu.npy", "sigma.npy"} <= names


def of_statistics(path: str) -> tuple[Images, frechet.SavedStatistics]:
    """Images of which a file tells the statistics alone; to read one is a UsageError."""
    saved = frechet.load_statistics(os.path.expanduser(path))

    def read(start: int, stop: int) -> np.ndarray:
        raise errors.UsageError(f"{path} holds statistics, and this takes the images themselves")

    about = {"statistics": path, **({} if not saved.about else {"about": saved.about})}
    return Images(saved.count or 0, (0, 0, 0), read, about=about), saved
