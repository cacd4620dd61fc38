import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import GENERATOR, plane_gan, real_points

from ganjax.families.adversarial import adversarial
from ganjax.nets.conditional import ConditionalDiscriminator, ConditionalGenerator
from ganjax.report.images import to_uint8
from ganjax.sampling import Sampler, latents, slerp
from ganjax.step import create_state

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def toy():
    gan = plane_gan(ema={GENERATOR: lambda step: jnp.float32(0.9)})
    return gan, create_state(gan, KEY, real_points())


@pytest.fixture(scope="module")
def convolutional():
    """Convolutions and batch norm. Weights by numpy: to compile their initialisers takes longest here."""
    optimizers = {"generator": optax.sgd(0.1), "discriminator": optax.sgd(0.1)}
    generator, discriminator = (
        ConditionalGenerator((8, 8, 1), 3, width=4),
        ConditionalDiscriminator(3, width=4),
    )
    gan = adversarial(generator, discriminator, latent_size=5, num_classes=3, optimizers=optimizers)
    batch = {"image": jnp.zeros((1, 8, 8, 1)), "label": jnp.zeros(1, jnp.int32)}
    shapes = jax.eval_shape(lambda: create_state(gan, KEY, batch))
    draw = np.random.default_rng(0)
    state = jax.tree.map(lambda x: (0.3 * draw.normal(size=x.shape)).astype(x.dtype), shapes)
    return gan, state.replace(stats=jax.tree.map(np.abs, state.stats))  # variances are positive


@pytest.fixture(scope="module")
def sampler(convolutional):
    return Sampler(convolutional[0])


def test_one_seed_is_one_image_whatever_it_is_drawn_along_with(convolutional, sampler):
    _, state = convolutional
    seeds = np.arange(70)
    labels = seeds % 3
    together = sampler(state, seeds, labels)
    assert together.shape == (70, 8, 8, 1)
    assert together.dtype == np.float32
    assert np.abs(together).max() <= 1
    assert to_uint8(together).std() > 30
    assert len({image.tobytes() for image in together}) == 70
    for i in (0, 1, 37, 63, 64, 69):
        np.testing.assert_array_equal(sampler(state, seeds[i : i + 1], labels[i : i + 1])[0], together[i])
    np.testing.assert_array_equal(sampler(state, seeds[::-1], labels[::-1]), together[::-1])


def test_several_devices_draw_the_same(convolutional, sampler):
    gan, state = convolutional
    seeds = np.arange(11)
    shared = Sampler(gan, chunk=8, devices=jax.devices()[:4])(state, seeds, seeds % 3)
    np.testing.assert_allclose(shared, sampler(state, seeds, seeds % 3), atol=1e-5)
    with pytest.raises(ValueError, match="chunk=6: it does not divide evenly over 4 devices"):
        Sampler(gan, chunk=6, devices=jax.devices()[:4])


def test_one_seed_is_one_image_whatever_the_chunk(convolutional, sampler):
    """In the bytes of a picture: another chunk is another program, whose floats may round differently."""
    gan, state = convolutional
    seeds, labels = np.arange(10), np.arange(10) % 3
    wide, narrow = sampler(state, seeds, labels), Sampler(gan, chunk=3)(state, seeds, labels)
    np.testing.assert_allclose(narrow, wide, atol=1e-5)
    np.testing.assert_array_equal(to_uint8(narrow), to_uint8(wide))


def test_labels_and_seeds_choose(convolutional, sampler):
    _, state = convolutional
    images = sampler(state, [4, 4, 4, 5], [0, 1, 0, 0])
    np.testing.assert_array_equal(images[0], images[2])
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[3])
    with pytest.raises(ValueError, match="conditional"):
        sampler(state, [4])


def test_latents_stand_in_for_the_seeds(convolutional, sampler):
    gan, state = convolutional
    seeds, labels = [3, 1, 2**32 - 1], [0, 1, 2]
    drawn = latents(gan, seeds)
    assert drawn.shape == (3, 5)
    assert drawn.dtype == np.float32
    by_latents = sampler(state, [0, 0, 0], labels, latents=drawn)
    np.testing.assert_array_equal(to_uint8(by_latents), to_uint8(sampler(state, seeds, labels)))
    np.testing.assert_array_equal(latents(gan, [1])[0], drawn[1])
    with pytest.raises(ValueError, match="no latents"):
        latents(gan._replace(latents=None), [1])


def test_programs_are_compiled_once(toy):
    traces = []

    def sample(state, keys, labels=None, *, latents=None, gain=1.0):
        traces.append(keys.shape)
        return gain * gan.sample(state, keys, labels, latents=latents)

    gan, state = toy
    draw = Sampler(gan._replace(sample=sample), chunk=4)
    assert draw.compile_seconds == 0
    once = draw(state, [1, 2, 3])
    seconds = draw.compile_seconds
    assert seconds > 0
    for seeds in ([1], range(9), np.arange(4, dtype=np.int64)):
        assert draw(state, np.asarray(seeds)).shape == (len(seeds), 1, 1, 2)
    # A state from the host, or with other numbers, is no new program.
    np.testing.assert_array_equal(draw(jax.device_get(state), [1, 2, 3]), once)
    draw(state.replace(ema=jax.tree.map(lambda x: x + 1, state.ema)), [1])
    assert traces == [(4,)]
    assert draw.compile_seconds == seconds
    for gain in (2.0, 3.0):  # of a float another value is no new program either
        np.testing.assert_allclose(draw(state, [1, 2, 3], options={"gain": gain}), gain * once, rtol=1e-6)
    assert draw(state, [1, 2], [5, 6]).shape == (2, 1, 1, 2)
    assert len(traces) == 3


def test_toy_samples_by_hand(toy):
    """scale * z + shift of the averaged parameters, plus the label."""
    gan, state = toy
    average = {"scale": jnp.array([2.0, 3.0]), "shift": jnp.array([1.0, -1.0])}
    state = state.replace(ema={GENERATOR: average})
    z = np.array([[0.5, 1.0], [0.0, -1.0]], np.float32)
    images = Sampler(gan, chunk=3)(state, [0, 1], [10, 20], latents=z)
    np.testing.assert_allclose(images[:, 0, 0], [[12, 12], [21, 16]], rtol=1e-6)


@pytest.mark.parametrize("seeds", [[-1], [2**32], np.array([7, 2**32 + 5]), [0.5], [], [[1, 2]]])
def test_seeds_out_of_range_are_refused(toy, seeds):
    gan, state = toy
    with pytest.raises(ValueError, match="seed"):
        Sampler(gan)(state, seeds)
    with pytest.raises(ValueError, match="seed"):
        latents(gan, seeds)


def test_lists_of_unequal_length_are_refused(toy):
    gan, state = toy
    with pytest.raises(ValueError, match="3 labels for 2 seeds"):
        Sampler(gan)(state, [1, 2], [0, 1, 2])
    with pytest.raises(ValueError, match="1 latents for 2 seeds"):
        Sampler(gan)(state, [1, 2], latents=np.zeros((1, 2)))
    with pytest.raises(ValueError, match="chunk=0"):
        Sampler(gan, chunk=0)


def unit(*x: float) -> np.ndarray:
    return np.array(x, np.float32) / np.float32(np.linalg.norm(x))


def test_slerp_stays_on_the_sphere_at_even_speed():
    draw = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
    start, end = (8 * v / np.linalg.norm(v) for v in draw)
    t = np.linspace(0, 1, 11)
    path = slerp(start, end, t)
    assert path.shape == (11, 64)
    assert path.dtype == np.float32
    np.testing.assert_array_equal(path[0], start)
    np.testing.assert_array_equal(path[-1], end)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 8, rtol=1e-6)
    np.testing.assert_allclose(path[5], 8 * unit(*(start + end)), rtol=1e-5, atol=1e-6)
    steps = np.sum(path[:-1] * path[1:], axis=1) / 64
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_slerp_by_hand():
    # A quarter circle in three steps of 30 degrees.
    path = slerp(np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([1 / 3, 2 / 3]))
    np.testing.assert_allclose(path, [[3**0.5 / 2, 0.5], [0.5, 3**0.5 / 2]], rtol=1e-6)
    # Unequal lengths: the same weights, sin 45 / sin 90 each.
    path = slerp(np.array([3.0, 0.0]), np.array([0.0, 1.0]), np.array([0.5]))
    np.testing.assert_allclose(path, [[3 / 2**0.5, 1 / 2**0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (unit(1, 2, 3), unit(1, 2, 3)),  # itself
        (unit(1, 2, 3), 4 * unit(1, 2, 3)),  # parallel
        (unit(1, 2, 3), -unit(1, 2, 3)),  # opposite
        (unit(1, 2, 3), -2.5 * unit(1, 2, 3)),
        (np.zeros(3), unit(1, 2, 3)),
        (1e-30 * unit(1, 2, 3), unit(1, 2, 3)),
        (np.zeros(3), np.zeros(3)),
    ],
)
def test_slerp_is_a_straight_line_where_no_circle_is_the_shortest(start, end):
    t = np.linspace(0, 1, 5)
    path = slerp(start, end, t)
    np.testing.assert_array_equal(path[0], np.float32(start))
    np.testing.assert_array_equal(path[-1], np.float32(end))
    np.testing.assert_allclose(path, (1 - t)[:, None] * start + t[:, None] * end, atol=1e-6)


def test_slerp_of_nearly_parallel_vectors_is_smooth():
    start = unit(1, 2, 3)
    for angle in (1e-2, 1e-4, 1e-7):
        end = start + np.float32(angle) * unit(3, 0, -1)
        path = slerp(start, end, np.linspace(0, 1, 5))
        assert np.isfinite(path).all()
        np.testing.assert_allclose(np.linalg.norm(path, axis=1), np.linalg.norm(end), rtol=1e-4)
