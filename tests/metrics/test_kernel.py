import itertools

import numpy as np
import pytest

from ganjax.errors import RunError, UsageError
from ganjax.metrics.kernel import kernel_distance


def by_definition(x, y):
    kernel = lambda a, b: (np.dot(a, b) / len(a) + 1) ** 3  # noqa: E731
    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(rows, 2)]) for rows in (x, y)]
    return sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_whole_sets_by_definition():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(5, 3)), draw.normal(1, 2, size=(5, 3))
    found = kernel_distance(x, y, subsets=3, subset_size=5)
    np.testing.assert_allclose(found.value, by_definition(x, y), rtol=1e-12)
    assert found.std < 1e-12  # each subset is the whole set
    # The deviation is that of the subsets, as reference implementations have it.
    one = [kernel_distance(x, y, subsets=n, subset_size=4).value for n in (1, 2)]
    two = (one[0], 2 * one[1] - one[0])
    np.testing.assert_allclose(kernel_distance(x, y, subsets=2, subset_size=4).std, np.std(two), rtol=1e-6)
    # Sizes that differ: the smaller one's, in float64 although the features are not.
    other = draw.normal(size=(9, 3)).astype(np.float32)
    values = kernel_distance(x, other, subsets=400)
    expected = by_definition(x, other)
    assert abs(values.value - expected) < 4 * values.std / 20


def test_one_distribution_is_at_0_and_others_are_apart():
    draw = np.random.default_rng(1)
    real, same, shifted = draw.normal(size=(3, 600, 8))
    near = kernel_distance(same, real, subsets=30, subset_size=200)
    assert abs(near.value) < 0.05
    far = kernel_distance(shifted + 0.5, real, subsets=30, subset_size=200)
    assert far.value > 10 * abs(near.value)
    assert far == kernel_distance(shifted + 0.5, real, subsets=30, subset_size=200)
    assert far != kernel_distance(shifted + 0.5, real, subsets=30, subset_size=200, seed=1)


def test_what_is_refused():
    good = np.ones((4, 2))
    for bad in (np.ones((4, 3)), np.ones((1, 2)), np.ones(4)):
        with pytest.raises(UsageError, match=r"\[N, F\]"):
            kernel_distance(bad, good)
    with pytest.raises(UsageError, match="subsets=0"):
        kernel_distance(good, good, subsets=0)
    with pytest.raises(UsageError, match="at least 2 features"):
        kernel_distance(good, good, subset_size=1)
    with pytest.raises(RunError, match="NaN"):
        kernel_distance(good, good * np.nan)
    assert kernel_distance(good, good + 1, strict=True, subset_size=4) == kernel_distance(good, good + 1)
    with pytest.raises(UsageError, match="subsets of 5, got 4 samples and 9 real images"):
        kernel_distance(good, np.ones((9, 2)), strict=True, subset_size=5)
