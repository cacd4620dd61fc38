import jax
import jax.numpy as jnp
import pytest
from jax import export

from ganjax.layers import lowering
from ganjax.layers.conv import _lax_forward, _lax_input_gradient, _lax_kernel_gradient, conv
from ganjax.layers.lowering import Geometry, forward, input_gradient, kernel_gradient
from tests.layers.arrays import assert_close, fast, images, lax_conv

FUNCTIONS = {"forward": forward, "input_gradient": input_gradient, "kernel_gradient": kernel_gradient}
ON_GPU = {
    "forward": _lax_forward,
    "input_gradient": _lax_input_gradient,
    "kernel_gradient": _lax_kernel_gradient,
}
# What each works by, of these functions of `lowering`.
BRANCHES = (
    "_patches",
    "_product",
    "_sum_of_products",
    "_phases",
    "_as_it_is",
    "winograd_conv",
    "winograd_input_gradient",
    "winograd_kernel_gradient",
)


@pytest.fixture
def taken(monkeypatch):
    """The names of the branches that have been taken."""
    names = set()

    def noted(name, function):
        def call(*args, **kwargs):
            names.add(name)
            return function(*args, **kwargs)

        return call

    jax.clear_caches()  # a form is traced once for a geometry
    for name in BRANCHES:
        monkeypatch.setattr(lowering, name, noted(name, getattr(lowering, name)))
    return names


SAME = ((1, 1), (1, 1))
# name: (shape of x, of the kernel, strides, pads, what forward, input_ and kernel_gradient go through)
CASES = {
    "1x1": (
        (2, 4, 3, 5),
        (1, 1, 5, 3),
        (1, 1),
        ((0, 0), (0, 0)),
        [{"_product"}, {"_product"}, {"_sum_of_products"}],
    ),
    "1x1, padded and cut, stride 2": (
        (2, 5, 4, 3),
        (1, 1, 3, 2),
        (2, 2),
        ((1, 0), (-1, 2)),
        [{"_patches", "_product"}, {"_phases", "_product"}, {"_patches", "_sum_of_products"}],
    ),
    "patches": (
        (2, 6, 5, 2),
        (3, 3, 2, 4),
        (1, 1),
        SAME,
        [{"_patches", "_product"}, {"_patches", "_product"}, {"_patches", "_sum_of_products"}],
    ),
    "patches, cut": (
        (2, 6, 5, 2),
        (3, 2, 2, 4),
        (1, 1),
        ((-1, 3), (2, -2)),
        [{"_patches", "_product"}, {"_patches", "_product"}, {"_patches", "_sum_of_products"}],
    ),
    "strides as channels": (
        (2, 7, 6, 3),
        (4, 4, 3, 5),
        (2, 2),
        SAME,
        [{"_patches", "_product"}, {"_patches", "_product"}, {"_patches", "_sum_of_products"}],
    ),
    "strides as channels, cut": (
        (1, 7, 8, 3),
        (4, 3, 3, 2),
        (2, 3),
        ((-1, 2), (3, -1)),
        [{"_patches", "_product"}, {"_patches", "_product"}, {"_patches", "_sum_of_products"}],
    ),
    "patches, then phases": (
        (2, 7, 6, 2),
        (3, 5, 2, 4),
        (2, 3),
        ((1, 0), (2, 1)),
        [{"_patches", "_product"}, {"_phases", "_patches", "_product"}, {"_patches", "_sum_of_products"}],
    ),
    "phases with gaps": (
        (1, 8, 7, 2),
        (2, 1, 2, 3),
        (3, 2),
        ((0, 1), (0, 0)),
        [{"_patches", "_product"}, {"_phases", "_product"}, {"_patches", "_sum_of_products"}],
    ),
    "phases of a small image": (
        (1, 6, 6, 44),
        (4, 4, 44, 2),
        (2, 2),
        SAME,
        [{"_product"}, {"_phases", "_patches", "_product"}, {"_patches", "_sum_of_products"}],
    ),
    "few features": (
        (1, 5, 6, 41),
        (3, 3, 41, 2),
        (1, 1),
        SAME,
        [{"_product"}, {"_patches", "_product"}, {"_patches", "_sum_of_products"}],
    ),
    "few channels": (
        (1, 5, 6, 2),
        (3, 3, 2, 41),
        (1, 1),
        SAME,
        [{"_patches", "_product"}, {"_product"}, {"_patches", "_sum_of_products"}],
    ),
    "as it is": (
        (1, 6, 5, 20),
        (3, 3, 20, 18),
        (1, 1),
        SAME,
        [{"_as_it_is"}, {"_as_it_is"}, {"_as_it_is"}],
    ),
    "as it is, strided": (
        (1, 7, 7, 20),
        (3, 3, 20, 18),
        (2, 2),
        ((1, -1), (0, 1)),
        [{"_as_it_is"}, {"_phases", "_product", "_patches"}, {"_as_it_is"}],
    ),
    "Winograd, 3 taps": (
        (8, 15, 14, 48),
        (3, 3, 48, 64),
        (1, 1),
        ((1, 1), (2, 1)),
        [{"winograd_conv"}, {"winograd_conv"}, {"winograd_kernel_gradient"}],
    ),
    "Winograd, 4 taps at stride 2": (
        (32, 16, 16, 64),
        (4, 4, 64, 128),
        (2, 2),
        ((1, 1), (1, 1)),
        [{"winograd_conv"}, {"winograd_input_gradient"}, {"winograd_kernel_gradient"}],
    ),
    "Winograd for the input's gradient alone, by taps of zeros": (
        (8, 24, 23, 24),
        (3, 3, 24, 128),
        (2, 2),
        ((1, 0), (1, 1)),
        [{"_as_it_is"}, {"winograd_input_gradient"}, {"_as_it_is"}],
    ),
    "Winograd for the gradients alone": (
        (16, 19, 18, 32),
        (4, 4, 32, 128),
        (2, 2),
        ((1, 1), (1, 1)),
        [{"_as_it_is"}, {"winograd_input_gradient"}, {"winograd_kernel_gradient"}],
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if "4 taps" in name else []) for name in CASES],
)
def test_each_branch_is_the_convolution_on_every_platform(name, taken):
    shape, kernel_shape, strides, pads, branches = CASES[name]
    geometry = Geometry(shape[1:3], kernel_shape[:2], strides, pads)
    x, kernel = images(*shape), images(*kernel_shape, seed=1)
    g = images(shape[0], *geometry.output, kernel_shape[3], seed=2)
    operands = {"forward": (x, kernel), "input_gradient": (g, kernel), "kernel_gradient": (x, g)}

    def expected(x, kernel, g):
        value, back = jax.vjp(lambda x, k: lax_conv(x, k, strides, pads), x, kernel)
        return dict(zip(FUNCTIONS, (value, *back(g)), strict=True))

    through = []

    def on_cpu(operands):
        results = {}
        for of, function in FUNCTIONS.items():
            taken.clear()
            results[of] = function(*operands[of], geometry)
            through.append(set(taken))
        return results

    def elsewhere(operands):
        return {of: function(*operands[of], geometry, None) for of, function in ON_GPU.items()}

    def all_three(operands):
        return on_cpu(operands), elsewhere(operands), expected(x, kernel, g)

    ours, on_gpu, right = fast(all_three)(operands)
    assert_close(ours, right)
    assert_close(on_gpu, right)
    assert through == branches


def test_conv_takes_the_cpus_form_for_float32_only(taken):
    for dtype, branches in ((jnp.float32, {"_patches", "_product"}), (jnp.bfloat16, set())):
        taken.clear()
        operands = images(1, 5, 6, 2).astype(dtype), images(3, 3, 2, 3, seed=1).astype(dtype)
        text = jax.jit(lambda x, k: conv(x, k)).lower(*operands).as_text()
        assert taken == branches
        assert ("stablehlo.convolution" in text) == (dtype == jnp.bfloat16)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="looks at what XLA:CPU compiles")
def test_what_comes_in_as_a_gradient_is_computed_once():
    x, kernel = images(2, 6, 5, 3), images(3, 3, 3, 4, seed=1)

    def loss(x, kernel):
        return jnp.sum(jnp.cos(conv(x, kernel)))

    program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, kernel).compile()
    assert (program.as_text() or "").count(" sine(") == 1


def test_an_unknown_batch_counts_as_a_large_one():
    (batch,) = export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((batch, 16, 16, 64), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
    text = export.export(jax.jit(conv), platforms=["cpu"])(x, kernel).mlir_module()
    assert (text.count("stablehlo.dot_general"), text.count("stablehlo.convolution")) == (24, 0)


@pytest.mark.parametrize(
    "pads",
    [((0, 0), (0, 0)), ((1, 2), (-1, 3)), ((-4, 6), (7, -5)), ((-3, -2), (-9, 12)), ((9, -10), (0, 1))],
)
def test_pad_cuts_where_negative(pads):
    x = images(1, 6, 5, 2)
    zero = jnp.zeros((), x.dtype)
    expected = jax.lax.pad(x, zero, [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])
    assert lowering.pad(x, pads).shape == expected.shape
    assert (lowering.pad(x, pads) == expected).all()
