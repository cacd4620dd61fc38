import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.data import Dataset, batch_indices, dataset, from_spec, load, share_images, to_float
from ganjax.errors import RunError, UsageError
from ganjax.gan import Context

IMAGES = np.arange(5 * 2 * 3 * 1, dtype=np.uint8).reshape(5, 2, 3, 1)
LABELS = np.array([0, 1, 2, 1, 0])
CONTEXT = Context(jax.random.key(0), jnp.arange(2))


def _dataset(reads, labels=LABELS):
    def fetch(indices):
        reads.append(len(indices))
        return dataset.with_labels(IMAGES[indices], None if labels is None else labels[indices])

    classes = 0 if labels is None else 3
    return Dataset("five", "train", (2, 3, 1), classes, dataset.numbered(classes), 5, fetch)


@pytest.mark.parametrize("labels", [LABELS, None])
def test_resident_and_random_access_read_the_same(monkeypatch, labels):
    kept, fetched = [], []
    small, large = _dataset(kept, labels), _dataset(fetched, labels)
    assert small.resident() is not None
    indices = small.indices(seed=3, start=8, count=4)
    expected = small.read(indices)
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 5 * 2 * 3 - 1)
    assert large.resident() is None
    got = large.read(large.indices(seed=3, start=8, count=4))
    assert got.keys() == expected.keys() == ({"image"} if labels is None else {"image", "label"})
    for key in got:
        np.testing.assert_array_equal(got[key], expected[key])
        assert got[key].dtype == expected[key].dtype
    assert (kept, fetched) == ([5], [4])  # once the whole set, or only the batch


def test_the_budget_is_inclusive(monkeypatch):
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 5 * 2 * 3)
    assert _dataset([]).resident() is not None


def test_indices_are_those_of_batch_indices():
    np.testing.assert_array_equal(_dataset([]).indices(1, 28, 4), batch_indices(5, 1, 28, 4))


def test_resident_arrays_are_shared_and_cannot_be_written():
    data = _dataset([])
    arrays = data.resident()
    assert arrays is not None
    with pytest.raises(ValueError, match="read-only"):
        arrays["image"][0] = 0
    batch = data.read(np.array([1, 1]))
    batch["image"][:] = 9  # a batch is the caller's own
    np.testing.assert_array_equal(data.read(np.array([1]))["image"], IMAGES[[1]])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_transform(wrap):
    data = _dataset([])
    raw = {"image": jnp.array([[[[0]], [[255]]]], jnp.uint8), "label": jnp.array([2], jnp.int32)}
    batch = wrap(lambda raw: data.transform(raw, CONTEXT))(raw)
    np.testing.assert_array_equal(batch["image"], [[[[-1.0]], [[1.0]]]])
    assert batch["image"].dtype == jnp.float32
    assert batch["label"].dtype == jnp.int32
    assert "label" not in data.transform({"image": raw["image"]}, CONTEXT)


def test_all_values_stay_in_range_and_come_back():
    values = jnp.arange(256, dtype=jnp.uint8)
    plain, compiled = to_float(values), jax.jit(to_float)(values)
    np.testing.assert_array_equal(plain, compiled)
    np.testing.assert_allclose(plain, np.arange(256) / 127.5 - 1, atol=1e-7)
    assert (plain[0], plain[-1]) == (-1, 1)
    np.testing.assert_array_equal(np.round((np.asarray(plain) + 1) * 127.5), values)


def test_metadata_survive_json():
    data = load("random", image_size=(4, 6))
    again = from_spec(json.loads(json.dumps(data.spec())))
    assert again.spec() == data.spec()
    assert (again.image_shape, again.num_classes, again.num_examples) == ((4, 6, 1), 10, 256)
    assert again.class_names == data.class_names
    np.testing.assert_array_equal(again.indices(0, 8, 8), data.indices(0, 8, 8))
    for use in (lambda: again.read(np.array([0])), again.resident):
        with pytest.raises(RunError, match="dataset random: not loaded"):
            use()


def test_foreign_metadata():
    with pytest.raises(UsageError, match="expected"):
        from_spec({"name": "mnist"})


def test_arrays_are_loaded_once_and_late():
    loads = []

    def load_arrays():
        loads.append(1)
        return IMAGES[..., 0], LABELS

    fetch = dataset.fetch_arrays(load_arrays, (4, 6, 3))
    assert not loads
    assert fetch(np.array([4, 0]))["image"].shape == (2, 4, 6, 3)
    np.testing.assert_array_equal(fetch(np.array([2, 3]))["label"], [2, 1])
    assert len(loads) == 1


@pytest.mark.parametrize(
    ("name", "split", "answer"),
    [
        ("svhn_cropped", "extra", False),
        ("svhn_cropped", "train[:50%] + extra", False),
        ("svhn_cropped", "test", True),
        ("svhn_cropped", "extra + test[10%:]", True),
        ("svhn_cropped", "all", True),
        ("svhn_cropped", "extra+all", True),
        ("svhn_cropped", "extra+", True),  # a part without a name
        ("svhn_cropped", "validation", False),  # a split of its own, where there is one
        ("toronto_faces", "validation", False),
        ("toronto_faces", "unlabelled", False),
        ("toronto_faces", "labelled", True),
        ("faces.mat", "labelled", True),
        ("nowhere.npz", "train", False),
        ("./nowhere", "validation", False),
    ],
)
def test_splits_that_share_images(name, split, answer):
    assert share_images(name, split, "test") == answer


@pytest.mark.parametrize(
    ("folders", "shared"),
    [
        (("train", "val"), {"test", "validation"}),
        (("train", "validation"), {"test", "validation"}),
        (("train", "test", "val"), {"test"}),
        (("train",), {"test"}),
        ((), {"test"}),
    ],
)
def test_names_of_one_folder_share_its_images(tmp_path, folders, shared):
    for folder in folders:
        (tmp_path / folder).mkdir()
    found = {split for split in ("train", "test", "validation") if share_images(str(tmp_path), split, "test")}
    assert found == shared


def test_a_link_to_the_test_folder(tmp_path):
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
    (tmp_path / "val").symlink_to("test")
    assert share_images(str(tmp_path), "validation", "test")
