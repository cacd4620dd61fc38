"""The compact conditional GAN in PyTorch; the same networks as `ganjax.nets.conditional`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.layers import ConditionalBatchNorm2d, flat_channels, from_channels


class ConditionalGenerator(nn.Module):
    def __init__(self, size: int = 28, num_classes: int = 10, latent_size: int = 64, width: int = 48):
        super().__init__()
        self.small = size // 4
        self.label_embedding = nn.Embedding(num_classes, 50)
        self.dense = nn.Linear(latent_size + 50, self.small**2 * 2 * width, bias=False)
        self.norm_0 = ConditionalBatchNorm2d(2 * width, num_classes)
        self.up_0 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False)
        self.norm_1 = ConditionalBatchNorm2d(width, num_classes)
        self.up_1 = nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        x = self.dense(torch.cat([latents, self.label_embedding(labels)], dim=1))
        x = from_channels(x, self.small, self.small)
        x = F.relu(self.norm_0(x, labels), inplace=True)
        x = F.relu(self.norm_1(self.up_0(x), labels), inplace=True)
        return torch.tanh(self.up_1(x).float())


class ConditionalDiscriminator(nn.Module):
    def __init__(self, size: int = 28, num_classes: int = 10, width: int = 48):
        super().__init__()
        self.down_0 = nn.Conv2d(1, width, 4, stride=2, padding=1)
        self.down_1 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        features = (size // 4) ** 2 * 2 * width
        self.logit = nn.Linear(features, 1)
        self.label_features = nn.Embedding(num_classes, features)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = F.leaky_relu(self.down_0(images), 0.2, inplace=True)
        x = F.leaky_relu(self.down_1(x), 0.2, inplace=True)
        x = flat_channels(x).float()
        return self.logit(x).squeeze(1).float() + (self.label_features(labels) * x).sum(1)


# A module's name here -> in `ganjax.nets.conditional`.
GENERATOR_NAMES = {
    "label_embedding": "label_embedding",
    "dense": "Dense_0",
    "norm_0": "ConditionalBatchNorm_0",
    "norm_1": "ConditionalBatchNorm_1",
    "up_0": "ConvTranspose_0",
    "up_1": "ConvTranspose_1",
}
DISCRIMINATOR_NAMES = {
    "down_0": "Conv_0",
    "down_1": "Conv_1",
    "logit": "Dense_0",
    "label_features": "Embed_0",
}
