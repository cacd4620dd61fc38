"""Pairs of images: side by side in one file, or in two folders under the same names.

A set of pairs is a `Dataset` whose images have the channels of both sides, the first side's first: so all
that is done to an image (it is chosen, resident on a device, cropped, flipped) is done to both sides alike.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from etils import epath

from ganjax.data import folder, images
from ganjax.data.damage import StandIns
from ganjax.data.dataset import Dataset, Fetch
from ganjax.errors import UsageError, shortened


class Pair(NamedTuple):
    """What is a pair in a set.

    Attributes:
      partner: a folder whose images are the second sides; None: both sides are in one image, the first on
        the left.
      channels: of the first side and of the second: 1 (grey), 3 (RGB) or 4 (RGBA).
    """

    partner: str | None = None
    channels: tuple[int, int] = (3, 3)


def side_by_side(whole: Dataset, pair: Pair, size: tuple[int, int] | None, resize: str = "crop") -> Dataset:
    """The pairs of a set whose images are two, one beside the other.

    Args:
      whole: the set, its images as they are.
      pair: what a pair is.
      size: (H, W) that a side is brought to; None: as it is.
      resize: how, as `ganjax.data.load` has it.
    Raises:
      UsageError: an odd width.
    """
    height, width, _ = whole.image_shape
    if width % 2:
        raise UsageError(
            f"{whole.name}: images of {height}x{width} (height x width): two of one size side by side have "
            "an even width"
        )

    def fetch(read: Fetch, indices: np.ndarray) -> dict[str, np.ndarray]:
        both = read(indices)["image"]
        sides = both[:, :, : width // 2], both[:, :, width // 2 :]
        return {"image": _stacked([(a, b) for a, b in zip(*sides, strict=True)], pair, size, resize)}

    shape = (*(size or (height, width // 2)), sum(pair.channels))
    among = whole.fetch_among
    return Dataset(
        whole.name,
        whole.split,
        shape,
        0,
        (),
        whole.num_examples,
        functools.partial(fetch, whole.read),
        skipped=whole.skipped,
        names=whole.names,
        fetch_among=None if among is None else lambda places: functools.partial(fetch, among(places)),
    )


def folder_side_by_side(
    path: epath.Path,
    name: str,
    split: str,
    pair: Pair,
    size: tuple[int, int] | None,
    skip_corrupt: bool,
    resize: str = "crop",
) -> Dataset:
    """`side_by_side` of a folder's images, which need not be of one size where there is a `size`.

    Raises:
      UsageError: no such split, no images, an odd width, or several sizes and no `size`.
      RunError: an image can't be read.
    """
    root = _root(path, name, split)
    paths = _images_below(root)

    def read(place: int) -> tuple[str, np.ndarray, np.ndarray]:
        shown = folder.shown(paths[place])
        both = images.decode(folder.read_bytes(paths[place]), shown, max(pair.channels), oriented=True)
        width = both.shape[1]
        if width % 2:
            raise UsageError(
                f"{shown}: {both.shape[0]}x{width} (height x width): two of one size side by side have an "
                "even width"
            )
        return shown, both[:, : width // 2], both[:, width // 2 :]

    return _of_reader(
        name, split, [folder.stem(each, root) for each in paths], read, pair, size, skip_corrupt, resize
    )


def two_folders(
    path: epath.Path,
    name: str,
    split: str,
    pair: Pair,
    size: tuple[int, int] | None,
    skip_corrupt: bool,
    resize: str = "crop",
) -> Dataset:
    """Pairs of images in two folders that have the same names, whatever their endings.

    Raises:
      UsageError: no such split, no images, a name that is in one folder alone or twice, or several sizes and
        no `size`.
      RunError: an image can't be read.
    """
    assert pair.partner is not None
    other = epath.Path(pair.partner).expanduser()
    if not other.is_dir():
        raise UsageError(f"{pair.partner}: no such folder")
    parts = [sorted(folder.splits(each)) for each in (path, other)]
    if parts[0] != parts[1]:
        raise UsageError(
            f"{folder.shown(path)} has {', '.join(parts[0])} and {folder.shown(other)} "
            f"{', '.join(parts[1])}: expected the same splits"
        )
    sides = []
    for each, called in ((path, name), (other, pair.partner)):
        root = _root(each, called, split)
        by_name: dict[str, epath.Path] = {}
        for found in _images_below(root):
            stem = folder.stem(found, root)
            if stem in by_name:
                raise UsageError(
                    f"{folder.shown(found)}: {by_name[stem].name} beside it has the name {stem} too, "
                    "by which pairs are found; rename or remove one"
                )
            by_name[stem] = found
        sides.append(by_name)
    for here, there, partner in ((*sides, other), (*sides[::-1], path)):
        alone = [stem for stem in here if stem not in there]
        if alone:
            name_of_it = shortened(alone[0], 200)
            raise UsageError(
                f"{folder.shown(here[alone[0]])}: it has no partner of the name {name_of_it} in "
                f"{folder.shown(partner)}, and of {len(here)} images {len(alone)} have none; "
                "put them there, or remove the images"
            )
    names = list(sides[0])

    def read(place: int) -> tuple[str, np.ndarray, np.ndarray]:
        a, b = (
            images.decode(folder.read_bytes(found), folder.shown(found), channels, oriented=True)
            for found, channels in zip((side[names[place]] for side in sides), pair.channels, strict=True)
        )
        return folder.shown(sides[0][names[place]]), a, b

    return _of_reader(name, split, names, read, pair, size, skip_corrupt, resize)


def _of_reader(
    name: str,
    split: str,
    names: list[str],
    read: Callable[[int], tuple[str, np.ndarray, np.ndarray]],
    pair: Pair,
    size: tuple[int, int] | None,
    skip_corrupt: bool,
    resize: str = "crop",
) -> Dataset:
    """A set of what `read` gives at a place: what to call it, and its two sides."""
    stand_ins = StandIns(len(names), skip_corrupt)
    first, a, _ = stand_ins.read(read, 0)
    shape: tuple[int, int] = size or (a.shape[0], a.shape[1])

    full = shape[0], shape[1], sum(pair.channels)

    def fit(place: int) -> np.ndarray:
        shown, *sides = read(place)
        (h, w), (h2, w2) = (side.shape[:2] for side in sides)
        if size is not None and resize != "stretch" and abs(h2 * w / h - w2) > max(1, 0.02 * w2):
            raise UsageError(
                f"{shown}: {h}x{w} and {h2}x{w2} (height x width) are no pair, as {resize} would leave other "
                "places of them; expected the same proportions, or --config.resize=stretch"
            )
        if size is None:
            for side in sides:
                if side.shape[:2] != shape:
                    raise folder.unequal(f"a side of {first}", shape, f"one of {shown}", side.shape)
        return _stacked([(sides[0], sides[1])], pair, size, resize)[0]

    def fetch(stand_ins: StandIns, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"image": images.stack(lambda i: stand_ins.read(fit, int(indices[i])), len(indices), full)}

    if size is None:  # so that a size that differs shows before anything is compiled
        for place in np.unique(np.linspace(0, len(names) - 1, folder.PROBED).astype(int)).tolist():
            stand_ins.read(fit, place)
    return Dataset(
        name,
        split,
        full,
        0,
        (),
        len(names),
        functools.partial(fetch, stand_ins),
        skipped=stand_ins.skipped,
        names=names,
        fetch_among=lambda places: functools.partial(fetch, stand_ins.among(places)),
    )


def _stacked(
    pairs: list[tuple[np.ndarray, np.ndarray]], pair: Pair, size: tuple[int, int] | None, resize: str
) -> np.ndarray:
    """uint8 [n, H, W, C + C'] of decoded sides."""
    return np.stack(
        [
            np.concatenate(
                [
                    images.fit_array(side, channels, size, resize)
                    for side, channels in zip(sides, pair.channels, strict=True)
                ],
                axis=-1,
            )
            for sides in pairs
        ]
    )


def _root(path: epath.Path, name: str, split: str) -> epath.Path:
    roots = folder.splits(path)
    folder.check_split(path, name, split, roots)
    return roots[split]


def _images_below(root: epath.Path) -> list[epath.Path]:
    found = folder.below(root)
    if not found:
        raise folder.no_images(root)
    return found
