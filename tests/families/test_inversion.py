"""f-AnoGAN's second stage, by networks worked out by hand."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import optim, random
from ganjax.errors import UsageError
from ganjax.families.adversarial import adversarial
from ganjax.families.inversion import Search, before_encoder, inherit, inversion, searching
from ganjax.gan import Context
from ganjax.step import create_state, train_step

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 2, 2, 1)).astype(np.float32)
BATCH = {"image": IMAGES}


class Generator(nn.Module):
    @nn.compact
    def __call__(self, latents, labels, *, train):
        return jnp.tanh(nn.Dense(4, use_bias=False)(latents)).reshape(-1, 2, 2, 1)


class Discriminator(nn.Module):
    @nn.compact
    def __call__(self, images, labels, *, train):
        x = nn.Dense(3, use_bias=False)(images.reshape(images.shape[0], -1))
        self.sow("intermediates", "features", x)
        return nn.Dense(1)(x)[:, 0]


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(2, use_bias=False)(images.reshape(images.shape[0], -1))


def made():
    networks = Generator(), Discriminator()
    rates: Any = dict.fromkeys(("generator", "discriminator"), optim.adam(1e-2))
    base = adversarial(*networks, latent_size=2, optimizers=rates, ema_decay=lambda step: jnp.float32(0.5))
    return base, inversion(base, *networks, Encoder(), optimizer=optim.adam(1e-2), kappa=0.3)


@functools.cache
def stages():
    """Base, its state as if it had been trained, the second stage, and the state that it begins with."""
    base, gan = made()
    old = create_state(base, KEY, BATCH)
    old = old.replace(ema=jax.tree.map(lambda x: 1.5 * x, old.ema))
    return base, old, gan, inherit(create_state(gan, KEY, BATCH), old)


def test_the_encoder_meets_what_was_trained():
    _, old, _, state = stages()
    frozen = {"generator": old.ema["generator"], "discriminator": old.params["discriminator"]}
    for player, params in frozen.items():
        jax.tree.map(np.testing.assert_array_equal, state.params[player], params)
    assert set(state.opt_state) == {"encoder"}
    assert not state.ema


def test_the_score_by_hand():
    _, _, gan, state = stages()
    kernels = [
        np.asarray(state.params[player]["Dense_0"]["kernel"])
        for player in ("encoder", "generator", "discriminator")
    ]
    flat = IMAGES.reshape(4, 4)
    again = np.tanh(flat @ kernels[0] @ kernels[1])
    pixels = np.square(flat - again).mean(1)
    features = np.square((flat - again) @ kernels[2]).mean(1)
    found = gan.sample(state, None, BATCH)
    np.testing.assert_allclose(found["reconstruction"].reshape(4, 4), again, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["score"], pixels + 0.3 * features, rtol=1e-4)
    (phase,) = gan.phases
    value, effects = phase.loss(state.params["encoder"], state, BATCH, Context(KEY, jnp.arange(4)))
    assert float(value) == pytest.approx((pixels + 0.3 * features).mean(), rel=1e-4)
    assert float(effects.metrics["pixel_residual"]) == pytest.approx(pixels.mean(), rel=1e-4)


def test_it_learns_and_the_others_stay_as_they_are():
    _, _, gan, state = stages()
    before = gan.sample(state, None, BATCH)["score"].mean()
    after = state
    for _ in range(3):
        after, _ = train_step(gan, after, BATCH, KEY)
    for player in ("generator", "discriminator"):
        jax.tree.map(np.testing.assert_array_equal, after.params[player], state.params[player])
    assert gan.sample(after, None, BATCH)["score"].mean() < before


def test_it_still_draws_images():
    base, old, gan, state = stages()
    keys = random.from_seeds(jnp.arange(3))
    np.testing.assert_array_equal(gan.sample(state, keys), base.sample(old, keys))
    assert gan.latents is not None
    np.testing.assert_array_equal(gan.sample(state, None, latents=gan.latents(keys)), gan.sample(state, keys))
    with pytest.raises(ValueError, match="takes no labels"):
        gan.sample(state, keys, jnp.arange(3))
    first = before_encoder(base)
    np.testing.assert_array_equal(first.sample(old, keys), base.sample(old, keys))
    with pytest.raises(UsageError, match="before the encoder learns"):
        first.sample(old, keys, BATCH)


def test_a_search_descends_each_image_by_itself():
    targets = jnp.array([[1.0, -2.0], [0.5, 3.0]])

    def score(latents):
        return jnp.sum(jnp.square(latents - targets), axis=1)

    found = Search(steps=200, rate=0.1)(score, jnp.zeros((2, 2)))
    np.testing.assert_allclose(found, targets, atol=1e-2)
    alone = Search(steps=3, rate=0.1)(
        lambda z: jnp.sum(jnp.square(z - targets[:1]), axis=1), jnp.zeros((1, 2))
    )
    np.testing.assert_allclose(alone, Search(steps=3, rate=0.1)(score, jnp.zeros((2, 2)))[:1], rtol=1e-6)


def test_a_search_goes_on_from_the_encoder_and_without_one_from_the_keys_latents():
    base, old, gan, state = stages()
    networks = Generator(), Discriminator()
    search = Search(steps=20, rate=0.05)
    better: Any = inversion(base, *networks, Encoder(), optimizer=optim.adam(1e-2), kappa=0.3, search=search)
    before, after = gan.sample(state, None, BATCH), better.sample(state, None, BATCH)
    assert (after["score"] < before["score"]).all()
    alone: Any = searching(base, *networks, search=search, kappa=0.3)
    keys = random.from_seeds(jnp.arange(4))
    drawn = base.sample(old, keys)
    np.testing.assert_array_equal(alone.sample(old, keys), drawn)
    found = alone.sample(old, keys, BATCH)
    apart = np.square(IMAGES - np.asarray(drawn)).reshape(4, -1).mean(1)
    assert (found["pixels"] < apart).all()
    np.testing.assert_allclose(found["score"], found["pixels"] + 0.3 * found["features"], rtol=1e-5)
    with pytest.raises(ValueError, match="takes no labels"):
        alone.sample(old, keys, jnp.arange(4))
