import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics import diversity
from ganjax.metrics.diversity import mean_over_pairs, pairwise_distance, within_class_diversity


def test_by_hand():
    # Pixels (0, 0), (255, 0), (255, 255): distances 1, sqrt 2, 1.
    images = np.array([[0, 0], [255, 0], [255, 255]], np.uint8).reshape(3, 1, 2, 1)
    assert pairwise_distance(images) == pytest.approx((2 + np.sqrt(2)) / 3)


def test_equal_images_are_exactly_zero_apart():
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), dtype=np.uint8)
    assert pairwise_distance(np.repeat(image, 50, axis=0)) == 0


def test_chunks_add_up_to_all_pairs(monkeypatch):
    images = np.random.default_rng(1).integers(0, 256, (23, 4, 5, 3), dtype=np.uint8)
    flat = images.reshape(23, -1) / 255
    pairs = [np.linalg.norm(flat[i] - flat[j]) for i in range(23) for j in range(i)]
    for chunk in (1, 7, 23, 512):
        monkeypatch.setattr(diversity, "_CHUNK", chunk)
        assert pairwise_distance(images) == pytest.approx(np.mean(pairs), rel=1e-12)


def test_within_class_is_the_distance_among_a_class():
    images = np.random.default_rng(2).integers(0, 256, (30, 4, 4, 1), dtype=np.uint8)
    labels = np.arange(30) % 3
    result = within_class_diversity(images, labels)
    assert list(result) == [0, 1, 2]
    for label, value in result.items():
        assert value == pytest.approx(pairwise_distance(images[labels == label]), rel=1e-12)


def test_within_class_draws_by_seed_and_class_alone():
    draw = np.random.default_rng(3)
    images = draw.integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)
    labels = np.repeat([0, 4], 20)
    result = within_class_diversity(images, labels, per_class=5, seed=1)
    assert result == within_class_diversity(images, labels, per_class=5, seed=1)
    assert result != within_class_diversity(images, labels, per_class=5, seed=2)
    assert result[4] == within_class_diversity(images[labels == 4], labels[labels == 4], 5, seed=1)[4]


def test_refusals():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    with pytest.raises(errors.UsageError, match="uint8"):
        pairwise_distance(images.astype(np.float32))
    with pytest.raises(errors.UsageError, match="N >= 2"):
        pairwise_distance(images[:1])
    with pytest.raises(errors.UsageError, match="class 7 has 1 image"):
        within_class_diversity(images, np.array([0, 0, 0, 7]))
    with pytest.raises(errors.UsageError, match="labels"):
        within_class_diversity(images, np.zeros(3, int))
    with pytest.raises(errors.UsageError, match="found -1"):
        within_class_diversity(images, np.array([0, 0, -1, -1]))
    with pytest.raises(errors.UsageError, match="per_class=1"):
        within_class_diversity(images, np.zeros(4, int), per_class=1)


def euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm((a.astype(float) - b).reshape(len(a), -1), axis=1) / 255


def test_mean_over_pairs_tends_to_that_over_all_pairs():
    images = np.random.default_rng(4).integers(0, 256, (9, 2, 2, 1), dtype=np.uint8)
    found = mean_over_pairs(images, euclidean, pairs=5001)
    assert abs(found.value - pairwise_distance(images)) < 4 * found.std_error
    assert found.std_error < 0.01
    assert found.per_class == {}
    assert found == mean_over_pairs(images, euclidean, pairs=5001, batch=7)
    assert found != mean_over_pairs(images, euclidean, pairs=5001, seed=1)
    # Never an image with itself.
    assert mean_over_pairs(np.arange(3.0)[:, None], lambda a, b: (a == b)[:, 0] * 1.0).value == 0


def test_mean_over_pairs_within_classes():
    images = np.array([0, 10, 0, 30, 90], np.uint8)[:, None, None, None]
    labels = np.array([0, 0, 5, 5, 0])
    sizes = []

    def compare(a, b):
        sizes.append(len(a))
        return euclidean(a, b)

    found = mean_over_pairs(images, compare, pairs=2000, labels=labels, batch=64)
    assert set(sizes) == {64}
    assert found.per_class[5] == pytest.approx(30 / 255)
    assert found.per_class[0] == pytest.approx((10 + 80 + 90) / 3 / 255, rel=0.05)
    assert found.value == pytest.approx((found.per_class[0] + found.per_class[5]) / 2)


def test_refused_pairs():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    with pytest.raises(errors.UsageError, match="N >= 2"):
        mean_over_pairs(images[:1], euclidean)
    with pytest.raises(errors.UsageError, match="class 7 has 1 image"):
        mean_over_pairs(images, euclidean, labels=np.array([0, 0, 0, 7]))
    with pytest.raises(errors.UsageError, match="pairs=0"):
        mean_over_pairs(images, euclidean, pairs=0)
    with pytest.raises(errors.UsageError, match="one value a pair"):
        mean_over_pairs(images, lambda a, b: np.zeros((len(a), 1)))
    with pytest.raises(errors.RunError, match="NaN"):
        mean_over_pairs(images, lambda a, b: np.full(len(a), np.nan))
