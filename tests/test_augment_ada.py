"""ADA's transforms against their definitions, in double precision, and that they do not leak."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from ganjax import augment_ada, random
from ganjax.augment_ada import BAND_POWER, SYM2, SYM6, Draws

ALL = ",".join(augment_ada.GROUPS)


@pytest.fixture(autouse=True)
def in_double_precision():
    with jax.enable_x64(True):
        yield


def some(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def smooth(height: int, width: int) -> np.ndarray:
    """A function of the place that bends little from pixel to pixel, and what it is at any (row, column)."""
    rows, columns = np.mgrid[:height, :width]
    return np.asarray(field(rows, columns))


def field(rows, columns) -> np.ndarray:
    return np.cos(0.35 * rows) * np.sin(0.25 * columns + 0.4) + 0.3 * np.cos(0.3 * columns)


def keys_of(count: int) -> jax.Array:
    return random.from_seeds(np.arange(count))


def draws(count: int, p: float) -> Draws:
    return Draws(keys_of(count), p, jnp.dtype("float64"))


@pytest.mark.parametrize(("filter", "moments"), [(SYM2, 2), (SYM6, 6)])
def test_the_wavelets(filter, moments):
    """Orthonormal to their shifts by two, and as many vanishing moments as half their taps."""
    for shift in range(0, len(filter), 2):
        product = np.sum(filter[shift:] * filter[: len(filter) - shift])
        assert product == pytest.approx(float(shift == 0), abs=1e-11)
    places = np.arange(len(filter)) - len(filter) / 2
    high_pass = filter * (-1.0) ** np.arange(len(filter))
    for moment in range(moments):
        assert np.sum(high_pass * places**moment) == pytest.approx(0, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_nothing_happens_at_0(channels):
    images = jnp.asarray(some(3, 8, 6, channels))
    found = augment_ada.ada(ALL)(images, keys_of(3), 0.0)
    np.testing.assert_allclose(found, images, rtol=1e-9, atol=1e-9)
    assert augment_ada.ada("")(images, keys_of(3), 1.0) is images


def test_groups():
    assert augment_ada.groups_of("color, blit") == ("blit", "color")
    with pytest.raises(ValueError, match="no 'colour'"):
        augment_ada.ada("colour")
    with pytest.raises(ValueError, match="'blit' is there twice"):
        augment_ada.ada("blit,blit")
    with pytest.raises(ValueError, match="1, 3 or 4 channels"):
        augment_ada.ada()(jnp.zeros((2, 8, 8, 2)), keys_of(2), 0.5)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_blits(flip, turns):
    images = some(1, 5, 5, 2)
    (expected,) = images
    expected = np.rot90(expected[:, ::-1] if flip else expected, turns)
    padded = np.pad(expected, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    expected = padded[1:6, 4:9]  # down by one, to the left by two
    found = augment_ada.blit(
        jnp.asarray(images), jnp.array([flip]), jnp.array([turns]), jnp.array([1]), jnp.array([-2])
    )
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.slow
def test_blits_of_oblong_images():
    images = some(1, 4, 6, 1)
    zero = jnp.array([0])
    found = augment_ada.blit(jnp.asarray(images), jnp.array([True]), jnp.array([2]), zero, zero)
    np.testing.assert_array_equal(found[0], images[0, ::-1])
    _, turns, rows, columns = draws(400, 1.0).blits(4, 16)
    assert set(turns.tolist()) == {0, 2}
    assert set(rows.tolist()) == {0}  # an eighth of 4 is half a pixel, and halves round to even numbers
    assert set(columns.tolist()) == {-2, -1, 0, 1, 2}


def warped(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """By scipy, of an image so large that only its middle is looked at: the border does not matter.

    Enlarged with zeros and SYM6, looked up bilinearly, filtered again by SYM6 backwards.
    """
    height, width = image.shape
    spread = np.zeros((2 * height, 2 * width))
    spread[::2, ::2] = image
    taps = np.outer(SYM6, SYM6)
    large = scipy.signal.convolve2d(spread, taps)
    centre_of_mass = round(32 * float(np.arange(12) @ SYM6 / SYM6.sum())) / 32  # pixel i is around 2 i + this
    rows, columns = np.meshgrid(*(np.arange(size) for size in large.shape), indexing="ij")
    centre = (np.array([height, width]) - 1) / 2
    output = np.stack(
        [
            (rows - centre_of_mass) / 2 - centre[0],
            (columns - centre_of_mass) / 2 - centre[1],
            np.ones(large.shape),
        ]
    )
    place = np.einsum("ij,jrc->irc", matrix, output)
    place = 2 * (place + centre[:, None, None]) + centre_of_mass
    looked_up = scipy.ndimage.map_coordinates(large, place, order=1)
    shrunk = scipy.signal.correlate2d(looked_up, taps, mode="valid")
    return shrunk[::2, ::2]


def test_warps():
    draw = np.random.default_rng(3)
    angle = 0.7
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.concatenate([turn @ np.diag([0.8, 1.1]), [[1.3], [-0.6]]], axis=1)
    images = draw.normal(size=(1, 40, 36, 1))
    found = augment_ada.warp(jnp.asarray(images), jnp.asarray(matrix[None]))
    expected = warped(images[0, :, :, 0], matrix)
    assert expected.shape == (40, 36)
    middle = slice(13, 25), slice(12, 24)
    np.testing.assert_allclose(found[0, :, :, 0][middle], expected[middle], atol=1e-8)


def test_a_warp_moves_what_it_should_and_comes_back():
    """On a smooth image the values are those of the field at the places looked up."""
    height, width = 24, 20
    image = smooth(height, width)[None, :, :, None]
    angle = 0.4
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.concatenate([turn, [[0.5], [1.0]]], axis=1)
    found = np.asarray(augment_ada.warp(jnp.asarray(image), jnp.asarray(matrix[None])))
    rows, columns = np.mgrid[:height, :width]
    centre = np.array([height - 1, width - 1])[:, None, None] / 2
    place = np.einsum("ij,jrc->irc", turn, np.stack([rows, columns]) - centre)
    place = place + matrix[:, 2, None, None] + centre
    inside = ((place >= 1) & (place <= 2 * centre - 1)).all(axis=0)
    np.testing.assert_allclose(found[0, :, :, 0][inside], field(*place)[inside], atol=0.02)
    back = np.concatenate([turn.T, -turn.T @ matrix[:, 2:]], axis=1)
    again = np.asarray(augment_ada.warp(jnp.asarray(found), jnp.asarray(back[None])))[0, :, :, 0]
    middle = slice(8, 16), slice(7, 13)
    np.testing.assert_allclose(again[middle], image[0, :, :, 0][middle], atol=0.04)


def test_beyond_the_border_is_the_reflection():
    image = smooth(12, 12)
    matrix = np.array([[[1.0, 0.0, -8.0], [0.0, 1.0, 20.0]]])
    found = augment_ada.warp(jnp.asarray(image[None, :, :, None]), jnp.asarray(matrix))[0, :, :, 0]
    rows = np.pad(image, ((8, 0), (0, 0)), mode="reflect")[:12]
    expected = np.pad(rows, ((0, 0), (0, 20)), mode="reflect")[:, 20:]
    np.testing.assert_allclose(found, expected, atol=0.03)


@pytest.mark.slow
def test_what_geometry_is_drawn():
    matrices = np.asarray(draws(4000, 1.0).geometry(16, 8))
    linear, offset = matrices[:, :, :2], matrices[:, :, 2]
    # Both scalings are of the power of two that their standard deviation says, and only one changes areas.
    areas = np.log2(np.linalg.det(linear)) / 2
    assert np.std(areas) == pytest.approx(0.2, rel=0.1)
    stretch = np.log2(np.linalg.svd(linear)[1])
    assert np.mean(np.square(stretch[:, 0] - stretch[:, 1]) / 4) == pytest.approx(0.04, rel=0.15)
    moved = -np.linalg.solve(linear, offset[:, :, None])[:, :, 0]
    np.testing.assert_allclose(moved.std(axis=0), [2.0, 1.0], rtol=0.1)
    # Of the two rotations, one at least happens with probability p.
    turned = np.asarray(draws(4000, 0.6).geometry(16, 8))[:, :, :2]
    assert np.mean(np.abs(turned[:, 0, 1]) > 1e-12) == pytest.approx(0.6, abs=0.04)


def matrices(**drawn: float) -> np.ndarray:
    """Of one image, where only what is named happens, and so strongly."""

    class Chosen(Draws):
        def if_it_happens(self, name, value, otherwise, p=None):
            return jnp.array([float(drawn.get(name, otherwise))])

    return np.asarray(Chosen(keys_of(1), 1.0, jnp.dtype("float64")).colours()[0])


def test_colours():
    grey = np.full(3, 3**-0.5)
    identity = np.concatenate([np.eye(3), np.zeros((3, 1))], axis=1)
    np.testing.assert_allclose(matrices(), identity, atol=1e-12)
    brighter = matrices(brightness=0.3)
    np.testing.assert_allclose(brighter, identity + np.array([0, 0, 0, 0.3]), atol=1e-12)
    np.testing.assert_allclose(matrices(contrast=1.7)[:, :3], 1.7 * np.eye(3), atol=1e-12)
    inverted = matrices(luma=-1.0)[:, :3]
    np.testing.assert_allclose(inverted, np.eye(3) - 2 * np.outer(grey, grey), atol=1e-12)
    np.testing.assert_allclose(inverted @ inverted, np.eye(3), atol=1e-12)
    hue = matrices(hue=2 * np.pi / 3)[:, :3]  # a third of a turn: red, green and blue change places
    np.testing.assert_allclose(np.abs(hue), np.round(np.abs(hue)), atol=1e-12)
    np.testing.assert_allclose(hue @ hue @ hue, np.eye(3), atol=1e-12)
    assert not np.allclose(hue, np.eye(3))
    some_hue = matrices(hue=0.6)[:, :3]
    np.testing.assert_allclose(some_hue @ some_hue.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(some_hue @ grey, grey, atol=1e-12)
    np.testing.assert_allclose(some_hue @ matrices(hue=-0.6)[:, :3], np.eye(3), atol=1e-12)
    paler = matrices(saturation=0.0)[:, :3]
    np.testing.assert_allclose(paler, np.outer(grey, grey), atol=1e-12)
    # In their order: brightness comes before contrast and the inversion.
    np.testing.assert_allclose(matrices(brightness=0.3, contrast=2.0, luma=-1.0)[:, 3], -0.6, atol=1e-12)
    # All of them leave the mean colour of an image the colour of its mean.
    images = some(1, 4, 4, 3)
    matrix = np.asarray(draws(1, 1.0).colours())
    found = np.asarray(augment_ada.recolour(jnp.asarray(images), jnp.asarray(matrix)))
    np.testing.assert_allclose(
        found.mean((1, 2))[0], matrix[0, :, :3] @ images.mean((1, 2))[0] + matrix[0, :, 3]
    )


@pytest.mark.slow
def test_colours_of_one_and_of_four_channels():
    matrix = jnp.asarray(draws(2, 1.0).colours())
    images = jnp.asarray(some(2, 3, 3, 1))
    grey = augment_ada.recolour(jnp.repeat(images, 3, axis=3), matrix)
    found = augment_ada.recolour(images, matrix)
    np.testing.assert_allclose(jnp.repeat(found, 3, axis=3), grey, atol=1e-12)
    images = jnp.asarray(some(2, 3, 3, 4))
    found = augment_ada.recolour(images, matrix)
    np.testing.assert_array_equal(found[..., 3], images[..., 3])
    np.testing.assert_allclose(found[..., :3], augment_ada.recolour(images[..., :3], matrix), atol=1e-12)


@pytest.mark.slow
def test_bands_of_frequencies():
    bank = augment_ada.filter_bank()
    assert bank.shape == (4, 43)
    pixel = np.zeros(43)
    pixel[21] = 1
    np.testing.assert_allclose(bank.sum(axis=0), pixel, atol=1e-12)
    frequencies = np.pi * np.array([1 / 40, 3 / 16, 3 / 8, 7 / 8])  # one in each band
    waves = np.exp(1j * np.outer(frequencies, np.arange(43)))
    response = np.abs(waves @ bank.T)
    assert (np.diag(response) > 0.7).all()
    assert (response.sum(axis=1) - np.diag(response) < 0.4).all()
    images = some(2, 6, 5, 2)
    gains = np.array([[2.0, 1.0, 0.5, 3.0], [1.0, 1.0, 1.0, 1.0]])
    found = np.asarray(augment_ada.filter_bands(jnp.asarray(images), jnp.asarray(gains)))
    np.testing.assert_allclose(found[1], images[1], atol=1e-12)
    expected = images[0]
    for axis in (0, 1):
        expected = scipy.ndimage.correlate1d(expected, gains[0] @ bank, axis=axis, mode="mirror")
    np.testing.assert_allclose(found[0], expected, atol=1e-12)
    # Whatever happens, the power of an image with the spectrum of natural ones stays what it is.
    one = np.asarray(draws(100, 0.25).gains())
    touched = (one != 1).any(axis=1)
    assert 0.5 < touched.mean() < 0.85  # 1 - 0.75^4 = 0.68
    once = [g for g in one[touched] if len(np.unique(np.round(g, 9))) == 2]
    for gains in once:
        assert np.sum(BAND_POWER * gains**2) == pytest.approx(1)


@pytest.mark.slow
def test_noise_and_cutout():
    strength = np.asarray(draws(4000, 0.5).noise())
    assert np.mean(strength > 0) == pytest.approx(0.5, abs=0.04)
    assert np.sqrt(np.mean(strength[strength > 0] ** 2)) == pytest.approx(0.1, rel=0.05)
    images = jnp.ones((4, 8, 4, 1))
    places = jnp.array([[0.5, 0.5], [0.0, 1.0], [0.5, 0.25], [0.5, 0.5]])
    found = np.asarray(augment_ada.cut(images, places, jnp.array([0.5, 0.5, 0.5, 0.0])))[..., 0]
    expected = np.ones((4, 8, 4))
    expected[0, 2:6, 1:3] = 0
    expected[1, :2, 3:] = 0
    expected[2, 2:6, :2] = 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("p", [0.9, pytest.param(0.3, marks=pytest.mark.slow)])
def test_turns_do_not_leak(p):
    """What is drawn has the distribution by which the paper argues (its appendix C): an image as it is with
    1 - 3/4 p, turned by each right angle with p / 4. So the distribution of turned images tells that of the
    images: the matrix from the one to the other has an inverse, as long as p is below 1."""
    _, turns, _, _ = draws(20_000, p).blits(8, 8)
    shares = np.bincount(np.asarray(turns), minlength=4) / 20_000
    np.testing.assert_allclose(shares, [1 - 0.75 * p, p / 4, p / 4, p / 4], atol=0.015)
    matrix = np.stack([np.roll(shares, k) for k in range(4)])
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2).min() == pytest.approx(1 - p, abs=0.03)


@pytest.mark.slow
def test_an_examples_draws_are_its_own():
    augment = augment_ada.ada()
    images = jnp.asarray(some(4, 8, 8, 3))
    keys = keys_of(4)
    found = augment(images, keys, 0.7)
    np.testing.assert_allclose(augment(images[2:3], keys[2:3], 0.7)[0], found[2], atol=1e-12)
    assert not np.allclose(found[0], images[0])


@pytest.mark.slow
def test_gradients_go_through():
    """The default pipeline is linear in the images but for what is added: so are its gradients."""
    augment = augment_ada.ada()
    images, weights = jnp.asarray(some(2, 6, 6, 3)), jnp.asarray(some(2, 6, 6, 3, seed=1))
    value = lambda x: jnp.sum(weights * augment(x, keys_of(2), 0.8))  # noqa: E731
    gradient = jax.grad(value)(images)
    direction = jnp.asarray(some(2, 6, 6, 3, seed=2))
    change = value(images + direction) - value(images)
    assert float(jnp.sum(gradient * direction)) == pytest.approx(float(change), rel=1e-9)
    assert float(jnp.abs(gradient).max()) > 0
