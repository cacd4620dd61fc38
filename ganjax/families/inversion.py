"""Finding the latents of given images, and what is wrong with those that have none: f-AnoGAN (Schlegl et al.
2019, "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks").

A generator that was trained on normal images alone is frozen, and an encoder learns to lead an image to
latents that give it back (the paper's "izi_f"). What differs then, in pixels and in the discriminator's
features, is the score of an anomaly. Networks are those of `ganjax.families.adversarial`, without classes,
whose discriminator sows its "features", and

    encoder(images [n, H, W, C], train=bool)    -> latents [n, Z]
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import random
from ganjax.errors import UsageError
from ganjax.families.adversarial import DISCRIMINATOR, GENERATOR, apply, features_in, over_devices
from ganjax.families.translation import split_variables
from ganjax.gan import Array, Batch, Context, Effects, Gan, GanState, Phase, Tree

ENCODER = "encoder"


def before_encoder(gan: Gan) -> Gan:
    """The adversarial gan of the first stage: asked about images, it says that it has no encoder yet."""

    @functools.wraps(gan.sample)
    def sample(state: GanState, keys: Array, conditions: Any = None, **options: Any) -> Any:
        if isinstance(conditions, Mapping):
            raise UsageError(
                "this checkpoint is of the first stage, before the encoder learns; name a later one with "
                "--checkpoint=, or train on"
            )
        return gan.sample(state, keys, conditions, **options)

    return gan._replace(sample=sample)


def inversion(
    base: Gan,
    generator: nn.Module,
    discriminator: nn.Module,
    encoder: nn.Module,
    *,
    optimizer: optax.GradientTransformation,
    kappa: float = 1.0,
) -> Gan:
    """A `Gan` whose only phase is the encoder's, with generator and discriminator as they are.

    Batches are {"image": [n, H, W, C] in [-1, 1]}. The encoder minimises the score of the images, which is

        mean over pixels of (x - G(E(x)))^2 + kappa * mean over features of (f(x) - f(G(E(x))))^2

    Args:
      base: what was trained before, of these networks (`ganjax.families.adversarial`).
      generator: frozen, in its averaged weights where it has any (`inherit`); sampled from in evaluation
      mode.
      discriminator: frozen, likewise.
      encoder: see the module's docstring.
      optimizer: of the encoder.
      kappa: weight of the features' residual, 1 in the paper.
    Returns:
      Its `sample` draws images from keys or `latents`, as `base` does; with conditions {"image": [n, H, W,
      C]} it gives "reconstruction" [n, H, W, C], "score" [n], and its two parts "pixels" and "features" [n].
    """

    def generated(state: GanState, latents: Array) -> Array:
        variables = {"params": state.params[GENERATOR], **state.stats[GENERATOR]}
        images = generator.apply(variables, latents, None, train=False)
        assert isinstance(images, jax.Array)
        return images

    def features(state: GanState, images: Array) -> Array:
        variables = {"params": state.params[DISCRIMINATOR], **state.stats[DISCRIMINATOR]}
        _, sown = discriminator.apply(variables, images, None, train=False, mutable=["intermediates"])
        return features_in(dict(sown))

    def scored(state: GanState, images: Array, latents: Array) -> dict[str, Array]:
        again = generated(state, latents)
        of_pixels = jnp.mean(jnp.square(images - again).reshape(images.shape[0], -1), axis=1)
        of_features = jnp.mean(jnp.square(features(state, images) - features(state, again)), axis=1)
        return {
            "reconstruction": again,
            "pixels": of_pixels,
            "features": of_features,
            "score": of_pixels + kappa * of_features,
        }

    def init(key: Array, batch: Batch) -> tuple[dict, dict, Tree]:
        params, stats, _ = base.init(key, batch)
        made = encoder.init(random.stream(key, ENCODER), batch["image"][:1], train=True)
        of_encoder, its_stats = split_variables({ENCODER: made})
        return {**params, **of_encoder}, {**stats, **its_stats}, ()

    def loss(params: Tree, state: GanState, batch: Batch, context: Context) -> tuple[Array, Effects]:
        e = over_devices(encoder, context.axis_name)
        latents, stats = apply(e, params, state.stats[ENCODER], batch["image"])
        found = scored(state, batch["image"], latents)
        value = jnp.mean(found["score"])
        metrics = {
            "encoder_loss": value,
            "pixel_residual": jnp.mean(found["pixels"]),
            "feature_residual": jnp.mean(found["features"]),
        }
        return value, Effects({ENCODER: context.mean(stats)}, metrics=metrics)

    def sample(
        state: GanState,
        keys: Array,
        conditions: Mapping[str, Array] | None = None,
        *,
        latents: Array | None = None,
    ) -> Any:
        if conditions is None:
            assert base.latents is not None
            return generated(state, base.latents(keys) if latents is None else latents)
        if not isinstance(conditions, Mapping) or set(conditions) != {"image"}:
            raise ValueError('this model takes no labels; to score images, it is given them as "image"')
        images = conditions["image"]
        variables = {"params": state.params[ENCODER], **state.stats[ENCODER]}
        found: Any = encoder.apply(variables, images, train=False)
        return scored(state, images, found)

    return Gan(
        init=init,
        phases=(Phase(ENCODER, loss),),
        optimizers={ENCODER: optimizer},
        sample=sample,
        latents=base.latents,
    )


def inherit(new: GanState, old: GanState) -> GanState:
    """The encoder's stage after the adversarial one: its networks, the generator in its averaged weights."""
    trained = {
        GENERATOR: old.ema.get(GENERATOR, old.params[GENERATOR]),
        DISCRIMINATOR: old.params[DISCRIMINATOR],
    }
    return new.replace(params={**new.params, **trained}, stats={**new.stats, **old.stats})
