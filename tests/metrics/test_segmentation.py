import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics import segmentation
from ganjax.metrics.segmentation import classes_of, palette, points, scores

COLOURS = np.array([[0, 0, 170], [255, 170, 0], [0, 255, 255]], np.uint8)


def scenes(count, size=12, seed=0):
    """Classes int [N, H, W] of upright bars, their label maps, and photos that are the classes' textures."""
    draw = np.random.default_rng(seed)
    classes = np.zeros((count, size, size), int)
    for each in classes:
        left, right = sorted(draw.integers(1, size, 2))
        each[:, left:right] = 1 + draw.integers(2)
    maps = np.clip(COLOURS[classes] + draw.integers(-6, 7, (*classes.shape, 3)), 0, 255).astype(np.uint8)
    rows = np.arange(size)[:, None] % 2
    grey = np.stack([0 * classes + 60, 60 + 140 * np.broadcast_to(rows, classes.shape), 0 * classes + 200])
    grey = np.take_along_axis(grey, classes[None], axis=0)[0]
    photos = np.clip(grey[..., None] + draw.integers(-20, 21, (*classes.shape, 3)), 0, 255).astype(np.uint8)
    return classes, maps, photos


def test_a_palette_has_the_colours_by_their_shares():
    classes, maps, _ = scenes(20)
    found = palette(maps)
    shares = np.bincount(classes.reshape(-1))
    np.testing.assert_allclose(found, COLOURS[np.argsort(-shares)], atol=2)
    recovered = classes_of(maps, found)
    assert (np.argsort(-shares)[recovered] == classes).all()
    grey = np.repeat(np.array([9, 9, 9, 100, 200, 200, 60], np.uint8), 3)[None, None, :, None].repeat(
        2, axis=1
    )
    grey = np.where(grey == 60, np.arange(21, dtype=np.uint8)[:, None] * 37, grey)  # wraps around
    np.testing.assert_array_equal(palette(grey), [[9], [200], [100]])


def test_what_is_no_label_map():
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(errors.UsageError, match="expected areas of one colour, found none"):
        palette(noise)
    with pytest.raises(errors.UsageError, match="expected several colours, found 1"):
        palette(np.full_like(noise, 7))


def test_scores_by_hand():
    wanted, predicted = np.array([[0, 0, 0, 0], [1, 1, 2, 2]]), np.array([[0, 0, 0, 3], [1, 1, 1, 2]])
    found = scores(predicted, wanted, 5)  # no pixel of classes 3 and 4 is wanted
    assert found["pixel_accuracy"] == 6 / 8
    assert found["class_accuracy"] == pytest.approx((3 / 4 + 1 + 1 / 2) / 3)
    assert found["class_iou"] == pytest.approx((3 / 4 + 2 / 3 + 1 / 2) / 3)


def test_large_images_are_reduced():
    maps = np.zeros((1, 6, 260, 1), np.uint8)  # by 3
    maps[0, 1::3, 1::3] = 90
    assert (points(maps) == 90).all()
    assert (segmentation.photos(maps) == 10).all()
    assert points(maps).shape == segmentation.photos(maps).shape == (1, 2, 86, 1)
    small = maps[:, :, :128]
    assert segmentation.photos(small) is small
    np.testing.assert_array_equal(points(small), small)


@pytest.mark.slow
def test_a_network_learns_what_is_where(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, "EPOCHS", 12)
    classes, _, photos = scenes(64)
    network = segmentation.cached_segmenter(photos, classes, 3, tmp_path)
    unseen, _, other = scenes(9, seed=1)
    predicted = network.classes(other)
    assert scores(predicted, unseen, 3)["pixel_accuracy"] > 0.9
    np.testing.assert_array_equal(network.classes(other[4:5]), predicted[4:5])
    monkeypatch.setattr(segmentation, "train_segmenter", lambda *_, **__: pytest.fail("trained again"))
    assert segmentation.cached_segmenter(photos, classes, 3, tmp_path).identity == network.identity
    with pytest.raises(errors.UsageError, match="expected images of shape"):
        network.classes(other[:, :8])
