"""--mode=plot."""

import pathlib
import shutil

import pytest
from PIL import Image

from tests.cli.command_line import Run, Silent, listing, runner, train
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("plot") / "run"
    train(runner(Silent), folder, "--log_steps=1")
    return folder


def test_curves_in_the_workdir(run, trained, tmp_path):
    pytest.importorskip("matplotlib")
    shutil.copytree(trained, tmp_path / "run")
    answer = run(f"--workdir={tmp_path / 'run'}", "--mode=plot")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"curves of 4 lines, to step 4: {tmp_path / 'run' / 'curves.png'}\n"
    with Image.open(tmp_path / "run" / "curves.png") as picture:
        height = picture.height
    before = listing(trained)
    answer = run(f"--workdir={trained}", "--mode=plot", "--metrics=filled", f"--out={tmp_path / 'x.png'}")
    assert answer.code == 0, answer.err
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.height > height  # a panel more
    assert listing(trained) == before


def test_wrong_use(run, trained, tmp_path):
    answer = run(f"--workdir={trained}", "--mode=plot", "--metrics=fillled")
    assert answer.code == 2
    assert answer.err == "ganjax: --metrics=fillled: the run has no such metric; did you mean filled?\n"
    answer = run(f"--workdir={trained}", "--mode=plot", "--out=curves.gif")
    assert (answer.code, answer.err) == (2, "ganjax: --out=curves.gif: expected a .png\n")
    answer = run(f"--workdir={trained}", "--mode=plot", "--seeds=1")
    assert answer.code == 2
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    answer = run(f"--workdir={tmp_path / 'run'}", "--mode=plot")
    assert answer.code == 1
    assert "holds no losses and no logits" in answer.err
    (tmp_path / "run" / "metrics.jsonl").unlink()
    answer = run(f"--workdir={tmp_path / 'run'}", "--mode=plot")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "metrics.jsonl can't be read" in answer.err
