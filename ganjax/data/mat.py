"""The Toronto Face Database, in the MATLAB file that it is distributed as.

Susskind, Anderson & Hinton 2010, "The Toronto Face Database", a technical report of the University of
Toronto: grey faces of 48x48 pixels (`TFD_48x48.mat`) or 96x96 (`TFD_96x96.mat`), some with one of seven
expressions. It is one of the sets of Goodfellow et al. 2014. There is no public download; its authors gave it
on request.

The file was not at hand when this was written. What is relied on here is what several public programs that
read it agree on: the arrays `images` (uint8 [N, 48, 48], upright by the order of the axes), `labs_ex` (1 to
7, -1 without an expression) and `folds` ([N, 5], five divisions: 0 unlabelled, 1 training, 2 validation, 3
test); that 98,058 faces are unlabelled and 4,178 labelled. Not verified: which expression is which number, so
that classes are called "1" to "7"; that the file is one of MATLAB's version 5 (others are refused, with a way
to convert them). One program says that some unlabelled faces are blank; they are left in.
"""

import functools
import warnings
from typing import IO, Any

import numpy as np
from etils import epath

from ganjax.data.dataset import Dataset, fetch_arrays
from ganjax.errors import RunError, UsageError, nearest, one_line

NAME = "toronto_faces"
EXPRESSIONS = 7
# Values of the first division in each split; "labelled" is all that has an expression.
SPLITS = {"train": (1,), "validation": (2,), "test": (3,), "labelled": (1, 2, 3), "unlabelled": (0,)}

_LARGEST = 4096
_ARRAYS = ("images", "labs_ex", "folds")
_HEAD_5, _HEAD_73, _HEAD_HDF5 = b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file", b"\x89HDF"


def find(root: epath.Path, size: tuple[int, int] | None) -> epath.Path:
    """The database's file under `root`/toronto_faces: the smallest that has `size`, else the largest.

    Raises:
      RunError: there is none, or one can't be read.
    """
    folder = root / NAME
    paths = sorted(folder.glob("*.mat")) if folder.exists() else []
    found = {path: shapes["images"][1:3] for path in paths if "images" in (shapes := _shapes(path))}
    if not found:
        raise RunError(
            f"{NAME}: there is no TFD_48x48.mat or TFD_96x96.mat in {folder}. The Toronto Face Database has "
            "no public download: ask its authors for it (Susskind, Anderson & Hinton 2010, University of "
            "Toronto), and put the file there, or name it by its path"
        )
    enough = [path for path, shape in found.items() if size is not None and min(shape) >= max(size)]
    if size is None or enough:
        return min(enough or found, key=lambda path: found[path])
    return max(found, key=lambda path: found[path])


def load(
    path: epath.Path,
    name: str,
    split: str,
    size: tuple[int, int] | None,
    channels: int | None,
    resize: str = "crop",
) -> Dataset:
    """The faces of one of `SPLITS`, by the first of the five divisions.

    The split "unlabelled" has no labels; in the others, which leave out what has no expression, labels are 0
    to 6 for the expressions 1 to 7.

    Raises:
      UsageError: not a MATLAB file of version 5, not the database's arrays, or no such split.
      RunError: the file can't be read or is damaged.
    """
    if split not in SPLITS:
        raise UsageError(f"{name}: no split '{split}', {nearest(split, SPLITS)}")
    shapes = _shapes(path)
    for key in _ARRAYS:
        if key not in shapes:
            raise UsageError(
                f"{path}: no array '{key}'; of .mat files only the Toronto Face Database's are read, "
                f"and this one holds {', '.join(shapes) or 'nothing'}"
            )
    shape = shapes["images"]
    # A head may say anything, and networks are built by it before a pixel is read.
    if len(shape) != 3 or shape[0] < 1 or not all(0 < side <= _LARGEST for side in shape[1:]):
        raise UsageError(f"{path}: images {list(shape)}: expected [N, H, W], H and W up to {_LARGEST}")
    small = _read(path, ("labs_ex", "folds"))
    labels, folds = np.asarray(small["labs_ex"]).ravel(), np.asarray(small["folds"])
    if folds.ndim != 2 or len(folds) != shape[0] or len(labels) != shape[0]:
        raise UsageError(
            f"{path}: {shape[0]} images, labs_ex {list(np.shape(small['labs_ex']))} and folds "
            f"{list(folds.shape)}: expected an expression and a row of divisions for each image"
        )
    if not np.isin(labels, [-1, *range(1, EXPRESSIONS + 1)]).all():
        raise UsageError(f"{path}: labs_ex: expected -1, or 1 to {EXPRESSIONS}")
    chosen = np.isin(folds[:, 0], SPLITS[split])
    if split != "unlabelled":
        chosen &= labels > 0
    places = np.flatnonzero(chosen)
    if not len(places):
        raise UsageError(f"{path}: its split '{split}' holds no image")
    height, width = size or shape[1:3]
    image_shape = (height, width, channels or 1)
    classes = 0 if split == "unlabelled" else EXPRESSIONS

    def read() -> tuple[Any, np.ndarray | None]:
        images = np.asarray(_read(path, ("images",))["images"])
        if images.dtype != np.uint8 or images.shape != shape:
            raise UsageError(
                f"{path}: images: expected uint8 {list(shape)}, got {images.dtype} {images.shape}"
            )
        # MATLAB has the first axis run fastest, which would scatter an image over the whole array.
        picked = np.ascontiguousarray(images[places])
        return picked, (labels[places].astype(np.int64) - 1 if classes else None)

    names = tuple(str(expression) for expression in range(1, classes + 1))
    return Dataset(
        name, split, image_shape, classes, names, len(places), fetch_arrays(read, image_shape, resize)
    )


def _shapes(path: epath.Path) -> dict[str, tuple[int, ...]]:
    """The arrays' shapes, by name, from their heads."""

    def read(file: IO[bytes]) -> dict[str, tuple[int, ...]]:
        from scipy import io

        return {name: tuple(map(int, shape)) for name, shape, _ in io.whosmat(file, appendmat=False)}

    return _guarded(path, read)


def _read(path: epath.Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Some of the arrays. Reading a MATLAB file runs nothing in it; what is not asked for is passed over."""

    def read(file: IO[bytes], names: tuple[str, ...]) -> dict[str, Any]:
        from scipy import io

        return io.loadmat(file, appendmat=False, variable_names=list(names))

    found = _guarded(path, functools.partial(read, names=names))
    for name in names:
        if not isinstance(found.get(name), np.ndarray) or found[name].dtype.kind not in "iufb":
            raise UsageError(f"{path}: {name}: expected an array of numbers")
    return found


def _guarded(path: epath.Path, read) -> Any:
    """What `read` gives of the open file, which is one of MATLAB's version 5."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's, of variables that occur twice
            head = file.read(128)
            if head.startswith((_HEAD_73, _HEAD_HDF5)):
                raise UsageError(
                    f"{path}: a MATLAB file of version 7.3 (HDF5), which is not read here; "
                    "convert it, in MATLAB or Octave: save(file, '-v7', 'images', 'labs_ex', 'folds')"
                )
            if not head.startswith(_HEAD_5):
                raise UsageError(f"{path}: not a MATLAB file of version 5 (those of -v6 and -v7)")
            file.seek(0)
            return read(file)
    except (UsageError, RunError):
        raise
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror or error}") from error
    except Exception as error:  # scipy's parser and zlib promise no particular ones
        raise RunError(f"{path}: the file is damaged ({one_line(error)})") from error
