import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import BATCH, CRITIC, GENERATOR, criticise, plane_gan, real_points

from ganjax import losses, optim, random
from ganjax import step as step_module
from ganjax.gan import Effects, Phase
from ganjax.step import create_state, step_context, train_step

KEY = jax.random.key(7)
FAST = {"xla_backend_optimization_level": 0}  # to compile; what is compiled is tiny
BOTH, CRITIC_ONLY, GENERATOR_ONLY = (0, 1), (0,), (1,)
AVERAGED = {GENERATOR: lambda step: jnp.float32(0.75), CRITIC: lambda step: jnp.float32(0.5)}


def same(left, right) -> None:
    """Bit for bit, in every leaf."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(left), jax.device_get(right))


def close(left, right, tolerance: float) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), left, right)


def moved(left, right) -> bool:
    return any(
        (np.asarray(x) != np.asarray(y)).any()
        for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )


def of_player(state, player):
    """All that the state holds of one player."""
    return state.params[player], state.stats[player], state.opt_state[player], state.ema.get(player)


@pytest.fixture(scope="module")
def gan():
    return plane_gan(ema=AVERAGED)


@pytest.fixture(scope="module")
def state(gan):
    return create_state(gan, KEY, real_points())


@pytest.fixture(scope="module")
def step(gan):
    """Not compiled: a compiled step takes a second or two each, op by op they share their programs."""
    return functools.partial(train_step, gan)


@pytest.fixture(scope="module")
def compiled_step(gan):
    return jax.jit(functools.partial(train_step, gan), static_argnames="due", compiler_options=FAST)


def test_state_at_the_start(gan, state):
    assert state.step.dtype == jnp.int32
    assert state.step == 0
    assert (
        set(state.params) == set(state.stats) == set(state.opt_state) == set(state.ema) == {GENERATOR, CRITIC}
    )
    same(state.ema, state.params)
    for player in state.ema:
        for average, trained in zip(
            jax.tree.leaves(state.ema[player]), jax.tree.leaves(state.params[player]), strict=True
        ):
            # Buffers of their own: those of the parameters are donated.
            assert average.unsafe_buffer_pointer() != trained.unsafe_buffer_pointer()
    same(create_state(gan, KEY, 5 * real_points(3)), state)  # only the batch's shape matters
    assert moved(create_state(gan, jax.random.key(8), real_points()).params, state.params)


@pytest.mark.parametrize("part", ["optimizers", "ema", "constrain"])
def test_unknown_players_are_refused(part):
    parts: dict[str, Any] = {part: {"crtic": lambda x: x}}
    if part == "optimizers":
        parts = {part: {GENERATOR: optax.sgd(1), CRITIC: optax.sgd(1), "crtic": optax.sgd(1)}}
    with pytest.raises(
        ValueError, match=rf"{part} name \['crtic'\], but the players are \['critic', 'generator'\]"
    ):
        create_state(plane_gan(**parts), KEY, real_points())


def test_a_player_that_moves_needs_an_optimizer():
    with pytest.raises(ValueError, match=r"no optimizer for \['critic'\]"):
        create_state(plane_gan(optimizers={GENERATOR: optax.sgd(1)}), KEY, real_points())


def test_phases_of_unknown_players_are_refused(gan):
    with pytest.raises(ValueError, match=r"phases name \['crtic'\]"):
        create_state(gan._replace(phases=(Phase("crtic", gan.phases[0].loss),)), KEY, real_points())


@pytest.mark.parametrize(
    ("due", "mover", "other"), [(CRITIC_ONLY, CRITIC, GENERATOR), (GENERATOR_ONLY, GENERATOR, CRITIC)]
)
def test_a_phase_moves_its_own_player_and_leaves_the_other_bit_identical(
    compiled_step, state, due, mover, other
):
    before, _ = compiled_step(state, real_points(), KEY, due=BOTH)  # a state whose every part is in motion
    after, metrics = compiled_step(before, real_points(1), KEY, due=due)
    same(of_player(after, other), of_player(before, other))
    for part_after, part_before in zip(of_player(after, mover), of_player(before, mover), strict=True):
        assert moved(part_after, part_before)
    assert set(metrics) == {name for name in metrics if name.startswith(mover)} != set()


@pytest.fixture(scope="module")
def switched_step(gan):
    """Of which phases are due the device is told."""

    def move(state, batch, critic, generator):
        return train_step(gan, state, batch, KEY, due={0: critic, 1: generator})

    return jax.jit(move, compiler_options=FAST)


@pytest.mark.parametrize("due", [(), CRITIC_ONLY, GENERATOR_ONLY, BOTH])
def test_the_device_may_be_told_what_is_due(compiled_step, switched_step, state, due):
    before, _ = compiled_step(state, real_points(), KEY, due=BOTH)
    expected, metrics = compiled_step(before, real_points(1), KEY, due=due)
    after, found = switched_step(before, real_points(1), 0 in due, 1 in due)
    close(after, expected, 1e-6)
    for phase, player in enumerate((CRITIC, GENERATOR)):
        if phase not in due:
            same(of_player(after, player), of_player(before, player))
    assert {name for name, x in found.items() if not np.isnan(x)} == set(metrics)
    close({name: found[name] for name in metrics}, metrics, 1e-6)


def test_of_metrics_with_one_name_the_last_phase_that_was_due_counts(gan, state):
    def telling(value):
        def loss(params, state, batch, context):
            return jnp.sum(jnp.square(params["w"])), Effects(metrics={"x": jnp.float32(value)})

        return loss

    twice = gan._replace(phases=(Phase(CRITIC, telling(1)), Phase(CRITIC, telling(2))))
    for first, second, expected in ((True, True, 2), (True, False, 1), (False, True, 2)):
        due = {0: jnp.asarray(first), 1: jnp.asarray(second)}
        assert train_step(twice, state, real_points(), KEY, due=due)[1] == {"x": expected}
    assert train_step(twice, state, real_points(), KEY)[1] == {"x": 2}


def test_of_the_statistics_only_the_moving_players_are_kept(step, state):
    """Each of the toy's losses returns one more pass for both players."""
    for due, passes in ((CRITIC_ONLY, (1, 0)), (GENERATOR_ONLY, (0, 1)), (BOTH, (1, 1))):
        after, _ = step(state, real_points(), KEY, due=due)
        assert (after.stats[CRITIC]["passes"], after.stats[GENERATOR]["passes"]) == passes
        assert after.carry == len(due)


def test_what_a_loss_does_not_mention_stays(gan, state):
    def silent(params, state, batch, context):
        return jnp.sum(jnp.square(params["w"])), Effects()

    quiet = gan._replace(phases=(Phase(CRITIC, silent),))
    before = state.replace(carry=jnp.float32(3))
    after, metrics = train_step(quiet, before, real_points(), KEY)
    assert metrics == {}
    assert after.carry == 3
    same(after.stats, before.stats)


def test_due_selects_and_every_step_counts(step, state):
    nothing, metrics = step(state, real_points(), KEY, due=())
    assert metrics == {}
    assert nothing.step == 1
    same(nothing.replace(step=state.step), state)
    implicit, explicit = step(state, real_points(), KEY), step(state, real_points(), KEY, due=BOTH)
    same(implicit, explicit)
    assert set(implicit[1]) == {"critic_loss", "critic_z", "critic_real", "generator_loss", "generator_z"}
    after = implicit[0]
    for k in range(2, 5):
        after, _ = step(after, real_points(k), KEY)
        assert after.step == k
        assert after.step.dtype == jnp.int32


def test_a_step_worked_out_by_hand():
    """Wasserstein losses, gradient descent, no |x|^2 term: the critic first, the generator against it."""
    zero_q = {CRITIC: lambda params: {**params, "q": jnp.zeros_like(params["q"])}}
    optimizers = {GENERATOR: optax.sgd(0.1), CRITIC: optax.sgd(0.2)}
    gan = plane_gan(loss=losses.WASSERSTEIN, optimizers=optimizers, constrain=zero_q)
    state = create_state(gan, KEY, real_points())
    after, metrics = train_step(gan, state, real_points(), KEY)

    def draw(player):
        keys = step_context(state, real_points(), KEY)._replace(
            key=random.stream(jax.random.fold_in(KEY, 0), player)
        )
        return np.asarray(random.normal(keys.example_keys("z"), (2,)), np.float64)

    w, scale, shift = (
        np.asarray(x, np.float64)
        for x in (
            state.params[CRITIC]["w"],
            state.params[GENERATOR]["scale"],
            state.params[GENERATOR]["shift"],
        )
    )
    real, fake = np.asarray(real_points()).mean(0), (draw(CRITIC) * scale + shift).mean(0)
    new_w = w - 0.2 * (fake - real)
    z = draw(GENERATOR).mean(0)
    np.testing.assert_allclose(metrics["critic_loss"], (fake - real) @ w, rtol=1e-5)
    np.testing.assert_allclose(after.params[CRITIC]["w"], new_w, rtol=1e-5)
    np.testing.assert_allclose(metrics["generator_loss"], -(z * scale + shift) @ new_w, rtol=1e-5)
    np.testing.assert_allclose(after.params[GENERATOR]["shift"], shift + 0.1 * new_w, rtol=1e-5)
    np.testing.assert_allclose(after.params[GENERATOR]["scale"], scale + 0.1 * z * new_w, rtol=1e-5)


def test_with_jit_and_without(compiled_step, step, state):
    plain = step(state, real_points(), KEY)
    close(compiled_step(state, real_points(), KEY, due=BOTH), plain, 1e-6)
    assert all(value.dtype == jnp.float32 and value.shape == () for value in plain[1].values())


def test_metrics_are_float32_whatever_a_loss_returns(gan, state):
    def loss(params, state, batch, context):
        metrics = {"count": jnp.int32(3), "share": jnp.bfloat16(0.5), "flag": jnp.array(True), "number": 2.0}
        return jnp.sum(params["w"]), Effects(metrics=metrics)

    odd = gan._replace(phases=(Phase(CRITIC, loss, accumulate=2),))
    _, metrics = train_step(odd, state, real_points(), KEY)
    assert {name: (float(x), x.dtype) for name, x in metrics.items()} == {
        name: (value, jnp.float32)
        for name, value in {"count": 3, "share": 0.5, "flag": 1, "number": 2}.items()
    }


def test_the_average_ticks_only_when_its_player_moved(step, state):
    first, _ = step(state, real_points(), KEY, due=CRITIC_ONLY)
    same(first.ema[GENERATOR], state.ema[GENERATOR])
    second, _ = step(first, real_points(1), KEY)
    for player, decay in ((GENERATOR, 0.75), (CRITIC, 0.5)):
        # By hand: decay * average + (1 - decay) * parameters after the update.
        expected = jax.tree.map(
            lambda average, new, decay=decay: decay * np.asarray(average) + (1 - decay) * np.asarray(new),
            first.ema[player],
            second.params[player],
        )
        close(second.ema[player], expected, 1e-6)
        assert moved(second.ema[player], first.ema[player])


def test_the_average_decays_by_the_runs_step():
    """Decay 0 before step 2: there the average is the parameters, bit for bit."""
    gan = plane_gan(ema={GENERATOR: optim.ema_decay(0.9, start=2, ramp=False)})
    state = create_state(gan, KEY, real_points())
    for k in range(2):
        state, _ = train_step(gan, state, real_points(k), KEY)
        same(state.ema[GENERATOR], state.params[GENERATOR])
    after, _ = train_step(gan, state, real_points(2), KEY)
    expected = jax.tree.map(
        lambda old, new: 0.9 * old + 0.1 * new, state.ema[GENERATOR], after.params[GENERATOR]
    )
    close(after.ema[GENERATOR], expected, 1e-6)


def test_constrain_holds_after_init_and_after_every_update():
    def box(params):
        return jax.tree.map(lambda x: jnp.clip(x, -0.01, 0.01), params)

    gan = plane_gan(constrain={CRITIC: box}, optimizers={GENERATOR: optax.sgd(1.0), CRITIC: optax.sgd(1.0)})
    state = create_state(gan, KEY, real_points())
    for k in range(3):
        largest = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(state.params[CRITIC]))
        assert largest == np.float32(0.01)  # at the box's wall, not beyond it by rounding
        state, _ = train_step(gan, state, real_points(k), KEY)
    assert jnp.max(jnp.abs(state.params[GENERATOR]["scale"])) > 0.01


def test_optimizers_are_given_the_runs_step():
    """The critic moves at steps 2 and 5 only; its learning rate is 1 at step 5 and 0 elsewhere."""
    schedules = {CRITIC: optim.scale_by_learning_rate(lambda step: jnp.where(step == 5, 1.0, 0.0))}
    gan = plane_gan(optimizers={GENERATOR: optax.sgd(0.0), **schedules})
    state = create_state(gan, KEY, real_points())
    moves = []
    for k in range(7):
        after, _ = train_step(gan, state, real_points(), KEY, due=CRITIC_ONLY if k % 3 == 2 else ())
        moves.append(moved(after.params, state.params))
        state = after
    assert moves == [False, False, False, False, False, True, False]


@pytest.mark.parametrize("looped", [False, True])
@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_micro_batches_are_the_whole_batch(state, parts, looped, monkeypatch):
    monkeypatch.setattr(step_module, "looped", lambda: looped)  # as on an accelerator, or as on a CPU
    gan = plane_gan(ema=AVERAGED, accumulate=parts)
    whole, metrics = train_step(plane_gan(ema=AVERAGED), state, real_points(), KEY)
    split, split_metrics = train_step(gan, state, real_points(), KEY)
    close((split.params, split.opt_state, split.ema), (whole.params, whole.opt_state, whole.ema), 1e-6)
    close(split_metrics, metrics, 1e-6)  # critic_z and generator_z among them: the same noise
    # Statistics and carry go through the micro-batches one after another.
    assert split.stats[CRITIC]["passes"] == parts
    assert split.carry == 2 * parts


def test_a_micro_batch_has_the_same_examples_on_any_number_of_devices():
    """Those whose place in the global batch leaves one remainder, whichever device they are on."""
    whole = step_module._split(real_points(), jnp.arange(8), 2)
    halves = [step_module._split(real_points()[i : i + 4], jnp.arange(i, i + 4), 2) for i in (0, 4)]
    np.testing.assert_array_equal(whole[1], [[0, 2, 4, 6], [1, 3, 5, 7]])
    for part in range(2):
        np.testing.assert_array_equal(whole[0][part], np.concatenate([half[0][part] for half in halves]))
        np.testing.assert_array_equal(whole[1][part], np.concatenate([half[1][part] for half in halves]))


@pytest.mark.parametrize("parts", [3, 16, 0])
def test_micro_batches_that_do_not_divide_the_batch_are_refused(state, parts):
    with pytest.raises(ValueError, match=rf"accumulate={parts} .* batch of 8"):
        train_step(plane_gan(ema=AVERAGED, accumulate=parts), state, real_points(), KEY)


def test_batches_whose_leaves_differ_in_size_are_refused(gan, state):
    batch = {"labelled": jnp.zeros((4, 2)), "unlabelled": jnp.zeros((8, 2))}
    with pytest.raises(ValueError, match=r"one size on their first axis; got \[4, 8\]"):
        train_step(gan, state, batch, KEY)


def test_batches_nest(gan, state):
    """Every leaf is split alike, with its examples' places."""

    def loss(params, state, batch, context):
        offset = jnp.sum(jnp.abs(batch["a"][:, 0] - batch["b"]["c"])) + jnp.sum(
            jnp.abs(batch["a"][:, 0] - context.index)
        )
        return jnp.sum(params["w"]), Effects(metrics={"offset": offset})

    batch = {"a": jnp.arange(8.0)[:, None], "b": {"c": jnp.arange(8.0)}}
    _, metrics = train_step(gan._replace(phases=(Phase(CRITIC, loss, accumulate=4),)), state, batch, KEY)
    assert metrics["offset"] == 0


def test_a_step_depends_on_its_number_and_key_and_not_on_what_came_before(step, state):
    """Step 3 draws the same noise after any history, and another at another step or key."""
    history, _ = step(state, real_points(), KEY)
    history, _ = step(history, real_points(1), KEY, due=CRITIC_ONLY)
    history, _ = step(history, real_points(2), KEY)
    jumped = state.replace(step=jnp.int32(3))
    drawn = [step(s, real_points(), k)[1]["critic_z"] for s, k in ((history, KEY), (jumped, KEY))]
    assert drawn[0] == drawn[1]
    same(step(jumped, real_points(), KEY), step(jumped, real_points(), KEY))
    others = [
        step(state, real_points(), KEY)[1]["critic_z"],
        step(jumped, real_points(), jax.random.key(8))[1]["critic_z"],
    ]
    assert len({float(x) for x in (drawn[0], *others)}) == 3
    # Whether the other phase ran before it does not matter either.
    assert (
        step(jumped, real_points(), KEY, due=GENERATOR_ONLY)[1]["generator_z"]
        == (step(jumped, real_points(), KEY)[1]["generator_z"])
    )


def test_one_stream_is_one_draw_and_the_players_own_differ(step, state):
    _, apart = step(state, real_points(), KEY)
    assert apart["critic_z"] != apart["generator_z"]
    shared = plane_gan(ema=AVERAGED, streams=("latents", "latents"))
    _, metrics = train_step(shared, state, real_points(), KEY)
    assert metrics["critic_z"] == metrics["generator_z"]
    # The default is the player's name.
    named = plane_gan(ema=AVERAGED, streams=(CRITIC, GENERATOR))
    close(train_step(named, state, real_points(), KEY)[1], apart, 1e-6)


def test_pmap_over_four_devices_is_the_whole_batch_on_one(gan, step, state):
    assert jax.device_count() >= 4
    devices = jax.devices()[:4]
    parallel = jax.pmap(
        functools.partial(train_step, gan, axis_name="data"), "data", in_axes=(0, 0, None), devices=devices
    )
    replicated = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), state)
    single = state
    for k in range(2):
        replicated, metrics = parallel(replicated, real_points(k).reshape(4, BATCH // 4, 2), KEY)
        single, single_metrics = step(single, real_points(k), KEY)
        for i in range(4):
            same(jax.tree.map(lambda x, i=i: x[i], replicated), jax.tree.map(lambda x: x[0], replicated))
            same(jax.tree.map(lambda x, i=i: x[i], metrics), jax.tree.map(lambda x: x[0], metrics))
        close(jax.tree.map(lambda x: x[0], replicated), single, 1e-5)
        close(jax.tree.map(lambda x: x[0], metrics), single_metrics, 1e-5)


def test_pmap_with_micro_batches_draws_the_same(state):
    """Two devices, two micro-batches each: the noise of every example is still that of its place."""
    gan = plane_gan(ema=AVERAGED, accumulate=2)
    parallel = jax.pmap(
        functools.partial(train_step, gan, axis_name="data"),
        "data",
        in_axes=(None, 0, None),
        devices=jax.devices()[:2],
    )
    after, metrics = parallel(state, real_points().reshape(2, BATCH // 2, 2), KEY)
    whole, whole_metrics = train_step(plane_gan(ema=AVERAGED), state, real_points(), KEY)
    close(jax.tree.map(lambda x: x[0], metrics), whole_metrics, 1e-5)
    close(jax.tree.map(lambda x: x[0], after.params), whole.params, 1e-5)


@pytest.mark.parametrize("reduce", ["mean", "gather"])
def test_a_loss_that_reduces_over_devices_itself_has_the_whole_batchs_gradient(gan, state, reduce):
    """The square of the batch's mean logit: not a mean over examples, so each device must see the others."""

    def loss(params, state, batch, context):
        logits = criticise(params, batch)
        mean = context.mean(jnp.mean(logits)) if reduce == "mean" else jnp.mean(context.gather(logits))
        return jnp.square(mean - 1.0), Effects()

    odd = gan._replace(phases=(Phase(CRITIC, loss),), optimizers={**gan.optimizers, CRITIC: optax.sgd(0.1)})
    state = create_state(odd, KEY, real_points())
    whole, _ = train_step(odd, state, real_points(), KEY)
    parallel = jax.pmap(
        functools.partial(train_step, odd, axis_name="data"),
        "data",
        in_axes=(None, 0, None),
        devices=jax.devices()[:4],
    )
    after, _ = parallel(state, real_points().reshape(4, BATCH // 4, 2), KEY)
    close(jax.tree.map(lambda x: x[0], after.params), whole.params, 1e-5)
    assert moved(whole.params[CRITIC], state.params[CRITIC])


def test_vmap_over_seeds_is_each_seed_alone(gan, step):
    keys = jax.random.split(KEY, 2)
    states = [create_state(gan, key, real_points()) for key in keys]
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *states)
    vmapped = jax.vmap(functools.partial(train_step, gan), (0, None, 0))
    together, metrics = jax.jit(vmapped, compiler_options=FAST)(stacked, real_points(), keys)
    assert metrics["critic_z"].shape == (2,)
    for i in range(2):
        alone = step(states[i], real_points(), keys[i])
        close(jax.tree.map(lambda x, i=i: x[i], (together, metrics)), alone, 1e-5)


def test_scan_is_one_step_after_another(gan, step, state):
    batches = jnp.stack([real_points(k) for k in range(3)])
    scanned, metrics = jax.lax.scan(lambda s, batch: train_step(gan, s, batch, KEY), state, batches)
    for batch in batches:
        state, last = step(state, batch, KEY)
    close(scanned, state, 1e-5)
    close(jax.tree.map(lambda x: x[-1], metrics), last, 1e-5)


def test_steps_learn(compiled_step, state):
    """The toy's shift nears the data's mean: gradients have the right sign for both players."""

    def distance(state):
        return np.linalg.norm(np.asarray(state.ema[GENERATOR]["shift"]) - np.array([2.0, -1.0]))

    far = {**state.params[GENERATOR], "shift": jnp.array([-1.0, 1.0])}
    state = state.replace(params={**state.params, GENERATOR: far}, ema={**state.ema, GENERATOR: far})
    assert distance(state) > 3.6
    points = real_points()
    for _ in range(50):
        state, _ = compiled_step(state, points, KEY, due=BOTH)
    assert distance(state) < 2.5
