"""What predictions are worth: errors, confusions, calibration, and the distance of predicted numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ganjax.errors import RunError
from ganjax.gan import Judge

BINS = 15  # of the calibration error


def check_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> None:
    """Raises ValueError unless they are finite [N, K], N of at least 1, with labels [N] in [0, K)."""
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            f"probabilities {probabilities.shape} with labels {labels.shape}: expected [N, K], [N]"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities that are not finite")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels {labels.min()}-{labels.max()} of {probabilities.shape[1]} classes")


def confusion_matrix(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int64 [K, K]: how many examples of a class (row) were taken for one (column)."""
    check_probabilities(probabilities, labels)
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """The expected calibration error: how far confidence is from the share that is right.

    Predictions are sorted into bins of equal width by their confidence; the mean, over predictions, of the
    distance between a bin's mean confidence and its accuracy (Guo et al. 2017, "On calibration of modern
    neural networks", equation 3). 0 is calibrated.

    Args:
      probabilities: [N, K].
      labels: integers [N].
      bins: at least 1.
    """
    check_probabilities(probabilities, labels)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    # As in the paper a bin is open below and closed above.
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def judge(
    images: Callable[[int], np.ndarray],
    truth: Callable[[int], Mapping[str, np.ndarray]],
    *,
    class_names: Sequence[str],
    unit: float | None = None,
    baseline: bool,
    facts: Mapping[str, Any],
) -> Judge:
    """The judge of a semi-supervised model (`ganjax.families.semi_supervised`) on labelled test images.

    - `test_error`: the share of images that are taken for another class; `count` of them, `by_class`.
    - `confusion_matrix`: `matrix`, a row a true class.
    - `calibration_error`: see there.
    - `target_rmse`: the root of the mean squared error of the target, in its unit; `mean_absolute_error`.

    Each with the same of the `baseline`, the network that learned from the labels alone.

    Args:
      images: how many at most -> float32 [N, H, W, C] in [-1, 1].
      truth: how many at most -> their "label" [N] and "target" [N, 1].
      class_names: one a class; none: it does not classify.
      unit: what a target of 1 stands for; None: it predicts none.
      baseline: there is one.
      facts: what protocols say besides.
    """
    names = ["test_error", "confusion_matrix", "calibration_error"] if class_names else []
    names += ["target_rmse"] if unit is not None else []
    prefixes = ["", *(["baseline_"] if baseline else [])]

    def results(predicted: Mapping[str, np.ndarray], labels: None) -> dict[str, dict[str, Any]]:
        del labels
        if not all(np.isfinite(x).all() for x in predicted.values()):
            raise RunError("the model answers with NaN or infinity; choose an earlier one with --checkpoint=")
        count = len(next(iter(predicted.values())))
        true = truth(count)
        found: dict[str, dict[str, Any]] = {name: {} for name in names}
        for prefix in prefixes:
            key = "baseline" if prefix else "value"
            if class_names:
                shares, label = predicted[f"{prefix}probabilities"], true["label"]
                matrix = confusion_matrix(shares, label)
                wrong = matrix.sum(axis=1) - matrix.diagonal()
                found["test_error"][key] = float(wrong.sum() / count)
                found["test_error"][f"{prefix}count"] = int(wrong.sum())
                found["test_error"][f"{prefix}by_class"] = [  # None: no test image is of the class
                    float(few / many) if many else None
                    for few, many in zip(wrong, matrix.sum(axis=1), strict=True)
                ]
                found["confusion_matrix"][f"{prefix}matrix"] = matrix.tolist()
                found["calibration_error"][key] = calibration_error(shares, label)
            if unit is not None:
                off = unit * (predicted[f"{prefix}targets"] - true["target"])
                found["target_rmse"][key] = float(np.sqrt(np.mean(np.square(off, dtype=np.float64))))
                found["target_rmse"][f"{prefix}mean_absolute_error"] = float(np.mean(np.abs(off)))
        protocol = {"test_images": count, **facts}
        further = {
            "confusion_matrix": {"classes": list(class_names)},
            "calibration_error": {"bins": BINS},
            "target_rmse": {"unit": unit},
        }
        return {name: {**found[name], "protocol": protocol | further.get(name, {})} for name in names}

    def verdict(results: Mapping[str, dict[str, Any]]) -> list[str]:
        return [
            f"{name}: {results[name]['value']:.4g} is not below what the same network has that learned "
            f"from the labels alone, {results[name]['baseline']:.4g}"
            for name in ("test_error", "target_rmse")
            if name in results and not results[name]["value"] < results[name]["baseline"]
        ]

    return Judge(
        tuple(names),
        results,
        verdict if baseline else None,
        conditions=lambda most: {"image": images(most)},
    )
