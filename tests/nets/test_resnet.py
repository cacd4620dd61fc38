import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.layers import conv, upsample_conv
from ganjax.nets import resnet
from ganjax.nets.resnet import ResNetDiscriminator, ResNetGenerator
from tests.nets.networks import KEY, convolved, features, random_variables, run, shapes, size


def both(image_shape=(8, 8, 3), width=4, stages=1, dtype=None):
    generator = ResNetGenerator(image_shape, width=width, stages=stages, dtype=dtype)
    return generator, ResNetDiscriminator(width=width, stages=stages, dtype=dtype)


@pytest.mark.parametrize(("image_shape", "stages"), [((32, 32, 3), 3), ((8, 12, 1), 2), ((2, 2, 4), 1)])
def test_shapes(image_shape, stages):
    (images, _), (logits, _) = shapes(*both(image_shape, stages=stages), image_shape)
    assert (images.shape, images.dtype) == ((3, *image_shape), jnp.float32)
    assert (logits.shape, logits.dtype) == ((3,), jnp.float32)


def test_parameter_counts_at_32_pixels_by_hand():
    """Miyato et al. 2018, table 4. Their code gives 4,276,739 and 1,053,825: ours leaves out one bias of 256
    in each of the generator's three blocks, which batch normalisation would take out again."""
    (_, generator), (_, discriminator) = shapes(
        ResNetGenerator((32, 32, 3)), ResNetDiscriminator(), (32, 32, 3), latent_size=128
    )
    norm, wide, narrow = 2 * 256, 9 * 256 * 256, 9 * 128 * 128
    up = norm + wide + norm + (wide + 256) + (256 * 256 + 256)
    assert size(generator["params"]) == 128 * 4096 + 4096 + 3 * up + norm + 9 * 256 * 3 + 3 == 4_276_739 - 768
    first = (9 * 3 * 128 + 128) + (narrow + 128) + (3 * 128 + 128)
    down = 2 * (narrow + 128) + (128 * 128 + 128)
    assert size(discriminator["params"]) == first + down + 4 * (narrow + 128) + 128 + 1 == 1_053_825


def test_every_kernel_of_the_discriminator_is_normalised():
    _, (_, variables) = shapes(*both(stages=2), (8, 8, 3))
    kernels = {
        path[:-1]
        for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
        if path[-1].key == "kernel"
    }
    vectors = {path[:-1] for path, _ in jax.tree_util.tree_leaves_with_path(variables["spectral"])}
    assert kernels == vectors
    assert len(kernels) == 3 * 2 + 2 * 2 + 1
    _, (_, variables) = shapes(*both(), (8, 8, 3))
    variables = random_variables(variables)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    _, discriminator = both()
    doubled = jax.tree_util.tree_map_with_path(
        lambda path, x: 2 * x if path[-1].key == "kernel" else x, variables["params"]
    )
    logits, changes = run(discriminator, variables, images, None)
    np.testing.assert_allclose(
        run(discriminator, {**variables, "params": doubled}, images, None)[0], logits, rtol=1e-4, atol=1e-5
    )
    moved = [
        np.abs(a - b).max()
        for a, b in zip(*map(jax.tree.leaves, (changes["spectral"], variables["spectral"])), strict=True)
    ]
    assert sum(amount > 0 for amount in moved) > len(moved) // 2
    # Evaluation moves nothing.
    _, changes = run(discriminator, variables, images, None, train=False)
    jax.tree.map(np.testing.assert_array_equal, changes["spectral"], variables["spectral"])


def test_upsampling_and_pooling_by_hand():
    x = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(resnet.upsample(x)[0, :, :, 0], expected)
    np.testing.assert_array_equal(resnet.downsample(resnet.upsample(x)), x)
    np.testing.assert_array_equal(resnet.downsample(x), [[[[2.5]]]])


@pytest.mark.parametrize("size", [(2, 4), (3, 1), (1, 1)])
def test_upsampling_and_convolution_are_what_they_say(size):
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.normal(size=(2, *size, 3)), jnp.float32)
    kernel = jnp.asarray(draw.normal(size=(3, 3, 3, 2)), jnp.float32)
    larger = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(upsample_conv(x, kernel), conv(larger, kernel), rtol=1e-5, atol=1e-5)
    y = conv(larger, kernel)
    pooled = (y[:, ::2, ::2] + y[:, 1::2, ::2] + y[:, ::2, 1::2] + y[:, 1::2, 1::2]) / 4
    np.testing.assert_allclose(resnet.conv_pool(larger, kernel), pooled, rtol=1e-5, atol=1e-5)


def test_the_shortcut_commutes():
    """The papers' order, upsampling or convolving first, pooling last, gives the same."""
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.normal(size=(2, 4, 4, 3)), jnp.float32)
    kernel = jnp.asarray(draw.normal(size=(1, 1, 3, 2)), jnp.float32)
    for change in (resnet.upsample, resnet.downsample):
        np.testing.assert_allclose(change(conv(x, kernel)), conv(change(x), kernel), rtol=1e-5, atol=1e-5)


def test_the_first_block_sees_negative_pixels():
    """No ReLU before the image: an image that is negative throughout matters."""
    _, discriminator = both()
    _, (_, variables) = shapes(*both(), (8, 8, 3))
    variables = random_variables(variables)
    images = -jnp.abs(jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32))
    logits, _ = run(discriminator, variables, images, None)
    # Of the first block's shortcut alone, everything behind the first convolution cut off.
    block = variables["params"]["DownBlock_0"]
    cut = {**block, "shortcut": jax.tree.map(np.zeros_like, block["shortcut"])}
    without, _ = run(
        discriminator, {**variables, "params": {**variables["params"], "DownBlock_0": cut}}, images, None
    )
    assert abs(without[0] - without[1]) > 1e-4
    assert (logits != without).all()


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
        images, _ = run(generator, of_generator, latents, None)
        logits, _ = run(discriminator, of_discriminator, results[0][0] if results else images, None)
        results.append((images, logits))
    exact, rough = results
    assert 0.1 < np.abs(exact[0]).max() <= 1
    np.testing.assert_allclose(rough[0], exact[0], atol=0.1)
    np.testing.assert_allclose(rough[1], exact[1], rtol=0.05, atol=0.2)
    assert (rough[0] != exact[0]).any()
    # Logits are not rounded to bfloat16's 8 bits.
    assert (rough[1] != rough[1].astype(jnp.bfloat16).astype(jnp.float32)).any()


@pytest.mark.parametrize("shape", [(30, 32, 3), (32, 30, 3), (4, 32, 3)])
def test_image_sizes_that_do_not_fit_are_refused(shape):
    message = rf"image_size {shape[0]}x{shape[1]}.* multiples of 8"
    with pytest.raises(ValueError, match=message):
        ResNetGenerator(shape).init(KEY, jnp.zeros((2, 4)), None, train=True)
    with pytest.raises(ValueError, match=message):
        ResNetDiscriminator(stages=3).init(KEY, jnp.zeros((2, *shape)), None, train=True)


def test_labels_are_refused():
    labels = jnp.zeros(2, jnp.int32)
    generator, discriminator = both()
    with pytest.raises(ValueError, match="takes no labels"):
        generator.init(KEY, jnp.zeros((2, 4)), labels, train=True)
    with pytest.raises(ValueError, match="takes no labels"):
        discriminator.init(KEY, jnp.zeros((2, 8, 8, 3)), labels, train=True)


def test_the_features_are_sown():
    _, discriminator = both()
    _, (_, variables) = shapes(*both(), (8, 8, 3))
    variables = random_variables(variables)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    _, changes = run(discriminator, variables, images)  # or the vectors are any, and norms negative
    variables = {**variables, **changes}
    logits, found = features(discriminator, variables, images)
    kernel, bias = (np.asarray(variables["params"]["SpectralDense_0"][name]) for name in ("kernel", "bias"))
    expected = np.asarray(found) @ kernel / np.linalg.norm(kernel) + bias
    np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("norm", "norms"), [("none", 0), ("layer", 6)])
def test_the_critic_of_wgan_gp_has_as_many_parameters(norm, norms):
    critic = ResNetDiscriminator(spectral=False, norm=norm, pool="mean")
    variables = jax.eval_shape(lambda: critic.init(KEY, jnp.zeros((2, 32, 32, 3)), train=True))
    assert set(variables) == {"params"}
    assert size(variables) == 1_053_825 + norms * 2 * 128


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_the_critic_step_by_step(norm):
    critic = ResNetDiscriminator(width=4, stages=2, spectral=False, norm=norm, pool="mean")
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    variables = random_variables(jax.eval_shape(lambda: critic.init(KEY, images, train=True)))

    def activated(x, block, name):
        if norm == "layer":
            x = (x - x.mean((1, 2, 3), keepdims=True)) / np.sqrt(x.var((1, 2, 3), keepdims=True) + 1e-5)
            x = x * block[name]["scale"] + block[name]["bias"]
        return np.maximum(x, 0)

    def halved(x):
        return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4

    params = variables["params"]
    first = params["DownBlock_0"]
    assert set(first) == {"Conv_0", "ConvPool_0", "shortcut"}
    x = np.asarray(images)
    y = np.maximum(convolved(x, first["Conv_0"]), 0)
    x = halved(convolved(y, first["ConvPool_0"])) + halved(convolved(x, first["shortcut"]))
    block = params["DownBlock_1"]
    y = convolved(activated(x, block, "LayerNorm_0"), block["Conv_0"])
    y = convolved(activated(y, block, "LayerNorm_1"), block["ConvPool_0"])
    x = halved(y) + halved(convolved(x, block["shortcut"]))
    for name in ("Block_0", "Block_1"):
        block = params[name]
        y = convolved(activated(x, block, "LayerNorm_0"), block["Conv_0"])
        x = x + convolved(activated(y, block, "LayerNorm_1"), block["Conv_1"])
    x = np.maximum(x, 0).mean((1, 2))
    expected = x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    scores, found = features(critic, variables, images)
    np.testing.assert_allclose(found, x, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores, expected[:, 0], rtol=1e-3, atol=1e-4)


def test_unknown_choices_are_refused():
    images = jnp.zeros((2, 8, 8, 3))
    with pytest.raises(ValueError, match="norm='batch': expected one of none, layer"):
        ResNetDiscriminator(norm="batch").init(KEY, images, train=True)
    with pytest.raises(ValueError, match="pool='max': expected one of sum, mean"):
        ResNetDiscriminator(pool="max").init(KEY, images, train=True)
