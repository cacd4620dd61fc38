"""LPIPS: how different two images look, by the activations of a classifier (Zhang et al. 2018).

The activations of five layers of VGG16 or AlexNet are divided by their length over the channels; the
squares of their differences are weighted by channel, with weights fitted to the judgement of people, and
averaged over the image. The weights come from a file of the user's; `load_lpips` knows them by their names
and shapes.

References:
  Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual
  Metric", 2018, section 3.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ganjax import errors
from ganjax.layers import Conv
from ganjax.metrics.inception import PRECISION, max_pool
from ganjax.parallel import compiler_options
from ganjax.weights import Weights, read_weights

# The mean and standard deviation of ImageNet's colours, for images in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)

Params = Mapping[str, Any]


class Trunk(NamedTuple):
    """A classifier's convolutions, each with a ReLU.

    Attributes:
      kernels: taps along each side, of each convolution.
      features: of each.
      strides, padding: of each.
      places: of each in torchvision's `features`.
      pooled: before which convolutions the image is pooled.
      window: of the pooling, 2 or 3 pixels, at stride 2.
      compared: after which convolutions activations are compared.
      smallest: height and width of the smallest image that it takes.
    """

    kernels: tuple[int, ...]
    features: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    places: tuple[int, ...]
    pooled: tuple[int, ...]
    window: int
    compared: tuple[int, ...]
    smallest: int


TRUNKS: Mapping[str, Trunk] = {
    "vgg16": Trunk(
        kernels=(3,) * 13,
        features=(64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
        strides=(1,) * 13,
        padding=(1,) * 13,
        places=(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        pooled=(2, 4, 7, 10),
        window=2,
        compared=(1, 3, 6, 9, 12),
        smallest=16,
    ),
    "alexnet": Trunk(
        kernels=(11, 5, 3, 3, 3),
        features=(64, 192, 384, 256, 256),
        strides=(4, 1, 1, 1, 1),
        padding=(2, 2, 1, 1, 1),
        places=(0, 3, 6, 8, 10),
        pooled=(1, 2),
        window=3,
        compared=(0, 1, 2, 3, 4),
        smallest=31,
    ),
}


class Activations(nn.Module):
    """Scaled images [N, H, W, 3] -> the activations that are compared, [N, h, w, C] each.

    Attributes:
      trunk: the network.
    """

    trunk: Trunk

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        trunk, compared = self.trunk, []
        layers = zip(trunk.features, trunk.kernels, trunk.strides, trunk.padding, strict=True)
        for i, (features, size, stride, padding) in enumerate(layers):
            if i in trunk.pooled:
                x = max_pool(x, 2) if trunk.window == 3 else _halved(x)
            x = nn.relu(
                Conv(features, (size, size), stride, padding, precision=PRECISION, name=f"Conv_{i}")(x)
            )
            if i in trunk.compared:
                compared.append(x)
        return compared


def _halved(x: jax.Array) -> jax.Array:
    """The largest of each 2x2 pixels; a last odd row or column is left out."""
    n, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


def lpips(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """The distance between the images of each pair. Pure; differentiable in the images.

    Args:
      params: of an `LPIPS`; on their form it depends whether it is VGG16 or AlexNet.
      x, y: [N, H, W, C], floating in [-1, 1] or uint8, C 1 (grey), 3, or 4 (alpha, which is laid over white).
    Returns:
      float32 [N], at least 0.
    Raises:
      UsageError: the shapes differ, or are none of images that are large enough: 16 pixels a side for VGG16,
        31 for AlexNet.
    """
    trunk = TRUNKS[_kind(params)]
    if x.shape != y.shape or x.ndim != 4 or x.shape[3] not in (1, 3, 4):
        raise errors.UsageError(
            f"lpips takes two sets of images of one shape [N, H, W, 1, 3 or 4]; got {x.shape} and {y.shape}"
        )
    check_size(_kind(params), x.shape[1:3])
    # Both at once: the network's weights are then read once.
    images = jnp.concatenate([_scaled(x), _scaled(y)])
    total = jnp.zeros(x.shape[0])
    network = Activations(trunk)
    activations: Any = network.apply({"params": params["network"]}, images)
    for weights, features in zip(params["heads"], activations, strict=True):
        first, second = jnp.split(_directions(features), 2)
        # The weighted sum over channels, by a product: XLA's reduction is slower on a CPU.
        squares = jnp.matmul(jnp.square(first - second), weights.reshape(-1, 1), precision=PRECISION)
        total = total + jnp.mean(squares, (1, 2, 3))
    return total


def check_size(network: str, size: tuple[int, ...]) -> None:
    """Raises UsageError for images of a (height, width) that are too small for "vgg16" or "alexnet"."""
    smallest = TRUNKS[network].smallest
    if min(size) < smallest:
        height, width = size
        raise errors.UsageError(
            f"images of {height}x{width}: LPIPS by {network} takes at least {smallest} pixels a side"
            + ("; VGG16 takes smaller ones" if network == "alexnet" else "")
        )


def over_white(x: Any) -> Any:
    """Images in [-1, 1] with 4 channels, transparency laid over white; others as they are."""
    if x.shape[-1] != 4:
        return x
    alpha = (x[..., 3:] + 1) / 2
    return x[..., :3] * alpha + (1 - alpha)


REDUCED = 256  # pixels of the shorter side, or up to twice as many


def reduction(size: tuple[int, ...]) -> int:
    """The sides of the blocks that `reduced` takes means over, of images of this (height, width)."""
    return max(min(size) // REDUCED, 1)


def reduced(x: Any) -> Any:
    """Images [n, H, W, C] as they are up to 511 pixels on the shorter side; larger ones by means over blocks,
    so that it has at least 256. What is left over at the border falls off. StyleGAN's path length and
    projection are measured so, as the network was trained at such sizes."""
    n, height, width, channels = x.shape
    factor = reduction((height, width))
    if factor == 1:
        return x
    rows, columns = height // factor, width // factor
    x = x[:, : rows * factor, : columns * factor]
    return x.reshape(n, rows, factor, columns, factor, channels).mean((2, 4))


def _kind(params: Params) -> str:
    return "alexnet" if len(params["network"]) == len(TRUNKS["alexnet"].kernels) else "vgg16"


def _scaled(x: jax.Array) -> jax.Array:
    x = over_white(x.astype(jnp.float32) / 127.5 - 1 if x.dtype == jnp.uint8 else x.astype(jnp.float32))
    shift, scale = (jnp.asarray(values, jnp.float32).reshape(1, 1, 1, 3) for values in (SHIFT, SCALE))
    return (jnp.broadcast_to(x, (*x.shape[:3], 3)) - shift) / scale


def _directions(x: jax.Array) -> jax.Array:
    """Each pixel's channels divided by their length; zeros stay zeros, and so does their derivative."""
    squares = jnp.sum(jnp.square(x), -1, keepdims=True)
    there = squares > 0
    length = jnp.where(there, jnp.sqrt(jnp.where(there, squares, 1)), 0)
    return jnp.where(there, x / (length + 1e-10), 0)


_compiled = functools.cache(lambda: jax.jit(lpips, compiler_options=compiler_options()))


class LPIPS:
    """The metric with one file of weights.

    Attributes:
      network: "vgg16" or "alexnet".
      sha256: of the file, or of each of the two files, joined by "+".
      params: for `lpips`.
    """

    def __init__(self, *weights: Weights):
        """
        Args:
          weights: from `read_weights`: one file of all, or one of the network and one of the heads.
        Raises:
          RunError: they are another network's, not all there, or damaged.
        """
        self.network, self.params = convert(*weights)
        self.sha256 = "+".join(file.sha256 for file in weights)

    @property
    def identity(self) -> str:
        """What the distances depend on."""
        return f"lpips-{self.network}-{self.sha256}"

    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """float32 [N], of two sets [N, H, W, C]; see `lpips`, which this is."""
        return lpips(self.params, x, y)

    def distances(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        chunk: int = 16,
        progress: Callable[[int], Any] | None = None,
    ) -> np.ndarray:
        """float32 [N], on the host, in chunks of one size so that memory is bounded.

        Args:
          x, y: [N, H, W, C], uint8 or floating in [-1, 1], C 1, 3 or 4. N may be 0.
          chunk: how many pairs at a time.
          progress: is called with the number of pairs that are done, after each chunk.
        Raises:
          ValueError: as of `lpips`, or `chunk` is not positive.
        """
        x, y = np.asarray(x), np.asarray(y)
        if chunk < 1:
            raise ValueError(f"chunk={chunk}: expected at least 1")
        if x.shape != y.shape or x.dtype != y.dtype:
            raise ValueError(
                f"lpips takes two sets of one shape and type; got {x.shape} {x.dtype} and {y.shape} {y.dtype}"
            )
        results = [np.zeros(0, np.float32)]
        for start in range(0, len(x), chunk):
            pair = [images[start : start + chunk] for images in (x, y)]
            count = len(pair[0])
            pair = [np.concatenate([i, np.repeat(i[:1], chunk - count, axis=0)]) for i in pair]
            results.append(np.asarray(_compiled()(self.params, *pair))[:count])
            if progress is not None:
                progress(start + count)
        return np.concatenate(results)


def load_lpips(*paths: Any) -> LPIPS:
    """LPIPS from its weights. The network, VGG16 or AlexNet, is known by their shapes, not by files' names.

    Args:
      paths: one file of the network and the heads (a tree of numpy arrays, or the state dict of the authors'
        `LPIPS` module), or two: torchvision's state dict (`vgg16-397923af.pth`, `alexnet-owt-7be5be79.pth`)
        and the authors' heads (`vgg.pth`, `alex.pth`).
    Raises:
      RunError: a file can't be read, or is another network's.
    """
    return LPIPS(*(read_weights(path) for path in paths))


# torchvision's names, and those of the LPIPS module, which cuts the network into slices and keeps the places.
_CONVOLUTION = re.compile(r"(?:^|\.)(?:features|slice\d)\.(\d+)\.(weight|bias)$")
_HEAD = re.compile(r"(?:^|\.)lin(?:s\.)?(\d)\.model\.1\.weight$")
_TREE = re.compile(r"(?:^|\.)(?:VGG16|AlexNet)_0\.Conv_(\d+)\.(kernel|bias)$")
_TREE_HEAD = re.compile(r"(?:^|\.)NetLinLayer_(\d)\.Conv_0\.kernel$")


def convert(*weights: Weights) -> tuple[str, Params]:
    """The network's name, and parameters for `lpips`, from files' arrays.

    Raises:
      RunError: an array is missing, has another shape, or holds what no weights are.
    """
    path = " and ".join(file.path for file in weights)
    convolutions: dict[tuple[int, str], np.ndarray] = {}
    heads: dict[int, np.ndarray] = {}
    places = False  # torchvision counts ReLUs and pools too
    for name, array in ((name, array) for file in weights for name, array in file.arrays.items()):
        if match := _CONVOLUTION.search(name):
            places = True
            kind = "bias" if match[2] == "bias" else "kernel"
            if kind == "kernel" and array.ndim == 4:
                array = array.transpose(2, 3, 1, 0)
            convolutions[int(match[1]), kind] = array
        elif match := _TREE.search(name):
            convolutions[int(match[1]), match[2]] = array
        elif match := _HEAD.search(name) or _TREE_HEAD.search(name):
            heads[int(match[1])] = array
    first = convolutions.get((0, "kernel"))
    kind = "alexnet" if first is not None and first.shape[0] == 11 else "vgg16"
    trunk = TRUNKS[kind]
    if first is None:
        raise errors.RunError(
            f"{path}: no weights of VGG16 or AlexNet; expected torchvision's state dict and the LPIPS heads "
            "beside it, the LPIPS module's own, or a numpy tree of both"
        )
    network = {}
    channels = 3
    for i, (size, features) in enumerate(zip(trunk.kernels, trunk.features, strict=True)):
        place = trunk.places[i] if places else i
        shapes = {"kernel": (size, size, channels, features), "bias": (features,)}
        network[f"Conv_{i}"] = {
            part: _checked(
                convolutions.get((place, part)), shape, f"the {part} of {kind}'s convolution {i}", path
            )
            for part, shape in shapes.items()
        }
        channels = features
    found = []
    for i, place in enumerate(trunk.compared):
        features = trunk.features[place]
        head = heads.get(i)
        flat = None if head is None or head.size != features else head.reshape(features)
        what = f"head {i} of LPIPS for {kind}"
        found.append(_checked(head if flat is None else flat, (features,), what, path))
        if found[-1].min() < 0:
            raise errors.RunError(f"{path}: altered weights: {what} has values below 0")
    return kind, {"network": network, "heads": found}


def _checked(array: np.ndarray | None, shape: tuple[int, ...], name: str, path: str) -> np.ndarray:
    if array is None:
        raise errors.RunError(f"{path}: {name} is missing")
    if array.shape != shape:
        raise errors.RunError(f"{path}: {name} has the shape {list(array.shape)}, expected {list(shape)}")
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise errors.RunError(f"{path}: altered weights: {name} holds what is no finite number")
    return np.ascontiguousarray(array, np.float32)
