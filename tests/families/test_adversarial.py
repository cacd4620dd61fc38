import functools
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganjax import losses
from ganjax.families.adversarial import DISCRIMINATOR, GENERATOR, adversarial
from ganjax.layers import BatchNorm, lowering
from ganjax.nets.conditional import ConditionalDiscriminator, ConditionalGenerator
from ganjax.step import create_state, step_context, train_step

KEY = jax.random.key(5)
LATENTS, CLASSES, IMAGE = 3, 4, (2, 2, 1)
OPTIMIZERS = {GENERATOR: optax.sgd(0.1), DISCRIMINATOR: optax.sgd(0.1)}


FAST: dict[str, Any] = {"xla_backend_optimization_level": 0}  # of machine code, not of the program


def ignore(arguments) -> None:
    del arguments


class Painter(nn.Module):
    """A dense generator; `look` is shown what it is called with."""

    num_classes: int
    look: Callable = ignore
    norm: bool = False

    @nn.compact
    def __call__(self, latents, labels, *, train):
        self.look((latents, labels))
        x = latents
        if self.num_classes:
            x = jnp.concatenate([x, jax.nn.one_hot(labels, self.num_classes)], axis=-1)
        x = nn.Dense(4)(x)
        if self.norm:
            x = BatchNorm()(x, train=train)
        return jnp.tanh(x).reshape(-1, *IMAGE)


class Judge(nn.Module):
    """A dense discriminator; `patches` gives a logit to every pixel."""

    num_classes: int
    look: Callable = ignore
    patches: bool = False

    @nn.compact
    def __call__(self, images, labels, *, train):
        self.look((images, labels))
        x = images.reshape(images.shape[0], -1)
        if self.num_classes:
            x = jnp.concatenate([x, jax.nn.one_hot(labels, self.num_classes)], axis=-1)
        return nn.Dense(4)(x).reshape(-1, *IMAGE) if self.patches else nn.Dense(1)(x).squeeze(-1)


def toy(num_classes=CLASSES, *, look=(ignore, ignore), norm=False, patches=False, **arguments):
    return adversarial(
        Painter(num_classes, look[0], norm),
        Judge(num_classes, look[1], patches),
        latent_size=LATENTS,
        num_classes=num_classes,
        optimizers=OPTIMIZERS,
        **arguments,
    )


def batch_of(size: int, num_classes: int = CLASSES) -> dict:
    draw = np.random.default_rng(size)
    images = jnp.asarray(draw.uniform(-1, 1, size=(size, *IMAGE)), jnp.float32)
    if not num_classes:
        return {"image": images}
    return {"image": images, "label": jnp.asarray(draw.integers(0, num_classes, size), jnp.int32)}


@pytest.fixture(scope="module", params=[CLASSES, 0], ids=["conditional", "unconditional"])
def num_classes(request):
    return request.param


@pytest.fixture(scope="module")
def gan(num_classes):
    return toy(num_classes, ema_decay=lambda step: jnp.float32(0.5), norm=True)


@pytest.fixture(scope="module")
def state(gan, num_classes):
    return create_state(gan, KEY, batch_of(2, num_classes))


def test_a_step_moves_both_and_sample_draws_from_the_average(gan, state, num_classes):
    batch = batch_of(8, num_classes)
    step = jax.jit(functools.partial(train_step, gan), compiler_options=FAST)
    after, metrics = step(state, batch, KEY)
    assert set(metrics) == {
        "discriminator_loss",
        "discriminator_accuracy",
        "real_logits",
        "fake_logits",
        "logit_gap",
        "generator_loss",
    }
    assert all(np.isfinite(float(value)) for value in metrics.values())
    for player in (GENERATOR, DISCRIMINATOR):
        kernel = "Dense_0", "kernel"
        before, moved = (s.params[player][kernel[0]][kernel[1]] for s in (state, after))
        assert np.abs(np.asarray(moved - before)).max() > 0
    assert not np.array_equal(
        after.stats[GENERATOR]["batch_stats"]["BatchNorm_0"]["mean"],
        state.stats[GENERATOR]["batch_stats"]["BatchNorm_0"]["mean"],
    )
    keys = jax.random.split(KEY, 3)
    labels = jnp.array([0, 1, 2]) if num_classes else None
    images = gan.sample(after, keys, labels)
    assert images.shape == (3, *IMAGE)
    # The averaged parameters with the running statistics; not those that train, not the batch's.
    variables = {"params": after.ema[GENERATOR], **after.stats[GENERATOR]}
    expected = Painter(num_classes, norm=True).apply(variables, gan.latents(keys), labels, train=False)
    np.testing.assert_array_equal(images, expected)
    plain = gan.sample(after.replace(ema={}), keys, labels)
    variables = {"params": after.params[GENERATOR], **after.stats[GENERATOR]}
    expected = Painter(num_classes, norm=True).apply(variables, gan.latents(keys), labels, train=False)
    np.testing.assert_array_equal(plain, expected)
    assert not np.array_equal(images, plain)
    # An image depends on its own key alone, and latents may be given.
    np.testing.assert_allclose(
        gan.sample(after, keys[1:2], labels if labels is None else labels[1:2])[0], images[1], rtol=1e-6
    )
    given = gan.sample(after, jax.random.split(jax.random.key(9), 3), labels, latents=gan.latents(keys))
    np.testing.assert_array_equal(given, images)


def test_sample_refuses_labels_or_misses_them(gan, state, num_classes):
    keys = jax.random.split(KEY, 2)
    if num_classes:
        with pytest.raises(ValueError, match=r"conditional.* label from 0 to 3"):
            gan.sample(state, keys)
    else:
        with pytest.raises(ValueError, match=r"unconditional.* no labels"):
            gan.sample(state, keys, jnp.array([0, 1]))


def test_generated_labels_are_uniform_and_go_to_both_networks():
    painted, judged = [], []
    gan, batch = toy(look=(painted.append, judged.append)), batch_of(4000)
    state = create_state(gan, KEY, batch)
    context = step_context(state, batch, KEY)
    for phase in gan.phases:
        painted.clear()
        judged.clear()
        phase.loss(state.params[phase.player], state, batch, context)
        ((latents, labels),) = painted
        counts = np.bincount(np.asarray(labels), minlength=CLASSES)
        assert counts.shape == (CLASSES,)
        # Chi-squared with 3 degrees of freedom: beyond 21.1 once in 10,000.
        assert (np.square(counts - 1000) / 1000).sum() < 21.1
        # They say nothing of the latents, nor of the real labels.
        together = np.column_stack([latents, labels, batch["label"]])
        assert np.abs(np.corrcoef(together, rowvar=False) - np.eye(LATENTS + 2)).max() < 5 / 4000**0.5
        np.testing.assert_array_equal(judged[-1][1], labels)
        if phase.player == DISCRIMINATOR:  # the real images come with their own labels
            np.testing.assert_array_equal(judged[0][0], batch["image"])
            np.testing.assert_array_equal(judged[0][1], batch["label"])
    assert len(judged) == 1  # the generator is judged on what it generates


@pytest.mark.parametrize("share", [True, False])
def test_shared_latents_are_one_draw_for_both_phases(share):
    painted = []
    gan, batch = toy(look=(painted.append, ignore), share_latents=share), batch_of(4)
    state = create_state(gan, KEY, batch)
    painted.clear()
    train_step(gan, state, batch, KEY)
    # The discriminator's phase, then the generator's; latents and labels are no functions of parameters,
    # so that they can be looked at inside the gradient.
    (first, first_labels), (second, second_labels) = painted
    assert np.array_equal(first, second) is share
    assert np.array_equal(first_labels, second_labels) is share
    assert len(np.unique(np.asarray(first))) == 4 * LATENTS


@pytest.mark.parametrize(
    ("loss", "boundary", "patches"),
    [
        (losses.NON_SATURATING, 0.0, False),
        (losses.LEAST_SQUARES, 0.5, False),
        (losses.HINGE, 0.0, False),
        (losses.WASSERSTEIN, None, False),
        (losses.LEAST_SQUARES, 0.5, True),
    ],
    ids=["non_saturating", "least_squares", "hinge", "wasserstein", "patches"],
)
def test_losses_and_metrics_by_hand(loss, boundary, patches):
    """Of a discriminator whose logits are its images' sums, or their pixels."""
    gan, batch = toy(0, loss=loss, patches=patches), batch_of(6, 0)
    state = create_state(gan, KEY, batch)
    kernel = jnp.eye(4) if patches else jnp.ones((4, 1))
    judge: Any = {"Dense_0": {"kernel": kernel, "bias": jnp.full(kernel.shape[1], 0.3)}}
    state = state.replace(params={**state.params, DISCRIMINATOR: judge})
    context = step_context(state, batch, KEY)
    assert gan.latents is not None
    latents = gan.latents(context.example_keys("z"))
    fakes = Painter(0).apply({"params": state.params[GENERATOR]}, latents, None, train=True)
    real, fake = (
        np.asarray(x, np.float64).reshape(-1, 1 if patches else 4).sum(1) + 0.3
        for x in (batch["image"], fakes)
    )
    value, effects = gan.phases[0].loss(judge, state, batch, context)
    expected = float(np.mean(loss.discriminator(jnp.asarray(real), jnp.asarray(fake))))
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(effects.metrics["real_logits"], real.mean(), rtol=1e-4)
    np.testing.assert_allclose(effects.metrics["fake_logits"], fake.mean(), rtol=1e-4)
    if boundary is None:
        assert "discriminator_accuracy" not in effects.metrics
    else:
        right = ((real > boundary).mean() + (fake < boundary).mean()) / 2
        np.testing.assert_allclose(effects.metrics["discriminator_accuracy"], right, rtol=1e-6)
    value, effects = gan.phases[1].loss(state.params[GENERATOR], state, batch, context)
    np.testing.assert_allclose(value, float(np.mean(loss.generator(jnp.asarray(fake)))), rtol=1e-4)
    assert set(effects.metrics) == {"generator_loss"}


def products(compiled) -> int:
    return len(re.findall(r" (?:convolution|dot)\(", compiled.as_text()))


@pytest.mark.slow
@pytest.mark.parametrize("winograd", [False, True])
def test_phases_that_share_latents_share_the_generators_pass(winograd, monkeypatch, request):
    """Counted in the optimised program: XLA merges the passes only if both are lowered alike."""
    if winograd:  # which at this size would not be chosen
        monkeypatch.setattr(
            lowering, "_winograd_tiles", lambda count, output, taps, *_: (2, 2) if taps == (2, 2) else None
        )
        jax.clear_caches()  # a form is traced once for a geometry
        request.addfinalizer(jax.clear_caches)
    generator = ConditionalGenerator((8, 8, 1), 3, width=4)

    def program(share: bool, devices: int = 1):
        gan = adversarial(
            generator,
            ConditionalDiscriminator(3, width=4),
            latent_size=4,
            num_classes=3,
            optimizers=OPTIMIZERS,
            share_latents=share,
        )
        batch = {"image": jnp.zeros((4, 8, 8, 1)), "label": jnp.zeros(4, jnp.int32)}
        state = jax.eval_shape(lambda: create_state(gan, KEY, batch))
        if devices == 1:
            step = jax.jit(functools.partial(train_step, gan))
        else:
            step = jax.pmap(
                functools.partial(train_step, gan, axis_name="data"),
                "data",
                in_axes=(None, 0, None),
                devices=jax.devices()[:devices],
            )
            batch = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
        return step.lower(state, batch, KEY).compile(compiler_options=FAST)

    def forward(variables, latents, labels):
        return generator.apply(variables, latents, labels, train=True, mutable=["batch_stats"])

    inputs = jnp.zeros((4, 4)), jnp.zeros(4, jnp.int32)
    variables = jax.eval_shape(lambda: generator.init(KEY, *inputs, train=True))
    alone = products(jax.jit(forward).lower(variables, *inputs).compile(compiler_options=FAST))
    assert alone > (10 if winograd else 2)
    shared = products(program(True))
    assert products(program(False)) - shared == alone
    assert products(program(True, devices=2)) == shared
