"""The blocks that networks are built of."""

from ganjax.layers.attention import SelfAttention, attend, attention_weights
from ganjax.layers.channels import add_bias, column_sums, rows
from ganjax.layers.conv import (
    Conv,
    ConvTranspose,
    conv,
    conv_pool,
    conv_transpose,
    upsample_conv,
)
from ganjax.layers.dropout import Dropout
from ganjax.layers.embedding import Embed
from ganjax.layers.equalized import EqualizedConv, EqualizedDense, pixel_norm
from ganjax.layers.minibatch import MinibatchDiscrimination, minibatch_std
from ganjax.layers.noise import GaussianNoise
from ganjax.layers.norm import (
    BatchNorm,
    ConditionalBatchNorm,
    EmbeddedBatchNorm,
    InstanceNorm,
    LayerNorm,
    VirtualBatchNorm,
)
from ganjax.layers.resample import (
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
from ganjax.layers.spectral import SpectralConv, SpectralDense, spectrally_normalised
from ganjax.layers.style import AdaIN, Noise
from ganjax.layers.weight_norm import WeightNormConv, WeightNormDense, weight_normalised

__all__ = [
    "AdaIN",
    "BatchNorm",
    "ConditionalBatchNorm",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Embed",
    "EmbeddedBatchNorm",
    "EqualizedConv",
    "EqualizedDense",
    "GaussianNoise",
    "InstanceNorm",
    "LayerNorm",
    "MinibatchDiscrimination",
    "Noise",
    "SelfAttention",
    "SpectralConv",
    "SpectralDense",
    "VirtualBatchNorm",
    "WeightNormConv",
    "WeightNormDense",
    "add_bias",
    "attend",
    "attention_weights",
    "blur",
    "column_sums",
    "conv",
    "conv_pool",
    "conv_transpose",
    "crossfaded",
    "downsample",
    "downsample_filtered",
    "fir_filter",
    "minibatch_std",
    "pixel_norm",
    "pixel_shuffle",
    "pixel_unshuffle",
    "resize_bilinear",
    "rows",
    "spectrally_normalised",
    "upfirdn",
    "upsample",
    "upsample_conv",
    "upsample_filtered",
    "weight_normalised",
]
