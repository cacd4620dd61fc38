"""The blocks that networks are built of."""

from ganjax.layers.conv import Conv, ConvTranspose, conv_transpose
from ganjax.layers.norm import BatchNorm, ConditionalBatchNorm
from ganjax.layers.spectral import SpectralConv, SpectralDense, conv, spectrally_normalised

__all__ = [
    "BatchNorm",
    "ConditionalBatchNorm",
    "Conv",
    "ConvTranspose",
    "SpectralConv",
    "SpectralDense",
    "conv",
    "conv_transpose",
    "spectrally_normalised",
]
