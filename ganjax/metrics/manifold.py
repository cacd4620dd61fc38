"""How real and generated features overlap: precision and recall, density and coverage.

Each set's region is estimated by balls around its points that reach to their k-th nearest neighbours of the
same set. All distances are Euclidean, in float64, and computed in blocks, so that memory is bounded by the
features themselves and a few small matrices.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ganjax import errors

_BLOCK = 2048  # rows and columns of distances at a time: 32 MiB

# Squared distances are differences of squared lengths. Below this share of those, they are rounding.
_ROUNDING = 1e-13


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of fakes that lie in the real region, and of real ones that lie in the fakes'."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density: at least 0 and around 1 for equal distributions. Coverage: a share in [0, 1]."""

    density: float
    coverage: float


def precision_recall(
    real: np.ndarray,
    fake: np.ndarray,
    k: int = 3,
    *,
    real_radii: np.ndarray | None = None,
    fake_radii: np.ndarray | None = None,
) -> PrecisionRecall:
    """Improved precision and recall.

    Precision is the share of fakes within at least one real ball, recall the share of real features within at
    least one fake ball; a ball includes its boundary.

    Args:
      real, fake: features [N, F] and [M, F], finite, more than k of each. Comparable only between equal N and
        M; the papers take 50,000 of each.
      k: at least 1; 3 in the paper.
      real_radii, fake_radii: `neighbour_radii` of the set with this k, where they are known already.
    Raises:
      UsageError: shapes that do not fit, or too few features.
      RunError: a feature is NaN or infinite.

    References:
      Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019,
      section 2. The features there are those of VGG16; with Inception's the figures are others.
    """
    real, fake = _checked(real, fake, k)
    real_squares = _squared_radii(real, k, real_radii)
    fake_squares = _squared_radii(fake, k, fake_radii)
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for rows, columns, squared in _blocks(real, fake):
        precise[columns] |= (squared <= real_squares[rows, None]).any(axis=0)
        recalled[rows] |= (squared <= fake_squares[None, columns]).any(axis=1)
    return PrecisionRecall(float(precise.mean()), float(recalled.mean()))


def density_coverage(
    real: np.ndarray, fake: np.ndarray, k: int = 5, *, real_radii: np.ndarray | None = None
) -> DensityCoverage:
    """Density and coverage.

    Density is how many real balls a fake lies in, on average, over k: unlike precision, one far real outlier
    with its large ball adds little. Coverage is the share of real balls that hold a fake: unlike recall, it
    asks nothing of the fakes' own region, which outliers inflate. Here a ball has no boundary, as the authors
    count.

    Args:
      real, fake: features [N, F] and [M, F], finite, more than k real ones and at least 1 fake.
      k: at least 1; 5 in the paper, with 10,000 of each.
      real_radii: `neighbour_radii(real, k)`, where they are known already.
    Raises:
      UsageError: shapes that do not fit, or too few features.
      RunError: a feature is NaN or infinite.

    References:
      Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020, section 3.
    """
    real, fake = _checked(real, fake, k, fewest_fake=1)
    squares = _squared_radii(real, k, real_radii)
    inside, covered = 0, np.zeros(len(real), bool)
    for rows, _, squared in _blocks(real, fake):
        within = squared < squares[rows, None]
        inside += np.count_nonzero(within)
        covered[rows] |= within.any(axis=1)
    return DensityCoverage(float(inside / (k * len(fake))), float(covered.mean()))


def neighbour_radii(features: np.ndarray, k: int) -> np.ndarray:
    """The distance of each feature to its k-th nearest other one, float64 [N].

    Features that differ by less than about 3e-7 of their length from the set's mean count as equal.

    Args:
      features: [N, F], N > k, finite.
      k: at least 1.
    Raises:
      UsageError: another shape, or too few features.
      RunError: a feature is NaN or infinite.
    """
    features, _ = _checked(features, features, k)
    return np.sqrt(_squared_radii(features, k, None))


def _squared_radii(features: np.ndarray, k: int, radii: np.ndarray | None) -> np.ndarray:
    if radii is not None:
        radii = np.asarray(radii, np.float64)
        if radii.shape != (len(features),):
            raise errors.UsageError(f"radii: expected the shape ({len(features)},), got {radii.shape}")
        return radii**2
    nearest = np.full((len(features), k), np.inf)
    for rows, columns, squared in _blocks(features, features, upper=True):
        if rows == columns:
            np.fill_diagonal(squared, np.inf)  # its own neighbour it is not
        else:
            nearest[columns] = _least(nearest[columns], squared.T, k)
        nearest[rows] = _least(nearest[rows], squared, k)
    return nearest.max(axis=1)


def _least(known: np.ndarray, squared: np.ndarray, k: int) -> np.ndarray:
    """The k least of each row of both, in any order."""
    if squared.shape[1] > k:
        squared = np.partition(squared, k - 1, axis=1)[:, :k]
    return np.partition(np.concatenate([known, squared], axis=1), k - 1, axis=1)[:, :k]


def _blocks(
    real: np.ndarray, fake: np.ndarray, upper: bool = False
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Rows, columns, squared distances in float64; with `upper` the blocks on and above the diagonal."""
    # Around a common centre lengths are smaller, and so is what their difference loses.
    centre = real.mean(axis=0, dtype=np.float64)
    for i in range(0, len(real), _BLOCK):
        here = real[i : i + _BLOCK] - centre
        here_squares = np.einsum("nf,nf->n", here, here)
        for j in range(i if upper else 0, len(fake), _BLOCK):
            there = fake[j : j + _BLOCK] - centre
            lengths = here_squares[:, None] + np.einsum("nf,nf->n", there, there)[None, :]
            squared = here @ there.T
            squared *= -2
            squared += lengths
            squared[squared < _ROUNDING * lengths] = 0
            yield slice(i, i + len(here)), slice(j, j + len(there)), squared


def _checked(
    real: np.ndarray, fake: np.ndarray, k: int, fewest_fake: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    real, fake = np.asarray(real), np.asarray(fake)
    if k < 1:
        raise errors.UsageError(f"k={k}: expected at least 1 neighbour")
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise errors.UsageError(f"expected features [N, F] and [M, F], got {real.shape} and {fake.shape}")
    for features, name, fewest in ((real, "real", k + 1), (fake, "generated", fewest_fake or k + 1)):
        if len(features) < fewest:
            raise errors.UsageError(
                f"{len(features)} {name} features: the {k} nearest neighbours need at least {fewest}"
            )
        if not np.isfinite(features).all():
            raise errors.RunError(f"{name} features: found NaN or infinity")
    return real, fake
