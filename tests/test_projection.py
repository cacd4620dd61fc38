import os
import types
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import projection
from ganjax.errors import RunError
from ganjax.metrics.lpips import load_lpips
from ganjax.nets.stylegan2 import StyleGAN2Generator
from ganjax.projection import Projection, Projector, normalised, of_lpips, of_pixels, rate_at, roughness
from tests.test_steering import small_gan

FILES = os.environ.get("GANJAX_LPIPS")


def test_roughness_is_the_squared_correlation_of_neighbours_at_all_scales():
    board = np.indices((16, 16)).sum(0) % 2 * 2.0 - 1.0
    maps = jnp.asarray(np.stack([board, np.ones((16, 16))]), jnp.float32)
    # Of the board each neighbour differs, and nothing is left of it at half the size. Of ones, which are
    # twos at half the size, products are 1 and 4.
    np.testing.assert_allclose(roughness([maps]), [2.0, 2.0 + 2 * 4.0**2])
    np.testing.assert_allclose(roughness([maps[:, :8, :8]]), [2.0, 2.0])  # no smaller ones
    np.testing.assert_allclose(roughness([maps[:, :7, :7], maps[:, :9, :9]])[1], 4.0)  # nor of odd ones


def test_maps_are_normalised_each():
    maps = np.random.default_rng(0).normal(3, 5, (2, 6, 4)).astype(np.float32)
    found = np.asarray(normalised(jnp.asarray(maps)))
    np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(found.std((1, 2)), 1, rtol=1e-5)


def test_the_rate_rises_and_falls():
    shares = jnp.array([0.0, 0.025, 0.05, 0.75, 0.875, 1.0], jnp.float32)
    np.testing.assert_allclose(rate_at(shares), [0, 0.05, 0.1, 0.1, 0.05, 0], atol=1e-7)


def test_what_lpips_sees(monkeypatch):
    network: Any = types.SimpleNamespace(network="vgg16", params=None)
    with pytest.raises(ValueError, match="images of 8x12: LPIPS by vgg16 takes at least 16 pixels"):
        of_lpips(network, (8, 12, 1))
    seen = []
    monkeypatch.setattr(projection, "lpips", lambda params, x, y: seen.append(np.asarray(x)))
    monkeypatch.setattr("ganjax.metrics.lpips.REDUCED", 8)
    image = np.full((1, 16, 18, 4), -1.0, np.float32)  # black
    image[..., 3] = 0.0  # half transparent
    given = jnp.asarray(image)
    of_lpips(network, image.shape[1:]).function(None, given, given)
    assert seen[0].shape == (1, 8, 9, 3)
    np.testing.assert_allclose(seen[0], 0.0)


def test_projections_are_kept(tmp_path):
    one = Projection("w", np.arange(3.0, dtype=np.float32), np.ones((2, 3), np.float32), (np.eye(4),), 7)
    projection.save(tmp_path / "a.npz", one, distance=0.5)
    found = projection.load(tmp_path / "a.npz")
    assert (found.space, found.label) == ("w", 7)
    for a, b in ((found.latent, one.latent), (found.styles, one.styles), (found.maps[0], one.maps[0])):
        np.testing.assert_array_equal(a, b)
    np.savez(tmp_path / "b.npz", latent=np.array([np.nan]))
    with pytest.raises(RunError, match="no finite number"):
        projection.load(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", latent=np.zeros(2), noise_1=np.zeros((2, 2)))
    with pytest.raises(RunError, match="a map of noise is missing"):
        projection.load(tmp_path / "c.npz")


@pytest.fixture(scope="module")
def painter():
    sizes: Any = {"channel_base": 8, "channel_max": 8, "style_size": 6, "mapping_layers": 2}
    gan, state = small_gan(StyleGAN2Generator((16, 16, 1), 1, mapping_multiplier=1.0, **sizes))
    for name, layer in state.params["generator"]["synthesis"].items():
        if name.startswith("image"):  # or images would hardly differ
            layer["kernel"] *= 5.0
        elif "strength" in layer:  # or most of how they differ would be noise, which is not found again
            layer["strength"] *= 0.1
    return gan, state


@pytest.mark.slow
@pytest.mark.parametrize("space", ["z", "w", "w+"])
def test_an_image_that_was_generated_is_found_again(painter, space):
    gan, state = painter
    projector = Projector(gan, state, of_pixels(), space=space, draws=50, chunk=2)
    steering = projector._steering
    assert steering is not None
    targets = steering.draw([100, 101])
    far = np.square(targets[0] - targets[1]).mean()
    found = projector(targets, steps=200)
    for p in found:
        assert p.styles is not None
        assert p.styles.shape == (4, 6)
        np.testing.assert_allclose([x.mean() for x in p.maps], 0, atol=1e-5)
        np.testing.assert_allclose([x.std() for x in p.maps], 1, rtol=1e-4)
        if space != "w+":
            np.testing.assert_array_equal(p.styles[0], p.styles[1])
    near = projector.distances(projector.images(found), targets)
    assert (near < 0.1 * far).all()
    # An image's projection does not depend on what is projected with it.
    again = projector(targets[[1, 0]], steps=200)
    np.testing.assert_allclose(again[1].latent, found[0].latent, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not FILES, reason=f"set GANJAX_LPIPS to files of LPIPS weights, joined by {os.pathsep!r}")
def test_an_image_that_was_generated_is_found_again_by_lpips(painter):
    gan, state = painter
    network = load_lpips(*str(FILES).split(os.pathsep)[0].split(","))
    distance = of_lpips(network, (16, 16, 1))
    projector = Projector(gan, state, distance, space="w+", draws=50, chunk=2)
    assert projector._steering is not None
    targets = projector._steering.draw([100, 101])
    found = projector(targets, steps=100)
    assert (projector.distances(projector.images(found), targets) < 0.05).all()


def test_images_are_seen_as_they_are():
    """Not clipped: with clipped ones and another derivative, what is right already is pushed on and on."""
    styles = types.SimpleNamespace(synthesis=lambda state, latent, maps: 3 * latent, layers=2)
    projector: Any = types.SimpleNamespace(_gan=types.SimpleNamespace(styles=styles), _space="w")
    state: Any = None
    images = Projector._images(projector, state, jnp.ones((1, 4)), None, ())
    np.testing.assert_array_equal(images, np.full((1, 2, 4), 3.0))
