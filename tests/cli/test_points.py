"""A run whose samples are no images goes through every mode, and needs no data set."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import ganjax
from ganjax import loop
from ganjax.cli import experiments
from ganjax.report.plane import SIZE
from tests.cli.command_line import Answer, Run, Silent, listing, runner
from tests.doubles import Recorder, compiled_fast

__all__ = ["compiled_fast"]  # the fixture

TOY = str(pathlib.Path(__file__).with_name("toy_points.py"))


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


def train(run: Run, folder: pathlib.Path, *flags: str) -> Answer:
    answer = run(f"--experiment={TOY}", f"--workdir={folder}", "--parallel=none", *flags)
    assert answer.code == 0, answer.err
    return answer


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("points") / "run"
    train(runner(Silent), folder)
    return folder


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("conditional") / "run"
    train(runner(Silent), folder, "--config.conditional=true")
    return folder


def good(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def test_the_run_and_its_previews(trained):
    record = json.loads((trained / "config.json").read_text())
    assert record["data"] == {}  # the settings say all
    pictures = [np.asarray(Image.open(path)) for path in sorted((trained / "samples").iterdir())]
    assert [picture.shape for picture in pictures] == [(SIZE, SIZE, 3)] * 2
    assert not np.array_equal(pictures[0], pictures[1])


def test_it_goes_on_with_the_same_bits(run, trained, tmp_path):
    train(run, tmp_path / "run", "--steps=3")
    train(run, tmp_path / "run")
    fingerprints = [
        json.loads((folder / "result.json").read_text())["fingerprint"]
        for folder in (trained, tmp_path / "run")
    ]
    assert fingerprints[0] == fingerprints[1]


def test_what_an_accelerator_keeps_and_gathers_gives_the_same_bits(trained):
    module = experiments.find(TOY, "experiments")
    result = loop.train(module.build(module.Config()), seed=0, observer=Recorder(), parallel="none", window=3)
    assert result.fingerprint == json.loads((trained / "result.json").read_text())["fingerprint"]


def test_samples(run, trained, conditional, tmp_path):
    answer = good(run(f"--workdir={trained}", "--mode=sample", f"--out={tmp_path / 'x.npz'}"))
    assert answer.out == f"100 samples of step 4: {tmp_path / 'x.npz'}\n"
    with np.load(tmp_path / "x.npz") as found:
        assert set(found) == {"sample", "seed"}
        assert (found["sample"].dtype, found["sample"].shape) == (np.float32, (100, 2))
    # What the preview of the last step shows, drawn again.
    good(run(f"--workdir={trained}", "--mode=sample", f"--out={tmp_path / 'x.png'}"))
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "x.png")),
        np.asarray(Image.open(trained / "samples" / "00000004.png")),
    )
    good(run(f"--workdir={conditional}", "--mode=sample", f"--out={tmp_path / 'c.npz'}", "--labels=3,0"))
    with np.load(tmp_path / "c.npz") as found:
        assert found["label"].tolist() == [3] * 12 + [0] * 12  # 100 over 8 classes
    before = listing(trained)
    answer = run(f"--workdir={trained}", "--mode=sample", f"--out={tmp_path / 'folder'}")
    assert answer.code == 2
    assert "make one picture, and no folder; name a .png or an .npz" in answer.err
    assert listing(trained) == before


def test_the_way_from_sample_to_sample_is_drawn(run, trained, tmp_path):
    flags = ("--mode=interpolate", "--frames=2", f"--out={tmp_path / 'both'}")
    good(run(f"--workdir={trained}", *flags))
    with Image.open(tmp_path / "both" / "interpolation.gif") as animation:
        assert (getattr(animation, "n_frames", 1), animation.size) == (8, (SIZE, SIZE))
    with Image.open(tmp_path / "both" / "interpolation.png") as picture:
        assert picture.size == (SIZE, SIZE)


def test_evaluate(run, trained, conditional, tmp_path):
    out = tmp_path / "e.json"
    answer = good(run(f"--workdir={trained}", "--mode=evaluate", "--num_samples=500", f"--out={out}"))
    found = json.loads(out.read_text())
    assert json.loads(answer.out) == found
    assert set(found) == {"modes_reached", "good_samples", "mode_shares", "mode_kl", "verdict"}
    assert found["verdict"]["value"] is False
    assert [line.split(":")[0] for line in found["verdict"]["against"]][:1] == ["modes_reached"]
    assert found["modes_reached"]["protocol"] == {
        "samples": 500,
        "std": 0.02,
        "within": 3.0,
        "at_least": 1,
        "mixture": "ring",
        "seeds": "0-499",
        "step": 4,
        "truncation": None,
        "weights": "last",
    }
    flags = ("--mode=evaluate", "--num_samples=80", f"--out={out}", "--metrics=mode_kl,label_agreement")
    answer = good(run(f"--workdir={conditional}", *flags))
    assert list(json.loads(answer.out)) == ["mode_kl", "label_agreement"]
    answer = run(f"--workdir={trained}", *flags)
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith(
        "ganjax: --metrics=label_agreement: there is no such metric"
    )


def test_an_exported_generator_gives_the_same_points(run, trained, tmp_path):
    good(run(f"--workdir={trained}", "--mode=export", f"--out={tmp_path / 'export'}"))
    good(run(f"--workdir={trained}", "--mode=sample", f"--out={tmp_path / 'x.npz'}", "--seeds=0-4"))
    generator = ganjax.load_generator(tmp_path / "export")
    assert generator.image_shape == (2,)
    with np.load(tmp_path / "x.npz") as found:
        np.testing.assert_allclose(generator(range(5)), found["sample"], atol=1e-6)
    description = json.loads((tmp_path / "export" / "generator.json").read_text())
    assert description["functions"]["generator.stablehlo"]["gives"] == "float32 [n, 2]"
