import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import data, random
from ganjax.layers import WeightNormConv, WeightNormDense
from ganjax.nets.semi_supervised import NoisyConvNet, NoisyMLP, WeightNormConvNet
from tests.nets.networks import KEY, size

KEYS = random.from_seeds(jnp.arange(2))


@pytest.mark.parametrize(
    "network", [NoisyConvNet(3, 1, 2), NoisyMLP(3, 1, (5, 4)), WeightNormConvNet(3, 1, 2)]
)
def test_outputs_and_features(network):
    images = jnp.zeros((2, 28, 28, 1))

    def forms():
        variables = network.init(KEY, images, train=True)
        return network.apply(variables, images, train=True, keys=KEYS, mutable=["intermediates"])

    outputs, sown = jax.eval_shape(forms)
    assert [(x.shape, x.dtype) for x in outputs] == [((2, 3), jnp.float32), ((2, 1), jnp.float32)]
    (features,) = sown["intermediates"]["features"]
    assert features.shape[0] == 2


def test_sizes():
    """The paper's dense network of MNIST, and what the convolutions take in its place."""

    def count(network):
        form = jax.eval_shape(lambda: network.init(KEY, jnp.zeros((1, 28, 28, 1)), train=True))
        return size(form["params"])

    widths = (784, 1000, 500, 250, 250, 250, 10)
    dense = sum(a * b + b for a, b in itertools.pairwise(widths))
    assert count(NoisyMLP(10)) == dense + 10  # the last layer's lengths are learned
    layers = ((25, 1, 32), (9, 32, 64), (9, 64, 64), (9, 64, 128), (1, 128, 128), (1, 128, 10))
    assert count(NoisyConvNet(10)) == sum(n * a * b + b for n, a, b in layers) + 10


@pytest.mark.slow
@pytest.mark.parametrize("network", [NoisyConvNet(10, width=16), NoisyMLP(10, hidden=(200, 100, 100))])
def test_digits_begin_with_a_variance_of_about_one_in_every_layer(network):
    images = data.to_float(jnp.asarray(data.load("mnist").read(np.arange(100))["image"]))
    keys = random.from_seeds(jnp.arange(100))
    variables = network.init(KEY, images[:1], train=True)
    _, seen = network.apply(
        variables,
        images,
        train=True,
        keys=keys,
        capture_intermediates=lambda module, _: isinstance(module, WeightNormConv | WeightNormDense),
        mutable=["intermediates"],
    )
    found = {name: x["__call__"][0] for name, x in seen["intermediates"].items() if isinstance(x, dict)}
    assert len(found) == 6 if isinstance(network, NoisyConvNet) else 4
    deviations = {
        name: float(jnp.mean(jnp.std(x, axis=tuple(range(x.ndim - 1))))) for name, x in found.items()
    }
    last = sorted(found)[-1] if isinstance(network, NoisyMLP) else "WeightNormDense_0"
    del deviations[last]
    assert all(0.7 < x < 1.4 for x in deviations.values()), deviations


def test_noise_is_drawn_by_keys_alone():
    network = NoisyMLP(2, hidden=(4,))
    images = jnp.linspace(-1, 1, 2 * 9).reshape(2, 3, 3, 1)
    variables = network.init(KEY, images, train=True)

    def logits(keys):
        return np.asarray(network.apply(variables, images, train=True, keys=keys)[0])

    drawn = logits(KEYS)
    np.testing.assert_array_equal(drawn, logits(KEYS))
    assert (drawn != logits(None)).any()


def test_features_are_means_over_pixels_or_the_pixels():
    images = np.linspace(-1, 1, 2 * 28 * 28, dtype=np.float32).reshape(2, 28, 28, 1)
    found = {}
    for pool in (True, False):
        network = NoisyConvNet(2, 1, width=2, pool=pool)
        variables = network.init(KEY, images[:1], train=True)
        _, sown = network.apply(variables, images, train=True, mutable=["intermediates"])
        (found[pool],) = sown["intermediates"]["features"]
    assert found[True].shape == (2, 8)
    pixels = found[False].reshape(2, 5 * 5, 8)
    assert np.std(pixels, axis=1).max() > 1e-3
    np.testing.assert_allclose(pixels.mean(1), found[True], rtol=1e-4, atol=1e-6)


def test_images_that_are_too_small():
    with pytest.raises(ValueError, match="image_size 8x12: this network needs sides of at least 9"):
        jax.eval_shape(lambda: NoisyConvNet(2).init(KEY, jnp.zeros((1, 8, 12, 1)), train=True))
