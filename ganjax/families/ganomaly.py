"""Anomalies by what an encoder makes of an image and of its reconstruction: GANomaly (Akcay et al. 2018,
"GANomaly: Semi-supervised anomaly detection via adversarial training").

An autoencoder whose reconstructions a discriminator takes for real is trained on normal images alone, and a
second encoder learns to find in a reconstruction the latents it was made from. Where it does not, something
is in the image that was not learned. Networks are linen modules, called as

    generator(images [n, H, W, C], train=bool)      -> reconstructions [n, H, W, C], latents [n, Z] of the
                                                       images, latents [n, Z] of the reconstructions
    discriminator(images [n, H, W, C], train=bool)  -> logits [n]

`axis_name` is as in `ganjax.families.adversarial`; the discriminator sows its "features" [n, F].
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from ganjax import losses, random
from ganjax.families.adversarial import DISCRIMINATOR, GENERATOR, apply, features_in, over_devices
from ganjax.families.translation import logit_metrics, split_variables
from ganjax.gan import Array, Batch, Context, Effects, Gan, GanState, Phase, Tree


def ganomaly(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    optimizers: Mapping[str, optax.GradientTransformation],
    adversarial: float = 1.0,
    reconstruction: float = 50.0,
    latent: float = 1.0,
) -> Gan:
    """A `Gan` of the two players. Batches are {"image": [n, H, W, C] in [-1, 1]}, and what else there is is
    not looked at.

    The discriminator tells images from reconstructions. The generator minimises the paper's equation 4: the
    mean squared distance of an image's and its reconstruction's features in the discriminator, the mean
    absolute distance of the two, and the mean squared distance of the latents from those found again.

    Args:
      generator: see the module's docstring.
      discriminator: likewise.
      optimizers: for "generator" and "discriminator".
      adversarial: weight of the features' distance.
      reconstruction: weight of the pixels' distance.
      latent: weight of the latents' distance.
    Returns:
      Its `sample` takes no keys, but conditions {"image": [n, H, W, C]}, and gives "reconstruction" [n, H, W,
      C], "score" [n], the mean squared difference of the latents, in which the paper's text and the authors'
      code differ, and beside it "pixels" [n], that of the pixels.
    """
    loss = losses.NON_SATURATING

    def rebuilt(params: Tree, state: GanState, images: Array, context: Context) -> tuple[Any, Tree]:
        g = over_devices(generator, context.axis_name)
        return apply(g, params, state.stats[GENERATOR], images)

    def judged(params: Tree, stats: Tree, images: Array, context: Context) -> tuple[Array, Array, Tree]:
        """Logits, features, statistics."""
        d = over_devices(discriminator, context.axis_name)
        logits, after = apply(d, params, {**stats, "intermediates": {}}, images)
        return logits, features_in(after), {name: after[name] for name in stats}

    def init(key: Array, batch: Batch) -> tuple[dict, dict, Tree]:
        image = batch["image"][:1]
        made = discriminator.init(random.stream(key, DISCRIMINATOR), image, train=True)
        players = {
            GENERATOR: generator.init(random.stream(key, GENERATOR), image, train=True),
            DISCRIMINATOR: {name: tree for name, tree in made.items() if name != "intermediates"},
        }
        params, stats = split_variables(players)
        return params, stats, ()

    def discriminator_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        (again, _, _), _ = rebuilt(state.params[GENERATOR], state, batch["image"], context)
        real_logits, _, stats = judged(params, state.stats[DISCRIMINATOR], batch["image"], context)
        fake_logits, _, stats = judged(params, stats, again, context)
        value = jnp.mean(loss.discriminator(real_logits, fake_logits))
        metrics = {"discriminator_loss": value} | logit_metrics(loss, real_logits, fake_logits)
        return value, Effects({DISCRIMINATOR: context.mean(stats)}, None, metrics)

    def generator_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        images = batch["image"]
        (again, latents, found), stats = rebuilt(params, state, images, context)
        d_params, d_stats = state.params[DISCRIMINATOR], state.stats[DISCRIMINATOR]
        _, real, d_stats = judged(d_params, d_stats, images, context)
        _, fake, _ = judged(d_params, d_stats, again, context)
        of_features = jnp.mean(jnp.square(real - fake))
        of_pixels = jnp.mean(jnp.abs(images - again))
        of_latents = jnp.mean(jnp.square(latents - found))
        value = adversarial * of_features + reconstruction * of_pixels + latent * of_latents
        metrics = {
            "generator_loss": value,
            "feature_residual": of_features,
            "l1": of_pixels,
            "latent_residual": of_latents,
        }
        return value, Effects({GENERATOR: context.mean(stats)}, None, metrics)

    def sample(state: GanState, keys: Array | None, conditions: Mapping[str, Array]) -> dict[str, Array]:
        del keys
        if not isinstance(conditions, Mapping) or set(conditions) != {"image"}:
            raise ValueError('this model draws nothing by itself; it is given images as "image"')
        images = conditions["image"]
        variables = {"params": state.params[GENERATOR], **state.stats[GENERATOR]}
        answer: Any = generator.apply(variables, images, train=False)
        again, latents, found = answer
        return {
            "reconstruction": jnp.clip(again, -1.0, 1.0),
            "score": jnp.mean(jnp.square(latents - found), axis=1),
            "pixels": jnp.mean(jnp.square(images - again).reshape(images.shape[0], -1), axis=1),
        }

    return Gan(
        init=init,
        phases=(
            # One stream, so that one pass of the generator serves both phases.
            Phase(DISCRIMINATOR, discriminator_loss, stream="ganomaly"),
            Phase(GENERATOR, generator_loss, stream="ganomaly"),
        ),
        optimizers=optimizers,
        sample=sample,
    )
