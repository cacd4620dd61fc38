"""Finding the latents of given images, and what is wrong with those that have none: f-AnoGAN (Schlegl et al.
2019, "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks") and, before it,
AnoGAN (Schlegl et al. 2017, "Unsupervised anomaly detection with generative adversarial networks to guide
marker discovery").

A generator that was trained on normal images alone is frozen, and an image is led to latents that give it
back: by an encoder that learns to (`inversion`, the later paper's "izi_f"), by a search for each image
(`searching`, the earlier paper's), or by a search that begins where the encoder leads to. What differs then,
in pixels and in the discriminator's features, is the score of an anomaly. Networks are those of
`ganjax.families.adversarial`, without classes, whose discriminator sows its "features", and

    encoder(images [n, H, W, C], train=bool)    -> latents [n, Z]
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import random
from ganjax.errors import TooEarly
from ganjax.families.adversarial import DISCRIMINATOR, GENERATOR, apply, features_in, over_devices
from ganjax.families.translation import split_variables
from ganjax.gan import Array, Batch, Context, Effects, Gan, GanState, Phase, Tree

ENCODER = "encoder"


def before_encoder(gan: Gan) -> Gan:
    """The adversarial gan of the first stage: asked about images, it says that it has no encoder yet."""

    @functools.wraps(gan.sample)
    def sample(state: GanState, keys: Array, conditions: Any = None, **options: Any) -> Any:
        if isinstance(conditions, Mapping):
            raise TooEarly("of the first stage, before the encoder learns")
        return gan.sample(state, keys, conditions, **options)

    return gan._replace(sample=sample)


class Search(NamedTuple):
    """A search for an image's latents, by gradients of its score.

    Attributes:
      steps: of Adam; 0: there is no search.
      rate: of a step; latents are standard normal.
    """

    steps: int = 0
    rate: float = 0.05

    def __call__(self, score: Callable[[Array], Array], latents: Array) -> Array:
        """From latents [n, Z] on to such with a smaller `score`, which gives [n]; each by itself."""
        optimizer = optax.adam(self.rate)

        def step(_: Array, carry: tuple[Array, Any]) -> tuple[Array, Any]:
            latents, memory = carry
            gradients = jax.grad(lambda z: jnp.sum(score(z)))(latents)
            updates, memory = optimizer.update(gradients, memory)
            moved: Any = optax.apply_updates(latents, updates)
            return moved, memory

        return jax.lax.fori_loop(0, self.steps, step, (latents, optimizer.init(latents)))[0]


NO_SEARCH = Search()


class Frozen(NamedTuple):
    """The networks of a first stage, as they are, and the weight kappa of the features' residual."""

    generator: nn.Module
    discriminator: nn.Module
    kappa: float

    def generated(self, state: GanState, latents: Array) -> Array:
        """[n, Z] -> [n, H, W, C], by the averaged generator where there is one."""
        params = state.ema.get(GENERATOR, state.params[GENERATOR])
        images = self.generator.apply(
            {"params": params, **state.stats[GENERATOR]}, latents, None, train=False
        )
        assert isinstance(images, jax.Array)
        return images

    def features(self, state: GanState, images: Array) -> Array:
        """[n, H, W, C] -> [n, F]."""
        variables = {"params": state.params[DISCRIMINATOR], **state.stats[DISCRIMINATOR]}
        _, sown = self.discriminator.apply(variables, images, None, train=False, mutable=["intermediates"])
        return features_in(dict(sown))

    def scored(self, state: GanState, images: Array, latents: Array) -> dict[str, Array]:
        """What these latents give in the place of the images, and how far it is from them."""
        again = self.generated(state, latents)
        of_pixels = jnp.mean(jnp.square(images - again).reshape(images.shape[0], -1), axis=1)
        apart = self.features(state, images) - self.features(state, again)
        of_features = jnp.mean(jnp.square(apart), axis=1)
        return {
            "reconstruction": again,
            "pixels": of_pixels,
            "features": of_features,
            "score": of_pixels + self.kappa * of_features,
        }

    def found(self, search: Search, state: GanState, images: Array, latents: Array) -> dict[str, Array]:
        """Likewise, of the latents that a search leads to."""
        if search.steps:
            latents = search(lambda z: self.scored(state, images, z)["score"], latents)
        return self.scored(state, images, latents)


def images_in(conditions: Any) -> Array:
    """The images to be scored. Raises ValueError for other conditions."""
    if not isinstance(conditions, Mapping) or set(conditions) != {"image"}:
        raise ValueError('this model takes no labels; to score images, it is given them as "image"')
    return conditions["image"]


def searching(
    base: Gan, generator: nn.Module, discriminator: nn.Module, *, search: Search, kappa: float = 1.0
) -> Gan:
    """The adversarial gan, asked about images as `inversion` is: it searches for their latents from random
    ones on (the `latents` of `base`, by the images' keys). The score is that of `inversion`, which has
    squares where AnoGAN has absolute values."""
    frozen = Frozen(generator, discriminator, kappa)

    @functools.wraps(base.sample)
    def sample(state: GanState, keys: Array, conditions: Any = None, **options: Any) -> Any:
        if conditions is None:
            return base.sample(state, keys, conditions, **options)
        images = images_in(conditions)
        assert base.latents is not None
        return frozen.found(search, state, images, base.latents(keys))

    return base._replace(sample=sample)


def inversion(
    base: Gan,
    generator: nn.Module,
    discriminator: nn.Module,
    encoder: nn.Module,
    *,
    optimizer: optax.GradientTransformation,
    kappa: float = 1.0,
    search: Search = NO_SEARCH,
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
      search: from the encoder's latents on, where the gan is asked about images.
    Returns:
      Its `sample` draws images from keys or `latents`, as `base` does; with conditions {"image": [n, H, W,
      C]} it gives "reconstruction" [n, H, W, C], "score" [n], and its two parts "pixels" and "features" [n].
    """
    frozen = Frozen(generator, discriminator, kappa)

    def init(key: Array, batch: Batch) -> tuple[dict, dict, Tree]:
        params, stats, _ = base.init(key, batch)
        made = encoder.init(random.stream(key, ENCODER), batch["image"][:1], train=True)
        of_encoder, its_stats = split_variables({ENCODER: made})
        return {**params, **of_encoder}, {**stats, **its_stats}, ()

    def loss(params: Tree, state: GanState, batch: Batch, context: Context) -> tuple[Array, Effects]:
        e = over_devices(encoder, context.axis_name)
        latents, stats = apply(e, params, state.stats[ENCODER], batch["image"])
        found = frozen.scored(state, batch["image"], latents)
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
            return frozen.generated(state, base.latents(keys) if latents is None else latents)
        images = images_in(conditions)
        variables = {"params": state.params[ENCODER], **state.stats[ENCODER]}
        encoded: Any = encoder.apply(variables, images, train=False)
        return frozen.found(search, state, images, encoded)

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
