"""Few labels: which are used hangs on the seed, and no other gets anywhere."""

import numpy as np
import pytest

from ganjax import data
from ganjax.data.dataset import Dataset
from ganjax.data.labelled import Few, FewLabels, Labelled, Unlabelled
from ganjax.data.rotated import rotated, turned
from ganjax.errors import UsageError


def labelled_set(labels, size=4, num_classes=3) -> Dataset:
    labels = np.asarray(labels, np.int32)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), size, size, 1)).astype(np.uint8)

    def fetch(indices):
        return {"image": images[indices], "label": labels[indices]}

    return Dataset(
        "toy", "train", (size, size, 1), num_classes, ("a", "b", "c")[:num_classes], len(labels), fetch
    )


LABELS = np.random.default_rng(1).integers(0, 3, 60)


def test_the_choice_is_the_seeds_and_balanced():
    source = Labelled(labelled_set(LABELS), 5)
    first = source.chosen(0)
    assert np.bincount(LABELS[first]).tolist() == [5, 5, 5]
    np.testing.assert_array_equal(first, Labelled(labelled_set(LABELS), 5).chosen(0))
    assert set(first) != set(source.chosen(1))
    assert set(Labelled(labelled_set(LABELS), 2).chosen(0)) < set(first)


def test_only_what_is_chosen_comes_with_a_label():
    source = Labelled(labelled_set(LABELS), 4)
    seen = source.indices(3, 0, 24)
    assert set(seen) == set(source.chosen(3))
    assert np.bincount(seen)[source.chosen(3)].tolist() == [2] * 12  # two epochs
    np.testing.assert_array_equal(source.indices(3, 5, 7), seen[5:12])


def test_unlabelled_images_carry_nothing_else():
    source = Unlabelled(rotated(labelled_set(LABELS), 30.0))
    whole = source.resident()
    assert whole is not None
    for found in (source.example(2), source.read(np.arange(2)), whole):
        assert set(found) == {"image"}
    joined = FewLabels(Labelled(labelled_set(LABELS), 4), Unlabelled(labelled_set(LABELS)))
    batch = joined.read(joined.indices(0, 0, 8))
    assert {name: set(part) for name, part in batch.items()} == {
        "labelled": {"image", "label"},
        "unlabelled": {"image"},
    }
    assert len(set(joined.indices(0, 0, 60)["unlabelled"])) == 60


@pytest.mark.parametrize(
    ("labels", "per_class", "message"),
    [
        (
            LABELS,
            21,
            r"labels_per_class=21: expected at least 1, and, of 3 classes, no more in all than the 60",
        ),
        ([0] * 50 + [1] * 9 + [2], 3, r"labels_per_class=3: toy has 1 examples of class c"),
        ([0] * 50 + [1] * 10, 3, r"labels_per_class=3: toy has 0 examples of class c"),
    ],
)
def test_more_labels_than_there_are(labels, per_class, message):
    with pytest.raises(UsageError, match=message):
        Labelled(labelled_set(labels), per_class).check(0)


def test_sets_that_do_not_fit():
    with pytest.raises(UsageError, match="toy has no labels"):
        Labelled(labelled_set(LABELS, num_classes=0), 1)
    with pytest.raises(UsageError, match="expected one size; set image_size"):
        FewLabels(Labelled(labelled_set(LABELS), 1), Unlabelled(labelled_set(LABELS, size=6)))


def test_a_turn_by_a_right_angle_is_exact():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 2)).astype(np.uint8)
    found = turned(images, np.array([0.0, 90.0, -180.0], np.float32))
    np.testing.assert_array_equal(found[0], images[0])
    np.testing.assert_array_equal(found[1], np.rot90(images[1]))  # counterclockwise, as we are
    np.testing.assert_array_equal(found[2], np.rot90(images[2], 2))
    # What is turned out of the image is gone, and black comes in.
    corner = turned(np.full((1, 9, 9, 1), 255, np.uint8), np.array([45.0]))[0, :, :, 0]
    assert corner[0, 0] == 0
    assert corner[4, 4] == 255


def test_angles_are_an_examples_own():
    source = rotated(labelled_set(LABELS), 30.0)
    whole = source.resident()
    assert whole is not None
    some = source.read(np.array([7, 3]))
    np.testing.assert_array_equal(some["target"], whole["target"][[7, 3]])
    np.testing.assert_array_equal(some["image"], whole["image"][[7, 3]])
    plain = labelled_set(LABELS).read(np.array([7]))["image"]
    np.testing.assert_array_equal(some["image"][:1], turned(plain, 30 * some["target"][:1, 0]))
    assert source.example(2)["target"].shape == some["target"].shape == (2, 1)
    assert np.abs(whole["target"]).max() <= 1
    assert len(np.unique(whole["target"])) == 60
    many = rotated(data.load("mnist"), 30.0)
    assert many.num_classes == 10


def test_the_same_few_for_every_seed():
    source = Few(labelled_set(LABELS), 5, 7)
    assert np.bincount(LABELS[source.places]).tolist() == [5, 5, 5]
    for seed in (0, 1):
        assert set(source.indices(seed, 0, 15)) == set(source.places)
    assert (source.indices(0, 0, 15) != source.indices(1, 0, 15)).any()
    assert set(source.places) != set(Few(labelled_set(LABELS), 5, 8).places)
    with pytest.raises(UsageError, match="images_per_class=21: expected"):
        Few(labelled_set(LABELS), 21, 0)
