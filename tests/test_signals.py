"""A run that is interrupted, in any way and at any moment, ends with the bits of one that was not."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from ganjax.cli import main
from tests.cli.command_line import TOY

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 60
PATIENCE = 120.0  # seconds; nothing here takes a tenth of it on a quiet machine


def command(workdir: pathlib.Path, pause: float = 0.02) -> list[str]:
    """The toy, slowed down so that it can be met at work."""
    return [
        f"--experiment={TOY}",
        f"--workdir={workdir}",
        f"--config.steps={STEPS}",
        f"--config.pause={pause}",
        "--parallel=none",
        "--log_steps=1",
        "--save_steps=7",
    ]


def start(workdir: pathlib.Path, **options: float) -> subprocess.Popen[str]:
    words = [sys.executable, "run.py", *command(workdir, **options)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code, output and errors."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    return process.returncode, out, err


def logged(workdir: pathlib.Path) -> int:
    """How many steps are in the run's log."""
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_step(process: subprocess.Popen[str], workdir: pathlib.Path, step: int) -> None:
    end = time.monotonic() + PATIENCE
    while logged(workdir) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def result_of(workdir: pathlib.Path) -> dict:
    return json.loads((workdir / "result.json").read_text())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert main(command(folder), package="experiments") == 0
    return result_of(folder)["fingerprint"]


def assert_goes_on_to_the_same_end(workdir: pathlib.Path, fingerprint: str, resumed: bool = True) -> None:
    code, _, err = finish(start(workdir))
    assert code == 0, err
    result = result_of(workdir)
    assert result["fingerprint"] == fingerprint
    assert result["complete"]
    assert bool(result["resumed_from"]) == resumed
    steps = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))
    assert sorted(path.name for path in workdir.glob("*.part")) == []
    assert not (workdir / "damaged").exists()
    assert not list((workdir / "checkpoints").glob("*tmp*"))


ASKED_TO_STOP = [
    pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
    pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow, id="SIGINT"),
]


@pytest.mark.parametrize(("signum", "code"), ASKED_TO_STOP)
def test_asked_to_stop_it_saves_and_says_so(tmp_path, uninterrupted, signum, code):
    workdir = tmp_path / "run"
    process = start(workdir)
    wait_for_step(process, workdir, 3)
    process.send_signal(signum)
    ended, out, err = finish(process)
    assert ended == code, err
    result = result_of(workdir)
    assert 3 <= result["step"] < STEPS
    assert not result["complete"]
    last = out.splitlines()[-1]
    assert last.startswith(f"{signum.name}: saved step {result['step']} of {STEPS} in {workdir}")
    assert "the same command goes on" in last
    assert (workdir / "checkpoints" / f"{result['step']:08d}").is_dir()
    assert_goes_on_to_the_same_end(workdir, uninterrupted)
    assert result_of(workdir)["resumed_from"] == [result["step"]]


def test_killed_it_goes_on_from_its_last_checkpoint(tmp_path, uninterrupted):
    workdir = tmp_path / "run"
    process = start(workdir)
    wait_for_step(process, workdir, 10)
    while not any((workdir / "checkpoints").glob("[0-9]" * 8)):  # written in the background
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert not (workdir / "result.json").exists()
    assert_goes_on_to_the_same_end(workdir, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_again_and_again(tmp_path, uninterrupted, seed):
    """At moments of its own choosing, in the middle of a save among others; three times in a row."""
    draw = random.Random(seed)
    workdir = tmp_path / "run"
    for step in sorted(draw.sample(range(1, STEPS - 5), 3)):
        process = start(workdir)
        wait_for_step(process, workdir, step)
        time.sleep(draw.uniform(0, 0.1))
        process.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]))
        finish(process)
    code, _, err = finish(start(workdir))
    assert code == 0, err
    assert result_of(workdir)["fingerprint"] == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.05, 0.12, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0])
def test_asked_to_stop_while_it_starts(tmp_path, uninterrupted, delay):
    """While it imports, builds or compiles: it ends by its first step, and nothing is in the way."""
    workdir = tmp_path / "run"
    process = start(workdir)
    time.sleep(delay)
    process.terminate()
    code, _, err = finish(process)
    assert code in (143, -signal.SIGTERM), err  # the latter before there is a handler
    assert len(err.splitlines()) <= 2
    started = (workdir / "result.json").exists()
    assert_goes_on_to_the_same_end(workdir, uninterrupted, resumed=started)


@pytest.mark.slow
def test_asked_twice_it_ends_at_once(tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir, pause=1000.0)
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None  # it waits for the step, to save it
    process.send_signal(signal.SIGINT)
    before = time.monotonic()
    code, _, err = finish(process)
    assert code == 130
    assert time.monotonic() - before < 20
    assert err == "ganjax: ended by SIGINT; nothing was left half-written\n"


@pytest.mark.slow
def test_asked_many_times_it_prints_no_traceback(tmp_path):
    """Somebody leans on Ctrl-C."""
    workdir = tmp_path / "run"
    process = start(workdir)
    wait_for_step(process, workdir, 3)
    for _ in range(20):
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    code, _, err = finish(process)
    assert code == 130, err
