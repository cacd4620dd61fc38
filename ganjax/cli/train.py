"""--mode=train: trains a run, or goes on with it, and writes its files."""

import contextlib
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from ganjax import hosts, loop, transfer
from ganjax.checkpoint import Best, Checkpoints
from ganjax.cli import answer, workdir
from ganjax.cli.command import Command
from ganjax.errors import RunError, TooEarly, UsageError
from ganjax.gan import Experiment
from ganjax.members import STD
from ganjax.metrics import collapse
from ganjax.report import images as pictures
from ganjax.report.files import write_atomically
from ganjax.report.log import JsonlLog, TensorBoardLog, jsonable, read_jsonl
from ganjax.report.progress import Progress, duration, number

# Flags that processes of one run must have alike, besides what makes it the same run
_ALIKE = (
    "steps",
    "parallel",
    "model_parallel",
    "deterministic",
    "log_steps",
    "preview_steps",
    "save_steps",
    "skip_corrupt",
)


def run(command: Command) -> int:
    """Trains; returns the exit code."""
    flags = command.flags
    best = workdir.best_of(command)  # first of all: to build the run takes a while

    def fail(why: str) -> None:
        os.write(2, f"ganjax: {why}\n".encode())
        os._exit(1)  # the main thread may be waiting for the process that is gone

    try:
        with hosts.connected(flags.coordinator_address, flags.num_processes, flags.process_id, fail):
            return _claim_and_train(command, best)
    except (UsageError, RunError) as error:
        if _is_one_of_several():
            os._exit(answer(error))  # without jax's farewell, for which it would wait for the others
        raise
    except BaseException:
        if _is_one_of_several():
            traceback.print_exc()
            os._exit(1)
        raise


def _is_one_of_several() -> bool:
    return jax.distributed.is_initialized() and jax.process_count() > 1


def _claim_and_train(command: Command, best: Best | None) -> int:
    with contextlib.ExitStack() as stack:
        held = hosts.by_first(lambda: stack.enter_context(workdir.lock_of(command)))
        run = workdir.plan(command)
        options = {name: command.flags[name].value for name in _ALIKE}
        hosts.check_alike({key: run.record[key] for key in workdir.IDENTITY} | options)
        run = hosts.by_first(lambda: stack.enter_context(workdir.claimed(run, bool(held)))) or run
        return _train(command, run, best)


_OF_MEASURING = ("metrics", "num_samples", "inception", "resize", "real_split")
DIVERSITY, ACCURACY = "pixel_diversity", "discriminator_accuracy"  # metrics that the alarm follows
_LISTS = ("class_shares", "mode_shares")  # figures that are no number


def _evaluation(
    command: Command, run: workdir.Run, watcher: "Watcher | Silent", best: Best | None
) -> tuple[loop.Evaluation | None, Best | None]:
    """What is measured while the run trains, and which checkpoint is the best: where nothing else is asked
    for, the one with the best of what is measured.

    Raises:
      UsageError: flags that do nothing, or don't fit.
    """
    every = run.experiment.evaluate_every
    if not every:
        for name in _OF_MEASURING:
            if command.flags[name].present:
                raise UsageError(f"--{name} does nothing in --mode=train without --config.evaluate_every=")
        return None, best
    from ganjax.cli import judging, measuring

    experiment = judging.judged(run.experiment, command.flags, watcher.message)
    measurer = measuring.Measurer(experiment, command.flags, watcher.message, announce=False)
    names = tuple(name for name in measurer.names() if name not in _LISTS)
    workdir.check_metric(command, run.experiment, names)
    own = experiment.judge
    better = {**(own.better if own is not None else {}), **measuring.BETTER}
    first = next((name for name in better if name in names), None)
    if best is None and first is not None:
        best = Best.parse(f"{first}:{better[first]}")

    def measure(index: int, state: Any, step: int) -> Mapping[str, float]:
        try:
            results = measurer.measure(index, state, step)
        except TooEarly as error:
            watcher.message(f"step {step} is not measured: it is {error.why}")
            return {}
        watcher.measured(step, results)
        return measuring.numbers(results)

    return loop.Evaluation(every, measure), best


def _train(command: Command, run: workdir.Run, best: Best | None) -> int:
    flags = command.flags
    signals = command.signals
    signals.noting = True
    first = hosts.is_first()
    with contextlib.ExitStack() as stack:
        watcher = stack.enter_context(Watcher(run.folder, run.experiment) if first else Silent())
        evaluation, best = _evaluation(command, run, watcher, best)
        checkpoints = None
        if first:
            checkpoints = Checkpoints(run.folder / "checkpoints", keep=flags.keep, best=best)
            stack.enter_context(checkpoints)
        initial = None
        if flags.init_from is not None:
            new = hosts.shared(hosts.by_first(lambda: checkpoints is None or not checkpoints.steps()))
            initial = (
                transfer.initial(flags.init_from, watcher.message, run.experiment.frozen) if new else None
            )
        result = loop.train(
            run.experiment,
            seed=flags.seed,
            observer=watcher,
            checkpoints=checkpoints,
            schedule=loop.Schedule(
                stop=flags.steps,
                log_steps=flags.log_steps,
                preview_steps=flags.preview_steps,
                save_steps=flags.save_steps,
                save_minutes=flags.save_minutes,
            ),
            parallel=flags.parallel,
            model_parallel=flags.model_parallel,
            deterministic=flags.deterministic,
            data_workers=flags.data_workers,
            interrupted=lambda: signals.noted is not None,
            started=command.started,
            evaluation=evaluation,
            initial=initial,
        )
    if not first:
        return 128 + (signals.noted or signal.SIGTERM) if result.interrupted else 0
    total = sum(stage.steps for stage in run.experiment.stages)
    path = run.folder / "result.json"
    if result.first_step_seconds is None and _fingerprint_in(path) == result.fingerprint:
        # No step was taken: the figures of the process that trained stay.
        signals.noting = False
        print(f"{run.folder}: already at step {result.step} of {total}; fingerprint {result.fingerprint}")
        return 0
    skipped = {line for stage in run.experiment.stages for line in getattr(stage.data, "skipped", ())}
    summary = result._asdict() | {
        "complete": result.step == total,
        "peak_memory_mb": peak_memory_mb(),
        "skipped_images": len(skipped),
    }
    del summary["interrupted"]
    for name in ("members", "evaluation"):
        if not summary[name]:
            del summary[name]
    write_atomically(path, json.dumps(jsonable(summary), indent=2).encode() + b"\n")
    signals.noting = False
    if result.interrupted:
        noted = signals.noted or signal.SIGTERM  # of several processes another may have been told
        name = signal.Signals(noted).name
        print(
            f"{name}: saved step {result.step} of {total} in {run.folder}; the same command goes on from it"
        )
        return 128 + noted
    rate = f", {result.images_per_second:,.0f} images/s" if result.images_per_second else ""
    print(f"step {result.step} of {total}{rate}, {duration(result.wall_seconds)} in all")
    if result.members:
        print(_over_seeds(result))
    print(f"fingerprint {result.fingerprint}")
    print(f"run in {run.folder}; samples in {run.folder / 'samples'}")
    return 0


def _over_seeds(result: loop.Result) -> str:
    """A line: of every metric the mean and the standard deviation over the seeds."""
    seeds = [member["seed"] for member in result.members]
    figures = (
        f"{name} {number(result.metrics[name])} ± {number(result.metrics[name + STD])}"
        for name in result.members[0]["metrics"]
    )
    return f"seeds {seeds[0]}-{seeds[-1]}: {', '.join(figures)}"


def _fingerprint_in(path: epath.Path) -> str | None:
    try:
        return json.loads(path.read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def peak_memory_mb() -> float | None:
    """The most memory that this process has held, in MB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


class Silent:
    """Watches no run, which another process tells of; says what this one met, such as damaged images."""

    def begin(self, step: int, total: int) -> None:
        pass

    def progress(self, step: int, images: int, metrics: Mapping[str, float]) -> None:
        pass

    def log(self, step: int, seconds: float, metrics: Mapping[str, float]) -> None:
        pass

    def preview(self, step: int, samples: Any, columns: int) -> None:
        pass

    def evaluated(self, step: int, seconds: float, figures: Mapping[str, float]) -> None:
        pass

    def measured(self, step: int, results: Mapping[str, Mapping[str, Any]]) -> None:
        pass

    def message(self, text: str) -> None:
        print(f"process {jax.process_index()}: {text}", file=sys.stderr, flush=True)

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Watcher:
    """Writes metrics.jsonl, TensorBoard's events and pictures of samples, shows progress, and warns where
    samples grow alike (`ganjax.metrics.collapse`).

    Args:
      folder: the run's.
      experiment: what is trained: how its samples are shown, and whether they are images.
    """

    def __init__(self, folder: epath.Path, experiment: Experiment):
        self._folder, self._picture = folder, workdir.picture_of(experiment)
        self._compared = (lambda samples: [samples]) if experiment.show is None else experiment.show.compared
        self._labels = None if experiment.show else loop.preview_inputs(experiment.num_classes)[1]
        self._alarm = collapse.Alarm()
        self._accuracy: float | None = None  # of the discriminator, at the latest step
        self._jsonl: JsonlLog | None = None
        self._measured: JsonlLog | None = None
        self._diversity: JsonlLog | None = None
        self._watched = -1  # the last step in it
        self._events: TensorBoardLog | None = None
        self._progress: Progress | None = None
        self._early: list[str] = []
        self._images, self._since = 0, math.inf
        self._last_rate: float | None = None

    def begin(self, step: int, total: int) -> None:
        """Opens the logs; lines of steps that a resumed run will take again are cut off.

        That holds for a run without a checkpoint too, which was killed early and starts again.
        """
        self._jsonl = JsonlLog.open(self._folder / "metrics.jsonl", step)
        if self._compared is not None:
            path = self._folder / "diversity.jsonl"
            self._diversity = JsonlLog.open(path, step)
            for record in read_jsonl(path):  # what was told before is not told again
                known = record.get("step")
                if isinstance(known, int):
                    self._alarm.update(collapse.Measure(known, record.get(DIVERSITY), record.get(ACCURACY)))
                    self._watched = known
        self._events = TensorBoardLog(self._folder, step, flush_seconds=0)
        self._progress = Progress(total, step)
        if step:
            self._early.append(f"{self._folder}: going on from step {step} of {total}")
        for text in self._early:
            self._progress.message(text)

    def progress(self, step: int, images: int, metrics: Mapping[str, float]) -> None:
        """Moves the bar."""
        assert self._progress is not None
        self._accuracy = metrics.get(ACCURACY)
        if self._since == math.inf:  # the first step was compiled: from here on
            self._since = time.monotonic()
        else:
            self._images += images
        self._progress.update(step, self._rate(), metrics)

    def log(self, step: int, seconds: float, metrics: Mapping[str, float]) -> None:
        """One line in each log."""
        assert self._jsonl is not None
        assert self._events is not None
        rate = self._rate()
        record: dict[str, Any] = {"step": step, "seconds": round(seconds, 3)}
        self._jsonl.write(record | {"images_per_second": rate and round(rate, 1)} | dict(metrics))
        self._events.scalars(step, dict(metrics) | ({"images_per_second": rate} if rate else {}))
        if time.monotonic() - self._since > 1.0:
            self._images, self._since = 0, time.monotonic()

    def preview(self, step: int, samples: Any, columns: int) -> None:
        """A picture, as a file and in TensorBoard; how far samples are apart, and what that says."""
        assert self._events is not None
        sheet = self._picture(samples, columns)
        pictures.save_png(self._folder / "samples" / f"{step:08d}.png", sheet)
        self._events.image(step, "samples", sheet)
        if self._diversity is not None and self._compared is not None and step > self._watched:
            made = [pictures.to_uint8(images) for images in self._compared(samples) if len(images) > 1]
            if made:
                self._watch(step, min(collapse.fixed_diversity(images, self._labels) for images in made))

    def _watch(self, step: int, diversity: float) -> None:
        assert self._diversity is not None
        assert self._events is not None
        self._diversity.write({"step": step, DIVERSITY: diversity, ACCURACY: self._accuracy})
        self._events.scalars(step, {DIVERSITY: diversity})
        warning = self._alarm.update(collapse.Measure(step, diversity, self._accuracy))
        if warning is not None:
            self.message(f"warning: {warning}")

    def evaluated(self, step: int, seconds: float, figures: Mapping[str, float]) -> None:
        """One line in each log, and one for who watches."""
        assert self._jsonl is not None
        assert self._events is not None
        self._jsonl.write({"step": step, "seconds": round(seconds, 3)} | dict(figures))
        self._events.scalars(step, {f"evaluation/{name}": value for name, value in figures.items()})
        shown = ", ".join(f"{name} {number(value)}" for name, value in figures.items())
        self.message(f"step {step}: {shown}")

    def measured(self, step: int, results: Mapping[str, Mapping[str, Any]]) -> None:
        """A line in evaluations.jsonl: the results of a measurement, each with its protocol."""
        if self._measured is None:
            self._measured = JsonlLog.open(self._folder / "evaluations.jsonl", step - 1)
        self._measured.write({"step": step} | dict(results))

    def message(self, text: str) -> None:
        """Prints a line that does not break the bar."""
        if self._progress is None:
            self._early.append(text)
        else:
            self._progress.message(text)

    def close(self) -> None:
        """Closes what was opened; messages that came before are not lost."""
        with contextlib.ExitStack() as stack:  # which closes all, also where one fails
            for part in (self._events, self._jsonl, self._measured, self._diversity, self._progress):
                if part is not None:
                    stack.callback(part.close)
        if self._progress is None:
            for text in self._early:
                print(text)

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self.close()
        except RunError:  # the disk is full: the first message says more
            if error is None:
                raise

    def _rate(self) -> float | None:
        """Images a second, over a second at least; None while there has not been one."""
        seconds = time.monotonic() - self._since
        if seconds > 1.0:
            self._last_rate = self._images / seconds
        return self._last_rate
