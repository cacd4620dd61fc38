"""Toy GANs of points in the plane, of a few numbers each: they compile in a blink, and a step can be
worked out by hand.

The generator is x = scale * z + shift, the critic x . w + |x|^2 * q / 2. Besides, each player has a
statistic that counts its forward passes, and the carry counts the losses that ran.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ganjax import losses, random
from ganjax.gan import Effects, Gan, Phase, always

GENERATOR, CRITIC = "generator", "critic"
BATCH = 8


def generate(params, z):
    return z * params["scale"][None] + params["shift"][None]


def criticise(params, x):
    return x @ params["w"] + 0.5 * jnp.sum(jnp.square(x), axis=1) * params["q"]


def plane_gan(
    *,
    loss: losses.AdversarialLoss = losses.NON_SATURATING,
    optimizers: Mapping[str, Any] | None = None,
    streams: tuple[str, str] = ("", ""),
    due=(always, always),
    accumulate: int = 1,
    **parts,
) -> Gan:
    """Critic, then generator; `parts` are further fields of the `Gan`."""

    def init(key, batch):
        assert batch.shape[1] == 2
        draw = random.normal(random.per_example(key, jnp.arange(2)), (2,))
        params = {
            GENERATOR: {"scale": jnp.ones(2), "shift": draw[0]},
            CRITIC: {"w": draw[1], "q": jnp.array(-0.5)},
        }
        return (
            params,
            {GENERATOR: {"passes": jnp.zeros(())}, CRITIC: {"passes": jnp.zeros(())}},
            jnp.zeros(()),
        )

    def effects(state, metrics, z, context):
        # Both players' statistics, though only one moves: the step keeps the one that does.
        stats = {player: {"passes": state.stats[player]["passes"] + 1} for player in (GENERATOR, CRITIC)}
        return Effects(stats, state.carry + 1, metrics)

    def latents(context):
        return random.normal(context.example_keys("z"), (2,))

    def critic_loss(params, state, batch, context):
        z = latents(context)
        fake = generate(state.params[GENERATOR], z)
        value = jnp.mean(loss.discriminator(criticise(params, batch), criticise(params, fake)))
        metrics = {"critic_loss": value, "critic_z": jnp.mean(z), "critic_real": jnp.mean(batch)}
        return value, effects(state, metrics, z, context)

    def generator_loss(params, state, batch, context):
        z = latents(context)
        value = jnp.mean(loss.generator(criticise(state.params[CRITIC], generate(params, z))))
        return value, effects(state, {"generator_loss": value, "generator_z": jnp.mean(z)}, z, context)

    def sample(state, keys, labels=None, *, latents=None):
        z = random.normal(keys, (2,)) if latents is None else latents
        images = generate(state.ema.get(GENERATOR, state.params[GENERATOR]), z)
        if labels is not None:
            images = images + labels[:, None]
        return images[:, None, None, :]  # [n, 1, 1, 2]

    return Gan(
        init=init,
        phases=(
            Phase(CRITIC, critic_loss, due[0], streams[0], accumulate),
            Phase(GENERATOR, generator_loss, due[1], streams[1], accumulate),
        ),
        optimizers=optimizers or {GENERATOR: optax.adam(0.03), CRITIC: optax.adam(0.06)},
        sample=sample,
        **{"latents": lambda keys: random.normal(keys, (2,)), **parts},
    )


def real_points(step: int = 0, size: int = BATCH) -> jax.Array:
    """Points [size, 2] around (2, -1)."""
    return jnp.array([[2.0, -1.0]]) + 0.5 * jax.random.normal(jax.random.key(100 + step), (size, 2))
