import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from tests.nets.networks import FAST, KEY, random_variables, run, shapes, size


def both(image_shape=(8, 8, 3), width=2, stages=2, dtype=None):
    generator = DCGANGenerator(image_shape, width=width, stages=stages, dtype=dtype)
    return generator, DCGANDiscriminator(width=width, stages=stages, dtype=dtype)


@pytest.mark.parametrize(("image_shape", "stages"), [((64, 64, 3), 4), ((8, 12, 1), 2), ((2, 2, 4), 1)])
def test_shapes(image_shape, stages):
    (images, _), (logits, _) = shapes(*both(image_shape, stages=stages), image_shape)
    assert (images.shape, images.dtype) == ((3, *image_shape), jnp.float32)
    assert (logits.shape, logits.dtype) == ((3,), jnp.float32)


def test_widths_at_64_pixels():
    """512-256-128-64 over 4x4 to 64x64, and back."""
    generator, discriminator = DCGANGenerator((64, 64, 3)), DCGANDiscriminator()
    (_, of_generator), (_, of_discriminator) = shapes(generator, discriminator, (64, 64, 3), latent_size=100)
    params = of_generator["params"]
    assert params["Dense_0"]["kernel"].shape == (100, 4 * 4 * 512)
    assert [params[f"ConvTranspose_{i}"]["kernel"].shape for i in range(4)] == [
        (4, 4, 512, 256),
        (4, 4, 256, 128),
        (4, 4, 128, 64),
        (4, 4, 64, 3),
    ]
    # By hand. Generator: dense, four batch norms, three kernels without a bias and one with. Discriminator:
    # one kernel with a bias and three without, three batch norms, dense.
    assert size(params) == (
        100 * 8192 + 2 * (512 + 256 + 128 + 64) + 16 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + 3
    )
    assert size(of_discriminator["params"]) == (
        16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + 64 + 2 * (128 + 256 + 512) + 8192 + 1
    )
    assert size(of_generator["batch_stats"]) == 2 * (512 + 256 + 128 + 64)
    assert size(of_discriminator["batch_stats"]) == 2 * (128 + 256 + 512)


def test_weights_begin_at_a_standard_deviation_of_one_fiftieth():
    generator, discriminator = both((4, 4, 3), width=32, stages=1)
    init = lambda network: jax.jit(  # noqa: E731
        lambda example: network.init(KEY, example, None, train=True)["params"], compiler_options=FAST
    )
    params = init(generator)(jnp.zeros((2, 8))), init(discriminator)(jnp.zeros((2, 4, 4, 3)))
    kernels = [layer["kernel"] for network in params for layer in network.values() if "kernel" in layer]
    assert len(kernels) == 4
    for kernel in kernels:
        np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.25)


def test_bfloat16_is_for_compute_only():
    outputs = shapes(*both(dtype=jnp.dtype("bfloat16")), (8, 8, 3))
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {np.dtype("float32")}


def test_bfloat16_is_near_float32():
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(4, 5)), jnp.float32)
    (_, of_generator), (_, of_discriminator) = shapes(*both(), (8, 8, 3))
    of_generator, of_discriminator = random_variables((of_generator, of_discriminator))
    results = []
    for dtype in (None, jnp.dtype("bfloat16")):
        generator, discriminator = both(dtype=dtype)
        images, stats = run(generator, of_generator, latents, None)
        logits, _ = run(discriminator, of_discriminator, results[0][0] if results else images, None)
        results.append((images, logits, stats))
    exact, rough = results
    assert 0.1 < np.abs(exact[0]).max() <= 1
    np.testing.assert_allclose(rough[0], exact[0], atol=0.1)
    np.testing.assert_allclose(rough[1], exact[1], atol=0.2)
    assert (rough[0] != exact[0]).any()
    # Logits are not rounded to bfloat16's 8 bits.
    assert (rough[1] != rough[1].astype(jnp.bfloat16).astype(jnp.float32)).any()


@pytest.mark.parametrize("shape", [(30, 32, 3), (32, 30, 3), (8, 32, 3)])
def test_image_sizes_that_do_not_fit_are_refused(shape):
    message = rf"image_size {shape[0]}x{shape[1]}.* multiples of 16"
    with pytest.raises(ValueError, match=message):
        DCGANGenerator(shape).init(KEY, jnp.zeros((2, 4)), None, train=True)
    with pytest.raises(ValueError, match=message):
        DCGANDiscriminator().init(KEY, jnp.zeros((2, *shape)), None, train=True)


def test_labels_are_refused():
    labels = jnp.zeros(2, jnp.int32)
    generator, discriminator = both()
    with pytest.raises(ValueError, match="take no labels"):
        generator.init(KEY, jnp.zeros((2, 4)), labels, train=True)
    with pytest.raises(ValueError, match="take no labels"):
        discriminator.init(KEY, jnp.zeros((2, 8, 8, 3)), labels, train=True)
