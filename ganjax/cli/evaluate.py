"""--mode=evaluate: what metrics say of a run's samples, or of a set of images beside another."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags as absl_flags
from etils import epath

from ganjax import members
from ganjax.cli import workdir
from ganjax.cli.command import Command
from ganjax.cli.judging import judged
from ganjax.cli.measuring import Measurer, numbers, sets_measured
from ganjax.errors import TooEarly, UsageError
from ganjax.metrics import suite
from ganjax.report.files import write_atomically
from ganjax.report.images import save_png
from ganjax.report.log import TensorBoardLog
from ganjax.report.progress import Progress


def run(command: Command) -> int:
    """Evaluates; prints one JSON object; returns the exit code."""
    flags = command.flags
    run = workdir.open_run(command)
    out = epath.Path(flags.out or run.folder / "evaluation.json").expanduser()
    if out.suffix != ".json":
        raise UsageError(f"--out={out}: expected a .json")
    start = time.monotonic()
    measurer = Measurer(judged(run.experiment, flags, _say), flags, _say, _tell())
    answers: dict[str, Any] = {}
    checkpoints = workdir.checkpoints_of(run) if flags.checkpoint == "all" else [flags.checkpoint]
    for checkpoint in checkpoints:
        state, meta = workdir.last_state(run, _say, checkpoint, member=None)
        try:
            answers[str(meta["step"])] = _of_state(run, measurer, state, meta)
        except TooEarly as error:
            if not answers and checkpoint == checkpoints[-1]:  # and there is no other
                raise
            _say(f"step {meta['step']} is left out, as its checkpoint is {error.why}")
    answer = answers if flags.checkpoint == "all" else next(iter(answers.values()))
    print(json.dumps(answer), flush=True)  # before the files, which may fail after all this work
    write_atomically(out, json.dumps(answer, indent=2).encode() + b"\n")
    if flags.out is None:  # or the run's folder is left as it is
        if measurer.neighbours is not None:
            save_png(run.folder / "neighbours.png", measurer.neighbours)
        with TensorBoardLog(run.folder) as events:
            for step, results in answers.items():
                figures = {name: result for name, result in results.items() if name != "verdict"}
                events.scalars(int(step), {f"evaluation/{k}": v for k, v in numbers(figures).items()})
    for step, results in answers.items():
        against = results.get("verdict", {}).get("against")
        of = f" of step {step}" if len(answers) > 1 else ""
        for line in against or ():
            _say(f"verdict{of}: {line}")
        if against == []:
            _say(f"verdict{of}: it passes")
    _say(f"{out}: {time.monotonic() - start:.0f} s for samples and metrics")
    return 0


def run_sets(flags: absl_flags.FlagValues) -> int:
    """Measures the images of --fake beside those of --real; prints one JSON object; returns the exit code."""
    start = time.monotonic()
    if not flags.real:
        raise UsageError("--fake: what it is compared with is missing; name it with --real=")
    out = None if flags.out is None else epath.Path(flags.out).expanduser()
    if out is not None and out.suffix != ".json":
        raise UsageError(f"--out={out}: expected a .json")
    answer = sets_measured(flags, _say, _tell())
    print(json.dumps(answer), flush=True)
    if out is not None:
        write_atomically(out, json.dumps(answer, indent=2).encode() + b"\n")
    _say(f"{time.monotonic() - start:.0f} s")
    return 0


def _of_state(run: workdir.Run, measurer: Measurer, state: Any, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a checkpoint's state, of all members, each with its protocol, and the verdict."""
    seeds, first, step = run.experiment.seeds, run.record["seed"], meta["step"]
    each = [
        measurer.measure(meta["stage"], members.of(state, member, seeds), step) for member in range(seeds)
    ]
    answer = over_members(each, first)
    against = [measurer.verdict(results) for results in each]
    if all(lines is not None for lines in against):
        protocol = {"metrics": list(answer), "samples": measurer.count, **measurer.drawn(state, step)}
        verdict = verdict_over_members([lines or [] for lines in against], first)
        answer["verdict"] = verdict | {"protocol": protocol}
    return answer


def over_members(each: Sequence[Mapping[str, dict[str, Any]]], seed: int) -> dict[str, dict[str, Any]]:
    """What a judge said of every member of a run of several seeds, from `seed` on, as one answer.

    Of each metric `value` is the mean over the members and `std` the standard deviation (of a sample), where
    every member has a number; `members` are the results one by one, each with its `seed`. `protocol`, which
    is the same of all, is said once. Of one member, its results as they are.
    """
    if len(each) == 1:
        return dict(each[0])
    answer: dict[str, dict[str, Any]] = {}
    for name, first in each[0].items():
        values = [results[name].get("value") for results in each]
        numbers = [value for value in values if isinstance(value, int | float)]
        found: dict[str, Any] = {}
        if len(numbers) == len(values):
            found = {"value": float(np.mean(numbers)), "std": float(np.std(numbers, ddof=1))}
        found["members"] = [
            {"seed": seed + i, **{key: x for key, x in results[name].items() if key != "protocol"}}
            for i, results in enumerate(each)
        ]
        answer[name] = found | {"protocol": first["protocol"]}
    return answer


def verdict_over_members(each: Sequence[list[str]], seed: int) -> dict[str, Any]:
    """Of what speaks against every member, from `seed` on, one verdict: `value` is whether nothing does.

    `against` has a line each, with its seed where there are several; `members` are the verdicts one by one.
    """
    if len(each) == 1:
        return {"value": not each[0], "against": each[0]}
    by_seed = list(enumerate(each, seed))
    return {
        "value": not any(each),
        "against": [f"seed {member}: {line}" for member, lines in by_seed for line in lines],
        "members": [{"seed": member, "value": not lines, "against": lines} for member, lines in by_seed],
    }


def _tell() -> suite.Tell:
    """Shows how far a pass over images is, once it has taken some seconds."""
    since: dict[str, float] = {}
    bars: dict[str, Progress] = {}

    def tell(what: str, done: int, total: int) -> None:
        began = since.setdefault(what, time.monotonic())
        if what not in bars and time.monotonic() - began > 3 and done < total:
            bars[what] = Progress(total, label=what)
        if what in bars:
            bars[what].update(done, done / (time.monotonic() - began))
        if done >= total:
            del since[what]
            if what in bars:
                bars.pop(what).close()

    return tell


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
