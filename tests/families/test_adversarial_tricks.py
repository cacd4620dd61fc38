"""What `adversarial` can be asked for besides: penalties, augmentation, unequal steps, features, top k."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import gan_ring
from ganjax import losses, regularizers
from ganjax.families import penalties
from ganjax.families.adversarial import DISCRIMINATOR, GENERATOR, adversarial
from ganjax.gan import Context, due_phases, every
from ganjax.layers import BatchNorm, Dropout
from ganjax.optim import clip_all
from ganjax.step import create_state, step_context, train_step

KEY = jax.random.key(7)
LATENTS, IMAGE = 3, (2, 2, 1)
OPTIMIZERS = {GENERATOR: optax.sgd(0.1), DISCRIMINATOR: optax.sgd(0.1)}
FAST: dict[str, Any] = {"xla_backend_optimization_level": 0}


class Painter(nn.Module):
    """A dense generator that may drop out."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, latents, labels, *, train, keys=None):
        return jnp.tanh(Dropout(self.dropout)(nn.Dense(4)(latents), keys)).reshape(-1, *IMAGE)


class Judge(nn.Module):
    """A linear discriminator, whose gradient is its kernel."""

    norm: bool = False
    sows: bool = True
    patches: bool = False

    @nn.compact
    def __call__(self, images, labels, *, train):
        x = images.reshape(images.shape[0], -1)
        if self.norm:
            x = BatchNorm(use_scale=False, use_bias=False)(x, train=train)
        if self.sows:
            self.sow("intermediates", "features", 2 * x)
        if self.patches:
            return nn.Dense(4)(x).reshape(-1, *IMAGE)
        return nn.Dense(1)(x).squeeze(-1)


def make(generator: nn.Module | None = None, discriminator: nn.Module | None = None, **arguments):
    return adversarial(
        generator or Painter(),
        discriminator or Judge(),
        latent_size=LATENTS,
        optimizers=arguments.pop("optimizers", OPTIMIZERS),
        **arguments,
    )


def batch_of(size: int = 8) -> dict:
    return {"image": jnp.asarray(np.random.default_rng(size).uniform(-1, 1, (size, *IMAGE)), jnp.float32)}


def losses_of(gan, state=None, batch=None):
    """(value, effects) of D's phase and of G's."""
    batch = batch or batch_of()
    state = state or create_state(gan, KEY, batch)
    context = step_context(state, batch, KEY)
    return [phase.loss(state.params[phase.player], state, batch, context) for phase in gan.phases]


def fakes_of(gan, state, batch) -> np.ndarray:
    """What the generator makes in both phases of this step, outside of a phase's stream."""
    latents = gan.latents(step_context(state, batch, KEY).example_keys("z"))
    made: Any = Painter().apply({"params": state.params[GENERATOR]}, latents, None, train=True)
    return np.asarray(made)


def kernel_of(gan) -> np.ndarray:
    return np.asarray(create_state(gan, KEY, batch_of()).params[DISCRIMINATOR]["Dense_0"]["kernel"])


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (penalties.r1(10.0), lambda square: 5 * square),
        (penalties.r2(10.0), lambda square: 5 * square),
        (penalties.gradient_penalty(3.0), lambda square: 3 * (square**0.5 - 1) ** 2),
        (penalties.gradient_penalty(3.0, one_sided=True), lambda square: 3 * max(square**0.5 - 1, 0) ** 2),
        (penalties.dragan(3.0), lambda square: 3 * (square**0.5 - 1) ** 2),
    ],
    ids=["r1", "r2", "gradient_penalty", "one_sided", "dragan"],
)
@pytest.mark.parametrize("patches", [False, True])
def test_gradient_penalties_of_a_linear_discriminator(penalty, expected, patches):
    plain, gan = make(discriminator=Judge(patches=patches)), None
    gan = make(discriminator=Judge(patches=patches), penalties={"named": penalty})
    gradient = kernel_of(gan).sum(axis=1)  # of the sum of an image's logits
    wanted = expected(float(np.square(gradient).sum()))
    (value, effects), (_, of_generator) = losses_of(gan)
    np.testing.assert_allclose(effects.metrics["named"], wanted, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(value - losses_of(plain)[0][0], wanted, rtol=1e-4, atol=1e-6)
    assert "named" not in of_generator.metrics


def test_drift_is_the_mean_squared_logit_of_real_images():
    plain, gan = make(), make(penalties={"named": penalties.drift(0.5)})
    batch = batch_of()
    logits = np.asarray(batch["image"]).reshape(len(batch["image"]), -1) @ kernel_of(gan)
    (value, effects), (_, of_generator) = losses_of(gan)
    np.testing.assert_allclose(effects.metrics["named"], 0.5 * np.mean(logits**2), rtol=1e-5)
    np.testing.assert_allclose(value - losses_of(plain)[0][0], 0.5 * np.mean(logits**2), rtol=1e-4)
    assert "named" not in of_generator.metrics


def test_lecam_remembers_means_of_logits():
    gan = make(penalties={"lecam": penalties.lecam(2.0, decay=0.5)})
    batch = batch_of()
    first, metrics = train_step(gan, create_state(gan, KEY, batch), batch, KEY)
    assert float(metrics["lecam"]) == 0  # nothing to compare with yet
    second, further = train_step(gan, first, batch, KEY)
    assert float(further["lecam"]) > 0
    for kind in ("real", "fake"):
        before = float(metrics[f"{kind}_logits"])
        np.testing.assert_allclose(getattr(first.carry["lecam"], kind), before, rtol=1e-6)
        mean = 0.5 * (before + float(further[f"{kind}_logits"]))
        np.testing.assert_allclose(getattr(second.carry["lecam"], kind), mean, rtol=1e-6)


def test_consistency_compares_logits_of_changed_images():
    shift = lambda images, keys: images + 0.5  # noqa: E731
    gan = make(penalties={"c": penalties.consistency(3.0, shift)})
    change = 0.5 * kernel_of(gan).sum()
    np.testing.assert_allclose(losses_of(gan)[0][1].metrics["c"], 3 * change**2, rtol=1e-4)
    both = make(penalties={"c": penalties.consistency(3.0, shift, generated=True)})
    np.testing.assert_allclose(losses_of(both)[0][1].metrics["c"], 6 * change**2, rtol=1e-4)


@pytest.mark.parametrize("joined", [False, True])
def test_consistency_of_images_that_do_not_change_is_0(joined):
    same = penalties.consistency(3.0, lambda images, keys: images, generated=True)
    gan = make(discriminator=Judge(norm=True), joined=joined, penalties={"same": same})
    assert float(losses_of(gan)[0][1].metrics["same"]) == 0


def squared(tree) -> jax.Array:
    return jnp.stack([jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree)]).sum()


def test_weight_penalties_of_both_players():
    penalty = regularizers.WeightPenalty(
        init=lambda params: {"count": jnp.zeros(())},
        apply=lambda params, memory: (squared(params), {"count": memory["count"] + 1}),
    )
    weighed = {GENERATOR: {"size": (0.5, penalty)}, DISCRIMINATOR: {"size": (2.0, penalty)}}
    gan = make(weight_penalties=weighed)
    batch = batch_of()
    state = create_state(gan, KEY, batch)
    for (value, effects), player, weight in zip(
        losses_of(gan), (DISCRIMINATOR, GENERATOR), (2, 0.5), strict=True
    ):
        wanted = weight * float(squared(state.params[player]))
        np.testing.assert_allclose(effects.metrics[f"{player}_size"], wanted, rtol=1e-5)
        np.testing.assert_allclose(value - effects.metrics[f"{player}_loss"], wanted, rtol=1e-4)
    after, _ = train_step(gan, state, batch, KEY)
    assert {name: int(memory["count"]) for name, memory in after.carry.items()} == {
        "generator_size": 1,
        "discriminator_size": 1,
    }


def test_exchanged_labels():
    """All of them: the loss of a discriminator that is told the contrary. None: as without."""
    plain = losses_of(make())[0]
    real, fake = None, None
    seen: list = []
    spy = losses.AdversarialLoss(
        lambda a, b: (seen.append((a, b)), losses.NON_SATURATING.discriminator(a, b))[1],
        losses.NON_SATURATING.generator,
    )
    losses_of(make(loss=spy))
    real, fake = seen.pop()
    value = losses_of(make(swap_labels=1.0))[0][0]
    np.testing.assert_allclose(value, jnp.mean(losses.NON_SATURATING.discriminator(fake, real)), rtol=1e-6)
    losses_of(make(loss=spy, swap_labels=0.5), batch=batch_of(64))
    mixed, _ = seen.pop()
    losses_of(make(loss=spy), batch=batch_of(64))
    straight, contrary = seen.pop()
    from_real, from_fake = np.asarray(mixed == straight), np.asarray(mixed == contrary)
    assert (from_real ^ from_fake).all()
    assert 16 < from_fake.sum() < 48
    metrics = losses_of(make(swap_labels=1.0))[0][1].metrics
    assert metrics["real_logits"] == plain[1].metrics["real_logits"]  # what it says, not what it was told


def test_joined_batches_share_their_statistics():
    apart, joined = (losses_of(make(joined=j))[0] for j in (False, True))
    np.testing.assert_allclose(apart[0], joined[0], rtol=1e-6)  # where there are none
    apart, joined = (losses_of(make(discriminator=Judge(norm=True), joined=j))[0] for j in (False, True))
    # Centred by its own batch, each kind has a mean logit of 0; together they only have one of 0 in all.
    bias = 0.0  # as initialised
    for kind in ("real_logits", "fake_logits"):
        np.testing.assert_allclose(apart[1].metrics[kind], bias, atol=1e-5)
        assert abs(float(joined[1].metrics[kind])) > 1e-2
    np.testing.assert_allclose(sum(joined[1].metrics[f"{k}_logits"] for k in ("real", "fake")), 0, atol=1e-5)
    mean = joined[1].stats[DISCRIMINATOR]["batch_stats"]["BatchNorm_0"]["mean"]
    gan = make()
    batch = batch_of()
    state = create_state(gan, KEY, batch)
    fakes = fakes_of(gan, state, batch)
    together = np.concatenate([batch["image"], fakes]).reshape(16, 4).mean(axis=0)
    np.testing.assert_allclose(mean, 0.1 * together, rtol=1e-4, atol=1e-6)


def test_an_augmentation_is_seen_by_the_discriminator_in_both_phases():
    calls: list = []

    def augment(images, keys, step):
        calls.append((np.asarray(jax.random.key_data(keys)), int(step)))
        return images + 1.0

    gan, plain = make(augment=augment), make()
    batch = batch_of()
    state = create_state(gan, KEY, batch).replace(step=jnp.int32(5))
    change = kernel_of(gan).sum()
    (_, d), (_, g) = losses_of(gan, state, batch)
    (_, d_plain), (_, g_plain) = losses_of(plain, state, batch)
    for name in ("real_logits", "fake_logits"):
        np.testing.assert_allclose(d.metrics[name] - d_plain.metrics[name], change, rtol=1e-4)
    assert float(g.metrics["generator_loss"]) != float(g_plain.metrics["generator_loss"])
    assert [step for _, step in calls] == [5, 5, 5]
    keys = [k for k, _ in calls]
    assert not np.array_equal(keys[0], keys[1])
    assert len(np.unique(np.concatenate(keys[:2]), axis=0)) == 16
    np.testing.assert_array_equal(keys[1], keys[2])  # one and the same view of a generated image


def test_feature_matching():
    gan = make(feature_matching=3.0, adversarial_weight=0.5)
    batch = batch_of()
    state = create_state(gan, KEY, batch)
    fakes = fakes_of(gan, state, batch)
    difference = 2 * (np.asarray(batch["image"]).mean(axis=0) - fakes.mean(axis=0))
    _, (value, effects) = losses_of(gan, state, batch)
    wanted = 3 * float(np.square(difference).sum())
    np.testing.assert_allclose(effects.metrics["feature_matching"], wanted, rtol=1e-4)
    np.testing.assert_allclose(value, wanted + 0.5 * effects.metrics["generator_loss"], rtol=1e-5)
    assert jax.tree.structure(effects.stats[GENERATOR]) == jax.tree.structure(state.stats[GENERATOR])
    with pytest.raises(ValueError, match="sows its"):
        losses_of(make(discriminator=Judge(sows=False), feature_matching=1.0))


def test_the_generator_learns_from_the_best():
    gan = make(top_k=lambda step: jnp.float32(0.4))  # of 8: 3.2, so 3
    plain = make()
    batch = batch_of()
    state = create_state(gan, KEY, batch)
    fakes = fakes_of(gan, state, batch)
    logits = Judge().apply({"params": state.params[DISCRIMINATOR]}, fakes, None, train=True)
    best = np.sort(np.asarray(logits))[-3:]
    wanted = float(jnp.mean(losses.NON_SATURATING.generator(jnp.asarray(best))))
    np.testing.assert_allclose(losses_of(gan)[1][0], wanted, rtol=1e-5)
    assert float(losses_of(plain)[1][0]) > wanted


def test_unequal_steps_and_a_box():
    gan = make(generator_due=every(3), constrain={DISCRIMINATOR: clip_all(0.01)})
    batch = batch_of()
    state = create_state(gan, KEY, batch)
    for step in range(3):
        before = state
        state, metrics = train_step(gan, state, batch, KEY, due=due_phases(gan, step))
        moved = not np.array_equal(
            before.params[GENERATOR]["Dense_0"]["kernel"], state.params[GENERATOR]["Dense_0"]["kernel"]
        )
        assert moved == ("generator_loss" in metrics) == (step == 2)
        assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(state.params[DISCRIMINATOR])) <= 0.01


def test_dropout_of_the_generator_goes_on_in_sampling():
    gan, without = (make(Painter(dropout=0.5), sample_dropout=s) for s in (True, False))
    batch = batch_of()
    state = create_state(gan, KEY, batch)
    keys = jax.random.split(KEY, 64)
    latents = jnp.ones((64, LATENTS))
    dropped, whole = (np.asarray(g.sample(state, keys, latents=latents)) for g in (gan, without))
    assert 0.3 < (dropped == 0).mean() < 0.7
    assert (whole != 0).all()
    one = gan.sample(state, keys[5:6], latents=latents[:1])
    np.testing.assert_array_equal(one[0], dropped[5])  # by its own key alone


EVERYTHING: dict[str, Any] = {
    "loss": losses.RELATIVISTIC_AVERAGE,
    "penalties": {
        "lecam": penalties.lecam(1.0),
        "dragan": penalties.dragan(1.0),
        "gradient_penalty": penalties.gradient_penalty(1.0),
    },
    "augment": lambda images, keys, step: (
        images + 0.1 * jax.vmap(lambda key: jax.random.normal(key, IMAGE))(keys)
    ),
    "feature_matching": 1.0,
    "top_k": lambda step: jnp.float32(0.5),
    "swap_labels": 0.3,
}


def test_mismatched_labels():
    """The discriminator says the label: with its own each image has 0, and no other image keeps its own."""
    n, classes, seen = 64, 3, []
    labels = jnp.asarray(np.arange(n) % classes)
    context = Context(KEY, jnp.arange(n))

    def judge_as(images, others):
        seen.append(np.asarray(others))
        return 10.0 * others

    def compare(real, other, context):
        return jnp.mean(other - real)

    zeros = jnp.zeros(n)
    view = penalties.Seen(
        zeros, zeros, zeros, zeros, lambda x: x, lambda x: x, context, False, labels, judge_as
    )
    term = penalties.mismatched(0.5, compare, classes)
    value, memory = term.apply(view, ())
    assert memory == ()
    (others,) = seen
    assert (others != labels).all()
    assert {(int(a), int(b)) for a, b in zip(labels, others, strict=True)} == {
        (a, b) for a in range(3) for b in range(3) if a != b
    }
    assert float(value) == pytest.approx(0.5 * 10.0 * others.mean())
    with pytest.raises(ValueError, match="at least 2 classes"):
        penalties.mismatched(0.5, compare, 1)


def test_mismatched_labels_need_classes():
    with pytest.raises(ValueError, match=r"mismatched=0\.5.*classes"):
        gan_ring.build(gan_ring.Config(mismatched=0.5))


@pytest.mark.slow
def test_two_devices_train_as_one():
    """What is of the batch as a whole is of the global one: means of logits, features, ranks, deviations."""
    gan = make(Painter(dropout=0.3), **EVERYTHING)
    batch = batch_of()
    state = create_state(gan, KEY, batch)
    one = jax.jit(functools.partial(train_step, gan), compiler_options=FAST)
    expected, metrics = one(*one(state, batch, KEY)[:1], batch, KEY)
    split = jax.tree.map(lambda x: x.reshape(2, -1, *x.shape[1:]), batch)
    copies = jax.tree.map(lambda x: jnp.stack([x] * 2), state)
    step = functools.partial(train_step, gan, axis_name="d")
    two = jax.pmap(step, "d", in_axes=(0, 0, None), devices=jax.devices()[:2])
    found, their_metrics = two(*two(copies, split, KEY)[:1], split, KEY)
    for name, value in metrics.items():
        np.testing.assert_allclose(their_metrics[name], [value] * 2, rtol=1e-4, atol=1e-6, err_msg=name)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours[0], ours[1])
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-3, atol=1e-5)
