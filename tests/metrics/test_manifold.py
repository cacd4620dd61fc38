import itertools

import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics import manifold
from ganjax.metrics.manifold import density_coverage, neighbour_radii, precision_recall


def by_definition(real, fake, k):
    """Pair by pair, with differences in place of products."""
    between = np.linalg.norm(real[:, None] - fake[None], axis=-1)
    radii = [
        np.array([sorted(np.linalg.norm(np.delete(x, i, 0) - x[i], axis=1))[k - 1] for i in range(len(x))])
        for x in (real, fake)
    ]
    precision = np.mean(
        [any(between[i, j] <= radii[0][i] for i in range(len(real))) for j in range(len(fake))]
    )
    recall = np.mean([any(between[i, j] <= radii[1][j] for j in range(len(fake))) for i in range(len(real))])
    density = sum(
        between[i, j] < radii[0][i] for i, j in itertools.product(range(len(real)), range(len(fake)))
    ) / (k * len(fake))
    coverage = np.mean(between.min(axis=1) < radii[0])
    return (precision, recall), (density, coverage), radii


@pytest.mark.parametrize("k", [1, 3, 5])
def test_agrees_with_the_definition_in_any_blocks(k, monkeypatch):
    draw = np.random.default_rng(k)
    real, fake = 100 + draw.normal(size=(53, 4)), 100.5 + 1.2 * draw.normal(size=(38, 4))
    precision, density, radii = by_definition(real, fake, k)
    for block in (2048, 7, 1):
        monkeypatch.setattr(manifold, "_BLOCK", block)
        assert precision_recall(real, fake, k) == pytest.approx(precision, rel=1e-12)
        assert density_coverage(real, fake, k) == pytest.approx(density, rel=1e-12)
        np.testing.assert_allclose(neighbour_radii(real, k), radii[0], rtol=1e-11)
    known = {"real_radii": radii[0], "fake_radii": radii[1]}
    assert precision_recall(real, fake, k, **known) == pytest.approx(precision, rel=1e-12)
    assert density_coverage(real, fake, k, real_radii=radii[0] * 0) == (0, 0)


def test_disjoint_sets_share_nothing():
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(2, 60, 5))
    assert precision_recall(real, fake + 100) == (0, 0)
    assert density_coverage(real, fake + 100) == (0, 0)


def test_nested_sets():
    # Fakes from a corner of what is real: all of them are good, and most of what is real they miss.
    draw = np.random.default_rng(1)
    real = draw.uniform(size=(1000, 2))
    corner = 0.05 + 0.2 * draw.uniform(size=(1000, 2))
    precision, recall = precision_recall(real, corner)
    assert precision > 0.94
    assert recall < 0.1
    density, coverage = density_coverage(real, corner)
    assert density > 0.8
    assert coverage < 0.12
    # And the other way round.
    precision, recall = precision_recall(corner, real)
    assert precision < 0.1
    assert recall > 0.94


def test_one_distribution_has_the_expected_coverage():
    # Naeem et al. 2020: with as many of each, coverage is 1 - 1 / 2^k but for terms of 1/N, density 1.
    draw = np.random.default_rng(2)
    real, fake = draw.normal(size=(2, 1500, 8))
    density, coverage = density_coverage(real, fake)
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.015)


def test_a_copy_of_the_set():
    real = np.random.default_rng(3).normal(1000, size=(40, 6)).astype(np.float32)
    assert precision_recall(real, real.copy()) == (1, 1)
    assert density_coverage(real, real.copy()).coverage == 1


def test_repeated_features_are_exactly_no_distance_apart():
    # A collapsed generator: its balls have no size, so what is real lies in none of them.
    real = np.random.default_rng(4).normal(3, size=(50, 6))
    collapsed = np.repeat(real[:2], 20, axis=0)
    np.testing.assert_array_equal(neighbour_radii(collapsed, 3), 0)
    precision, recall = precision_recall(real, collapsed)
    assert precision == 1
    assert recall == 2 / 50


def test_refusals():
    good = np.random.default_rng(5).normal(size=(6, 2))
    with pytest.raises(errors.UsageError, match=r"\[N, F\]"):
        precision_recall(good, good[:, :1])
    with pytest.raises(
        errors.UsageError, match="3 generated features: the 3 nearest neighbours need at least 4"
    ):
        precision_recall(good, good[:3])
    with pytest.raises(errors.UsageError, match="5 real features"):
        density_coverage(good[:5], good)
    with pytest.raises(errors.UsageError, match="k=0"):
        neighbour_radii(good, 0)
    with pytest.raises(errors.UsageError, match="radii"):
        density_coverage(good, good, real_radii=np.zeros(3))
    with pytest.raises(errors.RunError, match="generated features: found NaN"):
        density_coverage(good, good * np.nan)
