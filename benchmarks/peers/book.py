"""The textbooks' conditional GAN in PyTorch; the same networks as `ganjax.nets.book`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.layers import HalvingConv2d, flat_channels, from_channels


class BookGenerator(nn.Module):
    def __init__(self, size: int = 28, num_classes: int = 10, latent_size: int = 100, width: int = 128):
        super().__init__()
        self.small = size // 4
        self.label_embedding = nn.Embedding(num_classes, 50)
        self.label_channel = nn.Linear(50, self.small**2)
        self.latent_channels = nn.Linear(latent_size, self.small**2 * width)
        self.up_0 = nn.ConvTranspose2d(width + 1, width, 4, stride=2, padding=1)
        self.up_1 = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)
        self.output = nn.Conv2d(width, 1, 7, padding=3)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        label = from_channels(self.label_channel(self.label_embedding(labels)), self.small, self.small)
        x = F.leaky_relu(self.latent_channels(latents), 0.2, inplace=True)
        x = torch.cat([from_channels(x, self.small, self.small), label], dim=1)
        x = F.leaky_relu(self.up_0(x), 0.2, inplace=True)
        x = F.leaky_relu(self.up_1(x), 0.2, inplace=True)
        return torch.tanh(self.output(x).float())


class BookDiscriminator(nn.Module):
    def __init__(self, size: int = 28, num_classes: int = 10, width: int = 128):
        super().__init__()
        self.size = size
        self.label_embedding = nn.Embedding(num_classes, 50)
        self.label_channel = nn.Linear(50, size**2)
        self.down_0 = HalvingConv2d(2, width)
        self.down_1 = HalvingConv2d(width, width)
        self.logit = nn.Linear((size // 4) ** 2 * width, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        label = from_channels(self.label_channel(self.label_embedding(labels)), self.size, self.size)
        x = torch.cat([images, label], dim=1)
        x = F.leaky_relu(self.down_0(x), 0.2, inplace=True)
        x = F.leaky_relu(self.down_1(x), 0.2, inplace=True)
        return self.logit(flat_channels(x)).squeeze(1).float()


# A module's name here -> in `ganjax.nets.book`.
GENERATOR_NAMES = {
    "label_embedding": "label_embedding",
    "label_channel": "label_channel",
    "latent_channels": "latent_channels",
    "up_0": "ConvTranspose_0",
    "up_1": "ConvTranspose_1",
    "output": "Conv_0",
}
DISCRIMINATOR_NAMES = {
    "label_embedding": "label_embedding",
    "label_channel": "label_channel",
    "down_0": "Conv_0",
    "down_1": "Conv_1",
    "logit": "Dense_0",
}
