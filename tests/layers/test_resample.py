import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import Mesh, PartitionSpec

from ganjax.layers import (
    blur,
    crossfaded,
    downsample,
    downsample_filtered,
    fir_filter,
    pixel_shuffle,
    pixel_unshuffle,
    resize_bilinear,
    upfirdn,
    upsample,
    upsample_filtered,
)

FAST = {"xla_backend_optimization_level": 0}  # to compile; what is compiled is tiny
BINOMIAL = fir_filter([1, 3, 3, 1])


def fast(function):
    return jax.jit(function, compiler_options=FAST)


def images(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def taps_of(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def by_definition(x, filter, up=(1, 1), down=(1, 1), padding=((0, 0), (0, 0)), gain=1.0, flip=False):
    """The four steps of upfirdn's docstring, one after the other, in float64."""
    x = np.asarray(x, np.float64)
    filter = np.asarray(filter, np.float64)
    if filter.ndim == 1:
        filter = np.outer(filter, filter)
    kh, kw = filter.shape
    n, h, w, c = x.shape
    z = np.zeros((n, h * up[0], w * up[1], c))
    z[:, :: up[0], :: up[1]] = x
    for axis, (before, after) in enumerate(padding, start=1):
        widths = [(0, 0)] * 4
        widths[axis] = (max(before, 0), max(after, 0))
        z = np.pad(z, widths)
        z = np.take(z, range(max(-before, 0), z.shape[axis] - max(-after, 0)), axis)
    y = np.zeros((n, z.shape[1] - kh + 1, z.shape[2] - kw + 1, c))
    for o, p in itertools.product(range(y.shape[1]), range(y.shape[2])):
        for i, j in itertools.product(range(kh), range(kw)):
            met = z[:, o + i, p + j] if flip else z[:, o + kh - 1 - i, p + kw - 1 - j]
            y[:, o, p] += filter[i, j] * met
    return gain * y[:, :: down[0], :: down[1]]


# (up, down, taps, (before, after), size) of one axis; a case takes two of them. Among them: taps fewer than
# up (gaps), down that drops pixels, up and down with a common factor and without, cutting at either end, and
# so deep that the output never meets the image on one side.
AXES = [
    (1, 1, 4, (2, 1), 5),
    (2, 1, 4, (2, 1), 4),
    (1, 2, 4, (1, 1), 6),
    (2, 2, 3, (1, 1), 5),
    (3, 2, 5, (0, 4), 4),
    (2, 3, 6, (3, 3), 5),
    (4, 2, 7, (5, 2), 3),
    (4, 1, 2, (0, 1), 3),
    (1, 3, 1, (0, 0), 7),
    (1, 1, 3, (-1, 2), 6),
    (2, 1, 3, (3, -2), 5),
    (3, 1, 4, (-2, -1), 4),
    (1, 2, 2, (4, -3), 5),
    (2, 1, 3, (-9, 8), 4),
    (2, 2, 2, (6, -7), 5),
    (1, 1, 12, (6, 5), 3),
    (2, 1, 12, (6, 5), 2),
    (1, 2, 12, (5, 5), 4),
    (1, 1, 1, (0, 0), 1),
    (5, 3, 4, (1, 0), 2),
]
PAIRS = [(AXES[i], AXES[(i + 7) % len(AXES)]) for i in range(len(AXES))]


def case(vertical, horizontal):
    (uh, dh, kh, pad_h, h), (uw, dw, kw, pad_w, w) = vertical, horizontal
    options: dict[str, Any] = {"up": (uh, uw), "down": (dh, dw), "padding": (pad_h, pad_w)}
    return images(2, h, w, 2), taps_of(kh, kw), options


@pytest.mark.parametrize("group", range(4))
def test_upfirdn_is_as_defined_and_its_gradient_the_transpose(group):
    """Several cases to one program. <y, upfirdn(x)> = <upfirdn's transpose(y), x> for the gradient."""
    cases = [case(*pair) for pair in PAIRS[group::4]]
    # A filter along both axes, the same for each, as most are.
    up, down, taps, padding, size = AXES[group]
    options = {"up": (up, up), "down": (down, down), "padding": (padding, padding), "gain": 3.0}
    cases.append((images(1, size, size + 1, 9), taps_of(taps), options | {"flip": group % 2 == 1}))
    expected = [by_definition(x, taps, **options) for x, taps, options in cases]
    cotangents = [images(*y.shape, seed=3) for y in expected]

    @fast
    def values_and_gradients(inputs, cotangents):
        outcome = []
        for x, y, (_, taps, options) in zip(inputs, cotangents, cases, strict=True):
            value, back = jax.vjp(lambda x: upfirdn(x, taps, **options), x)
            outcome.append((value, back(y)[0]))
        return outcome

    outcome = values_and_gradients([x for x, _, _ in cases], cotangents)
    for (value, gradient), y, cotangent, (x, taps, options) in zip(
        outcome, expected, cotangents, cases, strict=True
    ):
        np.testing.assert_allclose(value, y, rtol=1e-5, atol=1e-5, err_msg=str(options))
        # The matrix of the transpose, pixel by pixel: every pixel's own image, through the definition.
        h, w = x.shape[1:3]
        basis = np.eye(h * w).reshape(h * w, h, w, 1)
        columns = by_definition(basis, taps, **options)
        transposed = np.einsum("phw,nhwc->npc", columns[..., 0], np.asarray(cotangent, np.float64))
        np.testing.assert_allclose(
            gradient, transposed.reshape(x.shape), rtol=1e-5, atol=1e-5, err_msg=str(options)
        )


def depthwise(x, filter, up, down, padding):
    """XLA's own, for what is not cut off. A convolution is a correlation with the filter flipped."""
    channels = x.shape[3]
    kernel = jnp.broadcast_to(
        jnp.asarray(np.flip(filter), jnp.float32)[:, :, None, None], (*filter.shape, 1, channels)
    )
    padding = [
        (p, q + u - 1) for (p, q), u in zip(padding, up, strict=True)
    ]  # the zeros after the last pixel
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, down, padding, up, dimension_numbers=numbers, feature_group_count=channels
    )


def test_derivatives_are_those_of_the_depthwise_convolution():
    """Forward mode, and the gradient of a norm of the gradient, as gradient penalties have it."""
    x, v = images(2, 5, 4, 8), images(2, 5, 4, 8, seed=2)
    taps = taps_of(4, 3)
    options = {"up": (2, 3), "down": (1, 2), "padding": ((2, 1), (1, 2))}

    def derivatives(function, x):
        def f(x):
            return jnp.sum(jnp.tanh(function(x, taps, **options)))

        slope = jax.jvp(f, (x,), (v,))[1]
        twice_forward = jax.jvp(lambda x: jax.jvp(f, (x,), (v,))[1], (x,), (v,))[1]
        curvature = jax.grad(lambda x: jnp.sum(jnp.square(jax.grad(f)(x))))(x)
        product = jax.jvp(jax.grad(f), (x,), (v,))[1]
        third = jax.grad(lambda x: jnp.vdot(jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), v))(x), v))(x)
        return slope, twice_forward, curvature, product, third

    left, right = fast(lambda x: [derivatives(f, x) for f in (upfirdn, depthwise)])(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), left, right)
    assert min(float(jnp.abs(a).max()) for a in left) > 0.01


def test_vmap_over_any_axis_and_of_the_gradient():
    x = images(3, 2, 4, 5, 2)

    def f(x):
        return upfirdn(x, taps_of(3), up=2, padding=1)

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(f(x) ** 2))(x)

    def everything(x):
        last = jax.vmap(f, in_axes=4, out_axes=4)(jnp.moveaxis(x, 0, 4))
        return jax.vmap(f)(x), jnp.moveaxis(last, 4, 0), jax.vmap(gradient)(x)

    mapped, over_last, gradients = fast(everything)(x)
    flat, flat_gradient = fast(lambda x: (f(x), gradient(x)))(x.reshape(6, 4, 5, 2))
    np.testing.assert_allclose(mapped, flat.reshape(mapped.shape), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(over_last, mapped, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradients, flat_gradient.reshape(x.shape), rtol=1e-5, atol=1e-5)


def every_function(x):
    """[N, 4, 6, 4] -> a list: each of the module's once, and a filter shorter than its factor."""
    return [
        upsample(x, (2, 3)),
        downsample(x),
        upsample_filtered(x, BINOMIAL),
        downsample_filtered(x, BINOMIAL),
        blur(x, taps_of(3, 2)),
        upfirdn(x, [1.0, 2.0], up=3, down=2),
        pixel_shuffle(x),
        pixel_unshuffle(x, (2, 3)),
        resize_bilinear(x, (5, 3)),
        resize_bilinear(x, (2, 3), antialias=True),
    ]


def loss(x):
    return jnp.sum(jnp.stack([jnp.sum(jnp.sin(y)) for y in every_function(x)]))


def test_pmap_and_shard_map_compute_what_jit_does():
    devices = jax.devices()[:2]
    x = images(2 * len(devices), 4, 6, 4)
    both = jax.value_and_grad(loss)
    value, gradient = fast(both)(x)
    values, gradients = jax.pmap(both, devices=devices)(x.reshape(len(devices), 2, *x.shape[1:]))
    np.testing.assert_allclose(jnp.sum(values), value, rtol=1e-4)
    np.testing.assert_allclose(gradients.reshape(x.shape), gradient, rtol=1e-4, atol=1e-5)
    mesh, split = Mesh(np.asarray(devices), ("data",)), PartitionSpec("data")
    mapped = jax.shard_map(lambda x: jax.grad(loss)(x), mesh=mesh, in_specs=split, out_specs=split)
    np.testing.assert_allclose(fast(mapped)(x), gradient, rtol=1e-4, atol=1e-5)


def test_exports_with_a_symbolic_batch():
    (batch,) = export.symbolic_shape("b")
    argument = jax.ShapeDtypeStruct((batch, 4, 6, 4), jnp.float32)
    platforms = ("cpu", "cuda", "tpu")
    program = jax.jit(lambda x: (every_function(x), jax.grad(loss)(x)))
    exported = export.export(program, platforms=platforms)(argument)
    assert exported.platforms == platforms
    assert all(str(out.shape[0]) == "b" for out in exported.out_avals)
    x = images(3, 4, 6, 4)
    values, gradient = jax.jit(exported.call)(x)
    expected, slope = fast(lambda x: (every_function(x), jax.grad(loss)(x)))(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), values, expected)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-5)


def test_keeps_the_dtype_and_computes_in_float32():
    x = images(1, 4, 6, 4).astype(jnp.bfloat16)
    outputs, gradient = fast(lambda x: (every_function(x), jax.grad(lambda x: loss(x).astype(float))(x)))(x)
    assert {y.dtype for y in outputs} == {jnp.dtype(jnp.bfloat16)}
    assert gradient.dtype == jnp.bfloat16
    # Rounded once, at the end: half a unit in the last of bfloat16's 8 bits.
    exact = fast(every_function)(x.astype(jnp.float32))
    for y, value in zip(outputs, exact, strict=True):
        np.testing.assert_allclose(y.astype(jnp.float32), value, rtol=2.0**-8, atol=1e-6)
    assert jax.eval_shape(upsample, jnp.zeros((1, 2, 2, 1), jnp.uint8)).dtype == jnp.uint8
    assert jax.eval_shape(lambda x: blur(x, BINOMIAL), x.astype(jnp.float16)).dtype == jnp.float16


def test_a_lone_pixel_paints_the_filter():
    x = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(2.0)
    filter = np.arange(6.0).reshape(2, 3)
    painted = upfirdn(x, filter, padding=((0, 0), (1, 1)))
    np.testing.assert_array_equal(painted[0, :, :, 0], 2 * filter)
    mirrored = upfirdn(x, filter, padding=((0, 0), (1, 1)), flip=True)
    np.testing.assert_array_equal(mirrored[0, :, :, 0], 2 * filter[::-1, ::-1])
    # Upsampled, the 4 by 4 filter around the block that the pixel grows to, times 4 for the zeros.
    grown = upsample_filtered(x, BINOMIAL)
    np.testing.assert_allclose(grown[0, 1:5, 1:5, 0], 8 * np.outer(BINOMIAL, BINOMIAL), rtol=1e-6)
    assert float(jnp.abs(grown).sum()) == pytest.approx(8.0)


def test_a_pixel_beyond_a_taps_reach_does_not_matter():
    """An infinite pixel reaches what it should and no further: no zero is multiplied by it."""
    x = jnp.ones((1, 6, 6, 8)).at[0, 0, 0].set(jnp.inf)
    grown = np.isfinite(upsample_filtered(x, BINOMIAL))
    assert not grown[0, :3, :3].any()
    assert grown[0, 3:].all()
    assert grown[0, :, 3:].all()


@pytest.mark.parametrize(("taps", "factor"), [(4, 2), (3, 2), (2, 2), (6, (2, 3)), (5, 3), (1, 1), (2, 4)])
def test_sizes_and_centres(taps, factor):
    """The centre of mass keeps its place, but for half a pixel of the finer image where parities differ."""
    x = jnp.zeros((1, 12, 12, 1)).at[0, 5, 6, 0].set(1.0)
    filter = fir_filter(np.ones(taps))
    fh, fw = factor if isinstance(factor, tuple) else (factor, factor)

    def centre(y):
        y = np.asarray(y[0, :, :, 0], np.float64)
        rows, columns = (np.arange(n) + 0.5 for n in y.shape)
        return np.array([(y.sum(1) * rows).sum(), (y.sum(0) * columns).sum()]) / y.sum()

    place, factors = np.array([5.5, 6.5]), np.array([fh, fw])
    moved = (taps + factors) % 2 / 2
    finer = upsample_filtered(x, filter, factor)
    assert finer.shape == (1, 12 * fh, 12 * fw, 1)
    assert float(jnp.sum(finer)) == pytest.approx(fh * fw, rel=1e-5)
    np.testing.assert_allclose(centre(finer), place * factors + moved, rtol=1e-5)
    # A ramp, since subsampling a lone pixel would not keep its centre.
    ramp = jnp.broadcast_to(jnp.arange(12.0)[:, None], (12, 12)) + 0.5
    coarser = downsample_filtered(ramp[None, :, :, None], filter, factor)
    assert coarser.shape == (1, 12 // fh, 12 // fw, 1)
    inner = 12 // fh // 2
    np.testing.assert_allclose(coarser[0, inner, 12 // fw // 2, 0], (inner + 0.5) * fh - moved[0], rtol=1e-5)
    blurred = blur(x, filter)
    assert blurred.shape == x.shape
    np.testing.assert_allclose(centre(blurred), place + (taps + 1) % 2 / 2, rtol=1e-5)


def test_a_constant_image_stays_constant_inside_and_the_mean_is_kept():
    x = jnp.full((1, 8, 8, 2), 3.0)
    for y in (upsample_filtered(x, BINOMIAL), downsample_filtered(x, BINOMIAL), blur(x, BINOMIAL)):
        np.testing.assert_allclose(y[:, 2:-2, 2:-2], 3.0, rtol=1e-6)
        assert float(y[0, 0, 0, 0]) < 3.0  # zeros beyond the border
    for y in (upsample(x), downsample(x), resize_bilinear(x, (5, 11))):
        np.testing.assert_allclose(y, 3.0, rtol=1e-6)
    framed = jnp.pad(images(1, 4, 4, 2), ((0, 0), (4, 4), (4, 4), (0, 0)))
    for function in (upsample_filtered, downsample_filtered):
        np.testing.assert_allclose(jnp.mean(function(framed, BINOMIAL)), jnp.mean(framed), rtol=1e-5)
    np.testing.assert_allclose(jnp.mean(downsample(framed)), jnp.mean(framed), rtol=1e-5)


def test_nearest_and_means_by_hand():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(upsample(x, (1, 2))[0, :, :, 0], [[0, 0, 1, 1], [2, 2, 3, 3]])
    np.testing.assert_array_equal(upsample(x)[0, :, 2, 0], [1, 1, 3, 3])
    np.testing.assert_array_equal(downsample(x)[0, :, :, 0], [[1.5]])
    np.testing.assert_array_equal(downsample(x, (2, 1))[0, :, :, 0], [[1, 2]])
    np.testing.assert_array_equal(downsample(upsample(x, 3), 3), x)


def test_pixel_shuffle_has_the_channel_order_of_pytorch():
    # torch.nn.functional.pixel_shuffle(torch.arange(16.).reshape(1, 8, 1, 2), 2) of torch 2, channels last:
    # channel c * 4 + dy * 2 + dx of the two pixels, whose values are 2 * channel and 2 * channel + 1.
    x = jnp.arange(16.0).reshape(1, 8, 1, 2).transpose(0, 2, 3, 1)
    shuffled = pixel_shuffle(x, 2)
    np.testing.assert_array_equal(shuffled[0, :, :, 0], [[0, 2, 1, 3], [4, 6, 5, 7]])
    np.testing.assert_array_equal(shuffled[0, :, :, 1], [[8, 10, 9, 11], [12, 14, 13, 15]])
    np.testing.assert_array_equal(pixel_unshuffle(shuffled, 2), x)
    y = images(2, 4, 9, 2)
    np.testing.assert_array_equal(pixel_shuffle(pixel_unshuffle(y, (2, 3)), (2, 3)), y)
    np.testing.assert_array_equal(pixel_unshuffle(y, (2, 3))[0, 1, 2, 1 * 6 + 1 * 3 + 2], y[0, 3, 8, 1])


def test_bilinear_by_hand_and_as_a_filter():
    # Half-pixel centres: from 2 to 4, outputs lie at -1/4 (the border), 1/4, 3/4 and 5/4 of the way.
    x = jnp.asarray([0.0, 4.0]).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(resize_bilinear(x, (1, 4))[0, 0, :, 0], [0, 1, 3, 4], rtol=1e-6)
    # From 4 to 2, without antialiasing the mean of two neighbours, with it the triangle over four pixels:
    # weights 3, 3, 1 of the three that lie inside.
    row = jnp.asarray([0.0, 0.0, 7.0, 0.0]).reshape(1, 1, 4, 1)
    np.testing.assert_allclose(resize_bilinear(row, (1, 2))[0, 0, :, 0], [0, 3.5], rtol=1e-6)
    np.testing.assert_allclose(resize_bilinear(row, (1, 2), antialias=True)[0, 0, :, 0], [1, 3], rtol=1e-6)
    y = images(1, 5, 6, 2)
    np.testing.assert_allclose(
        resize_bilinear(y, (10, 12))[:, 1:-1, 1:-1], upsample_filtered(y, BINOMIAL)[:, 1:-1, 1:-1], atol=1e-5
    )


def test_fir_filter():
    np.testing.assert_array_equal(BINOMIAL, [0.125, 0.375, 0.375, 0.125])
    assert BINOMIAL.dtype == np.float32
    np.testing.assert_array_equal(fir_filter([1, 2], normalize=False), [1, 2])
    with pytest.raises(ValueError, match=r"one dimension; got shape \(2, 2\)"):
        fir_filter(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"\[1, -1\]: with the sum 0\.0 they cannot be normalised"):
        fir_filter([1, -1])


def test_errors_name_what_does_not_fit():
    x = jnp.zeros((1, 4, 6, 3))
    one_channel = (blur, upsample_filtered, downsample_filtered, upfirdn)
    for function in one_channel:
        with pytest.raises(ValueError, match=r"\[N, H, W, C\]; got shape \(4, 6, 3\)"):
            function(x[0], BINOMIAL)
        with pytest.raises(ValueError, match=r"filter: expected \[K\].*got shape \(1, 2, 2\)"):
            function(x, np.ones((1, 2, 2)))
        with pytest.raises(ValueError, match="floating type; got int32"):
            function(x.astype(jnp.int32), BINOMIAL)
    for function in (upsample, downsample, pixel_shuffle, pixel_unshuffle):
        with pytest.raises(ValueError, match=rf"{function.__name__} takes images.*\(4, 6, 3\)"):
            function(x[0])
        with pytest.raises(ValueError, match=r"factor=\(2, 0\): expected a positive integer, or two"):
            function(x, (2, 0))
    for function in (downsample, pixel_unshuffle, lambda x, f: downsample_filtered(x, BINOMIAL, f)):
        with pytest.raises(ValueError, match=r"\(1, 4, 6, 3\) by \(4, 4\): height and width"):
            function(x, 4)
    with pytest.raises(ValueError, match=r"3 channels are no multiple of 4"):
        pixel_shuffle(x, 2)
    with pytest.raises(ValueError, match=r"up=0: expected a positive"):
        upfirdn(x, BINOMIAL, up=0)
    with pytest.raises(ValueError, match=r"down=1\.5: expected a positive"):
        upfirdn(x, BINOMIAL, down=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"padding=\(1, 2\): expected an integer or \(\(top, bottom\)"):
        upfirdn(x, BINOMIAL, padding=(1, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(1, 4, 6, 3\) by a filter of \(4, 4\).*nothing is left"):
        upfirdn(x, BINOMIAL, padding=((-1, 0), (0, 0)))
    with pytest.raises(ValueError, match="got a traced array"):
        jax.jit(lambda f: upfirdn(x, f))(jnp.ones(4))
    with pytest.raises(ValueError, match=r"size=\(0, 3\): expected"):
        resize_bilinear(x, (0, 3))


def test_a_fade_in_half_precision_goes_in_steps_of_float32():
    """In bfloat16 an alpha of 0.9985 is 1, and one of 0.5005 is 0.5."""
    old, new = jnp.ones(3, jnp.bfloat16), jnp.zeros(3, jnp.bfloat16)
    for alpha in (0.9985, 0.5005, 0.0, 1.0):
        found = crossfaded(old, new, alpha)
        assert found.dtype == jnp.bfloat16
        np.testing.assert_array_equal(found, jnp.full(3, 1 - alpha, jnp.bfloat16))
    assert crossfaded(old, new, 0.9985)[0] > 0
