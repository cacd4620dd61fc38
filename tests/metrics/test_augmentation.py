import numpy as np
import pytest

from ganjax.errors import UsageError
from ganjax.metrics import augmentation, trained
from ganjax.metrics.augmentation import judge, standard_error, training_set

DRAW = np.random.default_rng(0)


def images(count, classes=2):
    return {
        "image": DRAW.integers(0, 256, (count, 4, 4, 1)).astype(np.uint8),
        "label": np.arange(count) % classes,
    }


def test_training_sets():
    real, generated = images(3), images(7)
    found, labels = training_set(real, None, flip=False)
    np.testing.assert_array_equal(found, real["image"])
    found, labels = training_set(real, None, flip=True)
    np.testing.assert_array_equal(found[3:], real["image"][:, :, ::-1])
    np.testing.assert_array_equal(labels, [0, 1, 0] * 2)
    # Half of them are real, said again and again.
    found, labels = training_set(real, generated, flip=False)
    np.testing.assert_array_equal(found[:7], real["image"][[0, 1, 2, 0, 1, 2, 0]])
    np.testing.assert_array_equal(found[7:], generated["image"])
    np.testing.assert_array_equal(labels[7:], generated["label"])


def test_judge(monkeypatch):
    """By a classifier that is as good as its training set is large."""
    seen = []

    class Fixed:
        def __init__(self, accuracy):
            self.test_accuracy = accuracy

    def train(images, labels, num_classes, seed, *, test, steps, batch_size, max_shift):
        seen.append((len(images), len(np.unique(images.reshape(len(images), -1), axis=0)), max_shift))
        assert (steps, batch_size) == (10, 4)
        assert num_classes == 2
        assert len(test["image"]) == 5
        return Fixed(0.5 + 0.01 * len(images) + 0.001 * seed)

    monkeypatch.setattr(augmentation, "train_classifier", train)
    options = {"seeds": 3, "steps": 10, "batch_size": 4, "max_shift": 2, "flip": True}
    made = judge(lambda: images(6), lambda: images(5), 2, facts={"split": "test"}, **options)
    samples = DRAW.uniform(-1, 1, (8, 4, 4, 1)).astype(np.float32)
    found = made.results(samples, np.arange(8) % 2)
    assert set(found) == set(made.metrics)
    assert [x[:1] + x[2:] for x in seen[::3]] == [(6, 0), (12, 2), (16, 0), (32, 2)]
    assert seen[6][1] == 14  # all real and all generated images
    assert found["accuracy_nothing"]["value"] == pytest.approx(0.561)
    assert found["accuracy_nothing"]["standard_error"] == pytest.approx(0.001 / 3**0.5)
    assert found["accuracy_both"]["each"] == pytest.approx([0.82, 0.821, 0.822])
    assert found["accuracy_both"]["protocol"]["real_images"] == 6
    assert made.verdict is not None
    assert made.verdict(found) == []
    worse = {**found, "accuracy_both": found["accuracy_classical"]}
    (line,) = made.verdict(worse)
    assert line.startswith("accuracy_both: 0.6210 is not above accuracy_classical, 0.6210")
    with pytest.raises(UsageError, match="no labels"):
        made.results(samples, None)


def test_every_way_is_trained_alike(monkeypatch):
    """By as many steps, on batches of one size, along one schedule."""
    taken: list[list[tuple[int, ...]]] = []
    rates = []
    schedule = trained.schedule

    def compiled(step, params, opt_state, images, labels, **options):
        taken.append([])

        def counted(params, opt_state, images, labels):
            taken[-1].append(images.shape)
            return params, opt_state, np.float32(1)

        return counted

    monkeypatch.setattr(trained, "compile_for_backend", compiled)
    monkeypatch.setattr(trained, "schedule", lambda *given: rates.append(given) or schedule(*given))
    options = {"seeds": 1, "steps": 7, "max_shift": 1, "flip": True}
    real, generated, test = images(6), images(17), images(2)
    found = augmentation.accuracies(real, generated, test, 2, batch_size=8, **options)
    assert set(found) == set(augmentation.ARMS)
    assert taken == [[(6, 4, 4, 1)] * 7] * 4
    assert len(set(rates)) == 1


def test_the_error_of_a_mean():
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(1 / 3**0.5)
    assert standard_error([1.0]) is None


def test_one_classifier_can_not_tell():
    made = judge(lambda: images(2), lambda: images(2), 2, facts={})
    results = {name: {"value": 0.9, "standard_error": None} for name in made.metrics}
    results["accuracy_generated"]["value"] = 0.95
    assert made.verdict is not None
    generated, both = made.verdict(results)
    assert generated.startswith("accuracy_generated: 0.9500, beside accuracy_nothing, 0.9000: one classifier")
    assert both.startswith("accuracy_both: ")
