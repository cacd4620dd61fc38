"""GANomaly, by networks worked out by hand."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import optim
from ganjax.families.ganomaly import ganomaly
from ganjax.gan import Context
from ganjax.nets.encoder import EncoderDecoderEncoder
from ganjax.step import create_state, train_step

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 2, 2, 1)).astype(np.float32)
BATCH = {"image": IMAGES}
WEIGHTS = {"adversarial": 0.5, "reconstruction": 7.0, "latent": 3.0}


class Generator(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        encode = nn.Dense(2, use_bias=False, name="encoder")(images.reshape(images.shape[0], -1))
        again = jnp.tanh(nn.Dense(4, use_bias=False, name="decoder")(encode))
        return again.reshape(images.shape), encode, nn.Dense(2, use_bias=False, name="again")(again)


class Discriminator(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(3, use_bias=False, name="hidden")(images.reshape(images.shape[0], -1))
        self.sow("intermediates", "features", x)
        return nn.Dense(1, use_bias=False, name="logit")(x)[:, 0]


def made():
    rates: Any = dict.fromkeys(("generator", "discriminator"), optim.adam(1e-2))
    gan = ganomaly(Generator(), Discriminator(), optimizers=rates, **WEIGHTS)
    return gan, create_state(gan, KEY, BATCH)


def by_hand(state):
    kernel = lambda player, name: np.asarray(state.params[player][name]["kernel"])  # noqa: E731
    flat = IMAGES.reshape(4, 4)
    latents = flat @ kernel("generator", "encoder")
    again = np.tanh(latents @ kernel("generator", "decoder"))
    found = again @ kernel("generator", "again")
    features = [x @ kernel("discriminator", "hidden") for x in (flat, again)]
    logits = [(x @ kernel("discriminator", "logit"))[:, 0] for x in features]
    return flat, again, latents, found, features, logits


def test_the_losses_by_hand():
    gan, state = made()
    flat, again, latents, found, (real, fake), (real_logits, fake_logits) = by_hand(state)
    d, g = gan.phases
    context = Context(KEY, jnp.arange(4))
    value, _ = d.loss(state.params["discriminator"], state, BATCH, context)
    assert float(value) == pytest.approx(
        float(np.mean(np.log1p(np.exp(-real_logits))) + np.mean(np.log1p(np.exp(fake_logits)))), rel=1e-5
    )
    value, effects = g.loss(state.params["generator"], state, BATCH, context)
    parts = {
        "feature_residual": np.square(real - fake).mean(),
        "l1": np.abs(flat - again).mean(),
        "latent_residual": np.square(latents - found).mean(),
    }
    for name, part in parts.items():
        assert float(effects.metrics[name]) == pytest.approx(float(part), rel=1e-5)
    assert float(value) == pytest.approx(float(np.dot([0.5, 7.0, 3.0], list(parts.values()))), rel=1e-5)


def test_the_score_is_the_latents_distance():
    gan, state = made()
    flat, again, latents, found, *_ = by_hand(state)
    answer = gan.sample(state, None, BATCH)
    np.testing.assert_allclose(answer["score"], np.square(latents - found).mean(1), rtol=1e-4)
    np.testing.assert_allclose(answer["pixels"], np.square(flat - again).mean(1), rtol=1e-4)
    np.testing.assert_allclose(answer["reconstruction"].reshape(4, 4), again, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="given images"):
        gan.sample(state, None, {"label": jnp.arange(4)})


def test_it_learns():
    gan, state = made()
    before = gan.sample(state, None, BATCH)["pixels"].mean()
    for _ in range(5):
        state, _ = train_step(gan, state, BATCH, KEY)
    assert gan.sample(state, None, BATCH)["pixels"].mean() < before


def test_the_three_networks_of_one():
    network = EncoderDecoderEncoder((8, 8, 3), 5, width=2, stages=2, hidden=3)
    images = jnp.zeros((2, 8, 8, 3))
    made: Any = jax.eval_shape(lambda: network.init(KEY, images, train=True))
    assert set(made["params"]) == {"encoder", "decoder", "again"}
    assert set(made["batch_stats"]) == {"decoder"}
    found: Any = jax.eval_shape(lambda: network.init_with_output(KEY, images, train=True))[0]
    assert [x.shape for x in found] == [(2, 8, 8, 3), (2, 5), (2, 5)]
