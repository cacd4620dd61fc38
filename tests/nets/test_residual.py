from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.nets import residual
from ganjax.nets.residual import ResidualDiscriminator, ResidualGenerator
from tests.nets.networks import KEY, features, run, settled_variables, shapes, size

LABELS = jnp.array([0, 2, 1])


def forms(
    image_shape, classes=3, latent_size=8, widths=(2, 2), labels: Any = LABELS, of_generator=None, **options
):
    """(output, variables) of both networks, by shape and type alone."""
    networks = (
        ResidualGenerator(image_shape, classes, widths[0], **(of_generator or {}), **options),
        ResidualDiscriminator(classes, widths[1], **options),
    )
    return shapes(*networks, image_shape, latent_size=latent_size, labels=labels)


@pytest.mark.parametrize("side", residual.PLANS)
@pytest.mark.parametrize("deep", [False, True])
def test_shapes_at_every_size(side, deep):
    shape = (side, side, 3)
    attention = residual.attention_sides(shape)[-1]
    parts = residual.latent_parts(shape)
    of_generator = {"embedding": 4}
    (images, _), (logits, _) = forms(
        shape, latent_size=2 * parts, of_generator=of_generator, deep=deep, attention=attention
    )
    assert (images.shape, images.dtype) == ((3, *shape), jnp.float32)
    assert (logits.shape, logits.dtype) == ((3,), jnp.float32)


def test_parameter_counts_that_are_known():
    """BigGAN at 128x128, 1,000 classes: the authors' PyTorch code has 70,433,988 and 87,982,370. Ours leaves
    out a bias in each of the generator's blocks, which batch normalisation would take out again."""
    (_, generator), (_, discriminator) = forms(
        (128, 128, 3), 1000, 120, (96, 96), of_generator={"embedding": 128}, attention=64
    )
    biases = 96 * (16 + 8 + 4 + 2 + 1)
    assert size(generator["params"]) == 70_433_988 - biases
    assert size(discriminator["params"]) == 87_982_370


def test_kernels_in_blocks_may_begin_otherwise():
    """But for shortcuts, and what is outside of blocks. Those that do are told by their type."""

    def marked(key, shape, dtype=None):
        del key, dtype
        return jnp.zeros(shape, jnp.float16)

    generator = ResidualGenerator((28, 28, 1), width=1, block_init=marked, spectral=False)
    discriminator = ResidualDiscriminator(width=1, block_init=marked, spectral=False)
    for _, variables in shapes(generator, discriminator, (28, 28, 1)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
            names = [str(part.key) for part in path]
            if names[-1] == "kernel":
                assert (leaf.dtype == jnp.float16) == names[-2].startswith("conv_"), names


def test_conditional_sngan_has_sngans_sizes():
    """Those of `ganjax.nets.resnet` (Miyato et al. 2018, table 4), and what the classes add."""
    generator, discriminator = (
        ResidualGenerator((32, 32, 3), 10, 64, spectral=False),
        ResidualDiscriminator(10, 32),
    )
    (_, of_g), (_, of_d) = shapes(generator, discriminator, (32, 32, 3), latent_size=128, labels=LABELS)
    # Six of the seven norms have a table instead of a scale and a bias.
    assert size(of_g["params"]) == 4_276_739 - 768 + 6 * 2 * 256 * (10 - 1)
    assert size(of_d["params"]) == 1_053_825 + 10 * 128


@pytest.mark.parametrize(("spectral", "kernels"), [(True, {"generator", "discriminator"}), (False, set())])
def test_every_kernel_is_spectrally_normalised(spectral, kernels):
    of_generator = {"embedding": 4}
    (_, of_g), (_, of_d) = forms(
        (28, 28, 1), 3, 6, of_generator=of_generator, attention=14, spectral=spectral
    )
    for player, variables in (("generator", of_g), ("discriminator", of_d)):
        paths = {
            path[:-1]
            for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
            if path[-1].key == "kernel" or path[-2].key == "label_features"
        }
        found = {path[:-1] for path, _ in jax.tree_util.tree_leaves_with_path(variables.get("spectral", {}))}
        assert found == (paths if player in kernels else set())


def test_how_the_label_enters_the_generator():
    """By tables of each norm's own, or by a shared embedding beside a part of the latents or all of them."""
    (_, plain), _ = forms((28, 28, 1), 0, 6, labels=None)
    assert set(plain["params"]["up_0"]["norm_0"]) == {"scale", "bias"}
    (_, tables), _ = forms((28, 28, 1), 3, 6)
    assert tables["params"]["up_0"]["norm_0"]["gamma"]["embedding"].shape == (3, 4)
    (_, split), _ = forms((28, 28, 1), 3, 6, of_generator={"embedding": 5})
    assert split["params"]["label_embedding"]["embedding"].shape == (3, 5)
    assert split["params"]["up_0"]["norm_0"]["gamma"]["kernel"].shape == (5 + 2, 4)
    assert split["params"]["dense"]["kernel"].shape == (2, 7 * 7 * 4)
    (_, whole), _ = forms((28, 28, 1), 3, 6, of_generator={"embedding": 5}, deep=True)
    assert whole["params"]["up_0"]["norm_0"]["gamma"]["kernel"].shape == (5 + 6, 4)
    assert whole["params"]["dense"]["kernel"].shape == (5 + 6, 7 * 7 * 4)


def test_each_part_of_the_latents_goes_its_own_way():
    """The last part of BigGAN's reaches the last block alone, as a change of its first norm's scale shows."""
    generator = ResidualGenerator((28, 28, 1), 3, 1, embedding=2)
    latents = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    labels = np.array([0, 2], np.int32)
    form = jax.eval_shape(lambda: generator.init(KEY, latents, labels, train=True))
    variables = settled_variables(form)
    of_last = variables["params"]["up_1"]
    for name in ("norm_0", "norm_1"):
        for which in ("gamma", "shift"):
            of_last[name][which]["kernel"][:2] = 0.0  # what the part of the latents gives
    images, _ = run(generator, variables, latents, labels, train=False)
    moved = latents.copy()
    moved[:, 4:] += 1.0
    np.testing.assert_array_equal(run(generator, variables, moved, labels, train=False)[0], images)
    moved[:, 2:4] += 1.0
    assert (run(generator, variables, moved, labels, train=False)[0] != images).any()


@pytest.mark.parametrize("conditioning", residual.CONDITIONING)
def test_how_the_label_enters_the_discriminator(conditioning):
    discriminator = ResidualDiscriminator(3, 2, conditioning)
    draw = np.random.default_rng(0)
    images = draw.uniform(-1, 1, (3, 28, 28, 1)).astype(np.float32)
    form = jax.eval_shape(lambda: discriminator.init(KEY, images, LABELS, train=True))
    variables = settled_variables(form)

    def judged(labels):
        return discriminator.apply(variables, images, labels, train=False, mutable=["intermediates"])

    logits, sown = jax.jit(judged)(LABELS)
    others, _ = jax.jit(judged)((LABELS + 1) % 3)
    of_image = sown["intermediates"]["features"][0]
    assert (np.asarray(logits) != others).all() == (conditioning != "auxiliary")
    if conditioning == "auxiliary":
        assert sown["intermediates"]["class_logits"][0].shape == (3, 3)
    elif conditioning == "projection":
        table = variables["params"]["label_features"]["embedding"]
        of = variables["spectral"]["label_features"]
        table = table / (of["v"] @ table @ of["u"])
        difference = np.sum((table[LABELS] - table[(LABELS + 1) % 3]) * of_image, axis=1)
        np.testing.assert_allclose(logits - others, difference, rtol=1e-3, atol=1e-3)
    else:
        assert variables["params"]["down_0"]["conv_0"]["kernel"].shape == (3, 3, 2, 2)


def test_the_sum_over_pixels_is_the_features():
    discriminator = ResidualDiscriminator(0, 2)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 28, 28, 1)).astype(np.float32)
    form = jax.eval_shape(lambda: discriminator.init(KEY, images, train=True))
    variables = settled_variables(form)
    logits, found = features(discriminator, variables, images)
    layer, of = variables["params"]["logit"], variables["spectral"]["logit"]
    kernel = layer["kernel"] / (of["v"] @ layer["kernel"] @ of["u"])
    np.testing.assert_allclose(logits, found @ kernel[:, 0] + layer["bias"], rtol=1e-3, atol=1e-3)
    assert found.shape == (2, 4)


def test_half_precision_is_for_compute():
    outputs = forms(
        (28, 28, 1), 3, 6, of_generator={"embedding": 4}, attention=14, dtype=jnp.dtype("bfloat16")
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("image_shape", "options", "message"),
    [
        ((48, 48, 3), {}, r"image_size 48x48: .* plans for squares of 28, 32, 64, 128, 256"),
        ((32, 64, 3), {}, r"image_size 32x64"),
        ((28, 28, 1), {"attention": 7}, r"attention=7: at image_size 28 expected 0 or one of 14"),
        (
            (128, 128, 3),
            {"attention": 48},
            r"attention=48: at image_size 128 expected 0 or one of 8, 16, 32, 64",
        ),
        ((28, 28, 1), {"of_generator": {"embedding": 4}}, r"latent_size=8: .* 3 equal parts"),
        ((28, 28, 1), {"classes": 0}, r"takes no labels"),
        ((28, 28, 1), {"labels": None}, r"of 3 classes needs a label"),
        (
            (28, 28, 1),
            {"classes": 0, "labels": None, "of_generator": {"embedding": 4}},
            r"embedding=4: it is of labels",
        ),
    ],
)
def test_what_does_not_fit_is_refused(image_shape, options, message):
    with pytest.raises(ValueError, match=message):
        forms(image_shape, **options)
    if "of_generator" not in options:
        network = ResidualDiscriminator(options.get("classes", 3), 2, attention=options.get("attention", 0))
        images, labels = jnp.zeros((3, *image_shape)), options.get("labels", LABELS)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda: network.init(KEY, images, labels, train=True))


def test_unknown_conditioning_is_refused():
    with pytest.raises(ValueError, match="conditioning='film': expected one of projection, auxiliary"):
        ResidualDiscriminator(3, 2, "film").init(KEY, jnp.zeros((3, 28, 28, 1)), LABELS, train=True)
