"""Learning from few labels and many images: the discriminator is the classifier (Salimans et al. 2016,
"Improved techniques for training GANs", section 5; Odena 2016, "Semi-supervised learning with generative
adversarial networks"). It may predict continuous targets too, or these alone.

Networks are linen modules, called as

    generator(latents [n, Z], None, train=bool)        -> images [n, H, W, C] in [-1, 1]
    discriminator(images, train=bool)                  -> logits [n, K], targets [n, T]

`keys` and `axis_name` are as in `ganjax.families.adversarial`; the discriminator sows its "features" [n, F].

What the discriminator thinks of as real is log(p(real) / p(fake)), which the K logits of the classes imply:

    implicit   the fake class has the logit 0: logsumexp of the K logits
    explicit   the fake class is the last of K + 1 logits: logsumexp of the first K, less the last

Without classes there is one logit, which is that itself.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import losses, random
from ganjax.augment import Augmentation
from ganjax.families.adversarial import (
    DISCRIMINATOR,
    GENERATOR,
    apply,
    features_in,
    keys_of,
    over_devices,
)
from ganjax.families.translation import split_variables
from ganjax.gan import Array, Batch, Context, Effects, Gan, GanState, Phase, Tree, always

BASELINE = "baseline"
LABELLED, UNLABELLED = "labelled", "unlabelled"
Outputs = tuple[Array, Array]  # logits [n, K], targets [n, T]
# Images and PRNG keys -> images, and by how much it changed their targets [n, T]
TargetAugmentation = Callable[[Array, Array], tuple[Array, Array]]
FakeClass = Literal["implicit", "explicit"]
PREDICTORS = {DISCRIMINATOR: "", BASELINE: "baseline_"}  # player -> what its predictions' names begin with


def outputs_for(num_classes: int, fake_class: FakeClass = "implicit") -> int:
    """How many logits a discriminator has."""
    return num_classes + (fake_class == "explicit") if num_classes else 1


def real_logit(logits: Array, num_classes: int) -> Array:
    """log(p(real) / p(fake)), [n], of logits [n, K], [n, K + 1] or, without classes, [n, 1]."""
    if not num_classes:
        return logits[:, 0]
    real = jax.nn.logsumexp(logits[:, :num_classes], axis=1)
    return real - logits[:, num_classes] if logits.shape[1] > num_classes else real


def semi_supervised(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    latent_size: int,
    optimizers: Mapping[str, optax.GradientTransformation],
    num_classes: int,
    num_targets: int = 0,
    generator_loss: Literal["feature_matching", "non_saturating"] = "feature_matching",
    unlabelled_weight: float = 1.0,
    regression_weight: float = 1.0,
    prior_weight: float = 0.0,
    augment: Augmentation | TargetAugmentation | None = None,
    consistency_weight: float = 0.0,
    target_consistency_weight: float | None = None,
    target_consistency_bound: float | None = None,
    consistency_average_from: int | None = None,
    ema_decay: Callable[[Array], Array] | None = None,
    baseline: bool = True,
    baseline_due: Callable[[int], bool] = always,
) -> Gan:
    """A `Gan` of two players, and a third that is the discriminator's network, trained on the labels alone.

    Batches are {"labelled": {"image": [n, H, W, C] in [-1, 1], "label": int [n], "target": float [n, T]},
    "unlabelled": {"image": [n, H, W, C]}}: the label where there are classes, the target where there are any.

    Args:
      generator: see the module's docstring.
      discriminator: likewise, of `outputs_for` logits and `num_targets` targets. With as many logits as
        classes the fake class is implicit; with one more, explicit.
      latent_size: Z; latents are standard normal.
      optimizers: for "generator", "discriminator" and, with `baseline`, "baseline".
      num_classes: K; 0: it classifies nothing.
      num_targets: T; 0: it predicts none.
      generator_loss: "feature_matching", the squared distance of mean features of generated and of unlabelled
        images (section 3.1); or "non_saturating", -log p(real).
      unlabelled_weight: of what the discriminator has to tell apart, beside the labels.
      regression_weight: of the mean squared error of the targets.
      prior_weight: of the mean square of what is predicted of unlabelled images' targets, whose mean is to be
        0 whatever else the images are like. By itself it makes all predictions small. With an `augment` that
        changes targets, and consistency, which keeps differences of predictions as large as they are, it
        takes off what images that are alike but for their targets have in common (for classes, Berthelot et
        al. 2020, "ReMixMatch", ask that predictions be distributed as labels are). 0: off.
      augment: what every image goes through before a discriminator or the baseline learns from it, labelled,
        unlabelled or generated; predictions are of images as they are. Where it gives a pair, the second is
        by how much it changed the targets, [n, T]: so much is taken off what is predicted in training, which
        is then compared as that of the image as it was.
      consistency_weight: of the squared difference of two predictions for an unlabelled image: of the
        probabilities, summed over the classes, and of the targets. One is the discriminator's under a draw of
        its noise and of `augment`, the other its own again, under another draw; both learn (Wei et al. 2018,
        "Improving the improved training of Wasserstein GANs", section 3.2; without their second term, of
        features).
      target_consistency_weight: that of the targets; None: the same. Where both are 0, there is no other.
      target_consistency_bound: differences of targets above it count by their size, as those at it by their
        square (Huber 1964): few that must be large, as where an augmentation turns what looks the same after
        half a turn, do not outweigh the others. None: all by their square.
      consistency_average_from: from this step on the other is the averaged discriminator's, without noise, of
        the image as it is, and only the one learns (Tarvainen & Valpola 2017, "Mean teachers are better role
        models"; their teacher sees an augmented image too, from the first step on). None: never.
      ema_decay: the decay, by step, of the averaged discriminator (and baseline), which predictions are made
        with; None: with the last.
      baseline: train it. It begins as the discriminator does, and sees the same labelled batches and noise.
      baseline_due: on which steps.
    Returns:
      Its `sample` draws images from keys or `latents`; with conditions {"image": [n, H, W, C]} it predicts:
      "probabilities" [n, K] that sum to 1, where there are classes, "targets" [n, T], where there are any,
      and the baseline's as "baseline_probabilities" and "baseline_targets".
    Raises:
      ValueError: neither classes nor targets; a prior, an average or a weight or bound of targets that there
        is nothing of; a bound that is not above 0.
    """
    if not num_classes and not num_targets:
        raise ValueError("semi_supervised: expected classes, targets or both; there is nothing to learn")
    if generator_loss not in ("feature_matching", "non_saturating"):
        raise ValueError(
            f"generator_loss={generator_loss!r}: expected one of feature_matching, non_saturating"
        )
    if not num_targets:
        of_targets = {
            "prior_weight": (prior_weight, 0.0),
            "target_consistency_weight": (target_consistency_weight, None),
            "target_consistency_bound": (target_consistency_bound, None),
        }
        for name, (value, off) in of_targets.items():
            if value != off:
                raise ValueError(f"{name}={value}: expected {off}, as no targets are predicted")
    if consistency_average_from is not None and ema_decay is None:
        raise ValueError(
            f"consistency_average_from={consistency_average_from}: expected an ema_decay; nothing is averaged"
        )
    if target_consistency_bound is not None and not target_consistency_bound > 0:
        raise ValueError(f"target_consistency_bound={target_consistency_bound}: expected above 0, or None")
    for_targets = consistency_weight if target_consistency_weight is None else target_consistency_weight
    consistent = bool((num_classes and consistency_weight) or (num_targets and for_targets))
    predictors = [DISCRIMINATOR, *([BASELINE] if baseline else [])]

    def draw(keys: Array) -> Array:
        return random.normal(keys, (latent_size,))

    def generated(params: Tree, state: GanState, context: Context) -> tuple[Array, Tree]:
        g = over_devices(generator, context.axis_name)
        keys = keys_of(g, context.example_keys, GENERATOR)
        latents = draw(context.example_keys("z"))
        return apply(g, params, state.stats[GENERATOR], latents, None, **keys)

    def judged(params: Tree, images: Array, context: Context, name: str) -> tuple[Outputs, Array]:
        """Outputs and features; `name` says which images, for what the network draws itself."""
        changed: Any = None
        if augment is not None:
            moved = augment(images, context.example_keys(f"augment {name}"))
            images, changed = moved if isinstance(moved, tuple) else (moved, None)
        keys = keys_of(discriminator, context.example_keys, f"{DISCRIMINATOR} {name}")
        outputs: Any
        outputs, sown = apply(discriminator, params, {"intermediates": {}}, images, **keys)
        if changed is not None:
            outputs = outputs[0], outputs[1] - changed
        return outputs, features_in(sown)

    def predicted(player: str, state: GanState, images: Array) -> Outputs:
        """What predictions are made of: the averaged player's outputs, without noise."""
        params = state.ema.get(player, state.params[player])
        outputs: Any = discriminator.apply({"params": params}, images, train=False)
        return outputs

    def init(key: Array, batch: Batch) -> tuple[dict, dict, Tree]:
        image = batch[UNLABELLED]["image"][:1]
        made = discriminator.init(random.stream(key, DISCRIMINATOR), image, train=True)
        made = {"params": made["params"]}
        latents = jnp.zeros((1, latent_size))
        players = {GENERATOR: generator.init(random.stream(key, GENERATOR), latents, None, train=True)}
        players |= {player: jax.tree.map(jnp.copy, made) for player in predictors}
        params, stats = split_variables(players)
        return params, stats, ()

    def supervised(outputs: Outputs, batch: Batch, prefix: str) -> tuple[Array, dict[str, Array]]:
        """What is wrong on the labelled batch, and metrics."""
        (logits, targets), value, metrics = outputs, jnp.zeros(()), {}
        if num_classes:
            classification = jnp.mean(losses.classification(logits, batch["label"]))
            found = jnp.argmax(logits[:, :num_classes], axis=1)
            metrics[f"{prefix}labelled_loss"] = classification
            metrics[f"{prefix}labelled_error"] = jnp.mean(found != batch["label"])
            value += classification
        if num_targets:
            squared = jnp.mean(jnp.square(targets - batch["target"]))
            metrics[f"{prefix}labelled_squared_error"] = squared
            value += regression_weight * squared
        return value, metrics

    def inconsistency(one: Outputs, other: Outputs) -> tuple[Array, Array]:
        """How much predictions for the same images differ: weighted, and bounded but without weights."""
        weighted = off = jnp.zeros(())
        if num_classes:
            shares = [jax.nn.softmax(logits[:, :num_classes], axis=1) for logits, _ in (one, other)]
            squares = jnp.mean(jnp.sum(jnp.square(shares[0] - shares[1]), axis=1))
            weighted, off = weighted + consistency_weight * squares, off + squares
        if num_targets:
            apart, bound = one[1] - other[1], target_consistency_bound
            squares = jnp.square(apart) if bound is None else 2 * optax.huber_loss(apart, delta=bound)
            weighted, off = weighted + for_targets * jnp.mean(squares), off + jnp.mean(squares)
        return weighted, off

    def own_again(params: Tree, state: GanState, images: Array, context: Context) -> Outputs:
        del state
        return judged(params, images, context, f"{UNLABELLED} again")[0]

    def of_average(params: Tree, state: GanState, images: Array, context: Context) -> Outputs:
        del params, context
        return predicted(DISCRIMINATOR, state, images)

    def discriminator_loss(
        params: Tree,
        state: GanState,
        batch: Batch,
        context: Context,
        other: Callable[[Tree, GanState, Array, Context], Outputs] = own_again,
    ) -> tuple[Array, Effects]:
        """`other` gives what outputs for unlabelled images should be like."""
        fake, _ = generated(state.params[GENERATOR], state, context)
        of_labelled, _ = judged(params, batch[LABELLED]["image"], context, LABELLED)
        of_real, _ = judged(params, batch[UNLABELLED]["image"], context, UNLABELLED)
        of_fake, _ = judged(params, fake, context, "fake")
        value, metrics = supervised(of_labelled, batch[LABELLED], "")
        real, unreal = (real_logit(logits, num_classes) for logits, _ in (of_real, of_fake))
        told_apart = jnp.mean(0.5 * losses.minimax_discriminator_loss(real, unreal))
        metrics |= {
            "discriminator_loss": told_apart,
            "real_logits": jnp.mean(real),
            "fake_logits": jnp.mean(unreal),
            "real_fake_accuracy": 0.5 * (jnp.mean(real > 0) + jnp.mean(unreal < 0)),
        }
        value += unlabelled_weight * told_apart
        if prior_weight:
            metrics["unlabelled_square"] = jnp.mean(jnp.square(of_real[1]))
            value += prior_weight * metrics["unlabelled_square"]
        if consistent:
            again = other(params, state, batch[UNLABELLED]["image"], context)
            weighted, metrics["inconsistency"] = inconsistency(of_real, again)
            value += weighted
        return value, Effects(metrics=metrics)

    def generators_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        fake, stats = generated(params, state, context)
        d_params = state.params[DISCRIMINATOR]
        of_fake, features = judged(d_params, fake, context, "fake")
        if generator_loss == "feature_matching":
            _, real = judged(d_params, batch[UNLABELLED]["image"], context, UNLABELLED)
            means = lambda x: context.statistic(jnp.mean(x, axis=0))  # noqa: E731
            value = losses.feature_matching(real, features, means)
        else:
            value = jnp.mean(losses.non_saturating_generator_loss(real_logit(of_fake[0], num_classes)))
        return value, Effects({GENERATOR: context.mean(stats)}, metrics={"generator_loss": value})

    def baselines_loss(
        params: Tree, state: GanState, batch: Batch, context: Context
    ) -> tuple[Array, Effects]:
        outputs, _ = judged(params, batch[LABELLED]["image"], context, LABELLED)
        value, metrics = supervised(outputs, batch[LABELLED], PREDICTORS[BASELINE])
        return value, Effects(metrics=metrics)

    def sample(
        state: GanState,
        keys: Array,
        conditions: Mapping[str, Array] | None = None,
        *,
        latents: Array | None = None,
    ) -> Any:
        if conditions is None:
            own: dict[str, Any] = {}
            if keys is not None:
                own = keys_of(generator, lambda stream: random.streams(keys, stream), GENERATOR)
            variables = {"params": state.params[GENERATOR], **state.stats[GENERATOR]}
            return generator.apply(
                variables, draw(keys) if latents is None else latents, None, train=False, **own
            )
        if not isinstance(conditions, Mapping) or set(conditions) != {"image"}:
            raise ValueError('this model takes no labels; to predict some, it is given images as "image"')
        found: dict[str, Array] = {}
        for player in predictors:
            logits, targets = predicted(player, state, conditions["image"])
            if num_classes:
                shares = jax.nn.softmax(logits[:, :num_classes], axis=1)
                found[f"{PREDICTORS[player]}probabilities"] = shares
            if num_targets:
                found[f"{PREDICTORS[player]}targets"] = targets
        return found

    discriminator_phases = [Phase(DISCRIMINATOR, discriminator_loss, stream="semi-supervised")]
    if (start := consistency_average_from) is not None and consistent:
        # Two phases, for a branch within one is compiled into slow convolutions on CPUs.
        with_average = functools.partial(discriminator_loss, other=of_average)
        discriminator_phases = [
            Phase(DISCRIMINATOR, discriminator_loss, lambda step: step < start, "semi-supervised"),
            Phase(DISCRIMINATOR, with_average, lambda step: step >= start, "semi-supervised"),
        ]
    return Gan(
        init=init,
        phases=(
            # One stream: both see the same generated images, so that one pass of the generator serves the
            # two, and the baseline has the discriminator's noise.
            *discriminator_phases,
            Phase(GENERATOR, generators_loss, stream="semi-supervised"),
            *([Phase(BASELINE, baselines_loss, baseline_due, "semi-supervised")] if baseline else []),
        ),
        optimizers=optimizers,
        sample=sample,
        latents=draw,
        ema=dict.fromkeys(predictors, ema_decay) if ema_decay is not None else {},
    )
