import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.data import Dataset, Zip, load
from ganjax.errors import UsageError
from ganjax.gan import Context


@pytest.fixture
def joined():
    return Zip({"a": load("random", image_size=2), "b": load("random", image_size=2)})


def test_batches_nest(joined):
    indices = joined.indices(0, 15, 5)
    batch = joined.read(indices)
    assert batch.keys() == {"a", "b"}
    np.testing.assert_array_equal(batch["b"]["image"], joined.sources["b"].read(indices["b"])["image"])
    seen = joined.transform(batch, Context(jax.random.key(0), jnp.arange(5)))
    assert seen["a"]["image"].dtype == jnp.float32


def test_not_in_lockstep_but_a_function_of_seed_and_key(joined):
    indices = joined.indices(0, 0, 20)
    assert not np.array_equal(indices["a"], indices["b"])
    again = Zip({"c": load("random"), "a": load("random")}).indices(0, 0, 20)
    np.testing.assert_array_equal(again["a"], indices["a"])
    assert not np.array_equal(joined.indices(1, 0, 20)["a"], indices["a"])


def test_resident_only_if_all_are(joined, tmp_path, monkeypatch):
    whole = joined.resident()
    assert whole["a"]["image"].shape == (256, 2, 2, 1)
    monkeypatch.setattr("ganjax.data.dataset.MEMORY_BUDGET", 256 * 4)
    assert Zip({"a": load("random", image_size=2), "b": load("random", image_size=3)}).resident() is None


def test_nests_in_itself(joined):
    outer = Zip({"x": joined, "y": joined})
    indices = outer.indices(0, 0, 4)
    assert not np.array_equal(indices["x"]["a"], indices["y"]["a"])
    assert outer.read(indices)["y"]["b"]["image"].shape == (4, 2, 2, 1)


def test_sources_transform_with_their_own_keys(joined):
    class Keys(Dataset):
        def transform(self, batch, context):
            del batch
            return jax.random.key_data(context.key)

    keys = Keys("keys", "train", (1, 1, 1), 0, (), 1)
    seen = Zip({"a": keys, "b": keys}).transform({"a": 0, "b": 0}, Context(jax.random.key(0), jnp.arange(1)))
    assert not np.array_equal(seen["a"], seen["b"])


def test_of_nothing():
    with pytest.raises(UsageError, match="no sources"):
        Zip({})
