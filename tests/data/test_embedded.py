import hashlib
import shutil

import numpy as np
import pytest

from ganjax.data import embedded, load
from ganjax.errors import RunError, UsageError


@pytest.fixture
def nowhere(tmp_path):
    """A data_dir without a prepared copy."""
    return tmp_path / "nowhere"


def test_mnist(nowhere):
    dataset = load("mnist", data_dir=nowhere)
    assert (dataset.num_examples, dataset.image_shape, dataset.num_classes) == (60_000, (28, 28, 1), 10)
    arrays = dataset.resident()
    assert arrays is not None
    # Published figures of the training set: the digits' counts, the first labels, the mean pixel 0.1307
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(arrays["label"]), counts)
    np.testing.assert_array_equal(arrays["label"][:8], [5, 0, 4, 1, 9, 2, 1, 3])
    assert arrays["image"].mean() / 255 == pytest.approx(0.1307, abs=5e-5)


def test_mnist_test_split(nowhere):
    dataset = load("mnist", split="test", data_dir=nowhere)
    batch = dataset.read(np.arange(5))
    assert dataset.num_examples == 10_000
    np.testing.assert_array_equal(batch["label"], [7, 2, 1, 0, 4])
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32


def test_mnist_resized(nowhere, monkeypatch):
    monkeypatch.setattr("ganjax.data.dataset.MEMORY_BUDGET", 0)  # only these few
    dataset = load("mnist", split="test", data_dir=nowhere, image_size=14, channels=3)
    image = dataset.read(np.array([0, 1]))["image"]
    assert image.shape == (2, 14, 14, 3) == (2, *dataset.image_shape)
    original = load("mnist", split="test", data_dir=nowhere).read(np.array([0, 1]))["image"]
    np.testing.assert_allclose(
        image.mean((1, 2, 3)), original.mean((1, 2, 3)), rtol=0.1
    )  # overshoot is cut off at 0


def test_mnist_damaged(nowhere, tmp_path, monkeypatch):
    folder = tmp_path / "mnist"
    shutil.copytree(str(embedded.FOLDER), folder)
    monkeypatch.setattr(embedded, "FOLDER", type(embedded.FOLDER)(folder))
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    dataset = load("mnist", split="test", data_dir=nowhere)  # metadata need no file
    with pytest.raises(RunError, match=r"t10k-labels.*damaged.*reinstall"):
        dataset.resident()


def test_mnist_unknown_split(nowhere):
    with pytest.raises(UsageError, match="no split 'tset', did you mean test"):
        load("mnist", split="tset", data_dir=nowhere)


def test_random_is_the_same_everywhere():
    arrays = load("random").resident()
    assert arrays is not None
    assert arrays["image"].shape == (256, 28, 28, 1)
    # the bits of Philox(0), which numpy promises to keep; computed once
    digest = hashlib.sha256(arrays["image"].tobytes()).hexdigest()
    assert digest.startswith("f6f6577b4c71ccfb")
    np.testing.assert_array_equal(arrays["label"][:12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])


def test_random_in_any_size():
    dataset = load("random", split="test", image_size=(3, 5), channels=3)
    assert dataset.read(dataset.indices(0, 0, 7))["image"].shape == (7, 3, 5, 3)
    train = load("random", image_size=(3, 5), channels=3)
    assert not np.array_equal(train.read([0])["image"], dataset.read([0])["image"])
    with pytest.raises(UsageError, match="no split 'val'"):
        load("random", split="val")


def test_licence_is_beside_the_archives():
    text = (embedded.FOLDER / "LICENSE").read_text()
    for words in ("Yann LeCun", "Corinna Cortes", "creativecommons.org/licenses/by-sa/3.0"):
        assert words in text
