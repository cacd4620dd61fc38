"""The blocks that networks are built of."""

from ganjax.layers.conv import Conv, ConvTranspose, conv_transpose
from ganjax.layers.norm import BatchNorm, ConditionalBatchNorm
from ganjax.layers.resample import (
    blur,
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
from ganjax.layers.spectral import SpectralConv, SpectralDense, conv, spectrally_normalised

__all__ = [
    "BatchNorm",
    "ConditionalBatchNorm",
    "Conv",
    "ConvTranspose",
    "SpectralConv",
    "SpectralDense",
    "blur",
    "conv",
    "conv_transpose",
    "downsample",
    "downsample_filtered",
    "fir_filter",
    "pixel_shuffle",
    "pixel_unshuffle",
    "resize_bilinear",
    "spectrally_normalised",
    "upfirdn",
    "upsample",
    "upsample_filtered",
]
