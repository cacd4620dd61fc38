"""Several processes train one run: the same bits, one set of files, and nobody waits for the dead."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from ganjax import hosts
from ganjax.cli import main
from ganjax.errors import UsageError
from tests.cli.command_line import TOY

ROOT = pathlib.Path(__file__).parents[1]
PATIENCE = 180.0
STEPS = 40


def words(workdir: pathlib.Path, *more: str) -> list[str]:
    return [
        f"--experiment={TOY}",
        f"--workdir={workdir}",
        f"--config.steps={STEPS}",
        "--parallel=pmap",
        "--deterministic",
        "--log_steps=1",
        "--preview_steps=0",
        "--save_minutes=0",
        *more,
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(argv: list[str], processes: int = 2, of_one: dict[int, list[str]] | None = None, devices: int = 2):
    """Processes of so many devices each that train together, and what they are given besides."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    port, started = free_port(), []
    for i in range(processes):
        place = [
            f"--coordinator_address=localhost:{port}",
            f"--num_processes={processes}",
            f"--process_id={i}",
        ]
        started.append(
            subprocess.Popen(
                [sys.executable, "run.py", *argv, *place, *(of_one or {}).get(i, [])],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def finish(processes) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each."""
    answers = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=PATIENCE)
            answers.append((process.returncode, out, err))
    finally:
        for process in processes:
            process.kill()
    return answers


def result_of(workdir: pathlib.Path) -> dict:
    return json.loads((workdir / "result.json").read_text())


def wait_for_step(workdir: pathlib.Path, step: int, process) -> None:
    path, end = workdir / "metrics.jsonl", time.monotonic() + PATIENCE
    while not path.exists() or path.read_bytes().count(b"\n") < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def of_one_process(tmp_path_factory) -> str:
    """The fingerprint of one process with four devices."""
    if jax.device_count() != 4:
        pytest.skip("compares with four devices in one process")
    folder = tmp_path_factory.mktemp("one") / "run"
    assert main(words(folder), package="experiments") == 0
    return result_of(folder)["fingerprint"]


def test_two_processes_end_with_the_bits_of_one(of_one_process, tmp_path):
    """Two devices each, four in all; process 0 alone writes, and only once."""
    workdir = tmp_path / "run"
    answers = finish(start(words(workdir)))
    assert [code for code, _, _ in answers] == [0, 0], answers
    assert result_of(workdir)["fingerprint"] == of_one_process
    lines = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(1, STEPS + 1))
    assert "fingerprint" in answers[0][1]
    assert all(line.startswith("[Gloo]") for line in answers[1][1].splitlines())
    for _, _, err in answers:
        assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_others_and_all_go_on(killed, of_one_process, tmp_path):
    workdir = tmp_path / "run"
    argv = words(workdir, "--config.pause=0.05", "--save_steps=7")
    processes = start(argv)
    wait_for_step(workdir, 10, processes[0])
    processes[killed].kill()
    began = time.monotonic()
    code, _, err = finish([processes[1 - killed]])[0]
    assert time.monotonic() - began < 60
    assert code != 0
    if killed == 1:  # the death of process 0 may be told by jax itself
        assert code == 1
        assert re.search(r"^ganjax: process 1 of 2 is gone .* start all of them again", err, re.MULTILINE), (
            err
        )
    answers = finish([processes[killed]])
    assert answers[0][0] == -signal.SIGKILL
    answers = finish(start(argv))
    assert [code for code, _, _ in answers] == [0, 0], answers
    assert result_of(workdir)["resumed_from"] == [7]
    assert result_of(workdir)["fingerprint"] == of_one_process


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_one_process_that_is_asked_to_stop_stops_all_after_the_same_step(told, of_one_process, tmp_path):
    workdir = tmp_path / "run"
    argv = words(workdir, "--config.pause=0.05")
    processes = start(argv)
    wait_for_step(workdir, 10, processes[0])
    processes[told].send_signal(signal.SIGTERM)
    answers = finish(processes)
    assert [code for code, _, _ in answers] == [143, 143], answers
    step = result_of(workdir)["step"]
    assert 10 <= step < STEPS
    assert f"saved step {step} of {STEPS}" in answers[0][1]
    answers = finish(start(argv))
    assert [code for code, _, _ in answers] == [0, 0], answers
    assert result_of(workdir)["resumed_from"] == [step]
    assert result_of(workdir)["fingerprint"] == of_one_process


@pytest.mark.slow
def test_one_process_goes_on_where_two_were(of_one_process, tmp_path):
    """Another layout, and another number of processes."""
    workdir = tmp_path / "run"
    assert [code for code, _, _ in finish(start(words(workdir, "--steps=15")))] == [0, 0]
    assert main(words(workdir), package="experiments") == 0
    assert result_of(workdir)["resumed_from"] == [15]
    assert result_of(workdir)["fingerprint"] == of_one_process


@pytest.mark.slow
@pytest.mark.parametrize("convolves", ["false", "true"])
def test_several_seeds_over_two_processes(tmp_path, convolves):
    """Together, and in turn; stopped by process 1's word, and taken up again."""
    if jax.device_count() != 4:
        pytest.skip("compares with four devices in one process")
    more = ("--config.seeds=2", f"--config.convolves={convolves}", "--config.pause=0.02")
    assert main(words(tmp_path / "one", *more), package="experiments") == 0
    processes = start(words(tmp_path / "two", *more))
    wait_for_step(tmp_path / "two", 5, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    assert [code for code, _, _ in finish(processes)] == [143, 143]
    answers = finish(start(words(tmp_path / "two", *more)))
    assert [code for code, _, _ in answers] == [0, 0], answers
    one, two = result_of(tmp_path / "one"), result_of(tmp_path / "two")
    assert len(two["resumed_from"]) == 1
    assert (two["fingerprint"], two["members"]) == (one["fingerprint"], one["members"])


@pytest.mark.slow
def test_sharded_over_two_processes(tmp_path):
    """A model that is spread over the devices of both, saved and taken up again."""
    workdir, whole = tmp_path / "parts", tmp_path / "whole"
    for folder, stops in ((whole, [STEPS]), (workdir, [15, STEPS])):
        for stop in stops:
            argv = [word for word in words(folder) if word not in ("--parallel=pmap", "--deterministic")]
            argv += ["--parallel=sharded", "--model_parallel=2", f"--steps={stop}"]
            answers = finish(start(argv))
            assert [code for code, _, _ in answers] == [0, 0], answers
    assert result_of(workdir)["resumed_from"] == [15]
    assert result_of(workdir)["fingerprint"] == result_of(whole)["fingerprint"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("--seed=1", "process 1 was started with another seed than process 0"),
        ("--config.steps=41", "process 1 was started with another config than process 0"),
        ("--save_steps=3", "process 1 was started with another save_steps than process 0"),
    ],
)
def test_processes_with_unlike_commands_are_refused(other, message, tmp_path):
    answers = finish(start(words(tmp_path / "run"), of_one={1: [other]}))
    assert {code for code, _, _ in answers} <= {1, 2}, answers
    assert any(message in err for _, _, err in answers), answers
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_process_0_refuses_ends_all(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("mine")
    answers = finish(start(words(tmp_path / "run")))
    assert {code for code, _, _ in answers} <= {1, 2}, answers
    for _, _, err in answers:
        assert "holds other files and no run" in err, answers


# Flags.


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_processes=2"], "--coordinator_address is missing"),
        (["--coordinator_address=a:1", "--process_id=0"], "--num_processes is missing"),
        (
            ["--coordinator_address=a", "--num_processes=2", "--process_id=0"],
            "--coordinator_address=a: expected HOST:PORT",
        ),
        (
            [f"--coordinator_address=a:{'9' * 5000}", "--num_processes=2", "--process_id=0"],
            "9...: expected HOST:PORT",
        ),
        (
            ["--coordinator_address=a:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2: expected 0 to 1",
        ),
    ],
)
def test_flags_that_do_not_fit(flags, message, tmp_path, capsys):
    assert main([*words(tmp_path / "run"), *flags], package="experiments") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", [["--coordinator_address=localhost:1", "--process_id=0"], []])
def test_one_process_of_one_is_a_process_alone(place, tmp_path, monkeypatch):
    """Also where the surroundings would join it to others: each task of a job may have a run of its own."""
    for name, value in {"PROCID": "0", "STEP_NODELIST": "a", "STEP_NUM_TASKS": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    flags = ["--num_processes=1", *place]
    argv = [f"--experiment={TOY}", f"--workdir={tmp_path / 'run'}", "--steps=1", "--parallel=none", *flags]
    assert main(argv, package="experiments") == 0


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "a", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "a", "SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"SLURM_NTASKS": "2"}, False),  # of a batch script that starts one process
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.1"}, False),
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, True),
    ],
)
def test_what_the_surroundings_say(environment, expected, monkeypatch):
    for name in ("SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TPU_WORKER_HOSTNAMES", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert hosts.detected() is expected


# Alone.


def test_alone_everything_is_ones_own():
    tree = {"a": np.arange(3), "b": np.float32(-0.0)}
    assert hosts.is_first()
    assert hosts.shared({"a": [1, None]}) == {"a": [1, None]}
    assert hosts.shared_arrays(tree) is tree
    assert hosts.by_first(lambda: 5) == 5
    with pytest.raises(UsageError, match="mine"):
        hosts.by_first(lambda: (_ for _ in ()).throw(UsageError("mine")))
    hosts.check_alike({"seed": 1})


# The watch of process 0, and somebody who behaves as another process.


class Ended:
    """In the place of what ends the process."""

    def __init__(self):
        self.event, self.why = threading.Event(), ""

    def __call__(self, why: str) -> None:
        self.why = why
        self.event.set()


@pytest.fixture
def watch(monkeypatch):
    offers = []
    monkeypatch.setattr(hosts, "SILENCE_SECONDS", 0.6)
    monkeypatch.setattr(hosts, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(hosts.jax, "process_count", lambda: 3)
    monkeypatch.setattr(hosts, "shared", offers.append)
    ended = Ended()
    watch = hosts.Watch("localhost", ended)
    yield watch, ended, offers[0]
    watch.leave("done")


def joined(offer: dict, process: int, token: str | None = None) -> socket.socket:
    connection = socket.create_connection(("localhost", offer["port"]))
    connection.sendall(f"{token or offer['token']} {process}\n".encode())
    return connection


def lines_of(connection: socket.socket):
    connection.settimeout(5)
    return (line.strip() for line in connection.makefile("r"))


def test_a_process_that_falls_silent_is_gone(watch):
    _, ended, offer = watch
    silent, other = joined(offer, 1), joined(offer, 2)
    keep_on = threading.Event()

    def beat():
        with contextlib.suppress(OSError):  # the watch closes it
            while not keep_on.wait(0.1):
                other.sendall(b"alive\n")

    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    assert ended.event.wait(5)
    assert ended.why.startswith("process 1 of 3 is gone (no word from it for 1 s); start all of them again")
    # The third is told of it.
    assert any(line.startswith("process 1 of 3 is gone") for line in lines_of(other))
    keep_on.set()
    heart.join()  # before its socket is closed
    silent.close()
    other.close()


def test_a_closed_connection_is_noticed_at_once(watch):
    _, ended, offer = watch
    joined(offer, 2).close()
    assert ended.event.wait(5)
    assert "process 2 of 3 is gone (its connection was closed)" in ended.why


def test_a_process_that_fails_says_why(watch):
    _, ended, offer = watch
    failing = joined(offer, 1)
    failing.sendall(b"failed: the disk is full\n")
    assert ended.event.wait(5)
    assert "process 1 of 3 is gone (failed: the disk is full)" in ended.why
    failing.close()


def test_a_process_that_is_done_may_leave(watch):
    _, ended, offer = watch
    leaving = joined(offer, 1)
    leaving.sendall(b"done\n")
    leaving.close()
    assert not ended.event.wait(1.5)


def test_a_stranger_is_not_heard(watch):
    _, ended, offer = watch
    stranger = joined(offer, 1, token="0" * 16)
    stranger.sendall(b"failed: all is lost\n")
    assert not ended.event.wait(1.0)
    stranger.close()
