"""Training on data that are read while it goes on, whole and damaged, by the command line."""

import json
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from ganjax import data, loop
from ganjax.data import dataset
from ganjax.gan import Experiment, Stage
from tests.cli.command_line import TOY, Run, runner
from tests.doubles import Recorder, compiled_fast, keep_training, toy_gan
from tests.test_hosts import finish, start

__all__ = ["compiled_fast"]  # the fixture

ROOT = pathlib.Path(__file__).parents[2]
STREAMED = '''"""The toy, whose data are never kept in memory."""

from ganjax.data import dataset
from tests.cli.toy import TINY, Config, build

dataset.MEMORY_BUDGET = 0
'''


@pytest.fixture
def run(capsys, monkeypatch) -> Run:
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 0)
    return runner(capsys)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    pixels = np.random.default_rng(0).integers(0, 256, (21, 4, 4), np.uint8)
    for i, image in enumerate(pixels):
        path = root / f"class{i % 3}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def words(folder: pathlib.Path | str, workdir: pathlib.Path, *more: str) -> list[str]:
    flags = [f"--experiment={TOY}", f"--config.dataset={folder}", f"--workdir={workdir}"]
    return [*flags, "--parallel=none", "--config.steps=6", *more]


def result_of(workdir: pathlib.Path) -> dict:
    return json.loads((workdir / "result.json").read_text())


def test_taken_up_again_with_other_threads_it_is_the_run_that_was_not_interrupted(run, folder, tmp_path):
    for name, *parts in [("whole", ["--data_workers=0"]), ("parts", ["--steps=3"], ["--data_workers=5"])]:
        for flags in parts:
            answer = run(*words(folder, tmp_path / name, *flags))
            assert answer.code == 0, answer.err
    whole, parts = result_of(tmp_path / "whole"), result_of(tmp_path / "parts")
    assert parts["resumed_from"] == [3]
    assert parts["fingerprint"] == whole["fingerprint"]
    assert whole["skipped_images"] == 0


def test_a_damaged_image_ends_the_run_or_is_skipped(run, folder, tmp_path):
    damaged = folder / "class1" / "10.png"
    damaged.write_bytes(damaged.read_bytes()[:45])
    for workers in (0, 3):
        answer = run(*words(folder, tmp_path / "run", f"--data_workers={workers}"))
        assert answer.code == 1
        assert answer.err.splitlines()[-1].startswith(f"ganjax: {damaged}: the image can't be decoded (")
        assert "Traceback" not in answer.err
    end = time.monotonic() + 10
    while any("grain" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)
    answer = run(*words(folder, tmp_path / "run", "--skip_corrupt"))  # which need not be there from the start
    assert answer.code == 0, answer.err
    assert (answer.out + answer.err).count(f"skipped {damaged}: the image can't be decoded") == 1
    whole = result_of(tmp_path / "run")
    assert whole["skipped_images"] == 1
    for flags in (["--steps=3"], ["--data_workers=0"]):
        assert run(*words(folder, tmp_path / "parts", "--skip_corrupt", *flags)).code == 0
    assert result_of(tmp_path / "parts")["fingerprint"] == whole["fingerprint"]


def test_of_a_set_kept_on_the_device_damaged_images_are_named_too(folder):
    for name in ("class1/10.png", "class2/11.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:45])
    images = data.load(str(folder), skip_corrupt=True)
    assert images.resident() is not None
    stages = (Stage(toy_gan(), images, 4, 8), Stage(toy_gan(), images, 2, 8, keep_training))
    observer = Recorder()
    loop.train(Experiment(stages, 0), seed=0, observer=observer, parallel="none", window=2)
    told = [call.content for call in observer.of("message")]
    assert sorted(told) == sorted(images.skipped)  # each once, though two stages read them
    assert len(told) == 2


@pytest.mark.slow
def test_two_processes_read_their_shares_of_one_folder(folder, tmp_path):
    (folder / "class1" / "10.png").write_bytes((folder / "class1" / "10.png").read_bytes()[:45])
    experiment = tmp_path / "streamed.py"
    experiment.write_text(STREAMED)
    results = []
    for processes in (1, 2):
        workdir = tmp_path / f"of{processes}"
        argv = [
            f"--experiment={experiment}",
            f"--config.dataset={folder}",
            f"--workdir={workdir}",
            "--config.steps=12",
            "--parallel=pmap",
            "--deterministic",
            "--skip_corrupt",
        ]
        answers = finish(start(argv, processes, devices=4 // processes))
        assert [code for code, _, _ in answers] == [0] * processes, answers
        told = "".join(out + err for _, out, err in answers)
        assert "skipped" in told
        results.append(result_of(workdir)["fingerprint"])
    assert results[0] == results[1]


def test_a_file_that_vanishes(run, folder, tmp_path):
    assert run(*words(folder, tmp_path / "run", "--steps=1")).code == 0
    (folder / "class0" / "18.png").unlink()
    answer = run(*words(folder, tmp_path / "run"))
    assert answer.code == 2
    assert "holds another run" in answer.err  # of a set that had one more


def test_flags(run, tmp_path):
    answer = run(*words("random", tmp_path / "run", "--data_workers=-1"))
    assert answer.code == 2
    assert "data_workers" in answer.err
    answer = run("--mode=sample", f"--workdir={tmp_path}", f"--experiment={TOY}", "--skip_corrupt")
    assert (answer.code, "--skip_corrupt does nothing in --mode=sample" in answer.err) == (2, True)


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param([signal.SIGTERM], id="once"),
        pytest.param([signal.SIGINT, signal.SIGINT], marks=pytest.mark.slow, id="twice"),
    ],
)
def test_asked_to_stop_while_threads_read(folder, tmp_path, signals):
    experiment = tmp_path / "streamed.py"
    experiment.write_text(STREAMED)
    command = [
        f"--experiment={experiment}",
        f"--config.dataset={folder}",
        f"--workdir={tmp_path / 'run'}",
        "--config.steps=100000",
        "--config.pause=0.1",
        "--parallel=none",
        "--data_workers=3",
    ]
    process = subprocess.Popen(
        [sys.executable, "run.py", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        for signum in signals:
            process.send_signal(signum)
            time.sleep(0.02)
        before = time.monotonic()
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 128 + signals[0], err
    assert "Traceback" not in err
    if len(signals) == 1:
        assert "SIGTERM: saved step" in out
    else:
        assert time.monotonic() - before < 20
