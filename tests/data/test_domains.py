import jax
import jax.numpy as jnp
import numpy as np

from ganjax import augment, data
from ganjax.data.domains import by_channels, edges, luma
from ganjax.gan import Context

FAST = {"xla_backend_optimization_level": 0}


def seen(source, raw, index):
    """What losses see of raw examples at these places of the global batch; compiled as one."""
    key = jax.random.key(1)
    transform = jax.jit(lambda raw, index: source.transform(raw, Context(key, index)), compiler_options=FAST)
    return transform(raw, jnp.asarray(index))


def paired(jitter=None):
    return data.Paired(
        data.load("random", image_size=8, pair=data.Pair(channels=(3, 1))), by_channels(3), jitter
    )


def test_pairs_have_two_sides():
    source = paired()
    places = source.indices(0, 5, 3)
    raw = source.read(places)
    batch = seen(source, raw, [0, 1, 2])
    assert (batch["A"].shape, batch["B"].shape) == ((3, 8, 8, 3), (3, 8, 8, 1))
    np.testing.assert_array_equal(batch["B"], np.asarray(data.to_float(jnp.asarray(raw["image"])))[..., 3:])
    sides = source.sides(places)
    for name in "AB":
        np.testing.assert_array_equal(sides[name], batch[name])
    assert jax.tree.map(np.shape, source.example(3)) == jax.tree.map(np.shape, raw)
    whole = source.resident()
    assert whole is not None
    np.testing.assert_array_equal(whole["image"][places], raw["image"])


def test_jitter_is_the_same_for_both_sides_and_each_examples_own():
    source = paired(augment.jitter(0.5))
    same = {"image": np.repeat(np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), np.uint8), 4, axis=3)}
    several = {"image": np.repeat(same["image"], 6, axis=0)}
    batch = seen(source, several, np.arange(6))
    np.testing.assert_array_equal(np.repeat(batch["B"], 3, axis=3), batch["A"])
    assert len({np.asarray(image).tobytes() for image in batch["B"]}) > 3
    alone = seen(source, same, [4])
    np.testing.assert_array_equal(alone["A"][0], batch["A"][4])


def test_domains_of_different_length_size_and_channels():
    a, b = data.load("random", image_size=8), data.load("random", split="test", image_size=(4, 6), channels=3)
    source = data.Unpaired(a, b, augment.jitter(0.5))
    indices = source.indices(0, 60, 8)
    assert indices["A"].max() >= 64 > indices["B"].max()
    batch = seen(source, source.read(indices), np.arange(8))
    assert (batch["A"].shape, batch["B"].shape) == ((8, 8, 8, 1), (8, 4, 6, 3))
    assert source.sides(np.array([0, 64]))["B"].shape == (2, 4, 6, 3)
    np.testing.assert_array_equal(*source.sides(np.array([1, 65]))["B"])


def test_edges_are_dark_lines_on_white():
    image = np.full((1, 8, 8, 3), -1.0, np.float32)
    image[:, :, 4:] = 1.0
    drawn = np.asarray(jax.jit(edges, compiler_options=FAST)(image))[0, :, :, 0]
    assert drawn.shape == (8, 8)
    np.testing.assert_array_equal(drawn[:, 3:5], -1)  # between the halves
    np.testing.assert_allclose(drawn[:, [0, 1, 6, 7]], 1, atol=1e-6)
    turned = np.asarray(jax.jit(edges, compiler_options=FAST)(image.transpose(0, 2, 1, 3)))[0, :, :, 0]
    np.testing.assert_allclose(turned, drawn.T, atol=1e-6)
    # A slope of 0.1 a pixel in [-1, 1], times 4.
    ramp = np.broadcast_to(np.linspace(-0.35, 0.35, 8, dtype=np.float32).reshape(1, 1, 8, 1), (1, 8, 8, 3))
    middle = np.asarray(jax.jit(edges, compiler_options=FAST)(ramp))[0, 4, 4, 0]
    assert abs(middle - (1 - 2 * 0.4)) < 1e-5


def test_luma_is_what_pillow_makes_of_colours():
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.abs(luma(pixels.astype(np.float32))[..., 0] - grey).max() <= 1
