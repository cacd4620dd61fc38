"""Normal images: of which classes, and which of them are held out."""

import numpy as np
import pytest

from ganjax.data.dataset import Dataset
from ganjax.data.normal import Normal, classes_of
from ganjax.errors import UsageError

NAMES = ("bent", "good", "scratched")


@pytest.mark.parametrize(
    ("text", "classes"),
    [("", (0, 1, 2)), ("good", (1,)), ("scratched, bent", (0, 2)), ("1-2", (1, 2)), ("2,0", (0, 2))],
)
def test_classes_by_name_or_number(text, classes):
    assert classes_of(text, NAMES, "screws") == classes


def test_numbers_that_are_names():
    """As of folders, which come in the order of their names."""
    names = ("1", "10", "2")
    assert [classes_of(text, names, "digits") for text in ("1-2", "1,2", "10")] == [(0, 2), (0, 2), (1,)]
    for text in ("0", "2-10", "3"):
        with pytest.raises(UsageError, match="expected classes of digits"):
            classes_of(text, names, "digits")


@pytest.mark.parametrize("text", ["new", "3", "2-1", "good,3", "-"])
def test_unknown_classes(text):
    with pytest.raises(UsageError, match=r"--config\.normal=.*expected classes of screws \(bent, good, scr"):
        classes_of(text, NAMES, "screws")
    with pytest.raises(UsageError, match="it has none"):
        classes_of("1", (), "screws")


def test_what_is_learned_from_and_what_is_held_out():
    labels = np.arange(60, dtype=np.int32) % 3

    def fetch(indices):
        return {"image": np.zeros((len(indices), 4, 4, 1), np.uint8), "label": labels[indices]}

    dataset = Dataset("toy", "train", (4, 4, 1), 3, NAMES, 60, fetch)
    source = Normal(dataset, (0, 2), 0.25)
    assert len(source.held_out) == 10
    assert len(source.places) == 30
    both = np.concatenate([source.places, source.held_out])
    assert len(np.unique(both)) == 40
    assert set(labels[both]) == {0, 2}
    assert set(source.indices(3, 0, 30)) == set(source.places)
    assert (source.indices(3, 0, 30) != source.indices(4, 0, 30)).any()
    whole = source.resident()
    assert whole is not None
    for found in (source.example(2), source.read(np.arange(2)), whole):
        assert set(found) == {"image"}  # no label goes along
    np.testing.assert_array_equal(Normal(dataset, (0, 2), 0.25).held_out, source.held_out)


def test_nothing_to_learn_from():
    def fetch(indices):
        return {
            "image": np.zeros((len(indices), 4, 4, 1), np.uint8),
            "label": np.zeros(len(indices), np.int32),
        }

    with pytest.raises(UsageError, match="toy: there is no normal image"):
        _ = Normal(Dataset("toy", "train", (4, 4, 1), 3, NAMES, 6, fetch), (1,), 0.1).places
