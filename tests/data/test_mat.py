"""Files of the Toronto Face Database's form; the database itself is not to be had."""

import numpy as np
import pytest
from scipy import io

from ganjax import data
from ganjax.data import load
from ganjax.errors import RunError, UsageError

FOLDS = np.array([0, 1, 3, 0, 2, 1, 1, 0], np.int16)
EXPRESSIONS = np.array([-1, 7, 2, -1, 1, 3, -1, -1], np.int16)  # of the last that trains there is none
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 6, 5), np.uint8)


def save(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "images": IMAGES,
        "labs_ex": EXPRESSIONS[:, None],
        "labs_id": np.zeros((8, 1)),
        "folds": np.stack([FOLDS, *[np.roll(FOLDS, k) for k in range(4)]], axis=1),
        "note": {"by": "a struct, which is not read"},
    } | changes
    io.savemat(path, {key: value for key, value in arrays.items() if value is not None})
    return str(path)


@pytest.mark.parametrize(
    ("split", "places"),
    [("train", [1, 5]), ("validation", [4]), ("test", [2]), ("labelled", [1, 2, 4, 5])],
)
@pytest.mark.parametrize("named", [True, False])
def test_labelled_splits(tmp_path, split, places, named):
    path = save(tmp_path / "toronto_faces" / "TFD_48x48.mat")
    faces = load("toronto_faces" if named else path, split=split, data_dir=tmp_path)
    assert (faces.name, faces.split) == ("toronto_faces" if named else path, split)
    assert (faces.image_shape, faces.num_classes, faces.num_examples) == ((6, 5, 1), 7, len(places))
    assert faces.class_names == ("1", "2", "3", "4", "5", "6", "7")
    batch = faces.read(np.arange(len(places)))
    np.testing.assert_array_equal(batch["image"][..., 0], IMAGES[places])
    assert batch["label"].tolist() == [EXPRESSIONS[place] - 1 for place in places]
    assert data.from_spec(faces.spec()).spec() == faces.spec()


def test_the_unlabelled_split(tmp_path):
    save(tmp_path / "toronto_faces" / "a.mat")
    faces = load("toronto_faces", split="unlabelled", data_dir=tmp_path, image_size=(3, 3), channels=3)
    assert (faces.num_classes, faces.num_examples, faces.image_shape) == (0, 3, (3, 3, 3))
    batch = faces.read(np.array([2]))
    assert batch.keys() == {"image"}
    assert batch["image"].shape == (1, 3, 3, 3)
    whole = load("toronto_faces", split="unlabelled", data_dir=tmp_path).read(np.array([2]))
    np.testing.assert_array_equal(whole["image"][0, ..., 0], IMAGES[7])


def test_of_several_files_the_smallest_that_is_large_enough_is_read(tmp_path):
    save(tmp_path / "toronto_faces" / "TFD_96x96.mat", images=IMAGES.repeat(2, axis=1).repeat(2, axis=2))
    save(tmp_path / "toronto_faces" / "TFD_48x48.mat")
    io.savemat(tmp_path / "toronto_faces" / "TFD_info.mat", {"names": np.zeros(3)})
    for size, height in ((None, 6), (4, 6), (5, 6), (8, 12), (99, 12)):
        found = data.mat.find(tmp_path / "toronto_faces" / "..", (size, size) if size else None)
        assert data.mat._shapes(found)["images"][1] == height, size


def test_not_there(tmp_path):
    for folder in (tmp_path / "empty", tmp_path):
        with pytest.raises(RunError, match="no public download: ask its authors") as raised:
            load("toronto_faces", data_dir=folder)
        assert str(folder / "toronto_faces") in str(raised.value)
        (tmp_path / "toronto_faces").mkdir(exist_ok=True)
    with pytest.raises(UsageError, match="no such file"):
        load(str(tmp_path / "x.mat"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": None}, "no array 'folds'; of .mat files only the Toronto Face Database's"),
        ({"images": IMAGES[0]}, r"images \[6, 5\]: expected \[N, H, W\]"),
        ({"images": np.zeros((8, 1, 4097), np.uint8)}, r"images \[8, 1, 4097\]: .* up to 4096"),
        ({"labs_ex": EXPRESSIONS[:7]}, r"labs_ex \[1, 7\] and folds \[8, 5\]"),
        ({"labs_ex": np.full((8, 1), 8)}, "labs_ex: expected -1, or 1 to 7"),
        ({"labs_ex": "anger"}, "labs_ex: expected an array of numbers"),
        ({"folds": np.zeros((8, 5))}, "its split 'train' holds no image"),
    ],
)
def test_another_files_arrays(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        load(save(tmp_path / "x.mat", **changes))


def test_pixels_of_another_type(tmp_path):
    with pytest.raises(UsageError, match="expected uint8"):
        load(save(tmp_path / "x.mat", images=IMAGES / 255.0)).read(np.array([0]))


def test_splits_there_are_not(tmp_path):
    with pytest.raises(UsageError, match="no split 'unlabeled', did you mean unlabelled"):
        load(save(tmp_path / "x.mat"), split="unlabeled")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512), UsageError, "version 7.3 .*-v7"),
        (b"\x89HDF\r\n\x1a\n".ljust(512), UsageError, "version 7.3"),
        (b"", UsageError, "not a MATLAB file of version 5"),
        (b"PK\x03\x04", UsageError, "not a MATLAB file of version 5"),
    ],
)
def test_other_files(tmp_path, content, error, message):
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(error, match=message):
        load(str(tmp_path / "x.mat"))


def test_cut_off_anywhere_it_is_damaged(tmp_path):
    whole = (tmp_path / save(tmp_path / "whole.mat")).read_bytes()
    path = tmp_path / "cut.mat"
    for length in (19, 100, 130, 140, 200, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises((UsageError, RunError), match=r"cut\.mat"):
            load(str(path)).read(np.array([0]))
