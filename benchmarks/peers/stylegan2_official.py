"""StyleGAN2-ADA's networks as functions of the weights in an official file, in PyTorch: from the papers
(Karras et al. 2020, both), with the names, scales and orders that the official ones have.

Everything is done as it is defined and not as it is fast: a kernel for each example, images with zeros
between their pixels, filters as convolutions. What `ganjax.official` makes of a file is compared with it.

A module is anything with `arrays`, by name, `modules` and `attributes`.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def array(module: Any, name: str) -> Tensor:
    return torch.from_numpy(
        np.ascontiguousarray(module.arrays[name], np.float32).reshape(module.arrays[name].shape)
    )


def normalized(x: Tensor) -> Tensor:
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def resampled(
    x: Tensor, filter: Tensor, up: int = 1, down: int = 1, padding: tuple[int, int] = (0, 0)
) -> Tensor:
    """Zeros between pixels, padding on both axes, true convolution with the filter, every `down`-th pixel."""
    n, channels, height, width = x.shape
    x = x.reshape(n, channels, height, 1, width, 1)
    x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(n, channels, height * up, width * up)
    x = F.pad(x, (*padding, *padding))
    kernel = (filter * up**2).flip(0, 1).expand(channels, 1, *filter.shape)
    return F.conv2d(x, kernel, groups=channels)[:, :, ::down, ::down]


def activated(x: Tensor, module: Any, bias: Tensor | None, gain: float = 1.0) -> Tensor:
    """Bias, activation with its gain, and clamping, both of which the gain scales."""
    if bias is not None:
        x = x + bias.reshape(1, -1, *[1] * (x.ndim - 2))
    if module.attributes.get("activation", "linear") == "lrelu":
        x = F.leaky_relu(x, 0.2) * math.sqrt(2)
    clamp = module.attributes.get("conv_clamp")
    x = x * gain
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def dense(module: Any, x: Tensor) -> Tensor:
    scale, multiplier = float(module.attributes["weight_gain"]), module.attributes["bias_gain"]
    x = x @ (array(module, "weight") * scale).T
    return activated(x, module, array(module, "bias") * multiplier)


def conv(module: Any, x: Tensor, gain: float = 1.0) -> Tensor:
    """One of the discriminator's."""
    weight = array(module, "weight")
    weight = weight / math.sqrt(weight[0].numel())
    pad = weight.shape[2] // 2
    if module.attributes["down"] == 2:
        x = resampled(x, array(module, "resample_filter"), padding=(pad + 1, pad + 1))
        x = F.conv2d(x, weight)[:, :, ::2, ::2]
    else:
        x = F.conv2d(x, weight, padding=pad)
    return activated(x, module, array(module, "bias") if "bias" in module.arrays else None, gain)


def modulated(
    x: Tensor, weight: Tensor, styles: Tensor, up: int, filter: Tensor | None, demodulate: bool
) -> Tensor:
    kernels = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    pad = weight.shape[2] // 2
    if up == 2:  # these are convolutions in the strict sense; PyTorch's are correlations
        assert filter is not None
        x, kernels = resampled(x, filter, up=2, padding=(pad + 2, pad + 1)), kernels.flip(3, 4)
        pad = 0
    return torch.cat(
        [F.conv2d(image[None], kernel, padding=pad) for image, kernel in zip(x, kernels, strict=True)]
    )


def synthesis_layer(module: Any, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
    x = modulated(
        x,
        array(module, "weight"),
        dense(module.modules["affine"], style),
        module.attributes["up"],
        array(module, "resample_filter"),
        True,
    )
    if noise is not None:
        x = x + noise * array(module, "noise_strength")
    return activated(x, module, array(module, "bias"))


def to_image(module: Any, x: Tensor, style: Tensor) -> Tensor:
    weight = array(module, "weight")
    styles = dense(module.modules["affine"], style) / math.sqrt(weight[0].numel())
    return activated(modulated(x, weight, styles, 1, None, False), module, array(module, "bias"))


def mapping(module: Any, latents: Tensor | None, labels: Tensor | None) -> Tensor:
    """Labels are one-hot."""
    parts = [] if latents is None else [normalized(latents)]
    if labels is not None:
        parts.append(normalized(dense(module.modules["embed"], labels)))
    x = torch.cat(parts, 1)
    for i in range(sum(name.startswith("fc") for name in module.modules)):
        x = dense(module.modules[f"fc{i}"], x)
    return x


def generator(module: Any, latents: Tensor, labels: Tensor | None, psi: float, noise: str) -> Tensor:
    """[n, Z], one-hot labels [n, classes] -> [n, C, H, W]; `noise` is "const" or "none"."""
    of_mapping = module.modules["mapping"]
    style = mapping(of_mapping, latents, labels)
    mean = array(of_mapping, "w_avg")
    style = mean + psi * (style - mean)
    blocks = module.modules["synthesis"].modules

    def layer(part: Any, x: Tensor) -> Tensor:
        return synthesis_layer(part, x, style, array(part, "noise_const") if noise == "const" else None)

    first = blocks["b4"]
    x = array(first, "const").expand(len(latents), -1, -1, -1)
    x = layer(first.modules["conv1"], x)
    image = to_image(first.modules["torgb"], x, style)
    for level in range(1, len(blocks)):
        block = blocks[f"b{4 << level}"]
        x = layer(block.modules["conv1"], layer(block.modules["conv0"], x))
        image = resampled(image, array(block, "resample_filter"), up=2, padding=(2, 1))
        image = image + to_image(block.modules["torgb"], x, style)
    return image


def minibatch_deviation(x: Tensor, group: int | None) -> Tensor:
    """Groups are of examples that lie apart: of 8 in groups of 4, the first, third, fifth and seventh."""
    n, _, height, width = x.shape
    size = n if group is None else min(group, n)
    y = x.reshape(size, -1, *x.shape[1:])
    y = (y - y.mean(0)).square().mean(0).add(1e-8).sqrt().mean((1, 2, 3))
    return torch.cat([x, y.repeat(size).reshape(n, 1, 1, 1).expand(n, 1, height, width)], 1)


def discriminator(module: Any, image: Tensor, labels: Tensor | None) -> Tensor:
    """[n, C, H, W], one-hot labels -> [n]."""
    architecture = module.modules["b4"].attributes["architecture"]
    x: Any = None
    names = sorted((name for name in module.modules if name.startswith("b")), key=lambda name: -int(name[1:]))
    for name in names[:-1]:
        block = module.modules[name]
        if "fromrgb" in block.modules:
            seen = conv(block.modules["fromrgb"], image)
            x = seen if x is None else x + seen
        if architecture == "skip":
            image = resampled(image, array(block, "resample_filter"), down=2, padding=(1, 1))
        if architecture == "resnet":
            shortcut = conv(block.modules["skip"], x, math.sqrt(0.5))
            x = shortcut + conv(block.modules["conv1"], conv(block.modules["conv0"], x), math.sqrt(0.5))
        else:
            x = conv(block.modules["conv1"], conv(block.modules["conv0"], x))
    last = module.modules["b4"].modules
    if "fromrgb" in last:
        x = x + conv(last["fromrgb"], image)
    x = conv(last["conv"], minibatch_deviation(x, last["mbstd"].attributes["group_size"]))
    x = dense(last["out"], dense(last["fc"], x.flatten(1)))
    if labels is None:
        return x[:, 0]
    of_label = mapping(module.modules["mapping"], None, labels)
    return (x * of_label).sum(1) / math.sqrt(x.shape[1])
