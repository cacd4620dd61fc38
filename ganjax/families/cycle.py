"""Translation between two domains that is learned without pairs: CycleGAN (Zhu et al. 2017, "Unpaired
image-to-image translation using cycle-consistent adversarial networks").

Four networks, called as in `ganjax.families.translation` but that each discriminator sees one image alone.
The two generators are one player and the two discriminators another, as each two are trained by one sum.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import losses, random
from ganjax.families.adversarial import apply, keys_of, over_devices
from ganjax.families.replay import empty_pool, exchange
from ganjax.families.translation import (
    check_not_relativistic,
    direction_of,
    given_images,
    logit_metrics,
    split_variables,
)
from ganjax.gan import Array, Batch, Context, Effects, Gan, GanState, Phase, Tree

GENERATORS, DISCRIMINATORS = "generators", "discriminators"
DOMAINS = ("A", "B")
OTHER = {"A": "B", "B": "A"}


def cycle(
    generators: Mapping[str, nn.Module],
    discriminators: Mapping[str, nn.Module],
    *,
    optimizers: Mapping[str, optax.GradientTransformation],
    loss: losses.AdversarialLoss = losses.LEAST_SQUARES,
    cycle_weight: float = 10.0,
    identity: float = 0.5,
    pool_size: int = 50,
    adversarial_weight: float = 2.0,
    discriminator_weight: float = 1.0,
    ema_decay: Callable[[Array], Array] | None = None,
) -> Gan:
    """A `Gan` of two players, on batches {"A": [n, H, W, C], "B": [n, H, W, C']} in [-1, 1], unpaired.

    Args:
      generators: "AtoB" and "BtoA" -> network.
      discriminators: "A" and "B" -> network that tells the domain's images from generated ones.
      optimizers: for "generators" and "discriminators".
      loss: what they minimise; no relativistic one.
      cycle_weight: of the mean absolute difference between an image and what comes back of it.
      identity: weight, as a share of `cycle_weight`, of what a generator changes in an image that is of its
        target domain already (section 5.2).
      pool_size: generated images of each domain that are remembered, to show the discriminator some of them
        instead of the newest; 0: none.
      adversarial_weight: of the adversarial terms of the generators' loss.
      discriminator_weight: of the discriminators' loss.
      ema_decay: the decay of the averaged generators by step; None keeps no average.

    The paper's least squares are (D - 1)^2 for a generator, and half of (D - 1)^2 + D^2 for a discriminator.
    Ours (`losses.LEAST_SQUARES`, as Mao et al. 2017 have them) are half of the former and the latter as it
    is: hence the default weights.

    Returns:
      Its `sample` takes the images to translate by their domain, {"A": [n, H, W, C]} or {"B": ...} or both,
      as conditions. Of "A" it gives {"AtoB": the translations, "AtoBtoA": what comes back}.
    Raises:
      ValueError: a relativistic loss.
    """
    check_not_relativistic(loss)
    name_from = {domain: direction_of(domain, OTHER[domain]) for domain in DOMAINS}

    def translated(
        params: Tree, stats: Tree, domain: str, images: Array, context: Context, what: str
    ) -> tuple[Array, Tree]:
        """Images of `domain` to the other one, and the generators' collections afterwards."""
        name = name_from[domain]
        g = over_devices(generators[name], context.axis_name)
        keys = keys_of(g, context.example_keys, f"{name} {what}")
        images, after = apply(g, params[name], stats[name], images, **keys)
        return images, {**stats, name: after}

    def judged(params: Tree, stats: Tree, domain: str, images: Array, context: Context) -> tuple[Array, Tree]:
        d = over_devices(discriminators[domain], context.axis_name)
        logits, after = apply(d, params[domain], stats[domain], images)
        return logits, {**stats, domain: after}

    def init(key: Array, batch: Batch) -> tuple[dict, dict, Tree]:
        one = {domain: batch[domain][:1] for domain in DOMAINS}
        _check_shapes(one["A"].shape[1:], one["B"].shape[1:], identity)
        of_generators, of_discriminators = {}, {}
        for domain in DOMAINS:
            name = name_from[domain]
            of_generators[name] = generators[name].init(random.stream(key, name), one[domain], train=True)
            of_discriminators[domain] = discriminators[domain].init(
                random.stream(key, f"discriminator {domain}"), one[domain], train=True
            )
        players = {GENERATORS: of_generators, DISCRIMINATORS: of_discriminators}
        both = {player: split_variables(networks) for player, networks in players.items()}
        params = {player: split[0] for player, split in both.items()}
        stats = {player: split[1] for player, split in both.items()}
        pools = {domain: empty_pool(pool_size, one[domain].shape[1:]) for domain in DOMAINS if pool_size}
        return params, stats, pools

    def discriminator_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        stats, pools = state.stats[DISCRIMINATORS], dict(state.carry)
        value, metrics = jnp.zeros(()), {}
        for domain in DOMAINS:
            fake, _ = translated(
                state.params[GENERATORS],
                state.stats[GENERATORS],
                OTHER[domain],
                batch[OTHER[domain]],
                context,
                "there",
            )
            if pool_size:
                everyones = context.gather(fake)
                keys = random.per_example(context.stream(f"pool {domain}"), jnp.arange(everyones.shape[0]))
                shown, pools[domain] = exchange(pools[domain], everyones, keys)
                fake = shown[context.index]
            real_logits, stats = judged(params, stats, domain, batch[domain], context)
            fake_logits, stats = judged(params, stats, domain, fake, context)
            value += discriminator_weight * jnp.mean(loss.discriminator(real_logits, fake_logits))
            metrics |= {
                f"{name}_{domain}": x for name, x in logit_metrics(loss, real_logits, fake_logits).items()
            }
        metrics["discriminator_loss"] = value
        return value, Effects({DISCRIMINATORS: context.mean(stats)}, pools, metrics)

    def generator_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        stats = state.stats[GENERATORS]
        adversarial, back, same = jnp.zeros(()), jnp.zeros(()), jnp.zeros(())
        for domain in DOMAINS:
            other, images = OTHER[domain], batch[domain]
            fake, stats = translated(params, stats, domain, images, context, "there")
            again, stats = translated(params, stats, other, fake, context, "back")
            logits, _ = judged(
                state.params[DISCRIMINATORS], state.stats[DISCRIMINATORS], other, fake, context
            )
            adversarial += jnp.mean(loss.generator(logits))
            back += jnp.mean(jnp.abs(again - images))
            if identity:
                kept, stats = translated(params, stats, other, images, context, "identity")
                same += jnp.mean(jnp.abs(kept - images))
        metrics = {"generator_loss": adversarial, "cycle_l1": back / 2}
        if identity:
            metrics["identity_l1"] = same / 2
        value = adversarial_weight * adversarial + cycle_weight * (back + identity * same)
        return value, Effects({GENERATORS: context.mean(stats)}, None, metrics)

    def sample(state: GanState, keys: Array | None, conditions: Mapping[str, Array]) -> dict[str, Array]:
        params = state.ema.get(GENERATORS, state.params[GENERATORS])
        results: dict[str, Array] = {}
        for domain, images in given_images(conditions, DOMAINS).items():
            path = domain
            for here in (domain, OTHER[domain]):
                name = name_from[here]
                variables = {"params": params[name], **state.stats[GENERATORS][name]}
                path = direction_of(path, OTHER[here])
                own: dict[str, Any] = {}
                if keys is not None:
                    streams = random.streams(keys, path)
                    own = keys_of(
                        generators[name], lambda stream, at=streams: random.streams(at, stream), name
                    )
                output = generators[name].apply(variables, images, train=False, **own)
                assert isinstance(output, jax.Array)
                images = results[path] = output
        return results

    return Gan(
        init=init,
        phases=(
            # In this order one pass of each generator serves both phases.
            Phase(DISCRIMINATORS, discriminator_loss, stream="translation"),
            Phase(GENERATORS, generator_loss, stream="translation"),
        ),
        optimizers=optimizers,
        sample=sample,
        ema={GENERATORS: ema_decay} if ema_decay is not None else {},
    )


def _check_shapes(a: tuple[int, ...], b: tuple[int, ...], identity: float) -> None:
    if a[:2] != b[:2]:
        raise ValueError(
            f"images of {a[0]}x{a[1]} in A and {b[0]}x{b[1]} in B: expected one size; set image_size"
        )
    if identity and a[2] != b[2]:
        raise ValueError(
            f"identity={identity}: expected 0 where the domains have {a[2]} and {b[2]} channels, as an image "
            "of one is none of the other"
        )
