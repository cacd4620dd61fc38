"""Convolutions, NHWC, with flax.linen's parameters and values, each platform's in the form that it runs best.

On GPUs and TPUs they are XLA's own, which cuDNN and the TPU compiler take over. On a CPU, float32 ones
without dilation and groups are computed as `ganjax.layers.lowering` says. Which one it is, is decided where
the program is compiled, and one exported for several platforms holds both.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ganjax.layers import lowering
from ganjax.layers.channels import add_bias
from ganjax.layers.lowering import NUMBERS, Geometry, Pads

PaddingLike = str | int | Sequence[int | tuple[int, int]]


def conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | Sequence[int] = 1,
    padding: PaddingLike = "SAME",
    *,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: Any = None,
) -> jax.Array:
    """The convolution (correlation) of images with a kernel, equal to `lax.conv_general_dilated`.

    Args:
      x: [N, H, W, C].
      kernel: [KH, KW, C / groups, F].
      strides: of the output over the input, along height and width.
      padding: "SAME" (the output has ceil(H / stride) rows), "VALID", "REFLECT" and "CIRCULAR" (KH - 1 rows
        are added, mirrored without the edge or from the other side), or how many zeros are added: a number,
        or for each axis a number or a pair (before, after); negative ones cut.
      dilation: of the kernel.
      groups: C and F are cut into as many groups, each of which is convolved by itself.
      precision: see `lax.Precision`.
    Returns:
      [N, H', W', F].
    Raises:
      ValueError: a size does not fit.
    """
    strides, dilation = pair(strides, "strides"), pair(dilation, "dilation")
    channels = kernel.shape[2] * groups if kernel.ndim == 4 else None
    if x.ndim != 4 or groups < 1 or x.shape[3] != channels or kernel.shape[3] % groups:
        raise ValueError(
            f"conv takes images [N, H, W, C] and a kernel [KH, KW, C / groups, F], groups dividing C and F; "
            f"got {x.shape}, {kernel.shape} and groups={groups}"
        )
    spread = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    if isinstance(padding, str) and padding in ("REFLECT", "CIRCULAR"):
        x = _pad_from_image(x, spread, padding)
        padding = "VALID"
    pads = explicit_padding(padding, x.shape[1:3], spread, strides)
    for size, taps, ends in zip(x.shape[1:3], spread, pads, strict=True):
        if size + sum(ends) < taps:
            raise ValueError(
                f"conv of {x.shape} by {kernel.shape}, padding {pads}, dilation {dilation}: the kernel spans "
                f"{taps} pixels and the padded image has {size + sum(ends)}"
            )
    if dilation != (1, 1) or groups != 1 or min(kernel.shape) < 1:
        x = lowering.pad(x, pads)
        return lax.conv_general_dilated(
            x,
            kernel,
            strides,
            "VALID",
            rhs_dilation=dilation,
            dimension_numbers=NUMBERS,
            feature_group_count=groups,
            precision=precision,
        )
    geometry = Geometry((x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1]), strides, pads)
    return _bind("forward", x, kernel, geometry, precision)


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | Sequence[int] = 1,
    padding: PaddingLike = "SAME",
    *,
    precision: Any = None,
) -> jax.Array:
    """Transposed convolution, equal to `lax.conv_transpose(x, kernel, ...)`.

    Args:
      x: [N, H, W, C].
      kernel: [KH, KW, C, F].
      strides: by which height and width grow.
      padding: "SAME" (the output is stride times as large), "VALID", or how far the dilated input is padded:
        a number, or for each axis a number or a pair (cut, where negative).
      precision: see `lax.Precision`.
    Returns:
      [N, H', W', F].
    Raises:
      ValueError: where the shapes do not fit or nothing would be left.
    """
    strides = pair(strides, "strides")
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"conv_transpose takes images [N, H, W, C] and a kernel [KH, KW, C, F]; "
            f"got {x.shape} and {kernel.shape}"
        )
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"padding={padding!r}: expected 'SAME', 'VALID' or a pair for each axis")
        ends = [_transpose_padding(k, s, padding) for k, s in zip(kernel.shape, strides, strict=False)]
        dilated_pads = (ends[0], ends[1])
    else:
        dilated_pads = explicit_padding(padding, x.shape[1:3], kernel.shape[:2], (1, 1))
    sizes = []
    for size, k, stride, pads in zip(x.shape[1:3], kernel.shape, strides, dilated_pads, strict=False):
        length = (size - 1) * stride + 1 + sum(pads) - k + 1
        if length < 1 or k < 1:
            raise ValueError(f"conv_transpose of {x.shape} by {kernel.shape}, padding {pads}: empty output")
        sizes.append(length)
    # It is the input's gradient of the convolution that leads from the large image to x.
    conv_pads = [(k - 1 - a, k - 1 - b) for k, (a, b) in zip(kernel.shape, dilated_pads, strict=False)]
    taps = kernel.shape[0], kernel.shape[1]
    geometry = Geometry((sizes[0], sizes[1]), taps, strides, (conv_pads[0], conv_pads[1]))
    turned = lax.platform_dependent(kernel, cpu=lowering.turned, default=_turned)
    return _bind("input_gradient", x, turned, geometry, precision)


def upsample_conv(x: jax.Array, kernel: jax.Array, *, precision: Any = None) -> jax.Array:
    """Nearest upsampling by 2 followed by a "SAME" convolution, in one.

    Every pixel of the enlarged image is one of x's, so that it is a transposed convolution of x with the
    kernel smeared over 2x2 pixels: 4/9 of the multiplications for a 3x3 kernel, no large image in between.

    Args:
      x: [N, H, W, C].
      kernel: [KH, KW, C, F], KH and KW odd.
      precision: see `lax.Precision`.
    Returns:
      [N, 2 * H, 2 * W, F].
    Raises:
      ValueError: a size does not fit.
    """
    smeared = _smeared(kernel, "upsample_conv")
    # SAME of the large image: half of the kernel on either side, and a transposed convolution's own padding.
    pads = [(k // 2 + k % 2, k // 2 + k % 2) for k in kernel.shape[:2]]
    return conv_transpose(x, smeared, 2, pads, precision=precision)


def conv_pool(x: jax.Array, kernel: jax.Array, *, precision: Any = None) -> jax.Array:
    """A "SAME" convolution followed by the mean over 2x2 pixels, in one.

    It is a convolution of stride 2 with the kernel smeared over 2x2 pixels: 4/9 of the multiplications for a
    3x3 kernel, and no large image in between.

    Args:
      x: [N, H, W, C], H and W even.
      kernel: [KH, KW, C, F], KH and KW odd.
      precision: see `lax.Precision`.
    Returns:
      [N, H / 2, W / 2, F].
    Raises:
      ValueError: a size does not fit.
    """
    if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"conv_pool takes images [N, H, W, C] of even height and width; got {x.shape}")
    smeared = _smeared(kernel, "conv_pool") * jnp.asarray(0.25, kernel.dtype)
    return conv(x, smeared, 2, [(k // 2, k // 2) for k in kernel.shape[:2]], precision=precision)


def _smeared(kernel: jax.Array, name: str) -> jax.Array:
    """[KH, KW, C, F] -> [KH + 1, KW + 1, C, F], each tap added to the four that it then lies on."""
    if kernel.ndim != 4 or not all(k % 2 for k in kernel.shape[:2]):
        raise ValueError(f"{name} takes a kernel [KH, KW, C, F] of odd height and width; got {kernel.shape}")
    tall = jnp.pad(kernel, ((0, 1), (0, 0), (0, 0), (0, 0))) + jnp.pad(
        kernel, ((1, 0), (0, 0), (0, 0), (0, 0))
    )
    return jnp.pad(tall, ((0, 0), (0, 1), (0, 0), (0, 0))) + jnp.pad(tall, ((0, 0), (1, 0), (0, 0), (0, 0)))


def _turned(kernel: jax.Array) -> jax.Array:
    """As `lowering.turned`, in the form that compilers know as a transposed convolution's."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _lax_forward(x: jax.Array, kernel: jax.Array, geometry: Geometry, precision: Any) -> jax.Array:
    pads = geometry.pads
    if min(map(min, pads)) < 0:
        x, pads = lowering.pad(x, pads), "VALID"
    return lax.conv_general_dilated(
        x, kernel, geometry.strides, pads, dimension_numbers=NUMBERS, precision=precision
    )


def _lax_input_gradient(g: jax.Array, kernel: jax.Array, geometry: Geometry, precision: Any) -> jax.Array:
    """As `lax` has it: one convolution of the dilated gradient, which cuDNN knows as such."""
    pads = []
    for size, taps, stride, (before, _), length in zip(*geometry, g.shape[1:3], strict=True):
        low = taps - 1 - before
        pads.append((low, size + taps - 1 - low - ((length - 1) * stride + 1)))
    cut = [(min(low, 0), min(high, 0)) for low, high in pads]
    if any(map(any, cut)):  # see lowering.pad
        g = lax.pad(
            g, jnp.zeros((), g.dtype), ((0, 0, 0), *((0, 0, s - 1) for s in geometry.strides), (0, 0, 0))
        )
        g = lowering.pad(g, (pads[0], pads[1]))
        pads, dilation = [(0, 0), (0, 0)], (1, 1)
    else:
        dilation = geometry.strides
    return lax.conv_general_dilated(
        g,
        _turned(kernel),
        (1, 1),
        pads,
        lhs_dilation=dilation,
        dimension_numbers=NUMBERS,
        precision=precision,
    )


def _lax_kernel_gradient(x: jax.Array, g: jax.Array, geometry: Geometry, precision: Any) -> jax.Array:
    x, kernel = lowering.varying_alike(x, jnp.zeros((*geometry.kernel, x.shape[3], g.shape[3]), x.dtype))
    return jax.linear_transpose(lambda kernel: _lax_forward(x, kernel, geometry, precision), kernel)(g)[0]


def _by_platform(on_cpu: Callable, elsewhere: Callable) -> Callable:
    """One bilinear function of two arrays from its two forms, for `lax.platform_dependent`."""
    # Traced once for each geometry: the forms for a CPU are hundreds of operations.
    on_cpu = jax.jit(on_cpu, static_argnames="geometry")

    def function(a: jax.Array, b: jax.Array, geometry: Geometry, precision: Any) -> jax.Array:
        default = functools.partial(elsewhere, geometry=geometry, precision=precision)
        if a.dtype != jnp.float32 or b.dtype != jnp.float32:
            return default(a, b)
        return lax.platform_dependent(a, b, cpu=functools.partial(on_cpu, geometry=geometry), default=default)

    return function


_forms = {
    "forward": _by_platform(lowering.forward, _lax_forward),
    "input_gradient": _by_platform(lowering.input_gradient, _lax_input_gradient),
    "kernel_gradient": _by_platform(lowering.kernel_gradient, _lax_kernel_gradient),
}


# A primitive of its own, for its derivatives: the three forms are bilinear and each other's adjoints, so that
# the derivatives of any order are these forms again, each as it is written, and never the adjoint that JAX
# would make of one.
_convolution = Primitive("convolution")


def _bind(form: str, a: jax.Array, b: jax.Array, geometry: Geometry, precision: Any) -> jax.Array:
    """`_forms[form]` of the two arrays, as `Geometry` names them: of "forward" (x, kernel) and y."""
    a, b = lowering.varying_alike(a, b)
    return _convolution.bind(a, b, form=form, geometry=geometry, precision=precision)


def _computed(a: jax.Array, b: jax.Array, *, form: str, geometry: Geometry, precision: Any) -> jax.Array:
    return _forms[form](a, b, geometry, precision)


_convolution.def_impl(jax.jit(_computed, static_argnames=("form", "geometry", "precision")))
mlir.register_lowering(_convolution, mlir.lower_fun(_computed, multiple_results=False))


@_convolution.def_abstract_eval
def _(a, b, *, form, geometry, **_):
    shapes = {
        "forward": lambda: (a.shape[0], *geometry.output, b.shape[3]),
        "input_gradient": lambda: (a.shape[0], *geometry.size, b.shape[2]),
        "kernel_gradient": lambda: (*geometry.kernel, a.shape[3], b.shape[3]),
    }
    return a.update(shape=shapes[form]())


def _tangent(primals, tangents, *, form, **options):
    (a, b), (da, db) = primals, tangents
    terms = []  # one at least: of constants no tangent is asked for
    if type(da) is not ad.Zero:
        terms.append(_bind(form, da, b, **options))
    if type(db) is not ad.Zero:
        terms.append(_bind(form, a, db, **options))
    value = _bind(form, a, b, **options)
    return value, sum(terms[1:], terms[0])


def _cotangents(cotangent, a, b, *, form, **options):
    if type(cotangent) is ad.Zero:
        return [None, None]
    # By which form, and of what, the linear argument's cotangent is found; the cotangent takes its own place.
    of_first, of_second = {
        "forward": (lambda k: ("input_gradient", cotangent, k), lambda x: ("kernel_gradient", x, cotangent)),
        "input_gradient": (lambda k: ("forward", cotangent, k), lambda g: ("kernel_gradient", cotangent, g)),
        "kernel_gradient": (lambda g: ("input_gradient", g, cotangent), lambda x: ("forward", x, cotangent)),
    }[form]
    if ad.is_undefined_primal(a):
        return [_bind(*of_first(b), **options), None]
    return [None, _bind(*of_second(a), **options)]


def _batched(arguments, dims, *, form, geometry, precision):
    """Images of a batch of batches are one larger batch. Anything else is a batch of convolutions."""
    (a, b), (of_a, of_b) = arguments, dims
    if form != "kernel_gradient" and of_b is None:
        a = jnp.moveaxis(a, of_a, 0)
        images = a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])
        joined = _bind(form, images, b, geometry, precision)
        return joined.reshape(*a.shape[:2], *joined.shape[1:]), 0
    computed = functools.partial(_computed, form=form, geometry=geometry, precision=precision)
    return jax.vmap(computed, dims)(a, b), 0


ad.primitive_jvps[_convolution] = _tangent
ad.primitive_transposes[_convolution] = _cotangents
batching.primitive_batchers[_convolution] = _batched


def pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """Height's and width's of a number for both or one for each; ValueError unless both are at least 1."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or not all(isinstance(v, int) and v >= 1 for v in both):
        raise ValueError(
            f"{name}={value}: expected a number of at least 1, or one for height and one for width"
        )
    return both[0], both[1]


def explicit_padding(
    padding: PaddingLike, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> Pads:
    """Padding as pairs (before, after) for height and width. `kernel` is what the dilated kernel spans."""
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(
                f"padding={padding!r}: expected 'SAME', 'VALID', 'REFLECT', 'CIRCULAR', a number or pairs"
            )
        ends = lax.padtype_to_pads(size, kernel, strides, padding)
    else:
        ends = [padding, padding] if isinstance(padding, int) else list(padding)
        ends = [(end, end) if isinstance(end, int) else tuple(end) for end in ends]
        if len(ends) != 2 or not all(len(end) == 2 and all(isinstance(n, int) for n in end) for end in ends):
            raise ValueError(f"padding={padding}: expected for each of two axes a number or (before, after)")
    return (ends[0][0], ends[0][1]), (ends[1][0], ends[1][1])


def _pad_from_image(x: jax.Array, spread: Sequence[int], how: str) -> jax.Array:
    ends = [((k - 1) // 2, k // 2) for k in spread]
    for size, end in zip(x.shape[1:3], ends, strict=True):
        most = size - 1 if how == "REFLECT" else size
        if max(end) > most:
            raise ValueError(
                f"padding={how!r} by {max(end)} pixels: an image of {x.shape} has {most} to give"
            )
    return jnp.pad(x, ((0, 0), *ends, (0, 0)), mode={"REFLECT": "reflect", "CIRCULAR": "wrap"}[how])


def _transpose_padding(kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """How far the stride-dilated input is padded, (before, after), as `lax.conv_transpose` has it."""
    if padding == "SAME":
        total = kernel + stride - 2
        before = kernel - 1 if stride > kernel - 1 else -(-total // 2)
    else:
        total = kernel + stride - 2 + max(kernel - stride, 0)
        before = kernel - 1
    return before, total - before


class Conv(nn.Module):
    """Convolution with `flax.linen.Conv`'s parameters; images only.

    Attributes:
      features: output channels F.
      kernel_size: (KH, KW).
      strides: of the output over the input.
      padding: see `conv`.
      kernel_dilation: of the kernel.
      feature_group_count: groups of channels, each convolved by itself.
      use_bias: adds a bias [F].
      dtype: for compute; default: the widest of input and parameters.
      param_dtype: of the parameters.
      precision: see `lax.Precision`.
    """

    features: int
    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    padding: PaddingLike = "SAME"
    kernel_dilation: int | Sequence[int] = 1
    feature_group_count: int = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., H, W, C] -> [..., H', W', features]."""
        groups = self.feature_group_count
        size = pair(self.kernel_size, "kernel_size")
        if groups < 1 or x.shape[-1] % groups or self.features % groups:
            raise ValueError(
                f"feature_group_count={groups} must divide the {x.shape[-1]} channels of the input and the "
                f"{self.features} of the output"
            )
        kernel_shape = (*size, x.shape[-1] // groups, self.features)
        kernel = self.param("kernel", self.kernel_init, kernel_shape, self.param_dtype)
        bias = (
            self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        )
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        images = _as_images(x)
        y = conv(
            images,
            kernel,
            self.strides,
            self.padding,
            dilation=self.kernel_dilation,
            groups=groups,
            precision=self.precision,
        )
        return add_bias(y, bias).reshape(*x.shape[:-3], *y.shape[1:])


class ConvTranspose(nn.Module):
    """Transposed convolution with `flax.linen.ConvTranspose`'s parameters; images only.

    Attributes:
      features: output channels F.
      kernel_size: (KH, KW).
      strides: growth of height and width.
      padding: "SAME", "VALID" or pairs, see `conv_transpose`.
      use_bias: adds a bias [F].
      dtype: for compute; default: the widest of input and parameters.
      param_dtype: of the parameters.
      precision: see `lax.Precision`.
    """

    features: int
    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    padding: PaddingLike = "SAME"
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., H, W, C] -> [..., H', W', features]."""
        kernel_shape = (*pair(self.kernel_size, "kernel_size"), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, kernel_shape, self.param_dtype)
        bias = (
            self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        )
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        images = _as_images(x)
        y = conv_transpose(images, kernel, self.strides, self.padding, precision=self.precision)
        return add_bias(y, bias).reshape(*x.shape[:-3], *y.shape[1:])


def _as_images(x: jax.Array) -> jax.Array:
    if x.ndim < 3:
        raise ValueError(f"a convolution takes images [..., H, W, C]; got {x.shape}")
    return x if x.ndim == 4 else x.reshape(-1, *x.shape[-3:])
