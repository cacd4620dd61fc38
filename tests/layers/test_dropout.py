from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random
from ganjax.layers import Dropout

KEYS = random.from_seeds(jnp.arange(6))


class Twice(nn.Module):
    """Two layers of dropout, given the same keys."""

    @nn.compact
    def __call__(self, x, keys):
        return Dropout(0.5)(x, keys), Dropout(0.5)(x, keys)


def test_what_is_kept_is_scaled_and_the_share_is_the_rate():
    x = jnp.full((6, 50, 40), 3.0)
    y = np.asarray(Dropout(0.25).apply({}, x, KEYS))
    np.testing.assert_array_equal(np.unique(y), [0, 4])
    # 2,000 draws an example: five standard deviations.
    np.testing.assert_allclose((y == 0).mean((1, 2)), 0.25, atol=0.05)


def test_an_example_depends_on_its_key_alone():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 30)), jnp.float32)
    y = np.asarray(Dropout(0.5).apply({}, x, KEYS))
    assert len({tuple(row == 0) for row in y}) == 6
    order = np.array([4, 1, 3])
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x[order], KEYS[order]), y[order])
    changed = np.asarray(Dropout(0.5).apply({}, x.at[0].set(9.0), KEYS))
    np.testing.assert_array_equal(changed[1:], y[1:])
    np.testing.assert_array_equal(changed[0] == 0, y[0] == 0)


def test_layers_of_a_network_differ():
    x = jnp.ones((6, 200))
    first, second = Twice().apply({}, x, KEYS)
    agree = np.mean((np.asarray(first) == 0) == (np.asarray(second) == 0))
    assert 0.4 < agree < 0.6
    again, _ = Twice().apply({}, x, KEYS)
    np.testing.assert_array_equal(again, first)


def test_without_keys_or_a_rate_nothing_happens():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.bfloat16)
    assert Dropout(0.5).apply({}, x, None) is x
    assert Dropout(0.0).apply({}, x, KEYS) is x
    y: Any = Dropout(0.5).apply({}, x, KEYS)
    assert y.dtype == jnp.bfloat16


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match=rf"dropout={rate}: expected a rate from 0 to below 1"):
        Dropout(rate).apply({}, jnp.ones((6, 3)), None)


def test_there_is_a_key_for_each_example():
    with pytest.raises(ValueError, match=r"one key an example: got keys \(5,\) for \(6, 3\)"):
        Dropout(0.5).apply({}, jnp.ones((6, 3)), KEYS[:5])
