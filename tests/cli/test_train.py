"""Training by the command line: a run's files, and what a resume makes of them."""

import importlib
import json
import pathlib
import re
import shutil
import time
from collections.abc import Iterator

import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from ganjax import cli
from ganjax.checkpoint import Checkpoints, fingerprint
from ganjax.errors import RunError
from ganjax.report.log import JsonlLog, read_jsonl
from tests.cli.command_line import TOY, Run, Silent, listing, runner, train
from tests.disks import small_disk
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


def result_of(folder: pathlib.Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def events(folder: pathlib.Path) -> list[tuple[int, str]]:
    """(step, tag) of the points that TensorBoard shows: those that a later file takes back are gone."""
    Event = importlib.import_module("tensorboardX.proto.event_pb2").Event  # a class made at run time
    shown: list[tuple[int, str]] = []
    for path in sorted(folder.glob("events.out.tfevents*"), key=lambda path: path.name.split(".")[-1]):
        content, at = path.read_bytes(), 0
        while at < len(content):
            size = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += 16 + size
            if event.HasField("session_log"):
                shown = [(step, tag) for step, tag in shown if step < event.step]
            shown += [(event.step, value.tag) for value in event.summary.value]
    return shown


def test_a_run_leaves_the_files_that_it_should(run, tmp_path):
    folder = tmp_path / "run"
    answer = train(run, folder, "--log_steps=2", "--preview_steps=2", "--seed=3")
    names = {path.name for path in folder.iterdir()}
    logs = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(logs) == 1
    assert names - logs == {
        "config.json",
        "metrics.jsonl",
        "diversity.jsonl",
        "samples",
        "checkpoints",
        "result.json",
    }
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [
        "00000000.png",
        "00000002.png",
        "00000004.png",
    ]
    sheet = np.asarray(Image.open(folder / "samples" / "00000004.png"))
    assert sheet.shape[0] == sheet.shape[1]  # ten classes, a row each, ten columns

    config = json.loads((folder / "config.json").read_text())
    assert config["experiment"] == TOY
    assert config["seed"] == 3
    assert config["config"] == {
        "dataset": "random",
        "steps": 4,
        "batch_size": 8,
        "conditional": True,
        "nan_step": -1,
        "interpolates": True,
        "pause": 0.0,
        "convolves": False,
        "evaluate_every": 0,
        "seeds": 1,
    }
    assert config["data"]["random:train"]["num_examples"] == 256
    assert {"python", "jax", "jaxlib", "flax", "optax", "numpy"} <= set(config["versions"])
    assert config["platform"] == "cpu"
    assert config["cores"] >= 1
    assert config["processor"]
    assert "git_revision" in config

    lines = read_jsonl(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 4]
    for line in lines:
        assert set(line) == {
            "step",
            "seconds",
            "images_per_second",
            "discriminator_loss",
            "generator_loss",
            "filled",
            "draw",
        }
        assert line["images_per_second"] is None or line["images_per_second"] > 0
    assert lines[1]["seconds"] >= lines[0]["seconds"] > 0

    result = result_of(folder)
    assert (result["step"], result["images_seen"], result["complete"]) == (4, 32, True)
    assert result["resumed_from"] == []
    assert result["wall_seconds"] > result["first_step_seconds"] > 0
    assert result["compile_seconds"] > 0
    assert result["images_per_second"] > 0
    assert result["metrics"]["generator_loss"] == lines[1]["generator_loss"]
    assert f"fingerprint {result['fingerprint']}\n" in answer.out
    leaves, meta = Checkpoints(folder / "checkpoints", read_only=True)._read(4)
    assert fingerprint(leaves) == meta["fingerprint"] == result["fingerprint"]

    shown = events(folder)
    assert [step for step, tag in shown if tag == "samples"] == [0, 2, 4]
    assert [step for step, tag in shown if tag == "generator_loss"] == [2, 4]


def test_the_default_workdir_is_named_for_experiment_and_seed(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(f"--experiment={TOY}", "--seed=7", "--steps=1", "--parallel=none").code == 0
    assert (tmp_path / "runs" / "toy-seed7" / "result.json").exists()


def test_stopped_and_taken_up_again_is_the_run_that_was_not(run, tmp_path):
    train(run, tmp_path / "whole", "--log_steps=1", "--preview_steps=1")
    part = train(run, tmp_path / "parts", "--log_steps=1", "--preview_steps=1", "--steps=2")
    assert "step 2 of 4" in part.out
    middle = result_of(tmp_path / "parts")
    assert (middle["step"], middle["complete"]) == (2, False)
    rest = train(run, tmp_path / "parts", "--log_steps=1", "--preview_steps=1", "--steps=4")
    assert "going on from step 2 of 4" in rest.err
    whole, parts = result_of(tmp_path / "whole"), result_of(tmp_path / "parts")
    for same in ("fingerprint", "metrics", "step", "images_seen", "complete"):
        assert parts[same] == whole[same]
    assert parts["resumed_from"] == [2]
    assert parts["wall_seconds"] > middle["wall_seconds"]
    volatile = {"seconds", "images_per_second"}
    logs = [
        [{k: v for k, v in line.items() if k not in volatile} for line in read_jsonl(path / "metrics.jsonl")]
        for path in (tmp_path / "whole", tmp_path / "parts")
    ]
    assert logs[0] == logs[1]
    samples = [listing(path / "samples") for path in (tmp_path / "whole", tmp_path / "parts")]
    assert samples[0] == samples[1]


@pytest.mark.parametrize("kept", [2, 0])
def test_after_a_kill_each_step_is_logged_once(run, tmp_path, kept):
    """A run killed at step 3 whose last checkpoint is of step 2, or which has none yet."""
    folder = tmp_path / "run"
    train(run, folder, "--log_steps=1", "--steps=3", "--save_steps=1")
    for step in range(kept + 1, 4):
        shutil.rmtree(folder / "checkpoints" / f"{step:08d}")
    if not kept:
        shutil.rmtree(folder / "checkpoints")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "sec')  # half a line
    train(run, folder, "--log_steps=1")
    assert [line["step"] for line in read_jsonl(folder / "metrics.jsonl")] == [1, 2, 3, 4]
    shown = events(folder)
    assert [step for step, tag in shown if tag == "filled"] == [1, 2, 3, 4]
    assert result_of(folder)["resumed_from"] == ([2] if kept else [])


def test_a_finished_run_is_left_as_it_is(run, tmp_path):
    train(run, tmp_path / "run")
    before = listing(tmp_path / "run")
    answer = train(run, tmp_path / "run")
    assert result_of(tmp_path / "run")["fingerprint"] in answer.out
    after = listing(tmp_path / "run")
    new = {name for name in after if name not in before}
    assert all(re.fullmatch(r"events\.out\.tfevents.*", name) for name in new)
    assert {name: after[name] for name in before} == before


def test_a_lost_result_is_written_again(run, tmp_path):
    train(run, tmp_path / "run")
    before = result_of(tmp_path / "run")
    for content in (None, "{", "[]"):
        (tmp_path / "run" / "result.json").unlink()
        if content is not None:
            (tmp_path / "run" / "result.json").write_text(content)
        train(run, tmp_path / "run")
        assert result_of(tmp_path / "run")["fingerprint"] == before["fingerprint"]


def test_seeds_and_settings_make_runs_and_flags_do_not(run, tmp_path):
    prints = {}
    for name, flags in {
        "plain": (),
        "flags": ("--log_steps=1", "--preview_steps=0", "--save_steps=1", "--keep=1", "--save_minutes=0"),
        "seed": ("--seed=1",),
        "config": ("--config.batch_size=4",),
    }.items():
        train(run, tmp_path / name, *flags)
        prints[name] = result_of(tmp_path / name)["fingerprint"]
    assert prints["plain"] == prints["flags"]
    assert len(set(prints.values())) == 3
    assert [path.name for path in (tmp_path / "flags" / "checkpoints").iterdir()] == ["00000004"]


def test_devices_are_no_part_of_a_runs_identity(run, tmp_path):
    train(run, tmp_path / "run", "--steps=2")
    answer = run(f"--experiment={TOY}", f"--workdir={tmp_path / 'run'}", "--parallel=pmap")
    assert answer.code == 0
    assert result_of(tmp_path / "run")["resumed_from"] == [2]


def test_a_damaged_checkpoint_is_told_and_gone_around(run, tmp_path):
    train(run, tmp_path / "whole")
    folder = tmp_path / "run"
    train(run, folder, "--steps=3", "--save_steps=1")
    (folder / "checkpoints" / "00000003" / "meta" / "metadata").write_text("{")
    answer = train(run, folder)
    assert "the checkpoint of step 3 is damaged" in answer.err
    assert "going on from step 2 of 4" in answer.err
    assert result_of(folder)["fingerprint"] == result_of(tmp_path / "whole")["fingerprint"]
    assert (folder / "damaged" / "00000003").is_dir()


def test_the_best_is_kept_over_resumes(run, tmp_path):
    """The toy's `filled` counts the steps, so the first checkpoint is the lowest and the last the highest."""
    flags = ("--save_steps=1", "--keep=1")
    for best, kept in {"filled": [1, 4], "filled:max": [4]}.items():
        folder = tmp_path / best.replace(":", "-")
        train(run, folder, *flags, f"--keep_best={best}", "--steps=2")
        train(run, folder, *flags, f"--keep_best={best}")
        assert Checkpoints(folder / "checkpoints", read_only=True).steps() == kept
        assert Checkpoints(folder / "checkpoints", read_only=True).best_step() == kept[0]
        assert result_of(folder)["resumed_from"] == [2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    """The fingerprint of the toy at its end."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(runner(Silent), folder)
    return result_of(folder)["fingerprint"]


@pytest.mark.parametrize("name", ["metrics.jsonl", pytest.param("samples", marks=pytest.mark.slow)])
def test_a_file_that_cannot_be_written_ends_the_run_and_loses_no_checkpoint(run, whole, tmp_path, name):
    """Something is in the place of a log or of the samples; without it the same command goes on."""
    folder = tmp_path / "run"
    train(run, folder, "--steps=2")
    saved = folder / (name + ".aside")
    (folder / name).rename(saved)
    if name == "samples":
        (folder / name).write_text("mine")
    else:
        (folder / name).mkdir()
    answer = run(f"--experiment={TOY}", f"--workdir={folder}", "--parallel=none", "--log_steps=1")
    assert answer.code == 1
    assert re.match(rf"ganjax: can't \w+ {folder}/{name}", answer.err.splitlines()[-1]), answer.err
    assert "Traceback" not in answer.err
    shutil.rmtree(folder / name) if name == "metrics.jsonl" else (folder / name).unlink()
    saved.rename(folder / name)
    train(run, folder)
    assert result_of(folder)["fingerprint"] == whole


@pytest.fixture
def disk(tmp_path) -> Iterator[pathlib.Path]:
    with small_disk(tmp_path / "disk", megabytes=2) as folder:
        yield folder


@pytest.mark.parametrize(
    "left", [pytest.param(0, marks=pytest.mark.slow), 8192, pytest.param(60_000, marks=pytest.mark.slow)]
)
def test_on_a_full_disk_the_run_ends_in_one_line_and_goes_on_once_there_is_room(run, whole, disk, left):
    """For real, with so many bytes left: what fails is a log, the samples, or a checkpoint."""
    folder = disk / "run"
    train(run, folder, "--steps=2")
    room = shutil.disk_usage(disk).free - left
    (disk / "ballast").write_bytes(bytes(room))
    flags = ("--parallel=none", "--log_steps=1", "--save_steps=1")
    answer = run(f"--experiment={TOY}", f"--workdir={folder}", *flags)
    assert answer.code == 1, answer
    last = answer.err.splitlines()[-1]
    assert re.match(r"ganjax: .*(No space left on device|RESOURCE_EXHAUSTED)", last), answer.err
    assert "Traceback" not in answer.err
    assert not (folder / "damaged").exists()
    (disk / "ballast").unlink()
    train(run, folder)
    assert result_of(folder)["fingerprint"] == whole
    assert not (folder / "damaged").exists()


@pytest.mark.parametrize("days", [-400, pytest.param(400, marks=pytest.mark.slow)])
def test_a_clock_that_jumps_changes_nothing(run, tmp_path, monkeypatch, days):
    """The wall clock is set by days at every look at it."""
    now = [time.time()]

    def jumping() -> float:
        now[0] += days * 86_400
        return now[0]

    start = time.monotonic()
    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))
    folder = tmp_path / "run"
    flags = ("--log_steps=1", "--save_minutes=1", "--keep=9")
    train(run, folder, *flags, "--steps=2")
    train(run, folder, *flags)
    took = time.monotonic() - start
    steps = Checkpoints(folder / "checkpoints", read_only=True).steps()
    assert steps == [2, 4]  # no minute has passed
    lines = read_jsonl(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    result = result_of(folder)
    process = time.monotonic() - cli._STARTED  # the tests' own
    assert 0 < result["first_step_seconds"] <= process
    assert seconds[-1] <= result["wall_seconds"] <= 2 * process
    assert result["images_per_second"] > 8 * 1 / took


def test_a_full_disk_is_told_in_one_line(run, tmp_path, monkeypatch):
    """Every write fails from a certain moment on: the first failure is told, and only that."""
    folder = tmp_path / "run"
    train(run, folder, "--steps=2")

    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    def close(self):
        self._file.close()
        raise RunError("can't write metrics.jsonl")

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    monkeypatch.setattr(JsonlLog, "close", close)
    answer = run(f"--experiment={TOY}", f"--workdir={folder}", "--parallel=none")
    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith("ganjax: the checkpoint of step 4 could not be written")
    assert "the last one is of step 2" in answer.err
    assert "Traceback" not in answer.err
    monkeypatch.undo()
    train(run, folder)
    assert result_of(folder)["resumed_from"] == [2]


def test_samples_that_grow_alike_are_warned_of_once(run, tmp_path, monkeypatch):
    """Also where the run was interrupted between; the file has what the warning is by."""
    from ganjax.metrics import collapse

    values = {0: 0.3, 1: 1.0, 2: 1.1, 3: 0.4, 4: 0.4}  # step 0 is not yet training
    steps = iter([0, 1, 2, 3, 4])
    monkeypatch.setattr(collapse, "fixed_diversity", lambda images, labels: values[next(steps)])
    rule = collapse.Rule(settle=1, settle_steps=1)
    monkeypatch.setattr(collapse, "Rule", lambda: rule)
    folder, told = tmp_path / "run", []
    for stop in (3, 4):
        answer = train(run, folder, "--preview_steps=1", f"--steps={stop}")
        told += [line for line in (answer.out + answer.err).splitlines() if "warning" in line]
    assert told == [
        "warning: step 3: collapse? the images of the fixed latents are 0.4 apart on average, "
        "38% of the 1.05 before"
    ]
    lines = read_jsonl(folder / "diversity.jsonl")
    assert [(line["step"], line["pixel_diversity"]) for line in lines] == list(values.items())
    assert (3, "pixel_diversity") in events(folder)
