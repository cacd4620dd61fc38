import zipfile

import numpy as np
import pytest

from ganjax.data import load
from ganjax.errors import RunError, UsageError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
LABELS = np.array([0, 3, 1, 0, 2], np.int64)


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_labelled(tmp_path, write):
    write(tmp_path / "a.npz", image=IMAGES, label=LABELS, seed=np.arange(5))
    data = load(str(tmp_path / "a.npz"))
    assert (data.num_examples, data.image_shape, data.num_classes) == (5, (4, 6, 3), 4)
    batch = data.read(np.array([1, 4]))
    np.testing.assert_array_equal(batch["image"], IMAGES[[1, 4]])
    np.testing.assert_array_equal(batch["label"], np.array([3, 2], np.int32))
    assert batch["label"].dtype == np.int32


def test_grey_without_channel_axis(tmp_path):
    data = load(save(tmp_path / "a.npz", image=IMAGES[..., 0]))
    assert (data.image_shape, data.num_classes) == ((4, 6, 1), 0)
    batch = data.read([2])
    assert batch.keys() == {"image"}
    np.testing.assert_array_equal(batch["image"], IMAGES[[2], ..., :1])


def test_resized_whether_kept_or_not(tmp_path, monkeypatch):
    name = save(tmp_path / "a.npz", image=IMAGES, label=LABELS)
    kept = load(name, image_size=(2, 3), channels=1)
    indices = np.array([3, 0, 3])
    expected = kept.read(indices)
    assert expected["image"].shape == (3, 2, 3, 1)
    monkeypatch.setattr("ganjax.data.dataset.MEMORY_BUDGET", 0)
    accessed = load(name, image_size=(2, 3), channels=1)
    assert accessed.resident() is None
    np.testing.assert_array_equal(accessed.read(indices)["image"], expected["image"])


def test_test_split(tmp_path):
    name = save(tmp_path / "a.npz", image=IMAGES, label=LABELS, image_test=IMAGES[:2], label_test=[9, 0])
    train, test = load(name), load(name, split="test")
    assert train.num_classes == test.num_classes == 10
    assert test.num_examples == 2
    with pytest.raises(UsageError, match="no split 'val'"):
        load(name, split="val")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "no array 'image'.* it holds images"),
        ({"image": IMAGES.astype(np.float32)}, r"'image' is float32 \[5, 4, 6, 3\], expected uint8"),
        ({"image": IMAGES[0, 0]}, r"\[6, 3\], expected \[N, H, W\]"),
        ({"image": IMAGES[..., :2]}, "expected 1, 3 or 4 channels"),
        ({"image": IMAGES[:0]}, "there are no images"),
        ({"image": IMAGES, "label": LABELS[:4]}, r"'label' is int64 \[4\], expected \[5\]"),
        ({"image": IMAGES, "label": LABELS[:, None]}, r"expected \[5\]"),
        ({"image": IMAGES, "label": LABELS / 2}, "'label' is float64 .* expected integers"),
        ({"image": IMAGES, "label": LABELS - 1}, "from -1 to 2, expected 0 and above"),
        ({"image": IMAGES, "label": LABELS + 2**31 - 4}, "and below 1000000"),
        ({"image": IMAGES, "label": LABELS.astype("m8[s]")}, "'label' is timedelta64.* expected integers"),
        ({"image": IMAGES, "image_test": np.uint8(3), "label_test": LABELS}, r"'label_test' is int64 \[5\]"),
    ],
)
def test_wrong_arrays(tmp_path, arrays, message):
    with pytest.raises(UsageError, match=message):
        load(save(tmp_path / "a.npz", **arrays))


def test_pickles_are_not_loaded(tmp_path):
    name = save(tmp_path / "a.npz", image=IMAGES, label=np.array([{}] * 5, object))
    with pytest.raises(UsageError, match="Python objects"):
        load(name)


def test_no_test_split(tmp_path):
    with pytest.raises(UsageError, match="no array 'image_test', which the test split needs"):
        load(save(tmp_path / "a.npz", image=IMAGES), split="test")


def head(text: str) -> bytes:
    """An array file with any head, and a few bytes of content."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(8)


HEADS = {
    "larger than memory": "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999,)}\n",
    "negative": "{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -2)}\n",
    "no description": "{[]: 1}\n",
    "no Python": "{\n",
    "too deep": "-" * 9000 + "1\n",
}


@pytest.mark.parametrize("text", HEADS.values(), ids=HEADS.keys())
def test_heads_that_describe_no_array(tmp_path, text):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image.npy", head(text))
    with pytest.raises(RunError, match=r"a.npz: the archive is damaged"):
        load(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("place", [6, 8], ids=["version", "encrypted"])
def test_an_archive_of_a_kind_that_is_not_read(tmp_path, place):
    path = tmp_path / "a.npz"
    save(path, image=IMAGES)
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x01\x02") + place] = 0xFF
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"a.npz: the archive is damaged"):
        load(str(path))


def test_foreign_and_damaged_files(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"hello")
    with pytest.raises(UsageError, match=r"not an .npz archive"):
        load(str(path))
    save(path, image=IMAGES)
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    with pytest.raises(RunError, match=r"a.npz: the archive is damaged"):
        load(str(path))
    save(path, image=np.zeros((100, 64, 64), np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[:-1000] + b"?" + content[-999:])  # one pixel: noticed by the checksum
    data = load(str(path))
    with pytest.raises(RunError, match=r"a.npz: the archive is damaged"):
        data.read([0])
