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


def test_ema_decay_without_a_ramp():
    schedule = optim.ema_decay(0.999, start=3, ramp=False)
    values = [float(schedule(jnp.int32(step))) for step in range(5)]
    np.testing.assert_allclose(values, [0, 0, 0, 0.999, 0.999], rtol=1e-6)
    assert float(optim.ema_decay(0.0)(jnp.int32(7))) == 0


@pytest.mark.parametrize("decay", [1.0, 1.5, -0.1])
def test_ema_decay_refuses_a_decay_outside_its_range(decay):
    with pytest.raises(ValueError, match=rf"decay={decay}"):
        optim.ema_decay(decay)
