"""Translation from image to image that is learned from pairs: pix2pix (Isola et al. 2017, "Image-to-image
translation with conditional adversarial networks").

Networks are linen modules, called as

    generator(images [n, H, W, C], train=bool)                      -> images [n, H, W, C'] in [-1, 1]
    discriminator(both [n, H, W, C + C'], train=bool)               -> logits, [n] or one for each patch

where `both` has the channels of the image to translate and, behind them, those of its translation, the real
or the generated one. A discriminator that sows "features" into "intermediates", any number of arrays, can be
matched by them. `keys` and `axis_name` are as in `ganjax.families.adversarial`: there is no latent, and
a generator's noise is its dropout, in sampling too.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import losses, random
from ganjax.families.adversarial import DISCRIMINATOR, GENERATOR, apply, keys_of, over_devices
from ganjax.gan import Array, Batch, Context, Effects, Gan, GanState, Phase, Tree


def direction_of(source: str, target: str) -> str:
    """What translations from one domain to another are called, as in "AtoB"."""
    return f"{source}to{target}"


def translation(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    optimizers: Mapping[str, optax.GradientTransformation],
    source: str = "A",
    target: str = "B",
    loss: losses.AdversarialLoss = losses.NON_SATURATING,
    l1: float = 100.0,
    feature_matching: float = 0.0,
    adversarial_weight: float = 1.0,
    discriminator_weight: float = 0.5,
    ema_decay: Callable[[Array], Array] | None = None,
) -> Gan:
    """A `Gan` of two players, on batches {source: [n, H, W, C], target: [n, H, W, C']} of pairs in [-1, 1].

    Args:
      generator: see the module's docstring.
      discriminator: likewise.
      optimizers: for "generator" and "discriminator".
      source: the domain that is translated from.
      target: the domain that is translated to.
      loss: what the two minimise; no relativistic one.
      l1: weight of the mean absolute difference from the target, 100 in the paper.
      feature_matching: weight of the mean absolute difference between the discriminator's features of the
        generated and of the real image, a sum over its layers (Wang et al. 2018, "High-resolution image
        synthesis and semantic manipulation with conditional GANs", with 10).
      adversarial_weight: of the adversarial term of the generator's loss.
      discriminator_weight: of the discriminator's loss, which the paper halves.
      ema_decay: the decay of the averaged generator by step; None keeps no average.
    Returns:
      Its `sample` takes the images to translate, {source: [n, H, W, C] in [-1, 1]}, as conditions, and
      gives {"AtoB": [n, H, W, C']}, named by `direction_of`. One key is one draw of the dropout; keys None
      drops nothing.
    Raises:
      ValueError: a relativistic loss.
    """
    check_not_relativistic(loss)
    name = direction_of(source, target)

    def translated(params: Tree, state: GanState, images: Array, context: Context) -> tuple[Array, Tree]:
        g = over_devices(generator, context.axis_name)
        keys = keys_of(g, context.example_keys, GENERATOR)
        return apply(g, params, state.stats[GENERATOR], images, **keys)

    def judged(params: Tree, stats: Tree, a: Array, b: Array, context: Context) -> tuple[Array, Tree]:
        d = over_devices(discriminator, context.axis_name)
        return apply(d, params, stats, jnp.concatenate([a, b], axis=-1))

    def init(key: Array, batch: Batch) -> tuple[dict, dict, Tree]:
        a, b = batch[source][:1], batch[target][:1]
        if a.shape[:3] != b.shape[:3]:
            raise ValueError(
                f"images of {a.shape[1]}x{a.shape[2]} and {b.shape[1]}x{b.shape[2]}: those of a pair have "
                "one size; set image_size"
            )
        players = {
            GENERATOR: generator.init(random.stream(key, GENERATOR), a, train=True),
            DISCRIMINATOR: discriminator.init(
                random.stream(key, DISCRIMINATOR), jnp.concatenate([a, b], axis=-1), train=True
            ),
        }
        params, stats = split_variables(players)
        return params, stats, ()

    def discriminator_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        fake, _ = translated(state.params[GENERATOR], state, batch[source], context)
        stats = state.stats[DISCRIMINATOR]
        real_logits, stats = judged(params, stats, batch[source], batch[target], context)
        fake_logits, stats = judged(params, stats, batch[source], fake, context)
        value = discriminator_weight * jnp.mean(loss.discriminator(real_logits, fake_logits))
        metrics = {"discriminator_loss": value} | logit_metrics(loss, real_logits, fake_logits)
        return value, Effects({DISCRIMINATOR: context.mean(stats)}, None, metrics)

    def generator_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        fake, stats = translated(params, state, batch[source], context)
        d_params, d_stats = state.params[DISCRIMINATOR], state.stats[DISCRIMINATOR]
        d_stats = {**d_stats, "intermediates": {}} if feature_matching else d_stats
        fake_logits, after = judged(d_params, d_stats, batch[source], fake, context)
        adversarial = jnp.mean(loss.generator(fake_logits))
        distance = jnp.mean(jnp.abs(fake - batch[target]))
        metrics = {"generator_loss": adversarial, "l1": distance}
        value = adversarial_weight * adversarial + l1 * distance
        if feature_matching:
            _, real_after = judged(d_params, d_stats, batch[source], batch[target], context)
            real_after = jax.lax.stop_gradient(real_after)
            metrics["feature_matching"] = distance_of_features(features_of(after), features_of(real_after))
            value += feature_matching * metrics["feature_matching"]
        return value, Effects({GENERATOR: context.mean(stats)}, None, metrics)

    def sample(state: GanState, keys: Array | None, conditions: Mapping[str, Array]) -> dict[str, Array]:
        params = state.ema.get(GENERATOR, state.params[GENERATOR])
        variables = {"params": params, **state.stats[GENERATOR]}
        given = given_images(conditions, (source,))
        own: dict[str, Any] = {}
        if keys is not None:
            own = keys_of(generator, lambda stream: random.streams(keys, stream), GENERATOR)
        images = generator.apply(variables, given[source], train=False, **own)
        assert isinstance(images, jax.Array)
        return {name: images}

    return Gan(
        init=init,
        phases=(
            # One stream: both phases drop the same, so that one pass of the generator serves the two.
            Phase(DISCRIMINATOR, discriminator_loss, stream="translation"),
            Phase(GENERATOR, generator_loss, stream="translation"),
        ),
        optimizers=optimizers,
        sample=sample,
        ema={GENERATOR: ema_decay} if ema_decay is not None else {},
    )


def features_of(collections: Tree) -> tuple[Array, ...]:
    """What a discriminator sowed as its features, layer by layer. Raises ValueError if it did not."""
    found = collections["intermediates"].get("features")
    if not found:
        raise ValueError('feature_matching needs a discriminator that sows its "features" (translation.py)')
    return found


def distance_of_features(a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
    """The mean absolute difference of each layer's, in a sum; float32."""
    each = (jnp.mean(jnp.abs(x - y), dtype=jnp.float32) for x, y in zip(a, b, strict=True))
    return sum(each, jnp.zeros(()))


def check_not_relativistic(loss: losses.AdversarialLoss) -> None:
    """Raises ValueError for a loss of pairs of logits, which a generator's phase here does not have."""
    if loss.relativistic:
        raise ValueError(
            "translation takes no relativistic loss: there a generated patch has no real partner"
        )


def split_variables(players: Mapping[str, Any]) -> tuple[dict, dict]:
    """By player, the parameters and the other collections of linen variables."""
    params = {player: variables["params"] for player, variables in players.items()}
    stats = {
        player: {name: tree for name, tree in variables.items() if name != "params"}
        for player, variables in players.items()
    }
    return params, stats


def logit_metrics(loss: losses.AdversarialLoss, real: Array, fake: Array) -> dict[str, Array]:
    """Means of a discriminator's logits, and its accuracy where they say "real" or not."""
    metrics = {"real_logits": jnp.mean(real), "fake_logits": jnp.mean(fake)}
    if loss.boundary is not None:
        right = jnp.mean(real > loss.boundary), jnp.mean(fake < loss.boundary)
        metrics["discriminator_accuracy"] = 0.5 * (right[0] + right[1])
    return metrics


def given_images(conditions: Any, domains: tuple[str, ...]) -> Mapping[str, Array]:
    """The images to translate, of some of the domains. Raises ValueError for anything else."""
    if not isinstance(conditions, Mapping) or not conditions or not set(conditions) <= set(domains):
        raise ValueError(f"this model translates images of {' or '.join(domains)}, and needs some by domain")
    return conditions
