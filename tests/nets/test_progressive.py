"""Networks that grow: seamless at both ends of a fade, of any channels, and what they refuse."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random
from ganjax.families.growing import fitting
from ganjax.layers import downsample, upsample
from ganjax.nets.progressive import ProgressiveDiscriminator, ProgressiveGenerator, base_of, channels_at
from ganjax.nets.style import Mapping, StyleGenerator
from tests.nets.networks import FAST, run, shapes

SMALL: dict[str, Any] = {"channel_base": 16, "channel_max": 5}
STYLE: dict[str, Any] = {**SMALL, "style_size": 6, "mapping_layers": 2, "mapping_multiplier": 0.5}
COUNT = 4


def generator(kind, channels: int, level: int, blended: bool, **options: Any):
    shape = (4 * 2**level, 8 * 2**level, channels)  # not square
    settings = STYLE if kind is StyleGenerator else SMALL
    return kind(shape, level, blended, **settings, **options)


def discriminator(level: int, blended: bool, blurred: bool):
    return ProgressiveDiscriminator(level, blended, blurred=blurred, **SMALL)


def variables_of(network, *args, seed: int = 0):
    """Of the size that equalized layers have."""
    form = jax.eval_shape(lambda: network.init(jax.random.key(0), *args, train=True))
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: draw.normal(size=x.shape).astype(x.dtype), form)


def grown(network, old: Any, *args) -> Any:
    """Other random variables, with those of the network before in their place."""
    return fitting(variables_of(network, *args, seed=1), old)


def by_alpha(network, variables: Any, x: np.ndarray) -> Callable[[float], jax.Array]:
    """The output as a function of alpha, compiled once; in training, where nothing is clipped."""

    def apply(alpha: jax.Array) -> jax.Array:
        others = [name for name in variables if name != "params"]
        return network.apply(variables, x, train=True, alpha=alpha, mutable=others)[0]

    program = jax.jit(apply, compiler_options=FAST)
    return lambda alpha: program(jnp.asarray(alpha))


def without(variables: Any, level: int) -> Any:
    """Of a blended network, what it has unblended: all but the smaller network's image."""
    params = {name: leaf for name, leaf in variables["params"].items() if name != f"image_{level - 1}"}
    return {**variables, "params": params}


@pytest.mark.parametrize(("kind", "level"), [(ProgressiveGenerator, 2), (StyleGenerator, 1)])
def test_a_generator_grows_without_a_seam(kind, level):
    latents = np.random.default_rng(2).normal(size=(COUNT, 7)).astype(np.float32)
    before, after = generator(kind, 3, level - 1, True), generator(kind, 3, level, True)
    old = variables_of(before, latents)
    new = grown(after, old, latents)
    small, _ = run(before, old, latents, alpha=1.0)
    large, _ = run(generator(kind, 3, level, False), without(new, level), latents)
    assert np.std(large - upsample(small)) > 0.1
    program = by_alpha(after, new, latents)
    for alpha, expected in ((0.0, upsample(small)), (1.0, large), (0.3, 0.7 * upsample(small) + 0.3 * large)):
        found = program(alpha)
        assert found.shape == (COUNT, 4 * 2**level, 8 * 2**level, 3)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("blurred", "level"), [(True, 1), pytest.param(False, 2, marks=pytest.mark.slow)])
def test_a_discriminator_grows_without_a_seam(blurred, level):
    side = 4 * 2**level
    images = np.random.default_rng(2).normal(size=(COUNT, side, 2 * side, 4)).astype(np.float32)
    shrunk = np.asarray(downsample(jnp.asarray(images)))
    before, after = discriminator(level - 1, True, blurred), discriminator(level, True, blurred)
    old = variables_of(before, shrunk)
    new = grown(after, old, images)
    small, _ = run(before, old, shrunk, alpha=1.0)
    large, _ = run(discriminator(level, False, blurred), without(new, level), images)
    assert np.abs(large - small).max() > 0.01
    program = by_alpha(after, new, images)
    for alpha, logits in ((0.0, small), (1.0, large)):
        np.testing.assert_allclose(program(alpha), logits, rtol=1e-5, atol=1e-5)


def test_parameters_at_the_paper_s_widths():
    """The counts of Karras et al. 2018, table 2, at 1024x1024: 23.1M each."""
    latents, images = jnp.zeros((1, 512)), jnp.zeros((1, 1024, 1024, 3))
    ours = (
        jax.eval_shape(
            lambda: ProgressiveGenerator((1024, 1024, 3), 8).init(jax.random.key(0), latents, train=True)
        ),
        jax.eval_shape(lambda: ProgressiveDiscriminator(8).init(jax.random.key(0), images, train=True)),
    )
    for form in ours:
        assert sum(leaf.size for leaf in jax.tree.leaves(form)) == pytest.approx(23.1e6, abs=0.05e6)
    assert [channels_at(level, 4096, 512) for level in range(9)] == [512] * 4 + [256, 128, 64, 32, 16]


def test_styles_are_drawn_to_their_mean():
    latents = np.random.default_rng(2).normal(size=(COUNT, 7)).astype(np.float32)
    network = generator(StyleGenerator, 1, 0, False)
    variables = variables_of(network, latents)
    middle, _ = run(network, variables, latents, train=False, truncation=0.0)
    np.testing.assert_allclose(middle, np.broadcast_to(middle[:1], middle.shape), atol=1e-5)
    whole, _ = run(network, variables, latents, train=False)
    same, _ = run(network, variables, latents, train=False, truncation=1.0)
    np.testing.assert_allclose(same, whole, rtol=1e-4, atol=1e-5)
    assert np.std(whole, axis=0).max() > 0.05
    assert np.abs(whole).max() <= 1
    _, after = run(network, variables, latents)
    mapping = Mapping(6, 2, 0.5)
    styles: Any = mapping.apply({"params": variables["params"]["mapping"]}, latents)
    expected = 0.995 * variables["styles"]["mean"] + 0.005 * np.mean(styles, axis=0)
    np.testing.assert_allclose(after["styles"]["mean"], expected, rtol=1e-4, atol=1e-6)


def test_mixed_styles_are_of_two_latents():
    """Without noise, an example's image is another one where it is mixed, and only there."""
    latents = np.random.default_rng(2).normal(size=(16, 7)).astype(np.float32)
    keys = random.from_seeds(np.arange(16))
    network = generator(StyleGenerator, 1, 0, False, mixing=0.5)
    variables = variables_of(network, latents)
    for name in ("noise_0", "noise_1"):
        variables["params"][name]["strength"][:] = 0
    plain, _ = run(network, variables, latents)
    mixed, _ = run(network, variables, latents, keys=keys)
    moved = np.abs(mixed - plain).max(axis=(1, 2, 3)) > 1e-4
    does = np.asarray(random.uniform(random.streams(keys, "mixed"), ()) < 0.5)
    np.testing.assert_array_equal(moved, does)
    assert 0 < does.sum() < 16
    sampled, _ = run(network, variables, latents, keys=keys, train=False)
    np.testing.assert_allclose(sampled, np.clip(plain, -1, 1), atol=1e-5)


def test_labels():
    labels = np.array([0, 2, 1], np.int32)
    networks = (
        ProgressiveGenerator((4, 4, 1), 0, num_classes=3, **SMALL),
        ProgressiveDiscriminator(0, num_classes=3, **SMALL),
    )
    (images, form), (logits, _) = shapes(*networks, (4, 4, 1), labels=labels)
    assert (images.shape, logits.shape) == ((3, 4, 4, 1), (3,))
    params = form["params"]
    assert (params["label"]["embedding"].shape, params["dense"]["kernel"].shape[0]) == ((3, 5), 10)
    of_style = StyleGenerator((4, 4, 1), 0, num_classes=3, **STYLE)
    (images, form), _ = shapes(of_style, networks[1], (4, 4, 1), labels=labels)
    assert images.shape == (3, 4, 4, 1)
    assert form["params"]["mapping"]["label"]["embedding"].shape == (3, 5)
    same = np.zeros((2, 5), np.float32)
    by_label, _ = run(networks[0], variables_of(networks[0], same, labels[:2]), same, labels[:2])
    assert not np.allclose(by_label[0], by_label[1], atol=1e-3)
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
    variables = variables_of(networks[1], x, labels)
    own, _ = run(networks[1], variables, x, labels)
    shares, _ = run(networks[1], variables, x, np.eye(3, dtype=np.float32)[labels])
    np.testing.assert_allclose(own, shares, rtol=1e-5)
    other, _ = run(networks[1], variables, x, (labels + 1) % 3)
    assert not np.allclose(own, other, atol=1e-3)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="12x8 are no base doubled 3 times"):
        base_of((12, 8, 1), 3)
    with pytest.raises(ValueError, match="takes no labels"):
        shapes(
            ProgressiveGenerator((4, 4, 1), 0, **SMALL),
            ProgressiveDiscriminator(0, **SMALL),
            (4, 4, 1),
            labels=np.zeros(3, np.int32),
        )
