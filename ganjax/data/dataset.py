"""One set of images, labelled or not, as a `Source`: metadata at once, pixels when they are first read."""

import dataclasses
import functools
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ganjax.data import images, sampling
from ganjax.data.source import to_float
from ganjax.errors import RunError, UsageError, shortened
from ganjax.gan import Batch, Context

# A set whose decoded images take at most this many bytes is decoded once and kept.
MEMORY_BUDGET = 1 << 30

# int64 [n] -> {"image": uint8 [n, H, W, C]} and, of a labelled set, {"label": int32 [n]}
Fetch = Callable[[np.ndarray], dict[str, np.ndarray]]


# Attributes of a set that are arguments of `ganjax.data.load`.
OPTIONS = ("resize", "held_out", "held_out_by")


@dataclasses.dataclass(eq=False)
class Dataset:
    """A set of images of one size, with a class label each or none. A `Source`.

    Attributes:
      name: as it was asked for: a TFDS name, a path.
      split: which part of it.
      image_shape: (H, W, C) of what is read.
      num_classes: labels are in [0, num_classes); 0: there are none.
      class_names: one a class.
      num_examples: how many images.
      fetch: reads and decodes the examples at given indices; None where only the metadata are known.
      skipped: a line for every damaged image that was met and replaced. Grows as examples are read.
      names: what the images are called, one each, where they come from files; else there are none. Of a set
        from `from_spec` they are known once an example was read.
      resize: how images that were of another size came to this one; see `ganjax.data.load`.
      held_out, held_out_by: what share of the set is its test split, where it has none; likewise.
      shrink: by what `ganjax.data.shrunk.shrunk` divided the sides; 1: they are as they were loaded.
      fetch_among: places -> `fetch` as a part of the set that has these is to read them: what is replaced in
        it is by one of its own. None: no image is ever replaced.
    """

    name: str
    split: str
    image_shape: tuple[int, int, int]
    num_classes: int
    class_names: tuple[str, ...]
    num_examples: int
    fetch: Fetch | None = dataclasses.field(default=None, repr=False)
    skipped: Sequence[str] = dataclasses.field(default_factory=list, repr=False)
    names: Sequence[str] = dataclasses.field(default=(), repr=False)
    resize: str = dataclasses.field(default="crop", repr=False)
    held_out: float = dataclasses.field(default=0.0, repr=False)
    held_out_by: str = dataclasses.field(default="", repr=False)
    shrink: int = dataclasses.field(default=1, repr=False)
    fetch_among: Callable[[np.ndarray], Fetch] | None = dataclasses.field(default=None, repr=False)
    _arrays: dict[str, np.ndarray] | None = dataclasses.field(default=None, init=False, repr=False)
    _lock: Any = dataclasses.field(default_factory=threading.Lock, init=False, repr=False)

    def indices(self, seed: int, start: int, count: int) -> np.ndarray:
        """Which examples come after the run's first `start`, int64 [count]. See `batch_indices`."""
        return sampling.batch_indices(self.num_examples, seed, start, count)

    def example(self, count: int) -> dict[str, np.ndarray]:
        """Zeros of the form that `read` gives, without reading anything."""
        images = np.zeros((count, *self.image_shape), np.uint8)
        return with_labels(images, np.zeros(count, np.int32) if self.num_classes else None)

    def read(self, indices: Any) -> dict[str, np.ndarray]:
        """The examples at `indices` [n]: "image" uint8 [n, H, W, C] and, where labelled, "label" int32 [n].

        Raises:
          RunError: the data were not loaded, or can't be read.
        """
        arrays = self.resident()
        if arrays is None:
            return self._loaded_fetch()(np.asarray(indices, np.int64))
        return {key: array[indices] for key, array in arrays.items()}

    def resident(self) -> dict[str, np.ndarray] | None:
        """The whole set as `read` gives it (read-only), or None if it takes more than `MEMORY_BUDGET`.

        Raises:
          RunError: the data were not loaded, or can't be read.
        """
        with self._lock:
            if self._arrays is None:
                fetch = self._loaded_fetch()
                if self.num_examples * int(np.prod(self.image_shape, dtype=np.int64)) > MEMORY_BUDGET:
                    return None
                self._arrays = fetch(np.arange(self.num_examples))
                for array in self._arrays.values():
                    array.flags.writeable = False
                self.fetch = self.fetch_among = None  # they may hold the undecoded set
            return self._arrays

    def transform(self, batch: Batch, context: Context) -> Batch:
        """Raw examples to what losses see: "image" float32 in [-1, 1], "label" int32 as it is."""
        del context
        return {**batch, "image": to_float(batch["image"])}

    def spec(self) -> dict[str, Any]:
        """The metadata as JSON takes them: what `from_spec` makes a set without its data from."""
        return {
            "name": self.name,
            "split": self.split,
            "image_shape": list(self.image_shape),
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "num_examples": self.num_examples,
        }

    def options(self) -> dict[str, Any]:
        """How the set was loaded, besides its form: what `load` is to be given for another split of it."""
        return {name: getattr(self, name) for name in OPTIONS}

    def _loaded_fetch(self) -> Fetch:
        if self.fetch is None:
            raise RunError(
                f"dataset {self.name}: not loaded, only its metadata are known here; "
                "name data that are on this machine with --config.dataset= and --data_dir="
            )
        return self.fetch


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


# What JSON may hold of each field; see `Dataset`.
_FITS: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda x: isinstance(x, str),
    "split": lambda x: isinstance(x, str),
    "image_shape": lambda x: isinstance(x, list | tuple) and len(x) == 3 and all(map(_is_size, x)),
    "num_classes": lambda x: type(x) is int and 0 <= x < 2**31,
    "class_names": lambda x: isinstance(x, list | tuple) and all(isinstance(name, str) for name in x),
    "num_examples": _is_size,
}


def from_spec(spec: Mapping[str, Any], find: Callable[[], Dataset] | None = None, **options: Any) -> Dataset:
    """A set whose metadata are there, and whose examples are looked for when one is first read.

    Args:
      spec: what `Dataset.spec` gave.
      find: loads the set; None: there is nothing to read, which is a RunError.
      options: what it does with them: the attributes `resize`, `held_out` and `held_out_by`.
    Raises:
      UsageError: `spec` isn't what `Dataset.spec` gave. In reading, a RunError where what was found is
        another set.
    """
    of_data = ("fetch", "fetch_among", "skipped", "names", "shrink", *OPTIONS)
    names = [field.name for field in dataclasses.fields(Dataset) if field.init and field.name not in of_data]
    if sorted(spec) != sorted(names):
        raise UsageError(f"dataset metadata with the keys {sorted(spec)}: expected {sorted(names)}")
    for name, fits in _FITS.items():
        if not fits(spec[name]):
            raise UsageError(f"dataset metadata: {name}={shortened(str(spec[name]))}: no set has that")
    if len(spec["class_names"]) != spec["num_classes"]:
        raise UsageError(
            f"dataset metadata: {len(spec['class_names'])} names of {spec['num_classes']} classes"
        )
    height, width, channels = spec["image_shape"]
    skipped: list[str] = []
    called: list[str] = []
    lock = threading.Lock()

    @functools.cache
    def found() -> Dataset:
        assert find is not None
        dataset = find()
        if dataset.spec() != {
            **spec,
            "image_shape": [*spec["image_shape"]],
            "class_names": [*spec["class_names"]],
        }:
            raise RunError(
                f"dataset {dataset.name}: what is there now is not what is on record ({dataset.num_examples} "
                f"images now, {spec['num_examples']} then); bring the old data back, or train a new run"
            )
        return dataset

    def fetch(indices: np.ndarray) -> dict[str, np.ndarray]:
        with lock:  # of several threads that come first, one looks
            dataset = found()
        examples = dataset.read(indices)
        with lock:
            skipped.extend(line for line in dataset.skipped if line not in skipped)
            called.extend(dataset.names[len(called) :])
        return examples

    return Dataset(
        name=spec["name"],
        split=spec["split"],
        image_shape=(height, width, channels),
        num_classes=spec["num_classes"],
        class_names=tuple(spec["class_names"]),
        num_examples=spec["num_examples"],
        fetch=None if find is None else fetch,
        skipped=skipped,
        names=called,
        **options,
    )


def part(dataset: Dataset, places: np.ndarray, split: str) -> Dataset:
    """Some of a set's images, as a split of its own.

    Args:
      dataset: the whole.
      places: int64 [n], which.
      split: what the part is called.
    """
    fetch = dataset.fetch  # and not `read`, which would decode and keep the whole
    if fetch is not None and dataset.fetch_among is not None:
        fetch = dataset.fetch_among(places)
    return Dataset(
        dataset.name,
        split,
        dataset.image_shape,
        dataset.num_classes,
        dataset.class_names,
        len(places),
        None if fetch is None else lambda indices: fetch(places[indices]),
        skipped=dataset.skipped,
        names=[str(dataset.names[place]) for place in places.tolist()] if dataset.names else (),
        **dataset.options(),
    )


def held_out(dataset: Dataset, share: float, by: str = "") -> np.ndarray:
    """Which images are kept from training: bool [N], the same at every call and on every machine.

    Names are put in the order of their sha256, and the first `share` of them is taken, at least one. So sets
    of the same names keep back the same, and a set that grows keeps most of its choice. Images without
    names are numbered.

    Args:
      dataset: a whole set.
      share: in (0, 1).
      by: names that are alike up to this text are one name; "": each is its own.
    Raises:
      UsageError: all images would be held out, or none be left to hold out.
    """
    names = alike(dataset.names or numbered(dataset.num_examples), by)
    order = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(order) < 2:
        raise UsageError(
            f"{dataset.name}: a single image, or images of one name only, can't be divided into some to "
            "train on and some to hold out; add images, or hold out none (with --config.held_out=0)"
        )
    chosen = set(order[: min(max(round(share * len(order)), 1), len(order) - 1)])
    return np.array([name in chosen for name in names])


def alike(names: Sequence[str], by: str = "") -> list[str]:
    """Names up to this text, where they have it: those that are then the same belong together."""
    return [name.partition(by)[0] if by else name for name in names]


def fetch_arrays(
    load: Callable[[], tuple[Any, np.ndarray | None]],
    image_shape: tuple[int, int, int],
    resize: str = "crop",
) -> Fetch:
    """A `Fetch` from arrays that are loaded when first needed.

    Args:
      load: gives the images, uint8 [N, h, w] or [N, h, w, c], and the labels [N] or None. The images may be
        left in their file: anything that has `shape`, and gives an array at an index or an array of them.
      image_shape: (H, W, C) that the images are brought to.
      resize: how, as `ganjax.data.load` has it.
    """
    cached, lock = functools.cache(load), threading.Lock()

    def fetch(indices: np.ndarray) -> dict[str, np.ndarray]:
        with lock:  # of several threads that come first, one loads
            array, labels = cached()
        height, width, depth = (*array.shape[1:], 1)[:3]
        if (height, width, depth) == image_shape:
            picked = array[indices].reshape(-1, height, width, depth)
        else:

            def fit(place: int) -> np.ndarray:
                image = array[indices[place]].reshape(height, width, depth)
                return images.fit_array(image, image_shape[2], image_shape[:2], resize)

            picked = images.stack(fit, len(indices), image_shape)
        return with_labels(picked, None if labels is None else labels[indices])

    return fetch


def with_labels(image: np.ndarray, label: Any) -> dict[str, np.ndarray]:
    """A raw batch of images and labels, or of images only where `label` is None."""
    return {"image": image} if label is None else {"image": image, "label": np.asarray(label, np.int32)}


def numbered(num_classes: int) -> tuple[str, ...]:
    """Class names where the data give none: "0", "1", ..."""
    return tuple(str(label) for label in range(num_classes))
