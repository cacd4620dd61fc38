"""--mode=anomaly and --mode=evaluate: an experiment of two stages, which takes a while to compile."""

import csv
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.cli.command_line import Run, Silent, runner
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

pytestmark = pytest.mark.slow
TINY = ("dataset=random", "image_size=8", "batch_size=4", "steps=2", "encoder_steps=1", "latent_size=2")
TINY += ("width=2", "hidden=0", "critic_steps=1", "ema_decay=0")


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("anomaly")
    flags = ("--experiment=anomaly_mnist", f"--workdir={folder / 'run'}", "--parallel=none", "--save_steps=1")
    assert runner(Silent)(*flags, *(f"--config.{x}" for x in TINY)).code == 0
    digits = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
    (folder / "in/sub").mkdir(parents=True)
    for i, digit in enumerate(digits):
        Image.fromarray(digit).save(folder / ("in" if i else "in/sub") / f"{i}.png")
    return folder


def test_scores_and_pictures(run, trained):
    flags = (f"--workdir={trained / 'run'}", "--mode=anomaly", f"--input={trained / 'in'}")
    answer = run(*flags)
    assert answer.code == 0, answer.err
    out = trained / "run/anomalies"
    with open(out / "scores.csv") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"sub/0", "1", "2", "3", "4"}
    assert answer.out.startswith("5 images by step 2, ")
    threshold = float(answer.out.split(" above ")[1].split(",")[0])
    for row in rows.values():
        assert (row["anomaly"] == "True") == (float(row["score"]) > threshold)
        with Image.open(out / f"{row['image']}.png") as picture:
            assert picture.width > 2.5 * picture.height  # three side by side
    assert (out / "highest.png").exists()


def test_the_sheet_takes_no_picture_s_name(run, trained):
    (trained / "named").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(trained / "named/highest.png")
    flags = (f"--workdir={trained / 'run'}", "--mode=anomaly", f"--input={trained / 'named'}")
    answer = run(*flags, f"--out={trained / 'scored'}")
    assert answer.code == 0, answer.err
    assert answer.out.endswith("the highest in highest_.png\n")
    assert {path.name for path in (trained / "scored").iterdir()} == {
        "highest.png",
        "highest_.png",
        "scores.csv",
    }


def test_evaluate_has_pca_beside_it(run, trained):
    answer = run(f"--workdir={trained / 'run'}", "--mode=evaluate")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert set(found) == {"roc_area", "average_precision", "detection", "verdict"}
    assert 0 <= found["roc_area"]["value"] <= 1
    assert 0 <= found["roc_area"]["pca"] <= 1
    assert found["roc_area"]["protocol"]["test_images"] == 64
    assert 0 < found["detection"]["threshold"] < 10


def test_evaluate_leaves_out_what_is_before_the_encoder(run, trained):
    answer = run(f"--workdir={trained / 'run'}", "--mode=evaluate", "--checkpoint=all")
    assert answer.code == 0, answer.err
    assert list(json.loads(answer.out)) == ["2"]
    left_out = "step 1 is left out, as its checkpoint is of the first stage, before the encoder learns"
    assert left_out in answer.err.splitlines()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mode=anomaly",), "--input=FILE|FOLDER|NPZ is missing"),
        (("--mode=anomaly", "--input=in", "--out=x.csv"), "expected a folder, for scores and pictures"),
        (("--mode=anomaly", "--input=in", "--out=in"), "--out=in: the images lie there themselves"),
        (("--mode=anomaly", "--input=in", "--out=in/sub"), "--out=in/sub: it lies in --input=in"),
        (("--mode=anomaly", "--input=in", "--false_alarm_rate=0.001"), "too few for it"),
        (("--mode=anomaly", "--input=in", "--checkpoint=1"), "before the encoder learns"),
        (("--mode=evaluate", "--checkpoint=1"), "before the encoder learns"),
        (("--mode=train", "--config.normal=12"), "--config.normal=12: expected classes of random"),
        (("--mode=train", "--config.normal=0-9"), "fewer than all 10 classes"),
        (("--mode=train", "--config.encoder_steps=2"), "expected at most 1, so that of steps=2"),
        (
            ("--mode=train", "--config.search_rate=0.1"),
            "expected 0.05, as it does nothing with search_steps=0",
        ),
        (("--mode=evaluate", "--num_samples=1"), "1 test images, all of them "),
    ],
)
def test_mistakes(run, trained, monkeypatch, flags, message):
    monkeypatch.chdir(trained)
    settings = [f"--config.{x}" for x in TINY] if "--mode=train" in flags else []
    folder = "--workdir=other" if settings else "--workdir=run"
    answer = run("--experiment=anomaly_mnist", folder, *settings, *flags)
    assert answer.code == 2, answer.err
    assert message in answer.err
