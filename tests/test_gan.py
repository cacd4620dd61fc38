import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import plane_gan

from ganjax import random
from ganjax.gan import Context, Effects, GanState, Phase, always, due_phases, every

KEY = jax.random.key(3)


def test_always_and_every():
    assert all(always(step) for step in range(5))
    assert [step for step in range(13) if every(5)(step)] == [4, 9]
    assert [step for step in range(4) if every(1)(step)] == [0, 1, 2, 3]
    for k in (0, -2):
        with pytest.raises(ValueError, match=rf"every\({k}\)"):
            every(k)


def test_due_phases_are_the_indices_of_those_due():
    gan = plane_gan(due=(always, every(3)))
    assert [due_phases(gan, step) for step in range(6)] == [(0,), (0,), (0, 1), (0,), (0,), (0, 1)]
    assert due_phases(gan._replace(phases=()), 0) == ()
    assert Phase("critic", gan.phases[0].loss).due(11)


def test_effects_leave_nothing_by_default():
    assert Effects() == ({}, None, {})


def test_state_is_a_pytree_of_its_fields():
    state = GanState(jnp.int32(4), {"g": jnp.ones(2)}, {"g": {}}, {"g": ()}, {}, jnp.zeros(3))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert paths == [".step", ".params['g']", ".carry"]
    doubled = jax.tree.map(lambda x: 2 * x, state)
    assert isinstance(doubled, GanState)
    assert doubled.step == 8


def test_context_without_an_axis_is_the_whole_batch():
    context = Context(KEY, jnp.arange(4))
    tree = {"a": jnp.arange(3.0), "b": (jnp.ones(()),)}
    assert context.mean(tree) is tree
    assert context.gather(tree["a"]) is tree["a"]


def test_context_under_pmap_means_and_gathers_over_devices():
    """Four devices with two examples each: device d holds 2d and 2d + 1, valued 10 times their place."""
    values = 10.0 * jnp.arange(8).reshape(4, 2)

    def inspect(x, key):
        context = Context(key, 2 * jax.lax.axis_index("data") + jnp.arange(2), "data")
        means = context.mean({"example": jnp.mean(x), "ends": x})
        places = context.gather(context.index)
        keys = jax.random.key_data(context.example_keys("z"))
        return means, context.gather(x), places, context.gather(keys), context.stream("batch")

    devices = jax.devices()[:4]
    means, gathered, places, keys, batch = jax.pmap(inspect, "data", in_axes=(0, None), devices=devices)(
        values, KEY
    )
    np.testing.assert_allclose(means["example"], [35] * 4)
    np.testing.assert_allclose(means["ends"], [[30, 40]] * 4)
    np.testing.assert_array_equal(gathered, np.tile(10.0 * np.arange(8), (4, 1)))
    np.testing.assert_array_equal(places, np.tile(np.arange(8), (4, 1)))
    # The keys of the examples are those of one device with the whole batch, and the batch's is everyone's.
    whole = Context(KEY, jnp.arange(8))
    expected = jax.random.key_data(whole.example_keys("z"))
    np.testing.assert_array_equal(keys, np.broadcast_to(expected, keys.shape))
    np.testing.assert_array_equal(
        jax.random.key_data(batch), np.broadcast_to(jax.random.key_data(whole.stream("batch")), (4, 2))
    )


def test_named_keys_of_a_context():
    context = Context(KEY, jnp.array([5, 6]))
    np.testing.assert_array_equal(
        jax.random.key_data(context.example_keys("z"))[1],
        jax.random.key_data(jax.random.fold_in(random.stream(KEY, "z"), 6)),
    )
    names = {
        tuple(np.asarray(jax.random.key_data(context.stream(name))).tolist()) for name in ("z", "label", "")
    }
    assert len(names) == 3
