"""The command: what it says, and that contestants take turns."""

import importlib.util
import json
import sys

import pytest

from benchmarks import contestants, train_step
from benchmarks.command_line import MODELS
from benchmarks.contestants import OURS, Contestant, Job, measure_round
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # a fixture of the whole module

TORCH = importlib.util.find_spec("torch") is not None


class FakeWorker:
    """In the place of a `Worker`: steps of 2 s (ours) or 4 s (a peer), and a log of who ran."""

    log: list[str] = []

    def __init__(self, name: str, job: Job):
        if name == "torch-compile":
            raise RuntimeError("torch-compile: no compiler")
        self.name, self.rounds, self.peak_bytes = name, [], 5_000_000
        self.facts = {
            "device": "a device",
            "compile_s": 1.5,
            "first_step_s": 2.5,
            "versions": {name: "1"},
            "compiler_options": {},
        }
        self.log.append(f"start {name}")

    def run_round(self, seconds: float):
        self.log.append(self.name)
        self.rounds.append([2.0 if self.name == OURS else 4.0] * 3)

    round_medians = contestants.Worker.round_medians

    def close(self):
        self.log.append(f"close {self.name}")


@pytest.fixture
def log(monkeypatch) -> list[str]:
    monkeypatch.setattr(FakeWorker, "log", [])
    monkeypatch.setattr(train_step, "Worker", FakeWorker)
    monkeypatch.setattr(train_step, "require_torch", lambda parser: None)
    return FakeWorker.log


def test_contestants_take_turns_and_the_order_turns_round(log, capsys):
    arguments = ["--model=dcgan64", "--batch=8", "--peer=torch", "--rounds=3", "--json"]
    assert train_step.main(arguments) == 0
    assert log == [
        *("start ganjax", "start torch"),
        *("ganjax", "torch"),
        *("torch", "ganjax"),
        *("ganjax", "torch"),
        *("close ganjax", "close torch"),
    ]
    (line,) = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    expected = {
        "model": "dcgan64",
        "batch": 8,
        "device": "a device",
        "ours_ms": 2000.0,
        "peer": "torch",
        "peer_ms": 4000.0,
        "ratio": 0.5,
        "ours_peak_mb": 5,
        "peer_peak_mb": 5,
        "compile_s": 1.5,
        "dtype": "float32",
        "rounds": 3,
        "steps": 9,
        "versions": {"ganjax": "1", "torch": "1"},
    }
    assert {key: result[key] for key in expected} == expected


def test_alone_there_is_no_ratio(log, capsys):
    assert train_step.main(["--model=dcgan64", "--peer=none", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["ours_ms"], result["peer"], result["ratio"]) == (2000.0, None, None)
    assert train_step.main(["--model=dcgan64", "--peer=none"]) == 0
    assert "2000.0" in capsys.readouterr().out


def test_a_table_without_json(log, capsys):
    assert train_step.main(["--model=cgan_book", "--rounds=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cgan_book, batch 32, float32, a device")
    assert lines[-1].split() == ["torch", "4000.0", "125.00", "0.500", "5", "2.5"]


def test_a_contestant_that_fails_ends_the_others(log, capsys):
    assert train_step.main(["--model=dcgan64", "--peer=torch,torch-compile"]) == 1
    assert capsys.readouterr().err == "torch-compile: no compiler\n"
    assert log == ["start ganjax", "start torch", "close ganjax", "close torch"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model=dcgan"],
            f"--model: 'dcgan': expected one of {', '.join(MODELS)}",
        ),
        ([], "the following arguments are required: --model"),
        (["--model=dcgan64", "--peer=jax"], "--peer: 'jax': expected one of torch, torch-compile, none"),
        (["--model=dcgan64", "--peer=torch,none"], "--peer: 'none': expected one of torch, torch-compile"),
        (["--model=stylegan2_128"], "--model=stylegan2_128 has no peer in PyTorch: give --peer=none"),
        (["--model=dcgan64", "--batch=0"], "--batch: '0': expected a number above 0"),
        (["--model=dcgan64", "--seconds=nan"], "--seconds: 'nan': expected a number above 0"),
    ],
)
def test_bad_usage_is_one_line_and_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        train_step.main(arguments)
    assert error.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.endswith(message)


def test_without_torch_a_peer_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as error:
        train_step.main(["--model=dcgan64"])
    assert error.value.code == 2
    assert capsys.readouterr().err == "the peers need PyTorch: pip install -e '.[bench]'\n"


def test_a_round_has_at_least_three_steps():
    calls = []
    contestant = Contestant(calls.append, 1, {}, lambda: 0)
    assert len(measure_round(contestant, 0.0)) == 3
    assert calls == [1, 1, 1]
    calls.clear()
    assert len(measure_round(Contestant(calls.append, 16, {}, lambda: 0), 0.0)) == 1
    assert calls == [16]


@pytest.mark.skipif(sys.platform == "win32", reason="ru_maxrss is of Unix")
@pytest.mark.parametrize(("window", "calls"), [(None, 3), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_our_contestant_runs(window, calls):
    """In this process: the peak is the whole suite's, but it counts bytes. Windows are for accelerators."""
    contestant = contestants.ours(Job("cgan_mnist", 2), window)
    assert len(measure_round(contestant, 0.0)) == calls
    assert contestant.facts["platform"] == "cpu"
    assert contestant.facts["compile_s"] > 0
    assert contestant.peak_bytes() > 50e6


@pytest.mark.skipif(not TORCH, reason="the peers need PyTorch: pip install -e '.[bench]'")
def test_the_eager_peer_runs():
    contestant = contestants.PEERS["torch"](Job("cgan_mnist", 2))
    assert len(measure_round(contestant, 0.0)) == 3
    assert contestant.facts["first_step_s"] >= 0


def test_a_worker_hands_on_what_went_wrong():
    """Of a process of its own: a model that there is not."""
    with pytest.raises(RuntimeError, match=r"ganjax: .*Traceback[\s\S]*KeyError: 'no such model'"):
        contestants.Worker(OURS, Job("no such model", 2))
