import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.nets.upsampling import UpsamplingDiscriminator, UpsamplingGenerator
from tests.nets.networks import KEY, convolved, features, random_variables, run, shapes, size


def both(image_shape=(8, 8, 1), width=2, dtype=None):
    generator = UpsamplingGenerator(image_shape, width=width, dtype=dtype)
    return generator, UpsamplingDiscriminator(width=width, dtype=dtype)


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (8, 12, 3), (4, 4, 4)])
def test_shapes(image_shape):
    (images, _), (logits, _) = shapes(*both(image_shape), image_shape)
    assert (images.shape, images.dtype) == ((3, *image_shape), jnp.float32)
    assert (logits.shape, logits.dtype) == ((3,), jnp.float32)


def test_parameter_counts_of_the_tutorial():
    (_, of_generator), (_, of_discriminator) = shapes(
        UpsamplingGenerator((28, 28, 1)), UpsamplingDiscriminator(), (28, 28, 1), latent_size=100
    )
    assert size(of_generator) == 6_763_777
    assert size(of_generator["batch_stats"]) == 12_544
    convs = (25 * 64 + 64) + (25 * 64 * 128 + 128)
    assert size(of_discriminator) == convs + (49 * 128 * 1024 + 1024) + 1024 + 1


def test_outputs_step_by_step():
    (_, of_generator), (_, of_discriminator) = shapes(*both(), (8, 8, 1))
    of_generator, of_discriminator = random_variables((of_generator, of_discriminator))
    generator, discriminator = both()
    latents = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    params, stats = of_generator["params"], of_generator["batch_stats"]["BatchNorm_0"]
    x = np.tanh(latents @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    x = x @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    norm = params["BatchNorm_0"]
    x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
    x = np.tanh(x).reshape(3, 2, 2, 4)
    for name in ("UpsampleConv_0", "UpsampleConv_1"):
        x = np.tanh(convolved(x.repeat(2, 1).repeat(2, 2), params[name]))
    images, _ = run(generator, of_generator, latents, None, train=False)
    np.testing.assert_allclose(images, x, rtol=1e-3, atol=1e-4)

    params = of_discriminator["params"]
    for name in ("Conv_0", "Conv_1"):
        x = np.tanh(convolved(x, params[name]))
        corners = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
        x = np.max(corners, axis=0)
    x = np.tanh(x.reshape(3, -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    expected = x @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    logits, found = features(discriminator, of_discriminator, images, None)
    np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found, x, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_for_compute_only():
    outputs = shapes(*both(dtype=jnp.dtype("bfloat16")), (8, 8, 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {np.dtype("float32")}


@pytest.mark.slow
def test_bfloat16_is_near_float32():
    (_, of_generator), (_, of_discriminator) = shapes(*both(), (8, 8, 1))
    of_generator, of_discriminator = random_variables((of_generator, of_discriminator))
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)), jnp.float32)
    results = []
    for dtype in (None, jnp.dtype("bfloat16")):
        generator, discriminator = both(dtype=dtype)
        images, _ = run(generator, of_generator, latents, None, train=False)
        logits, _ = run(discriminator, of_discriminator, results[0][0] if results else images, None)
        results.append((images, logits))
    exact, rough = results
    np.testing.assert_allclose(rough[0], exact[0], atol=0.1)
    np.testing.assert_allclose(rough[1], exact[1], atol=0.1)
    assert (rough[0] != exact[0]).any()
    assert (rough[1] != rough[1].astype(jnp.bfloat16).astype(jnp.float32)).any()


@pytest.mark.parametrize("shape", [(30, 28, 1), (28, 30, 1), (2, 28, 1)])
def test_image_sizes_that_do_not_fit_are_refused(shape):
    message = rf"image_size {shape[0]}x{shape[1]}.* multiples of 4"
    with pytest.raises(ValueError, match=message):
        UpsamplingGenerator(shape).init(KEY, jnp.zeros((3, 4)), None, train=True)
    with pytest.raises(ValueError, match=message):
        UpsamplingDiscriminator().init(KEY, jnp.zeros((3, *shape)), None, train=True)


def test_labels_are_refused():
    labels = jnp.zeros(2, jnp.int32)
    generator, discriminator = both()
    with pytest.raises(ValueError, match="takes no labels"):
        jax.eval_shape(lambda: generator.init(KEY, jnp.zeros((2, 4)), labels, train=True))
    with pytest.raises(ValueError, match="takes no labels"):
        jax.eval_shape(lambda: discriminator.init(KEY, jnp.zeros((2, 8, 8, 1)), labels, train=True))
