import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics import nearest
from ganjax.metrics.nearest import nearest_images, nearest_neighbours, neighbours_sheet


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


def test_neighbours_in_order(monkeypatch):
    draw = np.random.default_rng(2)
    queries = draw.integers(0, 256, (5, 3, 4, 3), dtype=np.uint8)
    references = draw.integers(0, 256, (23, 3, 4, 3), dtype=np.uint8)
    references[[7, 9]] = queries[0]
    difference = (queries[:, None].astype(float) - references[None]).reshape(5, 23, -1) / 255
    distances = np.linalg.norm(difference, axis=-1)
    for columns in (4096, 4):
        monkeypatch.setattr(nearest, "_COLUMNS", columns)
        found = nearest_neighbours(queries, references, 4)
        np.testing.assert_array_equal(found.index, np.argsort(distances, axis=1, kind="stable")[:, :4])
        np.testing.assert_allclose(found.distance, np.sort(distances, axis=1)[:, :4], rtol=1e-12)
    assert found.index[0, :2].tolist() == [7, 9]
    with pytest.raises(errors.UsageError, match="neighbours=24: expected 1 to 23"):
        nearest_neighbours(queries, references, 24)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_sheet_shows_each_sample_and_what_is_nearest(channels):
    train = np.zeros((5, 8, 6, channels), np.uint8)
    train += np.array([10, 50, 90, 130, 170], np.uint8)[:, None, None, None]
    samples = np.zeros((3, 8, 6, channels), np.uint8)
    samples += np.array([101, 60, 168], np.uint8)[:, None, None, None]

    def shown(**options):
        sheet = neighbours_sheet(samples, train, count=2, neighbours=2, **options)
        assert sheet.shape == (2 * 66 + 2, 3 * 50 + 2, channels)
        return [[int(sheet[30 + 66 * i, 20 + 50 * j, 0]) for j in range(3)] for i in range(2)]

    assert shown() == [[101, 90, 130], [60, 50, 90]]
    assert shown(nearest_first=True) == [[168, 170, 130], [60, 50, 90]]
    with pytest.raises(errors.UsageError, match="count=0"):
        neighbours_sheet(samples, train, count=0)
    with pytest.raises(errors.UsageError, match="C of 1, 3 or 4"):
        neighbours_sheet(samples[..., 0], train)
    with pytest.raises(errors.UsageError, match="one shape"):
        neighbours_sheet(samples[:, :5], train)
