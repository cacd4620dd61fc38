"""A run that is killed again and again, at random moments: it goes on each time, to the same end.

    python -m benchmarks.crash --rounds=100 [--seed=0] [--experiment=cgan_mnist] [--workdir=DIR] [--verbose]

A round is a start by the real command line, a SIGKILL, and the start after it. Half of the kills are aimed at
saving: they wait until a checkpoint is being written. The others fall anywhere from the start of the process
to its end. A run that comes to its end is held to the fingerprint of one that was never interrupted, and
another run begins, until all rounds are done.

What is demanded of every round: the start after the kill goes on from the last checkpoint that was whole on
disk at the kill, no checkpoint is damaged, nobody sees a traceback, and the steps that are lost are those
since the last save, or, where it was still being written, the one before it. Exit code 1 if anything fails.

The experiment is at its smallest (`TINY`), on the machine's default platform. Linux and macOS.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from benchmarks.command_line import Parser, positive

ROOT = pathlib.Path(__file__).parents[1]
PATIENCE = 600.0  # seconds for a process to end by itself
POLL = 0.001  # seconds
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint that is not whole


class Options(NamedTuple):
    """What is run.

    Attributes:
      rounds: kills.
      seed: of their moments.
      folder: of everything that is written.
      steps: of a run.
      save_steps: a checkpoint every so many.
      verbose: a line for each round.
      experiment: what is trained, as on the command line.
    """

    rounds: int
    seed: int
    folder: pathlib.Path
    steps: int = 120
    save_steps: int = 5
    verbose: bool = False
    experiment: str = "cgan_mnist"


class Life(NamedTuple):
    """What became of a process.

    Attributes:
      code: its exit code, negative after a signal.
      going_on_from: the step that it said it went on from; None if it said nothing.
      saving: it was killed while it wrote a checkpoint, or removed an old one.
      whole: the steps of the checkpoints that were whole when it ended.
      logged: the last step in the log.
      err: what it wrote to stderr.
    """

    code: int
    going_on_from: int | None
    saving: bool
    whole: list[int]
    logged: int
    err: str


class Summary(NamedTuple):
    """What came out.

    Attributes:
      rounds: kills.
      resumed: of them, those that the next start went on from as it should.
      while_saving: of them, those that fell into the writing of a checkpoint.
      before_any: of them, those before the run had a checkpoint.
      most_lost: steps that had been logged and were taken again, at most.
      finished: runs that came to their end.
      equal: of them, those with the fingerprint of the run that was never interrupted.
      failures: a line each.
    """

    rounds: int
    resumed: int
    while_saving: int
    before_any: int
    most_lost: int
    finished: int
    equal: int
    failures: list[str]

    @property
    def good(self) -> bool:
        return not self.failures and self.resumed == self.rounds and 0 < self.finished == self.equal


def command(options: Options, workdir: pathlib.Path) -> list[str]:
    """The command line of a run."""
    from ganjax.cli import experiments  # imports jax

    tiny = {**experiments.find(options.experiment, "experiments").TINY, "steps": options.steps}
    return [
        *(sys.executable, "run.py", f"--experiment={options.experiment}", f"--workdir={workdir}"),
        *(f"--config.{name}={value}" for name, value in tiny.items()),
        *("--parallel=none", "--log_steps=1", "--preview_steps=0"),
        *(f"--save_steps={options.save_steps}", "--save_minutes=0"),
        f"--compilation_cache={options.folder / 'compiled'}",
    ]


def unfinished(workdir: pathlib.Path) -> set[str]:
    """Checkpoints in the making."""
    try:
        return {name for name in os.listdir(workdir / "checkpoints") if UNFINISHED in name}
    except FileNotFoundError:
        return set()


def whole(workdir: pathlib.Path) -> list[int]:
    """The steps of the checkpoints that have their name."""
    try:
        return sorted(int(name) for name in os.listdir(workdir / "checkpoints") if name.isdecimal())
    except FileNotFoundError:
        return []


def logged(workdir: pathlib.Path) -> int:
    """The last step whose line in the log is whole."""
    path = workdir / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def live(
    words: list[str], workdir: pathlib.Path, *, seconds: float = PATIENCE, saves: int = 0, delay: float = 0.0
) -> Life:
    """Starts a process, and kills it unless it has ended before.

    Args:
      words: the command.
      workdir: the run's folder.
      seconds: after which it is killed.
      saves: or as soon as it has begun its so-manieth checkpoint; 0: not then.
      delay: seconds from that to the kill.
    """
    with tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=err, text=True)
        end = time.monotonic() + seconds
        began: set[str] = set()  # so far, of its own
        cleared = False  # what an earlier process left
        try:
            while process.poll() is None and time.monotonic() < end:
                there = unfinished(workdir)
                cleared = cleared or not there
                began |= there if cleared else set()
                if saves and len(began) >= saves:
                    time.sleep(delay)
                    break
                time.sleep(POLL)
        finally:
            process.kill()
            code = process.wait()
        err.seek(0)
        text = err.read()
    step = re.search(r"going on from step (\d+) of", text)
    return Life(
        code=code,
        going_on_from=int(step[1]) if step else None,
        saving=code < 0 and cleared and bool(unfinished(workdir)),
        whole=whole(workdir),
        logged=logged(workdir),
        err=text,
    )


def result_of(workdir: pathlib.Path) -> dict:
    return json.loads((workdir / "result.json").read_text())


def crash(options: Options) -> Summary:
    """Kills as many processes as there are rounds, and sees every run to its end."""
    draw = random.Random(options.seed)
    reference = options.folder / "uninterrupted"
    life = live(command(options, reference), reference)
    if life.code:
        raise SystemExit(f"the uninterrupted run failed ({life.code}): {life.err}")
    result = result_of(reference)
    span = 1.1 * (result["wall_seconds"] - result["compile_seconds"])  # of a process that compiles nothing

    kills = resumed = while_saving = before_any = most_lost = finished = equal = 0
    failures: list[str] = []
    number, fresh = 0, True  # of the run
    pending = 0  # kills whose next start has not got far enough to be judged
    before: Life | None = None
    while kills < options.rounds or not fresh:
        workdir = options.folder / f"run{number}"
        aimed = kills % 2 == 0
        plan: dict[str, Any] = {"saves": draw.randint(1, 4)}
        plan["delay"] = draw.choice((0.0, draw.uniform(0.0, 0.05)))
        if not aimed:
            plan = {"seconds": draw.uniform(0.0, span)}
        if kills == options.rounds:
            plan = {}
        life = live(command(options, workdir), workdir, **plan)
        fresh = False
        here = f"round {kills}, {workdir.name}"
        if "Traceback" in life.err or "Exception ignored" in life.err or "damaged" in life.err:
            failures.append(f"{here}: {life.err.strip()}")
        if before is not None and (life.going_on_from is not None or life.code >= 0 or not before.whole):
            # This start shows where the run went on: it says so, or starts anew, or has come to its end.
            want = before.whole[-1] if before.whole else 0
            lost = before.logged - want
            if (life.going_on_from or 0) != want:
                failures.append(f"{here}: went on from {life.going_on_from}, and not from step {want}")
            elif lost > 2 * options.save_steps:
                failures.append(f"{here}: {lost} steps were lost")
            else:
                resumed += pending
            pending, most_lost = 0, max(most_lost, lost)
        before = life
        if life.code < 0 and not plan:
            failures.append(f"{here}: did not end within {PATIENCE:.0f} s")
            break
        if life.code >= 0:
            code, end = life.code, result_of(workdir)["fingerprint"] if life.code == 0 else life.err.strip()
            finished += 1
            equal += end == result["fingerprint"]
            if end != result["fingerprint"]:
                failures.append(f"{here}: ended ({code}) with {end}, and not {result['fingerprint']}")
            number, fresh, before = number + 1, True, None
            said = f"{here}: ended, fingerprint {'equal' if end == result['fingerprint'] else 'DIFFERENT'}"
        else:
            kills, pending = kills + 1, pending + 1
            while_saving += life.saving
            before_any += not life.whole
            said = (
                f"{here}: from step {life.going_on_from or 0}, killed at step {life.logged}"
                f"{' while saving' if life.saving else ''}; whole: {life.whole}"
            )
        if options.verbose:
            print(said, flush=True)
    return Summary(kills, resumed, while_saving, before_any, most_lost, finished, equal, failures)


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m benchmarks.crash",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=positive(int), default=100, help="kills (100)")
    parser.add_argument("--seed", type=int, default=0, help="of their moments (0)")
    parser.add_argument("--experiment", default="cgan_mnist", help="by name or file (cgan_mnist)")
    parser.add_argument("--workdir", type=pathlib.Path, help="for the runs; default: a temporary one")
    parser.add_argument("--steps", type=positive(int), default=120, help="of a run (120)")
    parser.add_argument("--save_steps", type=positive(int), default=5, help="steps to a checkpoint (5)")
    parser.add_argument("--verbose", action="store_true", help="a line for each round")
    options = parser.parse_args(arguments)
    given = options.workdir
    if given is not None and given.exists() and (not given.is_dir() or any(given.iterdir())):
        parser.error(f"--workdir={given}: expected an empty folder, or a new one")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ganjax-crash-")) if given is None else given.absolute()
    start = time.monotonic()
    shown, experiment = options.verbose, options.experiment
    summary = crash(
        Options(options.rounds, options.seed, folder, options.steps, options.save_steps, shown, experiment)
    )
    for line in summary.failures:
        print(f"FAILED {line}")
    print(
        f"{summary.resumed} of {summary.rounds} rounds went on from the last whole checkpoint; "
        f"{summary.while_saving} kills while saving, {summary.before_any} before there was a checkpoint; "
        f"at most {summary.most_lost} steps lost, with a save every {options.save_steps}; "
        f"{summary.equal} of {summary.finished} runs ended with the fingerprint of the uninterrupted one; "
        f"{time.monotonic() - start:.0f} s"
    )
    if given is None and summary.good:
        shutil.rmtree(folder)
    elif not summary.good:
        print(f"what was written is in {folder}")
    return 0 if summary.good else 1


if __name__ == "__main__":
    sys.exit(main())
