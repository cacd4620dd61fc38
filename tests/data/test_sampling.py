import numpy as np
import pytest

from ganjax.data import batch_indices, sampling
from ganjax.data.sampling import epoch_order, spread
from ganjax.errors import UsageError


def test_golden_order():
    # numpy promises that SeedSequence and Philox never change: so may this not
    words = np.random.Philox(np.random.SeedSequence(3, spawn_key=(1,))).random_raw(6)
    expected = sorted(range(6), key=lambda i: int(words[i]))
    np.testing.assert_array_equal(epoch_order(6, 3, 1), expected)
    np.testing.assert_array_equal(epoch_order(6, 3, 1), [1, 2, 0, 5, 4, 3])


def test_every_epoch_is_a_permutation_and_differs():
    order = np.concatenate([batch_indices(12, 7, 5 * step, 5) for step in range(12)])
    epochs = order.reshape(5, 12)
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_any_access_order_gives_the_same():
    steps = [9, 0, 4, 9, 2]
    first = [batch_indices(10, 1, 3 * step, 3) for step in steps]
    sampling._orders.cache_clear()
    again = [batch_indices(10, 1, 3 * step, 3) for step in sorted(steps)]
    np.testing.assert_array_equal(first[1], again[0])
    np.testing.assert_array_equal(first[0], again[-1])
    np.testing.assert_array_equal(first[0], first[3])


def test_depends_on_the_position_only():
    two = np.concatenate([batch_indices(50, 0, 32 * step, 32) for step in (6, 7)])
    np.testing.assert_array_equal(two, batch_indices(50, 0, 192, 64))


def test_places_that_are_spread_over_a_set():
    assert spread(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert spread(10_000, 10_000).tolist() == list(range(10_000))
    some = spread(60_000, 10)
    assert (some[0], some[-1]) == (0, 59_999)
    assert np.ptp(np.diff(some)) <= 1
    assert spread(7, 1).tolist() == [0]


def test_differs_by_seed():
    assert not np.array_equal(batch_indices(100, 0, 0, 100), batch_indices(100, 1, 0, 100))
    # a large seed's second word is not taken for the epoch
    assert not np.array_equal(epoch_order(100, 1 + (2 << 32), 0), epoch_order(100, 1, 2))


def test_a_set_smaller_than_a_batch():
    batch = batch_indices(3, 0, 0, 8)
    assert batch.dtype == np.int64
    assert batch.shape == (8,)
    assert sorted(batch[:3]) == sorted(batch[3:6]) == [0, 1, 2]


def test_a_batch_is_the_callers_own():
    batch_indices(10, 0, 0, 10)[:] = 0
    assert sorted(batch_indices(10, 0, 0, 10)) == list(range(10))


def test_of_a_set_two_orders_are_kept():
    for epoch in range(5):
        epoch_order(11, 2, epoch)
    assert epoch_order(11, 2, 4) is epoch_order(11, 2, 4)
    assert sampling._orders(11, 2).cache_info().currsize == 2


def test_late_steps_cost_no_more():
    assert batch_indices(10, 0, 4 * 10**12, 4).shape == (4,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 0, 4), "num_examples=0"),
        ((4, -1, 0, 4), "seed=-1"),
        ((4, 0, -1, 4), "start=-1"),
        ((4, 0, 0, 0), "count=0"),
    ],
)
def test_out_of_range(arguments, message):
    with pytest.raises(UsageError, match=message):
        batch_indices(*arguments)
