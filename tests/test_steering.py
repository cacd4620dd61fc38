import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest

from ganjax import adversarial, create_state
from ganjax.errors import RunError
from ganjax.nets.style import StyleGenerator
from ganjax.nets.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from ganjax.random import from_seeds
from ganjax.steering import (
    Directions,
    Look,
    Move,
    Steering,
    layered,
    load_directions,
    mixed,
    moved,
    principal_directions,
    save_directions,
    truncated,
)

RNG = np.random.default_rng(0)
STYLES = RNG.normal(size=(2, 3, 4)).astype(np.float32)


def small_gan(generator, num_classes=0):
    """The gan, and a state of random numbers, which takes no compiling."""
    discriminator = StyleGAN2Discriminator(0, num_classes, channel_base=4, channel_max=4, mapping_layers=1)
    optimizers = {name: optax.sgd(0.1) for name in ("generator", "discriminator")}
    gan = adversarial(generator, discriminator, latent_size=3, num_classes=num_classes, optimizers=optimizers)
    batch = {"image": np.zeros((4, *generator.shape), np.float32), "label": np.zeros(4, np.int32)}
    form = jax.eval_shape(functools.partial(create_state, gan), jax.random.key(0), batch)
    rng = np.random.default_rng(1)
    state = jax.tree.map(lambda x: np.asarray(rng.normal(0, 0.5, x.shape), x.dtype), form)
    for name, layer in state.params["generator"].get("synthesis", {}).items():
        if name.startswith("image"):  # or images would be all black or white
            layer["kernel"] *= 0.2
            layer["bias"] *= 0.0
    return gan, state


@pytest.fixture(scope="module")
def model():
    sizes: Any = {"channel_base": 4, "channel_max": 4, "style_size": 5, "mapping_layers": 1}
    gan, state = small_gan(StyleGAN2Generator((4, 4, 1), 0, 2, mapping_multiplier=1.0, **sizes), 2)
    return gan, state, Steering(gan, state)


def test_psi_multiplies_distances_from_the_mean_of_the_first_layers():
    mean = np.array([1.0, 0.0, -1.0, 2.0], np.float32)
    found = truncated(STYLES, mean, 0.5, 2)
    np.testing.assert_allclose(found[:, :2], (STYLES[:, :2] + mean) / 2, rtol=1e-6)
    np.testing.assert_array_equal(found[:, 2], STYLES[:, 2])
    np.testing.assert_array_equal(truncated(STYLES, mean, 0.0), np.broadcast_to(mean, STYLES.shape))
    for psi, cutoff in ((float("nan"), None), (1.0, 4), (1.0, -1)):
        with pytest.raises(ValueError, match="truncation"):
            truncated(STYLES, mean, psi, cutoff)


def test_mixed_takes_the_columns_styles_in_some_layers():
    others = STYLES + 10
    found = mixed(STYLES, others, [0, 2])
    assert found.shape == (2, 2, 3, 4)
    np.testing.assert_array_equal(found[1, 0, 1], STYLES[1, 1])
    np.testing.assert_array_equal(found[1, 0, [0, 2]], others[0, [0, 2]])
    with pytest.raises(ValueError, match="layer 3: this network has the layers 0-2"):
        mixed(STYLES, others, [3])


def test_principal_directions_are_those_that_styles_were_drawn_along():
    axes = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    drawn = RNG.normal(size=(4000, 3)) * [5.0, 2.0, 0.5]
    found = principal_directions(drawn @ axes[:3] + 7.0, 3)
    np.testing.assert_allclose(found.deviations, drawn.std(0), rtol=0.05)
    np.testing.assert_allclose(np.abs(found.vectors @ axes[:3].T), np.eye(3), atol=0.05)
    np.testing.assert_allclose(found.mean, 7.0, atol=0.3)
    assert found.shares.sum() == pytest.approx(1.0)
    assert (np.take_along_axis(found.vectors, np.abs(found.vectors).argmax(1)[:, None], 1) > 0).all()
    assert len(principal_directions(drawn @ axes[:3]).vectors) == 3
    with pytest.raises(ValueError, match="have 1 to 3"):  # the fourth has no variance
        principal_directions(drawn @ axes[:3], 4)


def test_moves_are_in_standard_deviations(tmp_path):
    directions = Directions(
        np.zeros(4, np.float32), np.eye(4, dtype=np.float32)[:2], np.array([3.0, 2.0], np.float32), np.ones(2)
    )
    save_directions(tmp_path / "a.npz", directions)
    directions = load_directions(tmp_path / "a.npz")
    found = moved(STYLES, directions, [Move(0, 2.0), Move(1, -1.0, (1,))])
    step = np.zeros((1, 3, 4))
    step[:, :, 0], step[:, 1, 1] = 6.0, -2.0
    np.testing.assert_allclose(found, STYLES + step, rtol=1e-6)
    for move in (Move(2, 1.0), Move(0, float("inf")), Move(0, 1.0, (3,))):
        with pytest.raises(ValueError, match=r"component 2|amount inf|layer 3"):
            moved(STYLES, directions, [move])
    with pytest.raises(ValueError, match="directions of 4 entries"):
        moved(STYLES[..., :3], directions, [Move(0, 1.0)])


def test_other_files_are_no_directions(tmp_path):
    path = tmp_path / "a.npz"

    def save(arrays: dict[str, Any]) -> None:
        np.savez(path, **arrays)

    for write in (
        lambda: path.write_bytes(b"no"),
        lambda: np.savez(path, mean=np.zeros(2)),
        lambda: save(dict.fromkeys(Directions._fields, np.array(["a"]))),
        lambda: save(dict.fromkeys(Directions._fields, np.array([None]))),
        lambda: save(dict.fromkeys(Directions._fields, np.zeros((2, 2)))),
    ):
        write()
        with pytest.raises(RunError, match=r"a\.npz"):
            load_directions(path)


def test_steering_draws_what_the_gan_samples(model):
    gan, state, steering = model
    seeds, labels = [3, 5, 8, 2, 9], [0, 1, 1, 0, 1]
    images = steering.draw(seeds, labels)
    sample = jax.jit(functools.partial(gan.sample, truncation=0.5))
    plain = steering.draw(seeds, labels, look=Look(truncation=0.5))
    expected = sample(state, from_seeds(np.asarray(seeds[:4])), np.asarray(labels[:4]))
    np.testing.assert_allclose(plain[:4], expected, atol=1e-5)
    assert plain.std() > 1e-3
    # A seed's picture has the same bytes, whatever it is drawn with.
    np.testing.assert_array_equal(steering.draw([9], [1])[0], images[4])
    np.testing.assert_array_equal(
        steering.images(steering.styles([5], [1]), steering.noise_maps(5))[0], images[1]
    )


def test_noise_is_the_seeds_own_or_the_same_for_all_or_none(model):
    _, _, steering = model
    styles = layered(np.ones((2, 5), np.float32), 2)
    own, const, none = (steering.images(styles, mode, [0, 1]) for mode in ("random", "const", "none"))
    np.testing.assert_array_equal(const[0], const[1])
    np.testing.assert_array_equal(const[0], own[0])  # seed 0's
    assert np.abs(own[1] - own[0]).max() > 1e-3
    assert np.abs(none[0] - own[0]).max() > 1e-3
    np.testing.assert_array_equal(none[0], none[1])
    with pytest.raises(ValueError, match="noise=loud"):
        steering.images(styles, "loud")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="takes seeds"):
        steering.images(styles, "random")


def test_looks_mix_truncate_and_move(model):
    _, _, steering = model
    a, b = steering.styles([1, 2], [1, 1])
    found = steering.styles([1], [1], look=Look(mix=((2, (1,)),)))
    np.testing.assert_array_equal(found[0], [a[0], b[1]])
    # truncation comes before moves
    directions = principal_directions(steering.mapped(steering.latents(range(9)), [0] * 9), 2)
    look = Look(truncation=0.0, moves=(Move(1, 2.0, (0,)),))
    found = steering.styles([1], [0], look=look, directions=directions)
    step = 2 * directions.deviations[1] * directions.vectors[1]
    np.testing.assert_allclose(found[0] - steering.mean[None], [step, 0 * step], atol=1e-6)
    with pytest.raises(ValueError, match="no directions"):
        steering.styles([1], [0], look=look)
    with pytest.raises(ValueError, match="needs a label"):
        steering.styles([1])


def test_a_network_with_constant_noise_has_its_own(model):
    gan, state, _ = model
    constant = {"0": np.full((4, 4), 0.5, np.float32)}
    stats = {**state.stats, "generator": {**state.stats["generator"], "noise": constant}}
    state = state.replace(stats=stats)
    maps = gan.styles.constant_noise(state)
    np.testing.assert_array_equal(maps, [constant["0"]])


def test_stylegans_parts_have_the_shapes_of_its_images():
    generator = StyleGenerator((8, 8, 2), 1, channel_base=4, channel_max=4, style_size=5, mapping_layers=1)
    gan, state = small_gan(generator)
    assert gan.styles is not None
    keys = from_seeds(np.arange(3))
    maps = jax.eval_shape(gan.styles.noise, state, keys)
    assert [x.shape for x in maps] == [(3, 4, 4), (3, 4, 4), (3, 8, 8), (3, 8, 8)]
    assert gan.styles.layers == 4
    styles = jax.ShapeDtypeStruct((3, 4, 5), np.float32)
    assert jax.eval_shape(gan.styles.synthesis, state, styles, maps).shape == (3, 8, 8, 2)
