"""Files of networks' weights as arrays by name: read without the framework that wrote them, and nothing that
they hold is run.

Understood are PyTorch's files (a state dict or a tree of them, as a zip archive or in the older format; a
TorchScript archive, whose code is left alone), numpy's `.npz` and pickled trees of numpy arrays, and
safetensors. Which one a file is, its content tells. `ganjax.pickled` reads what is a pickle.
"""

import hashlib
import io
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from ganjax import pickled
from ganjax.errors import RunError, one_line

# More than any network that is read here, and less than what a machine dies of.
MAX_BYTES = 2**32

_TORCH_MAGIC, _TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_KINDS = "PyTorch's .pt or .pth, .npz, .safetensors or a pickled tree of numpy arrays"


class Weights(NamedTuple):
    """What a file of weights holds.

    Attributes:
      path: of the file.
      format: "torchscript", "torch", "torch-legacy", "npz", "safetensors" or "pickle".
      sha256: of the whole file, in hex.
      arrays: name -> array, read-only, bfloat16 as float32. The names are PyTorch's, or the keys of a tree
        joined by dots.
    """

    path: str
    format: str
    sha256: str
    arrays: Mapping[str, np.ndarray]


def read_weights(path: epath.PathLike) -> Weights:
    """Reads a file of weights. The file may come from anywhere: nothing in it is run.

    Raises:
      RunError: there is no such file, it is of another kind, holds more than arrays, more than `MAX_BYTES`,
        or is damaged.
    """
    name = os.fspath(path)
    path = epath.Path(path).expanduser()
    try:
        length = path.stat().length
        if length > MAX_BYTES:
            raise RunError(f"{name}: {length} bytes; weights of up to {MAX_BYTES} are read")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise RunError(f"{name}: weights can't be read: {one_line(error)}") from error
    try:
        form, arrays = _parse(content)
    except pickled.NotPlain as error:
        raise RunError(
            f"{name}: not weights alone: {one_line(error)}. Nothing in it was run. "
            "Save arrays, or a state_dict(), alone"
        ) from error
    except _Unknown as error:
        raise RunError(f"{name}: {one_line(error)}; expected {_KINDS}") from error
    # zipfile, its decompressors, numpy's parser of heads and pickletools promise no particular errors.
    except Exception as error:
        raise RunError(f"{name}: damaged weights: {one_line(error)}; get the file again") from error
    if not arrays:
        raise RunError(f"{name}: it holds no arrays; expected weights as {_KINDS}")
    return Weights(name, form, hashlib.sha256(content).hexdigest(), arrays)


class _Unknown(ValueError):
    pass


def _parse(content: bytes) -> tuple[str, dict[str, np.ndarray]]:
    if is_safetensors(content[:9], len(content)):
        return "safetensors", _safetensors(content)
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member.filename: member for member in archive.infolist()}
            claimed = sum(member.file_size for member in members.values())
            if claimed > MAX_BYTES:
                raise ValueError(f"it unpacks to {claimed} bytes; weights of up to {MAX_BYTES} are read")
            roots = [name.removesuffix("data.pkl") for name in members if name.endswith("data.pkl")]
            if roots:
                return _torch_zip(archive, members, min(roots, key=len))
            return "npz", _npz(archive, members)
    if content[:1] == b"\x80":
        return _pickle(content)
    if content[:64].lstrip()[:1] == b"<":
        raise _Unknown("it is a web page, not weights: perhaps what a server answered in the file's place")
    if not content:
        raise _Unknown("the file is empty")
    raise _Unknown("not a file of weights that is understood")


def _torch_zip(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], root: str
) -> tuple[str, dict[str, np.ndarray]]:
    tree = pickled.load(io.BytesIO(archive.read(root + "data.pkl")))
    order = archive.read(root + "byteorder").strip() if root + "byteorder" in members else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"its byte order is {order[:20]!r}")

    def content_of(storage: pickled.Storage) -> bytes:
        member = f"{root}data/{storage.key}"
        if member not in members:
            raise ValueError(f"the tensor data {storage.key!r:.40} are missing")
        return archive.read(member)

    scripted = f"{root}constants.pkl" in members
    return "torchscript" if scripted else "torch", _arrays(tree, content_of, order == b"big")


def _pickle(content: bytes) -> tuple[str, dict[str, np.ndarray]]:
    span = pickled.Span(io.BytesIO(content), 0, len(content))
    first = pickled.load(pickled.Skimmed(span))
    if not is_torch_magic(first):
        return "pickle", _arrays(first, None)
    tree, big, storages = torch_legacy(span)

    def content_of(storage: pickled.Storage) -> bytes:
        if storage.key not in storages:
            raise ValueError(f"the tensor data {storage.key!r:.40} are missing")
        return storages[storage.key].read()

    return "torch-legacy", _arrays(tree, content_of, big)


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of this size with these first nine bytes is one of safetensors: the length of a JSON
    object, and its beginning. No pickle begins so, though the length may have a pickle's first byte."""
    return len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8


def is_torch_magic(value: Any) -> bool:
    """Whether a pickle's value is what PyTorch's older format begins with."""
    return isinstance(value, int) and value == _TORCH_MAGIC


def torch_legacy(span: pickled.Span, limit: int = 2**63) -> tuple[Any, bool, dict[str, pickled.Span]]:
    """PyTorch's older format: what was saved, whether it is big-endian, and its storages' bytes by key.

    Args:
      span: the file.
      limit: bytes of its pickles, at most.
    Raises:
      ValueError: it is of another format, cut off or damaged.
      NotPlain: it is more than data.
    """
    file = pickled.Skimmed(span, limit)
    magic, protocol, system, tree, keys = (pickled.load(file) for _ in range(5))
    if not is_torch_magic(magic) or protocol != _TORCH_PROTOCOL:
        raise ValueError(f"protocol {protocol!r:.40} of PyTorch's older format")
    big = isinstance(system, dict) and system.get("little_endian") is False
    if not isinstance(keys, list):
        raise ValueError("it has no list of tensor data")
    items = _item_sizes(tree)
    storages = {}
    for key in keys:
        head = file.read(8)
        count = struct.unpack(">q" if big else "<q", head)[0]
        size = count * items.get(key, 1)
        start = file.tell()
        if count < 0 or size > len(span) - start:
            raise ValueError(f"tensor data of {count} entries do not fit in the file")
        storages[key] = span.part(start, size)
        file.skip(size)
    return tree, big, storages


def _item_sizes(tree: Any) -> dict[str, int]:
    if isinstance(tree, pickled.Storage):
        return {tree.key: tree.dtype.itemsize}
    tensors = [leaf for leaf in pickled.leaves(tree).values() if not isinstance(leaf, np.ndarray)]
    return {tensor.storage.key: tensor.storage.dtype.itemsize for tensor in tensors}


def _arrays(tree, content_of, big: bool = False) -> dict[str, np.ndarray]:
    contents: dict[str, bytes] = {}
    arrays = {}
    total = 0
    for name, leaf in pickled.leaves(tree).items():
        if not isinstance(leaf, np.ndarray):
            if content_of is None:
                raise ValueError("a tensor's data are not in the file")
            key = leaf.storage.key
            if key not in contents:
                contents[key] = content_of(leaf.storage)
            leaf = array_of(leaf, contents[key], big, name)
        # Views share their storage, but whoever uses them copies each.
        total += leaf.size * max(leaf.itemsize, 4)
        if total > MAX_BYTES:
            raise ValueError(f"its arrays are more than {MAX_BYTES} bytes")
        arrays[name] = _native(leaf)
    return arrays


def array_of(tensor: pickled.Tensor, content: bytes, big: bool, name: str) -> np.ndarray:
    """A tensor as a view of its storage's bytes, within their bounds. It takes no memory, whatever its shape
    says. Raises ValueError where it does not fit."""
    storage, shape = tensor.storage, tensor.shape
    item = storage.dtype.itemsize
    if (storage.start + storage.size) * item > len(content):
        raise ValueError(f"{name:.80}: {storage.size} entries expected in {len(content)} bytes")
    start = storage.start * item
    dtype = tensor.dtype or storage.dtype
    flat = np.frombuffer(content[start : start + storage.size * item], np.uint8)
    flat = flat[: len(flat) // dtype.itemsize * dtype.itemsize].view(dtype)
    if big and dtype.itemsize > 1:
        flat = flat.view(dtype.newbyteorder(">"))
    if 0 in shape:
        return np.zeros(shape, dtype)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, tensor.strides, strict=True))
    # A stride of 0 would repeat entries: a few bytes could stand for more memory than there is.
    if last >= len(flat) or math.prod(shape) > len(flat):
        raise ValueError(f"{name:.80}: the shape {list(shape)} on {len(flat)} entries")
    steps = [step * dtype.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False)


def _native(array: np.ndarray) -> np.ndarray:
    """In this machine's byte order, of one of numpy's own types."""
    if array.dtype == pickled.bfloat16():
        array = array.astype(np.float32)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array.setflags(write=False)
    return array


def _npz(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> dict[str, np.ndarray]:
    if not members or not all(name.endswith(".npy") for name in members):
        raise _Unknown("a zip archive, and neither PyTorch's nor numpy's")
    arrays = {}
    for name, member in members.items():
        with archive.open(member) as content:
            version = np.lib.format.read_magic(content)
            read = np.lib.format.read_array_header_1_0
            read = read if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, column_major, dtype = read(content)
            if dtype.hasobject or dtype.names:
                raise pickled.NotPlain(f"{name:.80} holds Python objects or records")
            body = content.read()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(body):
            raise ValueError(f"{name:.80} has {len(body)} bytes, and its head says {dtype} {list(shape)}")
        array = np.frombuffer(body, dtype).reshape(shape, order="F" if column_major else "C")
        arrays[name.removesuffix(".npy")] = _native(array)
    return arrays


def _safetensors(content: bytes) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    return {name: _native(array) for name, array in load(content).items()}
