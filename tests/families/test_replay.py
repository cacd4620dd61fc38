import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.families.replay import empty_pool, exchange

KEYS = jax.random.split(jax.random.key(0), 400)


def test_the_pool_is_filled_and_then_exchanged_by_halves():
    """Images are their own numbers, so that each can be followed."""
    numbers = np.arange(400, dtype=np.float32).reshape(-1, 1)
    shown, pool = jax.jit(exchange)(empty_pool(50, (1,)), numbers, KEYS)
    shown, numbers = np.asarray(shown)[:, 0], numbers[:, 0]
    np.testing.assert_array_equal(shown[:50], numbers[:50])
    old = shown != numbers
    assert 140 < old[50:].sum() < 210  # of 350, with a standard deviation of 9
    held: set[float] = set(range(50))
    for number, seen in zip(numbers[50:].tolist(), shown[50:].tolist(), strict=True):
        if seen != number:  # it was one of the pool, and the new one has its place
            assert seen in held
            held = held - {seen} | {number}
    assert set(np.asarray(pool.images)[:, 0].tolist()) == held
    assert pool.count == 50


def test_places_are_uniform():
    numbers = np.arange(4, dtype=np.float32).reshape(-1, 1)
    _, full = jax.jit(exchange)(empty_pool(4, (1,)), numbers, KEYS[:4])
    shown = jax.jit(jax.vmap(lambda key: exchange(full, jnp.full((1, 1), 9.0), key[None])[0][0, 0]))(KEYS)
    counts = np.bincount(np.asarray(shown).astype(int), minlength=10)
    assert 160 < counts[9] < 240
    assert counts[:4].min() > 25


def test_batches_do_not_matter():
    """In one call or in several: what an image meets depends on its place alone."""
    numbers = np.arange(40, dtype=np.float32).reshape(-1, 1)
    whole, end = jax.jit(exchange)(empty_pool(5, (1,)), numbers, KEYS[:40])
    pool, parts = empty_pool(5, (1,)), []
    step = jax.jit(exchange)
    for start in range(0, 40, 8):
        shown, pool = step(pool, numbers[start : start + 8], KEYS[start : start + 8])
        parts.append(shown)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(pool.images, end.images)


def test_an_empty_pool():
    with pytest.raises(ValueError, match="pool of 0"):
        empty_pool(0, (1,))
