"""The adversarial family: one generator against one discriminator (Goodfellow et al. 2014), conditional
on labels (Mirza & Osindero 2014) where the data have them.

Networks are linen modules, called as

    generator(latents [n, Z], labels [n] or None, train=bool)  -> images [n, H, W, C] in [-1, 1]
    discriminator(images, labels or None, train=bool)          -> logits, [n] or one for each patch

One that has an attribute `axis_name` takes its batch statistics over the devices of that axis.
"""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import losses, random
from ganjax.gan import Array, Batch, Context, Effects, Gan, GanState, Phase, Tree

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


def adversarial(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    latent_size: int,
    optimizers: Mapping[str, optax.GradientTransformation],
    loss: losses.AdversarialLoss = losses.NON_SATURATING,
    num_classes: int = 0,
    ema_decay: Callable[[Array], Array] | None = None,
    share_latents: bool = True,
    cross_device: bool = True,
) -> Gan:
    """A `Gan` of two players.

    Args:
      generator: see the module's docstring.
      discriminator: likewise.
      latent_size: Z; latents are standard normal.
      optimizers: for "generator" and "discriminator".
      loss: what the two minimise.
      num_classes: labels run from 0 to num_classes - 1; 0 for an unconditional GAN. Generated images carry
        labels of their own, drawn uniformly.
      ema_decay: the decay of the averaged generator by step; None keeps no average.
      share_latents: both phases see the same generated images in a step, so that XLA runs one generator
        pass for the two; else each draws its own.
      cross_device: batch statistics are those of the global batch, so that the number of devices doesn't
        change what is trained; else, under `pmap`, of each device's own.
    Batches are {"image": [n, H, W, C] in [-1, 1]} and, if conditional, {"label": int [n]}.
    """
    stream = "latents" if share_latents else ""

    def draw(keys: Array) -> Array:
        return random.normal(keys, (latent_size,))

    def fakes(context: Context) -> tuple[Array, Array | None]:
        labels = random.randint(context.example_keys("label"), 0, num_classes) if num_classes else None
        return draw(context.example_keys("z")), labels

    def networks(context: Context) -> tuple[nn.Module, nn.Module]:
        axis_name = context.axis_name if cross_device else None
        return over_devices(generator, axis_name), over_devices(discriminator, axis_name)

    def init(key: Array, batch: Batch) -> tuple[dict, dict, Tree]:
        images, labels = batch["image"][:1], batch["label"][:1] if num_classes else None
        latents = jnp.zeros((1, latent_size))
        players = {
            GENERATOR: generator.init(random.stream(key, GENERATOR), latents, labels, train=True),
            DISCRIMINATOR: discriminator.init(random.stream(key, DISCRIMINATOR), images, labels, train=True),
        }
        params = {player: variables["params"] for player, variables in players.items()}
        stats = {
            player: {name: tree for name, tree in variables.items() if name != "params"}
            for player, variables in players.items()
        }
        return params, stats, ()

    def discriminator_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        latents, fake_labels = fakes(context)
        g, d = networks(context)
        fake, _ = apply(g, state.params[GENERATOR], state.stats[GENERATOR], latents, fake_labels)
        labels = batch["label"] if num_classes else None
        stats = state.stats[DISCRIMINATOR]
        real_logits, stats = apply(d, params, stats, batch["image"], labels)
        fake_logits, stats = apply(d, params, stats, fake, fake_labels)
        value = jnp.mean(loss.discriminator(real_logits, fake_logits))
        metrics = {
            "discriminator_loss": value,
            "real_logits": jnp.mean(real_logits),
            "fake_logits": jnp.mean(fake_logits),
        }
        if loss.boundary is not None:
            right = jnp.mean(real_logits > loss.boundary), jnp.mean(fake_logits < loss.boundary)
            metrics["discriminator_accuracy"] = 0.5 * (right[0] + right[1])
        return value, Effects(stats={DISCRIMINATOR: context.mean(stats)}, metrics=metrics)

    def generator_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        del batch
        latents, labels = fakes(context)
        g, d = networks(context)
        fake, stats = apply(g, params, state.stats[GENERATOR], latents, labels)
        stats_of_d = state.stats[DISCRIMINATOR]
        fake_logits, _ = apply(d, state.params[DISCRIMINATOR], stats_of_d, fake, labels)
        value = jnp.mean(loss.generator(fake_logits))
        return value, Effects(stats={GENERATOR: context.mean(stats)}, metrics={"generator_loss": value})

    def sample(
        state: GanState, keys: Array, labels: Array | None = None, *, latents: Array | None = None
    ) -> Array:
        if num_classes and labels is None:
            raise ValueError(
                f"this model is conditional: it needs a label from 0 to {num_classes - 1} for each image"
            )
        if labels is not None and not num_classes:
            raise ValueError("this model is unconditional: it takes no labels")
        params = state.ema.get(GENERATOR, state.params[GENERATOR])
        variables = {"params": params, **state.stats[GENERATOR]}
        images = generator.apply(variables, draw(keys) if latents is None else latents, labels, train=False)
        assert isinstance(images, jax.Array)
        return images

    return Gan(
        init=init,
        phases=(
            Phase(DISCRIMINATOR, discriminator_loss, stream=stream),
            Phase(GENERATOR, generator_loss, stream=stream),
        ),
        optimizers=optimizers,
        sample=sample,
        latents=draw,
        ema={GENERATOR: ema_decay} if ema_decay is not None else {},
    )


def apply(module: nn.Module, params: Tree, stats: Tree, *args) -> tuple[Array, Tree]:
    """A forward pass in training: the output, and the module's other collections afterwards."""
    output, stats = module.apply({"params": params, **stats}, *args, train=True, mutable=list(stats))
    return output, dict(stats)


def over_devices(module: nn.Module, axis_name: str | None) -> nn.Module:
    """The module with its batch statistics taken over an axis' devices, where it has any."""
    return module.clone(axis_name=axis_name) if axis_name and hasattr(module, "axis_name") else module
