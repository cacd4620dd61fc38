"""NVIDIA's networks: what is read of a file, that ours give the same, and what is refused."""

import contextlib
import io
import os
import pickle
import struct
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.official_files import (
    SOURCE,
    Call,
    Global,
    Module,
    Networks,
    New,
    Stored,
    blob,
    contents,
    dumps,
    file_of,
    persistent,
    tensor,
)
from ganjax import official
from ganjax.errors import RunError
from ganjax.nets.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from ganjax.official import read_official


@pytest.fixture
def read(tmp_path):
    """(bytes) -> what is read of a file of them."""

    def read(content: bytes) -> official.Official:
        path = tmp_path / "network.pkl"
        path.write_bytes(content)
        return read_official(path)

    return read


def networks_of(found: official.Official) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator]:
    of_both = {name: found.settings[name] for name in ("channel_base", "channel_max", "clamp")}
    generator = StyleGAN2Generator(
        found.image_shape,
        len(found.generator_stats["noise"]) // 2,
        found.num_classes,
        style_size=found.settings["style_size"],
        mapping_layers=found.settings["mapping_layers"],
        mapping_multiplier=found.settings["mapping_multiplier"],
        constant_noise=True,
        **of_both,
    )
    discriminator = StyleGAN2Discriminator(
        generator.level,
        found.num_classes,
        found.settings["architecture"],
        group=found.settings["group"],
        mapping_layers=found.settings.get("label_layers", 1),
        mapping_multiplier=found.settings["mapping_multiplier"],
        **of_both,
    )
    return generator, discriminator


def forms(tree: Any) -> Any:
    return jax.tree.map(lambda x: (np.shape(x), np.dtype(x.dtype)), tree)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "classes": 3,
            "channels": (8, 8, 4),
            "architecture": "skip",
            "colors": 1,
            "clamp": None,
            "group": None,
        },
        {"channels": (4, 4), "architecture": "orig", "latent": 7, "layers": 8, "fp16": 1},
    ],
)
def test_settings_and_shapes(read, settings):
    found = read(file_of(contents(**settings), cur_nimg=6400))
    generator, discriminator = networks_of(found)
    latents, images = jnp.zeros((2, found.settings["latent_size"])), jnp.zeros((2, *found.image_shape))
    labels = jnp.zeros(2, jnp.int32) if found.num_classes else None
    key = jax.random.key(0)
    wanted = jax.eval_shape(lambda: generator.init(key, latents, labels, train=True))
    assert forms(found.average) == forms(found.generator) == forms(wanted["params"])
    assert forms(found.generator_stats) == forms({name: wanted[name] for name in ("styles", "noise")})
    wanted = jax.eval_shape(lambda: discriminator.init(key, images, labels, train=True))
    assert forms(found.discriminator) == forms(wanted["params"])
    assert found.image_shape == (4 << generator.level, 4 << generator.level, settings.get("colors", 3))
    assert found.settings["clamp"] == settings.get("clamp", 256.0)
    assert found.settings["mapping_layers"] == settings.get("layers", 2)
    assert found.settings["low_levels"] == settings.get("fp16", 0)
    assert found.settings["mean_decay"] == 0.995
    assert (found.images, found.dataset) == (6400, "cats")


def zipped_tensor(array: np.ndarray) -> Call:
    """As `tensor`, its memory in PyTorch's newer format."""
    whole = tensor(array)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", dumps(Stored("FloatStorage", array.size), 2))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/94110", np.array(array, np.float32, order="C").tobytes())
    storage = Call(Global("torch.storage", "_load_from_bytes"), file.getvalue())
    return Call(whole.function, storage, *whole.arguments[1:])


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_protocol_and_half_precision(read, protocol):
    networks = contents(channels=(2, 2), latent=2, style=2, layers=1)
    first, other = read(file_of(networks)), read(file_of(networks, protocol))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
        assert np.array_equal(a, b)
    zipped = read(file_of(networks, as_tensor=zipped_tensor))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(zipped), strict=True):
        assert np.array_equal(a, b)
    half = read(file_of(networks, as_tensor=lambda x: tensor(x.astype(np.float16))))
    assert jax.tree.leaves(half.average)[0].dtype == np.float32


def test_networks_without_what_is_not_needed(read):
    found = read(file_of({"G_ema": contents()["G_ema"]}))
    assert found.generator is None
    assert found.discriminator is None


# Refused, each with a payload that would leave a file behind.


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def calls(path: Any) -> dict[str, Any]:
    """Payloads by where they are."""
    command = f"touch {path}"
    shell, evaluate = Global("os", "system"), Global("builtins", "eval")
    code = f"__import__('os').system('{command}')"
    small = Networks(channels=(2, 2)).generator()
    hostile_source = persistent("Generator", {})
    hostile_source.arguments[0]["module_src"] = code
    inner = b"".join([dumps(0x1950A86A20F9469CFC6C, 2), dumps(1001, 2), dumps({}, 2)])
    load = Global("torch.storage", "_load_from_bytes")
    state = {"_parameters": {}, "_modules": {"x": Call(shell, command)}}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", dumps(Call(shell, command), 2))
    return {
        "at the top": Call(shell, command),
        "as a value": {"G_ema": small.record(), "more": Call(evaluate, code)},
        "in a module": {"G_ema": persistent("Generator", state)},
        "as the source": {"G_ema": hostile_source},
        "as a class": {"G_ema": persistent("os.system", {"_modules": {}}, version=command)},
        "as a persistent function": {"G_ema": persistent("f", {}, type="function", func=code)},
        "by a state": {"G_ema": Call(Global("os", "_wrap_close"), state={"cmd": command})},
        "by another function of persistence": Call(Global("torch_utils.persistence", "import_hook"), code),
        "in an inner file": {"G_ema": Call(load, inner + dumps(Call(shell, command), 2) + dumps([], 2))},
        "in the head of an inner file": {"G_ema": Call(load, dumps(Call(evaluate, code), 2))},
        "in an inner archive": {"G_ema": Call(load, zipped.getvalue())},
        "in a file of an inner file": {"G_ema": Call(load, inner + dumps(Call(load, b""), 2))},
        "as a made object": {"G_ema": New(Global("subprocess", "Popen"), {"args": command})},
        "by torch": {"G_ema": Call(Global("torch.serialization", "load"), command)},
        "by numpy": {"G_ema": Call(Global("numpy.testing._private.utils", "runstring"), code, {})},
    }


@pytest.mark.parametrize("where", list(calls("x")))
def test_a_payload_is_not_run(read, tmp_path, where):
    left = tmp_path / "left"
    with pytest.raises(RunError) as caught:
        read(dumps(calls(left)[where]))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "network.pkl"))
    assert [path.name for path in tmp_path.iterdir()] == ["network.pkl"]


def test_the_payloads_would_run(tmp_path):
    """Where Python's own reader is used: or the tests beside would prove nothing."""
    for i, content in enumerate(
        [
            lambda left: dumps(calls(left)["at the top"]),
            lambda left: dumps(calls(left)["as a value"]["more"]),
            lambda left: pickle.dumps(Payload(left)),
        ]
    ):
        left = tmp_path / f"left{i}"
        pickle.loads(content(left))
        assert left.exists()


def test_a_payload_as_python_writes_it(read, tmp_path):
    left = tmp_path / "left"
    for protocol in range(2, 6):
        with pytest.raises(
            RunError, match=r"refused, for it names (posix|nt)\.system.*Nothing in it was run"
        ):
            read(pickle.dumps({"G_ema": Payload(left)}, protocol))
    assert not left.exists()
    assert SOURCE.encode() in file_of(contents())  # and what would be run is in every file


def stylegan3(code: str = SOURCE) -> dict[str, Any]:
    source = Module("SynthesisInput", {"weight": np.ones((2, 2), np.float32)})
    layer = Module("SynthesisLayer", {"magnitude_ema": np.ones((), np.float32)})
    synthesis = Module("SynthesisNetwork", {}, {"input": source, "L0_36_512": layer})
    record = Module("Generator", {}, {"synthesis": synthesis}).record()
    record.arguments[0]["module_src"] = code
    return {"G_ema": record}


def others(path: Any) -> dict[str, tuple[bytes, str]]:
    """Files of other kinds that would leave a file behind if they were run, and what they are said to be."""
    payload, code = Payload(path), f"__import__('os').system('touch {path}')"
    of_tensorflow = New(Global("dnnlib.tflib.network", "Network"), {"version": 4, "build_module_src": code})
    whole = pickle.dumps({"a": Payload(path), "b": list(range(1000))}, 4)
    return {
        "cut off": (whole[: len(whole) // 2], "a damaged pickle|refused, for it names"),
        "cut off before it": (whole[:12], "a damaged pickle"),
        "StyleGAN3": (dumps(stylegan3(code)), "a StyleGAN3 network"),
        "TensorFlow": (dumps((of_tensorflow,) * 3), "for TensorFlow"),
        "unrelated": (pickle.dumps([payload, 1, 2]), r"refused, for it names (posix|nt)\.system"),
        "a checkpoint": (pickle.dumps({"state_dict": {}, "hook": payload}), "refused, for it names"),
    }


@pytest.mark.parametrize("kind", list(others("x")))
def test_other_kinds_run_nothing_either(read, tmp_path, kind):
    left = tmp_path / "left"
    content, message = others(left)[kind]
    with pytest.raises(RunError, match=message):
        read(content)
    assert [path.name for path in tmp_path.iterdir()] == ["network.pkl"]


TENSORFLOW = dumps(tuple(New(Global("dnnlib.tflib.network", "Network"), {"version": 4}) for _ in range(3)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dumps(stylegan3()), "a StyleGAN3 network"),
        (TENSORFLOW, "for TensorFlow"),
        (dumps({"state_dict": {"a": 1}, "epoch": 3}), "a dict with state_dict, epoch, and no G_ema"),
        (dumps([1, 2]), "a pickle of a list"),
        (dumps(3), "a pickle of a int"),
        (dumps(persistent("Generator", {})), "a pickle of a Generator"),
        (dumps({"G_ema": 3}), "G_ema is no network"),
        (dumps({"G_ema": persistent("Generator", {"_modules": {}})}), "has no synthesis"),
        (dumps({"G_ema": New(Global("torch.nn.modules.linear", "Linear"), {})}), "whole Python objects"),
        (b"", "the file is empty"),
        (b"PK\x03\x04 and so on", "a zip archive"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x89PNG\r\n", "not a pickle"),
        (b"(dp0\nS'G_ema'\np1\nI1\ns.", "not a pickle"),
    ],
)
def test_other_files_are_told_by_what_they_are(read, content, message):
    with pytest.raises(RunError, match=message):
        read(content)


def test_a_truncated_one(read):
    content = file_of({"G_ema": Networks(channels=(2, 2), latent=2, style=2, layers=1).generator()})
    for end in [*range(2, 400, 37), len(content) // 2, len(content) - 1]:
        with pytest.raises(RunError, match=r"damaged pickle|refused"):
            read(content[:end])
    draw = np.random.default_rng(0)
    for _ in range(60):  # damage is met by an error of ours, or not at all
        damaged = bytearray(content)
        damaged[draw.integers(len(content))] = draw.integers(256)
        with contextlib.suppress(RunError):
            read(bytes(damaged))


def test_modules_without_end_are_refused_at_once(read):
    """Few modules in many places: a walk through all of these would not end."""
    import time

    for many in (1, 10):
        record = persistent("Layer", {"_modules": {}})
        for _ in range(20 if many == 1 else 15):
            record = persistent("Block", {"_modules": {f"b{i}": record for i in range(many)}})
        start = time.monotonic()
        with pytest.raises(RunError, match="modules in modules without end"):
            read(dumps({"G_ema": record}))
        assert time.monotonic() - start < 5


def test_programs_in_the_file_are_short(read):
    load, many = Global("torch.storage", "_load_from_bytes"), b"\x80\x02(" + b"}" * 2**17 + b"t."
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", many)
    for content in (many, zipped.getvalue()):
        with pytest.raises(RunError, match="too many instructions"):
            read(dumps({"G_ema": Call(load, content)}))


def test_claims_ask_for_no_memory(read):
    import tracemalloc

    huge = Call(Global("torch.storage", "_load_from_bytes"), blob(np.zeros(4, np.float32), claimed=2**60))
    small = Call(Global("torch.storage", "_load_from_bytes"), blob(np.zeros(4, np.float32)))
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    large = Call(rebuild, small, 0, (2**30, 2**20), (0, 0), False, {})
    sliced = Call(rebuild, small, 0, (2**30,), (1,), False, {})
    of_g = Networks(channels=(2, 2)).generator()

    def with_const(value: Any) -> bytes:
        record = of_g.record()
        blocks = record.arguments[0]["state"]["_modules"]["synthesis"].arguments[0]["state"]["_modules"]
        blocks["b4"].arguments[0]["state"]["_parameters"]["const"] = value
        return dumps({"G_ema": record})

    tracemalloc.start()
    for content in (
        with_const(Call(rebuild, huge, 0, (2**58, 4, 4), (16, 4, 1), False, {})),
        with_const(large),
        with_const(sliced),
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
        b"\x80\x04B\xff\xff\xff\x7f.",
    ):
        with pytest.raises(RunError):
            read(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def changed(change: Any, **settings: Any) -> bytes:
    networks = contents(**settings)
    change(networks)
    return file_of(networks)


def block(networks: dict[str, Module], player: str, name: str) -> Module:
    module = networks[player]
    return (module.modules["synthesis"] if player != "D" else module).modules[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda n: block(n, "G_ema", "b8").attributes.update(architecture="resnet"),
            "of the architecture resnet",
        ),
        (lambda n: block(n, "G_ema", "b8").modules.pop("conv0"), "has no conv0"),
        (
            lambda n: block(n, "D", "b8").arrays.update(more=np.ones(2, np.float32)),
            r"D\.b8\.more has no place",
        ),
        (lambda n: block(n, "D", "b8").modules["conv0"].attributes.update(activation="swish"), "swish"),
        (
            lambda n: block(n, "D", "b8").modules["conv0"].attributes.update(conv_clamp=3.0),
            "clamped at different",
        ),
        (lambda n: block(n, "D", "b8").arrays.update(resample_filter=np.ones((4, 4), np.float32)), "filter"),
        (lambda n: n.update(D=Networks(2, channels=(6, 2)).discriminator()), "other numbers of channels"),
        (lambda n: n.update(D=Networks(2, channels=(6, 4), classes=2).discriminator()), "knows 2 classes"),
        (lambda n: n.update(G=Networks(2, channels=(4, 4)).generator()), "another network than G_ema"),
        (lambda n: block(n, "G", "b8").modules["conv0"].arrays["bias"].fill(np.nan), "not finite"),
        (lambda n: n["G_ema"].modules["mapping"].modules["fc0"].attributes.update(weight_gain=3.0), "scales"),
    ],
)
def test_networks_that_ours_are_not(read, change, message):
    with pytest.raises(RunError, match=message):
        read(changed(change))
    assert read(changed(lambda networks: None)).image_shape == (8, 8, 3)


# The same images and logits.


def compared(tmp_path, as_tensor: Any = tensor, **settings: Any) -> None:
    torch = pytest.importorskip("torch", reason="the peers need PyTorch: pip install -e '.[bench]'")
    from benchmarks.peers import stylegan2_official as peer

    networks = contents(**settings)
    path = tmp_path / "network.pkl"
    path.write_bytes(file_of(networks, as_tensor=as_tensor))
    found = read_official(path)
    ours, judge = networks_of(found)
    draw = np.random.default_rng(5)
    latents = draw.standard_normal((3, found.settings["latent_size"]), np.float32)
    labels = np.array([0, 2, 1]) if found.num_classes else None
    one_hot = None if labels is None else torch.nn.functional.one_hot(torch.from_numpy(labels), 3).float()
    variables = {"params": found.average, **found.generator_stats}
    noise = tuple(
        jnp.broadcast_to(found.generator_stats["noise"][str(i)], (3, 4 << (i + 1) // 2, 4 << (i + 1) // 2))
        for i in range(len(found.generator_stats["noise"]))
    )

    @jax.jit
    def both(latents: Any, labels: Any) -> Any:
        styles = ours.apply(variables, latents, labels, train=False, truncation=0.7, method="styles")
        images = ours.apply(variables, styles, noise, method="images")
        plain = ours.apply(variables, styles, method="images")
        params: Any = {"params": found.discriminator}
        return images, plain, judge.apply(params, images, labels, train=False)

    images, plain, logits = jax.device_get(both(latents, labels))
    with torch.no_grad():
        given = torch.from_numpy(latents), one_hot, 0.7
        theirs = peer.generator(networks["G_ema"], *given, "const")
        theirs_plain = peer.generator(networks["G_ema"], *given, "none")
        their_logits = peer.discriminator(networks["D"], theirs, one_hot)
    for a, b in ((images, theirs), (plain, theirs_plain)):
        b = b.numpy().transpose(0, 2, 3, 1)
        assert b.std() > 0.1
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * max(1, float(np.abs(b).max())))
    assert np.abs(images - plain).max() > 0.01
    np.testing.assert_allclose(logits, their_logits.numpy(), rtol=1e-4, atol=1e-3)


def test_the_same_images_and_logits(tmp_path):
    compared(tmp_path, channels=(4, 4), classes=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"channels": (8, 6, 3), "clamp": 1.5},
        {"channels": (6, 3), "architecture": "skip", "clamp": 1.5, "colors": 1},
        {"channels": (6, 6, 3), "architecture": "orig", "group": None, "layers": 8},
        {"channels": (4, 4), "classes": 3, "architecture": "skip", "clamp": None},
    ],
)
def test_the_same_with_other_settings(tmp_path, settings):
    compared(tmp_path, **settings)


@pytest.mark.slow
def test_tensors_as_torch_writes_them(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes the tensors that this test reads")

    compared(tmp_path, as_tensor=lambda array: torch.nn.Parameter(torch.tensor(array), requires_grad=False))
