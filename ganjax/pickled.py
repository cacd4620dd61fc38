"""What a pickle holds, as plain data: its program is read, and nothing that it names is imported or called.

A pickle is a program for a stack machine. Python's own reader calls whatever callables the program names,
which makes a file that is read a file that is run. Here the same program moves inert values: a name stays a
`Name`, a call is looked up in `_CALLS` below, whose entries are functions of this module that make arrays and
plain containers of plain arguments, and any other name or instruction ends the reading.

Enough is understood for what PyTorch and NumPy write of tensors and arrays.
"""

import dataclasses
import math
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

# Where a file's tree is deeper than any network's, or has more places, it was made to exhaust the reader.
MAX_DEPTH = 64
MAX_LEAVES = 100_000
# Instructions take a byte each, and what they make some 70: a bound on what a small file can fill.
MAX_INSTRUCTIONS = 2**22
_SPARE = 2**20  # bytes that calls may make beyond those of the file that were read


class Name(NamedTuple):
    """A module's attribute as a pickle names it; only its text."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclasses.dataclass(eq=False)
class Thing:
    """An object of a class that we have no code of and want none of: its attributes, once they are known."""

    kind: Name
    state: Any = None


@dataclasses.dataclass(eq=False)
class Storage:
    """A flat piece of memory that tensors lie in. PyTorch keeps it beside the pickle, under `key`.

    Attributes:
      dtype: of its entries.
      key: how the file calls it.
      size: how many entries the pickle says that it has.
      start: its first entry in that memory, where it is a part of another.
    """

    dtype: np.dtype
    key: str
    size: int
    start: int = 0


class Tensor(NamedTuple):
    """A strided window into a storage, in entries. `dtype` stands in for the storage's where it is given."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype | None = None


class NotPlain(ValueError):
    """The pickle is more than data: it names, calls or does what is not understood here.

    Attributes:
      name: what it names, where it is that.
    """

    def __init__(self, text: str, name: Name | None = None):
        super().__init__(text)
        self.name = name


class Span:
    """Bytes that were left in a file that can be sought in: where they are, and how many."""

    def __init__(self, file: IO[bytes], start: int, size: int):
        self._file, self._start, self._size = file, start, size

    def __len__(self) -> int:
        return self._size

    def part(self, start: int, size: int) -> "Span":
        """Some of them. Raises ValueError where there are not as many."""
        if min(start, size) < 0 or start + size > self._size:
            raise ValueError("it is cut off")
        return Span(self._file, self._start + start, size)

    def read(self) -> bytes:
        """All of them. Raises ValueError where the file has become shorter."""
        self._file.seek(self._start)
        content = self._file.read(self._size)
        if len(content) != self._size:
            raise ValueError("it is cut off")
        return content


class Skimmed:
    """A file of which what is long is not read: `read` of more than `LONG` bytes gives their `Span`.

    So the program of a pickle is read, and the arrays in it are found and stay where they are. A claim of
    more bytes than there are is a ValueError before anything is allocated, and so is a program of more than
    `limit` bytes.
    """

    LONG = 2**18

    def __init__(self, span: Span, limit: int = 2**63):
        self._span, self._place, self._left = span, 0, limit

    def read(self, size: int = -1, /) -> Any:
        left = len(self._span) - self._place
        if size > left:
            raise ValueError("it is cut off")
        found = self._span.part(self._place, left if size < 0 else size)
        self._place += len(found)
        if len(found) > self.LONG:
            return found
        self._spend(len(found))
        return found.read()

    def readline(self, size: int | None = -1, /) -> bytes:
        del size
        line = self._span.part(self._place, min(self.LONG, len(self._span) - self._place)).read()
        line = line[: line.find(b"\n") + 1]
        self._place += len(line)
        self._spend(len(line))
        return line

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("it is a program of too many instructions")

    def skip(self, size: int) -> None:
        """As if so many bytes had been read. Raises ValueError where there are not as many."""
        self._span.part(self._place, size)
        self._place += size

    def tell(self) -> int:
        return self._place


class _Mark:
    pass


_MARK = _Mark()


def bfloat16() -> np.dtype:
    """The type of a bfloat16, which numpy itself does not have."""
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


_TYPES: dict[str, Callable[[], np.dtype]] = {
    "Double": lambda: np.dtype("<f8"),
    "Float": lambda: np.dtype("<f4"),
    "Half": lambda: np.dtype("<f2"),
    "BFloat16": bfloat16,
    "Long": lambda: np.dtype("<i8"),
    "Int": lambda: np.dtype("<i4"),
    "Short": lambda: np.dtype("<i2"),
    "Char": lambda: np.dtype("i1"),
    "Byte": lambda: np.dtype("u1"),
    "Bool": lambda: np.dtype("?"),
}
_TORCH_DTYPES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}


def load(
    file: "IO[bytes] | Skimmed",
    more: Mapping[Name, Callable[..., Any]] | None = None,
    instructions: int = MAX_INSTRUCTIONS,
) -> Any:
    """The value of one pickle, from where the file stands; it stands behind it afterwards.

    Args:
      file: may be `Skimmed`; can tell where it stands.
      more: what else may be called or, without arguments, made anew, by name: functions of ours that make
        plain values of plain arguments.
      instructions: how many the program may have.
    Returns:
      None, numbers, text, bytes, lists, tuples and dicts of such, arrays, `Thing`s, `Tensor`s, `Storage`s and
      `Name`s; sets as lists. One value may stand in several places, and within itself: go through it with
      `leaves`.
    Raises:
      NotPlain: it names or does what is not understood here.
      ValueError, and others: it is cut off or damaged.
    """
    return _Reader(more or {}, file, instructions).read()


class _Reader:
    """The stack machine. `memo` has what the program keeps for later."""

    def __init__(self, more: Mapping[Name, Callable[..., Any]], file: Any, instructions: int) -> None:
        self.more, self.calls = more, {**_CALLS, **more}
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._file, self._start, self._instructions = file, file.tell(), instructions
        self._made = 0

    def made(self, size: int) -> None:
        """A call made so many bytes. What PyTorch or NumPy wrote makes no more than twice what it holds, as
        text and as numbers; a program may ask for the same again and again. Raises ValueError."""
        self._made += size
        if self._made > 2 * (self._file.tell() - self._start) + _SPARE:
            raise ValueError("it makes more than there is in the file")

    def read(self) -> Any:
        instructions: Any = pickletools.genops(self._file)
        for count, (opcode, argument, _) in enumerate(instructions):
            if count >= self._instructions:
                raise ValueError("it is a program of too many instructions")
            name = opcode.name
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                self.memo[argument] = self.stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                self.stack.append(self.memo[argument])
            elif name == "STOP":
                return self.pop()
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise NotPlain(f"it has the instruction {name}")
        raise ValueError("it is cut off")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("its stack does not fit")
        return value

    def marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]


def _memoize(reader: _Reader, _: Any) -> None:
    reader.memo[len(reader.memo)] = reader.stack[-1]


def _tuple(reader: _Reader, count: int) -> None:
    reader.stack.append(tuple([reader.pop() for _ in range(count)][::-1]))


def _append(reader: _Reader, values: list[Any]) -> None:
    target = reader.stack[-1]
    if not isinstance(target, list):
        raise NotPlain("it appends to what is no list")
    target.extend(values)


def _set_items(reader: _Reader, values: list[Any]) -> None:
    target = reader.stack[-1]
    if not isinstance(target, dict):
        raise NotPlain("it sets items of what is no dict")
    target.update(_pairs(values))


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise ValueError("a key has no value")
    keys = values[::2]
    if not all(isinstance(key, str | int) for key in keys):  # others' hashes may recurse without end
        raise NotPlain("a dict has a key that is neither text nor a number")
    return dict(zip(keys, values[1::2], strict=True))


def _name(reader: _Reader, module: Any, name: Any) -> None:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise NotPlain("it names what is no text")
    found = Name(module, name)
    known = (
        found in reader.calls or found in _NAMES or _is_scripted(found) or _storage_type(found) is not None
    )
    if not known:
        raise NotPlain(f"it names {_short(found)}", found)
    reader.stack.append(found)


def _stack_global(reader: _Reader, _: Any) -> None:
    name, module = reader.pop(), reader.pop()
    _name(reader, module, name)


def _call(reader: _Reader, _: Any) -> None:
    arguments, function = reader.pop(), reader.pop()
    if not isinstance(function, Name) or function not in reader.calls or not isinstance(arguments, tuple):
        raise NotPlain(f"it calls {_short(function)}")
    found = reader.calls[function](*arguments)
    reader.made(_size(found))
    reader.stack.append(found)


def _size(made: Any) -> int:
    """Bytes that a call took for its result, about."""
    if isinstance(made, bytes):
        return len(made)
    if isinstance(made, dict):
        return 4 * len(made)
    return getattr(made, "nbytes", 0)


def _new(reader: _Reader, _: Any) -> None:
    arguments, kind = reader.pop(), reader.pop()
    known = isinstance(kind, Name) and (kind in reader.more or _is_scripted(kind))
    if not known or arguments != ():
        raise NotPlain(f"it makes a {_short(kind)}")
    reader.stack.append(reader.more[kind]() if kind in reader.more else Thing(kind))


def _build(reader: _Reader, _: Any) -> None:
    state = reader.pop()
    target = reader.stack[-1]
    if isinstance(target, Thing):
        target.state = state
    elif isinstance(target, _Array | _DType):
        target.build(state)
        reader.made(target.nbytes if isinstance(target, _Array) else 0)
    elif not isinstance(target, dict):  # an OrderedDict's attributes: PyTorch's versions of modules
        raise NotPlain("it sets attributes of what has none")


def _persistent(reader: _Reader, _: Any) -> None:
    what = reader.pop()
    if not (isinstance(what, tuple) and len(what) in (5, 6) and what[0] == "storage"):
        raise NotPlain("it refers to what is not a tensor's memory")
    kind, key, _, size = what[1:5]
    dtype = _storage_type(kind) if isinstance(kind, Name) else None
    if dtype is None or not isinstance(key, str) or not isinstance(size, int) or size < 0:
        raise NotPlain(f"it refers to a storage of the type {_short(kind)}")
    view = what[5] if len(what) == 6 else None  # the legacy format's: the part of another storage
    if view is None:
        reader.stack.append(Storage(dtype, key, size))
        return
    _, start, length = view
    if not all(isinstance(n, int) and n >= 0 for n in (start, length)) or start + length > size:
        raise ValueError("a storage lies outside of the one that it is a part of")
    reader.stack.append(Storage(dtype, key, length, start))


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_STEPS: dict[str, Callable[[_Reader, Any], Any]] = {
    "POP": lambda reader, _: reader.stack.pop(),
    "POP_MARK": lambda reader, _: reader.marked(),
    "DUP": lambda reader, _: reader.stack.append(reader.stack[-1]),
    "MEMOIZE": _memoize,
    "TUPLE": lambda reader, _: reader.stack.append(tuple(reader.marked())),
    "TUPLE1": lambda reader, _: _tuple(reader, 1),
    "TUPLE2": lambda reader, _: _tuple(reader, 2),
    "TUPLE3": lambda reader, _: _tuple(reader, 3),
    "LIST": lambda reader, _: reader.stack.append(reader.marked()),
    "DICT": lambda reader, _: reader.stack.append(_pairs(reader.marked())),
    "APPEND": lambda reader, _: _append(reader, [reader.pop()]),
    "APPENDS": lambda reader, _: _append(reader, reader.marked()),
    "ADDITEMS": lambda reader, _: _append(reader, reader.marked()),
    "FROZENSET": lambda reader, _: reader.stack.append(reader.marked()),
    "SETITEM": lambda reader, _: _set_items(reader, [reader.pop(), reader.pop()][::-1]),
    "SETITEMS": lambda reader, _: _set_items(reader, reader.marked()),
    "GLOBAL": lambda reader, argument: _name(reader, *argument.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _call,
    "NEWOBJ": _new,
    "BUILD": _build,
    "BINPERSID": _persistent,
}


def _is_scripted(name: Name) -> bool:
    """A class of a TorchScript archive, whose code is in the archive and stays there."""
    return name.module.split(".")[0] == "__torch__"


def _storage_type(name: Name) -> np.dtype | None:
    if name == Name("torch.storage", "UntypedStorage"):
        return np.dtype("u1")
    kind = name.name.removesuffix("Storage")
    if name.module == "torch" and kind != name.name and kind in _TYPES:
        return _TYPES[kind]()
    return None


def _short(what: Any) -> str:
    text = str(what) if isinstance(what, Name) else type(what).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def _integers(values: Any, name: str) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > 32:
        raise ValueError(f"a tensor's {name} is no list of numbers")
    if not all(isinstance(value, int) and value >= 0 for value in values):
        raise ValueError(f"a tensor's {name} is no list of numbers of at least 0")
    return tuple(int(value) for value in values)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise NotPlain("a tensor has no storage")
    shape, strides = _integers(shape, "shape"), _integers(strides, "strides")
    if len(shape) != len(strides):
        raise ValueError("a tensor has not as many strides as axes")
    return Tensor(storage, _integers([offset], "offset")[0], shape, strides)


def _tensor_of_type(
    storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, dtype: Any, *___: Any
):
    """What newer releases write of some types: the storage is bytes, offset and strides are in entries."""
    kind = _TORCH_DTYPES.get(dtype.name) if isinstance(dtype, Name) else None
    if kind is None:
        raise NotPlain(f"a tensor has the type {_short(dtype)}")
    return _tensor(storage, offset, shape, strides)._replace(dtype=_TYPES[kind]())


def _parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise NotPlain("a parameter is no tensor")
    return tensor


def _ordered(*arguments: Any) -> dict[Any, Any]:
    if not arguments:
        return {}
    (items,) = arguments
    values = []
    for item in items if isinstance(items, list | tuple) else ():
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise NotPlain("an OrderedDict is made of what is no pair")
        values.extend(item)
    return _pairs(values)


class _DType:
    """A numpy type while it is put together: the code first, its byte order by a later instruction."""

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or code not in _NUMPY_CODES:
            raise NotPlain("an array's entries are no plain numbers")
        self.dtype = np.dtype(code).newbyteorder("<")

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("an array's type is damaged")
        if state[2:5] != (None, None, None):
            raise NotPlain("an array's entries are records")
        self.dtype = self.dtype.newbyteorder("<" if state[1] == "=" else state[1])


_NUMPY_CODES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


class _Array:
    """A numpy array while it is put together."""

    def __init__(self, *_: Any):
        self.array: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        return 0 if self.array is None else self.array.nbytes

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array is damaged")
        _, shape, dtype, column_major, content = state
        self.array = _array_of(content, dtype, shape, "F" if column_major is True else "C")


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    return _array_of(content, dtype, shape, order)


def _scalar(dtype: Any, content: Any) -> np.ndarray:
    return _array_of(content, dtype, (), "C")


def _array_of(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(content, str):  # protocol 2 has no bytes
        content = content.encode("latin1")
    if isinstance(content, Span):
        content = content.read()
    if not isinstance(content, bytes | bytearray) or not isinstance(dtype, _DType):
        raise NotPlain("an array is not made of bytes")
    shape = _integers(shape, "shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(content):
        raise ValueError(f"an array of the shape {list(shape)} has {len(content)} bytes")
    return np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise NotPlain("it encodes what is no text")
    return text.encode("latin1")


def _empty() -> bytes:
    """How protocol 2 writes no bytes."""
    return b""


def _plain(value: Any = (), *_: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise NotPlain("it makes a list of what is none")
    return value


_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_CALLS: Mapping[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): _ordered,
    **{Name(module, "set"): _plain for module in ("__builtin__", "builtins")},
    Name("_codecs", "encode"): _encode,
    Name("__builtin__", "bytes"): _empty,
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
    Name("torch._utils", "_rebuild_parameter"): _parameter,
    Name("torch", "Size"): _plain,
    **{
        Name("torch.jit._pickle", f"build_{kind}list"): _plain for kind in ("int", "bool", "double", "tensor")
    },
    Name("numpy", "dtype"): _DType,
    **{Name(module, "_reconstruct"): _Array for module in _ARRAY_MODULES},
    **{Name(module, "scalar"): _scalar for module in _ARRAY_MODULES},
    **{Name(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}
# Names that are arguments and are never called.
_NAMES = {Name("numpy", "ndarray"), *(Name("torch", dtype) for dtype in _TORCH_DTYPES)}


def leaves(tree: Any) -> dict[str, Tensor | np.ndarray]:
    """Path -> every tensor and array in a tree of dicts, lists and attributes, the keys joined by dots.

    Raises:
      ValueError: the tree is deeper than `MAX_DEPTH`, has more than `MAX_LEAVES` places, or two leaves of one
        path.
    """
    found: dict[str, Tensor | np.ndarray] = {}
    places = 0
    waiting: list[tuple[str, int, Any]] = [("", 0, tree)]
    while waiting:
        path, depth, value = waiting.pop()
        places += 1
        if isinstance(value, Thing):
            value = value.state
        if isinstance(value, _Array):
            value = value.array
        if isinstance(value, np.ndarray) or type(value) is Tensor:
            if path in found:
                raise ValueError(f"two arrays have the name {path[:80]}")
            found[path] = value
            continue
        if isinstance(value, dict):
            children = list(value.items())
        elif isinstance(value, list | tuple) and not isinstance(value, Name):
            children = list(enumerate(value))
        else:
            continue
        if depth == MAX_DEPTH or places + len(waiting) + len(children) > MAX_LEAVES:
            raise ValueError("its tree has no end")
        for key, child in reversed(children):
            waiting.append((f"{path}.{key}" if path else str(key), depth + 1, child))
    return found
