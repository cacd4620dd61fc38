"""The kernel distance between two sets of features: the unbiased squared maximum mean discrepancy.

With the features of one certain Inception network this is the KID (Bińkowski et al. 2018); with any others it
is not, and figures over different features can't be compared.
"""

from typing import NamedTuple

import numpy as np

from ganjax import errors


class KernelDistance(NamedTuple):
    """The mean over subsets, which may be below 0, and their standard deviation (over n, not n - 1)."""

    value: float
    std: float


def kernel_distance(
    features: np.ndarray,
    real_features: np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
    strict: bool = False,
) -> KernelDistance:
    """The mean over subsets of MMD^2 with the kernel (x . y / F + 1)^3, in float64.

    With Inception's features and the defaults this is the KID as the reference implementations state it: 100
    subsets of 1,000, drawn without replacement from each set, and the deviation over the subsets.

    Args:
      features: [N, F], finite.
      real_features: [M, F], finite.
      subsets: how many pairs of subsets are drawn, each without replacement.
      subset_size: features in a subset, at least 2.
      seed: of the draws.
      strict: whether sets of fewer than `subset_size` are refused, as the KID's protocol asks; else a subset
        has as many as the smaller set.
    Returns:
      Its expectation is 0 for two sets of one distribution, whatever their sizes.
    Raises:
      UsageError: another shape, fewer rows than 2 or than `strict` asks for, or no subsets.
      RunError: a feature is NaN or infinite.

    References:
      Bińkowski, Sutherland, Arbel and Gretton, "Demystifying MMD GANs", 2018, section 3.
      Gretton et al., "A Kernel Two-Sample Test", 2012, lemma 6, for the unbiased estimate.
    """
    sets = [np.asarray(x, np.float64) for x in (features, real_features)]
    if any(x.ndim != 2 or len(x) < 2 for x in sets) or sets[0].shape[1] != sets[1].shape[1]:
        raise errors.UsageError(
            f"expected features [N, F] and [M, F] of at least 2 rows, got {sets[0].shape} and {sets[1].shape}"
        )
    if subsets < 1 or subset_size < 2:
        raise errors.UsageError(
            f"subsets={subsets} of {subset_size}: expected at least one, of at least 2 features"
        )
    if not all(np.isfinite(x).all() for x in sets):
        raise errors.RunError("features: found NaN or infinity")
    if strict and min(map(len, sets)) < subset_size:
        raise errors.UsageError(
            f"the kernel distance draws subsets of {subset_size}, got {len(sets[0])} samples and "
            f"{len(sets[1])} real images; get more, or ask for a smaller subset_size"
        )
    draw = np.random.default_rng(seed)
    size = min(subset_size, *map(len, sets))
    values = []
    for _ in range(subsets):
        x, y = (rows[draw.choice(len(rows), size, replace=False)] for rows in sets)
        within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(x, x), _kernel(y, y)))
        values.append(within / (size * (size - 1)) - 2 * _kernel(x, y).mean())
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def resampled_distances(
    features: np.ndarray,
    real_features: np.ndarray,
    counts: np.ndarray,
    real_counts: np.ndarray,
    units: np.ndarray | None = None,
    real_units: np.ndarray | None = None,
) -> np.ndarray:
    """The kernel distance of sets that are drawn from two with replacement: float64 [R].

    Each is the unbiased estimate, without the pairs of two rows of one unit, however often it was drawn:
    they'd say that a set is like itself and, where an image and its translation are of one unit, that the two
    sets are alike. The kernel is computed once for all draws.

    Args:
      features, real_features: as `kernel_distance` has them.
      counts: [R, N], how often each row is in a draw. Where one unit alone is, the answer is NaN.
      real_counts: [R, M].
      units: [N], numbers; rows that have the same, in either set, aren't independent. None: all are.
      real_units: [M].
    """
    x, y = (np.asarray(rows, np.float64) for rows in (features, real_features))
    w, v = (np.asarray(drawn, np.float64) for drawn in (counts, real_counts))
    of = np.arange(len(x)) if units is None else np.asarray(units)
    real_of = of.max() + 1 + np.arange(len(y)) if real_units is None else np.asarray(real_units)
    numbers = np.unique(np.concatenate([of, real_of]), return_inverse=True)[1]
    of, real_of = numbers[: len(of)], numbers[len(of) :]

    def by_unit(drawn: np.ndarray, which: np.ndarray) -> np.ndarray:
        return drawn @ (which[:, None] == np.arange(numbers.max() + 1)[None])

    def mean(
        a: np.ndarray, b: np.ndarray, p: np.ndarray, q: np.ndarray, of_a: np.ndarray, of_b: np.ndarray
    ) -> np.ndarray:
        """Of the kernel over the pairs of a row of a, drawn p times, and one of b, drawn q times."""
        kernel = np.where(of_a[:, None] == of_b[None], 0.0, _kernel(a, b))
        pairs = p.sum(axis=1) * q.sum(axis=1) - (by_unit(p, of_a) * by_unit(q, of_b)).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(pairs > 0, ((p @ kernel) * q).sum(axis=1) / pairs, np.nan)

    within = mean(x, x, w, w, of, of) + mean(y, y, v, v, real_of, real_of)
    return within - 2 * mean(x, y, w, v, of, real_of)


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3
