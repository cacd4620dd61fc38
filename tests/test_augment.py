import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import augment, random
from ganjax.data.rotated import turned

N, H, W = 64, 12, 8
KEYS = random.from_seeds(np.arange(N))
ORDER = np.random.default_rng(0).integers(0, N, size=N)


@functools.cache
def images(channels: int) -> np.ndarray:
    """In numpy, since every operation of jax's on its own is a program to compile."""
    draw = np.random.default_rng(channels)
    return draw.uniform(-1, 1, size=(N, H, W, channels)).astype(np.float32)


def spots(row: int, column: int, values: tuple[float, ...]) -> np.ndarray:
    image = np.zeros((N, H, W, len(values)), np.float32)
    image[:, row, column] = values
    return image


AUGMENTATIONS = {
    "color": augment.diff_augment("color"),
    "translation": augment.diff_augment("translation"),
    "cutout": augment.diff_augment("cutout"),
    "all": augment.diff_augment(),
    "flip_and_shift": augment.flip_and_shift(3),
    "distort": augment.distort(20.0, 0.2, 1.5),
    "noise": functools.partial(augment.instance_noise, sigma=0.2),
}


@functools.cache
def jitted(name: str):
    augmentation = jax.jit(AUGMENTATIONS[name])
    return lambda images, keys: np.asarray(augmentation(images, keys))


@pytest.mark.parametrize(("name", "channels"), [*((name, 3) for name in AUGMENTATIONS), ("all", 1)])
def test_an_example_depends_on_its_own_key_and_image_alone(name, channels):
    whole = jitted(name)(images(channels), KEYS)
    assert whole.shape == (N, H, W, channels)
    assert whole.dtype == jnp.float32
    assert np.isfinite(whole).all()
    some = jitted(name)(images(channels)[ORDER], KEYS[ORDER])  # other companions, at other places
    np.testing.assert_allclose(some, whole[ORDER], rtol=0, atol=1e-6)
    assert (whole != images(channels)).any((1, 2, 3)).mean() > 0.9
    others = jitted(name)(np.repeat(images(channels)[:1], N, axis=0), KEYS)
    assert len(np.unique(others, axis=0)) > 12


@pytest.mark.parametrize("name", ["all", "flip_and_shift", "distort"])
def test_gradients_flow_and_are_those_of_an_affine_map(name):
    """All of them are affine in an image: f(x + d) - f(x) is the derivative along d."""
    x, direction, weights = images(3), images(3)[::-1], images(3)[::-1, ::-1]
    gradient = jax.jit(jax.grad(lambda x: jnp.vdot(weights, AUGMENTATIONS[name](x, KEYS))))(x)
    change = jitted(name)(x + direction, KEYS) - jitted(name)(x, KEYS)
    np.testing.assert_allclose(np.vdot(gradient, direction), np.vdot(weights, change), rtol=1e-3)
    assert (np.asarray(gradient) != 0).any((1, 2, 3)).all()


def test_color_by_its_parts():
    x = images(3)
    y = jitted("color")(x, KEYS)
    brightness = np.mean(y - x, (1, 2, 3))
    assert -0.5 <= brightness.min() < -0.4
    assert 0.4 < brightness.max() <= 0.5
    assert abs(brightness.mean()) < 0.12
    # The mean over channels is touched by brightness and contrast only, chroma by saturation and contrast.
    grey_x, grey_y = x.mean(3, keepdims=True), y.mean(3, keepdims=True)
    contrast = grey_y.std((1, 2, 3)) / grey_x.std((1, 2, 3))
    assert 0.5 <= contrast.min() < 0.6
    assert 1.4 < contrast.max() <= 1.5
    chroma = (y - grey_y).std((1, 2, 3)) / (x - grey_x).std((1, 2, 3)) / contrast
    assert 0 <= chroma.min() < 0.15
    assert 1.85 < chroma.max() <= 2
    assert abs(np.corrcoef(np.stack([brightness, contrast, chroma])) - np.eye(3)).max() < 0.4
    # One channel has no chroma: an image of one value keeps one.
    flat = jitted("color")(np.full((N, H, W, 1), 0.25, np.float32), KEYS)
    np.testing.assert_allclose(flat, np.broadcast_to(flat[:, :1, :1], flat.shape), atol=1e-6)
    np.testing.assert_allclose(flat[:, 0, 0, 0] - 0.25, brightness, atol=1e-5)


def test_translation_moves_everything_by_whole_pixels():
    """12 x 8 pixels: by up to 2 rows (an eighth, rounded up from the half) and 1 column."""
    moved = jitted("translation")(spots(4, 3, (1.0, -0.3, 0.5)), KEYS)
    np.testing.assert_allclose(moved.sum((1, 2)), np.tile([1.0, -0.3, 0.5], (N, 1)))  # whole
    assert sorted(np.unique(moved)) == [np.float32(-0.3), 0, 0.5, 1]  # and exactly
    _, rows, columns = np.nonzero(moved[..., 0])
    assert set(rows - 4) == {-2, -1, 0, 1, 2}
    assert set(columns - 3) == {-1, 0, 1}
    assert len(set(zip(rows, columns, strict=True))) > 12  # of 15: independent along the two axes
    # Against numpy: zeros move in.
    moved = jitted("translation")(images(3), KEYS)
    for i, (dy, dx) in enumerate(zip(rows - 4, columns - 3, strict=True)):
        expected = np.zeros((H + 4, W + 4, 3), np.float32)
        expected[2 + dy : 2 + dy + H, 2 + dx : 2 + dx + W] = images(3)[i]
        np.testing.assert_array_equal(moved[i], expected[2:-2, 2:-2])


def test_cutout_cuts_a_rectangle_of_half_the_size():
    kept = jitted("cutout")(np.ones((N, H, W, 3), np.float32), KEYS)
    assert set(np.unique(kept)) == {0, 1}
    np.testing.assert_array_equal(kept[..., 0], kept[..., 2])
    sizes, firsts = set(), set()
    for image in kept[..., 0]:
        rows, columns = np.nonzero((image == 0).any(1))[0], np.nonzero((image == 0).any(0))[0]
        assert (image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 0).all()
        assert (image == 0).sum() == len(rows) * len(columns)
        sizes.add((len(rows), len(columns)))
        firsts.add((rows[0], columns[0]))
        # Less than 6 x 4 only where the rectangle sticks out.
        assert len(rows) == 6 or rows[0] == 0 or rows[-1] == H - 1
        assert len(columns) == 4 or columns[0] == 0 or columns[-1] == W - 1
    assert {rows for rows, _ in sizes} == {3, 4, 5, 6}
    assert {columns for _, columns in sizes} == {2, 3, 4}
    # As far out at the one end as at the other.
    assert {row for row, _ in firsts} == set(range(10))
    assert {column for _, column in firsts} == set(range(7))
    np.testing.assert_array_equal(jitted("cutout")(images(3), KEYS), kept * images(3))


def test_cutout_of_an_odd_length_has_its_centre_on_every_pixel():
    kept = np.asarray(jax.jit(augment.cutout)(jnp.ones((N, 6, 6, 1)), KEYS))
    rows = {tuple(np.nonzero((image == 0).any(1))[0]) for image in kept[..., 0]}
    assert rows == {(0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5)}


def test_policies():
    x = images(3)
    np.testing.assert_array_equal(augment.diff_augment("")(jnp.asarray(x), KEYS), x)
    spaced = augment.diff_augment(" cutout ")
    np.testing.assert_array_equal(jax.jit(spaced)(x, KEYS), jitted("cutout")(x, KEYS))
    for policy, told in (
        ("colour", "'colour'; did you mean color"),
        ("color,cutou", "cutout"),
        ("color,", "no ''"),
        ("xyz", "choose from: color, cutout, translation"),
    ):
        with pytest.raises(ValueError, match=told):
            augment.diff_augment(policy)
    # A word that is said twice draws twice: by up to 4 rows.
    twice = jax.jit(augment.diff_augment("translation,translation"))(spots(5, 3, (1.0,)), KEYS)
    assert max(abs(np.nonzero(twice)[1] - 5)) > 2


def test_flip_and_shift_against_numpy():
    ramp = np.tile(np.arange(H * W, dtype=np.float32).reshape(1, H, W, 1), (N, 1, 1, 1))
    for flip in (True, False):
        moved = np.asarray(jax.jit(augment.flip_and_shift(3, flip=flip))(ramp, KEYS))[..., 0]
        seen = set()
        for image in moved:
            found = [
                (mirrored, dy, dx)
                for mirrored in (False, True)
                for dy in range(-3, 4)
                for dx in range(-3, 4)
                if (image == reflected(mirrored, dy, dx)).all()
            ]
            assert len(found) == 1
            seen.add(found[0])
        assert {mirrored for mirrored, _, _ in seen} == ({False, True} if flip else {False})
        assert {dy for _, dy, _ in seen} == {dx for _, _, dx in seen} == set(range(-3, 4))


@functools.cache
def reflected(mirrored: bool, dy: int, dx: int) -> np.ndarray:
    image = np.arange(H * W, dtype=np.float32).reshape(H, W)
    image = image[:, ::-1] if mirrored else image
    return np.pad(image, 3, mode="reflect")[3 - dy : 3 - dy + H, 3 - dx : 3 - dx + W]


def test_flip_and_shift_without_a_shift():
    x = images(3)
    np.testing.assert_array_equal(jax.jit(augment.flip_and_shift(0, flip=False))(x, KEYS), x)
    flipped = np.asarray(jax.jit(augment.flip_and_shift(0))(x, KEYS))
    mirrored = [(y == z[:, ::-1]).all() for y, z in zip(flipped, x, strict=True)]
    kept = [(y == z).all() for y, z in zip(flipped, x, strict=True)]
    np.testing.assert_array_equal(np.array(mirrored), ~np.array(kept))
    assert 20 < sum(mirrored) < 44
    with pytest.raises(ValueError, match="0 or more"):
        augment.flip_and_shift(-1)
    with pytest.raises(ValueError, match="larger than the shift"):
        augment.flip_and_shift(8)(jnp.asarray(x), KEYS)


@pytest.mark.parametrize(
    ("turn", "stretch"), [(40.0, 0.0), (0.0, 0.5), (30.0, 0.3)], ids=["turn", "stretch", "both"]
)
def test_distort_by_where_it_brings_a_ramp(turn, stretch):
    """Interpolation is exact on a plane, so that two of them tell which map it was, away from the border."""
    size, middle = 33, slice(12, 21)
    y, x = np.meshgrid(np.arange(size) - 16, np.arange(size) - 16, indexing="ij")
    planes = np.tile(np.stack([y, x], axis=-1)[None].astype(np.float32), (N, 1, 1, 1))
    moved = np.asarray(jax.jit(augment.distort(turn, stretch))(planes, KEYS))[:, middle, middle]
    points = np.stack([y, x], axis=-1)[middle, middle].reshape(-1, 2)
    angles, factors = [], []
    for image in moved:
        matrix = np.linalg.lstsq(points, image.reshape(-1, 2), rcond=None)[0]
        np.testing.assert_allclose(points @ matrix, image.reshape(-1, 2), rtol=0, atol=1e-4)
        # Row y of the image by v and u of the result: (v cos - u sin) / high; x: (v sin + u cos) / wide.
        (v_y, v_x), (u_y, u_x) = matrix
        angle = np.arctan2(-u_y, v_y)
        np.testing.assert_allclose(np.arctan2(v_x, u_x), angle, rtol=0, atol=1e-4)
        angles.append(np.rad2deg(angle))
        factors.append((1 / np.hypot(v_y, u_y), 1 / np.hypot(v_x, u_x)))
    drawn_of = {"angle": (np.array(angles), turn)}
    for i, axis in enumerate(("rows", "columns")):
        drawn_of[axis] = np.log(np.array(factors)[:, i]), np.log1p(stretch)
    for drawn, most in drawn_of.values():
        assert np.abs(drawn).max() <= most + 1e-3
        if most:  # uniform: all parts of the range, and both signs
            assert len({int(share) for share in np.floor(drawn / most * 3.999)}) == 8
    if stretch:
        assert abs(np.corrcoef(np.log(factors).T)[0, 1]) < 0.3  # each axis has its own


def test_distort_tells_the_angle_that_the_rotated_sets_have():
    """It turns by what it says, counterclockwise, as `ganjax.data.rotated` turns: two angles add up."""
    size = 33
    y, x = np.meshgrid(np.arange(size) - 16.0, np.arange(size) - 16.0, indexing="ij")
    blob = np.exp(-(np.square(x - 6) + 2 * np.square(y - 1)) / 20)  # smooth, to the right of the middle
    image = np.tile(np.round(255 * blob)[None, ..., None], (N, 1, 1, 1)).astype(np.uint8)
    first = np.linspace(-60, 60, N)
    given = turned(image, first)
    moved, degrees = jax.jit(augment.distort_and_tell(20.0))(given.astype(np.float32), KEYS)
    assert degrees.shape == (N,)
    assert np.abs(degrees).max() <= 20
    assert np.std(degrees) > 8
    expected = turned(image, first + np.asarray(degrees)).astype(np.float32)
    assert np.abs(given - expected).max() > 60
    np.testing.assert_allclose(moved, expected, rtol=0, atol=20)


def test_an_elastic_distortion_by_where_it_brings_ramps():
    """Planes of rows and columns come back as where each pixel was from: normally distributed about its
    place, neighbours together, the two axes apart, no pixel as another image's."""
    count, size, deviation = 300, 28, 1.2
    y, x = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    planes = np.tile(np.stack([y, x], axis=-1)[None].astype(np.float32), (count, 1, 1, 1))
    keys = random.from_seeds(jnp.arange(count))
    moved = np.asarray(jax.jit(augment.distort(0.0, 0.0, deviation))(planes, keys)) - planes
    inner = moved[:, 8:20, 8:20]
    assert abs(inner.mean()) < 0.1
    # A row's way is looked up where its column's has led: about as far, and as smoothly.
    np.testing.assert_allclose(inner.std(axis=(0, 1, 2)), deviation, rtol=0.08)
    flat = inner.reshape(count, 12, 12, 2)
    # Of a pixel, its neighbour and one far away: by rows and by columns each.
    three = np.concatenate([flat[:, 4, 4], flat[:, 4, 5], flat[:, 11, 11]], axis=1)
    both = np.asarray(np.corrcoef(three.T))
    assert min(both[0, 2], both[1, 3]) > 0.95
    assert np.abs(both[:2, 4:]).max() < 0.35
    assert abs(both[0, 1]) < 0.2
    assert np.unique(flat[:, 4, 4, 0]).size == count  # no image as another


def test_distort_of_borders_and_of_nothing():
    x = images(3)
    np.testing.assert_allclose(jax.jit(augment.distort(0.0))(x, KEYS), x, rtol=0, atol=1e-6)
    ones = np.ones((N, H, W, 1), np.float32)
    np.testing.assert_allclose(jax.jit(augment.distort(45.0, 1.0))(ones, KEYS), ones, rtol=0, atol=1e-5)
    for wrong in ({"turn": -1.0}, {"turn": 46.0}, *({"turn": 0.0, n: -0.1} for n in ("stretch", "elastic"))):
        with pytest.raises(ValueError, match="expected"):
            augment.distort(**wrong)


def test_instance_noise():
    x = images(3)
    noisy = jax.jit(augment.instance_noise)
    noise = np.asarray(noisy(x, KEYS, np.float32(0.2))) - x
    np.testing.assert_allclose(noise.std(), 0.2, rtol=0.03)
    assert abs(noise.mean()) < 0.01
    np.testing.assert_array_equal(noisy(x, KEYS, np.float32(0)), x)
    points = noisy(np.zeros((N, 2), np.float32), KEYS, np.float32(1))
    assert points.shape == (N, 2)
    assert len(np.unique(points)) == 2 * N
    half = jax.eval_shape(augment.instance_noise, jnp.zeros((N, 2), jnp.bfloat16), KEYS, 0.1)
    assert half.dtype == jnp.bfloat16


def test_noise_is_annealed_to_nothing():
    sigma = jax.jit(jax.vmap(augment.anneal(0.5, 100)))
    np.testing.assert_allclose(sigma(jnp.array([0, 50, 75, 100, 10**6])), [0.5, 0.25, 0.125, 0, 0])
    with pytest.raises(ValueError, match="steps=0"):
        augment.anneal(0.5, 0)


def test_jitter_is_a_crop_of_a_larger_image():
    """Every draw is one of the crops, mirrored or not, and all of them occur."""
    image = np.random.default_rng(0).normal(size=(4, 6, 2)).astype(np.float32)
    whole = np.asarray(jax.image.resize(image, (5, 8, 2), "bilinear", antialias=False))
    possible = [
        whole[top : top + 4, left : left + 6][:, :: -1 if mirror else 1]
        for top in range(2)
        for left in range(3)
        for mirror in (False, True)
    ]
    draw = jax.jit(augment.jitter(0.3))
    found = draw(np.stack([image] * 200), jax.random.split(jax.random.key(0), 200))
    which = [
        [i for i, crop in enumerate(possible) if np.allclose(crop, one, atol=1e-5)]
        for one in np.asarray(found)
    ]
    assert all(len(places) == 1 for places in which)
    assert {places[0] for places in which} == set(range(len(possible)))


def test_no_jitter():
    images = np.random.default_rng(0).normal(size=(2, 4, 6, 2)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    np.testing.assert_allclose(jax.jit(augment.jitter(0.0, flip=False))(images, keys), images, atol=1e-6)
    with pytest.raises(ValueError, match="at least 0"):
        augment.jitter(-0.1)
