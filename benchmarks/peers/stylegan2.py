"""StyleGAN2's networks at 32x32 in PyTorch (Karras et al. 2020), from plain operations.

As ganjax does, it scales images by styles, so that no convolution has a kernel for each example; filters are
depthwise convolutions.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.layers import flat_channels
from benchmarks.peers.progressive import LEVELS, minibatch_std

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


class Filter(nn.Module):
    """[1, 3, 3, 1] along both axes, of each channel by itself."""

    taps: Tensor

    def __init__(self, channels: int, gain: float = 1.0):
        super().__init__()
        self.channels = channels
        taps = gain * torch.outer(TAPS, TAPS).expand(channels, 1, 4, 4)
        self.register_buffer("taps", taps.contiguous(), persistent=False)

    def forward(self, x: Tensor, padding: int, stride: int = 1) -> Tensor:
        return F.conv2d(x, self.taps.to(x.dtype), padding=padding, stride=stride, groups=self.channels)

    def enlarged(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.taps.to(x.dtype), stride=2, padding=1, groups=self.channels)


class EqualizedLinear(nn.Linear):
    """Linear map, the weight scaled by 1 / sqrt(fan in) when it is used."""

    def __init__(self, in_features: int, out_features: int, gain: float = 1.0, multiplier: float = 1.0):
        super().__init__(in_features, out_features)
        self.multiplier, self.scale = multiplier, gain * multiplier / math.sqrt(in_features)
        nn.init.normal_(self.weight, std=1 / multiplier)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.multiplier)


class FilteredConv2d(nn.Conv2d):
    """Convolution, likewise; "down" filters before it and takes every second pixel."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, down: bool = False, bias: bool = True
    ):
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)
        self.scale, self.down = 1 / math.sqrt(in_channels * kernel_size**2), down
        self.filter = Filter(in_channels) if down else None
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        weight, size = self.weight * self.scale, self.weight.shape[2]
        if self.filter is None:
            return F.conv2d(x, weight, self.bias, padding=size // 2)
        if size == 1:
            return F.conv2d(self.filter(x, padding=1, stride=2), weight, self.bias)
        return F.conv2d(self.filter(x, padding=2), weight, self.bias, stride=2)


class ModulatedConv2d(nn.Module):
    """Modulated by a style, with noise; "up" doubles the sides and filters after it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style_size: int,
        kernel_size: int = 3,
        up: bool = False,
        image: bool = False,
    ):
        super().__init__()
        self.style = EqualizedLinear(style_size, in_channels)
        nn.init.ones_(self.style.bias)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale, self.image = 1 / math.sqrt(in_channels * kernel_size**2), image
        if not image:
            self.strength = nn.Parameter(torch.zeros(()))
        self.filter = Filter(out_channels, 4.0) if up else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scales, weight = self.style(style), self.weight * self.scale
        x = x * scales[:, :, None, None].to(x.dtype)
        if self.filter is None:
            x = F.conv2d(x, weight, padding=weight.shape[2] // 2)
        else:
            x = F.conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=2)
            x = self.filter(x, padding=1)
        if not self.image:
            norm = torch.rsqrt(scales.square() @ weight.square().sum((2, 3)).T + 1e-8)
            x = x * norm[:, :, None, None].to(x.dtype)
            if self.training:
                x = x + self.strength * torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return x + self.bias[:, None, None]


class Mapping(nn.Module):
    def __init__(self, latent_size: int, style_size: int, layers: int):
        super().__init__()
        self.layers = layers
        for i in range(layers):
            size = style_size if i else latent_size
            self.add_module(f"dense_{i}", EqualizedLinear(size, style_size, math.sqrt(2), 0.01))

    def forward(self, latents: Tensor) -> Tensor:
        x = latents * torch.rsqrt(latents.square().mean(1, keepdim=True) + 1e-8)
        for i in range(self.layers):
            x = F.leaky_relu(self.get_submodule(f"dense_{i}")(x), 0.2)
        return x


class Synthesis(nn.Module):
    def __init__(self, style_size: int, width: int, channels: int, levels: int):
        super().__init__()
        self.levels = levels
        self.constant = nn.Parameter(torch.randn(4, 4, width))
        self.conv = ModulatedConv2d(width, width, style_size)
        self.image_0 = ModulatedConv2d(width, channels, style_size, 1, image=True)
        for level in range(1, levels + 1):
            self.add_module(f"up_{level}", ModulatedConv2d(width, width, style_size, up=True))
            self.add_module(f"conv_{level}", ModulatedConv2d(width, width, style_size))
            self.add_module(f"image_{level}", ModulatedConv2d(width, channels, style_size, 1, image=True))
        self.filter = Filter(channels, 4.0)

    def forward(self, style: Tensor) -> Tensor:
        x = self.constant.permute(2, 0, 1).expand(len(style), -1, -1, -1)
        x = activated(self.conv(x, style))
        image = self.image_0(x, style)
        for level in range(1, self.levels + 1):
            x = activated(self.get_submodule(f"up_{level}")(x, style))
            x = activated(self.get_submodule(f"conv_{level}")(x, style))
            image = self.filter.enlarged(image) + self.get_submodule(f"image_{level}")(x, style)
        return image


class StyleGAN2Generator(nn.Module):
    def __init__(
        self,
        latent_size: int = 64,
        style_size: int = 64,
        width: int = 64,
        channels: int = 3,
        mapping_layers: int = 2,
        mean_decay: float = 0.995,
        levels: int = LEVELS,
    ):
        super().__init__()
        self.mapping = Mapping(latent_size, style_size, mapping_layers)
        self.synthesis = Synthesis(style_size, width, channels, levels)
        self.mean_decay = mean_decay
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(style_size))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        style = self.mapping(latents)
        if self.training:
            self.mean.lerp_(style.detach().mean(0), 1 - self.mean_decay)
        image = self.synthesis(style)
        return image if self.training else image.clamp(-1, 1)


class StyleGAN2Discriminator(nn.Module):
    def __init__(self, width: int = 64, channels: int = 3, levels: int = LEVELS):
        super().__init__()
        self.levels = levels
        self.image = FilteredConv2d(channels, width, 1)
        for level in range(1, levels + 1):
            self.add_module(f"conv_{level}", FilteredConv2d(width, width))
            self.add_module(f"down_{level}", FilteredConv2d(width, width, down=True))
            self.add_module(f"skip_{level}", FilteredConv2d(width, width, 1, down=True, bias=False))
        self.conv = FilteredConv2d(width + 1, width)
        self.dense = EqualizedLinear(16 * width, width)
        self.logits = EqualizedLinear(width, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = activated(self.image(x))
        for level in range(self.levels, 0, -1):
            y = activated(self.get_submodule(f"conv_{level}")(x))
            y = activated(self.get_submodule(f"down_{level}")(y))
            x = (y + self.get_submodule(f"skip_{level}")(x)) * math.sqrt(0.5)
        x = activated(self.conv(minibatch_std(x)))
        x = activated(self.dense(flat_channels(x)))
        return self.logits(x).squeeze(1)


def names(module: nn.Module) -> dict[str, str]:
    """Its layers, which are called as in linen."""
    layers = (EqualizedLinear, FilteredConv2d, ModulatedConv2d, Synthesis)
    return {name: name.replace(".", "/") for name, part in module.named_modules() if isinstance(part, layers)}
