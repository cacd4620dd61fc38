"""Weights from a linen network into its PyTorch peer, so that the two can be compared."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.peers.layers import (
    ConditionalBatchNorm2d,
    SpectralConv2d,
    SpectralEmbedding,
    SpectralLinear,
)

Tree = Mapping[str, Any]


def copy_weights(module: nn.Module, names: Mapping[str, str], params: Tree, stats: Tree) -> None:
    """Fills the parameters and buffers of `module` from a linen network's variables.

    Args:
      module: the peer.
      names: submodule -> path in the linen tree, with slashes.
      params: the linen `params`.
      stats: the other linen collections, by name.
    Raises:
      ValueError: a parameter of one of the two would be left out.
    """
    for name, path in names.items():
        part = module.get_submodule(name)
        of_part = {collection: _at(tree, path) for collection, tree in {**stats, "params": params}.items()}
        for target, value in _values(part, of_part).items():
            with torch.no_grad():
                tensor = torch.from_numpy(np.ascontiguousarray(value)).reshape(np.shape(value))
                _tensor(part, target).copy_(tensor)
    ours, peers = count(params), sum(p.numel() for p in module.parameters())
    if ours != peers:
        raise ValueError(f"{ours} parameters in linen, {peers} in {type(module).__name__}")


def count(tree: Any) -> int:
    """How many numbers a tree of arrays holds."""
    if isinstance(tree, Mapping):
        return sum(count(branch) for branch in tree.values())
    return int(np.size(tree))


def convert(part: nn.Module, name: str, value: np.ndarray) -> np.ndarray:
    """A linen parameter `name` ("kernel" or another), in the layout of `part`'s weight."""
    if name != "kernel":
        return value
    if isinstance(part, nn.ConvTranspose2d):  # PyTorch's is the gradient of a convolution: its taps run back
        return value[::-1, ::-1].transpose(2, 3, 0, 1)
    if isinstance(part, nn.Conv2d) and value.ndim == 2:  # of 1x1 pixels, a product in linen
        return value.T[:, :, None, None]
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def _values(part: nn.Module, variables: Tree) -> dict[str, np.ndarray]:
    params = variables["params"]
    if not isinstance(params, Mapping):  # of no layer
        return {"weight": params}
    if "strength" in params and "kernel" not in params:  # of noise
        return {"weight": params["strength"]}
    if isinstance(part, ConditionalBatchNorm2d):
        running = variables["batch_stats"]["BatchNorm_0"]
        return {
            "gamma.weight": params["gamma"]["embedding"],
            "shift.weight": params["shift"]["embedding"],
            "norm.running_mean": running["mean"],
            "norm.running_var": running["var"],
        }
    vectors = {}
    if isinstance(part, SpectralConv2d | SpectralLinear | SpectralEmbedding):
        vectors = {name: variables["spectral"][name] for name in ("u", "v")}
    if isinstance(part, nn.BatchNorm2d):
        running = variables["batch_stats"]
        affine = {"weight": params["scale"], "bias": params["bias"]} if part.affine else {}
        return affine | {"running_mean": running["mean"], "running_var": running["var"]}
    if isinstance(part, nn.Embedding):
        return {"weight": params["embedding"], **vectors}
    if "share" in params:  # of attention; its layers have names of their own
        return {"share": params["share"]}
    if "constant" in params:  # whose layers have names of their own
        return {"constant": params["constant"]}
    values = {"weight": convert(part, "kernel", np.asarray(params["kernel"]))}
    if "bias" in params:
        values["bias"] = params["bias"]
    if "strength" in params:  # of noise
        values["strength"] = params["strength"]
    return values | vectors


def _at(tree: Tree, path: str) -> Any:
    for name in path.split("/"):
        tree = tree.get(name, {})
    return tree


def _tensor(part: nn.Module, name: str) -> torch.Tensor:
    *owners, last = name.split(".")
    return getattr(part.get_submodule(".".join(owners)), last)
