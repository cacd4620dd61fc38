"""What a discriminator minimises besides its adversarial loss: a `Penalty` each, named and weighed here.

The functions themselves are in `ganjax.regularizers`; this says where in a step they are taken.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from ganjax import random, regularizers
from ganjax.gan import Array, Context, Tree

Augmentation = Callable[[Array, Array], Array]  # (images [n, ...], keys [n]) -> images


class Seen(NamedTuple):
    """What a discriminator saw in a step, and said.

    Attributes:
      real: [n, ...], as it saw them: augmented, with noise.
      fake: likewise, as many.
      real_logits: of `real`, [n] or one a patch.
      fake_logits: likewise.
      judge: images in the real ones' place, with their labels -> logits.
      judge_fake: the same for the generated ones.
      context: of the step.
      joined: the logits are of one batch of both kinds, and `judge` is of one kind alone.
      labels: of the real images, [n]; None where there are none.
      judge_as: images in the real ones' place, and other labels for them -> logits.
    """

    real: Array
    fake: Array
    real_logits: Array
    fake_logits: Array
    judge: Callable[[Array], Array]
    judge_fake: Callable[[Array], Array]
    context: Context
    joined: bool = False
    labels: Array | None = None
    judge_as: Callable[[Array, Array], Array] | None = None


class Penalty(NamedTuple):
    """A term of a discriminator's loss.

    Attributes:
      apply: (what it saw, memory) -> (scalar, memory afterwards); the memory is the same on every device.
      init: () -> the memory at the start, () for none.
    """

    apply: Callable[[Seen, Tree], tuple[Array, Tree]]
    init: Callable[[], Tree] = tuple


def _without_memory(value: Callable[[Seen], Array]) -> Penalty:
    return Penalty(lambda seen, memory: (value(seen), memory))


def r1(gamma: float) -> Penalty:
    """gamma / 2 times the mean squared gradient at real images (Mescheder et al. 2018, equation 9)."""
    return _without_memory(
        lambda seen: gamma / 2 * jnp.mean(regularizers.gradient_square(seen.judge, seen.real))
    )


def r2(gamma: float) -> Penalty:
    """gamma / 2 times the mean squared gradient at generated images (Mescheder et al. 2018, equation 10)."""
    return _without_memory(
        lambda seen: gamma / 2 * jnp.mean(regularizers.gradient_square(seen.judge_fake, seen.fake))
    )


def gradient_penalty(weight: float, *, one_sided: bool = False) -> Penalty:
    """`weight` times (|gradient| - 1)^2 between real and generated images (Gulrajani et al. 2017, eq. 3).

    A point between a pair is judged with the real image's label. `one_sided` leaves gradients below 1 alone.
    """

    def value(seen: Seen) -> Array:
        share = random.uniform(seen.context.example_keys("interpolates"), ())
        points = regularizers.interpolates(seen.real, seen.fake, share)
        return weight * jnp.mean(regularizers.gradient_penalty(seen.judge, points, one_sided=one_sided))

    return _without_memory(value)


def mismatched(weight: float, compare: Callable[[Array, Array, Context], Array], num_classes: int) -> Penalty:
    """`weight` times the loss that has real images with other labels in the generated ones' place, so that
    the discriminator looks at the label too (Reed et al. 2016, "Generative adversarial text to image
    synthesis", algorithm 1).

    Args:
      weight: of the term.
      compare: (logits of real images, logits to be told from them, context) -> the loss, a scalar.
      num_classes: at least 2; every other class is as likely.
    """
    if num_classes < 2:
        raise ValueError(f"mismatched labels: expected at least 2 classes, not {num_classes}")

    def value(seen: Seen) -> Array:
        assert seen.labels is not None
        assert seen.judge_as is not None
        further = random.randint(seen.context.example_keys("mismatched"), 1, num_classes)
        wrong = seen.judge_as(seen.real, (seen.labels + further) % num_classes)
        return weight * compare(seen.real_logits, wrong, seen.context)

    return _without_memory(value)


def drift(weight: float) -> Penalty:
    """`weight` times the mean squared logit of real images, so that a critic's do not drift away from 0
    (Karras et al. 2018, "Progressive growing of GANs", appendix A.1: 0.001)."""
    return _without_memory(lambda seen: weight * jnp.mean(jnp.square(seen.real_logits)))


def dragan(weight: float) -> Penalty:
    """`weight` times (|gradient| - 1)^2 around real images (Kodali et al. 2017, "On convergence and stability
    of GANs"), at distances of up to half of the standard deviation over all pixels of the global batch."""

    def value(seen: Seen) -> Array:
        mean = seen.context.statistic(jnp.mean(seen.real))
        std = jnp.sqrt(seen.context.statistic(jnp.mean(jnp.square(seen.real - mean))))
        points = regularizers.dragan_points(seen.real, seen.context.example_keys("dragan"), std)
        return weight * jnp.mean(regularizers.gradient_penalty(seen.judge, points))

    return _without_memory(value)


def lecam(weight: float, decay: float = 0.99) -> Penalty:
    """`weight` times the distances of logits from the other kind's moving averages (Tseng et al. 2021)."""

    def apply(seen: Seen, memory: Tree) -> tuple[Array, Tree]:
        value = regularizers.lecam(seen.real_logits, seen.fake_logits, memory)
        real, fake = seen.context.mean((jnp.mean(seen.real_logits), jnp.mean(seen.fake_logits)))
        return weight * value, regularizers.lecam_update(memory, real, fake, decay)

    return Penalty(apply, regularizers.lecam_init)


def consistency(weight: float, augmentation: Augmentation, *, generated: bool = False) -> Penalty:
    """`weight` times the squared change of logits when images are augmented (Zhang et al. 2020).

    Args:
      weight: lambda.
      augmentation: what should not change a logit.
      generated: generated images too (balanced consistency: Zhao et al. 2021, "Improved consistency
        regularization for GANs").
    """

    def value(seen: Seen) -> Array:
        def change(images: Array, judge: Callable[[Array], Array], logits: Array, name: str) -> Array:
            if seen.joined:  # with the same companions as the augmented ones
                logits = judge(images)
            moved = judge(augmentation(images, seen.context.example_keys(name)))
            return jnp.mean(regularizers.consistency(logits, moved))

        total = change(seen.real, seen.judge, seen.real_logits, "consistency")
        if generated:
            total += change(seen.fake, seen.judge_fake, seen.fake_logits, "consistency of generated")
        return weight * total

    return _without_memory(value)
