import numpy as np
import pytest
import scipy.stats

from ganjax import errors
from ganjax.metrics.frechet import frechet_distance, gaussian_statistics
from ganjax.metrics.scores import classification_accuracy_score, frechet_distance_by_class, inception_score


def test_score_of_certain_and_evenly_spread_answers_is_the_number_of_classes():
    sure = np.eye(10)[np.arange(1000) % 10] * 1e4
    assert inception_score(sure, seed=None) == pytest.approx((10, 0), rel=1e-12)
    assert inception_score(np.zeros((50, 10))) == pytest.approx((1, 0))
    assert inception_score(sure[::10], splits=1) == pytest.approx((1, 0))  # all of one class


def test_score_by_definition_of_each_split():
    logits = np.random.default_rng(0).normal(size=(25, 4)).astype(np.float32) * 2
    scores = []
    for part in (logits[:9], logits[9:17], logits[17:]):
        p = np.exp(part.astype(np.float64))
        p /= p.sum(axis=1, keepdims=True)
        scores.append(np.exp(np.mean([scipy.stats.entropy(row, p.mean(axis=0)) for row in p])))
    found = inception_score(logits, splits=3, seed=None)
    assert found == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-12)


def test_samples_that_are_sorted_by_class_are_shuffled():
    sorted_by_class = np.repeat(np.eye(10), 100, axis=0) * 50
    assert inception_score(sorted_by_class, seed=None).value == pytest.approx(1, abs=1e-6)
    mixed = inception_score(sorted_by_class)
    assert mixed.value > 9
    assert mixed == inception_score(sorted_by_class)
    assert mixed != inception_score(sorted_by_class, seed=1)


def test_distance_by_class():
    draw = np.random.default_rng(1)
    real, real_labels = draw.normal(size=(90, 3)), np.arange(90) % 3
    fake, labels = draw.normal(size=(60, 3)), np.arange(60) % 3
    fake[labels == 1] += 5
    value, per_class = frechet_distance_by_class(fake, labels, real, real_labels, 3)
    for k in range(3):
        expected = frechet_distance(
            *gaussian_statistics(fake[labels == k]), *gaussian_statistics(real[real_labels == k])
        )
        assert per_class[k] == pytest.approx(expected, rel=1e-12)
    assert value == pytest.approx(per_class.mean())
    assert per_class[1] > 60
    # Classes that were swapped: over all of them nothing is amiss.
    real[real_labels == 1] += 5
    swapped = np.array([1, 0, 2])[real_labels]
    assert frechet_distance_by_class(real, swapped, real, real_labels, 3).per_class[2] == pytest.approx(0)
    assert frechet_distance_by_class(real, swapped, real, real_labels, 3).value > 40


def stripes(count: int, seed: int) -> dict[str, np.ndarray]:
    """Two classes: a bright upper half, or a bright lower one."""
    image = np.random.default_rng(seed).integers(0, 60, (count, 8, 8, 1), dtype=np.uint8)
    label = np.arange(count) % 2
    image[label == 0, :4] += 180
    image[label == 1, 4:] += 180
    return {"image": image, "label": label}


def test_a_classifier_that_learns_from_samples():
    test, good = stripes(60, 0), stripes(256, 1)
    settings = {"epochs": 2, "batch_size": 32}
    found = classification_accuracy_score(good["image"], good["label"], test, 2, **settings)
    assert found.value > 0.95
    assert found.per_class.shape == (2,)
    # Labels that are not obeyed teach the opposite.
    wrong = classification_accuracy_score(good["image"], 1 - good["label"], test, 2, **settings)
    assert wrong.value < 0.05
    with pytest.raises(errors.UsageError, match="class 1 has no test images"):
        classification_accuracy_score(
            good["image"], good["label"], {"image": test["image"][::2], "label": test["label"][::2]}, 2
        )


def test_refusals():
    with pytest.raises(errors.UsageError, match=r"\[N, K\]"):
        inception_score(np.zeros(5))
    with pytest.raises(errors.UsageError, match="splits=10: expected at least 1 and at most the 9"):
        inception_score(np.zeros((9, 3)))
    with pytest.raises(errors.RunError, match="NaN"):
        inception_score(np.full((10, 3), np.nan))
    features, labels = np.zeros((6, 2)), np.array([0, 0, 1, 1, 2, 2])
    with pytest.raises(errors.UsageError, match="class 2: found 1 samples"):
        frechet_distance_by_class(features[:5], labels[:5], features, labels, 3)
    with pytest.raises(errors.UsageError, match="class 3: found 0 samples"):
        frechet_distance_by_class(features, labels, features, labels, 4)
    with pytest.raises(errors.UsageError, match=r"real labels: .* found 2"):
        frechet_distance_by_class(features[:4], labels[:4], features, labels, 2)
