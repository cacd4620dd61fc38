"""The Inception network of the FID: 2048 features of an image, and 1008 logits where the file has a head.

It is Inception v3 (Szegedy et al. 2016) with the weights of December 5, 2015 that Heusel et al. 2017 measured
with, and departs from the published network in three ways: average pools leave the padding out of their
counts, the pool of the last block is a maximum, and the head has 1008 classes. The weights come from a file
of the user's, in any of the forms that they are handed round in; `load_inception` knows them by their names
and shapes.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ganjax import errors
from ganjax.layers import conv
from ganjax.metrics.classifier import check_images
from ganjax.metrics.resizing import check_resizer, inception_input
from ganjax.parallel import compiler_options
from ganjax.weights import Weights, read_weights

DIM = 2048
EPSILON = 1e-3  # of the batch normalisation
# By default GPUs multiply float32 in TF32 and TPUs in bfloat16, whose features differ in the third digit.
PRECISION = jax.lax.Precision.HIGHEST

Params = Mapping[str, Mapping[str, Any]]


class Layer(NamedTuple):
    """A convolution, its batch normalisation without a scale, and a ReLU.

    Attributes:
      name: as torchvision and what descends from it call it: BLOCK.LAYER.
      other: in the TorchScript archive that StyleGAN2-ADA and clean-fid use.
      kernel: (KH, KW).
      channels: C and F.
    """

    name: str
    other: str
    kernel: tuple[int, int]
    channels: tuple[int, int]


def _block_a(name: str, other: str, channels: int, pooled: int) -> list[Layer]:
    return [
        Layer(f"{name}.branch1x1", f"{other}.conv", (1, 1), (channels, 64)),
        Layer(f"{name}.branch5x5_1", f"{other}.tower.conv", (1, 1), (channels, 48)),
        Layer(f"{name}.branch5x5_2", f"{other}.tower.conv_1", (5, 5), (48, 64)),
        Layer(f"{name}.branch3x3dbl_1", f"{other}.tower_1.conv", (1, 1), (channels, 64)),
        Layer(f"{name}.branch3x3dbl_2", f"{other}.tower_1.conv_1", (3, 3), (64, 96)),
        Layer(f"{name}.branch3x3dbl_3", f"{other}.tower_1.conv_2", (3, 3), (96, 96)),
        Layer(f"{name}.branch_pool", f"{other}.tower_2.conv", (1, 1), (channels, pooled)),
    ]


def _block_c(name: str, other: str, inner: int) -> list[Layer]:
    return [
        Layer(f"{name}.branch1x1", f"{other}.conv", (1, 1), (768, 192)),
        Layer(f"{name}.branch7x7_1", f"{other}.tower.conv", (1, 1), (768, inner)),
        Layer(f"{name}.branch7x7_2", f"{other}.tower.conv_1", (1, 7), (inner, inner)),
        Layer(f"{name}.branch7x7_3", f"{other}.tower.conv_2", (7, 1), (inner, 192)),
        Layer(f"{name}.branch7x7dbl_1", f"{other}.tower_1.conv", (1, 1), (768, inner)),
        Layer(f"{name}.branch7x7dbl_2", f"{other}.tower_1.conv_1", (7, 1), (inner, inner)),
        Layer(f"{name}.branch7x7dbl_3", f"{other}.tower_1.conv_2", (1, 7), (inner, inner)),
        Layer(f"{name}.branch7x7dbl_4", f"{other}.tower_1.conv_3", (7, 1), (inner, inner)),
        Layer(f"{name}.branch7x7dbl_5", f"{other}.tower_1.conv_4", (1, 7), (inner, 192)),
        Layer(f"{name}.branch_pool", f"{other}.tower_2.conv", (1, 1), (768, 192)),
    ]


def _block_e(name: str, other: str, channels: int) -> list[Layer]:
    return [
        Layer(f"{name}.branch1x1", f"{other}.conv", (1, 1), (channels, 320)),
        Layer(f"{name}.branch3x3_1", f"{other}.tower_conv", (1, 1), (channels, 384)),
        Layer(f"{name}.branch3x3_2a", f"{other}.tower_mixed_conv", (1, 3), (384, 384)),
        Layer(f"{name}.branch3x3_2b", f"{other}.tower_mixed_conv_1", (3, 1), (384, 384)),
        Layer(f"{name}.branch3x3dbl_1", f"{other}.tower_1_conv", (1, 1), (channels, 448)),
        Layer(f"{name}.branch3x3dbl_2", f"{other}.tower_1_conv_1", (3, 3), (448, 384)),
        Layer(f"{name}.branch3x3dbl_3a", f"{other}.tower_1_mixed_conv", (1, 3), (384, 384)),
        Layer(f"{name}.branch3x3dbl_3b", f"{other}.tower_1_mixed_conv_1", (3, 1), (384, 384)),
        Layer(f"{name}.branch_pool", f"{other}.tower_2_conv", (1, 1), (channels, 192)),
    ]


LAYERS: tuple[Layer, ...] = (
    Layer("Conv2d_1a_3x3", "conv", (3, 3), (3, 32)),
    Layer("Conv2d_2a_3x3", "conv_1", (3, 3), (32, 32)),
    Layer("Conv2d_2b_3x3", "conv_2", (3, 3), (32, 64)),
    Layer("Conv2d_3b_1x1", "conv_3", (1, 1), (64, 80)),
    Layer("Conv2d_4a_3x3", "conv_4", (3, 3), (80, 192)),
    *_block_a("Mixed_5b", "mixed", 192, 32),
    *_block_a("Mixed_5c", "mixed_1", 256, 64),
    *_block_a("Mixed_5d", "mixed_2", 288, 64),
    Layer("Mixed_6a.branch3x3", "mixed_3.conv", (3, 3), (288, 384)),
    Layer("Mixed_6a.branch3x3dbl_1", "mixed_3.tower.conv", (1, 1), (288, 64)),
    Layer("Mixed_6a.branch3x3dbl_2", "mixed_3.tower.conv_1", (3, 3), (64, 96)),
    Layer("Mixed_6a.branch3x3dbl_3", "mixed_3.tower.conv_2", (3, 3), (96, 96)),
    *_block_c("Mixed_6b", "mixed_4", 128),
    *_block_c("Mixed_6c", "mixed_5", 160),
    *_block_c("Mixed_6d", "mixed_6", 160),
    *_block_c("Mixed_6e", "mixed_7", 192),
    Layer("Mixed_7a.branch3x3_1", "mixed_8.tower.conv", (1, 1), (768, 192)),
    Layer("Mixed_7a.branch3x3_2", "mixed_8.tower.conv_1", (3, 3), (192, 320)),
    Layer("Mixed_7a.branch7x7x3_1", "mixed_8.tower_1.conv", (1, 1), (768, 192)),
    Layer("Mixed_7a.branch7x7x3_2", "mixed_8.tower_1.conv_1", (1, 7), (192, 192)),
    Layer("Mixed_7a.branch7x7x3_3", "mixed_8.tower_1.conv_2", (7, 1), (192, 192)),
    Layer("Mixed_7a.branch7x7x3_4", "mixed_8.tower_1.conv_3", (3, 3), (192, 192)),
    *_block_e("Mixed_7b", "mixed_9", 1280),
    *_block_e("Mixed_7c", "mixed_10", 2048),
)


class Network(nn.Module):
    """Images in the network's own size and scale -> the features, and logits where it has a head.

    Batch normalisation is folded into the convolutions. Of the convolutions of one pixel that read one image
    there is one, `entry`, whose channels are then divided; the one behind an average pool stands before it
    there, as the two commute.

    Attributes:
      classes: how many logits; 0: there is no head.
    """

    classes: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """[N, 299, 299, 3] -> [N, 2048], and [N, classes] or None."""
        layer = self._layer
        x = layer("Conv2d_1a_3x3", x, 32, 3, strides=2, padding=0)
        x = layer("Conv2d_2a_3x3", x, 32, 3, padding=0)
        x = layer("Conv2d_2b_3x3", x, 64, 3)
        x = max_pool(x, 2)
        x = layer("Conv2d_3b_1x1", x, 80, 1)
        x = layer("Conv2d_4a_3x3", x, 192, 3, padding=0)
        x = max_pool(x, 2)
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            one, five, three, pool = self._entry(name, x, 64, 48, 64, pooled, average=True)
            five = layer(f"{name}.branch5x5_2", five, 64, 5)
            three = layer(f"{name}.branch3x3dbl_2", three, 96, 3)
            three = layer(f"{name}.branch3x3dbl_3", three, 96, 3)
            x = jnp.concatenate([one, five, three, pool], -1)
        (three,) = self._entry("Mixed_6a", x, 64)
        three = layer("Mixed_6a.branch3x3dbl_2", three, 96, 3)
        three = layer("Mixed_6a.branch3x3dbl_3", three, 96, 3, strides=2, padding=0)
        one = layer("Mixed_6a.branch3x3", x, 384, 3, strides=2, padding=0)
        x = jnp.concatenate([one, three, max_pool(x, 2)], -1)
        for name, inner in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            one, seven, double, pool = self._entry(name, x, 192, inner, inner, 192, average=True)
            seven = layer(f"{name}.branch7x7_2", seven, inner, (1, 7))
            seven = layer(f"{name}.branch7x7_3", seven, 192, (7, 1))
            double = layer(f"{name}.branch7x7dbl_2", double, inner, (7, 1))
            double = layer(f"{name}.branch7x7dbl_3", double, inner, (1, 7))
            double = layer(f"{name}.branch7x7dbl_4", double, inner, (7, 1))
            double = layer(f"{name}.branch7x7dbl_5", double, 192, (1, 7))
            x = jnp.concatenate([one, seven, double, pool], -1)
        three, seven = self._entry("Mixed_7a", x, 192, 192)
        three = layer("Mixed_7a.branch3x3_2", three, 320, 3, strides=2, padding=0)
        seven = layer("Mixed_7a.branch7x7x3_2", seven, 192, (1, 7))
        seven = layer("Mixed_7a.branch7x7x3_3", seven, 192, (7, 1))
        seven = layer("Mixed_7a.branch7x7x3_4", seven, 192, 3, strides=2, padding=0)
        x = jnp.concatenate([three, seven, max_pool(x, 2)], -1)
        for name in ("Mixed_7b", "Mixed_7c"):
            if name == "Mixed_7b":
                one, three, double, pool = self._entry(name, x, 320, 384, 448, 192, average=True)
            else:
                one, three, double = self._entry(name, x, 320, 384, 448)
                pool = layer(f"{name}.branch_pool", max_pool(x, 1), 192, 1)
            double = layer(f"{name}.branch3x3dbl_2", double, 384, 3)
            branches = [one]
            for y, last in ((three, "branch3x3_2"), (double, "branch3x3dbl_3")):
                branches.append(layer(f"{name}.{last}a", y, 384, (1, 3)))
                branches.append(layer(f"{name}.{last}b", y, 384, (3, 1)))
            x = jnp.concatenate([*branches, pool], -1)
        features = jnp.mean(x.astype(jnp.float32), (1, 2))
        if not self.classes:
            return features, None
        head = nn.Dense(self.classes, use_bias=False, dtype=jnp.float32, precision="highest", name="fc")
        return features, head(features)

    def _parameters(self, name: str, kernel: tuple[int, int], channels: int, features: int):
        def init(_: Any) -> dict[str, jax.Array]:
            return {
                "kernel": jnp.zeros((*kernel, channels, features)),
                "bias": jnp.zeros((features,)),
            }

        return self.param(name, init)

    def _layer(
        self,
        name: str,
        x: jax.Array,
        features: int,
        kernel: int | tuple[int, int],
        strides: int = 1,
        padding: int | None = None,
    ) -> jax.Array:
        """Padded to the input's size unless `padding` says otherwise."""
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        params = self._parameters(name, kernel, x.shape[-1], features)
        pads = [k // 2 for k in kernel] if padding is None else padding
        y = conv(x, params["kernel"].astype(x.dtype), strides, pads, precision=PRECISION)
        return _relu(y, params["bias"])

    def _entry(self, name: str, x: jax.Array, *features: int, average: bool = False) -> list[jax.Array]:
        """The block's convolutions of one pixel that read its input; the last is pooled if `average`."""
        params = self._parameters(f"{name}.entry", (1, 1), x.shape[-1], sum(features))
        y = conv(x, params["kernel"].astype(x.dtype), precision=PRECISION)
        ends = np.cumsum(features)
        parts = [y[..., end - n : end] for n, end in zip(features, ends, strict=True)]
        if average:
            parts[-1] = average_pool(parts[-1])
        biases = [params["bias"][end - n : end] for n, end in zip(features, ends, strict=True)]
        return [_relu(part, bias) for part, bias in zip(parts, biases, strict=True)]


def _relu(x: jax.Array, bias: jax.Array) -> jax.Array:
    return jax.nn.relu(x + bias.astype(x.dtype).reshape(1, 1, 1, -1))


def max_pool(x: jax.Array, stride: int) -> jax.Array:
    """The largest of 3x3 pixels, without padding at stride 2, and padded to the same size at stride 1.

    Of slices: XLA's own window takes several times as long on a CPU.
    """
    for axis in (1, 2):
        if stride == 1:
            ends = [(1, 1, 0) if i == axis else (0, 0, 0) for i in range(4)]
            x = jax.lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), ends)
        last = x.shape[axis] - 2
        slices = [jax.lax.slice_in_dim(x, i, last + i, stride, axis) for i in range(3)]
        x = jnp.maximum(jnp.maximum(slices[0], slices[1]), slices[2])
    return x


def average_pool(x: jax.Array) -> jax.Array:
    """The mean of those of 3x3 pixels that lie in the image, at stride 1."""
    count = np.ones((1, 1, 1, 1), np.float32)
    for axis in (1, 2):
        size = x.shape[axis]
        ends = [(1, 1, 0) if i == axis else (0, 0, 0) for i in range(4)]
        padded = jax.lax.pad(x, jnp.zeros((), x.dtype), ends)
        slices = [jax.lax.slice_in_dim(padded, i, size + i, 1, axis) for i in range(3)]
        x = slices[0] + slices[1] + slices[2]
        counts = np.full(size, 3.0, np.float32) - (np.arange(size) == 0) - (np.arange(size) == size - 1)
        count = count * counts.reshape([-1 if i == axis else 1 for i in range(4)])
    return x * jnp.asarray(1 / count, x.dtype)


# The weights of 2015-12-05: the sha256 of their arrays (see `convert`), in whatever file they are, and how
# that of pytorch-fid's file begins, as its name says.
KNOWN = {"faa37c74cec4860f41dc8c4119526a526ca710982b3cdf79831003fc5f4382b4"}
KNOWN_FILE = "6726825d"
CLASSES = 1008
# Images in one call, for each device. On a CPU a call's intermediate results should stay small.
CHUNK, CPU_CHUNK = 64, 16

WHERE = (
    "get inception-2015-12-05.pt (StyleGAN2-ADA, StyleGAN3 and clean-fid use it) or "
    "pt_inception-2015-12-05-6726825d.pth (pytorch-fid and torch-fidelity do), and give its path"
)


class Inception:
    """The features of images, by one file of weights and one resizer.

    Attributes:
      sha256: of the file of weights.
      resize: one of `ganjax.metrics.resizing.RESIZERS`.
      num_classes: 1008 where the file has a head, else 0.
      note: None where the weights are known to be those of 2015-12-05, else a line that says they are not.
      dim: 2048.
    """

    dim = DIM

    def __init__(
        self,
        weights: Weights,
        resize: str = "tf1",
        *,
        dtype: Any = jnp.float32,
        chunk: int | None = None,
    ):
        """
        Args:
          weights: from `read_weights`.
          resize: one of `RESIZERS`, whose scaling goes with it.
          dtype: for compute. bfloat16 is faster on accelerators and moves the figures: not the FID's.
          chunk: images in one call for each device; default: as the platform has it best.
        Raises:
          UsageError: there is no such resizer or type, or `chunk` is not positive.
          RunError: the weights are another network's, or are damaged.
        """
        self.resize = check_resizer(resize)
        self.sha256 = weights.sha256
        self._dtype = jnp.dtype(dtype)
        if self._dtype not in (jnp.float32, jnp.bfloat16):
            raise errors.UsageError(f"dtype={self._dtype}: expected float32 or bfloat16")
        if chunk is not None and chunk < 1:
            raise errors.UsageError(f"chunk={chunk}: expected at least 1")
        self._chunk = chunk
        params, content = convert(weights)
        self.num_classes = CLASSES if "fc" in params else 0
        self.note = None
        if content not in KNOWN and not weights.sha256.startswith(KNOWN_FILE):
            self.note = (
                f"{weights.path}: has the FID Inception's form, but its arrays (sha256 {content}) are not "
                "known to be the weights of 2015-12-05: figures may not be comparable"
            )
        self._params = params
        self._placed: Any = None  # on the devices, once they are asked for

    @property
    def identity(self) -> str:
        """What the features depend on: two of one identity give the same, but for rounding."""
        exact = "" if self._dtype == jnp.float32 else f"-{self._dtype}"
        return f"inception-{self.sha256}-{self.resize}{exact}"

    @property
    def batch(self) -> int:
        """How many images go into one call, on all devices together."""
        devices = jax.local_devices()
        return len(devices) * (self._chunk or (CPU_CHUNK if devices[0].platform == "cpu" else CHUNK))

    def features(
        self, images: np.ndarray | Iterable[np.ndarray], progress: Callable[[int], Any] | None = None
    ) -> np.ndarray:
        """float32 [N, 2048]; see `evaluate`."""
        return self.evaluate(images, progress)[0]

    def evaluate(
        self, images: np.ndarray | Iterable[np.ndarray], progress: Callable[[int], Any] | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Features and logits in one pass, in chunks of one fixed size so that memory is bounded.

        Chunks are spread over this process's devices.

        Args:
          images: uint8 [N, H, W, C], or an iterable of such, of one shape but for N, which is read as it is
            needed. C is 1 (grey), 3, or 4 (alpha, which is laid over white). N may be 0.
          progress: is called with the number of images that are done, after each chunk.
        Returns:
          float32 [N, 2048], at least 0; float32 [N, 1008] or None. The logits are without the head's bias, as
          the Inception Score's own code takes them (Salimans et al. 2016).
        Raises:
          UsageError: the images have another type or shape.
        """
        devices, size = jax.local_devices(), self.batch
        if self._placed is None:
            whole = NamedSharding(_mesh(tuple(devices)), PartitionSpec())
            self._placed = jax.device_put(self._params, whole)
        features, logits = [np.zeros((0, DIM), np.float32)], [np.zeros((0, CLASSES), np.float32)]
        done = 0

        def collect(count: int, outputs: tuple[jax.Array, jax.Array | None]) -> None:
            nonlocal done
            features.append(np.asarray(outputs[0])[:count])
            if outputs[1] is not None:
                logits.append(np.asarray(outputs[1])[:count])
            done += count
            if progress is not None:
                progress(done)

        waiting = None
        for part in in_chunks(images, size):
            # Padded: one shape is one compilation, and an image's result can't depend on how many there are.
            padded = np.zeros((size, *part.shape[1:]), np.uint8)
            padded[: len(part)] = part
            outputs = self._forward(padded, tuple(devices))
            if waiting is not None:  # read late, so that the devices need not wait for the host
                collect(*waiting)
            waiting = len(part), outputs
        if waiting is not None:
            collect(*waiting)
        return np.concatenate(features), np.concatenate(logits) if self.num_classes else None

    def _forward(self, images: np.ndarray, devices: tuple[Any, ...]) -> tuple[jax.Array, jax.Array | None]:
        batch = jax.device_put(images, NamedSharding(_mesh(devices), PartitionSpec("data")))
        resized = _resize(devices, self.resize)(batch)
        return _network(devices, self.num_classes, self._dtype)(self._placed, resized)


def load_inception(
    path: Any, resize: str = "tf1", *, dtype: Any = jnp.float32, chunk: int | None = None
) -> Inception:
    """The FID's Inception from a file of its weights; see `Inception`.

    The file is known by its content and not by its name, and nothing in it is run. `Inception.note` says
    where weights are not those of 2015-12-05.

    Args:
      path: a TorchScript archive, PyTorch's state dict, `.npz` or safetensors.
      resize, dtype, chunk: of `Inception`.
    Raises:
      UsageError: an argument is wrong.
      RunError: there is no such file, or it is damaged, or has another network's weights.
    """
    try:
        weights = read_weights(path)
    except errors.RunError as error:
        raise errors.RunError(f"{error}. For the FID's Inception, {WHERE}") from error
    return Inception(weights, resize, dtype=dtype, chunk=chunk)


def in_chunks(images: np.ndarray | Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The images of one array, or of an iterable of arrays, `size` at a time; the last may be fewer.

    Raises:
      UsageError: they are not uint8 [N, H, W, C] of 1, 3 or 4 channels and one height and width.
    """
    shape: tuple[int, ...] | None = None
    kept: list[np.ndarray] = []
    count = 0
    for part in [images] if isinstance(images, np.ndarray) else images:
        part = check_images(part, "images", shape)
        shape = part.shape[1:]
        if shape[2] not in (1, 3, 4) or min(shape) < 1:
            raise errors.UsageError(
                f"images: expected [N, H, W, C] with 1, 3 or 4 channels, got {part.shape}"
            )
        while len(part):
            piece, part = part[: size - count], part[size - count :]
            kept.append(piece)
            count += len(piece)
            if count == size:
                yield kept[0] if len(kept) == 1 else np.concatenate(kept)
                kept, count = [], 0
    if kept:
        yield np.concatenate(kept)


@functools.cache
def _mesh(devices: tuple[Any, ...]) -> Mesh:
    return Mesh(np.array(devices), ("data",))


@functools.cache
def _resize(devices: tuple[Any, ...], name: str) -> Callable:
    """A program of its own, so that images of another size compile it alone and not the network."""
    return _per_device(lambda images: inception_input(images, name), devices, (PartitionSpec("data"),))


@functools.cache
def _network(devices: tuple[Any, ...], classes: int, dtype: Any) -> Callable:
    network = Network(classes)

    def apply(params: Any, images: jax.Array) -> Any:
        return network.apply({"params": params}, images.astype(dtype))

    return _per_device(apply, devices, (PartitionSpec(), PartitionSpec("data")))


def _per_device(function: Callable, devices: tuple[Any, ...], specs: tuple[PartitionSpec, ...]) -> Callable:
    """Compiled for each device's images alone: how many devices there are changes nothing for an image."""
    if len(devices) > 1:
        function = jax.shard_map(
            function, mesh=_mesh(devices), in_specs=specs, out_specs=PartitionSpec("data")
        )
    return jax.jit(function, compiler_options=compiler_options())


def convert(weights: Weights) -> tuple[Params, str]:
    """The parameters of `Network` from a file's arrays, and the sha256 of these.

    Batch normalisation is folded in. The sha256 is of the arrays as they were before, in one order, so that
    it is the same in whatever form they come.

    Raises:
      RunError: an array is missing, has another shape, or holds what no weights are.
    """
    arrays, path = weights.arrays, weights.path
    names = _names(weights)
    digest = hashlib.sha256()
    kernels: dict[str, list[np.ndarray]] = {}
    biases: dict[str, list[np.ndarray]] = {}
    for layer in LAYERS:
        channels, features = layer.channels
        expected = {
            "weight": (features, channels, *layer.kernel),
            **dict.fromkeys(("beta", "mean", "variance"), (features,)),
        }
        found = {}
        for part, shape in expected.items():
            array = _array(path, arrays, names[layer.name, part], shape)
            digest.update(np.ascontiguousarray(array, np.float32).data)
            found[part] = array if part == "weight" else array.astype(np.float64)
        scale = np.ones(features)
        if names[layer.name, "scale"] in arrays:
            scale = _array(path, arrays, names[layer.name, "scale"], (features,)).astype(np.float64)
            if (scale != 1).any():
                digest.update(scale.astype(np.float32).tobytes())
        if found["variance"].min() < 0:
            name = names[layer.name, "variance"]
            raise errors.RunError(f"{path}: altered weights: {name} is below 0; {WHERE}")
        scale = scale / np.sqrt(found["variance"] + EPSILON)
        kernel = found["weight"].transpose(2, 3, 1, 0) * scale.astype(np.float32)
        block = layer.name.split(".")[0]
        shared = layer.kernel == (1, 1) and layer.name not in ("Conv2d_3b_1x1", "Mixed_7c.branch_pool")
        name = f"{block}.entry" if shared else layer.name
        kernels.setdefault(name, []).append(kernel)
        biases.setdefault(name, []).append(found["beta"] - found["mean"] * scale)
    params: dict[str, Any] = {
        name: {
            "kernel": np.concatenate(kernels[name], -1).astype(np.float32),
            "bias": np.concatenate(biases[name]).astype(np.float32),
        }
        for name in kernels
    }
    head = names["fc", "weight"]
    if head in arrays:
        params["fc"] = {"kernel": np.array(_array(path, arrays, head, (CLASSES, DIM)).T, np.float32)}
    return params, digest.hexdigest()


def _array(path: str, arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in arrays:
        raise errors.RunError(f"{path}: not the FID's Inception: it has no array {name}; {WHERE}")
    array = arrays[name]
    if array.shape != shape:
        raise errors.RunError(
            f"{path}: not the FID's Inception: {name} has the shape {list(array.shape)}, "
            f"expected {list(shape)}; {WHERE}"
        )
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise errors.RunError(f"{path}: altered weights: {name} holds what is no finite number; {WHERE}")
    return array


def _names(weights: Weights) -> dict[tuple[str, str], str]:
    """(layer, part) -> how the file calls it, by the form that its names have.

    Raises:
      RunError: the names are of neither form, or those of a network that was trained otherwise.
    """
    arrays, path = weights.arrays, weights.path
    forms = (
        (
            "Conv2d_1a_3x3.conv.weight",
            lambda layer: layer.name,
            ("conv.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.weight"),
            "fc.weight",
        ),
        (
            "conv.weight",
            lambda layer: layer.other,
            ("weight", "beta", "mean", "var", "gamma"),
            "output.weight",
        ),
    )
    for first, name_of, parts, head in forms:
        # Whatever the network is a part of stands before its own names.
        found = [name for name in arrays if name.endswith(first) and arrays[name].shape == (32, 3, 3, 3)]
        if not found:
            continue
        prefix = min(found, key=len).removesuffix(first)
        kinds = zip(("weight", "beta", "mean", "variance", "scale"), parts, strict=True)
        names = {}
        for kind, part in kinds:
            names |= {(layer.name, kind): f"{prefix}{name_of(layer)}.{part}" for layer in LAYERS}
        heads = [f"{prefix}{head}", f"{prefix.removesuffix('layers.')}{head}"]
        names["fc", "weight"] = next((name for name in heads if name in arrays), heads[-1])
        others = [name for name in arrays if name.startswith(f"{prefix}AuxLogits")]
        if others or arrays.get(names["fc", "weight"], np.zeros((CLASSES, 0))).shape[0] == 1000:
            raise errors.RunError(
                f"{path}: torchvision's Inception, trained anew for 1000 classes: its distances are no FID; "
                f"{WHERE}"
            )
        return names
    raise errors.RunError(
        f"{path}: not the FID's Inception: {len(arrays)} arrays, of other names "
        f"({', '.join(list(arrays)[:3])}, ...); {WHERE}"
    )
