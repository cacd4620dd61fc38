import numpy as np
import pytest

from ganjax.errors import RunError
from ganjax.metrics.classification import calibration_error, confusion_matrix, judge

SHARES = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]], np.float32)
LABELS = np.array([0, 1, 1, 0])


def test_confusions_by_hand():
    assert confusion_matrix(SHARES, LABELS).tolist() == [[1, 1], [1, 1]]


def test_calibration_by_hand():
    # Bins of a quarter: 0.6 and 0.7 (one of two right), 0.8 and 0.9 (one of two right).
    assert calibration_error(SHARES, LABELS, 4) == pytest.approx(0.5 * 0.15 + 0.5 * 0.35)
    assert calibration_error(SHARES, LABELS, 1) == pytest.approx(0.25)
    certain = np.eye(2, dtype=np.float32)
    assert calibration_error(certain, np.array([0, 1])) == 0


@pytest.mark.parametrize(
    ("shares", "labels"), [(SHARES, LABELS[:3]), (SHARES, LABELS + 1), (SHARES * np.nan, LABELS)]
)
def test_what_does_not_fit(shares, labels):
    with pytest.raises(ValueError, match=r"probabilities|labels"):
        confusion_matrix(shares, labels)


def test_judge():
    truth = {"label": LABELS, "target": np.array([[0.5], [0], [0], [0]], np.float32)}
    made = judge(
        lambda most: np.zeros((min(most, 4), 2, 2, 1)),
        lambda most: truth,
        class_names=("a", "b"),
        unit=60.0,
        baseline=True,
        facts={"split": "test"},
    )
    assert made.conditions is not None
    assert made.conditions(9)["image"].shape[0] == 4
    found = made.results(
        {
            "probabilities": SHARES,
            "baseline_probabilities": 1 - SHARES[[0, 1, 2, 2]],
            "targets": np.zeros((4, 1)),
            "baseline_targets": np.full((4, 1), 0.5),
        },
        None,
    )
    assert set(found) == set(made.metrics)
    error = found["test_error"]
    assert (error["value"], error["count"], error["baseline"]) == (0.5, 2, 0.5)
    assert error["by_class"] == [0.5, 0.5]
    certain = {name: np.eye(2)[[0, 0, 0, 0]] for name in ("probabilities", "baseline_probabilities")}
    nobody = judge(
        lambda most: np.zeros((4, 2, 2, 1)),
        lambda most: {"label": np.zeros(4, int)},
        class_names=("a", "b"),
        unit=None,
        baseline=True,
        facts={},
    )
    assert nobody.results(certain, None)["test_error"]["by_class"] == [0, None]
    assert found["target_rmse"]["value"] == pytest.approx(15)
    assert found["target_rmse"]["mean_absolute_error"] == pytest.approx(7.5)
    assert found["target_rmse"]["baseline"] == pytest.approx(30 * 0.75**0.5)
    assert found["confusion_matrix"]["protocol"] == {"test_images": 4, "split": "test", "classes": ["a", "b"]}
    assert made.verdict is not None
    (against,) = made.verdict(found)
    assert against.startswith("test_error: 0.5 is not below")
    with pytest.raises(RunError, match="NaN"):
        made.results({"probabilities": SHARES * np.nan}, None)
