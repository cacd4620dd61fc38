"""The adversarial family: one generator against one discriminator (Goodfellow et al. 2014), conditional
on labels (Mirza & Osindero 2014) where the data have them.

Networks are linen modules, called as

    generator(latents [n, Z], labels [n] or None, train=bool)  -> images [n, H, W, C] in [-1, 1]
    discriminator(images, labels or None, train=bool)          -> logits, [n] or one for each patch

Images may have any shape after the first axis. A module whose `__call__` has a parameter `keys` is given
PRNG keys [n], one an example, for what it draws itself, such as dropout. One that has an attribute
`axis_name` takes its batch statistics over the devices of that axis. A generator with a parameter
`truncation` truncates by itself, in sampling: it is given the option of that name, and latents are drawn
whole. One that is steered by styles, as `ganjax.nets.stylegan2.StyleGAN2Generator` is, has the submodule
`mapping`, the methods `images` and `noise`, the attribute `layers` and the collection "styles" with the
`mean`; where it has constant noise, a collection "noise" with a map [H', W'] a layer, named "0", "1", ...
A discriminator that sows "features" [n, F] into "intermediates" can be matched by its features; one
that sows "class_logits" [n, classes] can be an auxiliary classifier. A generator that sows "attention" can be
asked for it; one whose labels may be shares of the classes, float [n, classes], draws mixtures.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import losses, random
from ganjax.families import standing
from ganjax.families.adaptive import Adaptive
from ganjax.families.penalties import Penalty, Seen
from ganjax.gan import (
    Array,
    Batch,
    Context,
    Effects,
    Gan,
    GanState,
    LossFn,
    Phase,
    Styles,
    Tree,
    always,
    every,
)
from ganjax.regularizers import WeightPenalty

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
ADAPTIVE = "augmentation"  # in the carry, the memory of an adaptive augmentation

Augment = Callable[[Array, Array, Array], Array]  # (images [n, ...], keys [n], step) -> images


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
    discriminator_due: Callable[[int], bool] = always,
    generator_due: Callable[[int], bool] = always,
    constrain: Mapping[str, Callable[[Tree], Tree]] | None = None,
    augment: Augment | None = None,
    by_step: Mapping[str, Callable[[Array], Array]] | None = None,
    of_real: Callable[[Array, Array], Array] | None = None,
    joined: bool = False,
    swap_labels: float = 0.0,
    penalties: Mapping[str, Penalty] | None = None,
    lazy_penalties: Mapping[str, tuple[int, Penalty]] | None = None,
    lazy_stride: int = 1,
    watched: Mapping[str, Callable[[Seen], Array]] | None = None,
    adaptive: Adaptive | None = None,
    weight_penalties: Mapping[str, Mapping[str, tuple[float, WeightPenalty]]] | None = None,
    adversarial_weight: float = 1.0,
    feature_matching: float = 0.0,
    top_k: Callable[[Array], Array] | None = None,
    sample_dropout: bool = True,
    classification: float = 0.0,
    accumulate: int = 1,
    standing_statistics: int = 0,
    standing_batch: int = 64,
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
      discriminator_due: on which steps the discriminator moves.
      generator_due: on which steps the generator moves.
      constrain: player -> projection of its parameters, after init and after every update.
      augment: what every image goes through before the discriminator sees it, real or generated, in both
        phases; differentiable.
      by_step: arguments of both networks besides, by name, as functions of the step: by how much a layer is
        faded in, for one. Samples are drawn with those of the state's step.
      of_real: (images, step) -> images, what the real ones go through first.
      joined: real and generated images pass through the discriminator as one batch, with common batch
        statistics; else one after the other.
      swap_labels: the share of the pairs of a real and a generated image whose labels are exchanged in the
        discriminator's loss, in [0, 1].
      penalties: name -> further terms of the discriminator's loss; each is a metric of that name.
      lazy_penalties: name -> (k, a further term), which the discriminator descends by itself on the last of
        every k steps, k times as strongly (Karras et al. 2020, "Analyzing and improving the image quality of
        StyleGAN", appendix B). The rate and the betas of Adam are the caller's to correct (`optim.lazily`).
      lazy_stride: the discriminator moves on the last of every so many steps, and k counts those.
      watched: name -> a metric of what the discriminator saw.
      adaptive: an augmentation that follows the discriminator; before `augment`.
      weight_penalties: player -> name -> (weight, penalty of its parameters); metrics "player_name".
      adversarial_weight: of the adversarial term of the generator's loss.
      feature_matching: weight of the squared distance between the mean features of real and of generated
        images in the generator's loss (Salimans et al. 2016, section 3.1).
      top_k: the share of the generated images that the generator learns from, the best by their logits, as a
        function of the step (Sinha et al. 2020).
      sample_dropout: a generator that takes `keys` is given them in sampling too, so that its dropout goes on
        (Isola et al. 2017); one seed is still one image.
      classification: weight of what an auxiliary classifier in the discriminator gets wrong, of real and
        generated images in its own loss and of generated ones in the generator's (Odena et al. 2017).
      accumulate: micro-batches to one update of either player. What is said of the batch above, statistics
        and means, is then said of each micro-batch.
      standing_statistics: from so many batches' statistics a trained generator is sampled (Brock et al.
        2019); 0: from the running ones.
      standing_batch: how many examples each of them has.
    Raises:
      ValueError: `classification` without classes.

    `sample` takes the options `truncation`, a bound above 0 of all entries of the latents it draws;
    `truncation_mode`: "resample", entries beyond it are drawn again (Brock et al. 2019, section 3.1), or
    "clamp", they are set to it; and `attention=True`, which gives the generator's attention [n, H, W, H', W']
    in the place of images: of each pixel H x W, weights of H' x W' that sum to 1. `latents` takes the first
    two; `prepare` takes `standing_statistics` in place of that given here. Of a generator that truncates by
    itself, `truncation` is whatever that takes, and the other options are not there.

    Batches are {"image": [n, H, W, C] in [-1, 1]} and, if conditional, {"label": int [n]}.
    """
    stream = "latents" if share_latents else ""
    penalties, constrain = dict(penalties or {}), dict(constrain or {})
    lazy_penalties, watched = dict(lazy_penalties or {}), dict(watched or {})
    weight_penalties = {player: dict(named) for player, named in (weight_penalties or {}).items()}

    def of_step(step: Array) -> dict[str, Any]:
        return {name: function(step) for name, function in (by_step or {}).items()}

    if classification and not num_classes:
        raise ValueError(f"classification={classification}: there are no classes")

    def draw(keys: Array, *, truncation: float | None = None, truncation_mode: str = "resample") -> Array:
        if truncation is None:
            return random.normal(keys, (latent_size,))
        if isinstance(truncation, int | float) and not truncation > 0.0:  # or it is traced
            raise ValueError(f"truncation={truncation}: expected a number above 0")
        if truncation_mode == "resample":
            return random.truncated_normal(keys, (latent_size,), truncation)
        if truncation_mode == "clamp":
            return jnp.clip(random.normal(keys, (latent_size,)), -truncation, truncation)
        raise ValueError(f"truncation_mode={truncation_mode!r}: expected resample or clamp")

    def fakes(context: Context) -> tuple[Array, Array | None]:
        labels = random.randint(context.example_keys("label"), 0, num_classes) if num_classes else None
        return draw(context.example_keys("z")), labels

    def generated(
        params: Tree, state: GanState, context: Context, latents: Array, labels: Array | None
    ) -> tuple[Array, Tree]:
        g = over_devices(generator, context.axis_name if cross_device else None)
        keys = keys_of(g, context.example_keys, GENERATOR)
        given = of_step(state.step)
        return apply(g, params, state.stats[GENERATOR], latents, labels, **keys, **given)

    def judged(
        params: Tree,
        stats: Tree,
        images: Array,
        labels: Array | None,
        context: Context,
        name: str,
        step: Array,
    ) -> tuple[Array, Tree]:
        """Logits and the other collections; `name` says which images, for what D draws itself."""
        d = over_devices(discriminator, context.axis_name if cross_device else None)
        keys = keys_of(d, context.example_keys, f"{DISCRIMINATOR} {name}")
        return apply(d, params, stats, images, labels, **keys, **of_step(step))

    def both_judged(
        params: Tree, stats: Tree, images: tuple[Array, Array], labels: tuple, context: Context, step: Array
    ) -> tuple[Array, Array, Tree]:
        if not joined:
            real_logits, stats = judged(params, stats, images[0], labels[0], context, "real", step)
            fake_logits, stats = judged(params, stats, images[1], labels[1], context, "fake", step)
            return real_logits, fake_logits, stats
        d = over_devices(discriminator, context.axis_name if cross_device else None)
        keys = [keys_of(d, context.example_keys, f"{DISCRIMINATOR} {name}") for name in ("real", "fake")]
        together = {name: jnp.concatenate([x[name] for x in keys]) for name in keys[0]}
        label = None if labels[0] is None else jnp.concatenate(labels)
        together |= of_step(step)
        logits, stats = apply(d, params, stats, jnp.concatenate(images), label, **together)
        n = images[0].shape[0]
        return logits[:n], logits[n:], stats

    def seen(images: Array, state: GanState, context: Context, name: str) -> Array:
        if adaptive is not None:
            keys = context.example_keys(f"adaptive {name}")
            images = adaptive.apply(images, keys, state.carry[ADAPTIVE])
        return images if augment is None else augment(images, context.example_keys(name), state.step)

    def seen_real(batch: Batch, state: GanState, context: Context) -> Array:
        images = batch["image"] if of_real is None else of_real(batch["image"], state.step)
        return seen(images, state, context, "augment real")

    def init(key: Array, batch: Batch) -> tuple[dict, dict, Tree]:
        given = of_step(jnp.zeros((), jnp.int32))
        images, labels = batch["image"][:1], batch["label"][:1] if num_classes else None
        latents = jnp.zeros((1, latent_size))
        players = {
            GENERATOR: generator.init(random.stream(key, GENERATOR), latents, labels, train=True, **given),
            DISCRIMINATOR: discriminator.init(
                random.stream(key, DISCRIMINATOR), images, labels, train=True, **given
            ),
        }
        params = {player: variables["params"] for player, variables in players.items()}
        stats = {
            player: {name: tree for name, tree in variables.items() if name != "params"}
            for player, variables in players.items()
        }
        named = penalties | {name: penalty for name, (_, penalty) in lazy_penalties.items()}
        carry: dict = {name: memory for name, p in named.items() if (memory := p.init()) != ()}
        if adaptive is not None:
            carry[ADAPTIVE] = adaptive.init()
        for player, named in weight_penalties.items():
            for name, (_, penalty) in named.items():
                carry[f"{player}_{name}"] = penalty.init(params[player])
        return params, stats, carry or ()

    def weighed_down(player: str, params: Tree, carry: Tree) -> tuple[Array | float, Tree, dict]:
        """The penalties of a player's weights: their sum, the carry afterwards, metrics."""
        total, metrics = 0.0, {}
        for name, (weight, penalty) in weight_penalties.get(player, {}).items():
            key = f"{player}_{name}"
            value, memory = penalty.apply(params, carry[key])
            carry = {**carry, key: memory}
            metrics[key] = weight * value
            total += metrics[key]
        return total, carry, metrics

    def looked_at(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Seen, tuple[Any, Any], Tree]:
        """What the discriminator sees and says of a batch, both kinds' labels, its other collections."""
        latents, fake_labels = fakes(context)
        fake, _ = generated(state.params[GENERATOR], state, context, latents, fake_labels)
        labels = (batch["label"] if num_classes else None), fake_labels
        images = (
            seen_real(batch, state, context),
            seen(fake, state, context, "augment fake"),
        )
        before = state.stats[DISCRIMINATOR]
        asked = {**before, "intermediates": {}} if classification else before
        real_logits, fake_logits, stats = both_judged(params, asked, images, labels, context, state.step)
        view = Seen(
            *images,
            real_logits,
            fake_logits,
            judge=lambda x: judged(params, before, x, labels[0], context, "real", state.step)[0],
            judge_fake=lambda x: judged(params, before, x, labels[1], context, "fake", state.step)[0],
            context=context,
            joined=joined,
            labels=labels[0],
            judge_as=lambda x, y: judged(params, before, x, y, context, "real", state.step)[0],
        )
        return view, labels, stats

    def discriminator_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        view, labels, stats = looked_at(params, state, batch, context)
        real_logits, fake_logits = view.real_logits, view.fake_logits
        stats, seen_besides = dict(stats), stats.get("intermediates", {})
        stats.pop("intermediates", None)
        pair = real_logits, fake_logits
        if swap_labels:
            swap = random.uniform(context.example_keys("swap"), ()) < swap_labels
            pair = losses.swap_labels(*pair, swap)
        value = jnp.mean(loss.discriminator(*pair, **over_batch(loss, context)))
        metrics = {
            "discriminator_loss": value,
            "real_logits": jnp.mean(real_logits),
            "fake_logits": jnp.mean(fake_logits),
        }
        # Of a Wasserstein critic, its estimate of the distance.
        metrics["logit_gap"] = metrics["real_logits"] - metrics["fake_logits"]
        if loss.boundary is not None:
            right = jnp.mean(real_logits > loss.boundary), jnp.mean(fake_logits < loss.boundary)
            metrics["discriminator_accuracy"] = 0.5 * (right[0] + right[1])
        if classification:
            wrong = losses.classification(jnp.concatenate(classes_in(seen_besides)), jnp.concatenate(labels))
            # The mean over 2n images is half the sum of the two means, of real and of generated ones.
            metrics["classification"] = classification * 2 * jnp.mean(wrong)
            value += metrics["classification"]
        carry = dict(state.carry)
        for name, penalty in penalties.items():
            metrics[name], memory = penalty.apply(view, carry.get(name, ()))
            value += metrics[name]
            if name in carry:
                carry[name] = memory
        metrics |= {name: measure(view) for name, measure in watched.items()}
        if adaptive is not None:
            metrics |= adaptive.metrics(carry[ADAPTIVE])
            above = losses.per_image(real_logits) - (loss.boundary or 0.0)
            carry[ADAPTIVE] = adaptive.update(carry[ADAPTIVE], above, context)
        further, carry, measured = weighed_down(DISCRIMINATOR, params, carry)
        effects = Effects({DISCRIMINATOR: context.mean(stats)}, carry or (), metrics | measured)
        return value + further, effects

    def lazy_loss(name: str, interval: int, penalty: Penalty) -> LossFn:
        """One penalty alone. What it does not need of `looked_at` the compiler leaves out."""

        def loss(params: Tree, state: GanState, batch: Batch, context: Context) -> tuple[Array, Effects]:
            view, _, _ = looked_at(params, state, batch, context)
            carry = dict(state.carry)
            value, memory = penalty.apply(view, carry.get(name, ()))
            if name in carry:
                carry[name] = memory
            return interval * value, Effects(carry=carry or (), metrics={name: value})

        return loss

    def generator_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        latents, labels = fakes(context)
        fake, stats = generated(params, state, context, latents, labels)
        d_params, d_stats = state.params[DISCRIMINATOR], state.stats[DISCRIMINATOR]
        # Features are gathered beside the statistics, where they are asked for.
        d_stats = {**d_stats, "intermediates": {}} if feature_matching or classification else d_stats
        fake = seen(fake, state, context, "augment fake")
        fake_logits, after = judged(d_params, d_stats, fake, labels, context, "fake", state.step)
        if loss.relativistic or feature_matching:
            real = seen_real(batch, state, context)
            real_labels = batch["label"] if num_classes else None
            real_logits, real_after = judged(
                d_params, d_stats, real, real_labels, context, "real", state.step
            )
        if loss.relativistic:
            each = loss.generator(real_logits, fake_logits, **over_batch(loss, context))
        else:
            each = loss.generator(fake_logits)
        if top_k is not None:
            own = losses.per_image(fake_logits)
            everyones = context.gather(own)
            weights = losses.top_k_weights(own, everyones, top_k(state.step) * everyones.shape[0])
            each = each * weights.reshape(-1, *[1] * (each.ndim - 1))
        adversarial_loss = jnp.mean(each)
        metrics = {"generator_loss": adversarial_loss}
        value = adversarial_weight * adversarial_loss
        if feature_matching:
            means = lambda x: context.statistic(jnp.mean(x, axis=0))  # noqa: E731
            distance = losses.feature_matching(features_in(real_after), features_in(after), means)
            metrics["feature_matching"] = feature_matching * distance
            value += metrics["feature_matching"]
        if classification and labels is not None:
            (class_logits,) = classes_in(after.get("intermediates", {}))
            wrong = jnp.mean(losses.classification(class_logits, labels))
            metrics["generator_classification"] = classification * wrong
            value += metrics["generator_classification"]
        further, carry, measured = weighed_down(GENERATOR, params, state.carry)
        effects = Effects({GENERATOR: context.mean(stats)}, carry, metrics | measured)
        return value + further, effects

    def weights_of(state: GanState) -> Tree:
        return state.ema.get(GENERATOR, state.params[GENERATOR])

    def variables_of(state: GanState) -> dict[str, Tree]:
        return {"params": weights_of(state), **state.stats[GENERATOR]}

    def check_conditions(labels: Array | None) -> None:
        if num_classes and labels is None:
            raise ValueError(
                f"this model is conditional: it needs a label from 0 to {num_classes - 1} for each image"
            )
        if labels is not None and not num_classes:
            raise ValueError("this model is unconditional: it takes no labels")

    def images_of(
        state: GanState,
        keys: Array | None,
        labels: Array | None,
        latents: Array,
        attention: bool = False,
        **given: Any,
    ) -> Array:
        check_conditions(labels)
        variables = variables_of(state)
        given |= of_step(state.step)
        if sample_dropout and keys is not None:  # latents alone are enough to draw from
            given |= keys_of(generator, lambda name: random.streams(keys, name), GENERATOR)
        if attention:
            _, sown = generator.apply(
                variables, latents, labels, train=False, mutable=["intermediates"], **given
            )
            return attention_in(dict(sown).get("intermediates", {}))
        images = generator.apply(variables, latents, labels, train=False, **given)
        assert isinstance(images, jax.Array)
        return images

    def sample(
        state: GanState,
        keys: Array,
        labels: Array | None = None,
        *,
        latents: Array | None = None,
        truncation: float | None = None,
        truncation_mode: str = "resample",
        attention: bool = False,
    ) -> Array:
        if latents is None:
            latents = draw(keys, truncation=truncation, truncation_mode=truncation_mode)
        elif truncation is not None:
            raise ValueError(f"truncation={truncation}: it is of latents that are drawn, and these are given")
        return images_of(state, keys, labels, latents, attention)

    def sample_truncated(
        state: GanState,
        keys: Array,
        labels: Array | None = None,
        *,
        latents: Array | None = None,
        truncation: float | None = None,
    ) -> Array:
        """Of a generator that truncates by itself."""
        latents = draw(keys) if latents is None else latents
        return images_of(state, keys, labels, latents, truncation=truncation)

    def mapping(state: GanState, latents: Array, labels: Array | None = None) -> Array:
        check_conditions(labels)
        method = lambda module, *inputs: module.mapping(*inputs)  # noqa: E731
        styles: Any = generator.apply(variables_of(state), latents, labels, method=method)
        return styles

    def noise(state: GanState, keys: Array) -> tuple[Array, ...]:
        maps: Any = generator.apply(variables_of(state), random.streams(keys, GENERATOR), method="noise")
        return maps

    def constant_noise(state: GanState) -> tuple[Array, ...] | None:
        maps = state.stats[GENERATOR].get("noise")
        return None if maps is None else tuple(maps[str(i)] for i in range(len(maps)))

    def synthesis(state: GanState, styles: Array, maps: tuple[Array, ...]) -> Array:
        given = of_step(state.step)
        images: Any = generator.apply(variables_of(state), styles, maps, method="images", **given)
        return images

    def logits(state: GanState, images: Array, labels: Array | None = None) -> Array:
        check_conditions(labels)
        variables = {"params": state.params[DISCRIMINATOR], **state.stats[DISCRIMINATOR]}
        found: Any = discriminator.apply(variables, images, labels, train=False, **of_step(state.step))
        return jnp.mean(found.reshape(found.shape[0], -1), axis=1)

    styles = None
    if all(hasattr(generator, name) for name in ("images", "noise", "layers")):
        layers: Any = getattr(generator, "layers")  # noqa: B009
        styles = Styles(layers, mapping, mean_style, noise, synthesis, constant_noise)
    truncates = "truncation" in inspect.signature(type(generator).__call__).parameters
    default_standing = standing_statistics

    def prepare(
        state: GanState, *, standing_statistics: int | None = None
    ) -> tuple[GanState, Mapping[str, Any]]:
        count = default_standing if standing_statistics is None else standing_statistics
        if not count:
            return state, {}

        def forward(params: Tree, stats: Tree, number: Array) -> tuple[Tree, Tree]:
            # Always the same latents: one state has one answer.
            index = number * standing_batch + jnp.arange(standing_batch, dtype=jnp.int32)
            key = random.stream(jax.random.key(0, impl="threefry2x32"), "standing statistics")
            context = Context(key, index)
            latents, labels = fakes(context)
            keys = keys_of(generator, context.example_keys, GENERATOR)
            asked = {**stats, standing.MOMENTS: {}}
            given = keys | of_step(state.step)
            _, after = apply(generator, params, asked, latents, labels, **given)
            moments = after.pop(standing.MOMENTS)
            return after, moments

        stats = standing.standing_statistics(forward, weights_of(state), state.stats[GENERATOR], count)
        facts = {"standing_statistics": f"{count} batches of {standing_batch}"}
        return state.replace(stats={**state.stats, GENERATOR: stats}), facts

    return Gan(
        init=init,
        phases=(
            Phase(DISCRIMINATOR, discriminator_loss, discriminator_due, stream, accumulate),
            *(
                Phase(
                    DISCRIMINATOR,
                    lazy_loss(name, interval, penalty),
                    every(interval * lazy_stride),
                    name,
                    accumulate,
                )
                for name, (interval, penalty) in lazy_penalties.items()
            ),
            Phase(GENERATOR, generator_loss, generator_due, stream, accumulate),
        ),
        optimizers=optimizers,
        sample=sample_truncated if truncates else sample,
        latents=(lambda keys: draw(keys)) if truncates else draw,
        ema={GENERATOR: ema_decay} if ema_decay is not None else {},
        constrain=constrain,
        prepare=prepare,
        styles=styles,
        logits=logits,
    )


def mean_style(state: GanState) -> Array:
    """The running mean [S] of a generator's styles."""
    return state.stats[GENERATOR]["styles"]["mean"]


def over_batch(loss: losses.AdversarialLoss, context: Context) -> dict[str, Callable[[Array], Array]]:
    """The argument `mean` of a relativistic loss: over the global batch."""
    return {"mean": lambda x: context.statistic(jnp.mean(x))} if loss.relativistic else {}


def features_in(collections: Tree) -> Array:
    """What a discriminator sowed as its features [n, F]. Raises ValueError if it did not."""
    sown = collections.get("intermediates", {})
    if "features" not in sown:
        raise ValueError(
            'feature_matching needs a discriminator that sows its "features" (see adversarial.py)'
        )
    return sown["features"][0]


def classes_in(sown: Tree) -> tuple[Array, ...]:
    """What a discriminator sowed as "class_logits", [n, classes] a pass. Raises ValueError if it did not."""
    if "class_logits" not in sown:
        raise ValueError('classification needs a discriminator that sows "class_logits" (see adversarial.py)')
    return sown["class_logits"]


def attention_in(sown: Tree) -> Array:
    """The one leaf "attention" in what a generator sowed. Raises ValueError unless there is one."""
    found = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(sown)
        if getattr(path[-2], "key", None) == "attention"  # the last is the pass
    ]
    if len(found) != 1:
        raise ValueError(
            f"attention=True: expected a generator with one layer of attention, not {len(found)}"
        )
    return found[0]


def keys_of(module: nn.Module, keys: Callable[[str], Array], name: str) -> dict[str, Array]:
    """The argument `keys` of a module that takes it: those of the stream `name`; else nothing."""
    takes = "keys" in inspect.signature(type(module).__call__).parameters
    return {"keys": keys(name)} if takes else {}


def apply(module: nn.Module, params: Tree, stats: Tree, *args, **kwargs) -> tuple[Array, Tree]:
    """A forward pass in training: the output, and the module's other collections afterwards."""
    output, stats = module.apply(
        {"params": params, **stats}, *args, train=True, mutable=list(stats), **kwargs
    )
    return output, dict(stats)


def over_devices(module: nn.Module, axis_name: str | None) -> nn.Module:
    """The module with its batch statistics taken over an axis' devices, where it has any."""
    return module.clone(axis_name=axis_name) if axis_name and hasattr(module, "axis_name") else module
