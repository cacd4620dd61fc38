"""What PyTorch's modules lack for the peers. Images are NCHW tensors in channels-last memory."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def from_channels(x: Tensor, height: int, width: int) -> Tensor:
    """[n, height * width * C] in (height, width, C) order -> [n, C, height, width], without a copy."""
    return x.view(x.shape[0], height, width, -1).permute(0, 3, 1, 2)


def flat_channels(x: Tensor) -> Tensor:
    """[n, C, H, W] -> [n, H * W * C] in (H, W, C) order, without a copy where the memory is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1)


class HalvingConv2d(nn.Conv2d):
    """3x3 convolution of stride 2 that pads below and right only: "SAME" of an even size."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalisation with a scale 1 + gamma and a shift for each class."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gamma = nn.Embedding(num_classes, channels)
        self.shift = nn.Embedding(num_classes, channels)
        nn.init.zeros_(self.gamma.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        gamma, shift = self.gamma(labels)[:, :, None, None], self.shift(labels)[:, :, None, None]
        return torch.addcmul(shift, self.norm(x), 1 + gamma)


class EmbeddedBatchNorm2d(nn.Module):
    """Batch normalisation with a scale 1 + gamma and a shift that are linear in a vector."""

    def __init__(self, channels: int, vector: int, spectral: bool):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        make = SpectralLinear if spectral else nn.Linear
        self.gamma = make(vector, channels, bias=False)
        self.shift = make(vector, channels, bias=False)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        gamma, shift = self.gamma(vector)[:, :, None, None], self.shift(vector)[:, :, None, None]
        return torch.addcmul(shift, self.norm(x), 1 + gamma)


class _Spectral(nn.Module):
    """The vectors of a power iteration, and the weight over its estimated spectral norm.

    Leaner than `torch.nn.utils.parametrizations.spectral_norm`, to the same effect: the weight is taken as a
    matrix in the order of its channels-last memory, so that none is copied, and what autograd keeps are
    not the buffers, so that these may be written without a clone.
    """

    weight: Tensor
    u: Tensor
    v: Tensor

    def add_vectors(self) -> None:
        rows = self.weight.shape[0]
        self.register_buffer("u", F.normalize(torch.randn(rows), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(self.weight[0].numel()), dim=0))

    def normalised_weight(self) -> Tensor:
        weight = self.weight
        matrix = (weight.permute(0, 2, 3, 1) if weight.ndim == 4 else weight).reshape(weight.shape[0], -1)
        u, v = self.u, self.v
        if self.training:
            with torch.no_grad():
                v = F.normalize(torch.mv(matrix.t(), u), dim=0)
                u = F.normalize(torch.mv(matrix, v), dim=0)
                self.u.copy_(u)
                self.v.copy_(v)
        return weight / torch.dot(u, torch.mv(matrix, v))


class SpectralConv2d(nn.Conv2d, _Spectral):
    """Convolution of stride 1 that keeps the size, the weight spectrally normalised."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True):
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.add_vectors()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.normalised_weight(), self.bias, padding=self.padding)


class SpectralLinear(nn.Linear, _Spectral):
    """Linear map, the weight spectrally normalised."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__(in_features, out_features, bias)
        self.add_vectors()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalised_weight(), self.bias)


class SpectralEmbedding(nn.Embedding, _Spectral):
    """Vectors by class, the table spectrally normalised. As a map of one-hot labels it is the transposed
    weight."""

    def __init__(self, num_embeddings: int, embedding_dim: int):
        super().__init__(num_embeddings, embedding_dim)
        self.register_buffer("u", F.normalize(torch.randn(embedding_dim), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(num_embeddings), dim=0))

    def forward(self, labels: Tensor) -> Tensor:
        u, v = self.u, self.v
        if self.training:
            with torch.no_grad():
                v = F.normalize(torch.mv(self.weight, u), dim=0)
                u = F.normalize(torch.mv(self.weight.t(), v), dim=0)
                self.u.copy_(u)
                self.v.copy_(v)
        return F.embedding(labels, self.weight / torch.dot(v, torch.mv(self.weight, u)))
