"""The gallery of results, made of a toy's run."""

import json
import pathlib
import shutil

import pytest
from PIL import Image

from benchmarks import gallery
from tests.cli.command_line import TOY, Silent, runner, train
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("gallery") / "run"
    train(runner(Silent), folder, "--config.batch_size=6", "--log_steps=1")
    return folder


@pytest.fixture
def run(trained, tmp_path) -> pathlib.Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def rewrite(path: pathlib.Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_figures_are_those_of_the_runs_files(run, tmp_path, capsys):
    docs = tmp_path / "docs"
    rewrite(run / "result.json", wall_seconds=125.0, images_per_second=1469.3, peak_memory_mb=875.0)
    assert gallery.main([str(run), f"--docs={docs}"]) == 0
    assert capsys.readouterr().out == f"{run}: toy\n"
    page = (docs / "gallery.md").read_text()
    result = json.loads((run / "result.json").read_text())
    versions = json.loads((run / "config.json").read_text())["versions"]
    for text in (
        f"`python run.py --experiment={TOY} --config.batch_size=6`",
        "| seed | 0 |",
        "| steps | 4, 24 images |",
        "| time | 2m05s, 1,469 images/s, 875 MB at most |",
        f"jax {versions['jax']}",
        f"| fingerprint | `{result['fingerprint'][:16]}` |",
        "A toy: two dense networks on 4x4 images.",
        "Not evaluated yet",
    ):
        assert text in page, text
    for name in ("toy", "toy_curves"):
        path = docs / "images" / "gallery" / f"{name}.png"
        assert f"](images/gallery/{name}.png)" in page
        assert path.stat().st_size < 40_000
        with Image.open(path) as picture:
            assert picture.mode == "P"
            assert picture.width <= gallery.LARGEST


def test_what_an_evaluation_says(run, tmp_path):
    protocol = {"samples": 10_000, "step": 4, "weights": "averaged", "classifier": {"test_accuracy": 0.993}}
    evaluation = {
        "label_agreement": {"value": 0.98651, "per_class": [0.9, 1.0], "protocol": protocol},
        "class_shares": {"value": [0.25, 0.75], "real_train": [0.5, 0.5], "protocol": protocol},
        "nearest_training_image": {"value": 0.0, "count": 0, "threshold": 2.25, "protocol": protocol},
        "swd": {"value": 42.87054, "per_level": {"16x16": 39.934, "8x8": 2.0}, "protocol": protocol},
        "over_seeds": {"value": 0.5, "std": 0.1, "members": [{"value": 0.4}], "protocol": protocol},
        "by_seed_alone": {"members": [{"value": [1]}], "protocol": protocol},
        "verdict": {"value": False, "against": ["a: 1, expected 2", "b: 3, expected 4"], "protocol": {}},
    }
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    docs = tmp_path / "docs"
    assert gallery.main([str(run), f"--docs={docs}"]) == 0
    page = (docs / "gallery.md").read_text()
    for text in (
        "| `label_agreement` | 0.9865 |  |",
        "| `class_shares` | 0.25 to 0.75 | real_train 0.5 to 0.5 |",
        "| `nearest_training_image` | 0 | count 0; threshold 2.25 |",
        "| `swd` | 42.87 | per_level 16x16 39.93, 8x8 2 |",
        "| `over_seeds` | 0.5 ± 0.1 |  |",
        "| `by_seed_alone` | see the run's file |  |",
        "On 10,000 samples, step 4, averaged weights, a classifier of 99.30% test accuracy.",
        "Verdict: a: 1, expected 2. b: 3, expected 4.",
    ):
        assert text in page, text
    inception = {"sha256": "7ff4a85c3a6378f0", "resize": "tf1"}
    protocol = {"samples": 5000, "inception": inception, "real_count": 10_000, "real_split": "test"}
    (run / "evaluation.json").write_text(
        json.dumps({"kid": {"value": 0.05, "std": 0.001, "protocol": protocol}})
    )
    assert gallery.main([str(run), f"--docs={docs}"]) == 0
    judged = "the Inception of sha256 7ff4a85c..., tf1 resizing, against 10,000 images of split test."
    assert judged in (docs / "gallery.md").read_text()
    evaluation["verdict"] = {"value": True, "against": [], "protocol": {}}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    assert gallery.main([str(run), f"--docs={docs}"]) == 0
    assert "Verdict: it passes." in (docs / "gallery.md").read_text()


def test_again_it_writes_the_same_and_leaves_the_rest_alone(run, tmp_path):
    docs = tmp_path / "docs"
    assert gallery.main([str(run), f"--docs={docs}"]) == 0
    (docs / "gallery.md").write_text((docs / "gallery.md").read_text() + "\nWords of ours, after it.\n")
    before = files(docs)
    assert gallery.main([str(run), str(run), f"--docs={docs}"]) == 0
    assert files(docs) == before
    rewrite(run / "result.json", images_seen=1234)
    assert gallery.main([str(run), f"--docs={docs}"]) == 0
    changed = (docs / "gallery.md").read_text()
    assert changed == before["gallery.md"].decode().replace("24 images |", "1,234 images |")
    rewrite(run / "config.json", seed=3)
    assert gallery.main([str(run), f"--docs={docs}"]) == 0
    both = (docs / "gallery.md").read_text()
    assert both.startswith(changed.rstrip("\n"))
    assert f"--experiment={TOY} --seed=3 --config" in both
    assert (docs / "images" / "gallery" / "toy-seed3.png").exists()


def test_what_is_not_ready_is_refused(run, tmp_path, capsys):
    docs = tmp_path / "docs"

    def refused() -> str:
        assert gallery.main([str(run), f"--docs={docs}"]) == 1
        assert not docs.exists()
        return capsys.readouterr().err

    rewrite(run / "result.json", complete=False, step=2)
    assert "has not reached its end: step 2" in refused()
    (run / "result.json").write_text("{")
    assert "result.json is damaged" in refused()
    (run / "result.json").unlink()
    assert "result.json can't be read" in refused()
    (run / "config.json").unlink()
    assert "holds no run" in refused()


def test_a_name_of_its_own(run, tmp_path, capsys):
    docs = tmp_path / "docs"
    assert gallery.main([str(run), f"--docs={docs}"]) == 0
    assert gallery.main([str(run), f"--docs={docs}", "--name=toy_again"]) == 0
    page = (docs / "gallery.md").read_text()
    assert "\n## toy\n" in page
    assert "\n## toy_again\n" in page
    assert (docs / "images/gallery/toy_again_curves.png").exists()
    for words in ([str(run), str(run), "--name=twice"], [str(run), "--name=../outside"]):
        with pytest.raises(SystemExit):
            gallery.main([*words, f"--docs={docs}"])
        assert "is for one RUN" in capsys.readouterr().err
