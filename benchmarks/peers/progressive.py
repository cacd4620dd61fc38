"""PGGAN's networks at 32x32 in PyTorch (Karras et al. 2018), without a blend of sizes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.layers import flat_channels, from_channels

LEVELS = 3  # doublings of 4x4


class EqualizedConv2d(nn.Conv2d):
    """3x3 or 1x1 convolution that keeps the size, the weight scaled by He's constant when it is used."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, gain: float = math.sqrt(2)):
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)
        nn.init.normal_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class EqualizedLinear(nn.Linear):
    """Linear map, likewise."""

    def __init__(self, in_features: int, out_features: int, gain: float = math.sqrt(2)):
        super().__init__(in_features, out_features)
        self.scale = gain / math.sqrt(in_features)
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


def pixel_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def minibatch_std(x: Tensor, group: int = 4) -> Tensor:
    size = min(group, len(x))
    groups = x.reshape(-1, size, *x.shape[1:])
    each = (groups.var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3)).repeat_interleave(size)
    channel = each.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], 1)


class ProgressiveGenerator(nn.Module):
    def __init__(self, latent_size: int = 64, width: int = 64, channels: int = 3):
        super().__init__()
        self.width = width
        self.dense = EqualizedLinear(latent_size, 16 * width, math.sqrt(2) / 4)
        self.conv = EqualizedConv2d(width, width)
        for level in range(1, LEVELS + 1):
            self.add_module(f"up_{level}", EqualizedConv2d(width, width))
            self.add_module(f"conv_{level}", EqualizedConv2d(width, width))
        self.add_module(f"image_{LEVELS}", EqualizedConv2d(width, channels, 1, 1.0))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        def after(x: Tensor) -> Tensor:
            return pixel_norm(F.leaky_relu(x, 0.2))

        x = after(from_channels(self.dense(pixel_norm(latents)), 4, 4))
        x = after(self.conv(x))
        for level in range(1, LEVELS + 1):
            x = after(self.get_submodule(f"up_{level}")(F.interpolate(x, scale_factor=2)))
            x = after(self.get_submodule(f"conv_{level}")(x))
        image = self.get_submodule(f"image_{LEVELS}")(x)
        return image if self.training else image.clamp(-1, 1)


class ProgressiveDiscriminator(nn.Module):
    def __init__(self, width: int = 64, channels: int = 3):
        super().__init__()
        self.add_module(f"image_{LEVELS}", EqualizedConv2d(channels, width, 1))
        for level in range(1, LEVELS + 1):
            self.add_module(f"conv_{level}", EqualizedConv2d(width, width))
            self.add_module(f"down_{level}", EqualizedConv2d(width, width))
        self.conv = EqualizedConv2d(width + 1, width)
        self.dense = EqualizedLinear(16 * width, width)
        self.logits = EqualizedLinear(width, 1, 1.0)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = F.leaky_relu(self.get_submodule(f"image_{LEVELS}")(x), 0.2)
        for level in range(LEVELS, 0, -1):
            x = F.leaky_relu(self.get_submodule(f"conv_{level}")(x), 0.2)
            x = F.leaky_relu(F.avg_pool2d(self.get_submodule(f"down_{level}")(x), 2), 0.2)
        x = F.leaky_relu(self.conv(minibatch_std(x)), 0.2)
        x = F.leaky_relu(self.dense(flat_channels(x)), 0.2)
        return self.logits(x).squeeze(1)


def names(module: nn.Module) -> dict[str, str]:
    """Its layers, which are called as in linen."""
    return {name: name for name, _ in module.named_children()}
