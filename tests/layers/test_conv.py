from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ganjax.layers import ConvTranspose, conv_transpose

NUMBERS = ("NHWC", "HWIO", "NHWC")
FAST = {"xla_backend_optimization_level": 0}  # to compile; what is compiled is tiny

# (kernel, stride) of the two axes: between them every kernel 1 to 7 under every stride 1 to 3, most cases
# unequal over the axes.
_ALL = [(kernel, stride) for kernel in range(1, 8) for stride in (1, 2, 3)]
CASES = [(*_ALL[i], *_ALL[(i + 11) % 21]) for i in range(0, 21, 2)]
# As pairs for each axis: none, symmetric, asymmetric, cut off at one end.
PAIRS = [((0, 0), (1, 1)), ((2, 0), (1, 3)), ((3, 4), (2, 1)), ((0, 2), (3, -1))]


def fast(function):
    return jax.jit(function, compiler_options=FAST)


def images(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def by_definition(x: np.ndarray, kernel: np.ndarray, strides, padding) -> np.ndarray:
    """Zeros between the pixels, padding (or cutting), and a sum of shifted products, in float64."""
    n, h, w, _ = x.shape
    dilated = np.zeros((n, (h - 1) * strides[0] + 1, (w - 1) * strides[1] + 1, x.shape[3]))
    dilated[:, :: strides[0], :: strides[1]] = x
    for axis, (low, high) in enumerate(padding, start=1):
        widths = [(0, 0)] * 4
        widths[axis] = (max(low, 0), max(high, 0))
        dilated = np.pad(dilated, widths)
        keep = slice(max(-low, 0), dilated.shape[axis] - max(-high, 0))
        dilated = dilated[:, keep] if axis == 1 else dilated[:, :, keep]
    kh, kw = kernel.shape[:2]
    rows, columns = dilated.shape[1] - kh + 1, dilated.shape[2] - kw + 1
    output = np.zeros((n, rows, columns, kernel.shape[3]))
    for i in range(kh):
        for j in range(kw):
            output += dilated[:, i : i + rows, j : j + columns] @ kernel[i, j].astype(np.float64)
    return output


def theirs(x, kernel, strides, padding):
    return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=NUMBERS)


@pytest.mark.parametrize(("kh", "sh", "kw", "sw"), CASES)
def test_value_and_gradients_are_those_of_lax(kh, sh, kw, sw):
    x, kernel = images(2, 5, 4, 2), images(kh, kw, 2, 3, seed=1)

    def pull(function):
        value, back = jax.vjp(lambda x, k: function(x, k, (sh, sw), "SAME"), x, kernel)
        return value, *back(jnp.sin(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))

    ours, expected = fast(lambda x, k: (pull(conv_transpose), pull(theirs)))(x, kernel)
    assert ours[0].shape == (2, 5 * sh, 4 * sw, 3)
    for our, their in zip(ours, expected, strict=True):
        assert our.shape == their.shape
        np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-5)
    assert float(jnp.abs(ours[2]).max()) > 0


@pytest.mark.parametrize(("kh", "sh", "kw", "sw"), CASES)
def test_valid_padding_is_that_of_lax(kh, sh, kw, sw):
    def both(x, kernel):
        return [f(x, kernel, (sh, sw), "VALID") for f in (conv_transpose, theirs)]

    ours, expected = fast(both)(images(1, 3, 5, 2), images(kh, kw, 2, 1, seed=1))
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel_size", "strides", "padding"),
    [((3, 4), (2, 3), PAIRS[1]), ((4, 7), (2, 2), PAIRS[2])]
    + [((5, 2), (1, 3), padding) for padding in PAIRS],
)
def test_explicit_padding_is_as_defined(kernel_size, strides, padding):
    x, kernel = images(1, 5, 6, 2), images(*kernel_size, 2, 3, seed=1)
    ours = fast(lambda x, k: conv_transpose(x, k, strides, padding))(x, kernel)
    expected = by_definition(np.asarray(x), np.asarray(kernel), strides, padding)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    # lax agrees where nothing is cut off; the weight gradient too.
    if min(map(min, padding)) >= 0:

        def gradient(function):
            return jax.grad(lambda x, k: jnp.sum(jnp.sin(function(x, k, strides, padding))), (0, 1))

        gradients = fast(lambda x, k: [gradient(f)(x, k) for f in (conv_transpose, theirs)])(x, kernel)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *gradients)


@pytest.mark.parametrize("padding", [((-9, 12), (0, 0)), ((14, -10), (-8, 9)), ((-3, -2), (-1, -1))])
def test_padding_that_cuts_deep(padding):
    """Also where the whole image is cut off at one end, and zeros are padded at the other."""
    x, kernel = images(1, 5, 5, 1), images(3, 3, 1, 2, seed=1)
    expected = by_definition(np.asarray(x), np.asarray(kernel), (2, 2), padding)
    np.testing.assert_allclose(conv_transpose(x, kernel, (2, 2), padding), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2)])
def test_small_and_odd_sizes(size):
    x, kernel = images(1, *size, 2), images(4, 4, 2, 1, seed=1)
    # SAME pads the dilated input by 2 at both ends here.
    expected = by_definition(np.asarray(x), np.asarray(kernel), (2, 2), ((2, 2), (2, 2)))
    ours = fast(lambda x, k: conv_transpose(x, k, (2, 2)))(x, kernel)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_one_pixel_by_hand():
    """A pixel of value v paints v times the kernel: lax does not flip it, so read back to front."""
    x = jnp.full((1, 1, 1, 1), 3.0)
    kernel = jnp.arange(1.0, 7.0).reshape(2, 3, 1, 1)
    painted = np.asarray(conv_transpose(x, kernel, (2, 2), "VALID"))[0, :, :, 0]
    np.testing.assert_array_equal(painted, [[18, 15, 12], [9, 6, 3]])
    np.testing.assert_array_equal(painted, theirs(x, kernel, (2, 2), "VALID")[0, :, :, 0])


@pytest.mark.parametrize(
    "arguments",
    [{}, {"strides": (2, 1), "padding": "VALID", "use_bias": False}, {"padding": ((1, 2), (0, 3))}],
)
def test_module_has_flax_parameters_and_output(arguments):
    x = images(2, 3, 4, 2)
    reference = nn.ConvTranspose(5, (4, 3), **({"strides": (1, 1)} | arguments))
    ours = ConvTranspose(5, (4, 3), **arguments)
    variables: Any = reference.init(jax.random.key(0), x)
    initialised: Any = ours.init(jax.random.key(0), x)
    # The same names and shapes, and with the same initialiser the same numbers.
    jax.tree.map(np.testing.assert_array_equal, initialised, variables)
    if "bias" in variables["params"]:
        variables["params"]["bias"] = jnp.arange(5.0)
    left, right = fast(lambda v, x: (ours.apply(v, x), reference.apply(v, x)))(variables, x)
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_module_computes_in_its_dtype_and_keeps_float32_parameters():
    layer = ConvTranspose(3, (4, 4), (2, 2), dtype=jnp.dtype("bfloat16"))
    x = images(1, 3, 3, 2)
    output, variables = fast(layer.init_with_output)(jax.random.key(0), x)
    assert output.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    exact = fast(ConvTranspose(3, (4, 4), (2, 2)).apply)(variables, x)
    np.testing.assert_allclose(output.astype(jnp.float32), exact, atol=0.05)


def test_forward_mode_second_derivatives_and_vmap():
    kernel = images(4, 3, 2, 2, seed=1)
    x, v = images(1, 3, 3, 2), images(1, 3, 3, 2, seed=2)

    def derivatives(function, x):
        def f(x):
            return jnp.sum(jnp.tanh(function(x, kernel, (2, 3), "SAME")))

        slope = jax.jvp(f, (x,), (v,))[1]
        # As gradient penalties have it: the gradient of a norm of the gradient.
        curvature = jax.grad(lambda x: jnp.sum(jnp.square(jax.grad(f)(x))))(x)
        return slope, curvature

    left, right = fast(lambda x: [derivatives(f, x) for f in (conv_transpose, theirs)])(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), left, right)
    assert float(jnp.abs(left[1]).max()) > 0.01
    # vmap over images, and over kernels: an ensemble.
    many, kernels = images(3, 1, 2, 2, 2, seed=3), images(3, 3, 3, 2, 2, seed=4)
    mapped = fast(jax.vmap(lambda x, k: conv_transpose(x, k, (2, 2))))(many, kernels)
    single = fast(lambda x, k: [conv_transpose(x[i], k[i], (2, 2)) for i in range(3)])(many, kernels)
    np.testing.assert_allclose(mapped, jnp.stack(single), rtol=1e-5, atol=1e-6)


def test_errors_name_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(1, 4, 4, 3\) and \(3, 3, 2, 5\)"):
        conv_transpose(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 2, 5)), (2, 2))
    with pytest.raises(ValueError, match=r"\[N, H, W, C\].*\(4, 4, 3\)"):
        conv_transpose(jnp.zeros((4, 4, 3)), jnp.zeros((3, 3, 3, 5)), (2, 2))
    with pytest.raises(ValueError, match=r"padding='CIRCULAR': expected 'SAME', 'VALID'"):
        conv_transpose(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 5)), (2, 2), "CIRCULAR")
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 3\) by \(3, 3, 3, 5\).*empty"):
        conv_transpose(jnp.zeros((1, 1, 1, 3)), jnp.zeros((3, 3, 3, 5)), (1, 1), ((0, 0), (0, 0)))
