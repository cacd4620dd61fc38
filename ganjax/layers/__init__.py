"""The blocks that networks are built of."""

from ganjax.layers.conv import Conv, ConvTranspose, conv_transpose
from ganjax.layers.norm import BatchNorm, ConditionalBatchNorm

__all__ = ["BatchNorm", "ConditionalBatchNorm", "Conv", "ConvTranspose", "conv_transpose"]
