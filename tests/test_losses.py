import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ganjax import losses

PAIRS = {
    "non_saturating": losses.NON_SATURATING,
    "minimax": losses.MINIMAX,
    "least_squares": losses.LEAST_SQUARES,
    "hinge": losses.HINGE,
    "wasserstein": losses.WASSERSTEIN,
}

# log(1 + e^x), worked out with Python's math in float64.
SOFTPLUS = {-2: 0.12692801, -1: 0.31326169, 0: 0.69314718, 1: 1.31326169, 2: 2.12692801}

# (real logit, fake logit) -> the discriminator's loss; fake logit -> the generator's: by hand.
DISCRIMINATOR = {
    "non_saturating": {
        (0, 0): 2 * SOFTPLUS[0],
        (2, -1): SOFTPLUS[-2] + SOFTPLUS[-1],
        (-1, 2): SOFTPLUS[1] + SOFTPLUS[2],
    },
    "minimax": {(0, 0): 2 * SOFTPLUS[0], (2, -1): SOFTPLUS[-2] + SOFTPLUS[-1]},
    "least_squares": {(1, 0): 0, (0, 0): 0.5, (3, -1): 2.5, (-1, 2): 4},
    "hinge": {(0, 0): 2, (2, -3): 0, (-1, 2): 5, (0.5, -0.25): 1.25},
    "wasserstein": {(0, 0): 0, (2, -3): -5, (-1, 2): 3},
}
GENERATOR = {
    "non_saturating": {0: SOFTPLUS[0], 2: SOFTPLUS[-2], -2: SOFTPLUS[2]},
    "minimax": {0: -SOFTPLUS[0], 2: -SOFTPLUS[2], -2: -SOFTPLUS[-2]},
    "least_squares": {1: 0, 0: 0.5, 3: 2, -1: 2},
    "hinge": {0: 0, 2: -2, -3: 3},
    "wasserstein": {0: 0, 2: -2, -3: 3},
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", [(-1,), (-1, 1, 1, 1)])
@pytest.mark.parametrize("transform", [jax.jit, lambda f: f])
def test_golden_values(name, shape, transform):
    table = DISCRIMINATOR[name]
    real, fake = (jnp.array(x, jnp.float32).reshape(shape) for x in zip(*table, strict=True))
    expected = np.array(list(table.values()), np.float32).reshape(shape)
    np.testing.assert_allclose(transform(PAIRS[name].discriminator)(real, fake), expected, rtol=1e-6, atol=0)
    table = GENERATOR[name]
    fake = jnp.array(list(table), jnp.float32).reshape(shape)
    expected = np.array(list(table.values()), np.float32).reshape(shape)
    np.testing.assert_allclose(transform(PAIRS[name].generator)(fake), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", PAIRS)
def test_patch_logits_keep_their_shape(name):
    real, fake = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2, 3, 4, 1)), jnp.float32)
    values = PAIRS[name].discriminator(real, fake)
    assert values.shape == (2, 3, 4, 1)
    flat = PAIRS[name].discriminator(real.reshape(-1), fake.reshape(-1))
    np.testing.assert_allclose(values.reshape(-1), flat, rtol=1e-6)
    assert PAIRS[name].generator(fake).shape == (2, 3, 4, 1)


@pytest.mark.parametrize("name", PAIRS)
def test_shapes_that_would_broadcast_are_refused(name):
    with pytest.raises(AssertionError, match="shape"):
        PAIRS[name].discriminator(jnp.zeros(4), jnp.zeros((4, 1)))


@pytest.mark.parametrize("name", PAIRS)
def test_finite_with_finite_gradients_at_large_logits(name):
    real = jnp.array([1e4, 1e4, -1e4, -1e4])
    fake = jnp.array([1e4, -1e4, 1e4, -1e4])
    pair = PAIRS[name]
    for value in (pair.discriminator(real, fake), pair.generator(fake)):
        assert np.isfinite(value).all()
    gradients = jax.grad(lambda r, f: pair.discriminator(r, f).sum(), (0, 1))(real, fake)
    assert np.isfinite(np.stack([*gradients, jax.grad(lambda f: pair.generator(f).sum())(fake)])).all()


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_agree_with_differences(name):
    # Away from 1 and -1, where the hinge has its corners.
    real, fake = jnp.array([-2.3, -0.4, 0.6, 3.1]), jnp.array([1.7, -0.2, -2.5, 0.3])
    check_grads(PAIRS[name].discriminator, (real, fake), order=1, eps=1e-2, rtol=1e-3)
    check_grads(PAIRS[name].generator, (fake,), order=1, eps=1e-2, rtol=1e-3)


def test_large_logits_by_hand():
    d, g = losses.minimax_discriminator_loss, losses.non_saturating_generator_loss
    assert float(d(jnp.float32(-1e4), jnp.float32(1e4))) == 2e4
    assert float(d(jnp.float32(1e4), jnp.float32(-1e4))) == 0
    assert float(g(jnp.float32(-1e4))) == 1e4
    assert float(jax.grad(g)(jnp.float32(-1e4))) == -1
    assert float(losses.minimax_generator_loss(jnp.float32(1e4))) == -1e4


@pytest.mark.parametrize("x", [5.0, 10.0, 20.0, 40.0])
def test_exact_where_the_loss_is_small(x):
    # -log sigmoid(x) = log(1 + e^-x), and its slope is -1 / (1 + e^x).
    value, slope = jax.value_and_grad(losses.sigmoid_cross_entropy)(jnp.float32(x), 1.0)
    np.testing.assert_allclose(value, math.log1p(math.exp(-x)), rtol=1e-5)
    np.testing.assert_allclose(slope, -1 / (1 + math.exp(x)), rtol=1e-5)


def test_minimax_generator_is_the_negative_cross_entropy_of_generated_images():
    fake = jnp.linspace(-30, 30, 13)
    expected = -losses.sigmoid_cross_entropy(fake, 0.0)
    np.testing.assert_array_equal(losses.minimax_generator_loss(fake), expected)
    # What the discriminator adds for generated images, and the generator takes away: a zero-sum game.
    real = jnp.full_like(fake, 100.0)
    np.testing.assert_allclose(
        losses.minimax_discriminator_loss(real, fake), -losses.minimax_generator_loss(fake), rtol=1e-6
    )
    # It vanishes where the discriminator wins, and the non-saturating one does not.
    assert abs(jax.grad(losses.minimax_generator_loss)(-20.0)) < 1e-8
    assert abs(jax.grad(losses.non_saturating_generator_loss)(-20.0)) > 0.99


def test_label_smoothing_moves_the_optimum_of_the_real_logits_only():
    def smoothed(real, fake):
        return losses.minimax_discriminator_loss(real, fake, real_label=0.9)

    # 0.9 softplus(-x) + 0.1 softplus(x) is least where sigmoid(x) = 0.9: x = log 9.
    best = jnp.float32(math.log(9))
    by_real, by_fake = jax.grad(smoothed, (0, 1))(best, jnp.float32(1.5))
    assert abs(by_real) < 1e-6
    np.testing.assert_allclose(by_fake, 1 / (1 + math.exp(-1.5)), rtol=1e-5)
    # By hand at (2, -1): 0.9 softplus(-2) + 0.1 softplus(2) + softplus(-1).
    expected = 0.9 * SOFTPLUS[-2] + 0.1 * SOFTPLUS[2] + SOFTPLUS[-1]
    np.testing.assert_allclose(smoothed(jnp.float32(2), jnp.float32(-1)), expected, rtol=1e-6)


def test_hinge_and_wasserstein_share_the_generator_but_not_the_critic():
    assert losses.HINGE.generator(jnp.float32(3)) == losses.WASSERSTEIN.generator(jnp.float32(3))
    # Beyond the margin the hinge's critic is at rest, the Wasserstein critic is not.
    real, fake = jnp.float32(2), jnp.float32(-2)
    assert jax.grad(losses.hinge_discriminator_loss)(real, fake) == 0
    assert jax.grad(losses.wasserstein_discriminator_loss)(real, fake) == -1
