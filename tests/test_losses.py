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
    "flipped": losses.FLIPPED,
}
RELATIVISTIC = {
    "average": losses.RELATIVISTIC_AVERAGE,
    "average_least_squares": losses.RELATIVISTIC_AVERAGE_LEAST_SQUARES,
    "pairing": losses.RELATIVISTIC_PAIRING,
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
    "flipped": {(0, 0): 2 * SOFTPLUS[0], (2, -1): SOFTPLUS[2] + SOFTPLUS[1]},
}
GENERATOR = {
    "non_saturating": {0: SOFTPLUS[0], 2: SOFTPLUS[-2], -2: SOFTPLUS[2]},
    "minimax": {0: -SOFTPLUS[0], 2: -SOFTPLUS[2], -2: -SOFTPLUS[-2]},
    "least_squares": {1: 0, 0: 0.5, 3: 2, -1: 2},
    "hinge": {0: 0, 2: -2, -3: 3},
    "wasserstein": {0: 0, 2: -2, -3: 3},
    "flipped": {0: SOFTPLUS[0], 2: SOFTPLUS[2], -2: SOFTPLUS[-2]},
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


# Real logits 3 and 1 (mean 2), generated 0 and 2 (mean 1), by hand.
RELATIVISTIC_DISCRIMINATOR = {
    # Real over the generated mean: 2, 0. Generated over the real mean: -2, 0.
    "average": (SOFTPLUS[-2] + SOFTPLUS[-2], SOFTPLUS[0] + SOFTPLUS[0]),
    "average_least_squares": ((2 - 1) ** 2 + (-2 + 1) ** 2, (0 - 1) ** 2 + (0 + 1) ** 2),
    "pairing": (math.log1p(math.exp(-3)), SOFTPLUS[1]),
}
RELATIVISTIC_GENERATOR = {
    "average": (SOFTPLUS[2] + SOFTPLUS[2], SOFTPLUS[0] + SOFTPLUS[0]),
    "average_least_squares": ((2 + 1) ** 2 + (-2 - 1) ** 2, 1 + 1),
    "pairing": (math.log1p(math.exp(3)), SOFTPLUS[-1]),
}


@pytest.mark.parametrize("name", RELATIVISTIC)
@pytest.mark.parametrize("shape", [(2,), (1, 2, 1, 1)])
def test_relativistic_golden_values(name, shape):
    loss = RELATIVISTIC[name]
    assert loss.relativistic
    assert loss.boundary is None
    real, fake = jnp.array([3.0, 1.0]).reshape(shape), jnp.array([0.0, 2.0]).reshape(shape)
    for function, expected in (
        (loss.discriminator, RELATIVISTIC_DISCRIMINATOR[name]),
        (loss.generator, RELATIVISTIC_GENERATOR[name]),
    ):
        values = function(real, fake)
        assert values.shape == shape
        np.testing.assert_allclose(values.reshape(-1), expected, rtol=1e-6)
        with pytest.raises(AssertionError, match="shape"):
            function(jnp.zeros(4), jnp.zeros((4, 1)))


@pytest.mark.parametrize("name", RELATIVISTIC)
def test_relativistic_losses_over_devices_are_those_of_the_global_batch(name):
    real, fake = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32)

    def over_devices(function, mean):
        def local(real, fake):
            return function(real, fake, mean=lambda x: mean(jnp.mean(x)))

        return jax.vmap(local, axis_name="devices")(real, fake)

    for function in (RELATIVISTIC[name].discriminator, RELATIVISTIC[name].generator):
        whole = function(real.reshape(-1), fake.reshape(-1), mean=jnp.mean)
        shared = over_devices(function, lambda x: jax.lax.pmean(x, "devices"))
        np.testing.assert_allclose(shared.reshape(-1), whole, rtol=1e-5)
        alone = over_devices(function, lambda x: x)
        assert np.allclose(alone.reshape(-1), whole, rtol=1e-5) == (name == "pairing")


@pytest.mark.parametrize("name", RELATIVISTIC)
def test_relativistic_losses_depend_on_differences_alone_and_move_both_sides(name):
    real, fake = jnp.array([0.3, -1.2, 2.0]), jnp.array([1.0, 0.4, -0.7])
    for function in (RELATIVISTIC[name].discriminator, RELATIVISTIC[name].generator):
        np.testing.assert_allclose(function(real + 5, fake + 5), function(real, fake), rtol=1e-5)
        check_grads(function, (real, fake), order=1, modes=["rev"], eps=1e-2, rtol=1e-3)
    by_real, by_fake = jax.grad(lambda r, f: RELATIVISTIC[name].generator(r, f).sum(), (0, 1))(real, fake)
    # The generator lifts its own images and lowers the real ones.
    assert by_fake.sum() < 0 < by_real.sum()


def test_flipped_is_the_non_saturating_game_with_the_sign_of_the_logits_changed():
    real, fake = jnp.array([0.3, -1.2, 2.0]), jnp.array([1.0, 0.4, -0.7])
    plain = losses.NON_SATURATING
    np.testing.assert_allclose(
        losses.FLIPPED.discriminator(real, fake), plain.discriminator(-real, -fake), rtol=1e-6
    )
    np.testing.assert_allclose(losses.FLIPPED.generator(fake), plain.generator(-fake), rtol=1e-6)
    assert losses.FLIPPED.boundary is None


@pytest.mark.parametrize("name", ["non_saturating", "minimax", "least_squares"])
def test_smoothed(name):
    loss, real, fake = losses.smoothed(PAIRS[name], 0.8), jnp.array([0.7, -1.0]), jnp.array([0.2, 0.9])
    if name == "least_squares":
        expected = 0.5 * (real - 0.8) ** 2 + 0.5 * fake**2
    else:
        expected = 0.8 * np.log1p(np.exp(-real)) + 0.2 * np.log1p(np.exp(real)) + np.log1p(np.exp(fake))
    np.testing.assert_allclose(loss.discriminator(real, fake), expected, rtol=1e-5)
    assert loss.generator is PAIRS[name].generator
    # Where an image is as likely real as generated, the discriminator's loss is least at the boundary.
    assert loss.boundary is not None
    slope = jax.grad(lambda x: loss.discriminator(x, x))(jnp.float32(loss.boundary))
    assert abs(slope) < 1e-6
    unsmoothed = losses.smoothed(PAIRS[name], 1.0)
    np.testing.assert_array_equal(unsmoothed.discriminator(real, fake), PAIRS[name].discriminator(real, fake))
    assert unsmoothed.boundary == PAIRS[name].boundary


@pytest.mark.parametrize(
    "loss",
    [losses.HINGE, losses.WASSERSTEIN, losses.RELATIVISTIC_PAIRING, losses.smoothed(losses.MINIMAX)],
)
def test_losses_without_a_real_label_are_not_smoothed(loss):
    with pytest.raises(ValueError, match="NON_SATURATING, MINIMAX or LEAST_SQUARES"):
        losses.smoothed(loss)


@pytest.mark.parametrize("label", [0.0, -0.1, 1.1, float("nan")])
def test_labels_that_smooth_nothing_are_refused(label):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        losses.smoothed(losses.MINIMAX, label)


@pytest.mark.parametrize("shape", [(3,), (3, 2, 2, 1)])
def test_swapped_labels_exchange_the_logits_of_some_pairs(shape):
    real, fake = jnp.ones(shape), jnp.zeros(shape)
    swap = jnp.array([True, False, True])
    new_real, new_fake = losses.swap_labels(real, fake, swap)
    expected = np.array([0, 1, 0]).reshape((3,) + (1,) * (len(shape) - 1)) * np.ones(shape)
    np.testing.assert_array_equal(new_real, expected)
    np.testing.assert_array_equal(new_fake, 1 - expected)
    with pytest.raises(AssertionError):
        losses.swap_labels(real, fake, swap[:2])


def test_the_top_k_alone_weigh_and_their_mean_is_the_mean():
    logits = jnp.array([0.1, 3.0, -2.0, 1.0, 0.5])
    fractional = jax.jit(losses.top_k_weights)
    for k, taken in ((1, [1]), (2, [1, 3]), (2.4, [1, 3]), (5, range(5)), (0, [1]), (9, range(5))):
        weights = fractional(logits, logits, k)
        assert weights.dtype == jnp.float32
        np.testing.assert_allclose(weights[np.array(taken)], 5 / len(taken), rtol=1e-6)
        assert (weights > 0).sum() == len(taken)
        np.testing.assert_allclose(jnp.mean(weights * logits), logits[np.array(taken)].mean(), rtol=1e-5)
    # A traced integer, and no gradient through the weights.
    np.testing.assert_array_equal(
        fractional(logits, logits, jnp.int32(2)), losses.top_k_weights(logits, logits, 2)
    )
    slope = jax.grad(lambda x: jnp.mean(losses.top_k_weights(x, x, 2) * x))(logits)
    np.testing.assert_allclose(slope, [0, 0.5, 0, 0.5, 0], rtol=1e-6)


def test_ties_with_the_last_of_the_top_k_are_in_too():
    logits = jnp.array([1.0, 1.0, 0.0, 2.0])
    np.testing.assert_allclose(losses.top_k_weights(logits, logits, 2), [4 / 3, 4 / 3, 0, 4 / 3], rtol=1e-6)
    np.testing.assert_array_equal(losses.top_k_weights(jnp.zeros(4), jnp.zeros(4), 1), jnp.ones(4))


def test_the_top_k_of_the_global_batch_and_of_patches():
    patches = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2, 3, 1)), jnp.float32)
    whole = losses.top_k_weights(patches, patches, 3)
    best = np.argsort(np.mean(patches, (1, 2, 3)))[-3:]
    np.testing.assert_array_equal(np.flatnonzero(whole), np.sort(best))
    images = losses.per_image(patches)
    parts = [losses.top_k_weights(part, images, 3) for part in jnp.split(images, 3)]
    np.testing.assert_array_equal(jnp.concatenate(parts), whole)


def test_the_share_of_the_top_k_falls_by_a_factor():
    share = losses.top_k_share(start=10, end_share=0.25, decay_steps=20)
    steps = jnp.array([0, 10, 20, 30, 10**6])
    np.testing.assert_allclose(share(steps), [1, 1, 0.5, 0.25, 0.25], rtol=1e-6)
    for wrong in ((-1, 0.5, 1), (0, 0.0, 1), (0, 1.5, 1), (0, 0.5, 0)):
        with pytest.raises(ValueError, match="top_k_share"):
            losses.top_k_share(*wrong)


def test_feature_matching_compares_means():
    real, fake = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[0.0, 5.0], [2.0, 3.0]])
    # Means (2, 3) and (1, 4).
    np.testing.assert_allclose(losses.feature_matching(real, fake), 2.0)
    np.testing.assert_allclose(losses.feature_matching(real, real[::-1]), 0.0)
    halved = losses.feature_matching(real, fake, mean=lambda x: 0.5 * jnp.mean(x, axis=0))
    np.testing.assert_allclose(halved, 0.5)
    # d/d fake = -2 (difference) / n.
    slope = jax.grad(losses.feature_matching, 1)(real, fake)
    np.testing.assert_allclose(slope, [[-1, 1], [-1, 1]], rtol=1e-6)
    with pytest.raises(AssertionError):
        losses.feature_matching(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
