"""The idx format of MNIST and of the sets that are shaped like it: arrays of bytes, plain or gzipped.

A file is a big-endian magic number (0, 0, type, rank), `rank` sizes of four bytes, and the values in C order.

References: Y. LeCun, C. Cortes, "The MNIST database of handwritten digits", section "File formats".
"""

import gzip
import io
import math
import zlib
from collections.abc import Mapping

import numpy as np
from etils import epath

from ganjax.errors import RunError, UsageError

_GZIP = b"\x1f\x8b"
_GZIP_RATIO = 1032  # what deflate unpacks a byte to, at most
_UINT8 = 0x08
# The names under which MNIST, Fashion-MNIST and KMNIST are published: split -> (images, labels).
FILES: Mapping[str, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def parse_header(content: bytes, name: str, rank: int) -> tuple[int, ...]:
    """The shape that the head of an idx file states.

    Args:
      content: the beginning of the file, unpacked; 4 + 4 * rank bytes are enough.
      name: how errors call the file.
      rank: the number of axes that is expected: 3 for images, 1 for labels.
    Raises:
      RunError: the file is too short, not idx, not of bytes, or of another rank.
    """
    length = 4 + 4 * rank
    if len(content) >= 4 and content[:3] != bytes([0, 0, _UINT8]):
        raise RunError(
            f"{name}: begins with {content[:4].hex(' ')}, expected 00 00 08 {rank:02x}, the head of an idx "
            "file of bytes: this is not an idx file; put the original archive in its place"
        )
    if len(content) >= 4 and content[3] != rank:
        raise RunError(
            f"{name}: an idx file of {content[3]} axes, expected {rank}: "
            "images have three and labels one; are two files swapped?"
        )
    if len(content) < length:
        raise RunError(
            f"{name}: ends after {len(content)} bytes, expected a head of {length}: "
            "the file is cut short; fetch it again"
        )
    return tuple(int(size) for size in np.frombuffer(content, ">u4", rank, offset=4))


def parse(content: bytes, name: str, rank: int) -> np.ndarray:
    """The uint8 array in the content of an (unpacked) idx file.

    Args:
      content: the whole file, unpacked.
      name: how errors call the file.
      rank: the number of axes that is expected: 3 for images, 1 for labels.
    Raises:
      RunError: not an idx file of bytes with that rank, or not as long as its head says.
    """
    shape = parse_header(content, name, rank)
    offset, size = 4 + 4 * rank, math.prod(shape)
    if len(content) - offset != size:
        raise _wrong_length(name, len(content) - offset, shape)
    return np.frombuffer(content, np.uint8, size, offset).reshape(shape)


def unpack(content: bytes, name: str, limit: int | None = None) -> bytes:
    """The content itself, or what it unpacks to if it is gzipped: all of it, or `limit` + 1 bytes at most.

    Raises:
      RunError: a gzip archive that is cut short or damaged.
    """
    if not content.startswith(_GZIP):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return file.read(-1 if limit is None else limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RunError(
            f"{name}: the gzip archive of {len(content)} bytes can't be unpacked ({error}): "
            "it is cut short or damaged; fetch it again"
        ) from error


def read(path: epath.PathLike, rank: int) -> np.ndarray:
    """The uint8 array in an idx file, gzipped or not (what it is, not what it is called, decides).

    Raises:
      RunError: the file can't be read, is cut short, or is not an idx file of that rank.
    """
    limit = _end(read_shape(path, rank))
    packed = _read_bytes(path)
    content = unpack(packed, str(path), limit)
    if (
        content is not packed and len(content) > limit
    ):  # it may be a thousand times longer: not all is unpacked
        raise RunError(
            f"{path}: goes on after the {limit} bytes that its head accounts for: "
            "the file is damaged; fetch it again"
        )
    return parse(content, str(path), rank)


def read_shape(path: epath.PathLike, rank: int) -> tuple[int, ...]:
    """The shape of the array in an idx file, from its first bytes only.

    Raises:
      RunError: the file can't be read, doesn't begin as an idx file of that rank, or is too short for
        the shape.
    """
    length = 4 + 4 * rank
    try:
        size = epath.Path(path).stat().length
        with epath.Path(path).open("rb") as file:
            # 4 KiB of an archive unpack to more than the head, whatever the name stored in the gzip header
            content = file.read(4096)
    except OSError as error:
        raise _unreadable(path, error) from error
    most = size
    if content.startswith(_GZIP):
        most = size * _GZIP_RATIO
        try:
            content = zlib.decompressobj(wbits=31).decompress(content, length)
        except zlib.error as error:
            raise RunError(
                f"{path}: the gzip archive can't be unpacked ({error}): it is damaged; fetch it again"
            ) from error
    shape = parse_header(content[:length], str(path), rank)
    if _end(shape) > most:  # found out before anybody makes arrays of that shape
        held = size - length if most == size else f"at most {most - length}"
        raise _wrong_length(str(path), held, shape)
    return shape


def _wrong_length(name: str, held: int | str, shape: tuple[int, ...]) -> RunError:
    return RunError(
        f"{name}: holds {held} values, expected {math.prod(shape)} for the shape {shape} in its head: "
        "the file is damaged; fetch it again"
    )


def _end(shape: tuple[int, ...]) -> int:
    """The length of an (unpacked) file with an array of this shape."""
    return 4 + 4 * len(shape) + math.prod(shape)


def find(folder: epath.PathLike) -> dict[str, tuple[epath.Path, epath.Path]]:
    """The idx files in a folder: split -> (images, labels). Empty if the folder isn't of this kind.

    Raises:
      UsageError: one of a split's two files is there without the other.
    """
    folder = epath.Path(folder)
    found = {}
    for split, names in FILES.items():
        paths = [_existing(folder, name) for name in names]
        if paths[0] is not None and paths[1] is not None:
            found[split] = (paths[0], paths[1])
        elif paths[0] is not None or paths[1] is not None:
            missing = names[0] if paths[0] is None else names[1]
            raise UsageError(
                f"{folder}: {missing}(.gz) is missing beside the other file of its split; add it"
            )
    return found


def _existing(folder: epath.Path, name: str) -> epath.Path | None:
    return next((path for suffix in (".gz", "") if (path := folder / (name + suffix)).exists()), None)


def _read_bytes(path: epath.PathLike) -> bytes:
    try:
        return epath.Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: epath.PathLike, error: OSError) -> RunError:
    return RunError(f"{path}: can't be read ({error.strerror or error}): check that it is there and readable")
