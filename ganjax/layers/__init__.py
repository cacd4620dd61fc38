"""The blocks that networks are built of."""

from ganjax.layers.conv import Conv, ConvTranspose, conv_transpose
from ganjax.layers.norm import BatchNorm

__all__ = ["BatchNorm", "Conv", "ConvTranspose", "conv_transpose"]
