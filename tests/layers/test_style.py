"""AdaIN and noise, against their definitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import random
from ganjax.layers import AdaIN, Noise

KEY = jax.random.key(0)


def test_adain():
    draw = np.random.default_rng(0)
    x = draw.normal(3.0, 2.0, (2, 3, 5, 4)).astype(np.float32)
    style = draw.normal(size=(2, 6)).astype(np.float32)
    params = {"style": {"kernel": draw.normal(size=(6, 8)), "bias": draw.normal(size=8)}}
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
    found: Any = AdaIN().apply({"params": params}, x, style)
    affine = style @ params["style"]["kernel"] / np.sqrt(6) + params["style"]["bias"]
    normal = (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)
    scale, shift = affine[:, None, None, :4] + 1, affine[:, None, None, 4:]
    np.testing.assert_allclose(found, normal * scale + shift, rtol=1e-4, atol=1e-5)
    form = jax.eval_shape(lambda: AdaIN().init(KEY, x, style))["params"]
    assert jax.tree.map(lambda leaf: leaf.shape, form) == {"style": {"kernel": (6, 8), "bias": (8,)}}


def test_noise_is_of_each_pixel_and_of_each_example_s_key():
    x, keys = jnp.zeros((3, 2, 4, 5)), random.from_seeds(np.array([7, 8, 7]))
    variables = Noise().init(KEY, x, keys)
    np.testing.assert_array_equal(Noise().apply(variables, x, keys), 0)  # the strength begins at 0
    strength = np.arange(5, dtype=np.float32)
    found = np.asarray(Noise().apply({"params": {"strength": strength}}, x, keys))
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])
    np.testing.assert_allclose(found, found[..., 1:2] * strength, rtol=1e-6)
    assert len(np.unique(found[0, ..., 1])) == 8
    np.testing.assert_array_equal(Noise().apply({"params": {"strength": strength}}, x, None), x)
