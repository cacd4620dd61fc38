import numpy as np
import pytest
import scipy.linalg

from ganjax import errors
from ganjax.metrics.frechet import frechet_distance, gaussian_statistics


def _covariance(draw: np.random.Generator, dim: int, rank: int) -> np.ndarray:
    factor = draw.normal(size=(dim, rank))
    return factor @ factor.T / rank


def test_statistics_by_hand():
    mean, cov = gaussian_statistics(np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]]))
    np.testing.assert_allclose(mean, [2, 2])
    np.testing.assert_allclose(cov, [[4, 3], [3, 3]])


def test_statistics_are_float64_for_float32_features():
    features = np.float32(1000) + np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    mean, cov = gaussian_statistics(features)
    assert mean.dtype == cov.dtype == np.float64
    np.testing.assert_allclose(cov, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-12)


def test_one_dimension_is_the_difference_of_means_and_deviations():
    # N(1, 2^2) and N(4, 5^2): (1-4)^2 + (2-5)^2.
    assert frechet_distance(np.array([1]), np.array([[4]]), np.array([4]), np.array([[25]])) == pytest.approx(
        18
    )


def test_commuting_covariances_have_a_closed_form():
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    values1, values2 = np.array([1.0, 4.0, 9.0, 0.0]), np.array([4.0, 1.0, 0.0, 16.0])
    zero = np.zeros(4)
    cov1, cov2 = (rotation @ np.diag(values) @ rotation.T for values in (values1, values2))
    # (1-2)^2 + (2-1)^2 + (3-0)^2 + (0-4)^2
    assert frechet_distance(zero, cov1, zero, cov2) == pytest.approx(27, rel=1e-7)


@pytest.mark.parametrize("rank", [3, 20])
def test_zero_with_itself_also_when_singular(rank):
    draw = np.random.default_rng(1)
    mean, cov = draw.normal(size=20), _covariance(draw, 20, rank)
    assert frechet_distance(mean, cov, mean, cov) == pytest.approx(0, abs=1e-10)


def test_agrees_with_sqrtm_and_is_symmetric():
    draw = np.random.default_rng(2)
    for _ in range(5):
        mean1, mean2 = draw.normal(size=(2, 12))
        cov1, cov2 = _covariance(draw, 12, 30), _covariance(draw, 12, 30)
        product_root = np.real(scipy.linalg.sqrtm(cov1 @ cov2))
        expected = np.sum((mean1 - mean2) ** 2) + np.trace(cov1 + cov2 - 2 * product_root)
        assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(expected, rel=1e-9)
        assert frechet_distance(mean2, cov2, mean1, cov1) == pytest.approx(expected, rel=1e-9)


def test_orthogonal_singular_covariances():
    # Degenerate Gaussians on different axes share nothing: the traces add up.
    assert frechet_distance(
        np.zeros(2), np.diag([3.0, 0.0]), np.zeros(2), np.diag([0.0, 5.0])
    ) == pytest.approx(8)


def test_refusals():
    eye, zero = np.eye(2), np.zeros(2)
    with pytest.raises(errors.UsageError, match="shapes"):
        frechet_distance(zero, eye, np.zeros(3), eye)
    with pytest.raises(errors.RunError, match="NaN"):
        frechet_distance(zero, eye * np.nan, zero, eye)
    with pytest.raises(errors.RunError, match="NaN"):
        frechet_distance(zero * np.nan, eye, zero, eye)
    with pytest.raises(errors.RunError, match="symmetric"):
        frechet_distance(zero, np.array([[1.0, 0.5], [0.0, 1.0]]), zero, eye)
    with pytest.raises(errors.RunError, match="negative eigenvalue"):
        frechet_distance(zero, -eye, zero, eye)
    with pytest.raises(errors.UsageError, match="at least 2"):
        gaussian_statistics(np.zeros((1, 3)))
    with pytest.raises(errors.UsageError, match=r"\[N, F\]"):
        gaussian_statistics(np.zeros(3))
    with pytest.raises(errors.RunError, match="NaN"):
        gaussian_statistics(np.array([[0.0], [np.nan]]))
