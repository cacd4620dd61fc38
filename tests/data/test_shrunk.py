"""Shrunk sets: means of blocks, labels, and no reading before it is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import data
from ganjax.data.mirrored import mirrored
from ganjax.data.shrunk import block_means, shrunk
from ganjax.errors import RunError
from ganjax.gan import Context


def test_a_pixel_is_the_mean_of_a_block():
    images = np.array([[0, 1, 10, 20], [2, 3, 30, 255]], np.uint8).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(block_means(images, 2).ravel(), [2, 79])  # 1.5 and 78.75


def test_a_shrunk_set():
    whole = data.load("random", image_size=(8, 16))
    half = shrunk(whole, 4)
    assert half.image_shape == (2, 4, 1)
    assert (half.num_examples, half.num_classes, half.name) == (whole.num_examples, 10, "random")
    places = np.array([3, 255, 0])
    found, full = half.read(places), whole.read(places)
    np.testing.assert_array_equal(found["label"], full["label"])
    means = full["image"].reshape(3, 2, 4, 4, 4, 1).mean((2, 4))
    np.testing.assert_allclose(found["image"], means, atol=0.5)
    resident = half.resident()
    assert resident is not None
    assert len(resident["image"]) == 256
    assert half.example(2)["image"].shape == (2, 2, 4, 1)
    assert shrunk(whole, 1) is whole
    assert (whole.shrink, half.shrink, shrunk(half, 2).shrink) == (1, 4, 8)
    with pytest.raises(ValueError, match="8x16 can't be shrunk by 3"):
        shrunk(whole, 3)


def test_what_else_a_set_is_stays():
    """How it was loaded, by which its test split is found; its names; that half of a batch is mirrored."""
    whole = data.load("random", image_size=8, held_out=0.25, held_out_by="-")
    whole.names = [str(place) for place in range(whole.num_examples)]
    half = shrunk(mirrored(whole), 2)
    assert half.options() == {"resize": "crop", "held_out": 0.25, "held_out_by": "-"}
    assert half.names == whole.names
    context = Context(jax.random.key(0), jnp.arange(16))
    batch = {name: jnp.asarray(x) for name, x in half.read(np.arange(16)).items()}
    plain, seen = (np.asarray(each.transform(batch, context)["image"]) for each in (shrunk(whole, 2), half))
    turned = [(a != b).any() for a, b in zip(plain, seen, strict=True)]
    assert 0 < sum(turned) < 16
    np.testing.assert_array_equal(seen[turned], plain[turned][:, :, ::-1])


def test_without_the_data_only_reading_fails():
    known = data.from_spec(data.load("random", image_size=8).spec())
    with pytest.raises(RunError, match="not loaded"):
        shrunk(known, 2).read(np.arange(2))
