"""Whatever a data file holds: a valid set, or one line that names the file. No code in it is run."""

import functools
import gzip
import io
import os
import pathlib
import pickle
import struct
import warnings
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from ganjax import data
from ganjax.data import idx
from ganjax.errors import RunError, UsageError
from tests.fuzz.harness import Edit, edited, edits, fuzzed

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (6, 5, 4, 3)).astype(np.uint8)
GREY = NOISE[..., 0]
LABELS = np.array([0, 1, 2, 0, 1, 2])

options = st.fixed_dictionaries(
    {},
    optional={
        "image_size": st.sampled_from([1, 3, 8, (2, 5)]),
        "channels": st.sampled_from([1, 3, 4]),
        "split": st.sampled_from(["train", "test", "validation", "x"]),
    },
)


def loads_or_says_why(path: pathlib.Path, settings: dict[str, Any]) -> data.Dataset | None:
    """Loads and reads everything: all is as it was declared, or the error names the file."""
    try:
        found = data.load(str(path), **settings)
        assert found.num_examples > 0
        assert all(isinstance(size, int) and size > 0 for size in found.image_shape)
        assert found.image_shape[2] == settings.get("channels", found.image_shape[2])
        assert 0 <= found.num_classes == len(found.class_names)
        spec = found.spec()
        assert data.from_spec(spec).spec() == spec
        shape = found.example(2)["image"].shape
        assert shape == (2, *found.image_shape)
        batch = found.read(np.arange(found.num_examples))
    except (UsageError, RunError) as error:
        said = str(error)
    else:
        is_as_declared(found, batch)
        return found
    assert str(path) in said, said
    assert len(said) < 2000, said
    return None


def is_as_declared(found: data.Dataset, batch: dict[str, np.ndarray]) -> None:
    count = found.num_examples
    assert set(batch) == ({"image", "label"} if found.num_classes else {"image"})
    assert batch["image"].shape == (count, *found.image_shape)
    assert batch["image"].dtype == np.uint8
    if found.num_classes:
        assert batch["label"].shape == (count,)
        assert batch["label"].dtype == np.int32
        assert 0 <= batch["label"].min() <= batch["label"].max() < found.num_classes


# idx.


def idx_file(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


IDX = {
    "train-images-idx3-ubyte": idx_file(GREY),
    "train-labels-idx1-ubyte": idx_file(LABELS.astype(np.uint8)),
    "t10k-images-idx3-ubyte": idx_file(GREY[:2]),
    "t10k-labels-idx1-ubyte": idx_file(LABELS[:2].astype(np.uint8)),
}
sizes = st.one_of(
    st.integers(0, 8), st.integers(0, 2**32 - 1), st.sampled_from([2**16, 2**31 - 1, 2**31, 2**32 - 1])
)
heads = st.tuples(
    st.sampled_from([0x0801, 0x0803, 0x0803, 0x0803, 0x0800, 0x08FF, 0x0D03, 0x01000803, 0x1F8B0803]),
    st.lists(sizes, max_size=4),
).map(lambda head: struct.pack(f">I{len(head[1])}I", head[0], *head[1]))
idx_contents = st.one_of(
    edits,
    heads,
    st.tuples(heads, st.binary(max_size=80)).map(b"".join),
    st.binary(max_size=30),
)
# How a file lies on the disk: plain, packed, or packed and then damaged.
packings = st.one_of(st.just(None), st.just([]), edits)
idx_sets = st.tuples(
    st.dictionaries(st.sampled_from(sorted(IDX)), st.tuples(idx_contents, packings), max_size=2),
    st.sets(st.sampled_from(sorted(IDX)), max_size=1),
    options,
)


def idx_files(case: tuple[dict, set[str], dict], folder: pathlib.Path) -> None:
    """A folder like MNIST's."""
    damaged, missing, settings = case
    for name, whole in IDX.items():
        content, packing = damaged.get(name, (whole, None))
        content = edited(whole, content) if isinstance(content, list) else content
        if packing is not None:
            content, name = edited(gzip.compress(content, 1), packing), f"{name}.gz"
        if name not in missing:
            (folder / name).write_bytes(content)
    found = loads_or_says_why(folder, settings)
    if not (settings or missing or any("train" in name for name in damaged)):
        assert found is not None
        np.testing.assert_array_equal(found.read(np.arange(6))["image"][..., 0], GREY)


def test_a_gzip_archive_is_unpacked_no_further_than_its_head_says(tmp_path, monkeypatch):
    """A hundred kilobytes that would unpack to a hundred megabytes."""
    for name, whole in IDX.items():
        bomb = whole + bytes(100_000_000) if "train" in name else whole
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(bomb, 9))
    unpacked: list[int] = []
    unpack = idx.unpack

    def watched(*arguments: Any) -> bytes:
        content = unpack(*arguments)
        unpacked.append(len(content))
        return content

    monkeypatch.setattr(idx, "unpack", watched)
    assert loads_or_says_why(tmp_path, {}) is None
    assert unpacked
    assert max(unpacked) < 1000


# npz.


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


def npy_of(header: str, content: bytes, version: tuple[int, int]) -> bytes:
    """An array file with any text as its head."""
    text = header.encode("utf-8", "surrogatepass") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + content


ARRAYS = {
    "image": NOISE,
    "label": LABELS,
    "image_test": NOISE[:2],
    "label_test": LABELS[:2],
}
types = st.one_of(
    st.sampled_from([
        "u1", "|u1", "<i8", ">i4", "<u8", "<f4", "?", "|O", "O", "<m8", "<m8[s]", "<M8[D]", "<c8", "<U3",
        "|S2", "|V1",
        "|b1", "i1", "a5", "", "x", "(2,)u1", "u1,u1", "O,u1",
    ]).map(repr),
    st.sampled_from(["[('a', '|u1')]", "[('a', '|O')]", "[]", "()", "1", "None", "{}", "('|u1', (3,))",
    "True"]),
)  # fmt: skip
dimensions = st.one_of(
    st.lists(
        st.one_of(st.integers(-2, 7), st.sampled_from([2**20, 2**31, 2**40, 2**63, 10**30])), max_size=5
    ).map(lambda shape: "(" + "".join(f"{size}, " for size in shape) + ")"),
    st.sampled_from(
        ["(6, 5, 4, 3)", "(6,)", "(6,)", "6", "None", "[6]", "(6.0,)", "(True,)", "('6',)", "(6L,)"]
    ),
)
headers = st.one_of(
    st.builds(
        "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}".format,
        types,
        st.sampled_from(["False", "False", "False", "True", "1", "None"]),
        dimensions,
    ),
    st.sampled_from([
        "", "{", "{}", "[]", "()", "(" * 300, "[" * 5000, "{'descr': '|u1'}", "{[]: 1}", "'", "'''", "\\",
        "\0", "1/0",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1,), 'more': 1}", "  x", "x\n  y\n z", "exit()",
        "__import__('os').abort()", "{'shape': -" + "9" * 5000 + "}", "\ud800", "é" * 9000, "-" * 9000 + "1",
    ]),
    st.text(max_size=40),
)  # fmt: skip
labels_of_a_kind = st.builds(
    lambda values, count, kind: npy(np.resize(np.array(values), count).astype(kind)),
    st.lists(
        st.sampled_from([0, 1, 2, -1, 255, 40_000, 2_000_000, 2**31 - 2, 2**31 - 1, 2**31, 2**40]),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([6, 6, 6, 2, 2, 5, 0]),
    st.sampled_from(
        ["u1", "i1", "<i2", ">i4", "<i8", "<u8", "<f8", "?", "<m8[s]", "<M8[D]", "O", "<U4", "<c8"]
    ),
)
npy_contents = st.one_of(
    edits,
    st.builds(
        npy_of, headers, st.binary(max_size=400), st.sampled_from([(1, 0), (2, 0), (3, 0), (0, 0), (9, 9)])
    ),
    st.builds(npy_of, headers, st.just(bytes(500)), st.sampled_from([(1, 0), (2, 0), (3, 0)])),
    labels_of_a_kind,
    st.binary(max_size=30),
)
members = st.dictionaries(
    st.sampled_from(["image.npy", "label.npy", "image_test.npy", "label_test.npy", "image", "label",
    "x.npy", "x/y",
                     "../image.npy", "\udcff".encode("utf-8", "replace").decode(), ".npy", "image.npy.npy"]),
    npy_contents,
    max_size=2,
)  # fmt: skip
methods = st.sampled_from(
    [zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
# What the archive's own records say of its members: another method, encrypted, other sizes.
twists = st.lists(
    st.tuples(
        st.sampled_from(["local", "central"]),
        st.sampled_from([4, 6, 8, 10, 14, 18, 22, 24, 26, 28, 32, 38, 42]),
        st.integers(0, 2**16 - 1),
    ),
    max_size=2,
)
archives = st.tuples(
    members,
    st.sets(st.sampled_from(sorted(ARRAYS)), max_size=2),
    methods,
    twists,
    st.one_of(st.just([]), edits),
    options,
)


def archive(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as made:
        warnings.simplefilter("ignore")  # of two members with one name
        for name, content in files.items():
            made.writestr(name, content)
    return file.getvalue()


def twisted(content: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    """An archive, each of whose local or central records has a field overwritten."""
    changed = bytearray(content)
    for kind, offset, value in changes:
        magic = b"PK\x03\x04" if kind == "local" else b"PK\x01\x02"
        at = content.find(magic)
        if 0 <= at < len(changed) - offset - 2:
            changed[at + offset : at + offset + 2] = struct.pack("<H", value)
    return bytes(changed)


def npz_files(case: tuple[dict, set[str], int, list, list[Edit], dict], folder: pathlib.Path) -> None:
    """An archive with any members, whole or damaged."""
    changed, missing, method, changes, damage, settings = case
    files = {f"{name}.npy": npy(array) for name, array in ARRAYS.items() if name not in missing}
    for name, content in changed.items():
        files[name] = edited(files.get(name, npy(NOISE)), content) if isinstance(content, list) else content
    path = folder / "set.npz"
    path.write_bytes(edited(twisted(archive(files, method), changes), damage))
    found = loads_or_says_why(path, settings)
    if not (settings or changed or missing or changes or damage):
        assert found is not None
        np.testing.assert_array_equal(found.read(np.arange(6))["image"], NOISE)


# No code is run.


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: pathlib.Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_the_payload_would_leave_a_mark(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def pickled(mark: pathlib.Path, shape: tuple[int, ...], kind: Any) -> bytes:
    array = np.empty(shape, kind)
    array.fill(Payload(mark) if kind is object else (Payload(mark), 1))
    return npy(array)


KINDS = [object, np.dtype([("a", object), ("b", np.uint8)])]
pickles = st.tuples(
    st.dictionaries(
        st.sampled_from(sorted([*ARRAYS, "more"])),
        st.tuples(st.sampled_from([(6,), (6, 5, 4, 3), (2,), ()]), st.integers(0, 1)),
        min_size=1,
    ),
    st.one_of(st.just([]), edits),
    st.sampled_from(["", ".npy"]),
    options,
)


def npz_files_with_pickles(case: tuple[dict, list[Edit], str, dict], folder: pathlib.Path) -> None:
    """Arrays of Python objects: refused where they would be needed, and unpickled nowhere."""
    chosen, damage, ending, settings = case
    mark = folder / "mark"
    files = {f"{name}.npy": npy(array) for name, array in ARRAYS.items() if name not in chosen}
    for name, (shape, kind) in chosen.items():
        files[f"{name}{ending}"] = pickled(mark, shape, KINDS[kind])
    path = folder / "set.npz"
    path.write_bytes(edited(archive(files), damage))
    found = loads_or_says_why(path, settings)
    assert not mark.exists()
    if found is not None and not damage:
        assert "image" not in chosen or settings.get("split") == "test"


@pytest.mark.parametrize("name", ["set.npz", "train-images-idx3-ubyte", "a.png"])
def test_a_bare_pickle_is_not_unpickled(tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-labels-idx1-ubyte").write_bytes(IDX["train-labels-idx1-ubyte"])
    (tmp_path / "data" / name).write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    path = tmp_path / "data" / name if name.endswith(".npz") else tmp_path / "data"
    assert loads_or_says_why(path, {}) is None
    assert not (tmp_path / "mark").exists()


# Images.


@functools.cache
def pictures() -> dict[str, bytes]:
    """Small images, one a format and a mode."""
    colours = Image.fromarray(NOISE[0])
    kinds = {
        "rgb.png": colours,
        "rgba.png": colours.convert("RGBA"),
        "grey.png": colours.convert("L"),
        "palette.png": colours.convert("P"),
        "one.png": colours.convert("1"),
        "grey16.png": Image.fromarray(NOISE[0, ..., 0].astype(np.uint16) * 257),
        "rgb.jpg": colours,
        "grey.jpg": colours.convert("L"),
        "cmyk.jpg": colours.convert("CMYK"),
        "x.gif": colours.convert("P"),
        "x.webp": colours,
        "x.bmp": colours,
        "palette.bmp": colours.convert("P"),
        "x.ppm": colours,
        "x.pgm": colours.convert("L"),
        "x.tif": colours,
    }
    made = {}
    for name, image in kinds.items():
        file = io.BytesIO()
        options: dict[str, Any] = {"exif": _turned()} if name in ("rgb.jpg", "rgb.png") else {}
        if name == "palette.png":
            options["transparency"] = 3
        image.save(file, Image.registered_extensions()[pathlib.Path(name).suffix], **options)
        made[name] = file.getvalue()
    return made


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the right checksums, as far as their lengths hold: damage gets further in."""
    at, parts = 8, [content[:8]]
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        if at + 12 + length > len(content):
            break
        body = content[at + 4 : at + 8 + length]
        parts.append(content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join([*parts, content[at:]])


# Formats that Pillow knows and that no set of images is in. PostScript is a program.
FOREIGN = {
    "program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 5\n%%EndComments\nshowpage\n%%EOF\n",
    "text.png": b"not an image",
    "empty.png": b"",
    "xpm.png": b'/* XPM */\nstatic char *a[] = {\n"1 1 1 1",\n"a c #ff0000",\n"a"\n};\n',
    "xbm.png": b"#define a_width 4\n#define a_height 5\nstatic char a_bits[] = {\n0x01, 0x02 };\n",
    "floats.png": b"PF\n1 1\n-1.0\n" + struct.pack("<3f", 0, 0.5, 1),
    "huge.ppm": b"P6\n60000 60000\n255\n" + bytes(100),
    "large.ppm": b"P6\n12000 12000\n255\n" + bytes(100),
    "huge.bmp": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, 40000, 40000, 1, 24, 0, 100, 1, 1, 0, 0),
}

names_of_images = st.sampled_from(
    ["a.png", "b.png", "c.jpg", "d.JPEG", "e.gif", "f.webp", "g.bmp", "h.tif", "i.txt", ".j.png", "k"]
)
folders = st.sampled_from(
    ["", "", "cat", "dog", "train", "train/cat", "train/dog", "test/cat", "val/cat", "cat/deep"]
)
contents = st.one_of(
    st.tuples(st.sampled_from(sorted(pictures())), st.just([]), st.just(False)),
    st.tuples(st.sampled_from(sorted(pictures())), edits, st.booleans()),
    st.tuples(st.sampled_from(sorted(pictures())), edits, st.booleans()),
    st.tuples(st.sampled_from(sorted(FOREIGN)), st.one_of(st.just([]), edits), st.just(False)),
)
image_folders = st.tuples(
    st.dictionaries(st.tuples(folders, names_of_images), contents, min_size=1, max_size=4), options
)


def folders_of_images(case: tuple[dict, dict], folder: pathlib.Path) -> None:
    """Images of every format, whole or damaged, in any folders, and files that are none."""
    files, settings = case
    for (place, name), (source, damage, mend) in files.items():
        content = edited(pictures().get(source) or FOREIGN.get(source, b""), damage)
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / name).write_bytes(with_checksums(content) if mend else content)
    loads_or_says_why(folder, settings)


def one_image(case: tuple[tuple[str, list[Edit], bool], dict], folder: pathlib.Path) -> None:
    """A single damaged image: it is decoded to its form, or refused."""
    (source, damage, mend), settings = case
    content = edited(pictures().get(source) or FOREIGN.get(source, b""), damage)
    (folder / "a.png").write_bytes(with_checksums(content) if mend else content)
    found = loads_or_says_why(folder, {**settings, "split": "train"})
    if source in pictures() and not damage:
        assert found is not None


def test_a_program_in_an_images_place_is_not_run(tmp_path, monkeypatch):
    """Pillow has Ghostscript run what looks like PostScript, whatever it is called."""
    from PIL import EpsImagePlugin

    def ghostscript(*args: Any, **options: Any):
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    (tmp_path / "a.png").write_bytes(FOREIGN["program.png"])
    assert loads_or_says_why(tmp_path, {"image_size": 4}) is None


test_idx_files, test_idx_files_at_length = fuzzed(idx_files, idx_sets, few=60, many=1500, memory=True)
test_npz_files, test_npz_files_at_length = fuzzed(npz_files, archives, few=60, many=2000, memory=True)
test_npz_files_with_pickles, test_npz_files_with_pickles_at_length = fuzzed(
    npz_files_with_pickles, pickles, few=30, many=500, memory=True
)
test_folders_of_images, test_folders_of_images_at_length = fuzzed(
    folders_of_images, image_folders, few=40, many=1000, memory=True
)
test_one_image, test_one_image_at_length = fuzzed(
    one_image, st.tuples(contents, options), few=60, many=2000, memory=True
)
