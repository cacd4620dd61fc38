"""Named data sets and paths -> batches: a batch is a pure function of (seed, step).

`load` finds a set by its name or path, `Zip` joins several; both are `Source`s, which is all that the loop
knows of data.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath

from ganjax.data import embedded, folder, idx, images, mat, npz, pairs, prepared
from ganjax.data.dataset import OPTIONS, Dataset, fetch_arrays, from_spec, numbered, part
from ganjax.data.dataset import held_out as choose_held_out
from ganjax.data.domains import Paired, Unpaired
from ganjax.data.feed import Feed
from ganjax.data.pairs import Pair
from ganjax.data.plane import Mixture
from ganjax.data.sampling import batch_indices
from ganjax.data.source import Source, to_float
from ganjax.data.zip import Zip
from ganjax.errors import NoSplit, UsageError, nearest, shortened
from ganjax.report.files import unusable

__all__ = [
    "OPTIONS",
    "Dataset",
    "Feed",
    "Mixture",
    "Pair",
    "Paired",
    "Source",
    "Unpaired",
    "Zip",
    "batch_indices",
    "check_same_size",
    "from_spec",
    "load",
    "share_images",
    "to_float",
]


def load(
    name: str,
    *,
    split: str = "train",
    data_dir: epath.PathLike | None = None,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    resize: str = "crop",
    skip_corrupt: bool = False,
    pair: Pair | None = None,
    held_out: float = 0.0,
    held_out_by: str = "",
    flat: bool = False,
) -> Dataset:
    """The set of this name or at this path. Only its metadata are read now.

    `random` is noise, for trying things out. `mnist` and other names of TensorFlow Datasets are looked for
    (1) prepared under `data_dir`, read without TensorFlow, (2) in the package (MNIST), (3) for download,
    which needs TensorFlow and a network. `toronto_faces` is the Toronto Face Database, in the `.mat` that it
    is distributed as, under `data_dir`/toronto_faces. A path is a folder of images, an `.npz`, that `.mat`, a
    folder of idx files, or a prepared copy (a folder that holds dataset_info.json).

    Args:
      name: the name, or a path: whatever begins with ".", "~" or "/", ends in ".npz" or
        ".mat", or exists.
      split: "train", "test", or another that the set has.
      data_dir: where prepared sets lie; default: the variable TFDS_DATA_DIR, else ~/tensorflow_datasets.
      image_size: bring images to this size; H = W, or (H, W). None: as they are.
      channels: 1 (grey), 3 (RGB) or 4 (RGBA). None: the set's own.
      resize: how: "crop", the largest centred part of these proportions; "pad", the whole image, and black
        around it (transparent, of four channels); "stretch", the whole image, out of proportion.
      skip_corrupt: of a folder or a prepared copy, what is read in the place of an image that can't be
        decoded is the next one of the set that can (of a share that is held out, or of the rest, the next
        one there), with its own label; `Dataset.skipped` names it. False: it is an error. Files that are
        gone or may not be read are errors in any case.
      pair: each image is a pair, as it says, and `image_size` is of a side; `channels` are its own. None: it
        is an image.
      held_out: of a set that has no test split (or none "testA" beside its "trainA", as two domains have),
        this share of the images is the split "test", chosen by `ganjax.data.dataset.held_out`, and the rest
        "train"; in [0, 1).
      held_out_by: see there.
      flat: of a folder, whose folders are then no classes: its images and all in folders in it, without
        labels. Folders of splits are splits all the same.
    Raises:
      UsageError: no set of this name (the nearest are named), no such split, a file of the wrong kind.
      RunError: the data are damaged, or neither here nor within reach.
    """
    size, channels = images.check_size(image_size), images.check_channels(channels)
    images.check_resize(resize)
    for each in pair.channels if pair else ():
        images.check_channels(each)
    if not 0 <= held_out < 1:
        raise UsageError(f"held_out={held_out}: expected a share from 0 to below 1")

    def whole(split: str) -> Dataset:
        return _load(name, split, data_dir, size, channels, resize, skip_corrupt, pair, flat)

    found = _split(whole, split, held_out, held_out_by) if held_out else whole(split)
    found.held_out, found.held_out_by = held_out, held_out_by
    return found


def check_same_size(train: Dataset, test: Dataset) -> None:
    """Raises ValueError where what is trained on and what is tested on are images of two sizes."""
    sizes = ["x".join(map(str, split.image_shape)) for split in (train, test)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"--config.dataset={train.name}: {train.split} has images of {sizes[0]} and {test.split} of "
            f"{sizes[1]}, expected one size; set --config.image_size= and --config.channels="
        )


def share_images(name: str, split: str, other: str) -> bool:
    """Whether images of one split of a set are in another of its splits too, as far as their names tell.

    Of a folder, which has one folder for several names of splits, also what lies there.

    Args:
      name: as `load` has it.
      split: may be a union of parts, as in "train[:50%]+test", or TFDS's "all".
      other: a single split.
    """
    parts = {part.partition("[")[0].strip() for part in split.split("+")}
    if parts & {other, "all", ""}:  # one without a name tells nothing
        return True
    if name == mat.NAME or name.endswith(".mat"):
        return any(set(mat.SPLITS.get(part, ())) & set(mat.SPLITS.get(other, ())) for part in parts)
    path = epath.Path(name).expanduser()
    if not _is_path(name) or not path.is_dir() or (path / "dataset_info.json").exists():
        return False
    roots = folder.splits(path)
    places = {os.path.realpath(roots[part]) for part in parts if part in roots}
    return other in roots and os.path.realpath(roots[other]) in places


def _split(load: Callable[[str], Dataset], split: str, held_out: float, held_out_by: str) -> Dataset:
    """A split of a set, or the part of its training split that is one where it has no test split.

    Args:
      load: gives a split that the set has.
      split, held_out, held_out_by: as `ganjax.data.load` has them.
    """
    test = split.replace("train", "test")
    if test not in ("test", "testA", "testB"):
        return load(split)
    try:
        found = load(test)
    except NoSplit:
        whole = load(test.replace("test", "train"))
        chosen = choose_held_out(whole, held_out, held_out_by) == (split == test)
        return part(whole, np.flatnonzero(chosen), split)
    return found if split == test else load(split)


def _load(
    name: str,
    split: str,
    data_dir: epath.PathLike | None,
    size: tuple[int, int] | None,
    channels: int | None,
    resize: str,
    skip_corrupt: bool,
    pair: Pair | None,
    flat: bool = False,
) -> Dataset:
    """`load` without a share that is held out."""
    if pair is not None:
        found = _load_pairs(name, split, data_dir, size, resize, skip_corrupt, pair)
    else:
        found = _load_images(name, split, data_dir, size, channels, resize, skip_corrupt, flat)
    found.resize = resize
    return found


def _load_images(
    name: str,
    split: str,
    data_dir: epath.PathLike | None,
    size: tuple[int, int] | None,
    channels: int | None,
    resize: str,
    skip_corrupt: bool,
    flat: bool,
) -> Dataset:
    if name == "random":
        _check_split(name, split, embedded.RANDOM_EXAMPLES)
        return embedded.random(split, size, channels)
    if name != "mnist" and _is_path(name):
        return _from_path(name, split, size, channels, resize, skip_corrupt, flat)
    root = prepared.data_root(data_dir)
    if name == mat.NAME:
        return mat.load(mat.find(root, size), name, split, size, channels, resize)
    builder = prepared.find(name, root)
    if builder is None and name == "mnist" and embedded.has_mnist():
        _check_split(name, split, embedded.MNIST_EXAMPLES)
        return embedded.mnist(split, size, channels, resize)
    if builder is None:
        builder = prepared.prepare(name, root)
    return prepared.from_builder(builder, name, split, size, channels, skip_corrupt, resize)


def _load_pairs(
    name: str,
    split: str,
    data_dir: epath.PathLike | None,
    size: tuple[int, int] | None,
    resize: str,
    skip_corrupt: bool,
    pair: Pair,
) -> Dataset:
    if name == "random":
        _check_split(name, split, embedded.RANDOM_EXAMPLES)
        noise = embedded.random(split, size, sum(pair.channels))
        images_of = lambda indices: {"image": noise.read(indices)["image"]}  # noqa: E731
        return Dataset(name, split, noise.image_shape, 0, (), noise.num_examples, images_of)
    path = epath.Path(name).expanduser()
    is_folder = _is_path(name) and path.is_dir()
    if pair.partner is not None:
        if not is_folder:
            raise UsageError(f"{name}: no such folder")
        return pairs.two_folders(path, name, split, pair, size, skip_corrupt, resize)
    if is_folder and not (path / "dataset_info.json").exists():
        return pairs.folder_side_by_side(path, name, split, pair, size, skip_corrupt, resize)
    whole = _load(name, split, data_dir, None, None, resize, skip_corrupt, None)
    return pairs.side_by_side(whole, pair, size, resize)


def _is_path(name: str) -> bool:
    """Whether it looks like a path or is one; a slash doesn't tell, `cycle_gan/horse2zebra` is a name."""
    looks = name.startswith((".", "~", "/", os.sep)) or "://" in name or name.endswith((".npz", ".mat"))
    return looks or "\\" in name or bool(name and epath.Path(name).exists())


def _from_path(
    name: str,
    split: str,
    size: tuple[int, int] | None,
    channels: int | None,
    resize: str,
    skip_corrupt: bool,
    flat: bool,
) -> Dataset:
    if reason := unusable(name):
        raise UsageError(f"{shortened(name, 200)}: {reason}; name another file or folder")
    path = epath.Path(name).expanduser()
    if not path.exists():
        raise UsageError(f"{name}: no such file or folder")
    if not path.is_dir():
        if path.suffix == ".mat":
            return mat.load(path, name, split, size, channels, resize)
        if path.suffix != ".npz":
            raise UsageError(f"{name}: expected a folder of images or an .npz with an array 'image'")
        return npz.load(path, name, split, size, channels, resize)
    if (path / "dataset_info.json").exists():
        return prepared.from_folder(path, name, split, size, channels, skip_corrupt, resize)
    files = idx.find(path)
    if files:
        _check_split(name, split, files)
        return _from_idx(files[split], name, split, size, channels, resize)
    return folder.load(path, name, split, size, channels, skip_corrupt, resize, flat)


def _from_idx(
    files: tuple[epath.Path, epath.Path],
    name: str,
    split: str,
    size: tuple[int, int] | None,
    channels: int | None,
    resize: str,
) -> Dataset:
    """MNIST's layout: grey images and labels in idx files."""
    labels = idx.read(files[1], 1)
    count, height, width = idx.read_shape(files[0], 3)
    if len(labels) != count or not count * height * width:
        raise UsageError(
            f"{name}: {files[0].name} holds {count} images of {height}x{width} and {files[1].name} "
            f"{len(labels)} labels; expected at least one image, and a label for each"
        )
    height, width = size or (height, width)
    shape = (height, width, channels or 1)
    num_classes = int(labels.max()) + 1
    fetch = fetch_arrays(lambda: (idx.read(files[0], 3), labels), shape, resize)
    return Dataset(name, split, shape, num_classes, numbered(num_classes), count, fetch)


def _check_split(name: str, split: str, splits) -> None:
    if split not in splits:
        raise NoSplit(f"{name}: no split '{split}', {nearest(split, splits)}")
