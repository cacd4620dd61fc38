"""What `adversarial` is told of labels and of how a trained generator is sampled: an auxiliary classifier,
truncation, standing statistics, attention."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganjax import random, sampling
from ganjax.families.adversarial import DISCRIMINATOR, GENERATOR, adversarial
from ganjax.layers import BatchNorm, Embed, SelfAttention, SpectralDense
from ganjax.step import create_state, step_context, train_step

KEY = jax.random.key(7)
CLASSES, LATENTS, IMAGE = 3, 4, (2, 2, 1)
FAST: dict[str, Any] = {"xla_backend_optimization_level": 0}  # to compile
OPTIMIZERS = {GENERATOR: optax.sgd(0.1), DISCRIMINATOR: optax.sgd(0.1)}


class Painter(nn.Module):
    """A dense generator; its norm and its spectral vectors are what training leaves behind."""

    attention: int = 0
    norm: bool = True
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents, labels, *, train):
        x = jnp.concatenate([latents, Embed(CLASSES, 2)(labels)], axis=-1)
        x = SpectralDense(4)(x, train=train)
        if self.norm:
            x = BatchNorm(axis_name=self.axis_name)(x, train=train)
        x = x.reshape(-1, *IMAGE)
        for _ in range(self.attention):
            x = SelfAttention()(x, train=train)
        return jnp.tanh(x)


class Judge(nn.Module):
    """A linear discriminator with an auxiliary classifier."""

    sows: bool = True

    @nn.compact
    def __call__(self, images, labels, *, train):
        x = images.reshape(images.shape[0], -1)
        logits = nn.Dense(CLASSES, name="classes")(x)
        if self.sows:
            self.sow("intermediates", "class_logits", logits)
        return nn.Dense(1)(x).squeeze(-1)


def make(generator: nn.Module | None = None, discriminator: nn.Module | None = None, **arguments) -> Any:
    return adversarial(
        generator or Painter(),
        discriminator or Judge(),
        latent_size=LATENTS,
        num_classes=CLASSES,
        optimizers=OPTIMIZERS,
        **arguments,
    )


def batch_of(size: int = 8) -> dict:
    draw = np.random.default_rng(size)
    return {
        "image": jnp.asarray(draw.uniform(-1, 1, (size, *IMAGE)), jnp.float32),
        "label": jnp.asarray(draw.integers(0, CLASSES, size), jnp.int32),
    }


def losses_of(gan):
    batch = batch_of()
    state = create_state(gan, KEY, batch)

    def both(state):
        context = step_context(state, batch, KEY)
        return [phase.loss(state.params[phase.player], state, batch, context) for phase in gan.phases]

    return state, jax.jit(both, compiler_options=FAST)(state)


@pytest.mark.slow
@pytest.mark.parametrize("joined", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_both_players_minimise_the_classifiers_errors(joined):
    state, (of_d, of_g) = losses_of(make(classification=2.0, joined=joined))
    _, (plain_d, plain_g) = losses_of(make(joined=joined))
    batch = batch_of()
    context = step_context(state, batch, KEY)
    labels = random.randint(context.example_keys("label"), 0, CLASSES)
    latents = random.normal(context.example_keys("z"), (LATENTS,))
    variables = {"params": state.params[GENERATOR], **state.stats[GENERATOR]}
    fake, _ = Painter().apply(variables, latents, labels, train=True, mutable=list(state.stats[GENERATOR]))
    layer = jax.tree.map(np.asarray, state.params[DISCRIMINATOR]["classes"])

    def error(images, labels):
        """-log softmax, by hand."""
        logits = np.asarray(images).reshape(8, -1) @ layer["kernel"] + layer["bias"]
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return -np.log(shares[np.arange(8), np.asarray(labels)]).mean()

    real, generated = error(batch["image"], batch["label"]), error(fake, labels)
    np.testing.assert_allclose(of_d[1].metrics["classification"], 2 * (real + generated), rtol=1e-5)
    np.testing.assert_allclose(of_d[0] - plain_d[0], 2 * (real + generated), rtol=1e-4)
    np.testing.assert_allclose(of_g[1].metrics["generator_classification"], 2 * generated, rtol=1e-5)
    np.testing.assert_allclose(of_g[0] - plain_g[0], 2 * generated, rtol=1e-4)
    assert jax.tree.structure(of_d[1].stats) == jax.tree.structure(plain_d[1].stats)


def test_a_discriminator_without_a_classifier_is_refused():
    with pytest.raises(ValueError, match='sows "class_logits"'):
        losses_of(make(discriminator=Judge(sows=False), classification=1.0))
    with pytest.raises(ValueError, match=r"classification=1.0: there are no classes"):
        adversarial(Painter(), Judge(), latent_size=2, optimizers=OPTIMIZERS, classification=1.0)


@pytest.mark.slow
def test_accumulating_gives_the_gradients_of_the_whole_batch():
    """Where no statistics of the batch are used."""
    batch = batch_of()
    plain = Painter(norm=False)
    states = []
    for parts in (1, 4):
        gan = make(plain, accumulate=parts, classification=1.0)
        state = create_state(gan, KEY, batch)
        step = jax.jit(functools.partial(train_step, gan), compiler_options=FAST)
        states.append(step(state, batch, KEY)[0].params[DISCRIMINATOR])
    for whole, split in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(split, whole, rtol=1e-4, atol=1e-6)


KEYS = random.from_seeds(np.arange(500, dtype=np.uint32))


def test_truncation_by_drawing_again():
    """Entries within stay; others are drawn within, and are a truncated normal's."""
    gan = make()
    plain, cut = np.asarray(gan.latents(KEYS)), np.asarray(gan.latents(KEYS, truncation=0.7))
    inside = np.abs(plain) <= 0.7
    np.testing.assert_array_equal(cut[inside], plain[inside])
    assert np.abs(cut).max() <= 0.7
    again = cut[~inside]
    assert (again != np.clip(plain[~inside], -0.7, 0.7)).all()
    # The standard deviation of a standard normal within 0.7: sqrt(1 - 2 * 0.7 * pdf(0.7) / 0.516).
    assert again.std() == pytest.approx(0.3897, abs=0.02)
    assert cut.std() == pytest.approx(0.3897, abs=0.02)
    np.testing.assert_array_equal(gan.latents(KEYS[:3], truncation=0.7), cut[:3])


def test_truncation_by_clamping():
    gan = make()
    cut = gan.latents(KEYS, truncation=0.7, truncation_mode="clamp")
    np.testing.assert_array_equal(cut, np.clip(gan.latents(KEYS), -0.7, 0.7))


def test_samples_are_of_the_truncated_latents():
    gan = make()
    state, labels = create_state(gan, KEY, batch_of()), jnp.zeros(4, jnp.int32)
    options = {"truncation": 0.3, "truncation_mode": "clamp"}
    expected = gan.sample(state, None, labels, latents=gan.latents(KEYS[:4], **options))
    np.testing.assert_array_equal(gan.sample(state, KEYS[:4], labels, **options), expected)
    drawn = sampling.Sampler(gan, 4)(state, [0, 1, 2, 3], [0] * 4, options=options)
    np.testing.assert_allclose(drawn, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": 0.0}, r"truncation=0.0: expected a number above 0"),
        ({"truncation": float("nan")}, r"truncation=nan: expected a number above 0"),
        (
            {"truncation": 1.0, "truncation_mode": "fold"},
            r"truncation_mode='fold': expected resample or clamp",
        ),
    ],
)
def test_wrong_truncation_is_refused(options, message):
    gan = make()
    with pytest.raises(ValueError, match=message):
        gan.latents(KEYS, **options)
    state = create_state(gan, KEY, batch_of())
    with pytest.raises(ValueError, match="of latents that are drawn"):
        gan.sample(state, KEYS[:1], jnp.zeros(1, jnp.int32), latents=jnp.zeros((1, LATENTS)), truncation=1.0)


def test_a_mixture_of_classes_lies_between_them():
    gan = make(Painter(norm=False))
    state = create_state(gan, KEY, batch_of())
    keys = KEYS[:1]
    ends = [np.arctanh(gan.sample(state, keys, jnp.array([label]))) for label in (0, 2)]
    middle = np.arctanh(gan.sample(state, keys, jnp.array([[0.5, 0.0, 0.5]])))
    np.testing.assert_allclose(middle, (ends[0] + ends[1]) / 2, rtol=1e-3, atol=1e-5)


def test_standing_statistics_are_those_of_all_batches_as_one():
    gan = make(standing_batch=5, ema_decay=lambda step: jnp.float32(0.5))
    state = create_state(gan, KEY, batch_of())
    state = state.replace(ema={GENERATOR: jax.tree.map(lambda x: 1.5 * x, state.ema[GENERATOR])})
    state = jax.device_get(state)
    state, _ = gan.prepare(state, standing_statistics=30)  # the random vectors of spectral norms settle
    found, facts = gan.prepare(state, standing_statistics=60)
    assert facts == {"standing_statistics": "60 batches of 5"}
    # By hand: what goes into the norm, of the averaged weights, once the power iteration has settled.
    stream = random.stream(jax.random.key(0, impl="threefry2x32"), "standing statistics")
    latents = random.normal(random.per_example(random.stream(stream, "z"), jnp.arange(300)), (LATENTS,))
    labels = random.randint(random.per_example(random.stream(stream, "label"), jnp.arange(300)), 0, CLASSES)
    params: Any = state.ema[GENERATOR]
    x = np.concatenate([latents, np.asarray(params["Embed_0"]["embedding"])[np.asarray(labels)]], axis=1)
    kernel, bias = (np.asarray(params["SpectralDense_0"][name]) for name in ("kernel", "bias"))
    x = x @ kernel / np.linalg.svd(kernel, compute_uv=False)[0] + bias
    stats = found.stats[GENERATOR]["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], x.mean(axis=0), rtol=0.02, atol=0.01)
    np.testing.assert_allclose(stats["var"], x.var(axis=0), rtol=0.05)
    # The same every time; nothing else of the state moves; the form is that of a state.
    again, _ = gan.prepare(state, standing_statistics=60)
    jax.tree.map(np.testing.assert_array_equal, again.stats, found.stats)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for part in ("params", "ema"):
        jax.tree.map(np.testing.assert_array_equal, getattr(found, part), getattr(state, part))
    jax.tree.map(np.testing.assert_array_equal, found.stats[DISCRIMINATOR], state.stats[DISCRIMINATOR])


def test_standing_statistics_by_default():
    batch = batch_of()
    for default, options, facts in (
        (0, {}, {}),
        (2, {}, {"standing_statistics": "2 batches of 64"}),
        (2, {"standing_statistics": 0}, {}),
    ):
        gan = make(standing_statistics=default)
        state = jax.device_get(create_state(gan, KEY, batch))
        found, said = sampling.prepared(gan, state, options)
        assert said == facts
        assert (found is state) == (not facts)


def test_standing_statistics_need_batch_statistics():
    gan = make(Painter(norm=False))
    state = create_state(gan, KEY, batch_of())
    with pytest.raises(ValueError, match="this generator has no batch statistics"):
        gan.prepare(state, standing_statistics=1)
    bare = gan._replace(prepare=None)
    assert sampling.prepared(bare, state) == (state, {})
    with pytest.raises(ValueError, match="this model has no standing_statistics"):
        sampling.prepared(bare, state, {"standing_statistics": 1})


@pytest.mark.slow
def test_attention_can_be_asked_for():
    gan = make(Painter(attention=1))
    state, labels = create_state(gan, KEY, batch_of()), jnp.zeros(2, jnp.int32)
    weights = gan.sample(state, KEYS[:2], labels, attention=True)
    assert weights.shape == (2, 2, 2, 1, 1)
    np.testing.assert_allclose(jnp.sum(weights, axis=(3, 4)), 1.0, rtol=1e-6)
    for count in (0, 2):
        gan = make(Painter(attention=count))
        state = jax.eval_shape(lambda gan=gan: create_state(gan, KEY, batch_of()))
        with pytest.raises(ValueError, match=f"one layer of attention, not {count}"):
            jax.eval_shape(lambda x, gan=gan: gan.sample(x, KEYS[:2], labels, attention=True), state)
