"""Loading generators: the same images by every way, and nothing that is damaged, foreign or code."""

import functools
import hashlib
import io
import json
import os
import pathlib
import pickle
import shutil
import sys
import types
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export
from safetensors.numpy import load_file, save
from toys import GENERATOR, plane_gan, real_points

import ganjax
from ganjax import config, export, generator, loop, random
from ganjax.checkpoint import Checkpoints, fingerprint
from ganjax.errors import RunError, UsageError
from ganjax.export import DESCRIPTION, FROM_LATENTS, FROM_SEEDS, LATENTS, WEIGHTS, export_generator
from ganjax.gan import Experiment, Stage
from ganjax.generator import load_generator
from ganjax.report.images import to_uint8
from ganjax.sampling import Sampler
from ganjax.step import create_state
from tests.cli import toy
from tests.doubles import compiled_fast, recording_load

__all__ = ["compiled_fast"]  # the fixture

SEEDS, LABELS = np.arange(70), np.arange(70) % 10


class Exported:
    """A toy's generator: its folder, gan, state, and the images of `SEEDS` and `LABELS`."""

    def __init__(self, folder: pathlib.Path, conditional: bool, experiment: str):
        settings = toy.Config(conditional=conditional)
        load, specs = recording_load()
        built = toy.build(settings, load)
        draw = np.random.default_rng(0)
        shapes = loop.abstract_state(built, 0)
        self.state = jax.tree.map(lambda x: (0.5 * draw.normal(size=x.shape)).astype(x.dtype), shapes)
        self.folder, self.gan, self.num_classes = folder, built.stages[0].gan, built.num_classes
        self.labels = LABELS if conditional else None
        about = {"experiment": experiment, "config": config.to_json(settings), "seed": 3, "data": specs}
        export_generator(folder, self.gan, self.state, num_classes=self.num_classes, step=4, **about)
        self.images = Sampler(self.gan)(self.state, SEEDS, self.labels)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> Exported:
    return Exported(tmp_path_factory.mktemp("conditional"), True, "toy")


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory) -> Exported:
    return Exported(tmp_path_factory.mktemp("unconditional"), False, "tests/cli/toy.py")


@pytest.fixture
def copy(conditional, tmp_path) -> pathlib.Path:
    shutil.copytree(conditional.folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_its_code_and_its_functions_draw_what_sample_draws(conditional, unconditional):
    for made in (conditional, unconditional):
        by_code = ganjax.load_generator(made.folder, experiment=toy)
        by_functions = load_generator(str(made.folder))
        for loaded in (by_code, by_functions):
            assert (loaded.num_classes, loaded.image_shape) == (made.num_classes, (4, 4, 1))
            assert (loaded.latent_shape, loaded.step, loaded.config["batch_size"]) == ((3,), 4, 8)
            assert loaded.fingerprint == fingerprint(made.state)
            assert loaded.options == ()
            images = loaded(SEEDS, made.labels)
            assert isinstance(images, np.ndarray)
            assert (images.dtype, images.shape) == (np.float32, (70, 4, 4, 1))
            np.testing.assert_allclose(images, made.images, atol=2e-6)
            np.testing.assert_array_equal(to_uint8(images), to_uint8(made.images))
            # One seed is one image, whatever it is drawn along with; and one latent.
            labels = None if made.labels is None else made.labels[66:67]
            np.testing.assert_array_equal(loaded([66], labels)[0], images[66])
            z = loaded.latents(SEEDS)
            assert (z.dtype, z.shape) == (np.float32, (70, 3))
            np.testing.assert_allclose(loaded(labels=made.labels, latents=z), images, atol=2e-6)
        np.testing.assert_array_equal(by_code(SEEDS, made.labels), made.images)
    assert repr(by_code) == "<Generator tests/cli/toy.py, step 4: 4x4x1>"


def test_ganjaxs_own_experiments_are_found_by_name(conditional, monkeypatch):
    monkeypatch.setattr(generator, "PACKAGE", "tests.cli")
    loaded = load_generator(conditional.folder)
    assert isinstance(loaded._source, generator._Code)
    np.testing.assert_array_equal(loaded(SEEDS, LABELS), conditional.images)


@pytest.mark.parametrize("name", ["dotted.spy", "spy", "spy.py", "./spy.py", None])
def test_no_file_makes_a_module_be_imported(tmp_path, monkeypatch, conditional, name):
    """A folder named for anything but an experiment of ganjax's own draws by its functions."""
    (tmp_path / "dotted").mkdir()
    for place in ("spy.py", "dotted/spy.py", "dotted/__init__.py"):
        (tmp_path / place).write_text("open('imported', 'w').close()\nConfig = TINY = build = None\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    about = {"num_classes": 10, "experiment": name}
    export_generator(tmp_path / "x", conditional.gan, conditional.state, **about)
    before = set(sys.modules)
    loaded = load_generator(tmp_path / "x")
    assert isinstance(loaded._source, generator._Functions)
    assert not (tmp_path / "imported").exists()
    assert not {module for module in set(sys.modules) - before if "spy" in module or "dotted" in module}


# A run's own folder.


@pytest.fixture
def run(conditional, tmp_path) -> pathlib.Path:
    """As training leaves it, without having trained."""
    return make_run(tmp_path / "run", conditional.state)


def make_run(folder: pathlib.Path, state, experiment="toy") -> pathlib.Path:
    Checkpoints(folder / "checkpoints").save(4, state, {"step": 4, "stage": 0})
    settings = config.to_json(toy.Config())
    record = {"experiment": experiment, "config": settings, "seed": 0, "data": {}}
    images = toy.build(toy.Config()).stages[0].data
    record["data"]["random:train"] = images.spec()
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def test_a_run(run, conditional, monkeypatch):
    loaded = load_generator(run, experiment=toy)
    np.testing.assert_array_equal(loaded(SEEDS, LABELS), conditional.images)
    assert (loaded.step, loaded.num_classes, loaded.image_shape, loaded.latent_shape) == (
        4,
        10,
        (4, 4, 1),
        (3,),
    )
    assert loaded.config == config.to_json(toy.Config())
    assert loaded.fingerprint == fingerprint(conditional.state)
    monkeypatch.setattr(generator, "PACKAGE", "tests.cli")
    assert load_generator(run).experiment == "toy"


def test_a_run_of_code_that_is_not_ganjaxs(run):
    with pytest.raises(RunError, match=r"toy is not among ganjax's own experiments; import its module"):
        load_generator(run)


def test_a_run_whose_last_checkpoint_is_damaged(run, conditional):
    Checkpoints(run / "checkpoints").save(5, conditional.state, {"step": 5, "stage": 0})
    for path in (run / "checkpoints" / "00000005").rglob("metadata"):
        path.write_text("{")
    with pytest.warns(UserWarning, match=r"step 5 is damaged .*; ignored"):
        assert load_generator(run, experiment=toy).step == 4
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match="holds no checkpoint yet"):
        load_generator(run, experiment=toy)


def test_a_run_that_does_not_fit(run):
    record = json.loads((run / "config.json").read_text())
    for change, message in (
        ({"config": {"batchsize": 3}}, "did you mean batch_size"),
        ({"data": {}}, r"random \(train\) are not described"),
    ):
        (run / "config.json").write_text(json.dumps(record | change))
        with pytest.raises(RunError, match=rf"config\.json does not fit toy \(.*{message}"):
            load_generator(run, experiment=toy)
    (run / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        load_generator(run, experiment=toy)


def test_folders_that_hold_neither(tmp_path):
    with pytest.raises(RunError, match=r"none is no folder; name one that --mode=export wrote"):
        load_generator(tmp_path / "none")
    with pytest.raises(RunError, match=r"neither an exported generator .* nor a run"):
        load_generator(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match=r"file is no folder"):
        load_generator(tmp_path / "file")
    with pytest.raises(UsageError, match=r"not an experiment, it has no Config"):
        load_generator(tmp_path, experiment=os)


# The family's options.


def options_gan():
    gan = plane_gan(ema={GENERATOR: lambda step: jnp.float32(0.9)})

    def sample(state, keys, labels=None, *, latents=None, gain=1.0, passes=False, critic=False):
        images = gain * gan.sample(state, keys, labels, latents=latents)
        images = images + state.stats[GENERATOR]["passes"] if passes else images
        return images + state.params["critic"]["q"] if critic else images

    return gan._replace(sample=sample)


def options_experiment() -> types.ModuleType:
    points = types.SimpleNamespace(
        transform=lambda batch, context: batch, example=lambda count: np.zeros((count, 2), np.float32)
    )
    return module_of(toy.Config, lambda config, load: Experiment((Stage(options_gan(), points, 2, 8),)))


def module_of(config_class, build) -> types.ModuleType:
    module = types.ModuleType("an experiment")
    vars(module).update(Config=config_class, build=build)
    return module


def test_the_familys_options(tmp_path):
    gan = options_gan()
    state = create_state(gan, jax.random.key(0), real_points())
    state = state.replace(stats={**state.stats, GENERATOR: {"passes": jnp.float32(3)}})
    export_generator(tmp_path, gan, state, experiment="of_options")
    loaded = load_generator(tmp_path, experiment=options_experiment())
    assert loaded.options == ("gain", "passes", "critic")
    plain = loaded([1, 2])
    np.testing.assert_allclose(loaded([1, 2], gain=2.0), 2 * plain, rtol=1e-6)
    # It reads a statistic that sampling by default does not.
    np.testing.assert_allclose(loaded([1, 2], passes=True), plain + 3, rtol=1e-6)
    with pytest.raises(
        UsageError, match=r"with critic this model reads params/critic/q, which was not exported"
    ):
        loaded([1, 2], critic=True)
    with pytest.raises(UsageError, match=r"gian: .* no such option; did you mean gain\?"):
        loaded([1, 2], gian=2.0)
    with pytest.raises(UsageError, match=r"gain: options are static; expected a number"):
        loaded([1, 2], gain=[2.0])
    with pytest.raises(UsageError, match=r"gain: .* no such option; it takes none"):
        load_generator(tmp_path)([1, 2], gain=2.0)


def test_noise_comes_from_the_seeds(tmp_path):
    """And from seed 0 where latents are given without seeds, whatever it is drawn by."""
    plane = plane_gan()

    def sample(state, keys, labels=None, *, latents=None):
        noise = random.normal(jax.vmap(random.stream, (0, None))(keys, "noise"), (2,))[:, None, None]
        return plane.sample(state, keys, labels, latents=latents) + noise

    gan = plane._replace(sample=sample)
    state = create_state(gan, jax.random.key(0), real_points())
    export_generator(tmp_path, gan, state, experiment="noisy")
    points = options_experiment().build(None, None).stages[0].data
    module = module_of(toy.Config, lambda config, load: Experiment((Stage(gan, points, 2, 8),)))
    by_code, by_functions = load_generator(tmp_path, experiment=module), load_generator(tmp_path)
    expected = Sampler(gan)(state, [3, 4])
    z = by_code.latents([3, 4])
    of_seed_0 = Sampler(gan)(state, [0, 0], latents=z)
    assert np.abs(expected - of_seed_0).max() > 0.1
    for drawn in (by_code, by_functions):
        np.testing.assert_allclose(drawn([3, 4]), expected, atol=2e-6)
        np.testing.assert_allclose(drawn(latents=z), of_seed_0, atol=2e-6)
    np.testing.assert_allclose(by_code([3, 4], latents=z), expected, atol=2e-6)
    with pytest.raises(UsageError, match="seeds beside latents need the experiment's code"):
        by_functions([3, 4], latents=z)


# Wrong calls.

WRONG = {
    "no labels": (([1],), {}, "labels are missing: expected one from 0 to 9"),
    "label out of range": (([1], [10]), {}, "label 10: expected one from 0 to 9"),
    "negative label": (([1, 2], [3, -1]), {}, "label -1: expected one from 0 to 9"),
    "label no integer": (([1], [0.5]), {}, "labels float64"),
    "one label": (([1, 2], [1]), {}, "1 labels for 2 seeds"),
    "a scalar": ((1, 1), {}, "expected a list of integer seeds"),
    "no seeds": (([], []), {}, "expected a list of integer seeds"),
    "nothing": ((), {}, "seeds are missing"),
    "seed out of range": (([2**32], [1]), {}, "seed 4294967296: expected an integer from 0 to 4294967295"),
    "latents": ((None, [1]), {"latents": np.zeros((1, 4))}, r"latents \[1, 4\]: expected \[n, 3\]"),
    "no latents": ((None, []), {"latents": np.zeros((0, 3))}, r"latents \[0, 3\]"),
    "fewer latents": (([1, 2], [1, 2]), {"latents": np.zeros((1, 3))}, "1 latents for 2 seeds"),
}


@pytest.mark.parametrize(("words", "named", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_calls(conditional, words, named, message):
    for module in (None, toy):
        with pytest.raises(UsageError, match=message):
            loaded(conditional.folder, module)(*words, **named)


@functools.cache
def loaded(folder, module):
    return load_generator(folder, experiment=module)


def test_labels_of_a_model_without(unconditional):
    with pytest.raises(UsageError, match="labels: this model takes none"):
        loaded(unconditional.folder, None)([1], [1])


def test_a_model_without_latents(tmp_path, conditional):
    export_generator(tmp_path, conditional.gan._replace(latents=None), conditional.state, num_classes=10)
    drawn = load_generator(tmp_path)
    np.testing.assert_array_equal(to_uint8(drawn(SEEDS, LABELS)), to_uint8(conditional.images))
    for call in (lambda: drawn.latents([1]), lambda: drawn(labels=[1], latents=np.zeros((1, 3)))):
        with pytest.raises(UsageError, match="this model has no latents"):
            call()


# Damaged, altered and foreign files.


def assert_refused(folder: pathlib.Path, message: str, *modules) -> None:
    for module in modules or (None, toy):
        with pytest.raises(RunError, match=message) as caught:
            load_generator(folder, experiment=module)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", [WEIGHTS, FROM_SEEDS, FROM_LATENTS, LATENTS])
def test_files_that_are_not_what_was_written(copy, name):
    whole = (copy / name).read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"\0"):
        (copy / name).write_bytes(content)
        assert_refused(copy, rf"{name} is not what was written, {len(content)} bytes of {len(whole)}")
    (copy / name).write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    assert_refused(copy, rf"{name} is not what was written, its sha256 differs; export the run again")
    (copy / name).unlink()
    assert_refused(copy, rf"{name} is missing")
    (copy / name).mkdir()
    assert_refused(copy, rf"{name} can't be read")


DESCRIPTIONS = {
    "empty": (lambda text: "", "is damaged"),
    "half": (lambda text: text[: len(text) // 2], "is damaged"),
    "a list": (lambda text: "[1, 2]", "is damaged: it is not a generator's description"),
    "nested": (lambda text: "[" * 100_000, "is damaged"),
    "another's": (lambda text: "{}", "is damaged: it is not a generator's description"),
    "altered": (lambda text: text.replace('"step": 4', '"step": 5'), "is not what was written"),
    "another format": (
        lambda text: text.replace('"format": 1', '"format": 2'),
        "has format 2, and this ganjax reads 1",
    ),
}


@pytest.mark.parametrize(("change", "message"), DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_a_description_that_is_not_what_was_written(copy, change, message):
    text = (copy / DESCRIPTION).read_text()
    assert change(text) != text
    (copy / DESCRIPTION).write_text(change(text))
    assert_refused(copy, rf"generator\.json {message}")


def forge(folder: pathlib.Path, contents: dict[str, bytes], without: str = "", **changes) -> None:
    """Puts files in the place of others, and describes them as if they had been written so."""
    description = json.loads((folder / DESCRIPTION).read_text()) | changes
    description.pop("sha256")
    description.pop(without, None)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        description["files"][name] = {"bytes": len(content), "sha256": digest}
    description["sha256"] = export.digest(description)
    (folder / DESCRIPTION).write_text(json.dumps(description))


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (self.path,))


def test_a_pickle_under_any_name_is_not_unpickled(copy, tmp_path):
    payload = pickle.dumps(Payload(tmp_path / "unpickled"))
    archive = io.BytesIO()
    np.savez(archive, allow_pickle=True, image=np.array([Payload(tmp_path / "unpickled")], dtype=object))
    for content in (payload, archive.getvalue()):
        for name in (WEIGHTS, FROM_SEEDS, FROM_LATENTS, LATENTS):
            whole = (copy / name).read_bytes()
            forge(copy, {name: content})
            assert_refused(copy, rf"{name} is damaged, or no", toy if name == WEIGHTS else None)
            forge(copy, {name: whole})
        whole = (copy / DESCRIPTION).read_bytes()
        (copy / DESCRIPTION).write_bytes(content)
        assert_refused(copy, r"generator\.json is damaged")
        (copy / DESCRIPTION).write_bytes(whole)
    assert load_generator(copy).step == 4
    assert not (tmp_path / "unpickled").exists()
    pickle.loads(payload)
    assert (tmp_path / "unpickled").exists()  # it would have


def leaves_and_header(folder: pathlib.Path):
    content = (folder / WEIGHTS).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    return load_file(folder / WEIGHTS), header


LEAVES = {
    "missing": (
        lambda leaves: leaves.pop("ema/generator/out"),
        r"reads ema/generator/out, which was not exported",
    ),
    "unknown": (lambda leaves: leaves.update(x=np.zeros(3)), r"x is unknown"),
    "shape": (
        lambda leaves: leaves.update({"ema/generator/bias": np.zeros(6, np.float32)}),
        r"ema/generator/bias is float32\[6\], not float32\[5\]",
    ),
    "type": (
        lambda leaves: leaves.update({"ema/generator/bias": np.zeros(5, np.float64)}),
        r"ema/generator/bias is float64\[5\], not float32\[5\]",
    ),
}


@pytest.mark.parametrize(("change", "message"), LEAVES.values(), ids=LEAVES.keys())
def test_leaves_that_do_not_fit_the_code(copy, change, message):
    leaves, header = leaves_and_header(copy)
    change(leaves)
    forge(copy, {WEIGHTS: save(leaves, metadata=header)})
    assert_refused(copy, rf"{WEIGHTS} does not fit toy \(.*{message}.*\): the code has changed since", toy)


def test_code_that_has_changed(copy):
    def build(config, load):
        return toy.build(toy.Config(conditional=False), load)

    assert_refused(copy, r"does not fit toy", module_of(toy.Config, build))
    assert_refused(copy, r"does not fit toy", module_of(types.SimpleNamespace, toy.build))  # no dataclass


def test_weights_of_another_generator(copy):
    leaves, header = leaves_and_header(copy)
    forge(copy, {WEIGHTS: save(leaves, metadata=header | {"step": "5"})})
    assert_refused(copy, r"is of another generator than generator\.json \(step differs\)")
    forge(copy, {WEIGHTS: save(leaves)})
    assert_refused(copy, r"is of another generator")


def test_files_that_do_not_belong_there(copy):
    (copy.parent / "secret").write_text("mine")
    forge(copy, {"../secret": b"mine"})
    assert_refused(copy, r"names other files than a generator's")
    forge(copy, {}, files={WEIGHTS: 1, FROM_SEEDS: 2})
    assert_refused(copy, r"names other files than a generator's")


@pytest.mark.parametrize("key", ["experiment", "config", "image_shape", "step", "versions", "files"])
def test_a_description_of_another_form(copy, key):
    whole = (copy / DESCRIPTION).read_bytes()
    changes: dict[str, Any] = {key: 1.5}
    forge(copy, {}, **changes)
    assert_refused(copy, rf"generator\.json is damaged: {key} is missing, or of another type")
    (copy / DESCRIPTION).write_bytes(whole)
    forge(copy, {}, without=key)
    assert_refused(copy, rf"generator\.json is damaged: {key} is missing, or of another type")


def test_functions_of_another_form(copy, unconditional):
    whole = (copy / FROM_SEEDS).read_bytes()
    forge(copy, {FROM_SEEDS: (unconditional.folder / FROM_SEEDS).read_bytes()})
    assert_refused(
        copy, r"stablehlo is from uint32\[n\] to float32\[n,4,4,1\], not uint32\[n\], int32\[n\] to", None
    )
    forge(copy, {FROM_SEEDS: whole, LATENTS: whole})
    assert_refused(copy, r"latents\.stablehlo is from", None)


def test_a_function_that_calls_out_of_its_program_is_refused(copy):
    def draws(seeds, labels):
        shape = jax.ShapeDtypeStruct((*seeds.shape, 4, 4, 1), jnp.float32)
        return jax.ffi.ffi_call("somewhere_else", shape)(seeds, labels)

    allowed = [jax_export.DisabledSafetyCheck.custom_call("somewhere_else")]
    forms = (jax.ShapeDtypeStruct((2,), jnp.uint32), jax.ShapeDtypeStruct((2,), jnp.int32))
    foreign = jax_export.export(jax.jit(draws), platforms=["cpu"], disabled_checks=allowed)(*forms)
    forge(copy, {FROM_SEEDS: bytes(foreign.serialize())})
    assert_refused(copy, r"stablehlo is refused: it calls somewhere_else, which lies outside", None)


def test_loading_warns_of_nothing(conditional):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_generator(conditional.folder, experiment=toy)([1], [1])
