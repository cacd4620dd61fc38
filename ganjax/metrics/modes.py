"""How many modes of a known mixture a generator reaches, and how evenly: mode collapse, counted."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganjax.data.plane import Mixture
from ganjax.errors import UsageError, nearest
from ganjax.gan import Judge

METRICS = ("modes_reached", "good_samples", "mode_shares", "mode_kl", "label_agreement")

# The least that a model of a mixture should do. Of real samples 98.9 % are good, and all modes are reached.
BARS: Mapping[str, float] = {
    "modes_reached": 1.0,
    "good_samples": 0.9,
    "mode_kl": 0.1,
    "label_agreement": 0.98,
}


def mode_coverage(
    samples: np.ndarray,
    centers: np.ndarray,
    std: float,
    *,
    labels: np.ndarray | None = None,
    within: float = 3.0,
    at_least: int = 1,
) -> dict[str, dict[str, Any]]:
    """What became of the modes of a mixture of equally likely round Gaussians.

    A sample is good if it lies within `within` standard deviations of the nearest centre, and a mode is
    reached if it is nearest to at least `at_least` good samples. Three deviations and one sample are what
    Srivastava et al. 2017 ("VEEGAN") and Lin et al. 2018 ("PacGAN") count by, on 2,500 samples. With more
    samples one is soon there by chance, so `modes_reached` has a stricter count besides, `half_filled`.

    Every result is a JSON-able dict with `value`, where there are any further figures, and `protocol`.

    - `modes_reached`: how many; `modes`, of how many; `share`; `half_filled`, how many have at least half of
      their due, 1 / (2 K) of all samples, good; `missed`, the numbers of those not reached.
    - `good_samples`: the share of good samples; `real`, of samples of the mixture itself.
    - `mode_shares`: of the good samples, each mode's share, in the order of `centers`; all 0 if none is good.
    - `mode_kl`: the Kullback-Leibler divergence of these shares from equal ones, in nats; from 0 to log K,
      which is what a single mode gets, and what stands there if no sample is good.
    - `label_agreement` (only with `labels`): the share of samples nearest to the mode that was asked for.

    Args:
      samples: finite [N, 2], N >= 1.
      centers: [K, 2], K >= 1.
      std: of each mode in both coordinates, above 0, in the units of samples and centers.
      labels: the modes asked for, integers [N] in [0, K); None of an unconditional model.
      within: in standard deviations, above 0.
      at_least: good samples that make a mode reached, at least 1.
    Raises:
      UsageError: shapes do not fit, a value is out of range or not finite.
    """
    samples, centers = np.asarray(samples, np.float64), np.asarray(centers, np.float64)
    for name, points in (("samples", samples), ("centers", centers)):
        if points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise UsageError(f"{name}: expected points [n, 2], at least one, got the shape {points.shape}")
        if not np.isfinite(points).all():
            raise UsageError(f"{name}: {(~np.isfinite(points)).sum()} coordinates are not finite")
    for name, value in (("std", std), ("within", within)):
        if not 0 < value < math.inf:
            raise UsageError(f"{name}={value}: expected a number above 0")
    if at_least < 1:
        raise UsageError(f"at_least={at_least}: a mode is reached by at least 1 sample")
    count, modes = len(samples), len(centers)
    mode, distance = _nearest(samples, centers)
    good = distance <= within * std
    filled = np.bincount(mode[good], minlength=modes)
    reached = filled >= at_least

    def protocol(**further: Any) -> dict[str, Any]:
        return {"samples": count, "std": float(std), "within": float(within), **further}

    shares = filled / max(int(good.sum()), 1)
    positive = shares[shares > 0]
    divergence = float(np.sum(positive * np.log(positive * modes))) if len(positive) else math.log(modes)
    results: dict[str, dict[str, Any]] = {
        "modes_reached": {
            "value": int(reached.sum()),
            "modes": modes,
            "share": float(reached.mean()),
            "half_filled": int((filled >= count / (2 * modes)).sum()),
            "missed": np.flatnonzero(~reached).tolist(),
            "protocol": protocol(at_least=at_least),
        },
        "good_samples": {
            "value": float(good.mean()),
            "real": 1 - math.exp(-(within**2) / 2),  # where modes don't overlap
            "protocol": protocol(),
        },
        "mode_shares": {"value": shares.tolist(), "protocol": protocol(of="good samples")},
        "mode_kl": {"value": max(divergence, 0.0), "protocol": protocol(of="good samples", base="e")},
    }
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise UsageError(f"labels: expected {count} integers, got {labels.dtype} {labels.shape}")
        if labels.min() < 0 or labels.max() >= modes:
            raise UsageError(f"labels: expected 0 to {modes - 1}, found {labels.min()} to {labels.max()}")
        results["label_agreement"] = {"value": float(np.mean(mode == labels)), "protocol": protocol()}
    return results


def verdict(results: Mapping[str, Mapping[str, Any]], *, bars: Mapping[str, float] = BARS) -> list[str]:
    """What speaks against a model: a line for each figure that misses its bar, naming both; none: it passes.

    Args:
      results: from `mode_coverage`; figures that are not among them are passed over.
      bars: name -> bar. Of `modes_reached`, the least share of all modes; of `mode_kl`, the largest value; of
        `good_samples` and `label_agreement`, the least.
    Raises:
      ValueError: a bar for a figure that there is none for.
    """
    lines = []
    for name, bar in bars.items():
        if name not in BARS:
            raise ValueError(f"there is no bar for {name}; {nearest(name, BARS)}")
        if name not in results:
            continue
        result = results[name]
        value = result["value"]
        if name == "modes_reached":
            if not result["share"] >= bar:
                lines.append(f"{name}: {value} of {result['modes']}, expected {bar:.0%} of them")
        elif name == "mode_kl":
            if not value <= bar:
                lines.append(f"{name}: {value:.4f}, expected at most {bar}")
        elif not value >= bar:
            lines.append(f"{name}: {value:.4f}, expected at least {bar}")
    return lines


def judge(mixture: Mixture) -> Judge:
    """What `--mode=evaluate` says of an experiment on a mixture: `Experiment(..., judge=judge(mixture))`."""

    def results(samples: np.ndarray, labels: np.ndarray | None) -> dict[str, dict[str, Any]]:
        points = mixture.points(samples)
        found = mode_coverage(points, mixture.centers, mixture.std, labels=labels)
        for result in found.values():
            result["protocol"]["mixture"] = mixture.name
        return found

    names = METRICS if mixture.num_classes else METRICS[:-1]
    return Judge(names, results, verdict)


def _nearest(samples: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each sample, int64 [N], and how far it is, float64 [N]."""
    nearest = np.zeros(len(samples), np.int64)
    least = np.full(len(samples), np.inf)
    for k, center in enumerate(centers):
        distance = np.hypot(*(samples - center[None]).T)
        closer = distance < least
        nearest[closer], least[closer] = k, distance[closer]
    return nearest, least
