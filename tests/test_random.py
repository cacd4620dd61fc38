import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random

KEY = jax.random.key(0)


def data(keys) -> np.ndarray:
    return np.asarray(jax.random.key_data(keys))


def test_streams_are_stable():
    """Key data noted with jax 0.10.2: an old seed has to give the old run, whatever is refactored."""
    assert data(random.stream(KEY, "latents")).tolist() == [332691270, 2097230745]
    examples = data(random.per_example(KEY, jnp.arange(3))).tolist()
    assert examples == [[1797259609, 2579123966], [928981903, 3453687069], [4146024105, 2718843009]]
    # The first is threefry2x32 of zeros, the known answer of Salmon et al. 2011 (Random123's kat_vectors).
    assert examples[0] == [0x6B200159, 0x99BA4EFE]
    # 0xCBF43926 is the check value of CRC-32 (of the digits 1 to 9).
    assert (
        data(random.stream(KEY, "123456789")).tolist() == data(jax.random.fold_in(KEY, 0xCBF43926)).tolist()
    )


def test_streams_differ_by_name_and_by_key():
    names = ["", "z", "latents", "label", "generator", "discriminator", "critic", "data", "init"]
    keys = [random.stream(key, name) for key in (KEY, jax.random.key(1)) for name in names]
    assert len({tuple(data(key)) for key in keys}) == 2 * len(names)
    assert len({zlib.crc32(name.encode()) for name in names}) == len(names)


def test_an_examples_key_depends_on_its_index_only():
    index = jnp.array([3, 0, 17, 5, 2**31 - 1], jnp.int32)
    whole = data(random.per_example(KEY, index))
    halves = [data(random.per_example(KEY, part)) for part in (index[:2], index[2:])]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    np.testing.assert_array_equal(whole[::-1], data(random.per_example(KEY, index[::-1])))
    np.testing.assert_array_equal(whole[2], data(jax.random.fold_in(KEY, 17)))
    assert len({tuple(row) for row in whole}) == 5
    # Under jit and vmap too, where the index is a tracer.
    np.testing.assert_array_equal(whole, data(jax.jit(random.per_example)(KEY, index)))


def test_from_seeds_is_one_key_a_seed():
    seeds = np.array([0, 1, 41, 2**32 - 1], np.uint32)
    keys = random.from_seeds(seeds)
    assert keys.shape == (4,)
    np.testing.assert_array_equal(data(keys)[2], data(jax.random.key(41)))
    np.testing.assert_array_equal(data(keys)[1:3], data(random.from_seeds(np.array([1, 41]))))
    assert data(keys)[3].tolist() == [0, 2**32 - 1]


def test_from_seeds_does_not_follow_the_default_generator():
    """Under vmap rbg's draws depend on the place in the batch: a seed would be another image there."""
    with jax.default_prng_impl("rbg"):
        keys = random.from_seeds(np.array([5]))
    assert str(jax.random.key_impl(keys)) == "threefry2x32"


@pytest.mark.parametrize("draw", [random.normal, random.uniform])
def test_draws_do_not_depend_on_the_companions(draw):
    keys = random.from_seeds(np.arange(6))
    whole = draw(keys, (3, 2))
    assert whole.shape == (6, 3, 2)
    assert whole.dtype == jnp.float32
    np.testing.assert_array_equal(whole[4], draw(keys[4:5], (3, 2))[0])
    assert draw(keys, (), jnp.bfloat16).dtype == jnp.bfloat16
    assert draw(keys, ()).shape == (6,)


def test_normal_and_uniform_are_what_they_are_called():
    keys = random.from_seeds(np.arange(64))
    normal, uniform = np.asarray(random.normal(keys, (256,))), np.asarray(random.uniform(keys, (256,)))
    n = normal.size
    # Five standard errors: of the mean 1/sqrt(n), of the variance sqrt(2/n); for the uniform ones
    # sqrt(1/12/n) and sqrt(1/180/n).
    assert abs(normal.mean()) < 5 / n**0.5
    assert abs(normal.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs(uniform.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert abs(uniform.var() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    assert uniform.min() >= 0
    assert uniform.max() < 1
    # Between the examples there is nothing in common.
    assert np.abs(np.corrcoef(normal) - np.eye(64)).max() < 6 / 256**0.5


def test_randint_is_uniform_in_its_range():
    values = np.asarray(random.randint(random.from_seeds(np.arange(4000)), -2, 3))
    assert values.dtype == np.int32
    counts = np.bincount(values + 2, minlength=5)
    assert counts.sum() == 4000
    assert counts.shape == (5,)  # neither -3 nor 3
    # Chi-squared with 4 degrees of freedom: beyond 23.5 once in 10,000.
    assert (np.square(counts - 800) / 800).sum() < 23.5
