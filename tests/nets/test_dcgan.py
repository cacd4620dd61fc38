import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random
from ganjax.nets.conditional import check_image_shape
from ganjax.nets.dcgan import DCGANDiscriminator, DCGANGenerator, stages_for
from tests.nets.networks import FAST, KEY, features, random_variables, run, shapes, size


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


@pytest.mark.parametrize(
    ("shape", "stages"),
    [
        ((28, 28, 1), 2),
        ((32, 32, 3), 3),
        ((64, 64, 3), 4),
        ((64, 24, 1), 2),
        ((8, 64, 1), 1),
        ((36, 32, 4), 2),
    ],
)
def test_stages_for_a_size(shape, stages):
    assert stages_for(shape) == stages
    check_image_shape(shape, 2**stages)


@pytest.mark.parametrize("shape", [(27, 28, 1), (28, 27, 1), (6, 28, 1), (4, 4, 3)])
def test_sizes_that_can_not_be_halved_are_refused(shape):
    with pytest.raises(ValueError, match=rf"image_size {shape[0]}x{shape[1]}: .* at least 8"):
        stages_for(shape)


def test_virtual_norm_makes_images_the_examples_own():
    generator = DCGANGenerator((8, 8, 1), width=2, stages=2, norm="virtual", reference_size=4)
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)), jnp.float32)
    variables = jax.eval_shape(lambda: generator.init(KEY, latents, train=True))
    assert set(variables) == {"params", "reference"}
    assert variables["reference"]["latents"].shape == (4, 5)
    variables = random_variables(variables)
    images, changes = run(generator, variables, latents)
    jax.tree.map(np.testing.assert_array_equal, changes["reference"], variables["reference"])
    # Of batch normalisation over the reference and one example, that example's.
    plain = DCGANGenerator((8, 8, 1), width=2, stages=1, norm="virtual", reference_size=4)
    of_plain = random_variables(jax.eval_shape(lambda: plain.init(KEY, latents, train=True)))
    batch = {"params": {name.replace("Virtual", ""): tree for name, tree in of_plain["params"].items()}}
    zeros, ones = jnp.zeros(2), jnp.ones(2)
    batch["batch_stats"] = {"BatchNorm_0": {"mean": zeros, "var": ones}}
    joined = jnp.concatenate([of_plain["reference"]["latents"], latents[2:]])
    expected, _ = run(plain.clone(norm="batch"), batch, joined)
    found, _ = run(plain, of_plain, latents)
    np.testing.assert_allclose(found[2], expected[4], rtol=1e-3, atol=1e-4)
    assert images.shape == found.shape == (3, 8, 8, 1)


@pytest.mark.parametrize(("norm", "collections"), [("layer", {"params"}), ("none", {"params"})])
def test_norms_of_the_discriminator(norm, collections):
    discriminator = DCGANDiscriminator(width=2, stages=3, norm=norm)
    variables = jax.eval_shape(lambda: discriminator.init(KEY, jnp.zeros((3, 8, 8, 1)), train=True))
    assert set(variables) == collections
    norms = 2 * (4 + 8) if norm == "layer" else 0
    assert size(variables) == 16 * (2 + 2 * 4 + 4 * 8) + (2 + 4 + 8) + norms + 8 + 1


def test_dropout_features_and_the_others_of_the_batch():
    discriminator = DCGANDiscriminator(width=2, stages=2, norm="none", dropout=0.4)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 8, 1)), jnp.float32)
    variables = random_variables(jax.eval_shape(lambda: discriminator.init(KEY, images, train=True)))
    logits, found = features(discriminator, variables, images)
    last = variables["params"]["Dense_0"]
    expected = np.asarray(found) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-4, atol=1e-5)
    # The first layer's activations are dropped too: the features are sown before the last dropout.
    keys = random.from_seeds(jnp.arange(3))
    dropped, others = features(discriminator, variables, images, keys=keys)
    assert (np.abs(dropped - logits) > 1e-3).all()
    assert (np.abs(others - found).max(1) > 1e-3).all()
    alone, _ = features(discriminator, variables, images[1:2], keys=keys[1:2])
    np.testing.assert_allclose(alone, dropped[1:2], rtol=1e-4, atol=1e-5)
    # Minibatch discrimination: the same image, other companions, another logit.
    near = discriminator.clone(minibatch_discrimination=3)
    variables = random_variables(jax.eval_shape(lambda: near.init(KEY, images, train=True)))
    assert variables["params"]["MinibatchDiscrimination_0"]["tensor"].shape == (16, 3, 5)
    variables["params"]["MinibatchDiscrimination_0"]["tensor"] *= 0.1  # or nothing is near
    one, _ = features(near, variables, images)
    other, _ = features(near, variables, images.at[1:].set(images[:2]))
    assert abs(one[0] - other[0]) > 1e-3


def test_dropout_of_the_generator_is_the_examples_own():
    generator = DCGANGenerator((4, 4, 1), width=4, stages=1, norm="virtual", reference_size=4, dropout=0.5)
    latents = jnp.ones((4, 5))
    keys = random.from_seeds(jnp.arange(4))
    variables = random_variables(jax.eval_shape(lambda: generator.init(KEY, latents, train=True)))

    every, _ = run(generator, variables, latents, keys=keys)
    assert len(np.unique(np.asarray(every), axis=0)) == 4
    alone, _ = run(generator, variables, latents[2:3], keys=keys[2:3])
    np.testing.assert_allclose(alone, every[2:3], rtol=1e-4, atol=1e-5)
    whole, _ = run(generator, variables, latents)
    np.testing.assert_allclose(whole, np.tile(whole[:1], (4, 1, 1, 1)), rtol=1e-4, atol=1e-5)


def test_unknown_norms_are_refused():
    with pytest.raises(ValueError, match="norm='layer': expected one of batch, virtual"):
        DCGANGenerator((16, 16, 1), norm="layer").init(KEY, jnp.zeros((2, 4)), train=True)
    with pytest.raises(ValueError, match="norm='virtual': expected one of batch, layer, none"):
        DCGANDiscriminator(norm="virtual").init(KEY, jnp.zeros((2, 16, 16, 1)), train=True)
