import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random
from ganjax.nets.mlp import MLPDiscriminator, MLPGenerator
from tests.nets.networks import FAST, KEY, features, random_variables, run, shapes, size

LABELS = jnp.array([0, 1, 2], jnp.int32)


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (5, 3, 3), (2, 3, 4), (2,), (4, 6)])
@pytest.mark.parametrize("labels", [None, LABELS])
def test_shapes(image_shape, labels):
    classes = 0 if labels is None else 3
    generator = MLPGenerator(image_shape, hidden=(4, 5), num_classes=classes)
    discriminator = MLPDiscriminator(hidden=(5, 4), num_classes=classes)
    (images, _), (logits, _) = shapes(generator, discriminator, image_shape, labels=labels)
    assert (images.shape, images.dtype) == ((3, *image_shape), jnp.float32)
    assert (logits.shape, logits.dtype) == ((3,), jnp.float32)


def test_parameter_counts_of_the_textbooks():
    (_, of_generator), (_, of_discriminator) = shapes(
        MLPGenerator((28, 28, 1)), MLPDiscriminator(), (28, 28, 1), latent_size=100
    )
    assert size(of_generator) == 1_486_352
    assert size(of_discriminator) == 1_460_225
    # A tutorial's, whose hidden layers are as large as 128 and 256 images of 7x7.
    generator = MLPGenerator((28, 28, 1), hidden=(128 * 49, 256 * 49), activation="relu")
    (_, of_generator), (_, of_discriminator) = shapes(
        generator, MLPDiscriminator(hidden=(128,)), (28, 28, 1), latent_size=100
    )
    assert size(of_generator) == 89_157_264
    assert size(of_discriminator) == 784 * 128 + 128 + 128 + 1


def test_parameter_counts_with_everything_by_hand():
    (_, of_generator), (_, of_discriminator) = shapes(
        MLPGenerator((2, 3, 1), hidden=(4, 7), norm="batch", num_classes=3, embedding=6),
        MLPDiscriminator(hidden=(7, 4), minibatch_discrimination=2, num_classes=3),
        (2, 3, 1),
        labels=LABELS,
    )
    # Embedding, two dense layers without a bias, their norms, one with.
    assert size(of_generator["params"]) == 3 * 6 + (5 + 6) * 4 + 4 * 7 + 2 * (4 + 7) + 7 * 6 + 6
    assert size(of_generator["batch_stats"]) == 2 * (4 + 7)
    # Two dense layers, a tensor of 4 x 2 x 5, dense of 4 + 2, embeddings of 4.
    assert size(of_discriminator) == (6 * 7 + 7) + (7 * 4 + 4) + 4 * 2 * 5 + (4 + 2 + 1) + 3 * 4


@pytest.mark.parametrize(("name", "slope"), [("leaky_relu", 0.2), ("relu", 0.0)])
def test_outputs_by_hand(name, slope):
    generator = MLPGenerator((2,), hidden=(4,), activation=name)
    discriminator = MLPDiscriminator(hidden=(4,), activation=name)
    (_, of_generator), (_, of_discriminator) = shapes(generator, discriminator, (2,))
    variables = random_variables((of_generator, of_discriminator))
    latents = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)

    def by_hand(x, params):
        first, last = params["Dense_0"], params["Dense_1"]
        x = x @ first["kernel"] + first["bias"]
        return np.where(x > 0, x, slope * x) @ last["kernel"] + last["bias"]

    points = by_hand(latents, variables[0]["params"])
    unbounded = generator.clone(bounded=False)
    np.testing.assert_allclose(run(unbounded, variables[0], latents, None)[0], points, rtol=1e-4, atol=1e-5)
    images, _ = run(generator, variables[0], latents, None)
    np.testing.assert_allclose(images, np.tanh(points), rtol=1e-4, atol=1e-5)
    logits, _ = run(discriminator, variables[1], points, None)
    np.testing.assert_allclose(logits, by_hand(points, variables[1]["params"])[:, 0], rtol=1e-4, atol=1e-5)


def test_labels_and_latents_matter():
    generator = MLPGenerator((4, 4, 1), hidden=(8,), num_classes=3)
    discriminator = MLPDiscriminator(hidden=(8,), num_classes=3)
    (_, of_generator), (_, of_discriminator) = shapes(generator, discriminator, (4, 4, 1), labels=LABELS)
    of_generator, of_discriminator = random_variables((of_generator, of_discriminator))
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(1, 5)), jnp.float32)
    latents = jnp.concatenate([latents, latents, -latents])
    labels = jnp.array([0, 1, 0])
    images, _ = run(generator, of_generator, latents, labels)
    assert np.abs(images[0] - images[1]).max() > 1e-3
    assert np.abs(images[0] - images[2]).max() > 1e-3
    logits, _ = run(discriminator, of_discriminator, jnp.tile(images[:1], (3, 1, 1, 1)), labels)
    assert logits[0] != logits[1]
    np.testing.assert_allclose(logits[0], logits[2], rtol=1e-6)


def test_features_are_the_last_hidden_activations():
    discriminator = MLPDiscriminator(hidden=(6, 4), dropout=0.5, minibatch_discrimination=2)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 2, 1)), jnp.float32)
    variables = jax.eval_shape(lambda: discriminator.init(KEY, images, None, train=True))
    assert set(variables) == {"params"}
    variables = random_variables(variables)
    logits, found = features(discriminator, variables, images)
    params = variables["params"]
    x = np.asarray(images).reshape(3, 4)
    for name in ("Dense_0", "Dense_1"):
        x = x @ params[name]["kernel"] + params[name]["bias"]
        x = np.where(x > 0, x, 0.2 * x)
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-5)
    # And the logit is of these and of how near they are to the others'.
    matrices = np.einsum("na,abc->nbc", x, params["MinibatchDiscrimination_0"]["tensor"])
    near = np.exp(-np.abs(matrices[:, None] - matrices[None]).sum(-1)).sum(1) - 1
    last = params["Dense_2"]
    expected = np.concatenate([x, near], axis=1) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-4, atol=1e-5)


def test_dropout_depends_on_the_examples_key_alone():
    keys = random.from_seeds(jnp.arange(4))
    order = np.array([3, 1])
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 6)), jnp.float32)
    generator = MLPGenerator((6,), hidden=(30, 30), norm="virtual", reference_size=3, dropout=0.5)
    discriminator = MLPDiscriminator(hidden=(30, 30), dropout=0.5)
    for network in (generator, discriminator):
        variables = random_variables(jax.eval_shape(lambda n=network: n.init(KEY, x, None, train=True)))
        y, _ = run(network, variables, x, keys=keys)
        some, _ = run(network, variables, x[order], keys=keys[order])
        np.testing.assert_allclose(some, y[order], rtol=1e-5, atol=1e-6)
        whole, _ = run(network, variables, x)
        assert (np.abs(whole - y).reshape(4, -1).max(1) > 1e-3).all()
        same, _ = run(network, variables, jnp.tile(x[:1], (4, 1)), keys=keys)
        assert len(np.unique(np.asarray(same).reshape(4, -1)[:, 0])) == 4


def test_the_reference_batch_is_drawn_at_init_and_stays():
    generator = MLPGenerator((2,), hidden=(8,), norm="virtual", reference_size=50, num_classes=3)
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)), jnp.float32)
    init = jax.jit(lambda key: generator.init(key, latents, LABELS, train=True), compiler_options=FAST)
    variables, others = init(KEY), init(jax.random.key(1))
    reference = np.asarray(variables["reference"]["latents"])
    assert reference.shape == (50, 5)
    np.testing.assert_allclose([reference.mean(), reference.std()], [0, 1], atol=0.2)
    assert (reference != np.asarray(others["reference"]["latents"])).any()
    # Means over devices leave it as it is, to the last bit.
    for devices in (3, 5, 7):
        total = np.zeros_like(reference)
        for _ in range(devices):
            total = total + reference
        np.testing.assert_array_equal(total / np.float32(devices), reference)
    images, changes = run(generator, variables, latents, LABELS)
    np.testing.assert_array_equal(changes["reference"]["latents"], reference)
    assert images.shape == (3, 2)
    # Each example by itself, in training and in evaluation.
    alone, _ = run(generator, variables, latents[1:2], LABELS[1:2], train=False)
    np.testing.assert_allclose(alone, images[1:2], rtol=1e-4, atol=1e-5)
    # The reference counts: it is not the batch that normalises.
    moved = {**variables, "reference": {"latents": 3 * reference + 1}}
    assert np.abs(run(generator, moved, latents, LABELS)[0] - images).max() > 1e-3


def in_both_types():
    """Generator and discriminator, for compute in float32 and in bfloat16."""
    dtype = jnp.dtype("bfloat16")
    options = {"norm": "virtual", "reference_size": 8, "num_classes": 3}
    return [
        (
            MLPGenerator((4, 4, 1), hidden=(8, 8), dtype=dtype, **options),
            MLPDiscriminator(hidden=(8,), num_classes=3, minibatch_discrimination=2, dtype=dtype),
        )
        for dtype in (None, dtype)
    ]


def test_bfloat16_is_for_compute_only():
    outputs = shapes(*in_both_types()[1], (4, 4, 1), labels=LABELS)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {np.dtype("float32")}


@pytest.mark.slow
def test_bfloat16_is_near_float32():
    pairs = in_both_types()
    (_, of_generator), (_, of_discriminator) = shapes(*pairs[1], (4, 4, 1), labels=LABELS)
    of_generator, of_discriminator = random_variables((of_generator, of_discriminator))
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)), jnp.float32)
    (exact, _), (rough, _) = (run(g, of_generator, latents, LABELS) for g, _ in pairs)
    np.testing.assert_allclose(rough, exact, atol=0.1)
    assert (rough != exact).any()
    (logits, _), (near, _) = (run(d, of_discriminator, exact, LABELS) for _, d in pairs)
    np.testing.assert_allclose(near, logits, atol=0.1)
    # Logits are not rounded to bfloat16's 8 bits.
    assert (near != near.astype(jnp.bfloat16).astype(jnp.float32)).any()


@pytest.mark.parametrize(
    ("network", "labels", "message"),
    [
        (MLPGenerator((4,), activation="gelu"), None, "activation='gelu': expected one of relu, leaky_relu"),
        (MLPGenerator((4,), norm="layer"), None, "norm='layer': expected one of none, batch, virtual"),
        (MLPGenerator((4,), norm="virtual", reference_size=0), None, "reference_size=0: .* at least one"),
        (MLPGenerator((4,), hidden=()), None, r"hidden=\(\): expected at least one layer"),
        (MLPGenerator((4, 0)), None, r"image shape \(4, 0\)"),
        (MLPGenerator((4,), dropout=1.0), None, "dropout=1.0: expected a rate"),
        (MLPGenerator((4,)), LABELS, "takes no labels: its num_classes is 0"),
        (MLPGenerator((4,), num_classes=3), None, "of 3 classes needs a label for each example"),
        (MLPDiscriminator(), LABELS, "takes no labels: its num_classes is 0"),
        (MLPDiscriminator(num_classes=3), None, "of 3 classes needs a label for each example"),
        (MLPDiscriminator(hidden=(4, 0)), None, r"hidden=\(4, 0\): .* at least one unit"),
    ],
)
def test_what_does_not_fit_is_refused(network, labels, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: network.init(KEY, jnp.zeros((3, 4)), labels, train=True))
