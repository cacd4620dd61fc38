"""Path length regularization of a linear generator, where it can be worked out, in double precision."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random
from ganjax.families.adversarial import GENERATOR
from ganjax.families.path_length import PATH_LENGTH, path_lengths, with_path_length
from ganjax.gan import Effects
from ganjax.step import create_state, step_context, train_step
from tests.families.test_adversarial_tricks import KEY, batch_of, make

LAYERS, STYLE, SHAPE = 3, 5, (2, 4, 1)


@pytest.fixture
def in_double_precision():
    with jax.enable_x64(True):
        yield


def test_of_a_linear_generator(in_double_precision):
    draw = np.random.default_rng(0)
    matrices = draw.normal(size=(LAYERS, STYLE, 8))
    styles, noise = draw.normal(size=(2, LAYERS, STYLE)), draw.normal(size=(2, *SHAPE))

    def images_of(styles):
        return jnp.einsum("nls,lsp->np", styles, jnp.asarray(matrices)).reshape(-1, *SHAPE)

    found = path_lengths(images_of, jnp.asarray(styles), jnp.asarray(noise))
    for example in range(2):
        gradients = matrices @ noise[example].ravel() / np.sqrt(8)
        expected = np.sqrt(np.mean(np.sum(gradients**2, axis=1)))
        assert float(found[example]) == pytest.approx(expected, rel=1e-12)


def test_where_nothing_depends_on_styles():
    styles, noise = jnp.ones((2, LAYERS, STYLE)), jnp.ones((2, *SHAPE))
    gradient = jax.grad(
        lambda a: jnp.sum(path_lengths(lambda s: a * jnp.sum(s) * jnp.ones(noise.shape), styles, noise))
    )(0.0)
    assert np.isfinite(gradient)


class Linear(nn.Module):
    """Its images are all pixels' sums of styles, times one number."""

    def __call__(self, latents, labels=None, *, train, keys=None):
        return self.images(self.styles(latents, labels, train=train, keys=keys), keys)

    def styles(self, latents, labels=None, *, train, keys=None):
        del labels, train, keys
        return jnp.repeat(latents[:, None], 2, axis=1)

    @nn.compact
    def images(self, styles, keys=None):
        del keys
        strength = self.param("strength", nn.initializers.constant(3.0), ())
        return strength * jnp.broadcast_to(
            jnp.sum(styles, axis=(1, 2))[:, None, None, None], (len(styles), 2, 2, 1)
        )


def test_the_phase():
    generator = Linear()
    options: dict[str, Any] = {"latent_size": 3, "weight": 2.0, "interval": 4, "shrink": 2, "decay": 0.25}
    gan = with_path_length(make(generator), generator, **options)
    phase = gan.phases[-1]
    assert phase.player == GENERATOR
    assert [step for step in range(9) if phase.due(step)] == [3, 7]
    rarely = with_path_length(make(generator), generator, **options, stride=2).phases[-1]
    assert [step for step in range(17) if rarely.due(step)] == [7, 15]
    batch = batch_of()
    state = create_state(gan, KEY, batch)
    assert float(state.carry[PATH_LENGTH]) == 0
    context = step_context(state, batch, KEY)
    context = context._replace(key=random.stream(context.key, phase.stream))
    value, effects = phase.loss(state.params[GENERATOR], state, batch, context)
    # Every second example of the batch; the noise is what the step draws for it.
    halved = context._replace(index=context.index[::2])
    noise = np.asarray(random.normal(halved.example_keys("noise"), (2, 2, 1))).reshape(4, 4)
    lengths = 3.0 * np.sqrt(3) * np.abs(noise.sum(axis=1)) / 2
    mean = 0.25 * lengths.mean()
    assert isinstance(effects, Effects)
    assert float(effects.metrics["path_length"]) == pytest.approx(lengths.mean(), rel=1e-5)
    assert float(effects.carry[PATH_LENGTH]) == pytest.approx(mean, rel=1e-5)
    penalty = 2 * np.mean(np.square(lengths - mean))
    assert float(effects.metrics["path_length_penalty"]) == pytest.approx(penalty, rel=1e-4)
    assert float(value) == pytest.approx(4 * penalty, rel=1e-4)
    after, _ = train_step(gan, state, batch, KEY, due=(len(gan.phases) - 1,))
    gradient = 4 * 2 * np.mean(2 * (lengths - mean) * lengths / 3)  # the mean is taken as it is
    moved = float(after.params[GENERATOR]["strength"] - state.params[GENERATOR]["strength"])
    assert moved == pytest.approx(-0.1 * gradient, rel=1e-3)
    assert float(after.carry[PATH_LENGTH]) == pytest.approx(mean, rel=1e-5)
    context = context._replace(index=context.index[:3])
    with pytest.raises(ValueError, match="path_length_shrink=2"):
        phase.loss(state.params[GENERATOR], state, batch, context)


@pytest.mark.slow
def test_few_examples_on_a_device():
    """The same as of the whole batch, whatever the number of devices."""
    if jax.device_count() < 4:
        pytest.skip("needs four devices")
    generator = Linear()
    gan = with_path_length(make(generator), generator, latent_size=3, shrink=2)
    phase, batch = gan.phases[-1], batch_of(4)
    state = create_state(gan, KEY, batch)
    context = step_context(state, batch, KEY)

    def loss(batch, index):
        value, effects = phase.loss(
            state.params[GENERATOR], state, batch, context._replace(index=index, axis_name="data")
        )
        return value, effects.carry[PATH_LENGTH]

    each = jax.tree.map(lambda x: x[:, None], (batch, context.index))
    values, means = jax.pmap(loss, axis_name="data", devices=jax.devices()[:4])(*each)
    value, effects = phase.loss(state.params[GENERATOR], state, batch, context)
    assert float(jnp.mean(values)) == pytest.approx(float(value), rel=1e-5)
    np.testing.assert_allclose(means, float(effects.carry[PATH_LENGTH]), rtol=1e-5)
