"""How well scores tell anomalies from normal images, beside what simpler methods do with the same images."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ganjax.errors import RunError, UsageError
from ganjax.gan import Judge

PCA_COMPONENTS = 64
FITTED = 20_000  # normal images that baselines are fitted to, at most
LARGEST_COVARIANCE = 4096  # pixels of which PCA takes the covariance; of larger images, step by step
ROWS = 1000  # of these, images that are in memory as floats at a time, and whose own components begin with
SPARE = 64  # and further axes that are sought, so that those that are wanted come out well


def check_scores(scores: np.ndarray, anomalous: np.ndarray) -> None:
    """Raises ValueError unless they are finite [N], with booleans [N], some of them true and some false."""
    if scores.ndim != 1 or anomalous.shape != scores.shape or anomalous.dtype != bool:
        raise ValueError(
            f"scores {scores.shape}, {anomalous.dtype} {anomalous.shape}: expected [N], bool [N]"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores that are not finite")
    if not anomalous.any() or anomalous.all():
        raise ValueError("all images are normal, or all are anomalies: there is nothing to tell apart")


def roc_area(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """The area under the ROC curve: how often an anomaly has a higher score than a normal image; ties count
    half.

    Args:
      scores: [N].
      anomalous: bool [N].
    """
    check_scores(scores, anomalous)
    values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    del values
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # the mean rank of equal scores
    positive = int(anomalous.sum())
    negative = len(scores) - positive
    return float((ranks[anomalous].sum() - positive * (positive + 1) / 2) / (positive * negative))


def average_precision(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """The mean precision over the anomalies, from the highest score down: sum of (R_k - R_(k-1)) P_k over the
    thresholds. A score by chance has the share of anomalies.

    Args:
      scores: [N].
      anomalous: bool [N].
    """
    check_scores(scores, anomalous)
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(anomalous[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of equal scores
    precision = found[last] / (last + 1)
    recall = found[last] / found[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def check_false_alarms(rate: float, held_out: int) -> None:
    """Raises UsageError unless so many held-out normal images can tell the threshold of this share."""
    if not 0 < rate < 1:
        raise UsageError(f"false alarms at a rate of {rate}: expected a share above 0 and below 1")
    if not _exceeding(rate, held_out):
        digits = len(str(held_out)) + 1
        least = -(-(10**digits) // (held_out + 1)) / 10**digits  # rounded up, or it would be refused too
        instead = f"at least {least:g}, or " if held_out else ""
        raise UsageError(
            f"false alarms at a rate of {rate}: {held_out} normal images are held out, too few for it; "
            f"expected {instead}training with more of them held out"
        )


def threshold_at(normal: np.ndarray, false_alarms: float) -> float:
    """The lowest of these scores that a further normal image exceeds with at most this probability: beyond it
    is an anomaly.

    Of n + 1 images of one kind each is as likely to have the j-th highest score, so that a further one is
    above the j-th highest of n with a probability of j / (n + 1). The share of the n images themselves is
    lower.

    Args:
      normal: scores [n] of normal images that were not learned from.
      false_alarms: in (0, 1), at least 1 / (n + 1).
    Raises:
      UsageError: as `check_false_alarms`.
    References:
      Vovk et al. 2005, "Algorithmic learning in a random world"; Laxhammar & Falkman 2010, "Conformal
      prediction for distribution-independent anomaly detection in streaming vessel data".
    """
    check_false_alarms(false_alarms, len(normal))
    return float(np.sort(normal)[len(normal) - _exceeding(false_alarms, len(normal))])


def _exceeding(rate: float, held_out: int) -> int:
    """Of so many normal images and a further one, how many may have the highest scores."""
    return int((held_out + 1) * rate * (1 + 1e-12))  # which 0.05 * 20 is to reach


def components_of(images: int, pixels: int, most: int = PCA_COMPONENTS) -> int:
    """How many components PCA takes of so many images: M have M - 1, and half of the pixels' number leaves
    something over."""
    return max(min(most, images - 1, pixels // 2), 0)


def pca_scores(normal: np.ndarray, images: np.ndarray, components: int = PCA_COMPONENTS) -> np.ndarray:
    """The mean squared residual [N] of images after a projection on the principal components of normal ones.

    Args:
      normal: uint8 [M, H, W, C].
      images: uint8 [N, H, W, C].
      components: how many, at most: as `components_of`.
    """
    flat = normal.reshape(len(normal), -1)
    components = components_of(*flat.shape, components)
    mean = (flat.mean(axis=0, dtype=np.float64) / 255).astype(np.float32)
    if flat.shape[1] <= LARGEST_COVARIANCE:
        axes = _largest(_centred(flat, mean), components)
    else:
        axes = principal_axes(flat, mean, components)
    given = _centred(images.reshape(len(images), -1), mean)
    residual = given - (given @ axes) @ axes.T
    return np.mean(np.square(residual), axis=1)


def principal_axes(flat: np.ndarray, mean: np.ndarray, components: int) -> np.ndarray:
    """Orthonormal [D, components] on which images have the largest variance, without a D by D matrix.

    The components of some images span a space that one step of subspace iteration, over all of them, turns to
    the components of all. Of images whose variances fall as natural images' do, the residual is by a
    ten-thousandth larger than that of the exact ones. Of few images they are exact.

    References:
      Halko et al. 2011, "Finding structure with randomness: probabilistic algorithms for constructing
      approximate matrix decompositions", section 4.5.

    Args:
      flat: uint8 [M, D].
      mean: float32 [D], theirs, of values in [0, 1].
      components: how many, less than M.
    """
    some = _centred(flat[np.linspace(0, len(flat) - 1, min(len(flat), ROWS)).astype(np.int64)], mean)
    axes = np.linalg.qr(some.T @ _largest(some.T, min(components + SPARE, len(some) - 1)))[0]
    if len(some) < len(flat):

        def parts() -> Iterator[np.ndarray]:
            for start in range(0, len(flat), ROWS):
                yield _centred(flat[start : start + ROWS], mean)

        turned = np.zeros_like(axes)
        for part in parts():
            turned += part.T @ (part @ axes)
        axes = np.linalg.qr(turned)[0]
        axes = axes @ _largest(np.concatenate([part @ axes for part in parts()]), components)
    return axes[:, :components]


def _centred(flat: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return flat.astype(np.float32) / 255 - mean


def _largest(centred: np.ndarray, count: int) -> np.ndarray:
    """Orthonormal [D, count]: of [M, D] the axes along which it is largest, the largest first."""
    return np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :count]


def isolation_scores(normal: np.ndarray, images: np.ndarray) -> np.ndarray | None:
    """The anomaly scores [N] of scikit-learn's isolation forest, fitted to the pixels of normal images; None
    where scikit-learn is not installed (Liu et al. 2008, "Isolation forest").

    Args: as for `pca_scores`.
    """
    try:
        from sklearn.ensemble import IsolationForest  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    forest = IsolationForest(random_state=0).fit(normal.reshape(len(normal), -1))
    return -forest.score_samples(images.reshape(len(images), -1))


class Given(NamedTuple):
    """What a model is judged on.

    Attributes:
      test: uint8 [N, H, W, C], normal images and anomalies.
      anomalous: bool [N].
      held_out: uint8 [m, H, W, C], normal images that were not learned from, for the threshold.
      normal: gives those that were, uint8 [M, H, W, C], at most so many, for the baselines.
    """

    test: np.ndarray
    anomalous: np.ndarray
    held_out: np.ndarray
    normal: Callable[[int], np.ndarray]


def judge(
    given: Callable[[int], Given],
    to_model: Callable[[np.ndarray], np.ndarray],
    false_alarms: float,
    facts: Mapping[str, Any],
) -> Judge:
    """The judge of a model whose `sample` gives a "score" to each image.

    - `roc_area`, `average_precision`: see there; with those of `pca`, and of `isolation_forest` where
      scikit-learn is installed.
    - `detection`: with the threshold that a normal image exceeds with a probability of `false_alarms`, by
      the held-out ones (`threshold_at`), the share of anomalies that exceed it; `false_alarm_rate` is the
      share of the test's normal images that do. None, and why, where too few are held out for such a share.

    The verdict is against a model that is not above all of the others in both of the first.

    Args:
      given: how many test images at most -> what is judged on.
      to_model: images as the model takes them.
      false_alarms: in (0, 1).
      facts: what protocols say besides.
    """
    asked: dict[int, Given] = {}

    def conditions(most: int) -> dict[str, np.ndarray]:
        one = given(most)
        together = to_model(np.concatenate([one.test, one.held_out]))
        asked[len(together)] = one
        return {"image": together}

    def results(found: Mapping[str, np.ndarray], labels: None) -> dict[str, dict[str, Any]]:
        del labels
        scores = found["score"].astype(np.float64)
        if not np.isfinite(scores).all():
            raise RunError("the model answers with NaN or infinity; choose an earlier one with --checkpoint=")
        one = asked[len(scores)]
        count, truth = len(one.test), one.anomalous
        normal = one.normal(FITTED)
        others = {"pca": pca_scores(normal, one.test), "isolation_forest": isolation_scores(normal, one.test)}
        others = {name: other for name, other in others.items() if other is not None}
        scores, held = scores[:count], scores[count:]
        axes = components_of(len(normal), normal[0].size)
        protocol = {
            "test_images": count,
            "anomalies": int(truth.sum()),
            "baselines": f"fitted to {len(normal)} normal images, PCA of {axes} components",
            **facts,
        }
        if "isolation_forest" not in others:
            protocol["isolation_forest"] = "not measured, as scikit-learn is not installed (ganjax[anomaly])"
        results = {}
        for name, measure in {"roc_area": roc_area, "average_precision": average_precision}.items():
            beside = {other: measure(by, truth) for other, by in others.items()}
            results[name] = {"value": measure(scores, truth), **beside, "protocol": protocol}
        about = {**protocol, "held_out": len(held), "false_alarms": false_alarms}
        try:
            threshold = threshold_at(held, false_alarms)
        except UsageError as error:  # what can be told without a threshold is told
            results["detection"] = {"value": None, "protocol": {**about, "not_measured": str(error)}}
            return results
        results["detection"] = {
            "value": float(np.mean(scores[truth] > threshold)),
            "false_alarm_rate": float(np.mean(scores[~truth] > threshold)),
            "threshold": threshold,
            "protocol": about,
        }
        return results

    def verdict(results: Mapping[str, dict[str, Any]]) -> list[str]:
        return [
            f"{metric}: {result['value']:.4g} is not above that of {name}, {result[name]:.4g}"
            for metric in ("roc_area", "average_precision")
            for result in (results[metric],)
            for name in ("pca", "isolation_forest")
            if name in result and not result["value"] > result[name]
        ]

    return Judge(("roc_area", "average_precision", "detection"), results, verdict, conditions)
