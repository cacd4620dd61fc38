from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.layers import Embed

KEY = jax.random.key(0)


def test_it_is_flaxs_layer_for_labels():
    labels = jnp.array([2, 0, 2])
    variables = Embed(3, 4).init(KEY, labels)
    jax.tree.map(np.testing.assert_array_equal, variables, nn.Embed(3, 4).init(KEY, labels))
    np.testing.assert_array_equal(
        Embed(3, 4).apply(variables, labels), nn.Embed(3, 4).apply(variables, labels)
    )


def test_a_mixture_has_the_mixture_of_the_vectors():
    variables = Embed(3, 4).init(KEY, jnp.array([0]))
    table = np.asarray(variables["params"]["embedding"])
    shares = jnp.array([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75]])
    expected = [table[1], 0.25 * table[0] + 0.75 * table[2]]
    found: Any = Embed(3, 4).apply(variables, shares)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_table_can_be_spectrally_normalised():
    layer, labels = Embed(3, 4, spectral=True), jnp.arange(3)
    variables = layer.init(KEY, labels)
    table = np.asarray(variables["params"]["embedding"])
    for _ in range(100):
        rows, after = layer.apply(variables, labels, train=True, mutable=["spectral"])
        variables = {**variables, **after}
    np.testing.assert_array_equal(variables["params"]["embedding"], table)
    np.testing.assert_allclose(rows, table / np.linalg.svd(table, compute_uv=False)[0], rtol=0.01)


@pytest.mark.parametrize("labels", [jnp.zeros((2, 3), jnp.int32), jnp.zeros((2, 4)), jnp.zeros(2)])
def test_other_labels_are_refused(labels):
    with pytest.raises(ValueError, match=r"expected integers \[n\], or shares of the classes \[n, 3\]"):
        Embed(3, 4).init(KEY, labels)
