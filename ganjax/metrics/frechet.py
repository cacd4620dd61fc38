"""The Fréchet distance between two Gaussians, over any features.

With the features of one certain Inception network this is the FID (Heusel et al. 2017); with any others it
is not, and figures over different features can't be compared.
"""

import io
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.stats

from ganjax import errors
from ganjax.report.files import write_atomically

_ROWS = 4096  # that are turned into float64 at a time
_BLAS: Any = scipy.linalg.blas  # whose routines type checkers do not know
_LAPACK: Any = scipy.linalg.lapack


class GaussianStatistics:
    """Mean and unbiased covariance of features that come in batches, in float64 and bounded memory.

    A batch is centred by its own mean and joined by the formula of Chan, Golub and LeVeque ("Algorithms for
    computing the sample variance", 1983), so that nothing is lost where the mean is large: the result is that
    of `gaussian_statistics` of all batches at once, to rounding. Memory is one float64 [F, F].
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0), order="F")  # its lower triangle alone

    def update(self, features: np.ndarray) -> None:
        """Adds a batch.

        Args:
          features: [n, F], n >= 0, finite; F is that of the first batch.
        Raises:
          UsageError: another shape.
          RunError: a feature is NaN or infinite; nothing of the batch is added then.
        """
        features = np.asarray(features)
        if features.ndim != 2 or (self.count and features.shape[1] != self._mean.size):
            width = self._mean.size if self.count else "F"
            raise errors.UsageError(f"features: expected the shape [n, {width}], got {features.shape}")
        _check_finite(features)
        for start in range(0, len(features), _ROWS):
            rows = features[start : start + _ROWS].astype(np.float64)
            mean = rows.mean(axis=0)
            rows -= mean
            self._join(len(rows), mean, rows)

    def merge(self, other: "GaussianStatistics") -> None:
        """Adds all that `other` has seen. Raises UsageError where its features have another width."""
        if not other.count:
            return
        if self.count and other._mean.size != self._mean.size:
            raise errors.UsageError(
                f"statistics of {other._mean.size} features can't be merged with those of {self._mean.size}"
            )
        self._join(other.count, other._mean, np.zeros((0, other._mean.size)))
        self._scatter += other._scatter

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean float64 [F] and covariance float64 [F, F].

        Raises:
          UsageError: fewer than 2 rows were seen.
        """
        if self.count < 2:
            raise errors.UsageError(f"features: a covariance needs at least 2 rows, got {self.count}")
        lower = self._scatter / (self.count - 1)
        cov = np.tril(lower)
        cov += np.tril(lower, -1).T
        return self._mean.copy(), cov

    def _join(self, count: int, mean: np.ndarray, centred: np.ndarray) -> None:
        """Adds `count` rows of this mean, whose scatter is that of `centred`."""
        if not self.count:
            self._mean = np.zeros(mean.size)
            self._scatter = np.zeros((mean.size, mean.size), order="F")
        difference = mean - self._mean
        total = self.count + count
        # What lies between the means counts as one more centred row.
        between = difference * np.sqrt(self.count * count / total)
        rows = np.concatenate([centred, between[None]])
        self._scatter = _BLAS.dsyrk(1.0, rows.T, beta=1.0, c=self._scatter, lower=1, overwrite_c=1)
        self._mean = self._mean + difference * (count / total)
        self.count = total


def gaussian_statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased covariance.

    Args:
      features: [N, F], N >= 2, finite.
    Returns:
      mean float64 [F] and covariance float64 [F, F].
    Raises:
      UsageError: another shape, or fewer than 2 rows.
      RunError: a feature is NaN or infinite.
    """
    features = np.asarray(features)
    if features.ndim != 2:
        raise errors.UsageError(f"features: expected the shape [N, F], got {features.shape}")
    statistics = GaussianStatistics()
    statistics.update(features)
    return statistics.result()


class SavedStatistics(NamedTuple):
    """What a file of statistics holds.

    Attributes:
      mean: float64 [F].
      cov: float64 [F, F].
      count: of how many images; None where the file does not say.
      about: what else was saved: {} where there is nothing.
    """

    mean: np.ndarray
    cov: np.ndarray
    count: int | None
    about: dict[str, Any]


def save_statistics(
    path: str | os.PathLike,
    mean: np.ndarray,
    cov: np.ndarray,
    count: int,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes an `.npz` with `mu`, `sigma` (the names that pytorch-fid uses), `count` and `about`.

    Args:
      path: a local path, whose folder is made. A reader sees the old file or the new, never half.
      mean, cov: [F] and [F, F].
      count: of how many images.
      about: further facts that go into JSON, such as the weights' sha256.
    Raises:
      UsageError: the shapes do not fit.
      RunError: the file can't be written.
    """
    mean, cov = np.asarray(mean, np.float64), np.asarray(cov, np.float64)
    _check_shapes(mean, cov)
    file, about_text = io.BytesIO(), np.array(json.dumps(dict(about or {})))
    np.savez(file, allow_pickle=False, mu=mean, sigma=cov, count=np.array(count), about=about_text)
    write_atomically(path, file.getvalue())


def load_statistics(path: str | os.PathLike) -> SavedStatistics:
    """Statistics from an `.npz` with `mu` and `sigma`: ours, or one that was made for pytorch-fid.

    Nothing that the file holds is executed.

    Raises:
      UsageError: there is no such file, it is no such archive, or its arrays are no mean and covariance.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            missing = {"mu", "sigma"} - set(file.files)
            if missing:
                raise ValueError(f"it has no {' and no '.join(sorted(missing))}")
            mean, cov = np.asarray(file["mu"], np.float64), np.asarray(file["sigma"], np.float64)
            count = int(file["count"]) if "count" in file.files else None
            about = json.loads(str(file["about"])) if "about" in file.files else {}
        _check_shapes(mean, cov)
        _check_finite(mean)
        _check_finite(cov)
    except FileNotFoundError:
        raise errors.UsageError(f"{path}: there is no such file of statistics") from None
    # zipfile answers changed bytes with a dozen kinds of errors, and each of them means the same here.
    except Exception as error:
        reason = errors.one_line(error)
        raise errors.UsageError(f"{path}: expected an .npz with mu [F] and sigma [F, F]: {reason}") from None
    return SavedStatistics(mean, cov, count, about)


def frechet_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """The squared 2-Wasserstein distance between the Gaussians N(mean1, cov1) and N(mean2, cov2).

    |mean1 - mean2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)), in float64. With cov = L L^T of each, the last
    trace is the sum of the singular values of L1^T L2: real, and exact to rounding for singular covariances
    too, where a root of the product cov1 cov2 is neither.

    Args:
      mean1, mean2: [F].
      cov1, cov2: [F, F], symmetric, positive semi-definite.
    Returns:
      At least 0. Not its square root: this is how the literature states it.
    Raises:
      UsageError: the shapes do not fit.
      RunError: NaN or infinity, or a covariance that is not symmetric and positive semi-definite.

    References:
      Dowson and Landau, "The Fréchet distance between multivariate normal distributions", 1982.
      Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
      2017, section 3.
    """
    return _distance(_Gaussian(mean1, cov1), _Gaussian(mean2, cov2))


class ExtrapolatedDistance(NamedTuple):
    """The distance that infinitely many samples would have, and what it was found from.

    Attributes:
      value: where the line of distance over 1/N meets 0. May be below 0 for a near perfect generator.
      std_error: of `value`, by the line's residuals. The points share samples, so it is too small rather
        than too large.
      slope: of the line, for 1/N; the bias at N samples is about slope / N.
      counts: int64 [points], the Ns.
      distances: float64 [points].
    """

    value: float
    std_error: float
    slope: float
    counts: np.ndarray
    distances: np.ndarray


def frechet_distance_infinity(
    features: np.ndarray,
    real_mean: np.ndarray,
    real_cov: np.ndarray,
    *,
    points: int = 15,
    least: int = 5000,
    seed: int = 0,
) -> ExtrapolatedDistance:
    """FID-infinity: the distance without the bias that a finite number of samples gives it.

    The distance of N samples exceeds that of infinitely many by about a constant over N, and the constant
    depends on the generator, so that distances at one N may rank two generators wrongly. Here a line over 1/N
    is fitted to distances of random subsets of `points` sizes, evenly spaced from `least` to all. The bias of
    the real set's own size stays in.

    Args:
      features: of samples, [N, F], N > least, finite.
      real_mean, real_cov: statistics of the real features, [F] and [F, F].
      points: at least 3.
      least: the smallest subset, at least 2; more than F, or the distance is not yet linear in 1/N.
      seed: of the draws.
    Raises:
      UsageError: shapes that do not fit, or too few samples or points.
      RunError: as `frechet_distance`.

    References:
      Chong and Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them", 2020,
      section 3. There latents come from a Sobol sequence as well, which is the caller's choice.
    """
    features = np.asarray(features)
    if points < 3 or least < 2:
        raise errors.UsageError(f"points={points}, least={least}: expected at least 3 and at least 2")
    if features.ndim != 2 or len(features) <= least:
        raise errors.UsageError(
            f"features: expected [N, F] with N > least={least}, got {features.shape}; draw more samples"
        )
    real = _Gaussian(real_mean, real_cov)
    counts = np.linspace(least, len(features), points).astype(np.int64)
    draw = np.random.default_rng(seed)
    distances = []
    for count in counts:
        chosen = draw.permutation(len(features))[:count]
        distances.append(_distance(_Gaussian(*gaussian_statistics(features[chosen])), real))
    fit: Any = scipy.stats.linregress(1 / counts, distances)
    return ExtrapolatedDistance(
        float(fit.intercept), float(fit.intercept_stderr), float(fit.slope), counts, np.array(distances)
    )


class _Gaussian:
    """A checked mean and covariance, and the factor of the covariance."""

    def __init__(self, mean: np.ndarray, cov: np.ndarray):
        self.mean, cov = np.asarray(mean, np.float64), np.asarray(cov, np.float64)
        _check_shapes(self.mean, cov)
        if not np.isfinite(self.mean).all():
            raise errors.RunError("a mean holds NaN or infinity")
        self.trace = np.trace(cov)
        self.factor = _factor(cov)


def _distance(a: _Gaussian, b: _Gaussian) -> float:
    if a.mean.size != b.mean.size:
        raise errors.UsageError(f"the shapes do not fit: {a.mean.size} features and {b.mean.size}")
    product = a.factor.T @ b.factor
    if product.shape[0] > product.shape[1]:
        product = product.T
    # The factors' columns shrink from left to right, and so do the rows and columns of this square: reduced
    # from the lower triangle, its small eigenvalues are as accurate as singular values, which take three
    # times as long.
    squares = np.linalg.eigvalsh(product @ product.T, UPLO="L")
    cross = np.sqrt(np.maximum(squares, 0)).sum()
    difference = a.mean - b.mean
    return max(0.0, float(difference @ difference + a.trace + b.trace - 2 * cross))


def _factor(cov: np.ndarray) -> np.ndarray:
    """L [F, rank] with cov = L L^T for a symmetric positive semi-definite cov [F, F]."""
    if not np.isfinite(cov).all():
        raise errors.RunError("a covariance holds NaN or infinity")
    scale = np.abs(cov).max(initial=0.0)
    if np.abs(cov - cov.T).max(initial=0.0) > 1e-8 * scale:
        raise errors.RunError("a covariance is not symmetric")
    cov = (cov + cov.T) / 2
    packed, pivots, rank, _ = _LAPACK.dpstrf(cov, lower=1)
    pivots = pivots - 1
    lower = np.tril(packed)[:, :rank]
    rest = cov[np.ix_(pivots[rank:], pivots[rank:])] - lower[rank:] @ lower[rank:].T
    if np.abs(rest).max(initial=0.0) <= 1e-9 * scale:
        factor = np.empty_like(lower)
        factor[pivots] = lower
        return factor
    values, vectors = np.linalg.eigh(cov)
    if values.min() < -1e-6 * scale:
        raise errors.RunError(f"a covariance has the negative eigenvalue {values.min():.3g}")
    return vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))


def _check_shapes(mean: np.ndarray, cov: np.ndarray) -> None:
    if mean.ndim != 1 or cov.shape != (mean.size, mean.size):
        raise errors.UsageError(f"expected the shapes [F] and [F, F], got {mean.shape} and {cov.shape}")


def _check_finite(features: np.ndarray) -> None:
    if not np.isfinite(features).all():
        raise errors.RunError("features: found NaN or infinity")
