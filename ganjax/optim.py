"""What optax does not have: schedules by the run's step, and ramps for moving averages.

optax counts a player's updates; ours are functions of the step that `train_step` hands to `update`, so
that several critic steps to one generator step, or a phase that is rarely due, do not bend them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Schedule = Callable[[jax.Array], jax.Array]


def scale_by_learning_rate(learning_rate: float | Schedule) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by -learning_rate, or by -learning_rate(step) of the run's step.

    `update` takes the step as `step=`, and raises ValueError where a schedule is not given it.
    """

    def init(params: optax.Params) -> optax.OptState:
        del params
        return optax.EmptyState()

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        if not callable(learning_rate):
            rate = learning_rate
        elif "step" in extra:
            rate = learning_rate(extra["step"])
        else:
            raise ValueError("this learning rate is a schedule of the run's step: update(..., step=...)")
        return jax.tree.map(lambda u: jnp.asarray(-rate, u.dtype) * u, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def adam(
    learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Adam (Kingma & Ba 2015) whose learning rate may be a schedule of the run's step."""
    return optax.chain(optax.scale_by_adam(b1, b2, eps), scale_by_learning_rate(learning_rate))


def linear_decay(value: float, start: int, end: int) -> Schedule:
    """`value` until step `start`, then on a straight line to 0 at step `end`."""
    if not 0 <= start < end:
        raise ValueError(f"linear_decay(start={start}, end={end}): expected 0 <= start < end")
    return lambda step: value * jnp.clip((end - step) / (end - start), 0.0, 1.0)


def ema_decay(decay: float, *, start: int = 0, ramp: bool = True) -> Schedule:
    """The decay of a moving average, by step.

    Args:
      decay: reached in the end, in [0, 1).
      start: until this step the average follows the parameters (decay 0).
      ramp: begin with (1 + t) / (10 + t), t steps after `start`, so that the average of a short run is
        not dominated by its first parameters.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"decay={decay}: expected a number in [0, 1)")

    def schedule(step: jax.Array) -> jax.Array:
        since = jnp.asarray(step - start, jnp.float32)
        ramped = jnp.minimum(decay, (1.0 + since) / (10.0 + since)) if ramp else decay
        return jnp.where(since < 0, 0.0, ramped)

    return schedule
