"""What the tests of convolutions share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NUMBERS = ("NHWC", "HWIO", "NHWC")
FAST = {"xla_backend_optimization_level": 0}  # to compile; what is compiled is tiny


def fast(function):
    return jax.jit(function, compiler_options=FAST)


def images(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def assert_close(ours, expected, tolerance: float = 1e-5) -> None:
    """Two trees of arrays: no entry is off by more than this share of its array's largest."""
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert our.shape == their.shape
        assert our.dtype == their.dtype
        largest = float(np.abs(their).max())
        assert largest > 0, "nothing is compared"
        np.testing.assert_allclose(our, their, rtol=0, atol=tolerance * largest)


def padded(x: jax.Array, pads) -> jax.Array:
    """Zeros around height and width; negative: cut. Pixel by pixel, as jaxlib 0.10.2's CPU convolution gets
    negative padding wrong."""
    for axis, (low, high) in enumerate(pads, start=1):
        places = np.arange(x.shape[axis] + low + high) - low
        inside = (places >= 0) & (places < x.shape[axis])
        x = jnp.take(x, np.clip(places, 0, x.shape[axis] - 1), axis)
        x = x * inside.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return x


def lax_conv(x, kernel, strides=(1, 1), padding: Any = "VALID", dilation=(1, 1), groups=1) -> jax.Array:
    if not isinstance(padding, str):
        x, padding = padded(x, padding), "VALID"
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=NUMBERS,
        feature_group_count=groups,
    )


def pulled(function, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The value and both gradients, from the same cotangent for any function of that shape."""
    value, back = jax.vjp(function, x, kernel)
    cotangent = jnp.sin(1 + jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape)
    return value, *back(cotangent)
