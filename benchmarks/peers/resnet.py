"""SNGAN's residual networks in PyTorch; the same networks as `ganjax.nets.resnet`.

Shortcuts run their 1x1 convolution on the smaller size here too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.layers import SpectralConv2d, SpectralLinear, from_channels


class UpBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm_0 = nn.BatchNorm2d(width)
        self.conv_0 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm_1 = nn.BatchNorm2d(width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm_0(x), inplace=True)
        y = self.conv_0(F.interpolate(y, scale_factor=2.0, mode="nearest"))
        y = self.conv_1(F.relu(self.norm_1(y), inplace=True))
        return y + F.interpolate(self.shortcut(x), scale_factor=2.0, mode="nearest")


class DownBlock(nn.Module):
    def __init__(self, channels: int, width: int, first: bool):
        super().__init__()
        self.first = first
        self.conv_0 = SpectralConv2d(channels, width, 3)
        self.conv_1 = SpectralConv2d(width, width, 3)
        self.shortcut = SpectralConv2d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_0(x if self.first else F.relu(x))
        y = self.conv_1(F.relu(y, inplace=True))
        return F.avg_pool2d(y, 2) + self.shortcut(F.avg_pool2d(x, 2))


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv_0 = SpectralConv2d(width, width, 3)
        self.conv_1 = SpectralConv2d(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_1(F.relu(self.conv_0(F.relu(x)), inplace=True))


class ResNetGenerator(nn.Module):
    def __init__(self, size: int = 32, latent_size: int = 128, width: int = 256, stages: int = 3):
        super().__init__()
        self.small = size >> stages
        self.dense = nn.Linear(latent_size, self.small**2 * width)
        self.blocks = nn.ModuleList(UpBlock(width) for _ in range(stages))
        self.norm = nn.BatchNorm2d(width)
        self.output = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, latents: Tensor, labels: None = None) -> Tensor:
        x = from_channels(self.dense(latents), self.small, self.small)
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.output(F.relu(self.norm(x), inplace=True)).float())


class ResNetDiscriminator(nn.Module):
    def __init__(self, width: int = 128, stages: int = 2):
        super().__init__()
        self.downs = nn.ModuleList(
            DownBlock(3 if stage == 0 else width, width, first=stage == 0) for stage in range(stages)
        )
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.logit = SpectralLinear(width, 1)

    def forward(self, images: Tensor, labels: None = None) -> Tensor:
        x = images
        for block in [*self.downs, *self.blocks]:
            x = block(x)
        return self.logit(F.relu(x).float().sum((2, 3))).squeeze(1).float()


def names(stages_up: int = 3, stages_down: int = 2) -> tuple[dict[str, str], dict[str, str]]:
    """Of the generator and the discriminator: a module's name here -> in `ganjax.nets.resnet`."""
    up = {
        "norm_0": "BatchNorm_0",
        "conv_0": "UpsampleConv_0",
        "norm_1": "BatchNorm_1",
        "conv_1": "Conv_0",
        "shortcut": "shortcut",
    }
    down = {"conv_0": "SpectralConv_0", "conv_1": "SpectralConvPool_0", "shortcut": "shortcut"}
    flat = {"conv_0": "SpectralConv_0", "conv_1": "SpectralConv_1"}
    generator = {"dense": "Dense_0", "norm": "BatchNorm_0", "output": "Conv_0"}
    discriminator = {"logit": "SpectralDense_0"}
    for target, parts, here, there, count in (
        (generator, up, "blocks", "UpBlock", stages_up),
        (discriminator, down, "downs", "DownBlock", stages_down),
        (discriminator, flat, "blocks", "Block", 2),
    ):
        for i in range(count):
            target.update({f"{here}.{i}.{a}": f"{there}_{i}/{b}" for a, b in parts.items()})
    return generator, discriminator
