"""PGGAN's and StyleGAN's networks in PyTorch (Karras et al. 2018, 2019), without a blend of sizes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.layers import flat_channels, from_channels

LEVELS = 3  # doublings of 4x4: images of 32x32
WIDTHS = (64,) * (LEVELS + 1)


class EqualizedConv2d(nn.Conv2d):
    """3x3 or 1x1 convolution that keeps the size, the weight scaled by He's constant when it is used."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        gain: float = math.sqrt(2),
        bias: bool = True,
    ):
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class EqualizedLinear(nn.Linear):
    """Linear map, likewise; parameters are 1 / multiplier as large."""

    def __init__(
        self, in_features: int, out_features: int, gain: float = math.sqrt(2), multiplier: float = 1.0
    ):
        super().__init__(in_features, out_features)
        self.scale, self.multiplier = gain * multiplier / math.sqrt(in_features), multiplier
        nn.init.normal_(self.weight, std=1 / multiplier)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias if self.multiplier == 1.0 else self.bias * self.multiplier
        return F.linear(x, self.weight * self.scale, bias)


class Blur(nn.Module):
    """[1, 2, 1] along both axes, as a convolution of each channel by itself."""

    taps: Tensor

    def __init__(self, channels: int):
        super().__init__()
        taps = torch.tensor([0.25, 0.5, 0.25])
        taps = torch.outer(taps, taps).expand(channels, 1, 3, 3).contiguous()
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.taps, padding=1, groups=x.shape[1])


def pixel_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def minibatch_std(x: Tensor, group: int = 4) -> Tensor:
    size = min(group, len(x))
    groups = x.reshape(-1, size, *x.shape[1:])
    each = (groups.var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3)).repeat_interleave(size)
    channel = each.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], 1)


class ProgressiveGenerator(nn.Module):
    """`widths`: channels of each level, from 4x4 on."""

    def __init__(self, latent_size: int = 64, widths: Sequence[int] = WIDTHS, channels: int = 3):
        super().__init__()
        self.levels = len(widths) - 1
        self.dense = EqualizedLinear(latent_size, 16 * widths[0], math.sqrt(2) / 4)
        self.conv = EqualizedConv2d(widths[0], widths[0])
        for level in range(1, self.levels + 1):
            self.add_module(f"up_{level}", EqualizedConv2d(widths[level - 1], widths[level]))
            self.add_module(f"conv_{level}", EqualizedConv2d(widths[level], widths[level]))
        self.add_module(f"image_{self.levels}", EqualizedConv2d(widths[-1], channels, 1, 1.0))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        def after(x: Tensor) -> Tensor:
            return pixel_norm(F.leaky_relu(x, 0.2))

        x = after(from_channels(self.dense(pixel_norm(latents)), 4, 4))
        x = after(self.conv(x))
        for level in range(1, self.levels + 1):
            x = after(self.get_submodule(f"up_{level}")(F.interpolate(x, scale_factor=2)))
            x = after(self.get_submodule(f"conv_{level}")(x))
        image = self.get_submodule(f"image_{self.levels}")(x)
        return image if self.training else image.clamp(-1, 1)


class ProgressiveDiscriminator(nn.Module):
    """PGGAN's; `blurred`, StyleGAN's. `widths` as the generator's."""

    def __init__(self, widths: Sequence[int] = WIDTHS, channels: int = 3, blurred: bool = False):
        super().__init__()
        self.levels = len(widths) - 1
        self.add_module(f"image_{self.levels}", EqualizedConv2d(channels, widths[-1], 1))
        for level in range(1, self.levels + 1):
            self.add_module(f"conv_{level}", EqualizedConv2d(widths[level], widths[level]))
            self.add_module(f"blur_{level}", Blur(widths[level]) if blurred else nn.Identity())
            self.add_module(f"down_{level}", EqualizedConv2d(widths[level], widths[level - 1]))
        self.conv = EqualizedConv2d(widths[0] + 1, widths[0])
        self.dense = EqualizedLinear(16 * widths[0], widths[0])
        self.logits = EqualizedLinear(widths[0], 1, 1.0)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = F.leaky_relu(self.get_submodule(f"image_{self.levels}")(x), 0.2)
        for level in range(self.levels, 0, -1):
            x = F.leaky_relu(self.get_submodule(f"conv_{level}")(x), 0.2)
            x = self.get_submodule(f"blur_{level}")(x)
            x = F.leaky_relu(F.avg_pool2d(self.get_submodule(f"down_{level}")(x), 2), 0.2)
        x = F.leaky_relu(self.conv(minibatch_std(x)), 0.2)
        x = F.leaky_relu(self.dense(flat_channels(x)), 0.2)
        return self.logits(x).squeeze(1)


class Weight(nn.Module):
    """Parameters without a layer."""

    def __init__(self, *shape: int, value: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, value))


class AdaIN(nn.Module):
    """Each channel of an example normalised over its pixels; scale and shift are linear in a style."""

    def __init__(self, channels: int, style_size: int):
        super().__init__()
        self.style = EqualizedLinear(style_size, 2 * channels, 1.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.style(style)[:, :, None, None].chunk(2, 1)
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        scale = (1 + scale) * torch.rsqrt(variance + 1e-8)
        return torch.addcmul(shift - mean * scale, x, scale)


class Styled(NamedTuple):
    """What a `StyleGenerator` draws: noise [n, 1, H, W] a layer, and styles' other latents, from which on."""

    noise: list[Tensor]
    others: Tensor
    first: Tensor


class StyleGenerator(nn.Module):
    mean: Tensor

    def __init__(
        self,
        latent_size: int = 64,
        width: int = 64,
        channels: int = 3,
        style_size: int = 64,
        mapping_layers: int = 8,
        multiplier: float = 0.01,
        mixing: float = 0.9,
        levels: int = LEVELS,
    ):
        super().__init__()
        self.levels, self.mixing, self.mapping_layers = levels, mixing, mapping_layers
        for i in range(mapping_layers):
            size = style_size if i else latent_size
            self.add_module(f"dense_{i}", EqualizedLinear(size, style_size, multiplier=multiplier))
        self.constant = Weight(4, 4, width, value=1.0)
        for level in range(levels + 1):
            if level:
                self.add_module(f"up_{level}", EqualizedConv2d(width, width, bias=False))
            name = f"conv_{level}" if level else "conv"
            self.add_module(name, EqualizedConv2d(width, width, bias=False))
        for number in range(2 * (levels + 1)):
            self.add_module(f"noise_{number}", Weight(width))
            self.add_module(f"bias_{number}", Weight(width))
            self.add_module(f"adain_{number}", AdaIN(width, style_size))
        self.blur = Blur(width)
        self.add_module(f"image_{levels}", EqualizedConv2d(width, channels, 1, 1.0))
        self.register_buffer("mean", torch.zeros(style_size))

    def mapping(self, latents: Tensor) -> Tensor:
        x = pixel_norm(latents)
        for i in range(self.mapping_layers):
            x = F.leaky_relu(self.get_submodule(f"dense_{i}")(x), 0.2)
        return x

    def draw(self, latents: Tensor) -> Styled:
        n, layers = len(latents), 2 * (self.levels + 1)
        shapes = [(n, 1, 4 << number // 2, 4 << number // 2) for number in range(layers)]
        noise = [torch.randn(shape, device=latents.device) for shape in shapes]
        first = torch.randint(1, layers, (n, 1), device=latents.device)
        does = torch.rand((n, 1), device=latents.device) < self.mixing
        return Styled(noise, torch.randn_like(latents), torch.where(does, first, layers))

    def forward(self, latents: Tensor, labels: Tensor | None = None, drawn: Styled | None = None) -> Tensor:
        """In training with mixed styles; noise is as it is drawn, or given."""
        drawn = drawn or self.draw(latents)
        style = self.mapping(latents)
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(style.mean(0), 0.005)
            others = self.mapping(drawn.others)

        def after(x: Tensor, number: int) -> Tensor:
            strength, bias = (
                self.get_parameter(f"{name}_{number}.weight").view(1, -1, 1, 1) for name in ("noise", "bias")
            )
            x = F.leaky_relu(torch.addcmul(x, drawn.noise[number], strength) + bias, 0.2)
            own = torch.where(number < drawn.first, style, others) if self.training else style
            return self.get_submodule(f"adain_{number}")(x, own)

        constant = self.constant.weight.permute(2, 0, 1).expand(len(latents), -1, -1, -1)
        x = after(constant.contiguous(memory_format=torch.channels_last), 0)
        x = after(self.get_submodule("conv")(x), 1)
        for level in range(1, self.levels + 1):
            x = self.get_submodule(f"up_{level}")(F.interpolate(x, scale_factor=2))
            x = after(self.blur(x), 2 * level)
            x = after(self.get_submodule(f"conv_{level}")(x), 2 * level + 1)
        image = self.get_submodule(f"image_{self.levels}")(x)
        return image if self.training else image.clamp(-1, 1)


def names(module: nn.Module) -> dict[str, str]:
    """Its layers, which are called as in linen, but for those of the mapping and of `AdaIN`."""
    found = {}
    for name, layer in module.named_children():
        if isinstance(layer, AdaIN):
            found[f"{name}.style"] = f"{name}/style"
        elif isinstance(layer, Blur | nn.Identity):
            continue
        elif isinstance(module, StyleGenerator) and isinstance(layer, EqualizedLinear):
            found[name] = f"mapping/{name}"
        else:
            found[name] = name
    return found
