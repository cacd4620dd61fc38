"""DCGAN in PyTorch; the same networks as `ganjax.nets.dcgan`."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.layers import flat_channels, from_channels


class DCGANGenerator(nn.Module):
    def __init__(self, size: int = 64, latent_size: int = 100, width: int = 64, stages: int = 4):
        super().__init__()
        self.small = size >> stages
        widths = [width << stage for stage in reversed(range(stages))]
        self.dense = nn.Linear(latent_size, self.small**2 * widths[0], bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in widths)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
            for before, after in itertools.pairwise(widths)
        )
        self.output = nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1)

    def forward(self, latents: Tensor, labels: None = None) -> Tensor:
        x = from_channels(self.dense(latents), self.small, self.small)
        x = F.relu(self.norms[0](x), inplace=True)
        for up, norm in zip(self.ups, self.norms[1:], strict=True):
            x = F.relu(norm(up(x)), inplace=True)
        return torch.tanh(self.output(x).float())


class DCGANDiscriminator(nn.Module):
    def __init__(self, size: int = 64, width: int = 64, stages: int = 4):
        super().__init__()
        widths = [width << stage for stage in range(stages)]
        self.first = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.downs = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
            for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in widths[1:])
        self.logit = nn.Linear((size >> stages) ** 2 * widths[-1], 1)

    def forward(self, images: Tensor, labels: None = None) -> Tensor:
        x = F.leaky_relu(self.first(images), 0.2, inplace=True)
        for down, norm in zip(self.downs, self.norms, strict=True):
            x = F.leaky_relu(norm(down(x)), 0.2, inplace=True)
        return self.logit(flat_channels(x)).squeeze(1).float()


def names(stages: int = 4) -> tuple[dict[str, str], dict[str, str]]:
    """Of the generator and the discriminator: a module's name here -> in `ganjax.nets.dcgan`."""
    generator = {
        "dense": "Dense_0",
        **{f"norms.{i}": f"BatchNorm_{i}" for i in range(stages)},
        **{f"ups.{i}": f"ConvTranspose_{i}" for i in range(stages - 1)},
        "output": f"ConvTranspose_{stages - 1}",
    }
    discriminator = {
        "first": "Conv_0",
        **{f"downs.{i}": f"Conv_{i + 1}" for i in range(stages - 1)},
        **{f"norms.{i}": f"BatchNorm_{i}" for i in range(stages - 1)},
        "logit": "Dense_0",
    }
    return generator, discriminator
