"""Using a trained run: sample, interpolate, evaluate, list, help, and a family's own mode."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image, ImageSequence

from ganjax import data
from ganjax.data import embedded
from tests.cli.command_line import TOY, Answer, Run, Silent, listing, runner, train
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(runner(Silent), folder)
    return folder


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("unconditional") / "run"
    train(runner(Silent), folder, "--config.conditional=false", "--steps=2")
    return folder


def good(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    assert answer.err == ""
    return answer


def sample(run: Run, folder: pathlib.Path, out: pathlib.Path, *flags: str) -> Answer:
    return good(run(f"--workdir={folder}", "--mode=sample", f"--out={out}", *flags))


def arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def test_one_seed_is_one_picture_in_every_form(run, trained, tmp_path):
    lists = ("--seeds=5,0-2", "--labels=7,3")
    before = listing(trained)
    answer = sample(run, trained, tmp_path / "x.npz", *lists)
    assert answer.out == f"8 images of step 4: {tmp_path / 'x.npz'}\n"
    found = arrays(tmp_path / "x.npz")
    assert set(found) == {"image", "label", "seed"}
    assert (found["image"].dtype, found["image"].shape) == (np.uint8, (8, 4, 4, 1))
    assert found["seed"].tolist() == [5, 0, 1, 2] * 2
    assert found["label"].tolist() == [7] * 4 + [3] * 4
    assert len({image.tobytes() for image in found["image"]}) == 8

    sample(run, trained, tmp_path / "folder", *lists)
    names = {str(path.relative_to(tmp_path / "folder")) for path in (tmp_path / "folder").rglob("*.png")}
    assert names == {f"{label}/seed{seed:06d}.png" for label in (7, 3) for seed in (5, 0, 1, 2)}
    for image, label, seed in zip(found["image"], found["label"], found["seed"], strict=True):
        picture = np.asarray(Image.open(tmp_path / "folder" / f"{label}/seed{seed:06d}.png"))
        np.testing.assert_array_equal(picture, image[..., 0])
    again = data.load(str(tmp_path / "folder"))  # a labelled set for whoever wants one
    assert again.class_names == ("3", "7")
    np.testing.assert_array_equal(again.read(np.arange(4))["label"], 0)

    sample(run, trained, tmp_path / "x.png", *lists)
    sheet = np.asarray(Image.open(tmp_path / "x.png"))
    cell = (sheet.shape[1] - 2) // 4  # a row a label, with 2 pixels between
    assert sheet.shape == (2 * cell + 2, 4 * cell + 2)
    for i, image in enumerate(found["image"]):
        top, left = i // 4 * cell + 2, i % 4 * cell + 2
        scale = (cell - 2) // 4
        np.testing.assert_array_equal(
            sheet[top : top + cell - 2 : scale, left : left + cell - 2 : scale], image[..., 0]
        )

    sample(run, trained, tmp_path / "one.npz", "--seeds=2", "--labels=3")
    np.testing.assert_array_equal(arrays(tmp_path / "one.npz")["image"][0], found["image"][7])
    sample(run, trained, tmp_path / "many.npz", "--seeds=0-99", "--labels=3")
    np.testing.assert_array_equal(arrays(tmp_path / "many.npz")["image"][2], found["image"][7])
    assert listing(trained) == before


def test_defaults_of_sampling(run, trained, unconditional, tmp_path):
    sample(run, trained, tmp_path / "c.npz")
    found = arrays(tmp_path / "c.npz")
    assert found["label"].tolist() == np.repeat(np.arange(10), 10).tolist()
    assert found["seed"].tolist() == list(range(10)) * 10
    sample(run, unconditional, tmp_path / "u.npz")
    found = arrays(tmp_path / "u.npz")
    assert set(found) == {"image", "seed"}
    assert found["seed"].tolist() == list(range(64))
    sample(run, unconditional, tmp_path / "folder", "--seeds=3")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["seed000003.png"]


def test_without_out_the_grid_is_in_the_workdir(run, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    good(run(f"--workdir={tmp_path / 'run'}", "--mode=sample", "--seeds=0"))
    assert (tmp_path / "run" / "sample.png").exists()


def test_sampling_needs_no_data(run, tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, image=np.zeros((8, 4, 4, 1), np.uint8), label=np.arange(8) % 2)
    train(run, tmp_path / "run", f"--config.dataset={path}", "--steps=1")
    path.unlink()
    sample(run, tmp_path / "run", tmp_path / "x.npz", "--seeds=0")
    assert arrays(tmp_path / "x.npz")["label"].tolist() == [0, 1]


def test_the_latest_checkpoint_is_sampled(run, tmp_path):
    train(run, tmp_path / "run", "--steps=2")
    assert "of step 2" in sample(run, tmp_path / "run", tmp_path / "2.npz").out
    train(run, tmp_path / "run")
    assert "of step 4" in sample(run, tmp_path / "run", tmp_path / "4.npz").out
    assert not np.array_equal(arrays(tmp_path / "2.npz")["image"], arrays(tmp_path / "4.npz")["image"])


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> pathlib.Path:
    """Checkpoints of steps 2, 3 and 4, the first of which has the lowest `filled`."""
    folder = tmp_path_factory.mktemp("several") / "run"
    train(runner(Silent), folder, "--save_steps=1", "--keep=2", "--keep_best=filled", "--steps=2")
    shutil.rmtree(folder / "checkpoints" / "00000001")
    train(runner(Silent), folder, "--save_steps=1", "--keep=2", "--keep_best=filled")
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "00000002",
        "00000003",
        "00000004",
    ]
    return folder


def test_a_checkpoint_of_choice_is_used(run, several, tmp_path):
    images = {}
    for which, step in {"last": 4, "best": 2, "2": 2, "3": 3, "00000004": 4}.items():
        answer = sample(run, several, tmp_path / "x.npz", f"--checkpoint={which}", "--labels=1")
        assert answer.out == f"10 images of step {step}: {tmp_path / 'x.npz'}\n"
        images[which] = arrays(tmp_path / "x.npz")["image"]
    np.testing.assert_array_equal(images["best"], images["2"])
    np.testing.assert_array_equal(images["last"], images["00000004"])
    assert not np.array_equal(images["2"], images["last"])
    flags = ("--mode=interpolate", f"--out={tmp_path / 'x.png'}", "--labels=1", "--checkpoint=best")
    assert "step 2:" in good(run(f"--workdir={several}", *flags)).out


@pytest.mark.parametrize("mode", ["sample", "interpolate", "evaluate"])
@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("5", r"--checkpoint=5: .* has no checkpoint of that step; choose last or a step, of 2, 3, 4$"),
        ("frist", r"--checkpoint=frist: expected last, best or a step$"),
        ("-1", r"--checkpoint=-1: expected last, best or a step$"),
    ],
)
def test_a_checkpoint_that_is_not_there(run, several, mode, which, message):
    before = listing(several)
    answer = run(f"--workdir={several}", f"--mode={mode}", f"--checkpoint={which}")
    assert (answer.code, answer.out) == (2, "")
    assert re.search(message, answer.err.strip()), answer.err
    assert answer.err.count("\n") == 1
    assert listing(several) == before


def test_no_best_was_kept(run, trained):
    answer = run(f"--workdir={trained}", "--mode=sample", "--checkpoint=best")
    assert answer.code == 2
    assert answer.err == (
        f"ganjax: --checkpoint=best: {trained} was not trained with --keep_best; "
        "choose last or a step, of 4\n"
    )


def test_the_one_that_was_asked_for_is_damaged(run, several, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(several, folder)
    (folder / "checkpoints" / "00000003" / "meta" / "metadata").write_text("{")
    answer = run(f"--workdir={folder}", "--mode=sample", "--checkpoint=3")
    assert answer.code == 1
    assert re.fullmatch(r"ganjax: the checkpoint of step 3 .* steps 2, 4\n", answer.err), answer.err


def test_interpolation_goes_from_sample_to_sample(run, trained, tmp_path):
    flags = ("--seeds=4,8,1", "--labels=2", "--frames=5")
    good(run(f"--workdir={trained}", "--mode=interpolate", f"--out={tmp_path / 'both'}", *flags))
    assert {path.name for path in (tmp_path / "both").iterdir()} - {
        "interpolation.mp4"  # where there is an encoder
    } == {"interpolation.png", "interpolation.gif"}
    sample(run, trained, tmp_path / "x.npz", "--seeds=4,8,1", "--labels=2")
    seeds = arrays(tmp_path / "x.npz")["image"][..., 0]

    with Image.open(tmp_path / "both" / "interpolation.gif") as animation:
        frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(animation)]
    assert len(frames) == 15  # round to the first again
    scale = (frames[0].shape[0] - 4) // 4
    for place, image in zip((0, 5, 10), seeds, strict=True):
        np.testing.assert_array_equal(frames[place][2:-2:scale, 2:-2:scale], image)

    strip = np.asarray(Image.open(tmp_path / "both" / "interpolation.png"))
    cell = strip.shape[0] - 2
    assert (strip.shape[1] - 2) / cell == 11  # to the last seed, both ends included
    for place, image in zip((0, 5, 10), seeds, strict=True):
        left = place * cell + 2
        scale = (cell - 2) // 4
        np.testing.assert_array_equal(strip[2:cell:scale, left : left + cell - 2 : scale], image)


def test_interpolation_to_a_single_file(run, trained, unconditional, tmp_path):
    good(run(f"--workdir={trained}", "--mode=interpolate", f"--out={tmp_path / 'x.gif'}", "--frames=2"))
    good(
        run(f"--workdir={unconditional}", "--mode=interpolate", f"--out={tmp_path / 'x.png'}", "--seeds=0,1")
    )
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"x.gif", "x.png"}
    with Image.open(tmp_path / "x.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 8  # seeds 0-3, two frames a leg


class Classifier:
    """Answers by the mean brightness."""

    test_accuracy = 0.5
    num_classes = 10
    image_shape = (4, 4, 1)
    identity = "stub"

    def evaluate(self, images: np.ndarray):
        from ganjax.metrics.classifier import Outputs

        pixels = images.reshape(len(images), -1).astype(np.float32) / 255
        return Outputs(logits=pixels[:, :10], features=pixels[:, :6])


def test_evaluate(run, trained, tmp_path, monkeypatch):
    seen = {}

    def cached_classifier(train, test, num_classes):
        seen.update(train=len(train["image"]), test=len(test["image"]), num_classes=num_classes)
        return Classifier()

    monkeypatch.setattr("ganjax.cli.measuring.cached_classifier", cached_classifier)
    monkeypatch.setattr(embedded, "RANDOM_EXAMPLES", {"train": 1000, "test": 64})
    before = listing(trained)
    out = tmp_path / "e.json"
    answer = run(f"--workdir={trained}", "--mode=evaluate", "--num_samples=1000", f"--out={out}")
    assert answer.code == 0, answer.err
    assert seen == {"train": 1000, "test": 64, "num_classes": 10}
    found = json.loads(out.read_text())
    assert json.loads(answer.out) == found
    assert set(found) >= {"label_agreement", "mean_confidence", "within_class_diversity_ratio"}
    # Noise judged by brightness: it can't pass.
    assert found["verdict"]["value"] is False
    assert [line.split(":")[0] for line in found["verdict"]["against"]][:2] == [
        "mean_confidence",
        "label_agreement",
    ]
    said = [line for line in answer.err.splitlines() if line.startswith("verdict: ")]
    assert said == [f"verdict: {line}" for line in found["verdict"]["against"]]
    for metric in found.values():
        assert metric["protocol"]["step"] == 4
        assert metric["protocol"]["seeds"] == "0-999"
        assert metric["protocol"]["weights"] == "averaged"
        assert metric["protocol"]["samples"] == 1000
    assert listing(trained) == before
    answer = run(
        f"--workdir={trained}",
        "--mode=evaluate",
        "--num_samples=1000",
        "--metrics=mean_confidence,class_shares",
        f"--out={out}",
    )
    assert list(json.loads(answer.out)) == ["mean_confidence", "class_shares"]


def test_the_metrics_that_are_known_are_those_there_are(run, trained, tmp_path, monkeypatch):
    from ganjax.cli import measuring
    from ganjax.metrics.judge import METRICS

    monkeypatch.setattr("ganjax.cli.measuring.cached_classifier", lambda *args: Classifier())
    monkeypatch.setattr(embedded, "RANDOM_EXAMPLES", {"train": 1000, "test": 64})
    answer = run(
        f"--workdir={trained}", "--mode=evaluate", "--num_samples=1000", f"--out={tmp_path / 'e.json'}"
    )
    assert set(json.loads(answer.out)) == {*METRICS, "verdict"}
    assert json.loads(answer.out)["verdict"]["protocol"]["metrics"] == list(METRICS)

    # Of large sets the nearest images are searched for only by name.
    monkeypatch.setattr(measuring, "NEAREST_PAIRS", 1000 * (1000 + 64) - 1)
    flags = (f"--workdir={trained}", "--mode=evaluate", "--num_samples=1000", f"--out={tmp_path / 'e.json'}")
    answer = run(*flags)
    assert "nearest training images: left out" in answer.err
    assert set(json.loads(answer.out)) == {*METRICS[:-1], "verdict"}
    assert list(json.loads(run(*flags, f"--metrics={METRICS[-1]}").out)) == [METRICS[-1]]


def test_a_mode_of_the_familys_own(run, trained):
    answer = good(run(f"--experiment={TOY}", f"--workdir={trained}", "--mode=count"))
    assert answer.out == f"{TOY}\n"


def test_list_names_every_experiment_with_its_summary(run):
    lines = good(run("--mode=list")).out.splitlines()
    assert any(re.match("cgan_mnist +Conditional GAN on MNIST", line) for line in lines)


@pytest.mark.parametrize("flag", ["--help", "-h", "--help=true"])
def test_help(run, flag):
    out = good(run(flag)).out
    for name in ("--experiment", "--mode", "--workdir", "--seeds", "--num_samples", "cgan_mnist"):
        assert name in out
    assert "Default: 0." in out  # of --seed


def test_help_of_an_experiment_lists_its_settings(run):
    out = good(run(f"--experiment={TOY}", "--help")).out
    assert "A toy: two dense networks" in out
    assert "--config.batch_size" in out
    assert "of the global batch" in out


def test_without_words_nothing_is_changed(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("--help")
    run("--mode=list")
    assert not list(tmp_path.iterdir())
