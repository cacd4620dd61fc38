"""StyleGAN2's networks: shapes, sizes, styles, and what they refuse. By shape alone where that will do."""

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random
from ganjax.nets.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator, levels_of, low_dtype
from tests.nets.networks import random_variables, run, shapes, size

SMALL: dict[str, Any] = {"channel_base": 8, "channel_max": 6}
STYLE: dict[str, Any] = {**SMALL, "style_size": 5, "mapping_layers": 2, "mapping_multiplier": 0.5}


@pytest.mark.parametrize(
    ("height", "width", "level"),
    [(32, 32, 3), (28, 28, 2), (48, 64, 3), (4, 4, 0), (1024, 1024, 8), (9, 12, 0)],
)
def test_how_often_sides_are_halved(height, width, level):
    assert levels_of(height, width) == level


def test_what_is_computed_in_half_precision():
    found = [low_dtype(jnp.bfloat16, level, 3, 2) for level in range(4)]
    assert found == [jnp.float32, jnp.float32, jnp.bfloat16, jnp.bfloat16]


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(
    "channels", [3, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_shapes(channels, classes):
    shape = (12, 16, channels)  # neither square nor a power of two
    labels = jnp.zeros(3, jnp.int32) if classes else None
    generator = StyleGAN2Generator(shape, 2, classes, **STYLE)
    discriminator = StyleGAN2Discriminator(2, classes, **SMALL, group=3)
    (images, variables), (logits, _) = shapes(generator, discriminator, shape, labels=labels)
    assert images.shape == (3, *shape)
    assert logits.shape == (3,)
    assert images.dtype == logits.dtype == jnp.float32
    assert variables["styles"]["mean"].shape == (5,)
    assert generator.layers == 6


@pytest.mark.slow
def test_the_papers_size():
    """As the paper's table 1 has it for 1024x1024: 30 million parameters of the generator, 29 of the other.

    Worked out: with channels of 512 up to 64x64, then 256, 128, 64, 32.
    """
    generator = StyleGAN2Generator((1024, 1024, 3), 8, channel_base=8192)
    discriminator = StyleGAN2Discriminator(8, channel_base=8192)
    shape, count = (1024, 1024, 3), 1
    (_, of_generator), (_, of_discriminator) = shapes(
        generator, discriminator, shape, latent_size=512, count=count
    )
    assert size(of_generator["params"]) == 30_370_060
    assert size(of_discriminator["params"]) == 29_012_513


def test_styles():
    shape = (8, 8, 1)
    keys = random.from_seeds(np.arange(12))
    latents = np.random.default_rng(0).normal(size=(12, 7)).astype(np.float32)
    generator = StyleGAN2Generator(shape, 1, **STYLE, mixing=0.5)
    form = jax.eval_shape(lambda: generator.init(jax.random.key(0), latents, train=True))
    variables = random_variables(form)
    mean = variables["styles"]["mean"]

    def styles(train: bool, psi: float | None, seeds: jax.Array | None):
        options = {"train": train, "keys": seeds, "truncation": psi}
        return generator.apply(variables, latents, method="styles", mutable=["styles"], **options)

    plain, after = jax.tree.map(np.asarray, styles(False, None, None))
    assert plain.shape == (12, 4, 5)
    assert np.array_equal(plain, np.repeat(plain[:, :1], 4, axis=1))
    assert np.array_equal(after["styles"]["mean"], mean)
    truncated, _ = styles(False, 0.5, None)
    np.testing.assert_allclose(truncated, mean + 0.5 * (plain - mean), rtol=1e-5, atol=1e-6)
    mixed, after = jax.tree.map(np.asarray, styles(True, None, keys))
    expected = 0.995 * mean + 0.005 * plain[:, 0].mean(axis=0)
    np.testing.assert_allclose(after["styles"]["mean"], expected, rtol=1e-5, atol=1e-6)
    own = (mixed == plain).all(axis=-1)  # of an example its own styles first, then others'
    assert own[:, 0].all()
    assert all(np.array_equal(row, np.sort(row)[::-1]) for row in own)
    assert 0 < own.all(axis=1).sum() < 12


@pytest.mark.slow
def test_images_are_a_function_of_styles_and_noise():
    shape = (8, 8, 3)
    latents = np.random.default_rng(0).normal(size=(2, 7)).astype(np.float32)
    keys = random.from_seeds(np.array([5, 6]))
    generator = StyleGAN2Generator(shape, 1, **STYLE, mixing=0.0)
    form = jax.eval_shape(lambda: generator.init(jax.random.key(0), latents, train=True))
    variables = random_variables(form)
    with_noise, _ = run(generator, variables, latents, keys=keys)
    again, _ = run(generator, variables, latents[::-1], keys=keys[::-1])
    np.testing.assert_allclose(with_noise, again[::-1], atol=1e-5)
    without, _ = run(generator, variables, latents)
    assert np.abs(with_noise - without).max() > 0.01
    sampled, _ = run(generator, variables, latents, train=False)
    np.testing.assert_allclose(sampled, np.clip(without, -1, 1), atol=1e-6)


@pytest.mark.slow
def test_the_discriminators_projection():
    """With classes, the logit is a product of features and of what is made of the label."""
    images = np.random.default_rng(1).normal(size=(3, 8, 4, 1)).astype(np.float32)
    discriminator = StyleGAN2Discriminator(0, 4, **SMALL, group=0, mapping_layers=1, mapping_multiplier=1.0)
    labels = np.array([0, 3, 1])
    form = jax.eval_shape(lambda: discriminator.init(jax.random.key(0), images, labels, train=True))
    variables = random_variables(form)
    params = variables["params"]
    found, _ = run(discriminator, variables, images, labels)

    def features(x):
        _, sown = discriminator.apply(variables, x, labels, train=True, mutable=["intermediates"])
        return sown["intermediates"]["features"][0]

    x = np.asarray(features(images)) @ params["logits"]["kernel"] / np.sqrt(6) + params["logits"]["bias"]
    label = params["label"]["embedding"][labels]
    label = label / np.sqrt(np.mean(label**2, axis=1, keepdims=True))
    label = label @ params["label_0"]["kernel"] * np.sqrt(2 / 6) + params["label_0"]["bias"]
    label = np.where(label > 0, label, 0.2 * label)
    np.testing.assert_allclose(found, np.sum(x * label, axis=1) / np.sqrt(6), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_generator_is_exported_for_any_batch():
    """What convolutions in as many groups as there are examples would not be."""
    generator = StyleGAN2Generator((8, 8, 3), 1, **STYLE)
    latents = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    form = jax.eval_shape(lambda: generator.init(jax.random.key(0), latents, train=True))
    variables = random_variables(form)

    @jax.jit
    def sample(latents: jax.Array, seeds: jax.Array) -> Any:
        return generator.apply(variables, latents, train=False, keys=random.from_seeds(seeds), truncation=0.7)

    (count,) = jax.export.symbolic_shape("n")
    arguments = jax.ShapeDtypeStruct((count, 7), jnp.float32), jax.ShapeDtypeStruct((count,), jnp.uint32)
    exported = jax.export.export(sample)(*arguments)
    seeds = np.arange(3, dtype=np.uint32)
    np.testing.assert_allclose(exported.call(latents, seeds), sample(latents, seeds), atol=1e-5)


def test_what_they_refuse():
    with pytest.raises(ValueError, match="images of 9x8 are no base doubled 1 times"):
        shapes(StyleGAN2Generator((9, 8, 1), 1, **STYLE), StyleGAN2Discriminator(1), (8, 8, 1))
    with pytest.raises(ValueError, match="takes no labels"):
        shapes(
            StyleGAN2Generator((8, 8, 1), 1, **STYLE),
            StyleGAN2Discriminator(1),
            (8, 8, 1),
            labels=jnp.zeros(3, jnp.int32),
        )
