"""Sets that are mirrored: half of the time, each image by its place in the batch and the step."""

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import data
from ganjax.data.dataset import from_spec
from ganjax.data.mirrored import mirrored
from ganjax.gan import Context


def test_half_of_the_images():
    plain = data.load("random", image_size=4)
    found = mirrored(plain)
    assert found.spec() == plain.spec()
    raw = found.read(np.arange(64))
    np.testing.assert_array_equal(raw["image"], plain.read(np.arange(64))["image"])
    context = Context(jax.random.key(0), jnp.arange(64))
    expected = np.asarray(plain.transform(raw, context)["image"])
    images = np.asarray(found.transform(raw, context)["image"])
    flipped = (images == expected[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (images == expected).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all()
    assert 20 < flipped.sum() < 44
    half = {name: x[32:] for name, x in raw.items()}
    again = found.transform(half, context._replace(index=context.index[32:]))["image"]
    np.testing.assert_array_equal(again, images[32:])


def test_a_set_that_is_only_known():
    assert mirrored(from_spec(data.load("random").spec())).image_shape == data.load("random").image_shape
