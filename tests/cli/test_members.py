"""Several seeds by --config.seeds: the run's files, and every mode for one member or all."""

import json
import pathlib
import re

import numpy as np
import pytest

from ganjax import load_generator
from ganjax.cli import measuring
from ganjax.data import embedded
from ganjax.errors import UsageError
from ganjax.report.log import read_jsonl
from tests.cli import toy
from tests.cli.command_line import TOY, Answer, Run, Silent, runner, train
from tests.cli.test_usage import assert_refused
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

# In turn: so each member has the bits of its run alone, and draws the same bytes.
FLAGS = ("--config.convolves=true", "--steps=2", "--log_steps=1", "--preview_steps=0")


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> pathlib.Path:
    """The seeds 3 and 4 in one run."""
    folder = tmp_path_factory.mktemp("several") / "run"
    train(runner(Silent), folder, *FLAGS, "--seed=3", "--config.seeds=2")
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> list[pathlib.Path]:
    """The same seeds, in a run each."""
    folders = [tmp_path_factory.mktemp("alone") / "run" for _ in range(2)]
    for seed, folder in zip((3, 4), folders, strict=True):
        train(runner(Silent), folder, *FLAGS, f"--seed={seed}")
    return folders


def good(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def result_of(folder: pathlib.Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_the_files_of_a_run(several, alone):
    result, each = result_of(several), [result_of(folder) for folder in alone]
    assert json.loads((several / "config.json").read_text())["config"]["seeds"] == 2
    assert [member["seed"] for member in result["members"]] == [3, 4]
    assert [member["metrics"] for member in result["members"]] == [one["metrics"] for one in each]
    assert (result["step"], result["images_seen"]) == (2, 16)
    a, b = (one["metrics"]["discriminator_loss"] for one in each)
    assert result["metrics"]["discriminator_loss"] == pytest.approx((a + b) / 2)
    assert result["metrics"]["discriminator_loss_std"] == pytest.approx(abs(a - b) / 2**0.5)
    last = read_jsonl(several / "metrics.jsonl")[-1]
    assert {name: last[name] for name in result["metrics"]} == pytest.approx(result["metrics"])
    assert "members" not in each[0]
    picture = "samples/00000002.png"
    assert (several / picture).read_bytes() == (alone[0] / picture).read_bytes()


def test_a_line_at_the_end_has_means_and_deviations(run, tmp_path, several):
    answer = train(run, tmp_path / "run", *FLAGS, "--seed=3", "--config.seeds=2")
    (line,) = re.findall(r"^seeds 3-4: (.*)$", answer.out, re.MULTILINE)
    assert [part.split()[0] for part in line.split(", ")] == [
        "discriminator_loss",
        "draw",
        "filled",
        "generator_loss",
    ]
    assert "filled 2 ± 0" in line
    assert "_std" not in answer.err  # progress shows means
    assert result_of(tmp_path / "run")["fingerprint"] == result_of(several)["fingerprint"]
    again = train(run, tmp_path / "run", *FLAGS, "--seed=3", "--config.seeds=2")
    assert "already at step 2" in again.out
    other = run(f"--experiment={TOY}", f"--workdir={tmp_path / 'run'}", *FLAGS, "--seed=3")
    assert other.code == 2
    assert "seeds" in other.err


@pytest.mark.parametrize("mode", ["sample", "interpolate"])
def test_a_member_draws_what_its_run_draws(run, several, alone, tmp_path, mode):
    def drawn(folder: pathlib.Path, *flags: str) -> bytes:
        out = tmp_path / "x.png"
        good(run(f"--workdir={folder}", f"--mode={mode}", f"--out={out}", "--labels=1,2", *flags))
        return out.read_bytes()

    assert drawn(several) == drawn(several, "--member=0") == drawn(alone[0])
    assert drawn(several, "--member=1") == drawn(alone[1], "--member=0") != drawn(several)


def test_a_member_is_exported_and_loaded(run, several, alone, tmp_path):
    good(run(f"--workdir={several}", "--mode=export", f"--out={tmp_path / 'x'}", "--member=1"))
    description = json.loads((tmp_path / "x" / "generator.json").read_text())
    expected = result_of(alone[1])["fingerprint"]
    assert (description["seed"], description["fingerprint"]) == (4, expected)
    theirs = load_generator(alone[1], experiment=toy)([0, 1], [2, 3])
    for loaded in (
        load_generator(several, experiment=toy, member=1),
        load_generator(tmp_path / "x", experiment=toy),
    ):
        assert loaded.fingerprint == expected
        np.testing.assert_array_equal(loaded([0, 1], [2, 3]), theirs)
    first = load_generator(several, experiment=toy)
    assert first.fingerprint == result_of(alone[0])["fingerprint"]
    with pytest.raises(UsageError, match=r"^member=2: the run has members 0-1, of the seeds 3-4$"):
        load_generator(several, experiment=toy, member=2)
    with pytest.raises(UsageError, match=r"^member=1: .* is an exported generator, which is of one seed$"):
        load_generator(tmp_path / "x", experiment=toy, member=1)


def test_every_member_is_evaluated(run, several, alone, tmp_path, monkeypatch):
    limits = []

    def dark(results) -> bool:
        return results["brightness"]["value"] <= limits[0] if limits else True

    def judge(images, labels, **real):
        brightness = {"value": float(images.mean()), "protocol": {"samples": len(images)}}
        return {"brightness": brightness, "listed": {"shares": [len(labels)], "protocol": {}}}

    monkeypatch.setattr(measuring, "judge", judge)
    monkeypatch.setattr(measuring, "verdict", lambda results: [] if dark(results) else ["too bright"])
    monkeypatch.setattr(measuring, "OF_JUDGE", ("brightness", "listed"))
    monkeypatch.setattr(measuring, "cached_classifier", lambda *args: Classifier())
    monkeypatch.setattr(embedded, "RANDOM_EXAMPLES", {"train": 20, "test": 20})

    def evaluated(folder: pathlib.Path) -> dict:
        out = tmp_path / "e.json"
        answer = good(run(f"--workdir={folder}", "--mode=evaluate", "--num_samples=100", f"--out={out}"))
        found = json.loads(out.read_text())
        assert json.loads(answer.out) == found
        return found

    found, each = evaluated(several), [evaluated(folder) for folder in alone]
    values = [one["brightness"]["value"] for one in each]
    assert values[0] != values[1]
    assert found["brightness"] == {
        "value": pytest.approx(np.mean(values)),
        "std": pytest.approx(np.std(values, ddof=1)),
        "members": [{"seed": 3, "value": values[0]}, {"seed": 4, "value": values[1]}],
        "protocol": each[0]["brightness"]["protocol"],
    }
    assert "value" not in found["listed"]
    assert found["listed"]["members"] == [{"seed": seed, "shares": [100]} for seed in (3, 4)]

    assert found["verdict"]["value"]
    assert found["verdict"]["against"] == []
    limits.append(min(values))
    brighter = 3 + int(np.argmax(values))
    verdict = evaluated(several)["verdict"]
    assert not verdict["value"]
    assert verdict["against"] == [f"seed {brighter}: too bright"]
    assert [member["value"] for member in verdict["members"]] == [seed != brighter for seed in (3, 4)]
    limits[:] = [max(values)]
    assert evaluated(alone[brighter - 3])["verdict"]["value"]


class Classifier:
    test_accuracy = 0.5


def test_members_that_there_are_not(run, several, alone):
    for folder, flags, message in (
        (several, ("--member=2",), r"--member=2: the run has members 0-1, of the seeds 3-4"),
        (alone[0], ("--member=1",), r"--member=1: the run has one seed"),
        (alone[0], ("--member=-1",), r"-1"),
        (several, ("--mode=evaluate", "--member=1"), r"--member does nothing in --mode=evaluate"),
    ):
        argv = (f"--workdir={folder}", "--mode=sample", *flags)
        assert_refused(run, argv, 2, message, folder)
    for mode in ("interpolate", "export"):
        argv = (f"--workdir={several}", f"--mode={mode}", "--member=2")
        assert_refused(run, argv, 2, r"--member=2: the run has members 0-1", several)


def test_seeds_beyond_the_last(run, tmp_path):
    flags = (f"--experiment={TOY}", f"--workdir={tmp_path / 'run'}", "--seed=4294967295", "--config.seeds=2")
    message = r"--seed=4294967295: with 2 seeds, the last would be beyond 4294967295"
    assert_refused(run, flags, 2, message, tmp_path)
