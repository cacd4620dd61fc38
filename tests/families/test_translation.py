"""The losses of pix2pix and CycleGAN, by networks worked out by hand: a map of each pixel's channels."""

import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganjax import loop, losses, optim
from ganjax.checkpoint import Checkpoints
from ganjax.data import Unpaired, load
from ganjax.families.cycle import cycle
from ganjax.families.translation import translation
from ganjax.gan import Context, Experiment, Show, Stage
from ganjax.layers import Dropout
from ganjax.loop import Schedule
from ganjax.nets.translation import PatchDiscriminator, ResidualGenerator
from ganjax.nets.unet import UNet
from ganjax.parallel import Arrangement, Runner
from ganjax.step import create_state, train_step
from tests.doubles import Recorder, compiled_fast

__all__ = ["compiled_fast"]  # the fixture

KEY = jax.random.key(0)
FAST: Any = {"xla_backend_optimization_level": 0}


class Map(nn.Module):
    """x @ kernel, per pixel; of a generator tanh of it, with dropout where there are keys."""

    channels: int
    bounded: bool = True
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train, keys=None):
        y = nn.Dense(self.channels, use_bias=False)(Dropout(self.dropout)(x, keys))
        return jnp.tanh(y) if self.bounded else y


def adam():
    return optim.adam(1e-2, b1=0.5)


def batch(n=4, channels=(2, 2)):
    draw = np.random.default_rng(0)
    sides = (draw.uniform(-1, 1, (n, 3, 3, c)).astype(np.float32) for c in channels)
    return dict(zip("AB", sides, strict=True))


def kernel(tree):
    return np.asarray(tree["Dense_0"]["kernel"])


def losses_of(gan, given, state=None):
    """By player, the loss, its metrics and the effects, of step 0."""
    state = state or create_state(gan, KEY, given)
    found = {}
    for phase in gan.phases:
        context = Context(KEY, jnp.arange(len(given["A"])))
        value, effects = phase.loss(state.params[phase.player], state, given, context)
        found[phase.player] = float(value), effects
    return state, found


def softplus(x):
    return np.log1p(np.exp(x))


@pytest.mark.parametrize(("source", "target"), [("A", "B"), ("B", "A")])
def test_pix2pix_by_hand(source, target):
    given = batch(channels=(2, 1))
    gan = translation(
        Map(given[target].shape[-1]),
        Map(1, bounded=False),
        optimizers={"generator": adam(), "discriminator": adam()},
        source=source,
        target=target,
    )
    state, found = losses_of(gan, given)
    fake = np.tanh(given[source] @ kernel(state.params["generator"]))
    judge = kernel(state.params["discriminator"])
    assert judge.shape == (3, 1)  # it sees both
    real_logits, fake_logits = (
        np.concatenate([given[source], image], axis=-1) @ judge for image in (given[target], fake)
    )
    of_discriminator = 0.5 * np.mean(softplus(-real_logits) + softplus(fake_logits))
    assert found["discriminator"][0] == pytest.approx(of_discriminator, rel=1e-5)
    distance = np.mean(np.abs(fake - given[target]))
    of_generator = np.mean(softplus(-fake_logits)) + 100 * distance
    assert found["generator"][0] == pytest.approx(of_generator, rel=1e-5)
    assert float(found["generator"][1].metrics["l1"]) == pytest.approx(distance, rel=1e-5)
    images = gan.sample(state, None, {source: given[source]})
    np.testing.assert_allclose(images[f"{source}to{target}"], fake, rtol=1e-5)
    with pytest.raises(ValueError, match=f"translates images of {source}"):
        gan.sample(state, None, {target: given[target]})
    with pytest.raises(ValueError, match=f"translates images of {source}"):
        gan.sample(state, None, np.arange(3))


class Sowing(nn.Module):
    """Two layers, of which the first and its square are features."""

    @nn.compact
    def __call__(self, x, *, train):
        y = nn.Dense(2, use_bias=False)(x)
        self.sow("intermediates", "features", y)
        self.sow("intermediates", "features", y**2)
        return nn.Dense(1, use_bias=False)(y)


def test_feature_matching_by_hand():
    given = batch(channels=(2, 1))
    both = {"optimizers": {"generator": adam(), "discriminator": adam()}, "l1": 0.0}
    gan = translation(Map(1), Sowing(), **both, feature_matching=10.0)
    state, found = losses_of(gan, given)
    fake = np.tanh(given["A"] @ kernel(state.params["generator"]))
    first = kernel(state.params["discriminator"])
    real, made = (np.concatenate([given["A"], image], axis=-1) @ first for image in (given["B"], fake))
    distance = np.mean(np.abs(real - made)) + np.mean(np.abs(real**2 - made**2))
    metrics = found["generator"][1].metrics
    assert float(metrics["feature_matching"]) == pytest.approx(distance, rel=1e-5)
    expected = float(metrics["generator_loss"]) + 10 * distance
    assert found["generator"][0] == pytest.approx(expected, rel=1e-5)
    without = losses_of(translation(Map(1), Sowing(), **both), given)[1]
    assert without["generator"][0] == pytest.approx(float(metrics["generator_loss"]), rel=1e-5)
    assert found["discriminator"][0] == without["discriminator"][0]  # it knows nothing of that
    assert "intermediates" not in state.stats["discriminator"]
    with pytest.raises(ValueError, match='sows its "features"'):
        losses_of(translation(Map(1), Map(1, bounded=False), **both, feature_matching=1.0), given)


def test_dropout_goes_on_in_sampling_by_the_key():
    given = batch()
    optimizers = {"generator": adam(), "discriminator": adam()}
    gan = translation(Map(2, dropout=0.5), Map(1, bounded=False), optimizers=optimizers)
    state = create_state(gan, KEY, given)
    same = {"A": np.repeat(given["A"][:1], 3, axis=0)}
    keys = jax.random.split(KEY, 3)
    drawn = np.asarray(gan.sample(state, keys, same)["AtoB"])
    assert len({image.tobytes() for image in drawn}) == 3
    alone = gan.sample(state, keys[1:2], {"A": same["A"][:1]})["AtoB"]
    np.testing.assert_array_equal(alone[0], drawn[1])


def toy_cycle(pool_size=3, identity=0.5, channels=(2, 2)):
    return cycle(
        {"AtoB": Map(channels[1]), "BtoA": Map(channels[0])},
        {"A": Map(1, bounded=False), "B": Map(1, bounded=False)},
        optimizers={"generators": adam(), "discriminators": adam()},
        pool_size=pool_size,
        identity=identity,
    )


def test_cyclegan_by_hand():
    given = batch()
    gan = toy_cycle(pool_size=0)
    state, found = losses_of(gan, given)
    to = {domain: kernel(state.params["generators"][name]) for domain, name in (("A", "AtoB"), ("B", "BtoA"))}
    judge = {domain: kernel(state.params["discriminators"][domain]) for domain in "AB"}
    of_discriminators = of_generators = 0.0
    for here, there in ("AB", "BA"):
        fake = np.tanh(given[here] @ to[here])
        again = np.tanh(fake @ to[there])
        kept = np.tanh(given[here] @ to[there])
        logits = fake @ judge[there]
        of_discriminators += 0.5 * np.mean((given[there] @ judge[there] - 1) ** 2 + logits**2)
        of_generators += np.mean((logits - 1) ** 2)
        of_generators += 10 * np.mean(np.abs(again - given[here])) + 5 * np.mean(np.abs(kept - given[here]))
    assert found["discriminators"][0] == pytest.approx(of_discriminators, rel=1e-5)
    assert found["generators"][0] == pytest.approx(of_generators, rel=1e-5)
    samples = gan.sample(state, None, {"A": given["A"]})
    np.testing.assert_allclose(samples["AtoB"], np.tanh(given["A"] @ to["A"]), rtol=1e-5)
    np.testing.assert_allclose(
        samples["AtoBtoA"], np.tanh(np.tanh(given["A"] @ to["A"]) @ to["B"]), rtol=1e-5
    )


def test_the_discriminators_see_the_pools_and_the_generators_do_not():
    given = batch()
    gan, plain = toy_cycle(), toy_cycle(pool_size=0)
    state = create_state(gan, KEY, given)
    full = jax.tree.map(lambda x: jnp.full_like(x, 3 if x.ndim == 0 else 0.7), state.carry)
    _, found = losses_of(gan, given, state.replace(carry=full))
    _, without = losses_of(plain, given)
    assert found["discriminators"][0] != without["discriminators"][0]
    assert found["generators"][0] == without["generators"][0]
    after = found["discriminators"][1].carry
    assert set(after) == {"A", "B"}
    assert not np.array_equal(after["A"].images, full["A"].images)


def test_what_does_not_fit():
    wide = {"A": np.zeros((1, 3, 4, 2), np.float32), "B": np.zeros((1, 3, 3, 2), np.float32)}
    with pytest.raises(ValueError, match="3x4 in A and 3x3 in B"):
        toy_cycle().init(KEY, wide)
    with pytest.raises(
        ValueError, match=r"identity=0\.5: expected 0 where the domains have 2 and 1 channels"
    ):
        toy_cycle(channels=(2, 1)).init(KEY, batch(channels=(2, 1)))
    toy_cycle(channels=(2, 1), identity=0).init(KEY, batch(channels=(2, 1)))
    with pytest.raises(ValueError, match="relativistic"):
        cycle({}, {}, optimizers={}, loss=losses.RELATIVISTIC_AVERAGE)
    one = {"generator": optax.sgd(1.0), "discriminator": optax.sgd(1.0)}
    with pytest.raises(ValueError, match="those of a pair have one size"):
        translation(Map(2), Map(1), optimizers=one).init(KEY, wide)


def experiment():
    """Batches of 8 and pools of 12, which the second step fills and from which the third is shown some."""
    sets = load("random", image_size=2, channels=3), load("random", split="test", image_size=2, channels=3)
    gan = toy_cycle(pool_size=12, channels=(3, 3))
    source = Unpaired(*sets)
    show = Show(
        2, 1, lambda samples, columns: np.zeros((1, 1, 3), np.uint8), lambda: source.sides(np.arange(2))
    )
    return Experiment((Stage(gan, source, steps=5, batch_size=8),), show=show)


@functools.cache
def trained(kind, devices):
    (stage,) = experiment().stages
    placed = Arrangement(kind, tuple(jax.devices()[:devices]))
    runner = Runner(placed, stage.gan, stage.data.transform, stage.batch_size, stage.steps)
    key = loop.stage_key(0, 0)
    state = runner.put(runner.create(key, stage.data.example(stage.batch_size)))
    for step in range(stage.steps):
        raw = stage.data.read(stage.data.indices(0, step * stage.batch_size, stage.batch_size))
        state, _ = runner.step(state, raw, key, step)
    return runner.get(state)


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
@pytest.mark.parametrize("kind", ["pmap", "sharded"])
def test_the_pool_is_the_same_on_every_layout(kind):
    expected, found = trained("none", 1), trained(kind, 4)
    assert expected.carry["A"].count == 12
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found.carry, expected.carry)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found.params, expected.params)


def test_a_resumed_run_has_the_bits_of_a_whole_one(tmp_path):
    """Stopped where the pool has just been filled."""
    quiet = Schedule(log_steps=1, preview_steps=0, save_minutes=0)

    def train(stop, checkpoints):
        observer = Recorder()
        result = loop.train(
            experiment(),
            seed=0,
            observer=observer,
            checkpoints=checkpoints,
            schedule=quiet._replace(stop=stop),
            parallel="none",
        )
        return result, observer

    whole, observer = train(None, None)
    shown = observer.of("preview")[-1].content[0]
    assert shown["AtoBtoA"].shape == (2, 2, 2, 3)
    train(2, Checkpoints(tmp_path))
    resumed, _ = train(None, Checkpoints(tmp_path))
    assert resumed.resumed_from == [2]
    assert resumed.fingerprint == whole.fingerprint


def products(compiled):
    return len(re.findall(r" (?:convolution|dot)\(", compiled.as_text()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pix2pix", "cyclegan"])
def test_both_phases_share_the_generators_passes(kind):
    """Counted in the optimised program: XLA merges passes only if both are lowered alike."""
    of = "" if kind == "pix2pix" else "s"
    optimizers = {f"generator{of}": adam(), f"discriminator{of}": adam()}
    discriminator = PatchDiscriminator(16, width=2, norm="instance")
    batch = dict.fromkeys("AB", jnp.zeros((2, 8, 8, 1)))
    if kind == "pix2pix":
        generator = UNet(1, stages=2, width=2)
        gan, passes = translation(generator, discriminator, optimizers=optimizers), 1
    else:
        generator = ResidualGenerator(1, blocks=1, width=2, halvings=1)
        both: dict[str, nn.Module] = dict.fromkeys(("AtoB", "BtoA"), generator)
        gan, passes = cycle(both, {"A": discriminator, "B": discriminator}, optimizers=optimizers), 2
    state = jax.eval_shape(lambda: create_state(gan, KEY, batch))

    def counted(due):
        step = jax.jit(functools.partial(train_step, gan, due=due))
        return products(step.lower(state, batch, KEY).compile(compiler_options=FAST))

    keys: Any = {"keys": jax.random.split(KEY, 2)} if kind == "pix2pix" else {}
    variables = jax.eval_shape(lambda: generator.init(KEY, batch["A"], train=True))

    def forward(variables, images):
        return generator.apply(variables, images, train=True, mutable=["batch_stats"], **keys)

    alone = products(jax.jit(forward).lower(variables, batch["A"]).compile(compiler_options=FAST))
    assert alone >= 4
    assert counted((0,)) + counted((1,)) - counted((0, 1)) == passes * alone
