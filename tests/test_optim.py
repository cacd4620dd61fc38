from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganjax import optim


def gradients(step: int) -> dict:
    draw = np.random.default_rng(step)
    return {
        "w": jnp.asarray(draw.normal(size=(3, 2)), jnp.float32),
        "b": jnp.asarray(1e-3 * draw.normal(size=2), jnp.float32),
    }


PARAMS = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}


def run(optimizer, steps, params: Any = PARAMS) -> Any:
    """Updates at the run's `steps` only."""
    optimizer = optax.with_extra_args_support(optimizer)
    state = optimizer.init(params)
    for step in steps:
        updates, state = optimizer.update(gradients(step), state, params, step=jnp.int32(step))
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("arguments", [{}, {"b1": 0.5}, {"b1": 0.0, "b2": 0.99, "eps": 1e-3}])
def test_adam_of_a_constant_rate_is_optax_adam(arguments):
    ours = run(optim.adam(0.02, **arguments), range(8))
    theirs = run(optax.adam(0.02, **arguments), range(8))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-7), ours, theirs)
    assert float(jnp.max(jnp.abs(ours["w"] - 1))) > 0.01


def test_the_first_steps_of_adam_by_hand():
    """Kingma & Ba, algorithm 1, in float64 for one number; a rate that falls with the run's step."""
    b1, b2, eps, theta, m, v = 0.5, 0.9, 1e-8, 1.0, 0.0, 0.0
    optimizer = optim.adam(lambda step: 0.1 / (1 + step), b1, b2, eps)
    params: Any = jnp.float32(theta)
    state: Any = optimizer.init(params)
    for t, (step, gradient) in enumerate([(0, 2.0), (5, -1.0), (6, 0.5)], start=1):
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        theta -= 0.1 / (1 + step) * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + eps)
        updates, state = optimizer.update(jnp.float32(gradient), state, params, step=jnp.int32(step))
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, theta, rtol=1e-6)


def test_schedules_see_the_runs_step_and_not_the_number_of_updates():
    """A player that moves every 5th step, with a rate that is cut at step 10."""
    optimizer: Any = optim.scale_by_learning_rate(lambda step: jnp.where(step < 10, 1.0, 0.25))
    state = optimizer.init(PARAMS)
    rates = []
    for step in (4, 9, 14, 19):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, PARAMS), state, step=jnp.int32(step))
        rates.append(-float(updates["b"][0]))
    assert rates == [1, 1, 0.25, 0.25]  # by optax's count, 0 to 3, it would never be cut


def test_learning_rates_keep_the_updates_type():
    updates = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    for rate in (0.5, lambda step: jnp.float32(0.5) * (step + 1)):
        optimizer: Any = optim.scale_by_learning_rate(rate)
        scaled, _ = optimizer.update(updates, optax.EmptyState(), step=jnp.int32(0))
        assert scaled["half"].dtype == jnp.bfloat16
        assert scaled["single"].dtype == jnp.float32
        np.testing.assert_array_equal(scaled["single"], [-0.5, -0.5])


def test_without_a_step_a_constant_rate_does_and_a_schedule_says_so():
    constant, schedule = optim.adam(0.1), optim.adam(lambda step: 0.1 * step)
    updates: Any = constant.update(PARAMS, constant.init(PARAMS))[0]
    np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-5)  # Adam's first step is the rate
    with pytest.raises(ValueError, match=r"step=\.\.\."):
        schedule.update(PARAMS, schedule.init(PARAMS))


@pytest.mark.parametrize("transform", [jax.jit, lambda f: f])
def test_linear_decay(transform):
    schedule = transform(optim.linear_decay(0.2, start=100, end=300))
    steps = [0, 100, 150, 200, 299, 300, 1000]
    expected = [0.2, 0.2, 0.15, 0.1, 0.001, 0, 0]
    np.testing.assert_allclose(
        [float(schedule(jnp.int32(step))) for step in steps], expected, rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5), (-1, 5)])
def test_linear_decay_refuses_a_line_that_does_not_fall(start, end):
    with pytest.raises(ValueError, match=rf"start={start}, end={end}"):
        optim.linear_decay(1.0, start, end)


@pytest.mark.parametrize("transform", [jax.jit, lambda f: f])
def test_ema_decay_ramps_from_its_start(transform):
    schedule = transform(optim.ema_decay(0.9, start=10))
    # (1 + t) / (10 + t), t = step - 10, until it reaches 0.9 at t = 80.
    expected = {0: 0, 9: 0, 10: 0.1, 11: 2 / 11, 20: 11 / 20, 89: 80 / 89, 90: 0.9, 500: 0.9}
    values = {step: float(schedule(jnp.int32(step))) for step in expected}
    np.testing.assert_allclose(list(values.values()), list(expected.values()), rtol=1e-6)


def test_the_ramp_counts_the_steps_of_what_is_averaged():
    """A player that moves on every fifth step has an average as young as one that moves on each."""
    schedule, own = optim.ema_decay(0.999, start=10, every=5), optim.ema_decay(0.999)
    values = [float(schedule(jnp.int32(10 + 5 * t))) for t in (0, 1, 300, 20_000)]
    np.testing.assert_allclose(values, [float(own(jnp.int32(t))) for t in (0, 1, 300, 20_000)], rtol=1e-6)


def test_ema_decay_without_a_ramp():
    schedule = optim.ema_decay(0.999, start=3, ramp=False)
    values = [float(schedule(jnp.int32(step))) for step in range(5)]
    np.testing.assert_allclose(values, [0, 0, 0, 0.999, 0.999], rtol=1e-6)
    assert float(optim.ema_decay(0.0)(jnp.int32(7))) == 0


@pytest.mark.parametrize("decay", [1.0, 1.5, -0.1])
def test_ema_decay_refuses_a_decay_outside_its_range(decay):
    with pytest.raises(ValueError, match=rf"decay={decay}"):
        optim.ema_decay(decay)


def test_the_first_steps_of_rmsprop_by_hand():
    """With a rate that falls with the run's step, and eps outside the root, where it shows."""
    decay, eps, theta, v = 0.8, 0.1, 1.0, 0.0
    optimizer = optim.rmsprop(lambda step: 0.1 / (1 + step), decay, eps)
    params: Any = jnp.float32(theta)
    state: Any = optimizer.init(params)
    for step, gradient in [(0, 2.0), (5, -1.0), (6, 0.5)]:
        v = decay * v + (1 - decay) * gradient**2
        theta -= 0.1 / (1 + step) * gradient / (v**0.5 + eps)
        updates, state = optimizer.update(jnp.float32(gradient), state, params, step=jnp.int32(step))
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, theta, rtol=1e-6)


def test_rmsprop_of_a_constant_rate_is_optax_rmsprop():
    ours = run(optim.rmsprop(0.02, 0.95), range(8))
    theirs = run(optax.rmsprop(0.02, 0.95, eps=1e-8, eps_in_sqrt=False), range(8))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-7), ours, theirs)
    assert float(jnp.max(jnp.abs(ours["w"] - 1))) > 0.01


@pytest.mark.parametrize("make", [optim.adam, optim.rmsprop])
def test_gradients_are_clipped_before_the_optimizer_sees_them(make):
    # eps far above the gradients makes both linear in them, so that clipping shows.
    kinds: list[Any] = [make(1.0, eps=1e3), make(1.0, eps=1e3, clip=2.5), make(1.0, eps=1e3, clip=10.0)]
    gradient = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}  # of norm 5
    plain, clipped, loose = (
        kind.update(gradient, kind.init(gradient), gradient, step=jnp.int32(0))[0] for kind in kinds
    )
    for name in gradient:
        np.testing.assert_allclose(clipped[name], 0.5 * plain[name], rtol=1e-2)
        np.testing.assert_array_equal(loose[name], plain[name])
    with pytest.raises(ValueError, match="clip=0"):
        make(1.0, clip=0.0)


def test_without_clipping_the_optimizer_has_the_state_it_always_had():
    theirs = optax.chain(optax.scale_by_adam(), optax.scale(-1.0)).init(PARAMS)
    assert jax.tree.structure(optim.adam(0.1).init(PARAMS)) == jax.tree.structure(theirs)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (optim.cosine_decay(2.0, 100), {0: 2, 50: 1, 25: 1 + 0.5**0.5, 100: 0, 10**6: 0}),
        (optim.cosine_decay(2.0, 10, start=5, end_value=1.0), {0: 2, 5: 2, 10: 1.5, 15: 1, 99: 1}),
        (optim.exponential_decay(2.0, 0.25, 10), {0: 2, 5: 1, 10: 0.5, 20: 0.125}),
        (optim.exponential_decay(2.0, 0.5, 10, start=3), {0: 2, 3: 2, 13: 1}),
        (optim.exponential_decay(2.0, 0.5, 10, staircase=True), {9: 2, 10: 1, 19: 1, 20: 0.5}),
        (optim.warmup(2.0, 4), {0: 0.5, 1: 1, 3: 2, 4: 2, 10**6: 2}),
        (optim.warmup(2.0, 0), {0: 2, 1: 2}),
        (optim.warmup(optim.linear_decay(1.0, 2, 10), 4), {0: 0.25, 1: 0.5, 4: 0.75, 6: 0.5, 10: 0}),
    ],
)
def test_schedules_by_hand(schedule, expected):
    steps = jnp.array(list(expected), jnp.int32)
    values = jax.jit(jax.vmap(schedule))(steps)
    np.testing.assert_allclose(values, list(expected.values()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.cosine_decay(1.0, 0),
        lambda: optim.cosine_decay(1.0, 5, start=-1),
        lambda: optim.exponential_decay(1.0, 0.0, 5),
        lambda: optim.exponential_decay(1.0, 0.5, 0),
        lambda: optim.warmup(1.0, -1),
        lambda: optim.clip(PARAMS, 0.0),
        lambda: optim.clip_all(-1.0),
        lambda: optim.clip_kernels(0.0),
    ],
)
def test_schedules_and_boxes_that_cannot_be_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_boxes_clip_what_they_name():
    params = {
        "conv": {"kernel": jnp.full((2, 2, 1, 1), 0.3), "bias": jnp.array([-0.5])},
        "dense": {"kernel": jnp.array([[0.05, -0.3]])},
    }
    everything = optim.clip_all(0.1)(params)
    np.testing.assert_allclose(everything["conv"]["kernel"], jnp.full((2, 2, 1, 1), 0.1))
    np.testing.assert_allclose(everything["conv"]["bias"], [-0.1])
    np.testing.assert_allclose(everything["dense"]["kernel"], [[0.05, -0.1]])
    kernels = optim.clip_kernels(0.1)(params)
    np.testing.assert_allclose(kernels["conv"]["kernel"], jnp.full((2, 2, 1, 1), 0.1))
    np.testing.assert_array_equal(kernels["conv"]["bias"], params["conv"]["bias"])
    np.testing.assert_array_equal(kernels["dense"]["kernel"], params["dense"]["kernel"])
    some = optim.clip(params, 0.1, only=lambda path, leaf: path == ("dense", "kernel"))
    np.testing.assert_allclose(some["dense"]["kernel"], [[0.05, -0.1]])
    np.testing.assert_array_equal(some["conv"]["kernel"], params["conv"]["kernel"])
