"""The losses of semi-supervised learning, by networks worked out by hand, and that no label leaks."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import optim, random
from ganjax.checkpoint import fingerprint
from ganjax.data.dataset import Dataset
from ganjax.data.labelled import FewLabels, Labelled, Unlabelled
from ganjax.data.sampling import epoch_order
from ganjax.families.semi_supervised import outputs_for, real_logit, semi_supervised
from ganjax.gan import Context
from ganjax.loop import stage_key
from ganjax.parallel import Arrangement, Runner
from ganjax.step import create_state
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

KEY = jax.random.key(0)


class Linear(nn.Module):
    """x @ kernel: K logits and T targets, of features that are the pixels."""

    outputs: int
    targets: int

    @nn.compact
    def __call__(self, x, *, train):
        x = x.reshape(x.shape[0], -1)
        self.sow("intermediates", "features", x)
        y = nn.Dense(self.outputs + self.targets, use_bias=False)(x)
        return y[:, : self.outputs], y[:, self.outputs :]


class Generator(nn.Module):
    @nn.compact
    def __call__(self, latents, labels, *, train):
        assert labels is None
        return jnp.tanh(nn.Dense(4)(latents)).reshape(-1, 2, 2, 1)


def made(num_classes=3, num_targets=0, fake_class: Any = "implicit", **options):
    players = ("generator", "discriminator", "baseline")
    return semi_supervised(
        Generator(),
        Linear(outputs_for(num_classes, fake_class), num_targets),
        latent_size=2,
        optimizers=dict.fromkeys(players, optim.adam(1e-2)),
        num_classes=num_classes,
        num_targets=num_targets,
        **options,
    )


def batch(n=4):
    draw = np.random.default_rng(0)
    images = draw.uniform(-1, 1, (2, n, 2, 2, 1)).astype(np.float32)
    target = draw.uniform(-1, 1, (n, 1)).astype(np.float32)
    labelled = {"image": images[0], "label": np.array([0, 1, 2, 1][:n]), "target": target}
    return {"labelled": labelled, "unlabelled": {"image": images[1]}}


def losses_of(gan, given):
    state = create_state(gan, KEY, given)
    context = Context(KEY, jnp.arange(4))
    found = {p.player: p.loss(state.params[p.player], state, given, context) for p in gan.phases}
    return state, {player: (float(value), effects.metrics) for player, (value, effects) in found.items()}


def softplus(x):
    return np.log1p(np.exp(x))


def log_shares(logits):
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize("fake_class", ["implicit", "explicit"])
def test_classification_by_hand(fake_class):
    given = batch()
    gan = made(fake_class=fake_class, unlabelled_weight=0.5)
    state, found = losses_of(gan, given)
    kernel = np.asarray(state.params["discriminator"]["Dense_0"]["kernel"])
    np.testing.assert_array_equal(state.params["baseline"]["Dense_0"]["kernel"], kernel)
    assert kernel.shape == (4, 3 + (fake_class == "explicit"))
    keys = random.per_example(random.stream(KEY, "z"), jnp.arange(4))
    g = state.params["generator"]
    fake = np.asarray(Generator().apply({"params": g}, random.normal(keys, (2,)), None, train=True))
    labelled, real, unreal = (
        x.reshape(4, 4) @ kernel for x in (given["labelled"]["image"], given["unlabelled"]["image"], fake)
    )
    # The fake class as the paper has it: a logit of 0 behind the K, or one of its own.
    with_fake = [
        x if fake_class == "explicit" else np.concatenate([x, np.zeros((4, 1))], 1) for x in (real, unreal)
    ]
    shares = [np.exp(log_shares(x)) for x in with_fake]
    apart = 0.5 * (-np.log(1 - shares[0][:, 3]).mean() - np.log(shares[1][:, 3]).mean())
    wrong = -log_shares(labelled)[np.arange(4), given["labelled"]["label"]].mean()
    value, metrics = found["discriminator"]
    assert value == pytest.approx(wrong + 0.5 * apart, rel=1e-5)
    assert float(metrics["discriminator_loss"]) == pytest.approx(apart, rel=1e-5)
    assert found["baseline"][0] == pytest.approx(wrong, rel=1e-5)
    matched = np.square(given["unlabelled"]["image"].mean(0) - fake.mean(0)).sum()
    assert found["generator"][0] == pytest.approx(matched, rel=1e-5)
    # And predictions are of the K classes alone.
    predicted = gan.sample(state, None, {"image": given["labelled"]["image"]})
    expected = np.exp(log_shares(labelled[:, :3]))
    np.testing.assert_allclose(predicted["probabilities"], expected, rtol=1e-5)
    assert set(predicted) == {"probabilities", "baseline_probabilities"}


def test_regression_by_hand():
    given = batch()
    gan = made(0, 1, generator_loss="non_saturating", regression_weight=3.0)
    state, found = losses_of(gan, given)
    kernel = np.asarray(state.params["discriminator"]["Dense_0"]["kernel"])
    assert kernel.shape == (4, 2)
    off = given["labelled"]["image"].reshape(4, 4) @ kernel[:, 1:] - given["labelled"]["target"]
    assert found["baseline"][0] == pytest.approx(3 * np.square(off).mean(), rel=1e-5)
    predicted = gan.sample(state, None, {"image": given["labelled"]["image"]})
    np.testing.assert_allclose(predicted["targets"] - given["labelled"]["target"], off, rtol=1e-4, atol=1e-6)
    assert set(predicted) == {"targets", "baseline_targets"}


def test_both_and_averages():
    gan = made(3, 1, ema_decay=lambda step: jnp.float32(0.5))
    state, found = losses_of(gan, batch())
    metrics = found["discriminator"][1]
    assert {"labelled_loss", "labelled_error", "labelled_squared_error"} <= set(metrics)
    assert set(state.ema) == {"discriminator", "baseline"}
    other = state.replace(ema=jax.tree.map(lambda x: 2 * x, state.ema))
    image = {"image": batch()["labelled"]["image"]}
    np.testing.assert_allclose(
        gan.sample(other, None, image)["targets"], 2 * gan.sample(state, None, image)["targets"], rtol=1e-5
    )
    keys = random.from_seeds(jnp.arange(3))
    assert gan.sample(state, keys).shape == (3, 2, 2, 1)
    assert gan.latents is not None
    np.testing.assert_array_equal(gan.sample(state, None, latents=gan.latents(keys)), gan.sample(state, keys))
    with pytest.raises(ValueError, match="takes no labels"):
        gan.sample(state, keys, jnp.arange(3))


def test_all_that_is_learned_from_is_augmented_and_nothing_else():
    """What turns images into their negatives, in front of a linear network, is the network's negative."""
    drawn = []

    def negative(images, keys):
        drawn.append(np.asarray(jax.random.key_data(keys)))
        return -images

    given = batch()
    augmented = made(num_targets=1, augment=negative)
    state, found = losses_of(augmented, given)
    assert len({keys.tobytes() for keys in drawn}) == 3  # for labelled, unlabelled and generated images
    context = Context(KEY, jnp.arange(4))
    turned = dict(state.params)
    for player in ("discriminator", "baseline"):
        turned[player] = jax.tree.map(jnp.negative, state.params[player])
    for phase in made(num_targets=1).phases:
        value, _ = phase.loss(turned[phase.player], state.replace(params=turned), given, context)
        assert found[phase.player][0] == pytest.approx(float(value), rel=1e-5), phase.player
    one, other = (
        gan.sample(state, None, {"image": given["labelled"]["image"]})
        for gan in (augmented, made(num_targets=1))
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(("num_classes", "num_targets"), [(3, 0), (0, 1), (3, 1)])
def test_consistency_by_hand(num_classes, num_targets):
    """Two draws of a factor before a linear network; without draws there is nothing to differ."""

    def scaled(images, keys):
        return images * random.uniform(keys, (1, 1, 1))

    given = batch()
    options = {"num_classes": num_classes, "num_targets": num_targets, "augment": scaled}
    without = losses_of(made(**options), given)[1]["discriminator"]
    state, found = losses_of(made(**options, consistency_weight=3.0), given)
    value, metrics = found["discriminator"]
    kernel = np.asarray(state.params["discriminator"]["Dense_0"]["kernel"])
    context = Context(KEY, jnp.arange(4))
    images = given["unlabelled"]["image"]
    outputs = [
        np.asarray(scaled(images, context.example_keys(f"augment {name}"))).reshape(4, 4) @ kernel
        for name in ("unlabelled", "unlabelled again")
    ]
    expected = 0.0
    if num_classes:
        one, other = (np.exp(log_shares(output[:, :num_classes])) for output in outputs)
        expected += np.square(one - other).sum(1).mean()
    if num_targets:
        one, other = (output[:, -1] for output in outputs)
        expected += np.square(one - other).mean()
    assert expected > 1e-6
    assert float(metrics["inconsistency"]) == pytest.approx(expected, rel=1e-4)
    assert value - without[0] == pytest.approx(3 * expected, rel=1e-3)
    assert "inconsistency" not in without[1]
    alike = losses_of(made(num_classes, num_targets, consistency_weight=3.0), given)[1]["discriminator"]
    assert float(alike[1]["inconsistency"]) == 0.0


@pytest.mark.parametrize(("num_classes", "num_targets"), [(3, 0), (3, 1)])
def test_consistency_with_the_average_by_hand(num_classes, num_targets):
    """The averaged network sees the image as it is, and only the other one learns."""

    def scaled(images, keys):
        return images * random.uniform(keys, (1, 1, 1))

    given = batch()
    options = {"num_classes": num_classes, "num_targets": num_targets, "augment": scaled}
    options |= {"consistency_weight": 3.0, "ema_decay": optim.ema_decay(0.9)}
    gan = made(**options, consistency_average_from=5)
    before, after, *_ = gan.phases
    assert [before.due(step) for step in (0, 4, 5, 9)] == [True, True, False, False]
    assert [after.due(step) for step in (0, 4, 5, 9)] == [False, False, True, True]
    state = create_state(gan, KEY, given)
    averaged = jax.tree.map(lambda x: 0.5 * x + 0.1, state.params["discriminator"])
    state = state.replace(ema=state.ema | {"discriminator": averaged})
    context = Context(KEY, jnp.arange(4))

    def inconsistency(params):
        return after.loss(params, state, given, context)[1].metrics["inconsistency"]

    images = given["unlabelled"]["image"]
    moved = scaled(images, context.example_keys("augment unlabelled"))

    def by_hand(params):
        own = moved.reshape(4, 4) @ params["Dense_0"]["kernel"]
        other = images.reshape(4, 4) @ averaged["Dense_0"]["kernel"]
        one, two = (jax.nn.softmax(outputs[:, :num_classes]) for outputs in (own, other))
        expected = jnp.mean(jnp.sum(jnp.square(one - two), axis=1))
        if num_targets:
            expected += jnp.mean(jnp.square(own[:, num_classes:] - other[:, num_classes:]))
        return expected

    params = state.params["discriminator"]
    (found, gradient), (expected, wanted) = (jax.value_and_grad(f)(params) for f in (inconsistency, by_hand))
    assert expected > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        gradient["Dense_0"]["kernel"], wanted["Dense_0"]["kernel"], rtol=1e-4, atol=1e-6
    )
    own = made(**options).phases[0]
    values = [phase.loss(params, state, given, context)[0] for phase in (before, own)]
    assert float(values[0]) == float(values[1])


def test_what_an_augmentation_does_to_targets_is_taken_off_what_is_predicted():
    """Of images that stay what they are, each prediction has another amount taken off."""

    def changed(images, keys):
        return images, random.uniform(keys, (1,))

    given = batch()
    options = {
        "num_classes": 0,
        "num_targets": 1,
        "regression_weight": 3.0,
        "ema_decay": optim.ema_decay(0.9),
    }
    gan = made(**options, augment=changed, consistency_weight=2.0)
    state, found = losses_of(gan, given)
    context = Context(KEY, jnp.arange(4))
    names = ("labelled", "unlabelled", "unlabelled again")
    labelled, one, other = (np.asarray(changed(0, context.example_keys(f"augment {n}"))[1]) for n in names)
    kernel = np.asarray(state.params["baseline"]["Dense_0"]["kernel"])
    predicted = given["labelled"]["image"].reshape(4, 4) @ kernel[:, 1:]
    squared = np.square(predicted - labelled - given["labelled"]["target"]).mean()
    assert found["baseline"][0] == pytest.approx(3 * squared, rel=1e-5)
    assert float(found["discriminator"][1]["labelled_squared_error"]) == pytest.approx(squared, rel=1e-5)
    off = np.square(one - other).mean()
    assert float(found["discriminator"][1]["inconsistency"]) == pytest.approx(off, rel=1e-5)
    # The average's is of the image as it was, from which nothing is taken.
    after = made(**options, augment=changed, consistency_weight=2.0, consistency_average_from=0).phases[1]
    metrics = after.loss(state.params["discriminator"], state, given, context)[1].metrics
    assert float(metrics["inconsistency"]) == pytest.approx(np.square(one).mean(), rel=1e-5)
    plain = made(**options).sample(state, None, {"image": given["labelled"]["image"]})
    np.testing.assert_allclose(plain["targets"], predicted, rtol=1e-4, atol=1e-6)


def test_the_prior_is_the_square_of_what_is_predicted_of_images_as_they_were():
    """Of unlabelled images alone, with what an augmentation did to their targets taken off."""

    def changed(images, keys):
        return images, random.uniform(keys, (1,))

    given = batch()
    without, gan = (made(0, 1, augment=changed, prior_weight=weight) for weight in (0.0, 3.0))
    state, found = losses_of(gan, given)
    kernel = np.asarray(state.params["discriminator"]["Dense_0"]["kernel"])
    keys = Context(KEY, jnp.arange(4)).example_keys("augment unlabelled")
    predicted = given["unlabelled"]["image"].reshape(4, 4) @ kernel[:, 1:] - changed(0, keys)[1]
    square = np.square(predicted).mean()
    _, before = losses_of(without, given)
    assert found["discriminator"][0] - before["discriminator"][0] == pytest.approx(3 * square, rel=1e-5)
    assert float(found["discriminator"][1]["unlabelled_square"]) == pytest.approx(square, rel=1e-5)
    assert found["baseline"] == before["baseline"]
    assert found["generator"] == before["generator"]
    for name in ("prior_weight", "target_consistency_weight", "target_consistency_bound"):
        words = rf"{name}=3\.0: expected (0\.0|None), as no targets are predicted"
        with pytest.raises(ValueError, match=words):
            made(3, 0, **{name: 3.0})


def test_differences_of_targets_have_a_weight_of_their_own_and_a_bound():
    """By their square up to the bound, linear from there on, with one slope at it (Huber 1964)."""

    def changed(images, keys):
        return images, 2 * random.uniform(keys, (1,))  # differences on both sides of the bound

    given = batch()
    options: dict[str, Any] = {"num_targets": 1, "augment": changed}
    without = made(**options)
    _, before = losses_of(without, given)
    context = Context(KEY, jnp.arange(4))
    names = ("unlabelled", "unlabelled again")
    drawn = [np.asarray(changed(0, context.example_keys(f"augment {name}"))[1]) for name in names]
    off = np.abs(drawn[0] - drawn[1])  # which is all that the predictions differ by; classes do not
    assert 0 < (off > 0.5).mean() < 1
    huber = np.where(off > 0.5, 2 * 0.5 * off - 0.25, off**2).mean()
    for bound, expected in ((0.5, huber), (None, np.square(off).mean())):
        options |= {"consistency_weight": 7.0, "target_consistency_weight": 2.0}
        gan = made(**options, target_consistency_bound=bound)
        value, metrics = losses_of(gan, given)[1]["discriminator"]
        assert value - before["discriminator"][0] == pytest.approx(2 * expected, rel=1e-5)
        assert float(metrics["inconsistency"]) == pytest.approx(expected, rel=1e-5)
    options |= {"consistency_weight": 0.0}
    alone = made(**options)
    value, _ = losses_of(alone, given)[1]["discriminator"]
    assert value - before["discriminator"][0] == pytest.approx(2 * expected, rel=1e-5)
    later = made(**options, consistency_average_from=3, ema_decay=0.9)
    assert len(later.phases) == len(alone.phases) + 1
    options |= {"target_consistency_weight": 0.0}
    with pytest.raises(ValueError, match="target_consistency_bound=0: expected above 0"):
        made(**options, target_consistency_bound=0)
    none = made(**options)
    assert losses_of(none, given)[1]["discriminator"] == before["discriminator"]


def test_consistency_with_no_average():
    with pytest.raises(ValueError, match="consistency_average_from=3: expected an ema_decay"):
        made(consistency_average_from=3, consistency_weight=1.0)


def test_the_real_logit_is_a_sum_of_exponentials():
    logits = jnp.log(jnp.array([[1.0, 2.0, 5.0, 4.0]]))
    assert float(real_logit(logits[:, :3], 3)[0]) == pytest.approx(np.log(8), rel=1e-6)
    assert float(real_logit(logits, 3)[0]) == pytest.approx(np.log(2), rel=1e-5)
    assert float(real_logit(logits[:, 3:], 0)[0]) == pytest.approx(np.log(4), rel=1e-6)
    with pytest.raises(ValueError, match="expected classes, targets or both"):
        made(0, 0)


def fingerprint_with(labels) -> str:
    """Of three steps on images whose labels are these."""
    images = np.random.default_rng(0).integers(0, 256, (60, 2, 2, 1)).astype(np.uint8)

    def fetch(indices):
        return {"image": images[indices], "label": labels[indices]}

    dataset = Dataset("toy", "train", (2, 2, 1), 3, ("a", "b", "c"), 60, fetch)
    source = FewLabels(Labelled(dataset, 4), Unlabelled(dataset))
    runner = Runner(Arrangement("none", tuple(jax.devices()[:1])), made(), source.transform, 8, 3)
    key = stage_key(5, 0)
    state = runner.put(runner.create(key, source.example(8)))
    for step in range(3):
        raw = source.read(source.indices(5, 8 * step, 8))
        state, _ = runner.step(state, raw, key, step)
    return fingerprint(runner.get(state))


def test_labels_of_what_is_not_labelled_do_not_matter():
    """Every label but those of the chosen examples is another, and the bits are the same."""
    labels = np.random.default_rng(1).integers(0, 3, 60).astype(np.int32)
    before = fingerprint_with(labels)
    dataset = Dataset(
        "toy", "train", (2, 2, 1), 3, ("a", "b", "c"), 60, lambda i: {"image": i, "label": labels[i]}
    )
    joined = FewLabels(Labelled(dataset, 4), Unlabelled(dataset))
    chosen = set(joined.indices(5, 0, 60)["labelled"].tolist())
    assert len(chosen) == 12
    # In the order in which the choice is made, what is passed over belongs to a class that is complete: so
    # the choice stays if it is of the class that was complete first. Behind the last chosen one all is free.
    order = order_of_choice(labels, chosen)
    last = max(i for i, place in enumerate(order) if place in chosen)
    counts, changed = [0, 0, 0], labels.copy()
    complete: Any = None
    for i, place in enumerate(order):
        if place in chosen:
            counts[labels[place]] += 1
            complete = labels[place] if complete is None and counts[labels[place]] == 4 else complete
        elif i < last:
            changed[place] = complete
        else:
            changed[place] = (labels[place] + 1) % 3
    assert (changed != labels).sum() > 30
    assert fingerprint_with(changed) == before
    changed[next(iter(chosen))] = (labels[next(iter(chosen))] + 1) % 3
    assert fingerprint_with(changed) != before  # those of the labelled do


def order_of_choice(labels: np.ndarray, chosen: set[int]) -> list[int]:
    """The order in which the set is gone through, of which the first of each class are the chosen."""
    from ganjax.data.labelled import _seed as seed_of_choice
    from ganjax.data.zip import _seed as seed_of_part

    order = epoch_order(60, seed_of_choice(seed_of_part(5, "labelled")), 0)
    firsts = np.concatenate([order[labels[order] == label][:4] for label in range(3)])
    assert set(firsts.tolist()) == chosen
    return order.tolist()
