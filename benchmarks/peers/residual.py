"""Conditional SNGAN, SAGAN, BigGAN and BigGAN-deep in PyTorch, from the papers; the same networks as
`ganjax.nets.residual`, with the same names.

Shortcuts run their 1x1 convolution on the smaller size here too. The plans are written out again, and not
imported: width multiples from the tables of Miyato et al. 2018, Zhang et al. 2019 and Brock et al. 2019.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.layers import (
    ConditionalBatchNorm2d,
    EmbeddedBatchNorm2d,
    SpectralConv2d,
    SpectralEmbedding,
    SpectralLinear,
    from_channels,
)

# By the images' side: the smallest maps' side; the generator's channels, in multiples of the width; the
# discriminator's; how many of its blocks halve the side.
PLANS: dict[int, tuple[int, Sequence[int], Sequence[int], int]] = {
    28: (7, (2, 2, 1), (1, 2, 2), 2),
    32: (4, (4, 4, 4, 4), (4, 4, 4, 4), 2),
    64: (4, (16, 16, 8, 4, 2), (1, 2, 4, 8, 16), 4),
    128: (4, (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),
}


def conv(spectral: bool, channels: int, features: int, size: int = 3, bias: bool = True) -> nn.Conv2d:
    if spectral:
        return SpectralConv2d(channels, features, size, bias)
    return nn.Conv2d(channels, features, size, padding=size // 2, bias=bias)


def linear(spectral: bool, features: int, outputs: int) -> nn.Linear:
    return SpectralLinear(features, outputs) if spectral else nn.Linear(features, outputs)


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class SelfAttention(nn.Module):
    def __init__(self, channels: int, spectral: bool = True):
        super().__init__()
        narrow, wide = max(channels // 8, 1), max(channels // 2, 1)
        self.theta = conv(spectral, channels, narrow, 1, bias=False)
        self.phi = conv(spectral, channels, narrow, 1, bias=False)
        self.g = conv(spectral, channels, wide, 1, bias=False)
        self.output = conv(spectral, wide, channels, 1, bias=False)
        self.share = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        queries = self.theta(x).flatten(2)
        keys = F.max_pool2d(self.phi(x), 2).flatten(2)
        values = F.max_pool2d(self.g(x), 2).flatten(2)
        weights = torch.softmax((queries.transpose(1, 2) @ keys).float(), dim=-1)
        y = values @ weights.transpose(1, 2).to(values.dtype)
        return x + self.share * self.output(y.view(len(x), -1, *x.shape[2:]))


class Norms(nn.Module):
    """What a block's norms are made of: a table for each class, or maps from a vector."""

    def __init__(self, num_classes: int, vector: int, spectral: bool):
        super().__init__()
        self.num_classes, self.vector, self.spectral = num_classes, vector, spectral

    def make(self, channels: int) -> nn.Module:
        if self.vector:
            return EmbeddedBatchNorm2d(channels, self.vector, self.spectral)
        return ConditionalBatchNorm2d(channels, self.num_classes)


class UpBlock(nn.Module):
    def __init__(self, channels: int, features: int, norms: Norms, spectral: bool):
        super().__init__()
        self.norm_0 = norms.make(channels)
        self.conv_0 = conv(spectral, channels, features, bias=False)
        self.norm_1 = norms.make(features)
        self.conv_1 = conv(spectral, features, features)
        self.shortcut = conv(spectral, channels, features, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv_0(doubled(F.relu(self.norm_0(x, condition), inplace=True)))
        y = self.conv_1(F.relu(self.norm_1(y, condition), inplace=True))
        return y + doubled(self.shortcut(x))


class DeepUpBlock(nn.Module):
    def __init__(self, channels: int, features: int, norms: Norms, spectral: bool, up: bool):
        super().__init__()
        self.features, self.up = features, up
        hidden = max(channels // 4, 1)
        self.norm_0, self.conv_0 = norms.make(channels), conv(spectral, channels, hidden, 1, bias=False)
        self.norm_1, self.conv_1 = norms.make(hidden), conv(spectral, hidden, hidden, bias=False)
        self.norm_2, self.conv_2 = norms.make(hidden), conv(spectral, hidden, hidden, bias=False)
        self.norm_3, self.conv_3 = norms.make(hidden), conv(spectral, hidden, features, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv_0(F.relu(self.norm_0(x, condition), inplace=True))
        y = F.relu(self.norm_1(y, condition), inplace=True)
        y = self.conv_1(doubled(y) if self.up else y)
        y = self.conv_2(F.relu(self.norm_2(y, condition), inplace=True))
        y = self.conv_3(F.relu(self.norm_3(y, condition), inplace=True))
        x = x[:, : self.features]
        return y + (doubled(x) if self.up else x)


class DownBlock(nn.Module):
    def __init__(self, channels: int, features: int, first: bool, down: bool, spectral: bool):
        super().__init__()
        self.first, self.down = first, down
        self.conv_0 = conv(spectral, channels, features)
        self.conv_1 = conv(spectral, features, features)
        self.shortcut = conv(spectral, channels, features, 1) if down or channels != features else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_1(F.relu(self.conv_0(x if self.first else F.relu(x)), inplace=True))
        if self.down:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        return y + (x if self.shortcut is None else self.shortcut(x))


class DeepDownBlock(nn.Module):
    def __init__(self, channels: int, features: int, down: bool, spectral: bool):
        super().__init__()
        self.down = down
        hidden = max(features // 4, 1)
        self.conv_0 = conv(spectral, channels, hidden, 1)
        self.conv_1 = conv(spectral, hidden, hidden)
        self.conv_2 = conv(spectral, hidden, hidden)
        self.conv_3 = conv(spectral, hidden, features, 1)
        more = features - channels
        self.shortcut = conv(spectral, channels, more, 1) if more else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_0(F.relu(x))
        y = self.conv_1(F.relu(y, inplace=True))
        y = F.relu(self.conv_2(F.relu(y, inplace=True)), inplace=True)
        if self.down:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        if self.shortcut is not None:
            x = torch.cat([x, self.shortcut(x)], dim=1)
        return self.conv_3(y) + x


class ResidualGenerator(nn.Module):
    """Without `embedding` SNGAN's and SAGAN's; with it BigGAN's, and with `deep` BigGAN-deep's."""

    def __init__(
        self,
        size: int,
        num_classes: int,
        latent_size: int,
        width: int,
        channels: int = 3,
        embedding: int = 0,
        attention: int = 0,
        deep: bool = False,
        spectral: bool = True,
    ):
        super().__init__()
        self.base, multiples, _, _ = PLANS[size]
        self.deep, self.attended, self.parts = deep, attention, len(multiples)
        self.label_embedding = nn.Embedding(num_classes, embedding) if embedding else None
        whole = deep or not embedding
        first = latent_size if whole else latent_size // self.parts
        vector = embedding + first if embedding else 0
        norms = Norms(num_classes, vector, spectral)
        widths = [multiple * width for multiple in multiples]
        self.dense = linear(spectral, vector if deep and embedding else first, self.base**2 * widths[0])
        for i, features in enumerate(widths[1:]):
            before = widths[i]
            if deep:
                self.add_module(f"flat_{i}", DeepUpBlock(before, before, norms, spectral, up=False))
                self.add_module(f"up_{i}", DeepUpBlock(before, features, norms, spectral, up=True))
            else:
                self.add_module(f"up_{i}", UpBlock(before, features, norms, spectral))
            if self.base << (i + 1) == attention:
                self.attention = SelfAttention(features, spectral)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.output = conv(spectral, widths[-1], channels)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        if self.label_embedding is None:
            first, conditions = latents, [labels] * (self.parts - 1)
        elif self.deep:
            first = torch.cat([latents, self.label_embedding(labels)], dim=1)
            conditions = [first] * (self.parts - 1)
        else:
            vector = self.label_embedding(labels)
            first, *rest = latents.chunk(self.parts, dim=1)
            conditions = [torch.cat([part, vector], dim=1) for part in rest]
        x = from_channels(self.dense(first), self.base, self.base)
        for i, condition in enumerate(conditions):
            if self.deep:
                x = self.get_submodule(f"flat_{i}")(x, condition)
            x = self.get_submodule(f"up_{i}")(x, condition)
            if x.shape[2] == self.attended:
                x = self.attention(x)
        return torch.tanh(self.output(F.relu(self.norm(x), inplace=True)).float())


class ResidualDiscriminator(nn.Module):
    """With a projection of the label."""

    def __init__(
        self,
        size: int,
        num_classes: int,
        width: int,
        channels: int = 3,
        attention: int = 0,
        deep: bool = False,
        spectral: bool = True,
    ):
        super().__init__()
        _, _, multiples, halvings = PLANS[size]
        widths = [multiple * width for multiple in multiples]
        self.deep, self.attended, self.blocks = deep, attention, len(widths) - deep
        before = channels
        if deep:
            self.input = conv(spectral, channels, widths[0])
            before, *widths = widths
        for i, features in enumerate(widths):
            down = i < halvings
            if deep:
                self.add_module(f"down_{i}", DeepDownBlock(before, features, down, spectral))
                self.add_module(f"flat_{i}", DeepDownBlock(features, features, False, spectral))
            else:
                self.add_module(f"down_{i}", DownBlock(before, features, i == 0, down, spectral))
            if down and size >> (i + 1) == attention:
                self.attention = SelfAttention(features, spectral)
            before = features
        self.logit = linear(spectral, before, 1)
        self.label_features = (SpectralEmbedding if spectral else nn.Embedding)(num_classes, before)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = self.input(images) if self.deep else images
        for i in range(self.blocks):
            before = x.shape[2]
            x = self.get_submodule(f"down_{i}")(x)
            if x.shape[2] == self.attended and before != self.attended:
                x = self.attention(x)
            if self.deep:
                x = self.get_submodule(f"flat_{i}")(x)
        x = F.relu(x).float().sum((2, 3))
        return self.logit(x).squeeze(1).float() + (self.label_features(labels).float() * x).sum(1)


def names(module: nn.Module) -> dict[str, str]:
    """A module's name here -> in `ganjax.nets.residual`, of all that have parameters or statistics."""
    found = {}
    for name, part in module.named_modules():
        if list(part.parameters(recurse=False)) or list(part.buffers(recurse=False)):
            head, _, last = name.rpartition(".")
            found[name] = (
                f"{head}/BatchNorm_0".replace(".", "/") if head and last == "norm" else name.replace(".", "/")
            )
    return found
