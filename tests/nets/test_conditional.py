import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random
from ganjax.nets.conditional import ConditionalDiscriminator, ConditionalGenerator, check_image_shape
from tests.nets.networks import features

KEY = jax.random.key(0)
FAST = {"xla_backend_optimization_level": 0}  # to compile; what is compiled is tiny


def shapes(image_shape, num_classes, *, width=4, dtype=None, count=3):
    """(output, variables) of generator and discriminator, by shape and type alone: nothing is compiled."""
    labels = jnp.zeros(count, jnp.int32) if num_classes else None
    generator = ConditionalGenerator(image_shape, num_classes, width=width, dtype=dtype)
    discriminator = ConditionalDiscriminator(num_classes, width=width, dtype=dtype)
    latents, images = jnp.zeros((count, 64)), jnp.zeros((count, *image_shape))
    return (
        jax.eval_shape(lambda: generator.init_with_output(KEY, latents, labels, train=True)),
        jax.eval_shape(lambda: discriminator.init_with_output(KEY, images, labels, train=True)),
    )


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("num_classes", [10, 0])
@pytest.mark.parametrize("image_shape", [(28, 28, 1), (32, 32, 3), (8, 12, 1), (4, 4, 4)])
def test_shapes(image_shape, num_classes):
    (images, _), (logits, _) = shapes(image_shape, num_classes)
    assert (images.shape, images.dtype) == ((3, *image_shape), jnp.float32)
    assert (logits.shape, logits.dtype) == ((3,), jnp.float32)


# By hand, at width 4, 64 latents, an embedding of 50: generator = embedding + dense without bias + batch norm
# + 4x4 kernel without bias + batch norm + 4x4 kernel with bias; discriminator = two 4x4 kernels with bias
# + dense + embedding of the features. A batch norm is conditional where there are classes.
COUNTS = [
    (
        (28, 28, 1),
        10,
        10 * 50 + (64 + 50) * 7 * 7 * 8 + 10 * 2 * 8 + 16 * 8 * 4 + 10 * 2 * 4 + 16 * 4 * 1 + 1,
        16 * 1 * 4 + 4 + 16 * 4 * 8 + 8 + 7 * 7 * 8 + 1 + 10 * 7 * 7 * 8,
    ),
    (
        (32, 32, 3),
        10,
        10 * 50 + (64 + 50) * 8 * 8 * 8 + 10 * 2 * 8 + 16 * 8 * 4 + 10 * 2 * 4 + 16 * 4 * 3 + 3,
        16 * 3 * 4 + 4 + 16 * 4 * 8 + 8 + 8 * 8 * 8 + 1 + 10 * 8 * 8 * 8,
    ),
    (
        (28, 28, 1),
        0,
        64 * 7 * 7 * 8 + 2 * 8 + 16 * 8 * 4 + 2 * 4 + 16 * 4 * 1 + 1,
        16 * 1 * 4 + 4 + 16 * 4 * 8 + 8 + 7 * 7 * 8 + 1,
    ),
]


@pytest.mark.parametrize(("image_shape", "num_classes", "of_generator", "of_discriminator"), COUNTS)
def test_parameter_counts_by_hand(image_shape, num_classes, of_generator, of_discriminator):
    (_, generator), (_, discriminator) = shapes(image_shape, num_classes)
    assert size(generator["params"]) == of_generator
    assert size(discriminator["params"]) == of_discriminator
    assert size(generator["batch_stats"]) == 2 * (8 + 4)
    assert set(discriminator) == {"params"}


def test_bfloat16_is_for_compute_only():
    outputs = shapes((8, 8, 1), 3, dtype=jnp.dtype("bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {np.dtype("float32")}


@pytest.mark.parametrize("shape", [(30, 28, 1), (28, 30, 1), (2, 28, 1), (0, 4, 1)])
def test_image_sizes_that_do_not_fit_are_refused(shape):
    message = rf"image_size {shape[0]}x{shape[1]}.* multiples of 4"
    with pytest.raises(ValueError, match=message):
        check_image_shape(shape, 4)
    with pytest.raises(ValueError, match=message):
        ConditionalGenerator(shape, 0).init(KEY, jnp.zeros((1, 4)), None, train=True)
    with pytest.raises(ValueError, match=message):
        ConditionalDiscriminator(0).init(KEY, jnp.zeros((1, *shape)), None, train=True)


def test_images_have_three_axes():
    with pytest.raises(ValueError, match=r"\(28, 28\): expected \(height, width, channels\)"):
        ConditionalDiscriminator(0).init(KEY, jnp.zeros((1, 28, 28)), None, train=True)


@pytest.fixture(scope="module")
def networks():
    """The two, with weights by numpy (to compile their initialisers takes longest), float32 and bfloat16."""
    draw = np.random.default_rng(0)
    (_, generator), (_, discriminator) = shapes((8, 8, 1), 3)
    fill = lambda tree, scale: jax.tree.map(  # noqa: E731
        lambda x: (scale * draw.normal(size=x.shape)).astype(x.dtype), tree
    )
    of_generator = {
        "params": fill(generator["params"], 0.3),
        "batch_stats": jax.tree.map(np.abs, fill(generator["batch_stats"], 1.0)),
    }
    return of_generator, fill(discriminator, 0.3)


def run(networks, latents, labels, *, train=False, dtype=None):
    def both(variables, latents, labels):
        generator = ConditionalGenerator((8, 8, 1), 3, width=4, dtype=dtype)
        discriminator = ConditionalDiscriminator(3, width=4, dtype=dtype)
        images, changes = generator.apply(variables[0], latents, labels, train=train, mutable=["batch_stats"])
        return images, discriminator.apply(variables[1], images, labels, train=train), changes

    return jax.jit(both, compiler_options=FAST)(networks, latents, labels)


def test_labels_and_latents_matter(networks):
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(1, 64)), jnp.float32)
    latents = jnp.concatenate([latents, latents, -latents])
    images, logits, changes = run(networks, latents, jnp.array([0, 1, 0]))
    assert np.abs(images).max() <= 1
    assert np.abs(images[0] - images[1]).max() > 0.01
    assert np.abs(images[0] - images[2]).max() > 0.01
    assert len(np.unique(np.asarray(logits))) == 3
    jax.tree.map(np.testing.assert_array_equal, changes["batch_stats"], networks[0]["batch_stats"])


def test_bfloat16_is_near_float32(networks):
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(3, 64)), jnp.float32)
    labels = jnp.array([0, 1, 2])
    exact = run(networks, latents, labels, train=True)
    rough = run(networks, latents, labels, train=True, dtype=jnp.dtype("bfloat16"))
    np.testing.assert_allclose(rough[0], exact[0], atol=0.1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05), rough[2], exact[2])
    # Logits are not rounded to bfloat16's 8 bits.
    assert (rough[1] != rough[1].astype(jnp.bfloat16).astype(jnp.float32)).any()


def test_the_logit_is_linear_in_features_plus_their_product_with_the_label(networks):
    """Miyato & Koyama 2018: between two labels of one image it differs by (v_a - v_b) . features."""
    _, variables = networks
    params = variables["params"]
    discriminator = ConditionalDiscriminator(3, width=4)
    images = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, size=(1, 8, 8, 1)), jnp.float32)
    images = jnp.tile(images, (4, 1, 1, 1))

    def logits(params, labels):
        return discriminator.apply({"params": params}, images, labels, train=True)

    apply = jax.jit(logits, compiler_options=FAST)
    labels = jnp.array([0, 1, 2, 1])
    values = apply(params, labels)
    # Twice the embeddings and the dense layer: twice the logits, for the features are the same.
    doubled = {**params, **{k: jax.tree.map(lambda x: 2 * x, params[k]) for k in ("Dense_0", "Embed_0")}}
    np.testing.assert_allclose(apply(doubled, labels), 2 * values, rtol=1e-5)
    # No embedding: the label is out of it.
    without = {**params, "Embed_0": jax.tree.map(np.zeros_like, params["Embed_0"])}
    base = apply(without, labels)
    np.testing.assert_allclose(base, base[0], rtol=1e-6)
    # The mean of two embeddings gives the mean of the two logits.
    table = params["Embed_0"]["embedding"].copy()
    table[2] = (table[0] + table[1]) / 2
    mixed = apply({**params, "Embed_0": {"embedding": table}}, labels)
    np.testing.assert_allclose(mixed[2], (values[0] + values[1]) / 2, rtol=1e-4, atol=1e-5)
    assert values[1] == values[3]


@pytest.mark.parametrize(("image_shape", "stages"), [((32, 32, 3), 3), ((8, 24, 4), 3), ((6, 2, 1), 1)])
def test_any_number_of_stages_by_hand(image_shape, stages):
    labels = jnp.zeros(3, jnp.int32)
    generator = ConditionalGenerator(image_shape, 10, width=4, stages=stages)
    discriminator = ConditionalDiscriminator(10, width=4, stages=stages)
    images, variables = jax.eval_shape(
        lambda: generator.init_with_output(KEY, jnp.zeros((3, 64)), labels, train=True)
    )
    logits, of_discriminator = jax.eval_shape(
        lambda: discriminator.init_with_output(KEY, jnp.zeros((3, *image_shape)), labels, train=True)
    )
    assert (images.shape, logits.shape) == ((3, *image_shape), (3,))
    # From the smallest image up, and down to it again.
    widths = [4 * 2**i for i in reversed(range(stages))]
    height, width, channels = (*(side // 2**stages for side in image_shape[:2]), image_shape[2])
    flat = height * width * widths[0]
    kernels = 16 * sum(a * b for a, b in zip(widths, [*widths[1:], channels], strict=True))
    assert size(variables["params"]) == 500 + 114 * flat + 10 * 2 * sum(widths) + kernels + channels
    assert size(of_discriminator["params"]) == kernels + sum(widths) + flat + 1 + 10 * flat
    with pytest.raises(ValueError, match=rf"multiples of {2**stages}"):
        generator.clone(image_shape=(7, 28, 1)).init(KEY, jnp.zeros((1, 64)), labels[:1], train=True)


def test_labels_belong_to_classes():
    labels = jnp.zeros(1, jnp.int32)
    latents, images = jnp.zeros((1, 4)), jnp.zeros((1, 4, 4, 1))
    for network, x in ((ConditionalGenerator((4, 4, 1), 0), latents), (ConditionalDiscriminator(0), images)):
        with pytest.raises(ValueError, match="takes no labels: its num_classes is 0"):
            jax.eval_shape(lambda n=network, x=x: n.init(KEY, x, labels, train=True))
    for network, x in ((ConditionalGenerator((4, 4, 1), 3), latents), (ConditionalDiscriminator(3), images)):
        with pytest.raises(ValueError, match="of 3 classes needs a label for each example"):
            jax.eval_shape(lambda n=network, x=x: n.init(KEY, x, None, train=True))


def test_features_and_dropout_of_the_discriminator(networks):
    _, variables = networks
    discriminator = ConditionalDiscriminator(3, width=4)
    images = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, size=(3, 8, 8, 1)), jnp.float32)
    labels = jnp.array([0, 1, 2])
    logits, found = features(discriminator, variables, images, labels)
    params = variables["params"]
    weights = params["Embed_0"]["embedding"] + params["Dense_0"]["kernel"].T
    expected = np.sum(np.asarray(found) * weights, axis=1) + params["Dense_0"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    keys = random.from_seeds(jnp.arange(3))
    half, _ = features(discriminator.clone(dropout=0.5), variables, images, labels, keys=keys)
    assert (np.abs(half - logits) > 1e-3).all()
