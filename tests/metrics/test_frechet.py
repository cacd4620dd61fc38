from typing import Any

import numpy as np
import pytest
import scipy.linalg

from ganjax import errors
from ganjax.metrics import frechet
from ganjax.metrics.frechet import (
    GaussianStatistics,
    frechet_distance,
    frechet_distance_infinity,
    gaussian_statistics,
    load_statistics,
    save_statistics,
)


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


def test_singular_covariances_of_few_samples_agree_with_the_samples_own_product():
    # Of fewer samples than features: the cross term is the nuclear norm of the samples' product, which needs
    # no covariance and no root.
    draw = np.random.default_rng(3)
    a, b = draw.normal(size=(10, 40)), draw.normal(1, 2, size=(25, 40))
    (mean1, cov1), (mean2, cov2) = gaussian_statistics(a), gaussian_statistics(b)
    cross = np.linalg.norm((a - mean1) @ (b - mean2).T, "nuc") / np.sqrt(9 * 24)
    expected = np.sum((mean1 - mean2) ** 2) + np.trace(cov1) + np.trace(cov2) - 2 * cross
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(mean2, cov2, mean1, cov1) == pytest.approx(expected, rel=1e-12)


def test_variances_over_many_orders_of_magnitude_keep_their_digits():
    # The roots of squares as small as 1e-28 of the largest: a sum of eigenvalues that lost them would be off
    # by about 1e-7.
    draw = np.random.default_rng(4)
    values = np.exp(-np.linspace(0, 33, 200))
    rotation, _ = np.linalg.qr(draw.normal(size=(200, 200)))
    zero, cov = np.zeros(200), (rotation * values) @ rotation.T
    expected = np.sum((np.sqrt(values) - np.sqrt(4 * values)) ** 2)
    assert frechet_distance(zero, cov, zero, 4 * cov) == pytest.approx(expected, rel=1e-11)


def test_a_factor_that_rounding_has_spoilt_is_made_of_eigenvectors():
    # Not quite semi-definite, as a covariance in float32 is.
    cov = np.array([[1.0, 1.0, 0.0], [1.0, 1.0 - 3e-8, 0.0], [0.0, 0.0, 1e-9]])
    factor = frechet._factor(cov)
    np.testing.assert_allclose(factor @ factor.T, cov, atol=5e-8)
    assert frechet_distance(np.zeros(3), cov, np.zeros(3), cov) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_batches_add_up_to_the_whole(offset):
    features = offset + np.random.default_rng(5).normal(size=(1000, 7)) * np.arange(1, 8)
    whole = GaussianStatistics()
    for start, stop in ((0, 0), (0, 1), (1, 300), (300, 1000)):
        whole.update(features[start:stop])
    first, second, none = GaussianStatistics(), GaussianStatistics(), GaussianStatistics()
    first.update(features[:640])
    second.update(features[640:])
    none.merge(first)
    none.merge(second)
    none.merge(GaussianStatistics())
    expected = np.cov(features, rowvar=False)
    for statistics in (whole, none):
        mean, cov = statistics.result()
        assert statistics.count == 1000
        np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(cov, expected, rtol=0, atol=1e-11 * expected.max())
        np.testing.assert_array_equal(cov, cov.T)


def test_long_batches_are_taken_in_parts(monkeypatch):
    features = np.random.default_rng(6).normal(3, size=(50, 4)).astype(np.float32)
    monkeypatch.setattr(frechet, "_ROWS", 7)
    mean, cov = gaussian_statistics(features)
    np.testing.assert_allclose(mean, features.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-11, atol=1e-13)


def test_a_refused_batch_changes_nothing():
    statistics = GaussianStatistics()
    statistics.update(np.eye(3))
    with pytest.raises(errors.RunError, match="NaN"):
        statistics.update(np.array([[0.0, np.nan, 1.0]]))
    with pytest.raises(errors.UsageError, match=r"\[n, 3\], got \(2, 4\)"):
        statistics.update(np.zeros((2, 4)))
    other = GaussianStatistics()
    other.update(np.zeros((2, 2)))
    with pytest.raises(errors.UsageError, match="2 features can't be merged with those of 3"):
        statistics.merge(other)
    np.testing.assert_array_equal(statistics.result()[1], np.cov(np.eye(3)))


def test_statistics_are_kept(tmp_path):
    mean, cov = gaussian_statistics(np.random.default_rng(7).normal(size=(9, 3)))
    path = tmp_path / "new" / "real.npz"
    save_statistics(path, mean, cov, 9, {"weights": "abc"})
    found = load_statistics(path)
    np.testing.assert_array_equal(found.mean, mean)
    np.testing.assert_array_equal(found.cov, cov)
    assert (found.count, found.about) == (9, {"weights": "abc"})
    assert [file.name for file in path.parent.iterdir()] == ["real.npz"]
    # As others write them.
    np.savez(tmp_path / "theirs.npz", mu=mean.astype(np.float32), sigma=cov)
    theirs = load_statistics(tmp_path / "theirs.npz")
    assert (theirs.count, theirs.about, theirs.mean.dtype) == (None, {}, np.float64)


def test_files_that_hold_no_statistics(tmp_path):
    path = tmp_path / "wrong.npz"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"mu": np.zeros(3)}, "no sigma"),
        ({"mu": np.zeros(3), "sigma": np.zeros((2, 2))}, "shapes"),
        ({"mu": np.zeros(1), "sigma": np.full((1, 1), np.nan)}, "NaN"),
        ({"mu": np.array([{}], object), "sigma": np.zeros((1, 1))}, "allow_pickle"),
    ]
    for arrays, reason in cases:
        np.savez(path, **arrays)
        with pytest.raises(errors.UsageError, match=f"wrong.npz: .*{reason}"):
            load_statistics(path)
    path.write_bytes(b"no archive")
    with pytest.raises(errors.UsageError, match=r"expected an \.npz"):
        load_statistics(path)
    with pytest.raises(errors.UsageError, match="no such file"):
        load_statistics(tmp_path / "absent.npz")
    with pytest.raises(errors.UsageError, match="shapes"):
        save_statistics(path, np.zeros(2), np.zeros((3, 3)), 4)


def test_extrapolation_takes_the_bias_of_few_samples_away():
    # Of one distribution with the real one: the distance is 0, and about 0.06 with all of the samples.
    draw = np.random.default_rng(8)
    features = draw.normal(size=(2000, 16))
    found = frechet_distance_infinity(features, np.zeros(16), np.eye(16), least=200)
    at_all = frechet_distance(*gaussian_statistics(features), np.zeros(16), np.eye(16))
    assert found.counts[0] == 200
    assert found.counts[-1] == 2000
    assert found.distances[-1] == pytest.approx(at_all, rel=1e-9)
    assert at_all > 0.03
    assert abs(found.value) < 0.01
    assert 0 < found.std_error < 0.02
    np.testing.assert_allclose(
        [found.slope, found.value], np.polyfit(1 / found.counts, found.distances, 1), rtol=1e-9
    )
    assert found.value == frechet_distance_infinity(features, np.zeros(16), np.eye(16), least=200).value
    with pytest.raises(errors.UsageError, match="N > least=2000"):
        frechet_distance_infinity(features, np.zeros(16), np.eye(16), least=2000)
    with pytest.raises(errors.UsageError, match="points=2"):
        frechet_distance_infinity(features, np.zeros(16), np.eye(16), points=2)
