"""ADA's probability: it follows the discriminator, within bounds, and is the same on every device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.families import penalties
from ganjax.families.adaptive import Memory, adaptive
from ganjax.families.adversarial import ADAPTIVE, DISCRIMINATOR
from ganjax.gan import Context, every
from ganjax.optim import ema_by_images, lazily
from ganjax.step import create_state, step_context, train_step
from tests.families.test_adversarial_tricks import KEY, batch_of, kernel_of, make

SURE, UNSURE = jnp.array([1.0, 2.0, 0.5, 3.0]), jnp.array([1.0, -2.0, 0.5, -3.0])


def brighter(images, keys, p):
    del keys
    return images + p


def follows(**options):
    settings = {"every_images": 8, "speed_images": 80.0, "maximum": 0.25} | options
    return adaptive(brighter, **settings)


def context_of(count: int = 4) -> Context:
    return Context(KEY, jnp.arange(count, dtype=jnp.int32))


def test_it_follows_the_discriminator():
    augmentation = follows()
    memory = augmentation.init()
    history = []
    for logits in [SURE] * 8 + [UNSURE] * 4:
        memory = augmentation.update(memory, logits, context_of())
        history.append(float(memory.p))
    # A tenth after every second batch of four, up to the bound, and down again.
    expected = [0, 0.1, 0.1, 0.2, 0.2, 0.25, 0.25, 0.25, 0.25, 0.15, 0.15, 0.05]
    assert history == pytest.approx(expected)
    for _ in range(4):
        memory = augmentation.update(memory, UNSURE, context_of())
    assert float(memory.p) == 0.0
    some = Memory(jnp.asarray(0.25), jnp.zeros(()), jnp.zeros(()))
    np.testing.assert_array_equal(augmentation.apply(jnp.zeros(2), jnp.zeros(2), some), [0.25, 0.25])


def test_the_mean_is_over_all_images_since_it_moved():
    """0.5 of eight is below the target of 0.6, though the second batch alone is above."""
    augmentation = follows(start=0.2)
    memory = augmentation.update(augmentation.init(), jnp.array([1.0, 1.0, -1.0, -0.1]), context_of())
    assert (float(memory.signs), float(memory.images)) == (0, 4)
    memory = augmentation.update(memory, SURE, context_of())
    assert float(memory.p) == pytest.approx(0.1)
    assert (float(memory.signs), float(memory.images)) == (0, 0)


def test_every_device_has_the_same():
    if jax.device_count() < 2:
        pytest.skip("needs two devices")
    augmentation = follows(every_images=4)

    def update(logits, index):
        return augmentation.update(augmentation.init(), logits, Context(KEY, index, "data"))

    logits = jnp.array([[1.0, 1.0], [1.0, -1.0]])  # 1 on the one, 0 on the other: 0.5 in all
    found = jax.pmap(update, axis_name="data", devices=jax.devices()[:2])(logits, jnp.arange(4).reshape(2, 2))
    whole = augmentation.update(augmentation.init(), logits.reshape(-1), context_of())
    for ours, expected in zip(found, whole, strict=True):
        np.testing.assert_array_equal(ours, np.full(2, expected))


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="every_images=0"):
        follows(every_images=0)
    with pytest.raises(ValueError, match="speed_images=0"):
        follows(speed_images=0)
    with pytest.raises(ValueError, match=r"start=0.5, maximum=0.25"):
        follows(start=0.5)


def test_within_the_family():
    """Both players' phases see it, p moves with the discriminator's, and it is measured before it moves."""
    augmentation = follows(every_images=8, target=-1.0, start=0.1)._replace(
        apply=lambda images, keys, memory: jnp.zeros_like(images) + memory.p
    )
    gan = make(adaptive=augmentation, watched={"first": lambda seen: seen.real[0, 0, 0, 0]})
    batch = batch_of()
    state = create_state(gan, KEY, batch)
    context = step_context(state, batch, KEY)
    (of_discriminator, of_generator) = (
        phase.loss(state.params[phase.player], state, batch, context)[1] for phase in gan.phases
    )
    metrics = of_discriminator.metrics
    assert float(metrics["augment_p"]) == float(metrics["first"]) == pytest.approx(0.1)
    assert float(metrics["real_logits"]) == float(metrics["fake_logits"])
    assert of_generator.carry == state.carry
    # Biases are 0 at first: all logits have the sign of the kernel's sum.
    expected = 0.2 if float(kernel_of(gan).sum()) > 0 else 0.0
    assert float(of_discriminator.carry[ADAPTIVE].p) == pytest.approx(expected)


def test_a_lazy_penalty_is_a_step_of_its_own():
    """By its definition: with SGD the weights move by the rate times k times the penalty's gradient."""
    gan = make(lazy_penalties={"r1": (4, penalties.r1(10.0))})
    assert [phase.player for phase in gan.phases] == [DISCRIMINATOR, DISCRIMINATOR, "generator"]
    assert [step for step in range(9) if gan.phases[1].due(step)] == [3, 7]
    batch = batch_of()
    state = create_state(gan, KEY, batch)
    before = state.params[DISCRIMINATOR]["Dense_0"]
    after, metrics = train_step(gan, state, batch, KEY, due=(1,))
    kernel = np.asarray(before["kernel"])
    # gamma / 2 |w|^2, whose gradient is gamma w.
    np.testing.assert_allclose(metrics["r1"], 5 * np.square(kernel).sum(), rtol=1e-5)
    moved = after.params[DISCRIMINATOR]["Dense_0"]
    np.testing.assert_allclose(moved["kernel"], kernel - 0.1 * 4 * 10 * kernel, rtol=1e-5)
    np.testing.assert_array_equal(moved["bias"], before["bias"])
    for ours, theirs in zip(
        jax.tree.leaves(after.params["generator"]), jax.tree.leaves(state.params["generator"]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert every(4)(3)
    rarely = make(lazy_penalties={"r1": (4, penalties.r1(10.0))}, lazy_stride=2).phases[1]
    assert [step for step in range(17) if rarely.due(step)] == [7, 15]


def test_adams_correction():
    rate, b1, b2 = lazily(0.0025, 0.5, 0.99, 16)
    assert rate == pytest.approx(0.0025 * 16 / 17)
    assert b1 == pytest.approx(0.5 ** (16 / 17))
    assert b2 == pytest.approx(0.99 ** (16 / 17))
    assert b1**17 == pytest.approx(0.5**16)  # what is left of a gradient after 16 steps is what was
    assert lazily(1.0, 0.0, 0.99, 4)[1] == 0
    with pytest.raises(ValueError, match="interval=0"):
        lazily(1.0, 0.0, 0.9, 0)


def test_an_average_by_images():
    decay = ema_by_images(1000, 10)
    assert float(decay(jnp.asarray(5))) ** 100 == pytest.approx(0.5, rel=1e-4)
    ramped = ema_by_images(1000, 10, start=2, ramp=0.05)
    assert [float(ramped(jnp.asarray(step))) for step in (0, 2)] == [0, 0]
    assert float(ramped(jnp.asarray(102))) == pytest.approx(0.5 ** (10 / 50))
    assert float(ramped(jnp.asarray(10**5))) == pytest.approx(float(decay(jnp.asarray(0))))
    thrice = ema_by_images(1000, 10, every=3)
    assert float(thrice(jnp.asarray(5))) == pytest.approx(float(decay(jnp.asarray(0))) ** 3)
    with pytest.raises(ValueError, match="half_life=0"):
        ema_by_images(0, 10)
