"""What is written of a generator: the leaves, the functions, the description; and what is refused."""

import hashlib
import importlib
import json
import pkgutil
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export
from safetensors.numpy import load_file
from toys import GENERATOR, plane_gan, real_points

import experiments
from ganjax import config, export, generator, loop
from ganjax.checkpoint import fingerprint, flatten
from ganjax.errors import RunError, UsageError
from ganjax.export import DESCRIPTION, FILES, FROM_LATENTS, FROM_SEEDS, LATENTS, WEIGHTS, export_generator
from ganjax.report.images import to_uint8
from ganjax.sampling import Sampler, latents
from ganjax.step import create_state
from tests.doubles import LATENTS as TOY_LATENTS
from tests.doubles import SHAPE, compiled_fast, recording_load, toy_gan

__all__ = ["compiled_fast"]  # the fixture

KEY = jax.random.key(0)
SEEDS = np.array([0, 1, 5, 2**32 - 1, 2**31, 7, 9], np.uint32)


def toy_state(gan, num_classes=0):
    """A state of the toy with numbers of its own in every leaf, and no program compiled for it."""
    batch = {"image": jnp.zeros((1, *SHAPE)), **({"label": jnp.zeros(1, jnp.int32)} if num_classes else {})}
    return random_state(jax.eval_shape(lambda: create_state(gan, KEY, batch)))


def random_state(shapes, scale=0.5):
    draw = np.random.default_rng(0)
    state = jax.tree.map(lambda x: (scale * draw.normal(size=x.shape)).astype(x.dtype), shapes)
    return state.replace(stats=jax.tree.map(np.abs, state.stats))  # variances are positive


def function(folder, name=FROM_SEEDS):
    return jax_export.deserialize(bytearray((folder / name).read_bytes()))


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditional")
    gan = toy_gan(num_classes=10)
    state = toy_state(gan, 10)
    files = export_generator(folder, gan, state, num_classes=10, step=12, experiment="toy", config={"a": [1]})
    return folder, gan, state, files


def test_it_holds_what_sampling_reads_and_nothing_else(conditional):
    folder, _, state, files = conditional
    found = load_file(folder / WEIGHTS)
    expected = {
        name: x for name, x in flatten(state).items() if name.startswith(("ema/generator", "stats/gen"))
    }
    assert list(expected) == [
        "ema/generator/bias",
        "ema/generator/in",
        "ema/generator/out",
        "stats/generator/mean",
    ]
    assert set(found) == set(expected)
    for name, leaf in expected.items():
        assert found[name].dtype == leaf.dtype
        np.testing.assert_array_equal(found[name], leaf)
    assert sorted(files) == sorted(path.name for path in folder.iterdir()) == sorted([*FILES, DESCRIPTION])


def test_what_it_says_of_itself(conditional):
    folder, _, state, _ = conditional
    description = json.loads((folder / DESCRIPTION).read_text())
    expected = {
        "experiment": "toy",
        "config": {"a": [1]},
        "num_classes": 10,
        "image_shape": [4, 4, 1],
        "latent_shape": [TOY_LATENTS],
        "step": 12,
        "stage": 0,
        "fingerprint": fingerprint(state),
    }
    assert description.items() >= expected.items()
    assert set(description["versions"]) == {"ganjax", "jax"}
    for name in FILES:
        content = (folder / name).read_bytes()
        there = description["files"][name]
        assert there == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    content = (folder / WEIGHTS).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    assert header["experiment"] == "toy"
    assert header["fingerprint"] == fingerprint(state)
    for name in expected.keys() - {"experiment", "fingerprint"}:
        assert json.loads(header[name]) == expected[name]
    assert description["functions"][FROM_SEEDS] == {
        "arguments": {"seeds": "uint32 [n]", "labels": "int32 [n], 0 to 9"},
        "gives": "float32 [n, 4, 4, 1] in [-1, 1]",
    }


def test_one_function_draws_batches_of_any_size(conditional):
    folder, gan, state, _ = conditional
    exported = function(folder)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert [str(aval) for aval in exported.in_avals] == ["uint32[n]", "int32[n]"]
    assert [str(aval) for aval in exported.out_avals] == ["float32[n,4,4,1]"]
    z = function(folder, LATENTS).call(SEEDS)
    np.testing.assert_array_equal(z, latents(gan, SEEDS))
    labels = np.arange(7, dtype=np.int32)
    expected = Sampler(gan)(state, SEEDS, labels)
    for count in (1, 7):
        drawn = np.asarray(exported.call(SEEDS[:count], labels[:count]))
        np.testing.assert_allclose(drawn, expected[:count], atol=2e-6)
        np.testing.assert_array_equal(to_uint8(drawn), to_uint8(expected[:count]))
        drawn = function(folder, FROM_LATENTS).call(z[:count], labels[:count])
        np.testing.assert_allclose(drawn, expected[:count], atol=2e-6)


def test_unconditional_and_without_averages(tmp_path):
    """scale * z + shift, by hand; the weights are the parameters themselves."""
    gan = plane_gan()
    state = create_state(gan, KEY, real_points())
    params = {**state.params, GENERATOR: {"scale": jnp.array([2.0, 3.0]), "shift": jnp.array([1.0, -1.0])}}
    export_generator(tmp_path, gan, state.replace(params=params))
    stored = {"params/generator/scale", "params/generator/shift", "stats/generator/passes"}
    assert set(load_file(tmp_path / WEIGHTS)) == stored
    z = np.array([[0.5, 1.0], [0.0, -1.0], [0.25, 0.0]], np.float32)
    images = np.asarray(function(tmp_path, FROM_LATENTS).call(z))
    np.testing.assert_allclose(images[:, 0, 0], z * [2, 3] + [1, -1], rtol=1e-6)
    description = json.loads((tmp_path / DESCRIPTION).read_text())
    assert (description["experiment"], description["config"], description["num_classes"]) == (None, {}, 0)
    assert description["step"] == int(state.step)
    assert list(description["functions"][FROM_SEEDS]["arguments"]) == ["seeds"]


def test_a_model_without_latents_has_one_function(tmp_path):
    gan = toy_gan()._replace(latents=None)
    files = export_generator(tmp_path, gan, toy_state(gan))
    assert sorted(files) == sorted([WEIGHTS, FROM_SEEDS, DESCRIPTION])
    assert json.loads((tmp_path / DESCRIPTION).read_text())["latent_shape"] is None


def test_what_is_read_is_found_inside_of_a_jitted_sample_too():
    gan = toy_gan()
    shapes = export.shapes_of(toy_state(gan).replace(opt_state={}))
    sample = jax.jit(gan.sample)
    read = export.leaves_read(gan._replace(sample=sample), shapes, export.example_inputs(0))
    assert read == {f"ema/generator/{name}" for name in ("bias", "in", "out")} | {"stats/generator/mean"}


def test_what_an_option_may_read_of_the_same_player_is_there(tmp_path):
    """As the mean latent, which truncation alone reads."""
    gan = plane_gan(ema={GENERATOR: lambda step: jnp.float32(0.9)})

    def sample(state, keys, labels=None, *, latents=None, passes=False, critic=False):
        images = gan.sample(state, keys, labels, latents=latents)
        images = images + state.stats[GENERATOR]["passes"] if passes else images
        return images + state.params["critic"]["q"] if critic else images

    gan_of_options = gan._replace(sample=sample)
    state = create_state(gan_of_options, KEY, real_points())
    export_generator(tmp_path, gan_of_options, state)
    stored = {"ema/generator/scale", "ema/generator/shift", "stats/generator/passes"}
    assert set(load_file(tmp_path / WEIGHTS)) == stored


def test_what_latents_alone_read_is_there(tmp_path):
    gan = plane_gan()

    def sample(state, keys, labels=None, *, latents=None):
        images = gan.sample(state, keys, labels, latents=latents)
        return images if latents is None else images + state.params["critic"]["q"]

    state = create_state(gan, KEY, real_points())
    export_generator(tmp_path, gan._replace(sample=sample), state)
    assert "params/critic/q" in load_file(tmp_path / WEIGHTS)
    z = np.zeros((1, 2), np.float32)
    shift = np.asarray(state.params[GENERATOR]["shift"])
    drawn = np.asarray(function(tmp_path, FROM_LATENTS).call(z))
    np.testing.assert_allclose(drawn[0, 0, 0], shift - 0.5, rtol=1e-6)  # q is -0.5


def test_every_type_and_shape_of_leaf_is_kept(tmp_path):
    """And what a carry holds is written where it is read."""
    gan = plane_gan()

    def sample(state, keys, labels=None):
        total = sum(jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(state.carry))
        return gan.sample(state, keys, labels) + total

    carry = {
        "half": jnp.array([1.5, -2.25], jnp.bfloat16),
        "count": jnp.array(7, jnp.int32),
        "bytes": jnp.arange(6, dtype=jnp.uint8).reshape(2, 3).T,
        "flag": jnp.array([True, False]),
        "empty": jnp.zeros((0, 3), jnp.float32),
    }
    state = create_state(gan, KEY, real_points()).replace(carry=carry)
    export_generator(tmp_path, gan._replace(sample=sample, latents=None), state)
    found, _ = generator._from_safetensors(tmp_path / WEIGHTS, (tmp_path / WEIGHTS).read_bytes())
    for name, leaf in flatten(state).items():
        if name.startswith("carry/"):
            assert found[name].dtype == leaf.dtype
            assert found[name].shape == leaf.shape
            np.testing.assert_array_equal(found[name], leaf)


def test_the_same_state_gives_the_same_weights_and_programs(conditional, tmp_path):
    folder, gan, state, _ = conditional
    export_generator(tmp_path, gan, state, num_classes=10, step=12, experiment="toy", config={"a": [1]})
    assert (tmp_path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    for name in (FROM_SEEDS, FROM_LATENTS, LATENTS):
        texts = [function(there, name).mlir_module() for there in (tmp_path, folder)]
        # Where in the code it is from is numbered in the order in which JAX traced it.
        once, again = (re.sub(r"^#loc.*\n|loc\(#loc\d*\)", "", text, flags=re.MULTILINE) for text in texts)
        assert once == again


def test_the_functions_do_not_tell_where_their_code_lay(conditional):
    folder, *_ = conditional
    for name in (FROM_SEEDS, FROM_LATENTS, LATENTS):
        content = (folder / name).read_bytes()
        assert b".py" in content
        assert b"/ganjax/" not in content
        assert b"site-packages" not in content
    assert jax.config.jax_hlo_source_file_canonicalization_regex is None  # type: ignore[attr-defined]


# What is refused, and what is written over.


def test_another_generator_is_written_over(conditional, tmp_path):
    _, gan, state, _ = conditional
    export_generator(tmp_path, gan, state, num_classes=10)
    (tmp_path / ".generator.json.0123abcd.part").write_text("{")  # of a process that was killed
    other = plane_gan(latents=None)
    export_generator(tmp_path, other, create_state(other, KEY, real_points()))
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".part"} == {
        WEIGHTS,
        FROM_SEEDS,
        DESCRIPTION,
    }


def test_a_folder_with_other_files_is_left_alone(conditional, tmp_path):
    _, gan, state, _ = conditional
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="holds other files and no exported generator"):
        export_generator(tmp_path, gan, state, num_classes=10)
    with pytest.raises(UsageError, match=r"thesis\.tex is a file; name a folder"):
        export_generator(tmp_path / "thesis.tex", gan, state, num_classes=10)
    with pytest.raises(RunError, match=r"can't write \S+: (Not a directory|File exists)"):
        export_generator(tmp_path / "thesis.tex" / "x", gan, state, num_classes=10)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_model_that_draws_from_more_than_labels_is_refused(tmp_path):
    def sample(state, keys, images=None):
        if images is None:
            raise ValueError("this model turns images\ninto others: it needs some")
        return images

    gan = plane_gan()
    state = create_state(gan, KEY, real_points())
    with pytest.raises(UsageError, match="by seeds and labels alone: this model turns images into others"):
        export_generator(tmp_path / "x", gan._replace(sample=sample), state)
    pair = gan._replace(sample=lambda state, keys, labels=None: (jnp.zeros(3), jnp.zeros(3)))
    with pytest.raises(UsageError, match="something else than one array"):
        export_generator(tmp_path / "x", pair, state)
    assert not (tmp_path / "x").exists()


def test_a_sample_that_cannot_be_exported_is_refused(tmp_path):
    gan = plane_gan()
    state = create_state(gan, KEY, real_points())

    def calls_back(state, keys, labels=None):
        images = gan.sample(state, keys, labels)
        return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct(images.shape, images.dtype), images)

    def only_for_batches_of_two(state, keys, labels=None):
        return gan.sample(state, keys, labels) + jnp.zeros((2, 1, 1, 2))

    for sample in (calls_back, only_for_batches_of_two):
        with pytest.raises(RunError, match="can't be exported") as caught:
            export_generator(tmp_path / "x", gan._replace(sample=sample), state)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


# The experiments.

NAMES = sorted(m.name for m in pkgutil.iter_modules(experiments.__path__) if not m.name.startswith("_"))


@pytest.mark.parametrize(
    "name", [n if n == "cgan_mnist" else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_every_experiment(name, tmp_path):
    """Its functions and its code draw the same, for batches of 1 and 7."""
    module = importlib.import_module(f"experiments.{name}")
    settings = config.override(module.Config(), module.TINY, experiment=name)
    load, specs = recording_load()
    built = module.build(settings, load)
    stage = len(built.stages) - 1
    gan = built.stages[stage].gan
    state = random_state(loop.abstract_state(built, stage), scale=0.1)
    options = {"num_classes": built.num_classes, "stage": stage, "experiment": name}
    try:
        export_generator(tmp_path, gan, state, config=config.to_json(settings), data=specs, **options)
    except UsageError as error:
        if "by seeds and labels alone" not in str(error):
            raise
        pytest.skip(f"{name} draws from more than seeds and labels")
    by_code = generator.load_generator(tmp_path, experiment=module)
    labels = np.arange(7, dtype=np.int32) % built.num_classes if built.num_classes else None
    expected = Sampler(gan)(state, SEEDS, labels)
    np.testing.assert_array_equal(by_code(SEEDS, labels), expected)
    exported = function(tmp_path)
    for count in (1, 7):
        inputs = (SEEDS[:count], *(() if labels is None else (labels[:count],)))
        np.testing.assert_allclose(exported.call(*inputs), expected[:count], atol=1e-4)
