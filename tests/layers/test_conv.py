from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from ganjax.layers import Conv, ConvTranspose, conv, conv_pool, conv_transpose, upsample_conv
from tests.layers.arrays import NUMBERS, assert_close, fast, images, lax_conv, pulled

# (kernel, stride) of the two axes: between them every kernel 1 to 7 under every stride 1 to 3, most cases
# unequal over the axes.
_ALL = [(kernel, stride) for kernel in range(1, 8) for stride in (1, 2, 3)]
CASES = [(*_ALL[i], *_ALL[(i + 11) % 21]) for i in range(0, 21, 2)]
# As pairs for each axis: none, symmetric, asymmetric, cut off at one end.
PAIRS = [((0, 0), (1, 1)), ((2, 0), (1, 3)), ((3, 4), (2, 1)), ((0, 2), (3, -1))]


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


# (kernel, stride) as above, and what is added at the ends; sizes are odd and not square.
PADDINGS = [
    "SAME",
    "VALID",
    2,
    (1, 0),
    ((1, 2), (0, 3)),
    ((-1, 1), (2, -2)),
    ((-2, -1), (-1, 0)),
    ((-6, 8), (9, -5)),
]
FORWARD_CASES = [
    (*_ALL[i], *_ALL[(i + 11) % 21], PADDINGS[i % len(PADDINGS)], (9 + i % 3, 8 + i % 4)) for i in range(21)
]


def as_pairs(padding):
    if isinstance(padding, str):
        return padding
    ends = (padding, padding) if isinstance(padding, int) else padding
    return [(end, end) if isinstance(end, int) else end for end in ends]


@pytest.mark.parametrize("cases", [FORWARD_CASES[i::4] for i in range(4)])
def test_conv_and_its_gradients_are_those_of_lax(cases):
    def both(arrays):
        results = []
        for (x, kernel), (_, down, _, across, padding, _) in zip(arrays, cases, strict=True):
            strides = (down, across)

            def ours(x, k, strides=strides, padding=padding):
                return conv(x, k, strides, padding)

            def theirs(x, k, strides=strides, padding=padding):
                return lax_conv(x, k, strides, as_pairs(padding))

            results.append((pulled(ours, x, kernel), pulled(theirs, x, kernel)))
        return results

    arrays = [
        (images(2, *size, 2, seed=i), images(kh, kw, 2, 3, seed=i + 50))
        for i, (kh, _, kw, _, _, size) in enumerate(cases)
    ]
    for case, (ours, expected) in zip(cases, fast(both)(arrays), strict=True):
        try:
            assert_close(ours, expected)
        except AssertionError as error:
            raise AssertionError(f"kernel, stride by axis, padding, size: {case}") from error


def test_dilation_and_groups_are_those_of_lax():
    cases = [
        # (kernel, strides, padding, dilation, groups)
        ((3, 3), (1, 1), "SAME", (2, 2), 1),
        ((3, 2), (2, 1), ((2, -1), (0, 1)), (1, 3), 1),
        ((4, 4), (2, 2), "SAME", (1, 1), 2),
        ((1, 3), (1, 2), ((1, 0), (-1, 2)), (1, 1), 4),
        ((2, 2), (1, 1), "VALID", (3, 2), 2),
    ]

    def both(x, kernels):
        return [
            [
                pulled(lambda x, k, a=arguments: conv(x, k, *a[:2], dilation=a[2], groups=a[3]), x, kernel),
                pulled(lambda x, k, a=arguments: lax_conv(x, k, *a), x, kernel),
            ]
            for kernel, (_, *arguments) in zip(kernels, cases, strict=True)
        ]

    kernels = [images(*size, 4 // groups, 4, seed=1) for size, _, _, _, groups in cases]
    for ours, expected in fast(both)(images(2, 7, 8, 4), kernels):
        assert_close(ours, expected)


@pytest.mark.parametrize(
    ("batch", "arguments"),
    [
        ((2,), {}),
        ((2,), {"strides": 2, "padding": "REFLECT"}),
        ((2, 3), {"strides": (1, 2), "padding": "CIRCULAR", "kernel_size": (4, 5)}),
        ((), {"padding": "REFLECT", "kernel_dilation": (1, 2), "use_bias": False}),
        ((2, 3), {"padding": ((1, 2), (0, 3)), "feature_group_count": 2}),
        ((2,), {"padding": 1, "kernel_dilation": 2, "param_dtype": jnp.bfloat16}),
        ((2,), {"padding": "VALID", "dtype": jnp.bfloat16}),
    ],
)
def test_conv_module_has_flax_parameters_and_output(batch, arguments):
    x = images(*batch, 7, 6, 4)
    arguments = {"kernel_size": (4, 3)} | arguments
    reference, ours = nn.Conv(6, **arguments), Conv(6, **arguments)
    variables: Any = reference.init(jax.random.key(0), x)
    initialised: Any = ours.init(jax.random.key(0), x)
    # The same names, shapes and types, and with the same initialiser the same numbers.
    assert jax.tree.map(lambda p: p.dtype, initialised) == jax.tree.map(lambda p: p.dtype, variables)
    jax.tree.map(np.testing.assert_array_equal, initialised, variables)
    if "bias" in variables["params"]:
        bias = variables["params"]["bias"]
        variables["params"]["bias"] = jnp.arange(6, dtype=bias.dtype)
    left, right = fast(lambda v, x: (ours.apply(v, x), reference.apply(v, x)))(variables, x)
    assert_close(left, right, 1e-2 if left.dtype == jnp.bfloat16 else 1e-5)
    if "dtype" in arguments:
        assert left.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(initialised)} == {np.dtype("float32")}


def test_forward_mode_and_second_derivatives_of_conv():
    x, dx = images(1, 5, 6, 2), images(1, 5, 6, 2, seed=2)

    def derivatives(function, kernel, dkernel):
        def f(x, kernel):
            return jnp.sum(jnp.tanh(function(x, kernel)))

        def squared_norms(x, kernel):
            # Of the image's gradient, as gradient penalties have it, and of the kernel's.
            return [jnp.sum(jnp.square(g)) for g in jax.grad(f, (0, 1))(x, kernel)]

        both, of_image, of_kernel = [
            jax.jvp(function, (x, kernel), tangents)[1]
            for tangents in (
                (dx, dkernel),
                (dx, jnp.zeros_like(kernel)),
                (jnp.zeros_like(x), dkernel),
            )
        ]
        forward_over_reverse = jax.jvp(jax.grad(f, (0, 1)), (x, kernel), (dx, dkernel))[1]
        return both, of_image, of_kernel, forward_over_reverse, jax.jacrev(squared_norms, (0, 1))(x, kernel)

    # A stride that divides the kernel, one that does not, and a cut.
    cases = [
        ((4, 4), (2, 2), ((1, 1), (1, 1))),
        ((3, 2), (2, 1), ((0, 2), (1, 0))),
        ((3, 3), (1, 1), ((-1, 1), (1, 1))),
    ]
    kernels = [(images(*size, 2, 2, seed=1), images(*size, 2, 2, seed=3)) for size, _, _ in cases]

    def all_derivatives(kernels):
        return [
            [
                derivatives(lambda x, k, s=strides, p=padding, f=f: f(x, k, s, p), *pair)
                for f in (conv, lax_conv)
            ]
            for pair, (_, strides, padding) in zip(kernels, cases, strict=True)
        ]

    for ours, expected in fast(all_derivatives)(kernels):
        assert_close(ours, expected, 1e-4)


def test_vmap_of_conv_over_images_and_kernels():
    many, kernels = images(3, 2, 5, 4, 2), images(3, 4, 3, 2, 3, seed=1)

    def one(x, kernel):
        return pulled(lambda x, k: conv(x, k, (2, 2)), x, kernel)

    def all_ways(many, kernels):
        return [
            (
                jax.vmap(one, axes)(x, k),
                jax.tree.map(
                    lambda *a: jnp.stack(a),
                    *[one(x if x is many[0] else x[i], k if k is kernels[0] else k[i]) for i in range(3)],
                ),
            )
            for axes, x, k in (
                ((0, 0), many[1], kernels[1]),
                ((0, None), many[1], kernels[0]),
                ((None, 0), many[0], kernels[1]),
            )
        ]

    for mapped, single in fast(all_ways)((many[0], many), (kernels[0], kernels)):
        assert_close(mapped, single)


def test_conv_on_several_devices():
    x, kernel = images(4, 6, 5, 2), images(4, 4, 2, 3, seed=1)

    def gradients(x, kernel):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(conv(x, k, 2))), (0, 1))(x, kernel)

    expected = fast(gradients)(x, kernel)

    def with_mean(x, kernel):
        of_image, of_kernel = gradients(x, kernel)
        return of_image, lax.psum(of_kernel, "data")

    devices = jax.devices()[:2]
    split = x.reshape(2, 2, *x.shape[1:])
    of_images, of_kernel = jax.pmap(with_mean, "data", in_axes=(0, None), devices=devices)(split, kernel)
    assert_close((np.asarray(of_images).reshape(x.shape), np.asarray(of_kernel)[0]), expected)


def test_gradients_through_shard_map():
    """The images split, the kernel whole: the kernel's gradient is the sum over the shards, once."""
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("data",))
    spec = jax.sharding.PartitionSpec

    def gradients(function, x, kernel):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(function(x, k))), (0, 1))(x, kernel)

    # Patches, a transposed convolution, and one that is computed as it is on CPUs too.
    functions = [
        lambda x, k: conv(x, k, 2),
        lambda x, k: conv_transpose(x, k, 2),
        lambda x, k: conv(x, k, 2, "VALID"),
    ]
    operands = [
        (images(4, 6, 5, 2), images(4, 4, 2, 3, seed=1)),
        (images(2, 3, 4, 2), images(3, 3, 2, 3, seed=1)),
        (images(2, 5, 5, 20), images(3, 3, 20, 2, seed=1)),
    ]

    def both(operands):
        results = []
        for function, (x, kernel) in zip(functions, operands, strict=True):
            sharded = jax.shard_map(
                function, mesh=mesh, in_specs=(spec("data"), spec()), out_specs=spec("data")
            )
            # Inside too, as a training step has it: each shard's own gradient, summed by hand.
            inside = jax.shard_map(
                lambda x, k, f=function: lax.psum(
                    gradients(f, x, lax.pcast(k, "data", to="varying"))[1], "data"
                ),
                mesh=mesh,
                in_specs=(spec("data"), spec()),
                out_specs=spec(),
            )
            expected = gradients(function, x, kernel)
            results.append(((gradients(sharded, x, kernel), inside(x, kernel)), (expected, expected[1])))
        return results

    for ours, expected in fast(both)(operands):
        assert_close(ours, expected)


def test_export_with_any_batch_holds_each_platforms_form():
    kernel = images(4, 4, 3, 5)
    (batch,) = export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((batch, 8, 8, 3), jnp.float32)

    def forward(x):
        return conv(x, kernel, 2)

    def gradients(x):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(conv(x, k, 2))), (0, 1))(x, kernel)

    for function in (forward, gradients):
        jitted = jax.jit(function)
        texts = {
            platform: export.export(jitted, platforms=[platform])(x).mlir_module()
            for platform in ("cpu", "cuda", "tpu")
        }
        assert "stablehlo.convolution" not in texts["cpu"]
        assert "stablehlo.dot_general" in texts["cpu"]
        for platform in ("cuda", "tpu"):
            assert "stablehlo.convolution" in texts[platform]
            assert "stablehlo.dot_general" not in texts[platform]
        exported = export.export(jitted, platforms=["cpu", "cuda", "tpu"])(x)
        for size in (1, 3):
            images_now = images(size, 8, 8, 3, seed=size)
            assert_close(exported.call(images_now), fast(function)(images_now))


def forms(function, *args):
    """Which forms of a convolution a function computes, and what else of a sum of products."""
    found, jaxprs = [], [jax.make_jaxpr(function)(*args).jaxpr]
    while jaxprs:
        for equation in jaxprs.pop().eqns:
            if equation.primitive.name in ("conv_general_dilated", "dot_general"):
                found.append(equation.primitive.name)
            elif equation.primitive.name == "convolution":
                found.append(equation.params["form"])
            else:
                inner = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: hasattr(p, "jaxpr"))
                jaxprs += [part.jaxpr for part in inner if hasattr(part, "jaxpr")]
    return sorted(set(found))


def test_what_is_constant_costs_no_derivative():
    x, kernel = images(1, 4, 4, 2), images(3, 3, 2, 2, seed=1)

    def loss(x, kernel):
        return jnp.sum(jnp.sin(conv(x, kernel)))

    assert forms(jax.grad(loss, 0), x, kernel) == ["forward", "input_gradient"]
    assert forms(jax.grad(loss, 1), x, kernel) == ["forward", "kernel_gradient"]
    assert forms(lambda x, k: jax.jvp(lambda x: loss(x, k), (x,), (x,)), x, kernel) == ["forward"]


@pytest.mark.parametrize("operation", [conv, conv_transpose, conv_pool, upsample_conv])
def test_derivatives_of_every_order_are_the_forms_as_they_are_written(operation):
    # Not what JAX makes of their slices: those adjoints are slow.
    x, kernel = images(2, 6, 6, 2), images(3, 3, 2, 2, seed=1)

    def loss(x, kernel):
        return jnp.sum(jnp.sin(operation(x, kernel)))

    def penalty(kernel):
        return jnp.sum(jax.grad(loss)(x, kernel) ** 2)

    def other(kernel):
        return jnp.sum(jax.vmap(jax.grad(lambda x, k: loss(x[None], k)), (0, None))(x, kernel) ** 2)

    every = ["forward", "input_gradient", "kernel_gradient"]
    assert forms(jax.grad(penalty), kernel) == every
    assert forms(jax.grad(other), kernel) == every
    assert forms(lambda k: jax.jvp(jax.grad(penalty), (k,), (k,)), kernel) == every
    assert_close(fast(jax.grad(other))(kernel), fast(jax.grad(penalty))(kernel))


def test_a_batch_of_kernels():
    x, kernels = images(2, 6, 6, 2), images(3, 3, 3, 2, 4, seed=1)

    def each(function):
        def gradients(k):
            return jax.grad(lambda x, k: jnp.sum(jnp.sin(function(x, k))), (0, 1))(x, k)

        return fast(jax.vmap(gradients))(kernels)

    assert_close(each(conv), each(lambda x, k: lax_conv(x, k, padding="SAME")))


SMEARED_KERNELS = [(1, 1), (3, 3), (5, 5), (1, 5), (5, 3)]


def test_conv_pool_and_upsample_conv_are_their_two_steps():
    def mean_after(x, kernel):
        y = lax_conv(x, kernel, padding="SAME")
        n, h, w, c = y.shape
        return y.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))

    def repeated_before(x, kernel):
        return lax_conv(jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), kernel, padding="SAME")

    def all_four(x, kernels):
        return [
            [pulled(f, x, k) for f in (conv_pool, mean_after, upsample_conv, repeated_before)]
            for k in kernels
        ]

    kernels = [images(*size, 2, 3, seed=1) for size in SMEARED_KERNELS]
    for pooled, mean, upsampled, repeated in fast(all_four)(images(2, 6, 4, 2), kernels):
        assert_close(pooled, mean)
        assert_close(upsampled, repeated)


def test_errors_of_conv_name_what_does_not_fit():
    x, kernel = jnp.zeros((1, 4, 5, 4)), jnp.zeros((3, 3, 4, 6))
    with pytest.raises(ValueError, match=r"\(1, 4, 5, 4\).*\(3, 3, 3, 6\)"):
        conv(x, jnp.zeros((3, 3, 3, 6)))
    with pytest.raises(ValueError, match=r"\[N, H, W, C\].*\(4, 5, 4\)"):
        conv(x[0], kernel)
    with pytest.raises(ValueError, match=r"\(4, 6\)"):
        conv(x, kernel[0, 0])
    with pytest.raises(ValueError, match=r"spans 7 pixels and the padded image has 6"):
        conv(x, jnp.zeros((3, 7, 4, 6)), 1, ((0, 0), (0, 1)))
    with pytest.raises(ValueError, match=r"dilation \(2, 2\).*spans 5 pixels and the padded image has 4"):
        conv(x, kernel, padding="VALID", dilation=2)
    with pytest.raises(ValueError, match=r"spans 3 pixels and the padded image has 2"):
        conv(x, kernel, 1, -1)
    with pytest.raises(ValueError, match=r"\(3, 3, 2, 5\) and groups=2"):
        conv(x, jnp.zeros((3, 3, 2, 5)), groups=2)
    with pytest.raises(ValueError, match=r"groups=0"):
        conv(x, kernel, groups=0)
    for strides in (0, (1, 0), (1, 1, 1), (2.0, 1)):
        with pytest.raises(ValueError, match=r"strides=.*at least 1"):
            conv(x, kernel, strides)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"dilation=0.*at least 1"):
        conv(x, kernel, dilation=0)
    for padding in ((1, 2, 3), ((1, 2), (3, 4, 5)), ((1, 2),), ((1, 0.5), 1)):
        with pytest.raises(ValueError, match=r"padding=.*for each of two axes a number or"):
            conv(x, kernel, 1, padding)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"padding='same'.*'SAME', 'VALID', 'REFLECT', 'CIRCULAR'"):
        conv(x, kernel, 1, "same")
    with pytest.raises(ValueError, match=r"'REFLECT' by 4 pixels: an image of \(1, 4, 5, 4\) has 3"):
        conv(x, jnp.zeros((9, 3, 4, 6)), 1, "REFLECT")
    with pytest.raises(ValueError, match=r"'CIRCULAR' by 5 pixels: an image of \(1, 4, 5, 4\) has 4"):
        conv(x, jnp.zeros((10, 3, 4, 6)), 1, "CIRCULAR")
    for size in ((2, 3), (3, 2), (4, 4)):
        even = jnp.zeros((*size, 4, 6))
        with pytest.raises(ValueError, match=rf"upsample_conv.*odd.*\({size[0]}, {size[1]}, 4, 6\)"):
            upsample_conv(x, even)
        with pytest.raises(ValueError, match=rf"conv_pool.*odd.*\({size[0]}, {size[1]}, 4, 6\)"):
            conv_pool(x[:, :, :4], even)
    with pytest.raises(ValueError, match=r"even height and width; got \(1, 4, 5, 4\)"):
        conv_pool(x, kernel)
    with pytest.raises(ValueError, match=r"images \[..., H, W, C\]; got \(5, 4\)"):
        Conv(6, (3, 3)).init(jax.random.key(0), x[0, 0])
    with pytest.raises(ValueError, match=r"feature_group_count=3 must divide the 4 .* and the 6"):
        Conv(6, (3, 3), feature_group_count=3).init(jax.random.key(0), x)
