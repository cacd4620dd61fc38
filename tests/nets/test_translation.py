import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.nets.translation import PATCHES, PatchDiscriminator, ResidualGenerator, cut_off
from ganjax.nets.unet import UNet
from tests.nets.networks import FAST, KEY, random_variables, run, size


def shapes(network, shape, **options):
    images = jnp.zeros((2, *shape))
    return jax.eval_shape(lambda: network.init_with_output(KEY, images, train=True, **options))


@pytest.mark.parametrize(
    ("patch", "side"),
    [
        (1, 3),
        (16, 40),
        pytest.param(34, 80, marks=pytest.mark.slow),
        (70, 144),
        pytest.param(142, 288, marks=pytest.mark.slow),
        (286, 576),
    ],
)
def test_a_logit_sees_a_patch_of_so_many_pixels(patch, side):
    """Exactly: by what the gradient of a logit in the middle reaches, in a net of a channel without norm."""
    network = PatchDiscriminator(patch, width=1, norm="none")
    shape = (1, side, 9 if patch == 1 else side, 1)
    template = jax.eval_shape(lambda: network.init(KEY, jnp.zeros(shape), train=True))
    variables = jax.tree.map(lambda x: jnp.full(x.shape, 0.5), template)  # positive: nothing cancels

    def middle(images):
        logits: Any = network.apply(variables, images, train=True)
        return logits[0, logits.shape[1] // 2, logits.shape[2] // 2, 0]

    gradient = jax.jit(jax.grad(middle), compiler_options=FAST)(jnp.ones(shape))[0]
    reached = np.nonzero(np.asarray(gradient)[..., 0])
    assert [places.max() - places.min() + 1 for places in reached] == [patch, patch]


def test_the_patches_of_the_papers():
    network = PatchDiscriminator(70)
    (logits, variables) = shapes(network, (256, 256, 6))
    assert logits.shape == (2, 30, 30, 1)
    # C64-C128-C256-C512: kernels and the biases of the first and the last, a scale and a bias of each norm.
    kernels = 16 * (6 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    assert size(variables["params"]) == kernels + 64 + 1 + 2 * (128 + 256 + 512)
    assert shapes(PatchDiscriminator(1), (4, 6, 3))[0].shape == (2, 4, 6, 1)
    assert set(PATCHES) >= {1, 16, 70, 286}
    with pytest.raises(ValueError, match="patch=71: expected one of 1, 16"):
        shapes(PatchDiscriminator(71), (256, 256, 3))
    with pytest.raises(ValueError, match="16x64: a discriminator of patch=70 needs sides of at least 24"):
        shapes(network, (16, 64, 3))
    assert shapes(network, (24, 64, 3))[0].shape == (2, 1, 6, 1)


def test_the_papers_residual_generator():
    images, variables = shapes(ResidualGenerator(3, blocks=9), (256, 256, 3))
    assert images.shape == (2, 256, 256, 3)
    # The 11.4 million that are quoted, without the biases that instance normalisation takes out again.
    stem = 49 * 3 * 64 + 9 * (64 * 128 + 128 * 256)
    assert size(variables["params"]) == 2 * stem + 9 * 2 * 9 * 256 * 256 + 3
    assert shapes(ResidualGenerator(1, blocks=0, width=4), (8, 12, 4))[0].shape == (2, 8, 12, 1)
    for shape, words in (((10, 8, 3), "multiples of 4"), ((4, 8, 3), "sides of at least 8")):
        with pytest.raises(ValueError, match=words):
            shapes(ResidualGenerator(3, blocks=1), shape)


def test_a_generator_that_adds_to_the_image():
    """It begins with the image itself, what it adds is cut off at -1 and 1, and from its first step on it
    learns."""
    images = jax.random.uniform(KEY, (2, 8, 12, 3), minval=-1.0)
    network = ResidualGenerator(3, blocks=1, width=2, upsampling="nearest", skip=True)
    variables: Any = network.init(KEY, images, train=True)
    np.testing.assert_array_equal(network.apply(variables, images, train=False), images)

    def energy(variables):
        answer: Any = network.apply(variables, images / 2, train=True)
        return jnp.sum(jnp.square(answer))

    grads: Any = jax.grad(energy)(variables)
    assert np.abs(grads["params"]["Conv_5"]["kernel"]).max() > 1e-3
    last = variables["params"]["Conv_5"]  # first, two halvings, two of the block
    added = jnp.array([0.5, -0.5, 3.0])
    variables["params"]["Conv_5"] = last | {"bias": added}
    answer: Any = network.apply(variables, images, train=False)
    np.testing.assert_allclose(answer, np.clip(np.asarray(images) + np.asarray(added), -1, 1), rtol=1e-6)
    with pytest.raises(ValueError, match="skip: expected images of as many channels as the output, got 1"):
        shapes(network, (8, 8, 1))
    with pytest.raises(ValueError, match="upsampling='bilinear': expected one of transposed, nearest"):
        shapes(ResidualGenerator(3, blocks=1, upsampling="bilinear"), (8, 8, 3))


def test_what_is_cut_off_can_come_back():
    """The gradient of a clip but for what is beyond and wants to come back: white can become darker."""
    x = jnp.array([-1.5, -1.5, -1.0, 0.25, 1.0, 1.5, 1.5])
    gradient = jnp.array([2.0, -2.0, 3.0, 4.0, -3.0, 2.0, -2.0])
    value, back = jax.vjp(cut_off, x)
    np.testing.assert_array_equal(value, [-1, -1, -1, 0.25, 1, 1, 1])
    np.testing.assert_array_equal(back(gradient)[0], [0, -2, 3, 4, -3, 2, 0])
    white = jnp.ones((1, 8, 8, 1))
    network = ResidualGenerator(1, blocks=0, width=2, skip=True)
    variables: Any = network.init(KEY, white, train=True)
    last = variables["params"]["Conv_3"]  # first, two halvings
    variables["params"]["Conv_3"] = last | {"bias": jnp.array([0.01])}

    def brightness(variables):
        answer: Any = network.apply(variables, white, train=True)
        return jnp.mean(answer)

    assert jax.grad(brightness)(variables)["params"]["Conv_3"]["bias"][0] == pytest.approx(1.0)


def test_nearest_upsampling_leaves_no_checkerboard():
    """Of halves of one value each it makes such, away from borders; transposed convolutions do not."""
    spread = {}
    for upsampling in ("transposed", "nearest"):
        network = ResidualGenerator(1, blocks=0, width=2, halvings=1, upsampling=upsampling)
        form = jax.eval_shape(lambda: network.init(KEY, jnp.zeros((1, 48, 96, 1)), train=True))
        halves = jnp.full((1, 48, 96, 1), 0.5).at[:, :, :48].set(-0.5)
        answer: Any = network.apply(random_variables(form), halves, train=False)
        inner = answer[0, 16:32, 16:32, 0]
        spread[upsampling] = float(jnp.max(inner) - jnp.min(inner))
    assert spread["nearest"] < 1e-5 < 1e-2 < spread["transposed"]


def test_the_papers_unet():
    images, variables = shapes(UNet(3), (256, 256, 1))
    assert images.shape == (2, 256, 256, 3)
    widths = [64, 128, 256, 512, 512, 512, 512, 512]
    down = 16 * (64 + sum(a * b for a, b in itertools.pairwise(widths))) + 64 + 512
    ups = [(512, 512), *[(1024, 512)] * 3, (1024, 256), (512, 128), (256, 64)]
    up = 16 * (sum(a * b for a, b in ups) + 128 * 3) + 3
    norms = 2 * (sum(widths[1:-1]) + sum(b for _, b in ups))
    assert size(variables["params"]) == down + up + norms
    with pytest.raises(ValueError, match="multiples of 16"):
        shapes(UNet(3, stages=4), (16, 24, 3))


def test_dropout_is_the_unets_noise_also_in_sampling():
    network = UNet(1, stages=3, width=2, dropout=0.5)
    variables = random_variables(shapes(network, (8, 16, 1))[1])
    image = np.random.default_rng(0).uniform(-1, 1, (1, 8, 16, 1)).astype(np.float32)
    images = np.repeat(image, 3, axis=0)
    drawn = [
        np.asarray(run(network, variables, images, train=False, keys=keys)[0])
        for keys in (jax.random.split(KEY, 3), None)
    ]
    assert len({x.tobytes() for x in drawn[0]}) == 3
    assert len({x.tobytes() for x in drawn[1]}) == 1


def test_skips_carry_what_the_bottleneck_does_not():
    """With the deepest maps cut off, a change of one pixel is seen where it is and not elsewhere."""
    network = UNet(1, stages=3, width=2, norm="none")
    variables = random_variables(shapes(network, (16, 16, 1))[1])
    params = dict(variables["params"])
    params["ConvTranspose_0"] = jax.tree.map(np.zeros_like, params["ConvTranspose_0"])
    images = np.zeros((2, 16, 16, 1), np.float32)
    images[1, 0, 0] = 1.0
    output = np.asarray(run(network, {"params": params}, images)[0])
    changed = np.nonzero(np.abs(output[0] - output[1])[..., 0])
    assert 0 < max(places.max() for places in changed) < 10
