"""The products that are timed are those of the layers, in every form."""

import numpy as np
import pytest

from benchmarks.layers import LAYERS, Layer
from benchmarks.products import PASSES, forms, is_a_product


def test_which_layers_are_products():
    chosen = [layer for layer in LAYERS if is_a_product(layer)]
    assert any(layer.kernel == 1 for layer in chosen)
    assert all(layer.kernel == 1 or layer.channels[0] <= 3 for layer in chosen)


@pytest.mark.parametrize(
    "layer", [Layer(("a",), "conv", 8, (4, 5), 1), Layer(("a",), "conv", 8, (2, 6), 3, 2)]
)
def test_every_form_is_the_same_product(layer):
    for name, functions in zip(PASSES, forms(layer, 4).values(), strict=True):
        first, *others = [np.asarray(function()) for function in functions]
        assert first.size, name
        for other in others:
            other = other.T if other.shape != first.shape else other
            np.testing.assert_allclose(other, first, rtol=1e-4, atol=1e-3)
