"""Images in folders: one folder a class, `train` and `test` folders where there are splits."""

import functools
import os
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from ganjax.data import images
from ganjax.data.damage import StandIns
from ganjax.data.dataset import Dataset, with_labels
from ganjax.errors import NoSplit, RunError, UsageError, nearest

# How each split's folder may be called.
SPLITS = {"train": ("train",), "test": ("test", "validation", "val"), "validation": ("validation", "val")}
_SPLIT_FOLDERS = frozenset(name for names in SPLITS.values() for name in names)
# Of two domains side by side, as CycleGAN's authors lay them; they are the splits' names too.
DOMAIN_FOLDERS = ("trainA", "trainB", "testA", "testB", "valA", "valB")
# Sizes are compared on this many images when a folder is opened; on the others when they are read.
PROBED = 32


def load(
    path: epath.Path,
    name: str,
    split: str,
    size: tuple[int, int] | None,
    channels: int | None,
    skip_corrupt: bool = False,
    resize: str = "crop",
    flat: bool = False,
) -> Dataset:
    """The images in a folder.

    `path/CLASS/*.png` are labelled, classes in the order of their names; `path/*.png` are not. With a
    folder `path/train`, the same holds in it and in `path/test` (or `validation`, `val`). Where there are
    `path/trainA` and `path/trainB`, these are splits, and so are `testA` and `testB` (or `valA`, `valB`).
    `skip_corrupt`, `resize` and `flat` are as `ganjax.data.load` has them.

    Raises:
      UsageError: no such split, no images, images beside class folders, or of several sizes and no `size`.
      RunError: the folder or an image can't be read, or folders link to each other in a circle.
    """
    roots = splits(path)
    check_split(path, name, split, roots)
    class_names = () if flat else _class_names(list(dict.fromkeys(roots.values())))
    if flat:
        paths = below(roots[split])
        labels = np.zeros(len(paths), np.int32)
    else:
        paths, labels = _examples(roots[split], class_names)
    if not paths:
        raise no_images(roots[split], " or in folders in it" if flat else ", or in one folder a class")
    stand_ins = StandIns(len(paths), skip_corrupt)
    first, shape = _probe(paths, size, channels, stand_ins)

    def decode(place: int) -> tuple[int, np.ndarray]:
        chosen = paths[place]
        content = read_bytes(chosen)
        image = images.decode(content, shown(chosen), shape[2], size, oriented=True, resize=resize)
        if image.shape != shape:
            raise unequal(shown(first), shape, shown(chosen), image.shape)
        return place, image

    def fetch(stand_ins: StandIns, indices: np.ndarray) -> dict[str, np.ndarray]:
        used = np.array(indices)

        def make(number: int) -> np.ndarray:
            used[number], image = stand_ins.read(decode, int(indices[number]))
            return image

        picked = images.stack(make, len(indices), shape)
        return with_labels(picked, labels[used] if class_names else None)

    return Dataset(
        name,
        split,
        shape,
        len(class_names),
        class_names,
        len(paths),
        functools.partial(fetch, stand_ins),
        skipped=stand_ins.skipped,
        names=tuple(stem(chosen, roots[split]) for chosen in paths),
        fetch_among=lambda places: functools.partial(fetch, stand_ins.among(places)),
    )


def check_split(path: epath.Path, name: str, split: str, roots: Mapping[str, epath.Path]) -> None:
    """Raises NoSplit unless `splits(path)` has it."""
    if split not in roots:
        raise NoSplit(
            f"{name}: no split '{split}', {nearest(split, roots)} (a split is a folder, {path / split})"
        )


def no_images(path: epath.Path, where: str = "") -> UsageError:
    """The error that there are none in a folder."""
    suffixes = ", ".join(sorted(images.SUFFIXES))
    return UsageError(f"{shown(path)}: no images found; expected {suffixes} files in the folder{where}")


def stem(path: epath.Path, root: epath.Path) -> str:
    """What an image is called beside others: its path below `root`, without the ending."""
    return path.relative_to(root).with_suffix("").as_posix()


def shown(path: epath.Path) -> str:
    """The path as a message can hold it: in one line, and printable where a name is not in UTF-8."""
    text = str(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def unequal(first: str, first_shape: Sequence[int], other: str, other_shape: Sequence[int]) -> UsageError:
    """The error that two images of a set differ in size."""
    return UsageError(
        f"images of unequal sizes: {first} is {first_shape[0]}x{first_shape[1]} and {other} is "
        f"{other_shape[0]}x{other_shape[1]} (height x width); "
        "bring all to one size, in a run with --config.image_size= and, if not cropped, "
        "--config.resize="
    )


def splits(path: epath.Path) -> dict[str, epath.Path]:
    """Split -> its folder. A folder without splits in it is a training set."""
    folders, _ = _list(path)
    names = {folder.name: folder for folder in folders}
    if {"trainA", "trainB"} <= set(names):
        parts = {name: names[name] for name in DOMAIN_FOLDERS if name in names}
        if not {"testA", "testB"} & set(parts):  # as of one domain, val is a test split
            parts |= {f"test{side}": parts[f"val{side}"] for side in "AB" if f"val{side}" in parts}
        return parts
    if "train" not in names and not (names and _SPLIT_FOLDERS.issuperset(names)):
        return {"train": path}
    return {
        split: names[found]
        for split, choices in SPLITS.items()
        if (found := next((choice for choice in choices if choice in names), None))
    }


def _class_names(roots: list[epath.Path]) -> tuple[str, ...]:
    """The class folders of all splits together, so that a label means the same in each of them."""
    return tuple(sorted({folder.name for root in roots for folder in _list(root)[0]}))


def _examples(root: epath.Path, class_names: tuple[str, ...]) -> tuple[list[epath.Path], np.ndarray]:
    folders, files = _list(root)
    if not class_names:
        return files, np.zeros(len(files), np.int32)
    if files:
        where = (
            f"class folders ({folders[0].name})" if folders else f"a labelled split (class {class_names[0]})"
        )
        raise UsageError(
            f"{shown(root)}: holds images ({files[0].name}) beside {where}; "
            "move the images into class folders, or the folders elsewhere"
        )
    paths, labels = [], []
    for folder in folders:
        found = below(folder, (os.path.realpath(root),))
        paths += found
        labels += [class_names.index(folder.name)] * len(found)
    return paths, np.array(labels, np.int32)


def below(folder: epath.Path, above: tuple[str, ...] = ()) -> list[epath.Path]:
    """All image files in a folder and the folders in it. `above`: the real places of those it lies in."""
    place = os.path.realpath(folder)
    if place in above:
        raise RunError(f"{shown(folder)}: a link to a folder that it lies in; remove the link")
    folders, files = _list(folder)
    return files + [path for inner in folders for path in below(inner, (*above, place))]


def _list(folder: epath.Path) -> tuple[list[epath.Path], list[epath.Path]]:
    """The folders and the image files in a folder, each sorted by name; hidden ones don't count."""
    try:
        entries = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_name)
        # a file known by its ending need not be asked what it is, which on a bucket is a request each
        files = [path for path in entries if path.suffix.lower() in images.SUFFIXES]
        known = set(files)
        return [path for path in entries if path not in known and path.is_dir()], files
    except OSError as error:
        raise RunError(f"{shown(folder)}: can't be listed ({error.strerror or error})") from error


def _name(path: epath.Path) -> str:
    return path.name


def _probe(
    paths: list[epath.Path], size: tuple[int, int] | None, channels: int | None, stand_ins: StandIns
) -> tuple[epath.Path, tuple[int, int, int]]:
    """(H, W, C) of the set, from the heads of some of its images, and the path of the first of these."""

    def look(place: int) -> tuple[epath.Path, tuple[int, int, int]]:
        path = paths[place]
        return path, images.probe(read_bytes(path), shown(path), oriented=True)

    path, first = stand_ins.read(look, 0)
    if size is None:
        places = np.unique(np.linspace(0, len(paths) - 1, PROBED).astype(int))
        for place in places[1:].tolist():
            other, found = stand_ins.read(look, place)
            if found[:2] != first[:2]:
                raise unequal(shown(path), first, shown(other), found)
    height, width = size or first[:2]
    return path, (height, width, channels or first[2])


def read_bytes(path: epath.Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RunError(
            f"{shown(path)}: the file is gone since its folder was listed, or is a link to nothing; "
            "put it back, or train a new run on what is there"
        ) from error
    except IsADirectoryError as error:
        raise RunError(f"{shown(path)}: a folder, and named like an image; rename it") from error
    except OSError as error:
        raise RunError(f"{shown(path)}: can't be read ({error.strerror or error})") from error
