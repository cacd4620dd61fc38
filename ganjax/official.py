"""NVIDIA's StyleGAN2-ADA networks (their PyTorch pickles) as settings and weights of ours, without PyTorch,
and without running anything of the file.

Such a file is a plain pickle of a dict with the networks G, D and G_ema. A network is the record of a call of
`torch_utils.persistence._reconstruct_persistent_obj`, which in its own program runs the source code that the
record brings along. Here it stays a record: of its `state`, a module's parameters, buffers, submodules and
attributes are looked at, and the source is dropped. A tensor's memory is an argument of
`torch.storage._load_from_bytes`, a file of PyTorch's within the file, which is read by the same means.

What a network is follows from the shapes of its tensors and from its attributes, and must agree with them to
the last tensor. The networks are those of Karras et al. 2020, "Training generative adversarial networks with
limited data"; `ganjax.nets.stylegan2` has the same, with other names and layouts.
"""

import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from ganjax import pickled
from ganjax.errors import RunError, one_line
from ganjax.pickled import Name, NotPlain, Span, Tensor
from ganjax.weights import MAX_BYTES, array_of, torch_legacy

_FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
_PERSISTENT = "torch_utils.persistence"
_MAX_INNER = 2**16  # bytes of the program of a file in the file, which has one tensor's memory
_MAX_INSTRUCTIONS = 2**20
_MODULES = 10_000  # of a network, at most
_MAX_PROGRAM = 2**26  # bytes of the file besides its arrays; a real one has some hundred thousand

Tree = dict[str, Any]


class Official(NamedTuple):
    """What such a file holds, in our terms.

    Attributes:
      settings: of `StyleGAN2Recipe`, those that the networks decide.
      image_shape: (H, W, C).
      num_classes: 0 for an unconditional GAN.
      generator: parameters of `StyleGAN2Generator`; None where the file has the average alone.
      average: the averaged ones.
      discriminator: parameters of `StyleGAN2Discriminator`, or None.
      generator_stats: the generator's other collections.
      images: how many the networks were trained on, if the file says so.
      dataset: the name of the data, if the file says so.
    """

    settings: dict[str, Any]
    image_shape: tuple[int, int, int]
    num_classes: int
    generator: Tree | None
    average: Tree
    discriminator: Tree | None
    generator_stats: Tree
    images: int | None
    dataset: str | None


def read_official(path: epath.PathLike) -> Official:
    """Reads one of NVIDIA's StyleGAN2-ADA pickles. The file may come from anywhere: nothing in it is run.

    Of the file no more than one array at a time is in memory, besides what is made of it.

    Raises:
      RunError: it is of another kind, which the message names; is damaged; names what has no place in it; or
        holds networks that ours can't be.
    """
    name = os.fspath(path)
    try:
        with open(os.path.expanduser(name), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise RunError(f"{name}: {size} bytes; networks of up to {MAX_BYTES} are read")
            return _networks(_content(Span(file, 0, size)), size)
    except OSError as error:
        raise RunError(f"{name} can't be read: {error.strerror or error}") from error
    except NotPlain as error:
        raise RunError(f"{name}: {_refusal(error)}. Nothing in it was run") from error
    except _Other as error:
        raise RunError(f"{name}: {error}") from error
    except (RunError, MemoryError):
        raise
    except Exception as error:  # pickletools and zipfile promise no particular errors
        raise RunError(f"{name}: a damaged pickle: {one_line(error)}; get the file again") from error


class _Other(ValueError):
    """It is whole, and something else than is read here."""


_EXPECTED = "expected a StyleGAN2-ADA network in PyTorch (G, D and G_ema)"


def _refusal(error: NotPlain) -> str:
    where = error.name.module if error.name is not None else ""
    if where.startswith("dnnlib.tflib"):
        return (
            f"a network of NVIDIA's for TensorFlow ({error.name}); {_EXPECTED}, which their legacy.py writes"
        )
    if where.startswith(("torch.nn", "__main__")) or where.split(".")[0] in ("training", "models", "model"):
        return f"a pickle of whole Python objects ({error.name}); {_EXPECTED}"
    return f"refused, for {one_line(error)}, which has no place in a file of networks"


def _content(span: Span) -> Any:
    """The pickle's value, with `Thing`s for records and `Held` storages."""
    head = span.part(0, min(len(span), 64)).read()
    if not head:
        raise _Other(f"the file is empty; {_EXPECTED}")
    if head[:4] == b"PK\x03\x04":
        raise _Other(f"a zip archive, as of torch.save, and no pickle; {_EXPECTED}")
    if head.lstrip()[:1] == b"<":
        raise _Other("a web page, perhaps what a server answered in the file's place; get the file again")
    if head[:1] != b"\x80":
        raise _Other(f"not a pickle; {_EXPECTED}")
    file = pickled.Skimmed(span, _MAX_PROGRAM)
    return pickled.load(
        file,
        {
            Name(_PERSISTENT, "_reconstruct_persistent_obj"): _record,
            Name("torch.storage", "_load_from_bytes"): _storage,
            Name("dnnlib.util", "EasyDict"): _dict,
        },
        _MAX_INSTRUCTIONS,
    )


def _record(meta: Any) -> pickled.Thing:
    """A persistent object: its class by name alone, and its state."""
    if (
        not isinstance(meta, dict)
        or meta.get("type") != "class"
        or not isinstance(meta.get("class_name"), str)
    ):
        raise NotPlain("a persistent object is not the record of a class")
    return pickled.Thing(Name(_PERSISTENT, meta["class_name"]), meta.get("state"))


def _dict(*arguments: Any) -> Tree:
    if arguments:
        raise NotPlain("a dict is made of arguments")
    return {}


class Held(pickled.Storage):
    """A storage whose bytes are known.

    Attributes:
      content: of all of it, a part's too.
      big: they are big-endian.
      nbytes: that were copied for it, and do not lie in the file.
    """

    def __init__(self, storage: pickled.Storage, content: Span, big: bool, nbytes: int):
        super().__init__(storage.dtype, storage.key, storage.size, storage.start)
        self.content, self.big, self.nbytes = content, big, nbytes


def _storage(content: Any) -> Held:
    """A storage from a file of PyTorch's, of either format."""
    copied = 0
    if isinstance(content, str):  # protocol 2 has no bytes
        content = content.encode("latin1")
        copied = len(content)
    if isinstance(content, bytes):
        content = Span(io.BytesIO(content), 0, len(content))
    if not isinstance(content, Span):
        raise NotPlain("a tensor's memory is no bytes")
    zipped = content.part(0, min(4, len(content))).read() == b"PK\x03\x04"
    found, big, storages = _zip(content) if zipped else torch_legacy(content, _MAX_INNER)
    if not isinstance(found, pickled.Storage):
        raise NotPlain(f"a tensor's memory is a {type(found).__name__}")
    if found.key not in storages:
        raise ValueError("a tensor's memory is missing")
    return Held(found, storages[found.key], big, copied)


def _zip(content: Span) -> tuple[Any, bool, dict[str, Span]]:
    """PyTorch's newer format, as `torch_legacy` gives the older one: memory stays where it is in the file."""
    whole = content.read()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {member.filename: member for member in archive.infolist()}
        for member in members.values():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(content):
                raise ValueError("a tensor's memory is compressed")
        root = next((name.removesuffix("data.pkl") for name in members if name.endswith("data.pkl")), None)
        if root is None:
            raise ValueError("a tensor's memory is missing")
        if members[root + "data.pkl"].file_size > _MAX_INNER:
            raise ValueError("a tensor's memory has a program of too many instructions")
        tree = pickled.load(io.BytesIO(archive.read(root + "data.pkl")))

    def place(member: zipfile.ZipInfo) -> Span:
        head = whole[member.header_offset : member.header_offset + 30]
        name, extra = struct.unpack("<HH", head[26:])
        return content.part(member.header_offset + 30 + name + extra, member.file_size)

    order = members.get(root + "byteorder")
    big = order is not None and order.file_size < 16 and place(order).read().strip() == b"big"
    folder = root + "data/"
    inner = {name: member for name, member in members.items() if name.startswith(folder)}
    return tree, big, {name.removeprefix(folder): place(member) for name, member in inner.items()}


# Modules.


class _Reading:
    """Which tensors were read, and how much more may be: tensors may share what is in the file."""

    def __init__(self, budget: int):
        self.names: set[str] = set()
        self._left = budget

    def note(self, name: str, size: int) -> None:
        self.names.add(name)
        self._left -= size
        if self._left < 0:
            raise _Other("its networks are many times as large as the file")


class _Module:
    """A network's module, as its record has it.

    Attributes:
      path: in the file, as in "G_ema.synthesis.b4".
      name: the last part of it.
      kind: the class's name.
    """

    def __init__(self, path: str, thing: Any, reading: "_Reading"):
        state = thing.state if isinstance(thing, pickled.Thing) else None
        if not isinstance(state, dict):
            raise _Other(f"{path} is no network; {_EXPECTED}")
        self.path, self.kind = path, thing.kind.name
        self.name = path.rsplit(".", 1)[-1]
        self._state, self._reading = state, reading
        self._modules = self._collection("_modules")
        self._tensors = {**self._collection("_buffers"), **self._collection("_parameters")}

    def _collection(self, name: str) -> Tree:
        found = self._state.get(name, {})
        if not isinstance(found, dict):
            raise _Other(f"{self.path} is no network; {_EXPECTED}")
        return {key: value for key, value in found.items() if value is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._modules or name in self._tensors

    def __getitem__(self, name: str) -> "_Module":
        if name not in self._modules:
            raise _Other(f"{self.path} has no {name}: not a StyleGAN2 network")
        return _Module(f"{self.path}.{name}", self._modules[name], self._reading)

    def modules(self) -> Iterator["_Module"]:
        """It and all below it."""
        waiting: list[tuple[_Module, int]] = [(self, 0)]
        seen = 0
        while waiting:
            module, depth = waiting.pop()
            yield module
            seen += 1
            # The same modules may stand in many places, so that few bytes are many.
            if depth > 16 or seen + len(waiting) + len(module._modules) > _MODULES:
                raise _Other(f"{self.path} has modules in modules without end")
            waiting += [(module[name], depth + 1) for name in module._modules]

    def of_mapping(self) -> bool:
        """Whether it is a layer of a mapping network, but for that of labels."""
        return self.path.split(".")[-2:-1] == ["mapping"] and self.name != "embed"

    def tensors(self) -> list[str]:
        return [f"{self.path}.{name}" for name in self._tensors]

    def attribute(self, name: str, default: Any = None) -> Any:
        """A number, text or None; `default` where there is none."""
        value = self._state.get(name, default)
        if isinstance(value, np.ndarray) and value.shape == ():
            value = value.item()
        if not isinstance(value, bool | int | float | str | None):
            raise _Other(f"{self.path}.{name} is a {type(value).__name__}, not a number or text")
        return value

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensor(name).shape

    def array(self, name: str) -> np.ndarray:
        """A tensor, float32, as it is in the file."""
        tensor = self._tensor(name)
        self._reading.note(f"{self.path}.{name}", 4 * math.prod(tensor.shape))
        storage = tensor.storage
        if not isinstance(storage, Held):
            raise _Other(f"{self.path}.{name} has no memory in the file")
        if not np.issubdtype(storage.dtype, np.floating) and storage.dtype != pickled.bfloat16():
            raise _Other(f"{self.path}.{name} is {storage.dtype}: expected floating numbers")
        array = array_of(tensor, storage.content.read(), storage.big, f"{self.path}.{name}")
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise _Other(f"{self.path}.{name} holds numbers that are not finite")
        return array

    def _tensor(self, name: str) -> Tensor:
        tensor = self._tensors.get(name)
        if not isinstance(tensor, Tensor):
            raise _Other(f"{self.path} has no tensor {name}: not a StyleGAN2 network")
        return tensor


def _networks(content: Any, size: int) -> Official:
    if not isinstance(content, dict):
        what = f"of a {content.kind.name}" if isinstance(content, pickled.Thing) else f"of a {_kind(content)}"
        raise _Other(f"a pickle {what}; {_EXPECTED}")
    if "G_ema" not in content:
        keys = ", ".join(str(key)[:40] for key in list(content)[:5]) or "nothing"
        raise _Other(f"a pickle of a dict with {keys}, and no G_ema; {_EXPECTED}")
    reading = _Reading(
        8 * size + 2**20
    )  # half precision is read as float32, and a network may be in it twice
    players = {
        name: _Module(name, content[name], reading)
        for name in ("G_ema", "G", "D")
        if content.get(name) is not None
    }
    for player in players.values():
        _check_family(player)
    average, form = players["G_ema"], _generator_settings(players["G_ema"])
    settings, shape, classes, channels = form
    levels = len(channels) - 1
    if "G" in players and _generator_settings(players["G"]) != form:
        raise _Other("G is another network than G_ema; expected both of one form")
    if "D" in players:
        settings = settings | _discriminator_settings(players["D"], classes, channels, settings)
    official = Official(
        settings=settings,
        image_shape=shape,
        num_classes=classes,
        average=_generator(average, levels),
        generator=_generator(players["G"], levels) if "G" in players else None,
        discriminator=_discriminator(players["D"], levels) if "D" in players else None,
        generator_stats=_generator_stats(average, levels, settings["style_size"]),
        images=_images_seen(content),
        dataset=_dataset(content),
    )
    for player in players.values():
        left = [name for part in player.modules() for name in part.tensors() if name not in reading.names]
        left = [name for name in left if name.rsplit(".", 1)[1] not in _UNUSED]
        if left:
            raise _Other(f"{left[0]} has no place in our StyleGAN2 ({len(left)} such tensors)")
    return official


# Buffers that are checked or of no use: G's own, beside the average's, are the same.
_UNUSED = {"resample_filter", "noise_const", "w_avg"}


def _kind(value: Any) -> str:
    return "tensor" if isinstance(value, Tensor) else type(value).__name__


def _check_family(player: _Module) -> None:
    for part in player.modules():
        if part.kind == "SynthesisInput" or "magnitude_ema" in part:
            raise _Other(f"a StyleGAN3 network ({part.path} is a {part.kind}); {_EXPECTED}")


def _images_seen(content: Tree) -> int | None:
    seen = content.get("cur_nimg")
    return seen if type(seen) is int and 0 <= seen < 2**40 else None


def _dataset(content: Tree) -> str | None:
    options = content.get("training_set_kwargs")
    path = options.get("path") if isinstance(options, dict) else None
    if not isinstance(path, str):
        return None
    name = path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].removesuffix(".zip")
    return name if name and name.isprintable() and len(name) <= 100 else None


# Settings.


def _generator_settings(network: _Module) -> tuple[Tree, tuple[int, int, int], int, tuple[int, ...]]:
    """Settings of ours, the images' shape, the number of classes, and the channels by level."""
    synthesis, mapping = network["synthesis"], network["mapping"]
    levels = _levels(synthesis)
    blocks = [synthesis[f"b{4 << level}"] for level in range(levels + 1)]
    for block in blocks:
        if (architecture := block.attribute("architecture", "skip")) != "skip":
            raise _Other(f"{block.path} is of the architecture {architecture}; our generators are of skip")
    channels = tuple(_size(block["conv1"], "weight", 0) for block in blocks)
    style_size = _size(blocks[0]["conv1"]["affine"], "weight", 1)
    classes = _size(mapping["embed"], "weight", 1) if "embed" in mapping else 0
    embedded = _size(mapping["embed"], "weight", 0) if classes else 0
    layers = _count(mapping)
    latent_size = _size(mapping["fc0"], "weight", 1) - embedded
    if classes and latent_size != embedded:
        raise _Other(
            f"{mapping.path}: latents of {latent_size} entries and labels of {embedded}; ours are of as many"
        )
    widths = {_size(mapping[f"fc{i}"], "weight", 0) for i in range(layers)}
    if latent_size < 1 or widths != {style_size}:
        raise _Other(
            f"{mapping.path}: layers of {sorted(widths)} entries, styles of {style_size}; ours are of as many"
        )
    settings = {
        **_channels(channels),
        "latent_size": latent_size,
        "style_size": style_size,
        "mapping_layers": layers,
        "mapping_multiplier": _multiplier(mapping),
        "clamp": _clamp(network),
        "low_levels": sum(block.attribute("use_fp16", False) is True for block in blocks),
    }
    decay = mapping.attribute("w_avg_beta")
    if isinstance(decay, float) and 0 <= decay < 1:
        settings["mean_decay"] = decay
    _check_layers(network)
    return settings, (4 << levels, 4 << levels, _size(blocks[0]["torgb"], "weight", 0)), classes, channels


def _discriminator_settings(
    network: _Module, classes: int, channels: tuple[int, ...], of_generator: Tree
) -> Tree:
    levels, last = len(channels) - 1, network["b4"]
    if _levels(network) != levels:
        raise _Other(f"D is of images of {4 << _levels(network)} pixels, and G_ema of {4 << levels}")
    blocks = [network[f"b{4 << level}"] for level in range(1, levels + 1)]
    if (
        _size(last["fc"], "weight", 0),
        *(_size(block["conv0"], "weight", 0) for block in blocks),
    ) != channels:
        raise _Other("D and G_ema have other numbers of channels; ours have the same")
    architectures = {block.attribute("architecture", "resnet") for block in (last, *blocks)}
    known = {"resnet": "residual", "orig": "plain", "skip": "skip"}
    if len(architectures) != 1 or not architectures <= set(known):
        raise _Other(
            f"D is of the architecture {', '.join(map(str, architectures))}; expected {', '.join(known)}"
        )
    if (
        labelled := _size(network["mapping"]["embed"], "weight", 1) if "mapping" in network else 0
    ) != classes:
        raise _Other(f"D knows {labelled} classes, and G_ema {classes}")
    if _clamp(network) != of_generator["clamp"]:
        raise _Other(f"D clamps at {_clamp(network)}, and G_ema at {of_generator['clamp']}; ours at the same")
    settings: Tree = {"architecture": known[str(architectures.pop())], "group": 0}
    if classes:
        mapping = network["mapping"]
        settings["label_layers"] = _count(mapping)
        widths = {_size(mapping[f"fc{i}"], "weight", axis) for i in range(_count(mapping)) for axis in (0, 1)}
        if widths | {_size(last["out"], "weight", 0)} != {channels[0]}:
            raise _Other(f"{mapping.path}: layers of {sorted(widths)} entries; ours are of {channels[0]}")
        if _multiplier(mapping) != of_generator["mapping_multiplier"]:
            raise _Other("the mapping networks of D and G_ema learn at other rates; ours at the same")
    extra = _size(last["conv"], "weight", 1) - channels[0]
    if extra > 1:
        raise _Other(f"{last.path}: a deviation for each of {extra} groups of features; ours is one for all")
    if extra == 1:
        group = last["mbstd"].attribute("group_size", 4)
        settings["group"] = _ALL if group is None else group
        if type(settings["group"]) is not int or not 1 <= settings["group"] <= _ALL:
            raise _Other(f"{last.path}: groups of {group} images")
    _check_layers(network)
    return settings


_ALL = 2**20  # images: the whole batch is one group


def _levels(blocks: _Module) -> int:
    level = next(level for level in range(16) if f"b{4 << level}" not in blocks) - 1
    if level < 0:
        raise _Other(f"{blocks.path} has no block of 4x4 pixels: not a StyleGAN2 network")
    return level


def _count(mapping: _Module) -> int:
    layers = next(i for i in range(1000) if f"fc{i}" not in mapping)
    if not layers:
        raise _Other(f"{mapping.path} has no layers: not a StyleGAN2 network")
    return layers


def _size(module: _Module, name: str, axis: int) -> int:
    shape = module.shape(name)
    if not axis < len(shape):
        raise _Other(f"{module.path}.{name} has the shape {list(shape)}: not a StyleGAN2 network")
    return shape[axis]


def _channels(by_level: tuple[int, ...]) -> Tree:
    """The settings by which levels have these channels: half as many from level to level, and a maximum."""
    maximum = max(by_level)
    for base in {maximum << (len(by_level) - 1), *(count << level for level, count in enumerate(by_level))}:
        if all(max(min(base >> level, maximum), 1) == count for level, count in enumerate(by_level)):
            return {"channel_base": base, "channel_max": maximum}
    raise _Other(
        f"channels of {', '.join(map(str, by_level))} by level; ours are half as many from one to the next"
    )


def _multiplier(mapping: _Module) -> float:
    """Of the learning rate of a mapping network's layers."""
    found = {mapping[f"fc{i}"].attribute("bias_gain", 0.01) for i in range(_count(mapping))}
    value = found.pop()
    if found or not isinstance(value, int | float) or not 0 < value <= 1000:
        raise _Other(f"{mapping.path}: its layers learn at different rates")
    return float(value)


def _clamp(network: _Module) -> float | None:
    """Where a network's activations are cut off."""
    parts = [part for part in network.modules() if part.name in _CLAMPED]
    parts = [part for part in parts if not part.path.endswith(".b4.fromrgb")]  # which never is
    found = {part.attribute("conv_clamp") for part in parts}
    value = found.pop()
    if found or not isinstance(value, int | float | None):
        raise _Other(f"{network.path}: its layers are clamped at different values")
    return None if value is None else float(value)


_CLAMPED = ("conv", "conv0", "conv1", "torgb", "fromrgb")
_LINEAR = ("affine", "embed", "out", "skip")


def _check_layers(network: _Module) -> None:
    """Raises `_Other` where a layer computes something else than ours."""
    for part in network.modules():
        if "resample_filter" in part and not (
            part.shape("resample_filter") == (4, 4)
            and np.allclose(part.array("resample_filter"), _FILTER, atol=1e-6)
        ):
            raise _Other(f"{part.path} resamples with another filter than [1, 3, 3, 1], which ours has")
        if "weight" not in part:
            continue
        expected = "linear" if part.name in _LINEAR else "lrelu"
        if part.name != "torgb" and (found := part.attribute("activation", expected)) != expected:
            raise _Other(f"{part.path} has the activation {found}; ours has {expected}")
        multiplier = part.attribute("bias_gain", 0.01 if part.of_mapping() else 1.0)
        if not part.of_mapping() and multiplier != 1:
            raise _Other(f"{part.path} learns at {multiplier} of the rate; ours at all of it")
        gain = multiplier / math.sqrt(max(math.prod(part.shape("weight")[1:]), 1))
        if not math.isclose(part.attribute("weight_gain", gain), gain, rel_tol=1e-4):
            raise _Other(f"{part.path} scales its weights by {part.attribute('weight_gain')}; ours by {gain}")


# Weights. Of ours a kernel is [height, width, in, out], and of theirs [out, in, height, width].


def _kernel(module: _Module, flipped: bool = False) -> np.ndarray:
    kernel = module.array("weight").transpose(2, 3, 1, 0)
    return np.ascontiguousarray(kernel[::-1, ::-1] if flipped else kernel)


def _conv(module: _Module) -> Tree:
    """A convolution of the discriminator."""
    return {"kernel": _kernel(module)} | ({"bias": module.array("bias")} if "bias" in module else {})


def _dense(module: _Module) -> Tree:
    return {"kernel": np.ascontiguousarray(module.array("weight").T), "bias": module.array("bias")}


def _modulated(module: _Module, flipped: bool = False) -> Tree:
    """One of the generator's. Their upsampling ones are convolutions in the strict sense, with the kernel's
    taps in reverse, and ours are correlations."""
    layer = {
        "kernel": _kernel(module, flipped),
        "bias": module.array("bias"),
        "style": _dense(module["affine"]),
    }
    if module.name != "torgb":
        # Without noise in the file, ours has the strength 0.
        layer["strength"] = module.array("noise_strength") if "noise_strength" in module else np.float32(0)
    return layer


def _mapping(mapping: _Module, layer: str) -> Tree:
    """The layers of a mapping network; ours are called `layer` and a number.

    Their activation is scaled by sqrt(2) after it, ours before it, in the weights' gain: the biases differ.
    """
    layers = {}
    for i in range(_count(mapping)):
        dense = _dense(mapping[f"fc{i}"])
        layers[f"{layer}{i}"] = {**dense, "bias": np.float32(math.sqrt(2)) * dense["bias"]}
    if "embed" not in mapping:
        return layers
    weight = mapping["embed"].array("weight")
    table = weight.T / np.float32(math.sqrt(weight.shape[1])) + mapping["embed"].array("bias")
    return {**layers, "label": {"embedding": np.ascontiguousarray(table, np.float32)}}


def _generator(network: _Module, levels: int) -> Tree:
    synthesis = network["synthesis"]
    first = synthesis["b4"]
    found: Tree = {
        "constant": np.ascontiguousarray(first.array("const").transpose(1, 2, 0)),
        "conv": _modulated(first["conv1"]),
        "image_0": _modulated(first["torgb"]),
    }
    for level in range(1, levels + 1):
        block = synthesis[f"b{4 << level}"]
        found[f"up_{level}"] = _modulated(block["conv0"], flipped=True)
        found[f"conv_{level}"] = _modulated(block["conv1"])
        found[f"image_{level}"] = _modulated(block["torgb"])
    return {"mapping": _mapping(network["mapping"], "dense_"), "synthesis": found}


def _generator_stats(network: _Module, levels: int, style_size: int) -> Tree:
    synthesis, mapping = network["synthesis"], network["mapping"]
    convs = [synthesis["b4"]["conv1"]]
    for level in range(1, levels + 1):
        convs += [synthesis[f"b{4 << level}"][name] for name in ("conv0", "conv1")]
    sides = [4 << ((i + 1) // 2) for i in range(len(convs))]
    noise = {
        str(i): conv.array("noise_const") if "noise_const" in conv else np.zeros((side, side), np.float32)
        for i, (conv, side) in enumerate(zip(convs, sides, strict=True))
    }
    mean = mapping.array("w_avg") if "w_avg" in mapping else np.zeros(style_size, np.float32)
    return {"styles": {"mean": mean}, "noise": noise}


def _discriminator(network: _Module, levels: int) -> Tree:
    last = network["b4"]
    found: Tree = {"conv": _conv(last["conv"]), "dense": _dense(last["fc"]), "logits": _dense(last["out"])}
    # Of the last features theirs has the channel first, ours last.
    kernel = found["dense"]["kernel"]
    channels = kernel.shape[0] // 16
    kernel = kernel.reshape(channels, 16, -1).transpose(1, 0, 2).reshape(kernel.shape)
    found["dense"]["kernel"] = np.ascontiguousarray(kernel)
    for level in range(levels + 1):
        block = network[f"b{4 << level}"]
        if "fromrgb" in block:
            found["image" if level == levels else f"image_{level}"] = _conv(block["fromrgb"])
        if level:
            found[f"conv_{level}"] = _conv(block["conv0"])
            found[f"down_{level}"] = _conv(block["conv1"])
            if "skip" in block:
                found[f"skip_{level}"] = _conv(block["skip"])
    if "mapping" in network:
        found |= _mapping(network["mapping"], "label_")
    return found
