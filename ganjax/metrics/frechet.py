"""The Fréchet distance between two Gaussians, over any features.

With the features of one certain Inception network this is the FID (Heusel et al. 2017); with any others it
is not, and figures over different features can't be compared.
"""

import numpy as np

from ganjax import errors


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
    features = np.asarray(features, np.float64)
    if features.ndim != 2:
        raise errors.UsageError(f"features: expected the shape [N, F], got {features.shape}")
    if len(features) < 2:
        raise errors.UsageError(f"features: a covariance needs at least 2 rows, got {len(features)}")
    if not np.isfinite(features).all():
        raise errors.RunError("features: found NaN or infinity")
    mean = features.mean(axis=0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """The squared 2-Wasserstein distance between the Gaussians N(mean1, cov1) and N(mean2, cov2).

    |mean1 - mean2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)), in float64. The last trace is the sum of the
    singular values of cov1^(1/2) cov2^(1/2), with roots from symmetric eigen-decompositions: real, exact to
    rounding for singular covariances too, where a root of the product cov1 cov2 is neither.

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
    mean1, cov1, mean2, cov2 = (np.asarray(a, np.float64) for a in (mean1, cov1, mean2, cov2))
    dim = mean1.size
    shapes = (mean1.shape, cov1.shape, mean2.shape, cov2.shape)
    if shapes != ((dim,), (dim, dim), (dim,), (dim, dim)):
        raise errors.UsageError(f"expected the shapes [F], [F, F], [F], [F, F], got {shapes}")
    root1, root2 = _root(cov1), _root(cov2)
    if not (np.isfinite(mean1).all() and np.isfinite(mean2).all()):
        raise errors.RunError("a mean holds NaN or infinity")
    cross = np.linalg.svd(root1 @ root2, compute_uv=False).sum()
    difference = mean1 - mean2
    return max(0.0, float(difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * cross))


def _root(cov: np.ndarray) -> np.ndarray:
    """The symmetric root of a symmetric positive semi-definite matrix [F, F]."""
    if not np.isfinite(cov).all():
        raise errors.RunError("a covariance holds NaN or infinity")
    scale = np.abs(cov).max(initial=0.0)
    if not np.allclose(cov, cov.T, rtol=0, atol=1e-8 * scale):
        raise errors.RunError("a covariance is not symmetric")
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    if values.min(initial=0.0) < -1e-6 * scale:
        raise errors.RunError(f"a covariance has the negative eigenvalue {values.min():.3g}")
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
