"""Evaluating: every checkpoint, two sets without a run, and while a run trains."""

import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from ganjax.data import embedded
from ganjax.metrics.classifier import Outputs
from ganjax.report.log import read_jsonl
from tests.cli.command_line import Run, listing, runner, train
from tests.cli.test_train import events
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture


class Classifier:
    """Answers by the pixels themselves."""

    test_accuracy = 0.5
    num_classes = 10
    image_shape = (4, 4, 1)
    identity = "stub"

    def evaluate(self, images: np.ndarray) -> Outputs:
        pixels = images.reshape(len(images), -1).astype(np.float32) / 255
        return Outputs(logits=pixels[:, :10], features=pixels[:, :6])


@pytest.fixture
def run(capsys, monkeypatch, tmp_path) -> Run:
    monkeypatch.setenv("GANJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ganjax.cli.measuring.cached_classifier", lambda *args: Classifier())
    monkeypatch.setattr(embedded, "RANDOM_EXAMPLES", {"train": 1000, "test": 64})
    return runner(capsys)


def good(answer):
    assert answer.code == 0, answer.err
    return answer


def test_every_checkpoint(run, tmp_path):
    folder = tmp_path / "run"
    train(run, folder, "--save_steps=2", "--keep=2")
    words = (f"--workdir={folder}", "--mode=evaluate", "--num_samples=1000")
    words += ("--metrics=mean_confidence,classifier_precision",)
    answer = good(run(*words, "--checkpoint=all"))
    found = json.loads(answer.out)
    assert list(found) == ["2", "4"]
    assert json.loads((folder / "evaluation.json").read_text()) == found
    for step, results in found.items():
        assert list(results) == ["mean_confidence", "classifier_precision"]
        alone = json.loads(good(run(*words, f"--checkpoint={step}", f"--out={tmp_path / 'x.json'}")).out)
        assert alone == results
        for name in results:
            assert (int(step), f"evaluation/{name}") in events(folder)
    assert found["2"]["mean_confidence"] != found["4"]["mean_confidence"]
    protocol = found["4"]["classifier_precision"]["protocol"]
    assert protocol == {
        "samples": 1000,
        "seed": 0,
        "real_set": "random",
        "real_split": "test",
        "real_count": 64,
        "classifier": {"identity": "stub", "test_accuracy": 0.5},
        "neighbours": 3,
        "seeds": "0-999",
        "step": 4,
        "weights": "averaged",
    }
    of_train = json.loads(good(run(*words, "--real_split=train", f"--out={tmp_path / 'x.json'}")).out)
    assert of_train["classifier_precision"]["protocol"]["real_count"] == 1000


def test_against_what_was_held_out(run, tmp_path):
    draw, images = np.random.default_rng(0), tmp_path / "images"
    images.mkdir()
    for i in range(20):
        Image.fromarray(draw.integers(0, 256, (16, 16), np.uint8)).save(images / f"{i // 2}-{i % 2}.png")
    folder = tmp_path / "run"
    words = (
        "--config.image_size=16",
        "--config.held_out=0.3",
        "--config.held_out_by=-",
        "--config.batch_size=4",
    )
    words += ("--config.hidden=4", "--config.discriminator_hidden=4", "--config.latent_size=2", "--steps=1")
    good(run("--experiment=gan_mnist", f"--workdir={folder}", f"--config.dataset={images}", *words))
    words = (f"--workdir={folder}", "--mode=evaluate", "--num_samples=10")
    found = json.loads(good(run(*words, "--metrics=discriminator_overfitting")).out)
    result = found["discriminator_overfitting"]
    assert (result["images"], result["protocol"]["real_split"]) == (6, "test")
    means = [result[name] for name in ("train", "held_out", "generated")]
    assert len(set(means)) == 3
    assert result["value"] == pytest.approx((means[0] - means[1]) / (means[0] - means[2]))
    near = json.loads(good(run(*words, "--metrics=nearest_training_image")).out)["nearest_training_image"]
    assert 0 <= near["value"] <= 1  # by pixels alone: there are no classes
    assert (near["protocol"]["real_count"], near["protocol"]["threshold_count"]) == (14, 6)
    assert near["protocol"]["real_set"] == str(images)
    assert (folder / "neighbours.png").exists()
    words += ("--metrics=swd",)
    for split, count in (("test", 6), ("train", 14)):
        found = json.loads(good(run(*words, f"--real_split={split}")).out)
        assert (found["swd"]["protocol"]["real_split"], found["swd"]["protocol"]["real_count"]) == (
            split,
            count,
        )


def test_a_picture_of_the_nearest_training_images(run, tmp_path):
    folder = tmp_path / "run"
    train(run, folder, "--steps=1")
    words = (f"--workdir={folder}", "--mode=evaluate", "--num_samples=1000")
    good(run(*words, "--metrics=mean_confidence"))
    assert not (folder / "neighbours.png").exists()
    good(run(*words, "--metrics=nearest_training_image"))
    sheet = np.asarray(Image.open(folder / "neighbours.png"))
    assert sheet.shape == (8 * 50 + 2, 8 * 50 + 2)  # eight samples, each beside seven


def test_while_it_trains(run, tmp_path):
    """At its steps and at the end; logged; the best checkpoint is kept; no bit changes."""
    plain, folder = tmp_path / "plain", tmp_path / "run"
    train(run, plain, "--config.steps=5")
    words = ("--config.steps=5", "--config.evaluate_every=2", "--num_samples=1000", "--keep=1")
    for stop in ("--steps=3", "--steps=5"):
        answer = train(run, folder, *words, stop)
    assert "step 4: " in answer.err + answer.out
    results = [json.loads((path / "result.json").read_text()) for path in (plain, folder)]
    assert results[0]["fingerprint"] == results[1]["fingerprint"]
    assert "evaluation" not in results[0]
    lines = [line for line in read_jsonl(folder / "metrics.jsonl") if "classifier_frechet_distance" in line]
    assert [line["step"] for line in lines] == [2, 3, 4, 5]
    assert lines[-1]["classifier_frechet_distance"] == results[1]["evaluation"]["classifier_frechet_distance"]
    assert all("mean_confidence" in line and "class_shares" not in line for line in lines)
    whole = read_jsonl(folder / "evaluations.jsonl")
    assert [line["step"] for line in whole] == [2, 3, 4, 5]
    assert whole[0]["class_shares"]["protocol"]["step"] == 2
    assert (4, "evaluation/mean_confidence") in events(folder)
    best = min(lines, key=lambda line: (line["classifier_frechet_distance"], -line["step"]))["step"]
    kept = {path.name for path in (folder / "checkpoints").iterdir()}
    assert {int(name) for name in kept if name.isdigit()} == {best, 5}
    evaluate = (f"--workdir={folder}", "--mode=evaluate", "--num_samples=1000", "--checkpoint=best")
    again = json.loads(good(run(*evaluate)).out)
    assert again["mean_confidence"]["protocol"]["step"] == best


def test_another_best_while_it_trains(run, tmp_path):
    folder = tmp_path / "run"
    words = ("--config.evaluate_every=1", "--num_samples=1000", "--keep=1", "--metrics=mean_confidence")
    train(run, folder, *words, "--keep_best=mean_confidence:max")
    lines = [line for line in read_jsonl(folder / "metrics.jsonl") if "mean_confidence" in line]
    best = max(lines, key=lambda line: (line["mean_confidence"], line["step"]))["step"]
    steps = {int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit()}
    assert steps == {best, 4}


@pytest.fixture
def two(tmp_path) -> tuple[pathlib.Path, pathlib.Path]:
    """A folder of 30 images in classes, and an .npz of 40."""
    draw = np.random.default_rng(0)
    folder = tmp_path / "fake"
    for i in range(30):
        path = folder / f"class{i % 2}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (12, 9, 3), np.uint8)).save(path)
    np.savez(tmp_path / "real.npz", image=draw.integers(0, 256, (40, 12, 9, 3), np.uint8))
    return folder, tmp_path / "real.npz"


def test_two_sets(run, tmp_path, two):
    before = listing(tmp_path)
    fake, real = two
    answer = good(run("--mode=evaluate", f"--real={real}", f"--fake={fake}"))
    found = json.loads(answer.out)
    assert list(found) == ["swd", "ms_ssim"]  # what needs no network
    protocol = found["swd"]["protocol"]
    assert (protocol["samples"], protocol["real_count"], protocol["real_set"]) == (30, 40, str(real))
    assert protocol["generated_set"] == str(fake)
    assert listing(tmp_path) == before
    out = tmp_path / "e.json"
    answer = good(
        run("--mode=evaluate", f"--real={fake}", f"--fake={fake}", "--metrics=ms_ssim", f"--out={out}")
    )
    assert json.loads(answer.out) == json.loads(out.read_text())
    same = json.loads(answer.out)["ms_ssim"]
    assert same["value"] == same["real"]


def test_of_statistics_there_is_fid_alone(run, tmp_path, two):
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=np.zeros(4), sigma=np.eye(4))
    for words, message in (
        ((), "--metrics=fid: it needs the FID Inception's weights"),
        (("--metrics=swd",), "swd: it takes the real images themselves"),
        (("--real_split=test",), "--real_split does nothing: .*statistics.npz holds statistics"),
    ):
        answer = run("--mode=evaluate", f"--real={path}", f"--fake={two[0]}", *words)
        assert (answer.code, answer.out) == (2, "")
        assert re.search(message, answer.err), answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metrics=fid",), "--metrics=fid: it needs the FID Inception's weights .* with --inception="),
        (("--metrics=label_agreement",), "--metrics=label_agreement: there is no such metric"),
        (("--metrics=swd", "--inception=x.pt"), "--inception does nothing: no metric that was asked for"),
        (("--resize=clean",), "--resize does nothing without --inception="),
        (("--inception=/nowhere.pt", "--metrics=fid"), "/nowhere.pt.*pytorch-fid"),
        (("--experiment=cgan_mnist",), "--experiment does nothing with --fake"),
        (("--num_samples=10",), "--num_samples does nothing with --fake"),
        (("--config.steps=3",), "--config.steps does nothing with --fake"),
        (("--out=x.png",), r"--out=x\.png: expected a \.json"),
    ],
)
def test_what_does_not_fit_two_sets(run, two, words, message):
    fake, real = two
    answer = run("--mode=evaluate", f"--real={real}", f"--fake={fake}", *words)
    assert (answer.code in (1, 2), answer.out) == (True, "")
    assert re.search(message, answer.err), answer.err
    assert answer.err.count("\n") == 1


def test_bad_sets(run, tmp_path, two):
    fake, real = two
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(fake / "class0" / "odd.png")
    for words, message in (
        ((f"--fake={fake}",), "--fake: what it is compared with is missing; name it with --real="),
        ((f"--fake={tmp_path / 'none'}", f"--real={real}"), "--fake: .*no such file or folder"),
        ((f"--fake={real}", f"--real={tmp_path / 'none'}"), "--real: .*no such file or folder"),
        (
            (f"--fake={fake}", f"--real={real}"),
            r"--fake: images of unequal sizes: .*; bring all to one size, in a run",
        ),
    ):
        answer = run("--mode=evaluate", *words)
        assert answer.code == 2, answer.err
        assert re.search(message, answer.err.strip()), answer.err
        assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metrics=fid",), "--metrics does nothing in --mode=train without --config.evaluate_every="),
        (("--num_samples=10",), "--num_samples does nothing in --mode=train without"),
        (("--config.evaluate_every=1", "--metrics=fid"), "needs the FID Inception's weights"),
        (("--config.evaluate_every=1", "--metrics=fidd"), "did you mean fid"),
        (("--config.evaluate_every=1", "--num_samples=15"), "does not divide evenly over the 10 classes"),
        (
            ("--config.evaluate_every=1", "--num_samples=1000", "--keep_best=nothing"),
            "the run has no metric nothing; choose from: .*classifier_frechet_distance",
        ),
    ],
)
def test_what_does_not_fit_training(run, tmp_path, words, message):
    from tests.cli.command_line import TOY

    answer = run(f"--experiment={TOY}", f"--workdir={tmp_path / 'run'}", "--parallel=none", *words)
    assert answer.code == 2, answer.err
    assert re.search(message, answer.err), answer.err


def test_too_few_samples_are_refused_before_training(run, tmp_path):
    from tests.cli.command_line import TOY

    (tmp_path / "network.pt").write_bytes(b"that is not read yet")
    words = (f"--experiment={TOY}", f"--workdir={tmp_path / 'run'}", "--config.evaluate_every=1")
    for more in ((), ("--metrics=kid",)):
        answer = run(*words, f"--inception={tmp_path / 'network.pt'}", "--num_samples=990", *more)
        assert answer.code == 2
        assert answer.err == "ganjax: --num_samples=990: kid needs at least 1000 generated images\n"
    assert not (tmp_path / "run" / "checkpoints").exists()
