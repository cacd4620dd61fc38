"""--mode=export: the run's images, from its folder alone, with ganjax and without."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ganjax import load_generator
from ganjax.export import DESCRIPTION, FILES, WEIGHTS
from ganjax.report.images import to_uint8
from tests.cli import toy
from tests.cli.command_line import TOY, Answer, Run, Silent, listing, runner, train
from tests.cli.test_usage import assert_refused
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory) -> pathlib.Path:
    """A toy that was trained for 2 of 4 steps."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(runner(Silent), folder, "--steps=2")
    return folder


@pytest.fixture(scope="module")
def exported(trained_once) -> pathlib.Path:
    out = trained_once.parent / "exported"
    answer = runner(Silent)(f"--workdir={trained_once}", "--mode=export", f"--out={out}")
    assert answer.code == 0
    return out


@pytest.fixture
def trained(trained_once, tmp_path) -> pathlib.Path:
    shutil.copytree(trained_once, tmp_path / "run")
    return tmp_path / "run"


def good(answer: Answer) -> Answer:
    assert (answer.code, answer.err) == (0, ""), answer
    return answer


def sample(run: Run, folder: pathlib.Path, out: pathlib.Path, *flags: str) -> dict[str, np.ndarray]:
    good(run(f"--workdir={folder}", "--mode=sample", f"--out={out}", *flags))
    with np.load(out) as archive:
        return dict(archive)


def test_a_checkpoint_by_its_step(run, tmp_path):
    """An earlier one than the last; one that is not there is refused, and nothing is written."""
    workdir, out = tmp_path / "run", tmp_path / "out"
    train(run, workdir, "--steps=2", "--save_steps=1")
    argv = ("--mode=export", f"--workdir={workdir}", f"--out={out}")
    assert run(*argv, "--checkpoint=1").code == 0
    assert json.loads((out / DESCRIPTION).read_text())["step"] == 1
    assert load_generator(out, experiment=toy).step == 1
    answer = run(*argv[:2], f"--out={tmp_path / 'other'}", "--checkpoint=7")
    assert answer.code == 2
    assert "--checkpoint=7" in answer.err
    assert not (tmp_path / "other").exists()


def test_into_the_runs_folder_and_nothing_else_is_changed(run, trained):
    before = listing(trained)
    answer = good(run(f"--workdir={trained}", "--mode=export"))
    assert re.fullmatch(r"generator of step 2: \S*run/export \(generator\.safetensors, .*\)\n", answer.out)
    after = listing(trained)
    new = {path: after.pop(path) for path in set(after) - set(before)}
    assert after == before
    assert set(new) == {"export", *(f"export/{name}" for name in (*FILES, DESCRIPTION))}
    # Training goes on in the folder; exporting again takes the last checkpoint.
    train(run, trained)
    assert "of step 4" in good(run(f"--workdir={trained}", "--mode=export")).out
    assert listing(trained)[f"export/{WEIGHTS}"] != new[f"export/{WEIGHTS}"]
    result = json.loads((trained / "result.json").read_text())
    description = json.loads((trained / "export" / DESCRIPTION).read_text())
    record = json.loads((trained / "config.json").read_text())
    assert description["fingerprint"] == result["fingerprint"]
    for key in ("experiment", "config", "seed", "data"):
        assert description[key] == record[key]
    assert (description["step"], description["num_classes"]) == (4, 10)


def test_it_draws_what_the_run_draws(run, trained_once, exported, tmp_path):
    found = sample(run, trained_once, tmp_path / "x.npz", "--seeds=0-6,4294967295", "--labels=3,7")
    for loaded in (
        load_generator(exported),  # the toy is not one of ganjax's own: by its functions
        load_generator(exported, experiment=toy),
        load_generator(trained_once, experiment=toy),
    ):
        images = loaded(found["seed"], found["label"])
        np.testing.assert_array_equal(to_uint8(images), found["image"])
        assert (loaded.step, loaded.config["steps"]) == (2, 4)


BLOCKED = """\
import sys
sys.modules["ganjax"] = None  # importing it fails
"""


def test_a_script_without_ganjax(run, trained_once, exported, tmp_path):
    """The documentation's, as it stands."""
    script = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)[0]
    assert "ganjax" not in script
    script = BLOCKED + script.replace('open("', f'open("{exported}/')
    script += "assert not any(name.startswith('ganjax.') for name in sys.modules), 'it was imported'\n"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found = sample(run, trained_once, tmp_path / "x.npz", "--seeds=0-9", "--labels=0-9")
    diagonal = {
        int(seed): image
        for seed, label, image in zip(*(found[k] for k in ("seed", "label", "image")), strict=True)
        if seed == label
    }
    assert len(diagonal) == 10
    for seed, image in diagonal.items():
        with Image.open(tmp_path / f"seed{seed}.png") as drawn:
            np.testing.assert_array_equal(np.asarray(drawn), image[..., 0])


def test_the_documentations_other_examples(exported, monkeypatch):
    """The weights by safetensors alone; and with ganjax, the toy's shape in the place of the digits'."""
    _, weights, with_ganjax, own = re.findall(
        r"^```python\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL
    )
    monkeypatch.chdir(exported)
    exec(compile(weights, "docs/export.md", "exec"), {})
    monkeypatch.chdir(exported.parent)
    monkeypatch.setitem(sys.modules, "my_gan", toy)
    names: dict = {}
    exec(compile(with_ganjax.replace('"digits"', '"exported"'), "docs/export.md", "exec"), names)
    assert names["images"].shape == (3, 4, 4, 1)
    exec(compile(own.replace('"digits"', '"exported"'), "docs/export.md", "exec"), names)
    np.testing.assert_allclose(names["generator"]([0, 1, 2], [7, 7, 7]), names["images"], atol=2e-6)


def test_without_data_and_without_labels(run, tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, image=np.zeros((8, 4, 4, 1), np.uint8))
    train(run, tmp_path / "run", f"--config.dataset={path}", "--config.conditional=false", "--steps=1")
    path.unlink()
    good(run(f"--workdir={tmp_path / 'run'}", "--mode=export", f"--out={tmp_path / 'x'}"))
    found = sample(run, tmp_path / "run", tmp_path / "x.npz", "--seeds=0-6")
    for module in (None, toy):
        loaded = load_generator(tmp_path / "x", experiment=module)
        assert loaded.num_classes == 0
        np.testing.assert_array_equal(to_uint8(loaded(range(7))), found["image"])


@pytest.mark.slow
def test_the_same_checkpoint_is_exported_to_the_same_bytes(trained_once, tmp_path):
    """By two processes, whose hash seeds differ."""
    for name in "ab":
        code = "import sys; from ganjax.cli import main; sys.exit(main(package='experiments'))"
        words = (f"--workdir={trained_once}", "--mode=export", f"--out={tmp_path / name}")
        subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, timeout=300)
    assert listing(tmp_path / "a") == listing(tmp_path / "b")


WRONG = {
    "a file": (("--out=x.npz",), 2, r"--out=x\.npz: expected a folder"),
    "a picture": (("--out=x.png",), 2, r"--out=x\.png: expected a folder"),
    "other files": (("--out=.",), 2, r"\. holds other files and no exported generator"),
    "a file that is there": (("--out=config.json/x",), 1, r"can't write config\.json/x/\S+: Not a directory"),
    "foreign flag": (("--seeds=0",), 2, r"--seeds does nothing in --mode=export; it belongs to sample"),
    "another": (("--steps=1",), 2, r"--steps does nothing in --mode=export"),
    "other setting": (("--config.batch_size=16",), 2, r"batch_size is 8 there and 16 here\. Leave that out"),
}


@pytest.mark.parametrize(("flags", "code", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_usage(run, trained, monkeypatch, flags, code, message):
    monkeypatch.chdir(trained)
    argv = (f"--experiment={TOY}", f"--workdir={trained}", "--mode=export", *flags)
    assert_refused(run, argv, code, message, trained)


def test_nothing_to_export(run, trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    argv = (f"--experiment={TOY}", "--mode=export")
    assert_refused(run, argv, 1, r"runs/toy-seed0: nothing was trained there; train first", tmp_path)
    shutil.rmtree(trained / "checkpoints")
    argv = (f"--workdir={trained}", "--mode=export")
    assert_refused(run, argv, 1, r"holds no checkpoint yet; train first", trained)


def test_a_model_that_draws_from_more_than_labels(run, trained, monkeypatch):
    gan = toy.toy_gan

    def of_images(**options):
        def sample(state, keys, images=None):
            raise ValueError("this model turns images into others: it needs some")

        return gan(**options)._replace(sample=sample)

    monkeypatch.setattr(toy, "toy_gan", of_images)
    monkeypatch.setattr("ganjax.cli.experiments.find", lambda name, package: toy)
    argv = (f"--workdir={trained}", "--mode=export")
    assert_refused(run, argv, 2, r"by seeds and labels alone: this model turns images into others", trained)
