"""Convolutions, NHWC. One place to import them from, so that their lowering can be chosen here.

`ConvTranspose` has the parameters and the values of `flax.linen.ConvTranspose`, in the sub-pixel form:
an output pixel at phase r of the stride only ever meets every stride-th tap of the kernel, so each phase
is an ordinary stride-1 convolution of the input, and the phases are interleaved. No zeros are multiplied,
and on a CPU the weight gradient takes about a thirtieth of the time (Shi et al. 2016, "Is the
deconvolution layer the same as a convolutional layer?").
"""

import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

Conv = nn.Conv

PaddingLike = str | int | Sequence[int | tuple[int, int]]


def _transpose_padding(kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """How far the stride-dilated input is padded, (before, after), as `lax.conv_transpose` has it."""
    if padding == "SAME":
        total = kernel + stride - 2
        before = kernel - 1 if stride > kernel - 1 else -(-total // 2)
    else:
        total = kernel + stride - 2 + max(kernel - stride, 0)
        before = kernel - 1
    return before, total - before


def _axis_phases(size: int, kernel: int, stride: int, pad: tuple[int, int]) -> tuple[int, list]:
    """The output's length along one axis, and for each phase its first tap and the input's padding.

    Output o = stride * q + r is the sum over taps j of dilated[o + j - before] * kernel[j], where
    dilated[stride * i] = x[i] and zero elsewhere: only taps j = first (mod stride) meet an x.
    """
    before, after = pad
    length = (size - 1) * stride + 1 + before + after - kernel + 1
    phases = []
    for r in range(stride):
        count = -(-(length - r) // stride)  # outputs at this phase
        first = (before - r) % stride
        taps = -(-(kernel - first) // stride)
        shift = (r + first - before) // stride  # the input index under the first tap at q = 0
        phases.append((first, taps, (-shift, count + taps - 1 + shift - size)))
    return length, phases


def _cut_and_pad(size: int, pad: tuple[int, int]) -> tuple[slice, tuple[int, int]]:
    """What to keep of an axis, and its padding, where a negative `pad` cuts off.

    By hand: jaxlib 0.10.2 gets convolutions with negative padding wrong on the CPU, (-1, 1) say.
    """
    low, high = pad
    length = size + low + high
    start = min(max(-low, 0), size)
    stop = max(size - max(-high, 0), start)
    before = min(max(low, 0), length)
    return slice(start, stop), (before, length - (stop - start) - before)


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int],
    padding: str | Sequence[tuple[int, int]] = "SAME",
) -> jax.Array:
    """Transposed convolution in sub-pixel form, equal to `lax.conv_transpose(x, kernel, ...)`.

    Args:
      x: [N, H, W, C].
      kernel: [KH, KW, C, F].
      strides: by which height and width grow.
      padding: "SAME" (the output is stride times as large), "VALID", or for each axis the pair by which
        the dilated input is padded (cut, where negative).
    Returns:
      [N, H', W', F].
    Raises:
      ValueError: where the shapes do not fit or nothing would be left.
    """
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"conv_transpose takes images [N, H, W, C] and a kernel [KH, KW, C, F]; "
            f"got {x.shape} and {kernel.shape}"
        )
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"padding={padding!r}: expected 'SAME', 'VALID' or a pair for each axis")
        padding = [_transpose_padding(k, s, padding) for k, s in zip(kernel.shape, strides, strict=False)]
    sizes, axes = [], []
    for size, k, stride, pad in zip(x.shape[1:3], kernel.shape, strides, padding, strict=False):
        length, phases = _axis_phases(size, k, stride, pad)
        if length < 1:
            raise ValueError(f"conv_transpose of {x.shape} by {kernel.shape}, padding {pad}: empty output")
        sizes.append(length)
        axes.append(phases)
    rows, columns = (-(-size // stride) for size, stride in zip(sizes, strides, strict=True))
    outputs = []
    for (top, taps_h, pad_h), (left, taps_w, pad_w) in itertools.product(*axes):
        shape = (x.shape[0], rows, columns, kernel.shape[3])
        keep_h, pad_h = _cut_and_pad(x.shape[1], pad_h)
        keep_w, pad_w = _cut_and_pad(x.shape[2], pad_w)
        met = x[:, keep_h, keep_w]
        if taps_h <= 0 or taps_w <= 0 or not met.size:  # a stride longer than the kernel leaves gaps
            outputs.append(jnp.zeros(shape, x.dtype))
            continue
        taps = kernel[top :: strides[0], left :: strides[1]]
        pads = (pad_h, pad_w)
        y = lax.conv_general_dilated(met, taps, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        # Where the stride does not divide the length, late phases are one short.
        short = [(0, 0), (0, rows - y.shape[1]), (0, columns - y.shape[2]), (0, 0)]
        outputs.append(jnp.pad(y, short) if any(p != (0, 0) for p in short) else y)
    y = jnp.stack(outputs, axis=3).reshape(x.shape[0], rows, columns, *strides, kernel.shape[3])
    y = y.transpose(0, 1, 3, 2, 4, 5).reshape(
        x.shape[0], rows * strides[0], columns * strides[1], kernel.shape[3]
    )
    return y[:, : sizes[0], : sizes[1]]


class ConvTranspose(nn.Module):
    """Transposed convolution with `flax.linen.ConvTranspose`'s parameters, in sub-pixel form.

    Attributes:
      features: output channels F.
      kernel_size: (KH, KW).
      strides: growth of height and width.
      padding: "SAME", "VALID" or pairs, see `conv_transpose`.
      use_bias: adds a bias [F].
      dtype: for compute; parameters are float32.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: str | Sequence[tuple[int, int]] = "SAME"
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', features]."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv_transpose(x, kernel, self.strides, self.padding)
        return y if bias is None else y + bias.reshape(1, 1, 1, -1)
