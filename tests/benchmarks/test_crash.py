"""A run that is killed again and again goes on each time, to the same end; one that does not is found out."""

import json
import pathlib
import re
import sys

import pytest

from benchmarks import crash
from benchmarks.crash import Life, Options
from tests.cli.command_line import TOY

LINE = r"(\d+) of (\d+) rounds went on .*; (\d+) kills while saving.*; at most (\d+) steps lost"


def kills(rounds: int, folder: pathlib.Path, capsys, *flags: str) -> tuple[int, str]:
    code = crash.main([f"--rounds={rounds}", f"--workdir={folder}", "--verbose", *flags])
    return code, capsys.readouterr().out


@pytest.mark.slow
def test_one_round(tmp_path, capsys):
    """One kill, aimed at a save, of the toy."""
    code, out = kills(1, tmp_path / "crash", capsys, "--steps=30", f"--experiment={TOY}")
    assert code == 0, out
    done = re.search(LINE, out)
    assert done is not None, out
    assert done.group(1) == done.group(2) == "1"
    assert int(done.group(4)) <= 10
    assert "1 of 1 runs ended with the fingerprint of the uninterrupted one" in out


@pytest.mark.slow
def test_many_rounds(tmp_path, capsys):
    code, out = kills(25, tmp_path / "crash", capsys, "--seed=1")
    assert code == 0, out
    done = re.search(LINE, out)
    assert done is not None, out
    assert done.group(1) == done.group(2) == "25"
    assert int(done.group(3)) >= 8
    assert int(done.group(4)) <= 10


def test_a_folder_that_is_not_empty_is_refused(tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        crash.main([f"--workdir={tmp_path}"])
    assert ended.value.code == 2
    assert "expected an empty folder" in capsys.readouterr().err


# What it looks at: a process of a few lines stands for the run.

RUN = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "checkpoints" / "00000005").mkdir(parents=True, exist_ok=True)
(folder / "metrics.jsonl").write_text('{"step": 1}\\n{"step": 7}\\n{"st')
print(f"{folder}: going on from step 5 of 120", file=sys.stderr, flush=True)
for name in sys.argv[2:]:
    time.sleep(0.05)
    (folder / "checkpoints" / name).mkdir()
    time.sleep(0.05)
    os.rename(folder / "checkpoints" / name, folder / "checkpoints" / name.split(".")[0])
"""


def words(folder: pathlib.Path, *names: str, end: str = "") -> list[str]:
    return [sys.executable, "-c", RUN + end, str(folder), *names]


TMP = [f"{step:08d}.orbax-checkpoint-tmp" for step in (10, 15, 20)]


def test_it_kills_while_the_checkpoint_of_its_choice_is_written(tmp_path):
    life = crash.live(words(tmp_path, *TMP, end="time.sleep(60)"), tmp_path, saves=2)
    assert life == Life(-9, 5, True, [5, 10], 7, f"{tmp_path}: going on from step 5 of 120\n")


def test_it_kills_after_a_time(tmp_path):
    life = crash.live(words(tmp_path, end="time.sleep(60)"), tmp_path, seconds=1.0)
    assert life == Life(-9, 5, False, [5], 7, f"{tmp_path}: going on from step 5 of 120\n")
    assert crash.live(words(tmp_path / "x", end="time.sleep(60)"), tmp_path / "x", seconds=0.0).logged == 0


def test_what_an_earlier_process_left_is_no_save(tmp_path):
    (tmp_path / "checkpoints" / TMP[0]).mkdir(parents=True)
    life = crash.live(words(tmp_path, end="time.sleep(60)"), tmp_path, seconds=1.0, saves=1)
    assert (life.code, life.saving) == (-9, False)


@pytest.mark.parametrize("code", [0, 3])
def test_one_that_ends_by_itself_is_left_alone(tmp_path, code):
    life = crash.live(words(tmp_path, *TMP[:1], end=f"sys.exit({code})"), tmp_path)
    assert (life.code, life.saving, life.whole) == (code, False, [5, 10])


# What it finds out: lives that are made up.

END = Life(0, None, False, [115, 120], 120, "")


def judged(monkeypatch, folder: pathlib.Path, lives: list[Life], fingerprint: str = "same") -> crash.Summary:
    """What is said of a run of these lives."""
    told = iter([END, *lives])

    def live(words: list[str], workdir: pathlib.Path, **plan: float) -> Life:
        life = next(told)
        if life.code == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            first = workdir.name == "uninterrupted"
            result = {
                "fingerprint": "same" if first else fingerprint,
                "wall_seconds": 9.0,
                "compile_seconds": 1.0,
            }
            (workdir / "result.json").write_text(json.dumps(result))
        return life

    monkeypatch.setattr(crash, "live", live)
    return crash.crash(Options(sum(life.code < 0 for life in lives), 0, folder))


def killed(going_on_from: int | None, whole: list[int], logged: int, err: str = "") -> Life:
    return Life(-9, going_on_from, True, whole, logged, err)


def test_rounds_that_go_on_are_good(monkeypatch, tmp_path):
    lives = [
        killed(None, [], 3),
        killed(None, [5, 10], 17),
        killed(None, [5, 10], 17),  # before it said anything
        killed(10, [10, 15], 18),
        END._replace(going_on_from=15),
    ]
    summary = judged(monkeypatch, tmp_path, lives)
    assert summary == crash.Summary(4, 4, 4, 1, 7, 1, 1, [])
    assert summary.good


GONE_WRONG = {
    "from an earlier checkpoint": (
        [killed(None, [5, 10], 12), END._replace(going_on_from=5)],
        "from 5, and not",
    ),
    "from the start": ([killed(None, [5, 10], 12), END], "from None, and not from step 10"),
    "more steps lost": ([killed(None, [5], 16), END._replace(going_on_from=5)], "11 steps were lost"),
    "a damaged checkpoint": (
        [killed(None, [5], 6), END._replace(going_on_from=5, err="the checkpoint of step 5 is damaged")],
        "is damaged",
    ),
    "a traceback": ([killed(None, [5], 6, "Traceback"), END._replace(going_on_from=5)], "Traceback"),
    "an error": (
        [killed(None, [5], 6), Life(1, 5, False, [5], 6, "ganjax: x")],
        r"ended \(1\) with",
    ),
}


@pytest.mark.parametrize(("lives", "message"), GONE_WRONG.values(), ids=GONE_WRONG.keys())
def test_what_goes_wrong_is_found_out(monkeypatch, tmp_path, lives, message):
    summary = judged(monkeypatch, tmp_path, lives)
    assert not summary.good
    assert len(summary.failures) == 1
    assert re.search(message, summary.failures[0])


def test_another_end_is_found_out(monkeypatch, tmp_path):
    summary = judged(monkeypatch, tmp_path, [killed(None, [5], 6), END._replace(going_on_from=5)], "other")
    assert not summary.good
    assert (summary.finished, summary.equal) == (1, 0)
    assert "with other, and not same" in summary.failures[0]
