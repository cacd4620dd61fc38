"""Sets of images that are read by place."""

import jax
import numpy as np
import pytest

from ganjax import data
from ganjax.errors import RunError
from ganjax.metrics import sets
from ganjax.report.images import to_uint8
from ganjax.sampling import Sampler
from ganjax.step import create_state
from tests.doubles import SHAPE, toy_gan


def test_of_a_data_set():
    dataset = data.load("random", image_size=4)
    images = sets.of_dataset(dataset)
    assert (images.count, images.image_shape, images.num_classes) == (dataset.num_examples, (4, 4, 1), 10)
    assert images.about == {"set": "random", "split": "train"}
    whole = dataset.read(np.arange(dataset.num_examples))
    np.testing.assert_array_equal(images.read(3, 9), whole["image"][3:9])
    np.testing.assert_array_equal(images.labels, whole["label"])
    parts = list(images.chunks(7))
    assert [start for start, _ in parts] == list(range(0, images.count, 7))
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), whole["image"])
    np.testing.assert_array_equal(images.kept(7).read(0, images.count), whole["image"])


def test_of_a_model():
    gan = toy_gan()
    state = create_state(gan, jax.random.key(0), {"image": np.zeros((2, *SHAPE), np.float32)})
    sampler = Sampler(gan, chunk=4)
    images = sets.of_model(sampler, state, 6, SHAPE)
    expected = to_uint8(sampler(state, np.arange(6)))
    np.testing.assert_array_equal(np.concatenate([part for _, part in images.chunks(4)]), expected)
    broken = state.replace(
        params=jax.tree.map(lambda x: np.full_like(x, np.nan), state.params),
        ema=jax.tree.map(lambda x: np.full_like(x, np.nan), state.ema),
    )
    with pytest.raises(RunError, match="the samples of seeds 0-5 hold NaN"):
        sets.of_model(sampler, broken, 6, SHAPE).read(0, 6)


def test_a_digest_is_one_of_content():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    labels = np.arange(5)
    one = sets.of_arrays(images, labels, 5).digest
    assert one == sets.of_arrays(images.copy(), labels, 5, {"set": "elsewhere"}).digest
    for other in (
        sets.of_arrays(images[::-1], labels, 5),
        sets.of_arrays(images, labels[::-1], 5),
        sets.of_arrays(images),
        sets.of_arrays(images.reshape(5, 2, 8, 1), labels, 5),
    ):
        assert other.digest != one
