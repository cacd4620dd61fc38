import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.data import Mixture, Zip
from ganjax.data.plane import grid, ring
from ganjax.gan import Context


def seen(mixture: Mixture, modes: np.ndarray, key: int = 0) -> dict[str, np.ndarray]:
    context = Context(jax.random.key(key), jnp.arange(len(modes), dtype=jnp.int32))
    return {name: np.asarray(x) for name, x in mixture.transform(mixture.read(modes), context).items()}


def test_the_usual_sets():
    centers = ring().centers
    np.testing.assert_allclose(np.hypot(*centers.T), 2, rtol=1e-6)
    np.testing.assert_allclose(centers[[0, 2, 4, 6]], [[2, 0], [0, 2], [-2, 0], [0, -2]], atol=1e-6)
    assert (len(centers), ring().std) == (8, 0.02)
    assert sorted(map(tuple, grid().centers.tolist())) == [
        (x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)
    ]
    assert grid().std == 0.05
    np.testing.assert_array_equal(
        grid(side=2, spacing=3).centers, [[-1.5, -1.5], [1.5, -1.5], [-1.5, 1.5], [1.5, 1.5]]
    )


def test_modes_are_a_function_of_seed_and_place():
    mixture = ring()
    whole = mixture.indices(5, 0, 40)
    for start in range(9):
        for count in (1, 4, 13):
            np.testing.assert_array_equal(mixture.indices(5, start, count), whole[start : start + count])
    assert not np.array_equal(mixture.indices(6, 0, 40), whole)
    many = mixture.indices(0, 0, 80_000)
    counts = np.bincount(many, minlength=8)
    # Independent draws: counts stray by a hundred, and neighbours are alike an eighth of the time.
    assert np.abs(counts - 10_000).max() < 500
    assert counts.std() > 10
    assert np.mean(many[1:] == many[:-1]) == pytest.approx(1 / 8, abs=0.01)


@pytest.mark.parametrize("mixture", [ring(), grid()], ids=["ring", "grid"])
def test_what_networks_see(mixture):
    modes = mixture.indices(0, 0, 20_000)
    batch = seen(mixture, modes)
    assert batch.keys() == {"image"}
    assert (batch["image"].dtype, batch["image"].shape) == (np.float32, (20_000, 2))
    assert 0.9 < np.abs(batch["image"]).max() < 1
    noise = mixture.points(batch["image"]) - mixture.centers[modes]
    np.testing.assert_allclose(noise.std(axis=0), mixture.std, rtol=0.02)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=3 * mixture.std / 20_000**0.5)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.03


def test_noise_comes_from_the_place_in_the_global_batch():
    mixture = grid()
    modes = mixture.indices(0, 0, 6)
    whole = seen(mixture, modes)["image"]
    context = Context(jax.random.key(0), jnp.arange(3, 9, dtype=jnp.int32))
    part = mixture.transform(mixture.read(np.roll(modes, -3)), context)["image"]
    np.testing.assert_array_equal(np.asarray(part)[:3], whole[3:])
    assert not np.array_equal(seen(mixture, modes, key=1)["image"], whole)


def test_it_has_the_form_of_a_source():
    mixture = ring(conditional=True)
    assert (ring().num_classes, mixture.num_classes) == (0, 8)
    modes = mixture.indices(0, 0, 6)
    raw = mixture.read(modes)
    np.testing.assert_array_equal(mixture.resident()["mode"][modes], raw["mode"])
    example = mixture.example(6)["mode"]
    assert (example.shape, example.dtype) == (raw["mode"].shape, raw["mode"].dtype)
    batch = seen(mixture, modes)
    np.testing.assert_array_equal(batch["label"], modes)
    np.testing.assert_array_equal(batch["image"], seen(ring(), modes)["image"])
    assert Zip({"a": mixture, "b": grid()}).read({"a": modes, "b": modes})["a"].keys() == {"mode"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ring(modes=0), "modes=0"),
        (lambda: ring(radius=0.0), r"radius=0\.0"),
        (lambda: ring(std=0.0), r"std=0\.0: expected a number above 0"),
        (lambda: grid(side=0), "side=0"),
        (lambda: grid(spacing=float("nan")), "spacing=nan"),
        (lambda: Mixture("x", np.zeros((3, 3)), 1.0), r"x: centers \[3, 3\]: expected finite \[K, 2\]"),
        (lambda: ring().points(np.zeros((2, 3))), r"ring: samples \[2, 3\]: expected points \[n, 2\]"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
