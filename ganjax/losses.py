"""Adversarial losses on logits, elementwise: the caller reduces. Logits may have any shape (PatchGAN's
[N, H, W, 1] too), real and generated ones the same: [n] against [n, 1] is refused (AssertionError), where
broadcasting would compare every image with every other.

A loss is a pair: what the discriminator minimises, given its logits on real and on generated images, and
what the generator minimises, given the logits on generated ones, or on both where the loss is relativistic.
Besides, what is done to losses: smoothed and swapped labels, a generator that learns from its best images
only, and the matching of features.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class AdversarialLoss(NamedTuple):
    """What discriminator and generator minimise.

    Attributes:
      discriminator: (real logits, fake logits) -> loss of the same shape.
      generator: fake logits -> loss of the same shape.
      boundary: above it a logit says "real"; None where only differences of logits mean anything, or where
        a high logit says "fake".
      relativistic: both functions are called (real logits, fake logits, mean=mean), where `mean` takes an
        array to the scalar that is its average over the *global* batch (default: `jnp.mean`). Pairs are
        made of the logits at the same place.
    """

    discriminator: Callable[..., jax.Array]
    generator: Callable[..., jax.Array]
    boundary: float | None = 0.0
    relativistic: bool = False


Mean = Callable[[jax.Array], jax.Array]


def sigmoid_cross_entropy(logits: jax.Array, label: float) -> jax.Array:
    """-label log sigmoid(x) - (1 - label) log(1 - sigmoid(x)), elementwise.

    Finite for any finite logits, and exact where it is small: the shorter softplus(x) - label x subtracts
    two large numbers where the discriminator is right and sure (0 at x = 20, where it is 2e-9).

    Args:
      logits: any shape.
      label: in [0, 1].
    """
    return label * jax.nn.softplus(-logits) + (1.0 - label) * jax.nn.softplus(logits)


def minimax_discriminator_loss(
    real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0
) -> jax.Array:
    """-log D(x) - log(1 - D(G(z))), elementwise.

    Args:
      real_logits: any shape.
      fake_logits: the same shape.
      real_label: below 1 smooths the label of the real images only (Salimans et al. 2016, section 3.4).
    References:
      Goodfellow et al. 2014, "Generative Adversarial Nets", equation 1.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return sigmoid_cross_entropy(real_logits, real_label) + sigmoid_cross_entropy(fake_logits, 0.0)


def non_saturating_generator_loss(fake_logits: jax.Array) -> jax.Array:
    """-log D(G(z)), elementwise (Goodfellow et al. 2014, section 3)."""
    return sigmoid_cross_entropy(fake_logits, 1.0)


def minimax_generator_loss(fake_logits: jax.Array) -> jax.Array:
    """log(1 - D(G(z))), elementwise (Goodfellow et al. 2014, equation 1). Vanishes where D wins."""
    return -sigmoid_cross_entropy(fake_logits, 0.0)


def least_squares_discriminator_loss(
    real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0
) -> jax.Array:
    """(D(x) - 1)^2 / 2 + D(G(z))^2 / 2, elementwise (Mao et al. 2017, equation 9).

    Args:
      real_logits: any shape.
      fake_logits: the same shape.
      real_label: stands for the 1; below 1 it is one-sided label smoothing.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    return 0.5 * jnp.square(real_logits - real_label) + 0.5 * jnp.square(fake_logits)


def least_squares_generator_loss(fake_logits: jax.Array) -> jax.Array:
    """(D(G(z)) - 1)^2 / 2, elementwise (Mao et al. 2017, equation 9)."""
    return 0.5 * jnp.square(fake_logits - 1.0)


def hinge_discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))), elementwise (Lim & Ye 2017; Miyato et al. 2018)."""
    chex.assert_equal_shape([real_logits, fake_logits])
    return jax.nn.relu(1.0 - real_logits) + jax.nn.relu(1.0 + fake_logits)


def wasserstein_discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """D(G(z)) - D(x), elementwise (Arjovsky et al. 2017, equation 3)."""
    chex.assert_equal_shape([real_logits, fake_logits])
    return fake_logits - real_logits


def wasserstein_generator_loss(fake_logits: jax.Array) -> jax.Array:
    """-D(G(z)), elementwise (Arjovsky et al. 2017); the hinge loss's generator too."""
    return -fake_logits


def relativistic_average_discriminator_loss(
    real_logits: jax.Array, fake_logits: jax.Array, mean: Mean = jnp.mean
) -> jax.Array:
    """-log sigmoid(C(x) - E C(G(z))) - log(1 - sigmoid(C(G(z)) - E C(x))), elementwise.

    Args:
      real_logits: C(x), any shape.
      fake_logits: C(G(z)), the same shape.
      mean: the average E over the global batch. Gradients flow through it.
    References:
      Jolicoeur-Martineau 2018, "The relativistic discriminator: a key element missing from standard GAN",
      RaSGAN. The sum of both halves, as in the paper; some code takes half of it.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    real_over_fake, fake_over_real = real_logits - mean(fake_logits), fake_logits - mean(real_logits)
    return jax.nn.softplus(-real_over_fake) + jax.nn.softplus(fake_over_real)


def relativistic_average_generator_loss(
    real_logits: jax.Array, fake_logits: jax.Array, mean: Mean = jnp.mean
) -> jax.Array:
    """The discriminator's RaSGAN loss with real and generated images exchanged, elementwise: the generator
    has both halves too, so that it also learns from how real the real images look."""
    return relativistic_average_discriminator_loss(fake_logits, real_logits, mean)


def relativistic_average_least_squares_discriminator_loss(
    real_logits: jax.Array, fake_logits: jax.Array, mean: Mean = jnp.mean
) -> jax.Array:
    """(C(x) - E C(G(z)) - 1)^2 + (C(G(z)) - E C(x) + 1)^2, elementwise.

    Args:
      real_logits: C(x), any shape.
      fake_logits: C(G(z)), the same shape.
      mean: the average E over the global batch. Gradients flow through it.
    References:
      Jolicoeur-Martineau 2018, RaLSGAN. Without the factor of 1/2 that Mao et al. have in LSGAN.
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    real_over_fake, fake_over_real = real_logits - mean(fake_logits), fake_logits - mean(real_logits)
    return jnp.square(real_over_fake - 1.0) + jnp.square(fake_over_real + 1.0)


def relativistic_average_least_squares_generator_loss(
    real_logits: jax.Array, fake_logits: jax.Array, mean: Mean = jnp.mean
) -> jax.Array:
    """The discriminator's RaLSGAN loss with real and generated images exchanged, elementwise."""
    return relativistic_average_least_squares_discriminator_loss(fake_logits, real_logits, mean)


def relativistic_pairing_discriminator_loss(
    real_logits: jax.Array, fake_logits: jax.Array, mean: Mean = jnp.mean
) -> jax.Array:
    """-log sigmoid(C(x) - C(G(z))) of the pairs at the same place, elementwise.

    Args:
      real_logits: C(x), any shape.
      fake_logits: C(G(z)), the same shape.
      mean: not used: a pair needs no average. It is there so that relativistic losses are called alike.
    References:
      Jolicoeur-Martineau 2018, RSGAN; Huang et al. 2024, "The GAN is dead; long live the GAN! A modern
      baseline GAN" (R3GAN), RpGAN with f(t) = -log(1 + e^-t).
    """
    del mean
    chex.assert_equal_shape([real_logits, fake_logits])
    return jax.nn.softplus(fake_logits - real_logits)


def relativistic_pairing_generator_loss(
    real_logits: jax.Array, fake_logits: jax.Array, mean: Mean = jnp.mean
) -> jax.Array:
    """-log sigmoid(C(G(z)) - C(x)) of the pairs at the same place, elementwise."""
    return relativistic_pairing_discriminator_loss(fake_logits, real_logits, mean)


def flipped_discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-log(1 - D(x)) - log D(G(z)), elementwise: D learns to say 0 of real and 1 of generated images."""
    return minimax_discriminator_loss(fake_logits, real_logits)


def flipped_generator_loss(fake_logits: jax.Array) -> jax.Array:
    """-log(1 - D(G(z))), elementwise: the non-saturating loss where 0 stands for real."""
    return sigmoid_cross_entropy(fake_logits, 0.0)


NON_SATURATING = AdversarialLoss(minimax_discriminator_loss, non_saturating_generator_loss)
MINIMAX = AdversarialLoss(minimax_discriminator_loss, minimax_generator_loss)
LEAST_SQUARES = AdversarialLoss(least_squares_discriminator_loss, least_squares_generator_loss, boundary=0.5)
HINGE = AdversarialLoss(hinge_discriminator_loss, wasserstein_generator_loss)
WASSERSTEIN = AdversarialLoss(wasserstein_discriminator_loss, wasserstein_generator_loss, boundary=None)
RELATIVISTIC_AVERAGE = AdversarialLoss(
    relativistic_average_discriminator_loss,
    relativistic_average_generator_loss,
    boundary=None,
    relativistic=True,
)
RELATIVISTIC_AVERAGE_LEAST_SQUARES = AdversarialLoss(
    relativistic_average_least_squares_discriminator_loss,
    relativistic_average_least_squares_generator_loss,
    boundary=None,
    relativistic=True,
)
RELATIVISTIC_PAIRING = AdversarialLoss(
    relativistic_pairing_discriminator_loss,
    relativistic_pairing_generator_loss,
    boundary=None,
    relativistic=True,
)
# The game of NON_SATURATING under another sign of the logits: only the initial logits differ.
FLIPPED = AdversarialLoss(flipped_discriminator_loss, flipped_generator_loss, boundary=None)


def smoothed(loss: AdversarialLoss, real_label: float = 0.9) -> AdversarialLoss:
    """One-sided label smoothing: the discriminator's target for real images is `real_label`, not 1.

    The boundary is what the best discriminator says where an image is as likely real as generated: the
    probability real_label / 2, or, for least squares, the output real_label / 2.

    Args:
      loss: NON_SATURATING, MINIMAX or LEAST_SQUARES.
      real_label: in (0, 1]; 1 smooths nothing.
    Raises:
      ValueError: for another loss, which has no labels to smooth (or has been smoothed), or another label.
    References:
      Salimans et al. 2016, "Improved techniques for training GANs", section 3.4.
    """
    if not 0.0 < real_label <= 1.0:
        raise ValueError(f"smoothed(real_label={real_label}): expected a number above 0 and at most 1")
    if loss.discriminator is minimax_discriminator_loss:
        boundary = math.log(real_label / (2.0 - real_label))
    elif loss.discriminator is least_squares_discriminator_loss:
        boundary = 0.5 * real_label
    else:
        name = getattr(loss.discriminator, "__name__", "this discriminator's loss")
        raise ValueError(
            f"{name} has no real label to smooth: smoothed() takes NON_SATURATING, MINIMAX or LEAST_SQUARES"
        )
    discriminator = functools.partial(loss.discriminator, real_label=real_label)
    return loss._replace(discriminator=discriminator, boundary=boundary)


def swap_labels(
    real_logits: jax.Array, fake_logits: jax.Array, swap: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Flips the labels of some pairs in the discriminator's loss, by exchanging their logits.

    So it works for every loss: discriminator(*swap_labels(real, fake, swap)).

    Args:
      real_logits: [n, ...].
      fake_logits: the same shape.
      swap: bool [n], the pairs that are exchanged; for example `random.uniform(keys, ()) < rate`.
    References:
      Chintala et al. 2016, "How to train a GAN?", item 6 (occasionally flipped labels).
    """
    chex.assert_equal_shape([real_logits, fake_logits])
    chex.assert_shape(swap, (real_logits.shape[0],))
    swap = _beside(swap, real_logits)
    return jnp.where(swap, fake_logits, real_logits), jnp.where(swap, real_logits, fake_logits)


def per_image(logits: jax.Array) -> jax.Array:
    """The mean logit [n] of each image, of logits [n, ...]."""
    return jnp.mean(logits.reshape(logits.shape[0], -1), axis=1)


def top_k_weights(logits: jax.Array, all_logits: jax.Array, k: float | jax.Array) -> jax.Array:
    """Weights by which the generator learns from the k images alone that look most real.

    Patches are averaged (`per_image`), so that an image is in or out as a whole. An image that ties with the
    k-th is in too, so that more than k are in where there are ties (all, where the logits are all the same).
    Those that are in weigh N over their number and the others 0, so that the mean over the global batch of
    weight times loss is the mean loss of those that are in. No gradient flows through the weights.

    Args:
      logits: [n, ...], the discriminator's on the local generated images; high is real (for FLIPPED, give
        the negative of both).
      all_logits: [N, ...], the same of the global batch; with several devices, gather what `per_image` gives,
        so that what is compared was rounded once.
      k: a number, which may be traced; rounded, and kept within 1 and N, so that
        `top_k_share(...)(step) * N` will do.
    Returns:
      float32 [n]; for patches, multiply by `weights.reshape(n, 1, 1, 1)`.
    References:
      Sinha et al. 2020, "Top-k training of GANs: improving GAN performance by throwing away bad samples".
    """
    logits, all_logits = per_image(logits), per_image(all_logits)
    size = all_logits.shape[0]
    place = jnp.clip(jnp.round(jnp.asarray(k)).astype(jnp.int32), 1, size)
    least = jnp.sort(all_logits)[size - place]
    taken = jnp.sum(all_logits >= least)
    return jnp.where(logits >= least, size / taken, 0.0).astype(jnp.float32)


def top_k_share(start: int, end_share: float, decay_steps: int) -> Callable[[jax.Array], jax.Array]:
    """The share of the batch that `top_k_weights` keeps, by step: all of it until step `start`, then
    falling by the same factor each step, until it stays at `end_share` from step `start + decay_steps` on.

    Args:
      start: a step, at least 0.
      end_share: in (0, 1]; the paper's is 0.5.
      decay_steps: at least 1.
    References:
      Sinha et al. 2020, where k shrinks by a factor an epoch.
    """
    if start < 0 or decay_steps < 1 or not 0.0 < end_share <= 1.0:
        raise ValueError(
            f"top_k_share(start={start}, end_share={end_share}, decay_steps={decay_steps}): expected"
            " start >= 0, an end_share above 0 and at most 1, and decay_steps >= 1"
        )

    def share(step: jax.Array) -> jax.Array:
        done = jnp.clip((jnp.asarray(step) - start) / decay_steps, 0.0, 1.0)
        return jnp.power(end_share, done)

    return share


def feature_matching(
    real_features: jax.Array,
    fake_features: jax.Array,
    mean: Mean | None = None,
) -> jax.Array:
    """|E f(x) - E f(G(z))|^2, what the generator minimises: a scalar.

    Args:
      real_features: f(x) [n, F], a hidden layer of the discriminator.
      fake_features: [n, F].
      mean: [n, F] -> [F], the average over the global batch; None: over this one.
    References:
      Salimans et al. 2016, section 3.1.
    """
    chex.assert_equal_shape_suffix([real_features, fake_features], 1)
    chex.assert_rank([real_features, fake_features], 2)
    mean = mean or functools.partial(jnp.mean, axis=0)
    return jnp.sum(jnp.square(mean(real_features) - mean(fake_features)))


def classification(class_logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log p(label), [n]: what both players of an AC-GAN minimise besides.

    Args:
      class_logits: [n, classes], of an auxiliary classifier in the discriminator.
      labels: int [n].
    References:
      Odena et al. 2017, "Conditional image synthesis with auxiliary classifier GANs", equation 3.
    """
    chex.assert_rank([class_logits, labels], [2, 1])
    log_shares = jax.nn.log_softmax(class_logits.astype(jnp.float32))
    return -jnp.take_along_axis(log_shares, labels[:, None], axis=1)[:, 0]


def _beside(values: jax.Array, logits: jax.Array) -> jax.Array:
    """[n] as [n, 1, ...], to broadcast against logits."""
    return values.reshape(values.shape + (1,) * (logits.ndim - 1))
