import gzip

import numpy as np
import pytest

from ganjax.data import idx, load
from ganjax.errors import RunError, UsageError

# Worked out by hand from the format: magic 00 00 08 03, sizes 2, 1, 3, then six bytes
IMAGES = bytes.fromhex("00000803 00000002 00000001 00000003 000102030405")
LABELS = bytes.fromhex("00000801 00000002 0104")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_plain_and_gzipped(tmp_path, pack):
    path = tmp_path / "images.gz"  # the content decides, not the name
    path.write_bytes(pack(IMAGES))
    array = idx.read(path, 3)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, [[[0, 1, 2]], [[3, 4, 5]]])
    assert idx.read_shape(path, 3) == (2, 1, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(IMAGES, mtime=0)[:-9], "gzip archive of 30 bytes can't be unpacked .*cut short"),
        (gzip.compress(IMAGES, mtime=0)[:-8] + bytes(8), "can't be unpacked .*CRC"),
        (b"<html>not found</html>", "begins with 3c 68 74 6d, expected 00 00 08 03"),
        (LABELS, "1 axes, expected 3.*swapped"),
        (IMAGES[:9], "ends after 9 bytes, expected a head of 16"),
        (b"", "ends after 0 bytes"),
        (IMAGES[:-1], r"holds 5 values, expected 6 for the shape \(2, 1, 3\)"),
        (IMAGES + b"x", "holds 7 values, expected 6"),
        (bytes.fromhex("00000d03") + IMAGES[4:], "begins with 00 00 0d 03"),
    ],
    ids=["cut gzip", "bad gzip", "foreign", "labels", "cut head", "empty", "cut", "too long", "floats"],
)
def test_bad_content(tmp_path, content, message):
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(RunError, match=message) as caught:
        idx.read(path, 3)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_head_of_a_damaged_archive(tmp_path):
    (tmp_path / "bad").write_bytes(b"\x1f\x8bnonsense, and enough of it")
    with pytest.raises(RunError, match="damaged"):
        idx.read_shape(tmp_path / "bad", 3)


def test_missing_file(tmp_path):
    with pytest.raises(RunError, match="can't be read"):
        idx.read(tmp_path / "none", 3)
    with pytest.raises(RunError, match="can't be read"):
        idx.read_shape(tmp_path / "none", 3)


def _folder(tmp_path, images=IMAGES, labels=LABELS):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    return str(tmp_path)


def test_a_folder_of_idx_files_is_a_data_set(tmp_path):
    dataset = load(_folder(tmp_path))
    assert (dataset.num_examples, dataset.image_shape, dataset.num_classes) == (2, (1, 3, 1), 5)
    assert dataset.class_names == ("0", "1", "2", "3", "4")
    batch = dataset.read([1, 0])
    np.testing.assert_array_equal(batch["image"][..., 0], [[[3, 4, 5]], [[0, 1, 2]]])
    np.testing.assert_array_equal(batch["label"], np.array([4, 1], np.int32))


def test_opening_a_folder_reads_no_pixels(tmp_path):
    name = _folder(tmp_path, images=IMAGES[:-2])
    dataset = load(name)
    with pytest.raises(RunError, match="holds 4 values, expected 6"):
        dataset.read([0])


def test_folder_errors(tmp_path):
    name = _folder(tmp_path)
    with pytest.raises(UsageError, match="no split 'test', choose from: train"):
        load(name, split="test")
    _folder(tmp_path, labels=bytes.fromhex("00000801 00000001 01"))
    with pytest.raises(UsageError, match=r"2 images of 1x3 and .* 1 labels"):
        load(name)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UsageError, match="train-labels-idx1-ubyte"):
        load(name)
