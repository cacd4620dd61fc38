"""Files of the form that NVIDIA's StyleGAN2-ADA networks have, written without PyTorch: records,
as calls by name of a function that makes a persistent object, with tensors in files within the file.
"""

import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SOURCE = "raise SystemExit('the source of a class was run')\n"


class Global(NamedTuple):
    """What a pickle names."""

    module: str
    name: str


class Call:
    """What a pickle calls, by `REDUCE`; with `state`, a `BUILD` follows."""

    def __init__(self, function: Global, *arguments: Any, state: Any = None):
        self.function, self.arguments, self.state = function, arguments, state


class New:
    """An object that a pickle makes by `NEWOBJ`, and fills as a dict."""

    def __init__(self, kind: Global, items: dict[str, Any]):
        self.kind, self.items = kind, items


class Stored:
    """A storage, which is in the pickle by reference."""

    def __init__(self, kind: str, size: int, key: str = "94110"):
        self.kind, self.size, self.key = kind, size, key


_Python: Any = getattr(pickle, "_Pickler")  # noqa: B009, the one that is written in Python


class Pickler(_Python):
    """Python's own, which can also write what this module describes."""

    dispatch: Any = dict(_Python.dispatch)

    def save_name(self, name: Global) -> None:
        self.write(pickle.GLOBAL + f"{name.module}\n{name.name}\n".encode())

    def save_call(self, call: Call) -> None:
        self.save_name(call.function)
        self.save(call.arguments)
        self.write(pickle.REDUCE)
        self.memoize(call)
        if call.state is not None:
            self.save(call.state)
            self.write(pickle.BUILD)

    def save_new(self, new: New) -> None:
        self.save_name(new.kind)
        self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        self.memoize(new)
        self._batch_setitems(new.items.items())

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Stored):
            return ("storage", Global("torch", obj.kind), obj.key, "cpu", obj.size, None)
        return None

    dispatch[Global] = save_name
    dispatch[Call] = save_call
    dispatch[New] = save_new


def dumps(value: Any, protocol: int = 3) -> bytes:
    file = io.BytesIO()
    Pickler(file, protocol).dump(value)
    return file.getvalue()


_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage"}


def blob(array: np.ndarray, claimed: int | None = None) -> bytes:
    """A storage in PyTorch's older format."""
    size = array.size if claimed is None else claimed
    parts: list[Any] = [
        MAGIC,
        PROTOCOL,
        {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {}},
    ]
    parts += [Stored(_STORAGES[str(array.dtype)], size), ["94110"]]
    return b"".join(dumps(part, 2) for part in parts) + struct.pack("<q", size) + array.tobytes()


def tensor(array: np.ndarray) -> Call:
    array = np.array(array, order="C")
    strides = tuple(step // array.itemsize for step in array.strides)
    storage = Call(Global("torch.storage", "_load_from_bytes"), blob(array))
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, storage, 0, array.shape, strides, False, OrderedDict())


def parameter(value: Any) -> Call:
    return Call(Global("torch._utils", "_rebuild_parameter"), value, False, OrderedDict())


class Module(NamedTuple):
    """One of a network's modules; `arrays` are its parameters, but for those in `buffers`."""

    kind: str
    arrays: dict[str, np.ndarray] = {}
    modules: dict[str, "Module"] = {}
    attributes: dict[str, Any] = {}
    buffers: tuple[str, ...] = ("resample_filter", "noise_const", "w_avg")

    def record(self, as_tensor: Callable[[np.ndarray], Any] = tensor) -> Call:
        """As it is in a file."""
        made = {name: as_tensor(array) for name, array in self.arrays.items()}
        trained = {
            name: parameter(value) if as_tensor is tensor else value
            for name, value in made.items()
            if name not in self.buffers
        }
        state = {
            "training": False,
            "_parameters": OrderedDict(trained),
            "_buffers": OrderedDict({name: made[name] for name in self.buffers if name in made}),
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_modules": OrderedDict(
                (name, module.record(as_tensor)) for name, module in self.modules.items()
            ),
            **self.attributes,
            "_init_args": (),
            "_init_kwargs": New(Global("dnnlib.util", "EasyDict"), {"c_dim": 0}),
        }
        return persistent(self.kind, state)


def persistent(kind: str, state: Any, **others: Any) -> Call:
    """The record of a persistent object."""
    meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": kind, "state": state, **others}
    return Call(Global("torch_utils.persistence", "_reconstruct_persistent_obj"), meta)


# The networks, with random weights.


class Networks:
    """G or D by their settings, in the terms of the official ones.

    Args:
      seed: of the weights.
      resolution: of the images, a power of two of at least 8.
      colors: of the images.
      channels: by level, from 4x4 pixels on.
      latent: entries of a latent.
      style: entries of a style; of an official network with classes as many.
      classes: 0 for an unconditional GAN.
      layers: of the mapping network.
      clamp: of activations.
      architecture: of D.
      group: of D's deviation.
      small: factor of all random weights but kernels'.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        channels: tuple[int, ...] = (6, 4),
        colors: int = 3,
        latent: int = 5,
        style: int = 5,
        classes: int = 0,
        layers: int = 2,
        clamp: float | None = 256.0,
        architecture: str = "resnet",
        group: int | None = 4,
        fp16: int = 0,
    ):
        self.draw = np.random.default_rng(seed)
        self.channels, self.colors, self.latent, self.style = channels, colors, latent, style
        self.classes, self.layers, self.clamp, self.architecture = classes, layers, clamp, architecture
        self.group, self.fp16 = group, fp16

    def normal(self, *shape: int) -> np.ndarray:
        return self.draw.standard_normal(shape, np.float32)

    def dense(
        self, inputs: int, outputs: int, activation: str, multiplier: float = 1.0, bias: float = 0.0
    ) -> Module:
        arrays = {
            "weight": self.normal(outputs, inputs) / np.float32(multiplier),
            "bias": (self.normal(outputs) * np.float32(0.3) + np.float32(bias)) / np.float32(multiplier),
        }
        gains = {"weight_gain": np.float64(multiplier / math.sqrt(inputs)), "bias_gain": multiplier}
        return Module("FullyConnectedLayer", arrays, {}, {"activation": activation, **gains})

    def filter(self) -> dict[str, np.ndarray]:
        taps = np.array([1, 3, 3, 1], np.float32)
        return {"resample_filter": np.outer(taps, taps) / np.float32(64)}

    def conv(
        self,
        inputs: int,
        outputs: int,
        size: int = 3,
        *,
        down: int = 1,
        activation: str = "lrelu",
        bias: bool = True,
        clamp: bool = True,
    ) -> Module:
        arrays = {"weight": self.normal(outputs, inputs, size, size), **self.filter()}
        if bias:
            arrays["bias"] = self.normal(outputs) * np.float32(0.3)
        attributes = {
            "activation": activation,
            "up": 1,
            "down": down,
            "conv_clamp": self.clamp if clamp else None,
            "padding": size // 2,
            "weight_gain": np.float64(1 / math.sqrt(inputs * size**2)),
            "act_gain": np.float64(math.sqrt(2) if activation == "lrelu" else 1),
        }
        return Module("Conv2dLayer", arrays, {}, attributes)

    def synthesis_layer(self, inputs: int, outputs: int, resolution: int, up: int = 1) -> Module:
        arrays = {
            "weight": self.normal(outputs, inputs, 3, 3),
            "noise_strength": self.normal(1).reshape(()),
            "bias": self.normal(outputs) * np.float32(0.3),
            "noise_const": self.normal(resolution, resolution),
            **self.filter(),
        }
        attributes = {
            "resolution": resolution,
            "up": up,
            "use_noise": True,
            "activation": "lrelu",
            "conv_clamp": self.clamp,
        }
        affine = self.dense(self.style, inputs, "linear", bias=1.0)
        return Module("SynthesisLayer", arrays, {"affine": affine}, attributes)

    def to_image(self, inputs: int) -> Module:
        arrays = {"weight": self.normal(self.colors, inputs, 1, 1), "bias": self.normal(self.colors)}
        affine = self.dense(self.style, inputs, "linear", bias=1.0)
        gain = {"conv_clamp": self.clamp, "weight_gain": np.float64(1 / math.sqrt(inputs))}
        return Module("ToRGBLayer", arrays, {"affine": affine}, gain)

    def mapping(self, latent: int, features: int, layers: int, of_generator: bool) -> Module:
        modules = {}
        inputs = latent
        if self.classes:
            modules["embed"] = self.dense(self.classes, features, "linear")
            inputs += features
        for i in range(layers):
            modules[f"fc{i}"] = self.dense(inputs if i == 0 else features, features, "lrelu", 0.01)
        arrays = {"w_avg": self.normal(features)} if of_generator else {}
        attributes = {"z_dim": latent, "c_dim": self.classes, "w_avg_beta": 0.995 if of_generator else None}
        return Module("MappingNetwork", arrays, modules, attributes)

    def generator(self) -> Module:
        blocks = {}
        for level, count in enumerate(self.channels):
            resolution = 4 << level
            before = self.channels[level - 1]
            modules = {}
            if level:
                modules["conv0"] = self.synthesis_layer(before, count, resolution, up=2)
            modules["conv1"] = self.synthesis_layer(count, count, resolution)
            modules["torgb"] = self.to_image(count)
            arrays = self.filter() | ({} if level else {"const": self.normal(count, 4, 4)})
            half = level >= len(self.channels) - self.fp16
            attributes = {"architecture": "skip", "resolution": resolution, "use_fp16": half}
            blocks[f"b{resolution}"] = Module("SynthesisBlock", arrays, modules, attributes)
        synthesis = Module("SynthesisNetwork", {}, blocks, {"w_dim": self.style})
        mapping = self.mapping(self.latent, self.style, self.layers, True)
        return Module("Generator", {}, {"synthesis": synthesis, "mapping": mapping}, {"z_dim": self.latent})

    def discriminator(self) -> Module:
        modules = {}
        top = len(self.channels) - 1
        for level in range(top, 0, -1):
            here, below = self.channels[level], self.channels[level - 1]
            parts = {}
            if level == top or self.architecture == "skip":
                parts["fromrgb"] = self.conv(self.colors, here, 1)
            parts["conv0"], parts["conv1"] = self.conv(here, here), self.conv(here, below, down=2)
            if self.architecture == "resnet":
                parts["skip"] = self.conv(
                    here, below, 1, down=2, activation="linear", bias=False, clamp=False
                )
            attributes = {"architecture": self.architecture, "resolution": 4 << level}
            modules[f"b{4 << level}"] = Module("DiscriminatorBlock", self.filter(), parts, attributes)
        first = self.channels[0]
        parts = (
            {"fromrgb": self.conv(self.colors, first, 1, clamp=False)} if self.architecture == "skip" else {}
        )
        parts["mbstd"] = Module("MinibatchStdLayer", {}, {}, {"group_size": self.group, "num_channels": 1})
        parts["conv"] = self.conv(first + 1, first)
        parts["fc"] = self.dense(first * 16, first, "lrelu")
        parts["out"] = self.dense(first, first if self.classes else 1, "linear")
        modules["b4"] = Module("DiscriminatorEpilogue", {}, parts, {"architecture": self.architecture})
        if self.classes:
            modules["mapping"] = self.mapping(0, first, 3, False)
        return Module("Discriminator", {}, modules, {"c_dim": self.classes})


def contents(**settings: Any) -> dict[str, Module]:
    """G, D and G_ema of one form."""
    return {
        "G": Networks(1, **settings).generator(),
        "D": Networks(2, **settings).discriminator(),
        "G_ema": Networks(3, **settings).generator(),
    }


def file_of(
    networks: dict[str, Module],
    protocol: int = 3,
    as_tensor: Callable[[np.ndarray], Any] = tensor,
    **others: Any,
) -> bytes:
    """A whole file."""
    options = {"class_name": "training.dataset.ImageFolderDataset", "path": "/data/cats.zip", "xflip": False}
    snapshot = {"training_set_kwargs": New(Global("dnnlib.util", "EasyDict"), options)}
    snapshot |= {name: module.record(as_tensor) for name, module in networks.items()}
    snapshot["augment_pipe"] = Module("AugmentPipe", {"p": np.zeros((), np.float32)}).record()
    return dumps({**snapshot, **others}, protocol)
