import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random
from ganjax.nets.book import BookDiscriminator, BookGenerator
from tests.nets.networks import KEY, features, random_variables, run, shapes, size

LABELS = jnp.array([0, 1, 2], jnp.int32)


def both(image_shape=(8, 8, 1), num_classes=3, width=4, dtype=None):
    generator = BookGenerator(image_shape, num_classes, width=width, dtype=dtype)
    return generator, BookDiscriminator(num_classes, width=width, dtype=dtype)


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (8, 12, 3), (4, 4, 4)])
def test_shapes(image_shape):
    (images, _), (logits, _) = shapes(*both(image_shape), image_shape, labels=LABELS)
    assert (images.shape, images.dtype) == ((3, *image_shape), jnp.float32)
    assert (logits.shape, logits.dtype) == ((3,), jnp.float32)


def test_parameter_counts_by_hand():
    generator, discriminator = BookGenerator((28, 28, 1), 10), BookDiscriminator(10)
    (_, of_generator), (_, of_discriminator) = shapes(
        generator, discriminator, (28, 28, 1), latent_size=100, labels=LABELS
    )
    # Embedding, dense to one channel of 7x7, dense to 128 of them, two 4x4 kernels, one of 7x7; all but the
    # embedding with a bias.
    up = (16 * 129 * 128 + 128) + (16 * 128 * 128 + 128)
    by_hand = 10 * 50 + (50 * 49 + 49) + (100 * 6272 + 6272) + up + (49 * 128 + 1)
    assert size(of_generator) == by_hand == 1_169_336
    # Embedding, dense to a channel of 28x28, two 3x3 kernels, dense.
    down = (9 * 2 * 128 + 128) + (9 * 128 * 128 + 128)
    assert size(of_discriminator) == 10 * 50 + (50 * 784 + 784) + down + (7 * 7 * 128 + 1)
    assert set(of_generator) == set(of_discriminator) == {"params"}


def test_labels_and_latents_matter():
    (_, of_generator), (_, of_discriminator) = shapes(*both(), (8, 8, 1), labels=LABELS)
    of_generator, of_discriminator = random_variables((of_generator, of_discriminator))
    generator, discriminator = both()
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(1, 5)), jnp.float32)
    latents = jnp.concatenate([latents, latents, -latents])
    labels = jnp.array([0, 1, 0])
    images, _ = run(generator, of_generator, latents, labels)
    assert np.abs(images).max() <= 1
    assert np.abs(images[0] - images[1]).max() > 1e-3
    assert np.abs(images[0] - images[2]).max() > 1e-3
    logits, _ = run(discriminator, of_discriminator, jnp.tile(images[:1], (3, 1, 1, 1)), labels)
    assert logits[0] != logits[1]
    np.testing.assert_allclose(logits[0], logits[2], rtol=1e-6)


def test_bfloat16_is_for_compute_only():
    outputs = shapes(*both(dtype=jnp.dtype("bfloat16")), (8, 8, 1), labels=LABELS)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {np.dtype("float32")}


def test_bfloat16_is_near_float32():
    (_, of_generator), (_, of_discriminator) = shapes(*both(), (8, 8, 1), labels=LABELS)
    of_generator, of_discriminator = random_variables((of_generator, of_discriminator))
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)), jnp.float32)
    results = []
    for dtype in (None, jnp.dtype("bfloat16")):
        generator, discriminator = both(dtype=dtype)
        images, _ = run(generator, of_generator, latents, LABELS)
        logits, _ = run(discriminator, of_discriminator, results[0][0] if results else images, LABELS)
        results.append((images, logits))
    exact, rough = results
    np.testing.assert_allclose(rough[0], exact[0], atol=0.1)
    np.testing.assert_allclose(rough[1], exact[1], atol=0.1)
    assert (rough[0] != exact[0]).any()
    # Logits are not rounded to bfloat16's 8 bits.
    assert (rough[1] != rough[1].astype(jnp.bfloat16).astype(jnp.float32)).any()


@pytest.mark.parametrize("shape", [(30, 28, 1), (28, 30, 1), (2, 28, 1)])
def test_image_sizes_that_do_not_fit_are_refused(shape):
    message = rf"image_size {shape[0]}x{shape[1]}.* multiples of 4"
    with pytest.raises(ValueError, match=message):
        BookGenerator(shape, 3).init(KEY, jnp.zeros((3, 4)), LABELS, train=True)
    with pytest.raises(ValueError, match=message):
        BookDiscriminator(3).init(KEY, jnp.zeros((3, *shape)), LABELS, train=True)


def test_dropout_comes_between_the_features_and_the_logit():
    _, discriminator = both()
    _, (_, variables) = shapes(*both(), (8, 8, 1), labels=LABELS)
    variables = random_variables(variables)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 8, 1)), jnp.float32)
    logits, found = features(discriminator, variables, images, LABELS)
    last = variables["params"]["Dense_0"]
    np.testing.assert_allclose(
        logits, (np.asarray(found) @ last["kernel"] + last["bias"])[:, 0], rtol=1e-4, atol=1e-5
    )
    keys = random.from_seeds(jnp.arange(3))
    half, same = features(discriminator.clone(dropout=0.5), variables, images, LABELS, keys=keys)
    np.testing.assert_array_equal(same, found)
    assert (np.abs(half - logits) > 1e-3).all()
