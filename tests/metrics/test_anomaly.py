import importlib.util

import numpy as np
import pytest

from ganjax.errors import RunError, UsageError
from ganjax.metrics import anomaly
from ganjax.metrics.anomaly import (
    average_precision,
    check_false_alarms,
    components_of,
    isolation_scores,
    pca_scores,
    roc_area,
    threshold_at,
)

DRAW = np.random.default_rng(0)
SCORES = np.array([0.1, 0.4, 0.35, 0.8])
TRUTH = np.array([False, False, True, True])


def test_the_area_by_hand():
    # Of the four pairs of an anomaly and a normal image three are the right way round.
    assert roc_area(SCORES, TRUTH) == 0.75
    assert roc_area(np.ones(4), TRUTH) == 0.5
    assert roc_area(np.array([1.0, 2.0, 2.0, 3.0]), TRUTH) == pytest.approx(3.5 / 4)  # a tie is half


def test_average_precision_by_hand():
    # From above: right (1 of 1), wrong, right (2 of 3).
    assert average_precision(SCORES, TRUTH) == pytest.approx((1 + 2 / 3) / 2)
    # Equal scores are one threshold: all four are taken, two of them right.
    assert average_precision(np.ones(4), TRUTH) == 0.5


def test_areas_are_those_of_all_pairs():
    scores, truth = DRAW.integers(0, 20, 300).astype(float), DRAW.random(300) < 0.3
    pairs = scores[truth][:, None] - scores[~truth][None]
    assert roc_area(scores, truth) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


@pytest.mark.parametrize(
    ("scores", "truth"),
    [(SCORES, TRUTH[:3]), (SCORES * np.inf, TRUTH), (SCORES, TRUTH | True), (SCORES, TRUTH.astype(int))],
)
def test_what_does_not_fit(scores, truth):
    with pytest.raises(ValueError, match=r"scores|all images"):
        roc_area(scores, truth)


def test_the_threshold_lets_no_more_alarms_through():
    normal = DRAW.permutation(100) / 100
    for rate in (0.01, 0.05, 0.5):
        assert np.sum(normal > threshold_at(normal, rate)) == int(101 * rate) - 1
    # The image in question counts: of 101 the highest five are above it.
    for held_out in (19, 20, 39, 100):
        draws = DRAW.random((20_000, held_out + 1))
        above = [row[0] > threshold_at(row[1:], 0.05) for row in draws]
        exact = int((held_out + 1) * 0.05 + 1e-9) / (held_out + 1)
        assert exact <= 0.05 + 1e-9
        assert np.mean(above) == pytest.approx(exact, abs=0.006)
    with pytest.raises(UsageError, match=r"at a rate of 0\.001: 100 normal images are held out"):
        threshold_at(normal, 0.001)
    with pytest.raises(UsageError, match="above 0 and below 1"):
        threshold_at(normal, 0.0)


@pytest.mark.parametrize("held_out", [2, 3, 7, 10, 30, 64, 99, 100, 301, 1999, 2000])
def test_the_rate_that_is_named_is_not_refused(held_out):
    with pytest.raises(UsageError, match="expected at least") as refused:
        check_false_alarms(1e-6, held_out)
    named = float(str(refused.value).split("expected at least ")[1].split(",")[0])
    check_false_alarms(named, held_out)
    assert named <= 1.1 / (held_out + 1)


def test_of_no_image_there_is_no_rate():
    with pytest.raises(UsageError, match="expected training with more of them held out"):
        check_false_alarms(0.999, 0)


@pytest.mark.parametrize("most", [4096, 10])
def test_pca_leaves_what_normal_images_do_not_have(monkeypatch, most):
    """By the covariance, and without it."""
    monkeypatch.setattr(anomaly, "LARGEST_COVARIANCE", most)
    axes = DRAW.normal(size=(2, 36))
    normal = np.clip(128 + 20 * DRAW.normal(size=(200, 2)) @ axes, 0, 255).astype(np.uint8)
    other = np.clip(128 + 20 * DRAW.normal(size=(20, 36)), 0, 255).astype(np.uint8)
    scores = pca_scores(
        normal.reshape(-1, 6, 6, 1), np.concatenate([normal[:20], other]).reshape(-1, 6, 6, 1), 2
    )
    assert scores[:20].max() < scores[20:].min()


def test_pca_leaves_something_over():
    assert [components_of(*of) for of in ((100, 784), (100, 64), (10, 784), (1, 64), (5, 1))] == [
        *(64, 32, 9),
        *(0, 0),
    ]
    noise = DRAW.integers(0, 256, (200, 8, 8, 1), np.uint8)
    assert pca_scores(noise, noise[:20]).min() > 1e-3  # 64 components of 64 pixels would leave rounding


@pytest.mark.parametrize("most", [4096, 10])
def test_pca_is_fitted_to_all_images(monkeypatch, most):
    """Half of the images, every other one, has what the rest has not."""
    monkeypatch.setattr(anomaly, "LARGEST_COVARIANCE", most)
    axes = DRAW.normal(size=(2, 36))
    weights = 10 * DRAW.normal(size=(2000, 2)) * (np.arange(2000)[:, None] % 2 == np.arange(2))
    normal = np.clip(128 + weights @ axes, 0, 255).astype(np.uint8).reshape(-1, 6, 6, 1)
    assert pca_scores(normal, normal[:100], 2).max() < 1e-4


def test_axes_without_a_covariance_are_those_of_it(monkeypatch):
    """Where variances fall slowly, so that no axis is far ahead of the next."""
    monkeypatch.setattr(anomaly, "SPARE", 8)
    monkeypatch.setattr(anomaly, "ROWS", 100)
    spread = 200 / np.arange(1, 61)
    values = DRAW.normal(size=(730, 60)) * spread @ np.linalg.qr(DRAW.normal(size=(60, 60)))[0]
    images = np.clip(128 + values, 0, 255).astype(np.uint8).reshape(-1, 5, 12, 1)
    exact = pca_scores(images, images, 8)
    monkeypatch.setattr(anomaly, "LARGEST_COVARIANCE", 10)
    found = pca_scores(images, images, 8)
    assert exact.mean() <= found.mean() * (1 + 1e-5)
    assert found.mean() < 1.005 * exact.mean()
    np.testing.assert_array_equal(pca_scores(images, images, 8), found)
    monkeypatch.setattr(anomaly, "ROWS", 730)  # of few images they are exact
    np.testing.assert_allclose(pca_scores(images, images, 8), exact, rtol=1e-3)


@pytest.mark.parametrize("most", [4096, 10])
def test_pca_of_few_images_has_no_more_axes_than_these(monkeypatch, most):
    monkeypatch.setattr(anomaly, "LARGEST_COVARIANCE", most)
    normal = DRAW.integers(0, 256, (3, 6, 6, 1)).astype(np.uint8)
    assert pca_scores(normal, normal).max() < 1e-6
    other = 255 - normal[:1]
    assert pca_scores(normal[:1], other) == pytest.approx(
        np.mean(np.square((other - normal[:1].astype(float)) / 255)), rel=1e-5
    )


def test_isolation_forest():
    images = DRAW.integers(100, 110, (300, 4, 4, 1)).astype(np.uint8)
    scores = isolation_scores(images, np.concatenate([images[:10], 255 - images[:10]]))
    if importlib.util.find_spec("sklearn") is None:
        assert scores is None
    else:
        assert scores is not None
        assert scores[:10].max() < scores[10:].min()


def test_judge():
    test = DRAW.integers(0, 10, (40, 4, 4, 1)).astype(np.uint8)
    test[:10] += 100
    truth = np.arange(40) < 10
    one = anomaly.Given(test, truth, test[10:30], lambda most: test[10:][:most])
    made = anomaly.judge(lambda most: one, lambda x: x / 255, 0.1, {"normal": "0-8"})
    assert made.conditions is not None
    assert made.conditions(100)["image"].shape == (60, 4, 4, 1)
    scores = np.concatenate([np.where(truth, 2.0, 0.0), np.linspace(0, 1, 20)])
    found = made.results({"score": scores}, None)
    assert set(found) == set(made.metrics)
    assert found["roc_area"]["value"] == found["average_precision"]["value"] == 1
    assert 0 <= found["roc_area"]["pca"] <= 1
    assert found["roc_area"]["protocol"]["anomalies"] == 10
    detection = found["detection"]
    assert (detection["value"], detection["false_alarm_rate"]) == (1, 0)
    assert detection["threshold"] == pytest.approx(18 / 19)
    assert made.verdict is not None
    worse = {"value": 0.5, "pca": 0.6, "isolation_forest": 0.4}
    better = worse | {"value": 0.7}
    assert made.verdict({"roc_area": better, "average_precision": better}) == []
    assert made.verdict({"roc_area": worse, "average_precision": better}) == [
        "roc_area: 0.5 is not above that of pca, 0.6"
    ]
    assert made.verdict({"roc_area": better, "average_precision": worse}) == [
        "average_precision: 0.5 is not above that of pca, 0.6"
    ]
    with pytest.raises(RunError, match="NaN"):
        made.results({"score": scores * np.nan}, None)
    few = anomaly.judge(lambda most: one, lambda x: x / 255, 0.01, {})  # of 20 that are held out
    assert few.conditions is not None
    few.conditions(100)
    found = few.results({"score": scores}, None)
    assert found["roc_area"]["value"] == 1
    assert found["detection"]["value"] is None
    assert "20 normal images are held out, too few" in found["detection"]["protocol"]["not_measured"]
