"""Adversarial losses on logits, elementwise: the caller reduces. Logits may have any shape (PatchGAN's
[N, H, W, 1] too), real and generated ones the same: [n] against [n, 1] is refused (AssertionError), where
broadcasting would compare every image with every other.

A loss is a pair: what the discriminator minimises, given its logits on real and on generated images, and
what the generator minimises, given the logits on generated ones.
"""

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
      boundary: above it a logit says "real"; None where only differences of logits mean anything.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]
    boundary: float | None = 0.0


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


def least_squares_discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """(D(x) - 1)^2 / 2 + D(G(z))^2 / 2, elementwise (Mao et al. 2017, equation 9)."""
    chex.assert_equal_shape([real_logits, fake_logits])
    return 0.5 * jnp.square(real_logits - 1.0) + 0.5 * jnp.square(fake_logits)


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


NON_SATURATING = AdversarialLoss(minimax_discriminator_loss, non_saturating_generator_loss)
MINIMAX = AdversarialLoss(minimax_discriminator_loss, minimax_generator_loss)
LEAST_SQUARES = AdversarialLoss(least_squares_discriminator_loss, least_squares_generator_loss, boundary=0.5)
HINGE = AdversarialLoss(hinge_discriminator_loss, wasserstein_generator_loss)
WASSERSTEIN = AdversarialLoss(wasserstein_discriminator_loss, wasserstein_generator_loss, boundary=None)
