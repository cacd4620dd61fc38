"""--mode=classify and --mode=evaluate of a semi-supervised experiment."""

import csv
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.cli.command_line import Run, Silent, runner
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

TINY = (
    "network=dense",
    "image_size=8",
    "batch_size=4",
    "steps=1",
    "hidden=4",
    "generator_hidden=4",
    "latent_size=2",
)
NAME = "semi_supervised_rotation_mnist"


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("semi_supervised")
    digits = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8)
    for split in ("train", "test"):
        for i, digit in enumerate(digits):
            (folder / f"set/{split}/{'ab'[i % 2]}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(digit[..., 0]).save(folder / f"set/{split}/{'ab'[i % 2]}/{i}.png")
    settings = [f"--config.{x}" for x in (*TINY, f"dataset={folder / 'set'}", "labels_per_class=3")]
    flags = (f"--experiment={NAME}", f"--workdir={folder / 'run'}", "--parallel=none")
    assert runner(Silent)(*flags, *settings).code == 0
    np.savez(folder / "digits.npz", image=digits)
    labels = np.arange(12) // 10
    np.savez(folder / "uneven.npz", image=digits, label=labels, image_test=digits, label_test=labels)
    return folder


def test_a_row_an_image(run, trained):
    flags = (f"--workdir={trained / 'run'}", "--mode=classify", f"--input={trained / 'set/test'}")
    answer = run(*flags)
    assert answer.code == 0, answer.err
    assert answer.out == f"12 images, by step 1: {trained / 'run/classified.csv'}\n"
    with open(trained / "run/classified.csv") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert set(rows) == {f"{'ab'[i % 2]}/{i}" for i in range(12)}
    assert all(row["class"] in "ab" and 0.5 <= float(row["probability"]) <= 1 for row in rows.values())
    # The same images as an array, with the same answers.
    out = trained / "found.json"
    assert run(*flags[:2], f"--input={trained / 'digits.npz'}", f"--out={out}").code == 0
    for i, row in enumerate(json.loads(out.read_text())):
        other = rows[f"{'ab'[i % 2]}/{i}"]
        assert (row["image"], row["class"]) == (str(i), other["class"])
        assert row["angle"] == pytest.approx(float(other["angle"]), abs=2e-3)


def test_evaluate_has_the_network_on_the_labels_alone_beside_it(run, trained):
    answer = run(f"--workdir={trained / 'run'}", "--mode=evaluate")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert set(found) == {"test_error", "confusion_matrix", "calibration_error", "target_rmse", "verdict"}
    assert np.sum(found["confusion_matrix"]["matrix"]) == 12
    assert found["test_error"]["count"] == round(12 * found["test_error"]["value"])
    assert 0 <= found["calibration_error"]["baseline"] <= 1
    assert found["target_rmse"]["protocol"]["unit"] == 60
    assert 0 < found["target_rmse"]["baseline"] < 180
    assert found["test_error"]["protocol"]["weights"] == "averaged"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mode=classify",), "--input=FILE|FOLDER|NPZ is missing"),
        (("--mode=classify", "--input=nowhere"), "--input=nowhere: no such file or folder"),
        (("--mode=classify", "--input=digits.npz", "--out=x.png"), "--out=x.png: expected a .csv or a .json"),
        (("--mode=classify", "--input=digits.npz", "--direction=AtoB"), "--direction does nothing"),
        (
            ("--mode=train", "--config.labels_per_class=7"),
            "labels_per_class=7: expected at least 1, and, of 2",
        ),
        (
            ("--mode=train", "--config.dataset=./uneven.npz"),
            "labels_per_class=3: ./uneven.npz has 2 examples of class 1",
        ),
        (("--mode=train", "--config.classify=false", "--config.fake_class=explicit"), "expected implicit"),
        (("--mode=train", "--config.unlabelled_split=test"), "which is not trained on"),
        (("--mode=train", "--config.unlabelled_split=train+test[:50%]"), "no split 'train+test[:50%]'"),
        (("--mode=train", "--config.width=3"), "width=3: expected 16, as it does nothing with network=dense"),
        (
            ("--mode=train", "--config.baseline=false", "--config.baseline_steps=9"),
            "expected 3000, as it does nothing with",
        ),
    ],
)
def test_mistakes(run, trained, monkeypatch, flags, message):
    monkeypatch.chdir(trained)
    folder = "--workdir=other" if "--mode=train" in flags else "--workdir=run"
    settings = (
        [f"--config.{x}" for x in (*TINY, "dataset=./set", "labels_per_class=3")]
        if "--mode=train" in flags
        else []
    )
    answer = run(f"--experiment={NAME}", folder, *settings, *flags)
    assert answer.code == 2, answer.err
    assert message in answer.err
    assert not (trained / "other").exists()  # or the mended command would find another run there


@pytest.mark.slow
def test_images_of_another_size(run, trained, tmp_path):
    """Without `image_size` the model knows one size, and no other is brought to it."""
    digits = np.zeros((12, 9, 9, 1), np.uint8)
    np.savez(tmp_path / "wide.npz", image=digits)
    Image.fromarray(digits[0, ..., 0]).save(tmp_path / "wide.png")
    settings = [f"--config.{x}" for x in (*TINY, f"dataset={trained / 'set'}", "labels_per_class=3")]
    settings[1] = "--config.image_size=none"
    flags = (f"--experiment={NAME}", f"--workdir={tmp_path / 'run'}")
    assert run(*flags, "--parallel=none", *settings).code == 0
    for name in ("wide.npz", "wide.png"):
        answer = run(*flags, "--mode=classify", f"--input={tmp_path / name}")
        assert answer.code == 2
        assert f"{name} is 9x9 (height x width), and this model was trained on images of 8x8" in answer.err
