"""Images in an `.npz`: `image` and optional `label`; `image_test` and `label_test` for a test split."""

import math
import struct
import zipfile
from typing import IO, Any

import numpy as np
from etils import epath

from ganjax.data import dataset
from ganjax.data.dataset import Dataset, fetch_arrays, numbered
from ganjax.errors import NoSplit, RunError, UsageError, one_line

MAX_CLASSES = 1_000_000  # a label of two thousand million would stand for as many names
_KEYS = {"train": ("image", "label"), "test": ("image_test", "label_test")}


def load(
    path: epath.Path,
    name: str,
    split: str,
    size: tuple[int, int] | None,
    channels: int | None,
    resize: str = "crop",
) -> Dataset:
    """The images in an `.npz`: uint8 [N, H, W] or [N, H, W, C], with labels [N] or without.

    Raises:
      UsageError: not an `.npz`, no such split, or arrays of the wrong type or shape.
      RunError: the file can't be read or is damaged.
    """
    if split not in _KEYS:
        raise NoSplit(f"{name}: no split '{split}'; an .npz has 'train' and, with image_test, 'test'")
    headers, labels = _inspect(path)
    image_key, label_key = _KEYS[split]
    if image_key not in headers:
        missing = NoSplit if split == "test" and "image" in headers else UsageError
        raise missing(
            f"{name}: no array '{image_key}', which the {split} split needs; "
            f"it holds {', '.join(headers) or 'none'}"
        )
    shape = _image_shape(name, image_key, *headers[image_key])
    for image, label in _KEYS.values():
        if label in labels and image in headers:
            _check_labels(name, label, labels[label], headers[image][0][:1])
    label = labels.get(label_key)
    # over both splits, so that a class unseen in one of them doesn't change the networks' shapes
    num_classes = (
        0 if label is None else 1 + max(int(values.max()) for values in labels.values() if values.size)
    )
    height, width = size or shape[1:3]
    image_shape = (height, width, channels or shape[3])

    def read() -> tuple[Any, np.ndarray | None]:
        if np.prod(shape, dtype=np.int64) > dataset.MEMORY_BUDGET:
            rows = _rows(path, image_key)
            if rows is not None:
                return rows, label
        return _read(path, image_key), label

    return Dataset(
        name,
        split,
        image_shape,
        num_classes,
        numbered(num_classes),
        shape[0],
        fetch_arrays(read, image_shape, resize),
    )


def _inspect(path: epath.Path) -> tuple[dict[str, tuple[tuple[int, ...], np.dtype]], dict[str, np.ndarray]]:
    """Every array's shape and type, from their heads alone, and the labels."""
    labels = {}
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise UsageError(
                    f"{path}: not an .npz archive; make one with numpy.savez(path, image=images)"
                )
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                headers = {}
                for member in archive.infolist():
                    with archive.open(member) as content:
                        shape, dtype = _header(content)
                        # Before memory is asked for: a head may say anything
                        _check_length(member, member.file_size - content.tell(), shape, dtype)
                    headers[member.filename.removesuffix(".npy")] = shape, dtype
        for _, key in _KEYS.values():
            if key in headers:
                labels[key] = _read(path, key)
    except (UsageError, RunError):
        raise
    except Exception as error:  # zipfile, its decompressors and numpy's parser of heads promise no particular
        raise _damaged(path, error) from error
    return headers, labels


def _check_length(member: zipfile.ZipInfo, length: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if min(shape, default=0) < 0 or (not dtype.hasobject and math.prod(shape) * dtype.itemsize > length):
        raise ValueError(f"{member.filename} holds {length} bytes, and its head says {dtype} {list(shape)}")


def _header(content: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    shape, _, dtype = _read_header(content)
    return shape, dtype


def _read_header(content: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """An array's shape, whether it is laid out column by column, and its type."""
    version = np.lib.format.read_magic(content)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(content)


def _read(path: epath.Path, key: str) -> np.ndarray:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return archive[key]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise UsageError(f"{path}: '{key}' holds Python objects, expected numbers") from error
        raise _damaged(path, error) from error
    except MemoryError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


class _Rows:
    """An array of bytes that stays in its file, of which rows are read."""

    def __init__(self, path: epath.Path, offset: int, shape: tuple[int, ...]):
        self.shape = shape
        self._path, self._offset = path, offset

    def __getitem__(self, index: Any) -> np.ndarray:
        wanted = np.atleast_1d(index)
        result = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        try:
            # Not a memory map: of a file that is cut off meanwhile, that would end the process with a signal
            with self._path.open("rb") as file:
                for row, place in zip(result, wanted.tolist(), strict=True):
                    file.seek(self._offset + place * row.nbytes)
                    content = file.read(row.nbytes)
                    if len(content) < row.nbytes:
                        raise EOFError("it is cut off")
                    row[:] = np.frombuffer(content, np.uint8).reshape(row.shape)
        except (OSError, EOFError) as error:
            raise _damaged(self._path, error) from error
        return result if np.ndim(index) else result[0]


def _rows(path: epath.Path, key: str) -> _Rows | None:
    """The array of bytes in its file; None where it is compressed, or not laid out row by row."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            member = archive.getinfo(f"{key}.npy")
            if member.compress_type != zipfile.ZIP_STORED:
                return None
            with archive.open(member) as content:
                shape, in_columns, _ = _read_header(content)
                start = content.tell()
            # Its own head, in front of the content, is 30 bytes and two fields whose lengths it has
            file.seek(member.header_offset + 26)
            start += member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    except (OSError, EOFError, ValueError, KeyError, struct.error, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error
    return None if in_columns else _Rows(path, start, shape)


def _image_shape(name: str, key: str, shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, int, int, int]:
    found = f"{name}: '{key}' is {dtype} {list(shape)}"
    if dtype != np.uint8:
        raise UsageError(f"{found}, expected uint8 with values 0 to 255")
    if len(shape) not in (3, 4):
        raise UsageError(f"{found}, expected [N, H, W] or [N, H, W, C]")
    count, height, width, channels = (*shape, 1)[:4]
    if channels not in (1, 3, 4):
        raise UsageError(f"{found}, expected 1, 3 or 4 channels as the last axis")
    if not count * height * width:
        raise UsageError(f"{found}: there are no images in it")
    return count, height, width, channels


def _check_labels(name: str, key: str, label: np.ndarray, shape: tuple[int, ...]) -> None:
    found = f"{name}: '{key}' is {label.dtype} {list(label.shape)}"
    if label.dtype.kind not in "iu":  # numpy's own hierarchy counts time spans among the integers
        raise UsageError(f"{found}, expected integers")
    if label.shape != shape:
        raise UsageError(f"{found}, expected {list(shape)}, one for each image")
    if label.size and (label.min() < 0 or label.max() >= MAX_CLASSES):
        raise UsageError(
            f"{found} from {label.min()} to {label.max()}, expected 0 and above, and below {MAX_CLASSES}"
        )


def _damaged(path: epath.Path, error: Exception) -> RunError:
    if isinstance(error, OSError) and error.strerror:
        return RunError(f"{path}: can't be read ({error.strerror})")
    return RunError(f"{path}: the archive is damaged ({one_line(error)}); write or fetch it again")
