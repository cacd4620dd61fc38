import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics import nearest
from ganjax.metrics.nearest import nearest_images


def test_agrees_with_all_pairs_in_any_chunks(monkeypatch):
    draw = np.random.default_rng(0)
    queries = draw.integers(0, 256, (17, 3, 4, 3), dtype=np.uint8)
    references = draw.integers(0, 256, (41, 3, 4, 3), dtype=np.uint8)
    difference = (queries[:, None].astype(float) - references[None]).reshape(17, 41, -1) / 255
    distances = np.linalg.norm(difference, axis=-1)
    # All directions and few, where bounds tell little; all candidates one by one, and by products.
    for scores, columns, directions, few in ((1 << 24, 4096, 64, 16), (200, 7, 3, 100), (41, 1, 3, 0)):
        monkeypatch.setattr(nearest, "_SCORES", scores)
        monkeypatch.setattr(nearest, "_COLUMNS", columns)
        monkeypatch.setattr(nearest, "_DIRECTIONS", directions)
        monkeypatch.setattr(nearest, "_FEW", few)
        found = nearest_images(queries, references)
        np.testing.assert_array_equal(found.index, distances.argmin(axis=1))
        np.testing.assert_allclose(found.distance, distances.min(axis=1), rtol=1e-12)


def test_a_copy_is_exactly_zero_away_and_one_grey_level_is_not():
    references = np.random.default_rng(1).integers(0, 255, (50, 28, 28, 1), dtype=np.uint8)
    queries = references[[3, 30]].copy()
    queries[1, 5, 5, 0] += 1
    found = nearest_images(queries, references)
    assert found.index.tolist() == [3, 30]
    assert found.distance.tolist() == [0, 1 / 255]


def test_no_queries():
    assert (
        nearest_images(np.zeros((0, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 1), np.uint8)).distance.size == 0
    )


def test_refusals():
    images = np.zeros((2, 2, 2, 1), np.uint8)
    with pytest.raises(errors.UsageError, match="uint8"):
        nearest_images(images, images / 255)
    with pytest.raises(errors.UsageError, match="one shape"):
        nearest_images(images, np.zeros((2, 2, 2, 3), np.uint8))
    with pytest.raises(errors.UsageError, match="at least 1 reference"):
        nearest_images(images, images[:0])
