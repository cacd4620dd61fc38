"""The only loop: stages in turn, batches by step, checkpoints, and somebody who watches.

What goes to files and terminals is an `Observer`'s business; what a model is, a `Gan`'s. Everything that
the run needs to go on is in the state and the step number, so a resumed run has the bits of one that was
never interrupted.

Where several processes train together (`ganjax.hosts`), each runs this loop. What one of them alone knows,
that it was asked to stop, or that it is time to save, goes along with a step as its vote and comes back to
all of them with that step's metrics: they act on it after the same step.
"""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from ganjax import hosts, members
from ganjax.checkpoint import Checkpoints, fingerprint
from ganjax.data import Feed, Source
from ganjax.errors import RunError
from ganjax.gan import Array, Experiment, GanState, Inherited, Show, due_phases
from ganjax.parallel import VOTE, Runner, arrangement, state_at_first
from ganjax.sampling import Sampler
from ganjax.step import step_context, train_step


class Observer(Protocol):
    """Watches a run. Steps are global: batches seen over all stages."""

    def begin(self, step: int, total: int) -> None:
        """Training starts at `step` (0, or where a checkpoint was)."""

    def progress(self, step: int, images: int, metrics: Mapping[str, float]) -> None:
        """A step was done, on so many images. `metrics` are the latest values, means over the members."""

    def log(self, step: int, seconds: float, metrics: Mapping[str, float]) -> None:
        """A line for the logs. `seconds`: since the start, summed over resumes."""

    def preview(self, step: int, samples: Any, columns: int) -> None:
        """Samples of the fixed latents or other conditions, to be laid out in `columns`: images [n, H, W, C]
        in [-1, 1], or what the experiment's `Show` takes."""

    def evaluated(self, step: int, seconds: float, figures: Mapping[str, float]) -> None:
        """What an `Evaluation` found. `seconds`: as in `log`."""

    def message(self, text: str) -> None:
        """Something that the user should read."""


_SAVE, _STOP = 1, 2  # votes


class Evaluation(NamedTuple):
    """What is measured of a model while it trains. It changes nothing of the run's result.

    Attributes:
      every: so many steps, and at the end; at least 1. Each time a checkpoint is saved too, which has the
        figures in its meta.
      measure: (place of the stage, host state of one member, step) -> the figures, by name.
    """

    every: int
    measure: Callable[[int, GanState, int], Mapping[str, float]]


class Schedule(NamedTuple):
    """When the loop does something besides stepping. None of it changes a run's result.

    Attributes:
      stop: the global step to stop at; None: the end of the last stage.
      log_steps: a log line every so many steps.
      preview_steps: fixed samples every so many steps, at the start and at the end; 0: only at the end.
      save_steps: a checkpoint every so many steps; 0: only by time and at the end.
      save_minutes: a checkpoint every so many minutes; 0: only by steps and at the end.
    """

    stop: int | None = None
    log_steps: int = 50
    preview_steps: int = 500
    save_steps: int = 0
    save_minutes: float = 1.0


class Result(NamedTuple):
    """How a run, or the part of it up to now, ended.

    Attributes:
      step: global.
      images_seen: by each member, over all resumes.
      wall_seconds: from the start to the last step, summed over resumes.
      first_step_seconds: from the start of this process to the end of its first step; None if it took none.
      images_per_second: of each member, in the steady state of this process, compile time apart.
      compile_seconds: of this process: for tracing, and compiling or loading what the compilation cache has.
      resumed_from: the steps at which the run was taken up again.
      fingerprint: of the state.
      metrics: the last value of each; of several seeds `ganjax.members.summary`.
      interrupted: the run was asked to stop before its end.
      evaluation: the figures of the last evaluation; of several seeds as `metrics`.
      members: of several seeds, {"seed": s, "metrics": the last value of each} one by one.
    """

    step: int
    images_seen: int
    wall_seconds: float
    first_step_seconds: float | None
    images_per_second: float | None
    compile_seconds: float
    resumed_from: list[int]
    fingerprint: str
    metrics: dict[str, float]
    interrupted: bool
    evaluation: Mapping[str, float] = {}
    members: tuple[dict[str, Any], ...] = ()


def stage_key(seed: int, stage: int) -> Array:
    """The PRNG key of a stage of the run with this seed."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), stage)


def abstract_state(experiment: Experiment, stage: int) -> GanState:
    """Shapes and types of a stage's state, of one member; reads no data."""
    gan, data, _, batch_size, _ = experiment.stages[stage]
    return jax.eval_shape(
        lambda key, raw: state_at_first(gan, data.transform, key, raw),
        jax.random.key(0),
        data.example(batch_size),
    )


def _zeros(form: GanState) -> GanState:
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), form)


def metric_names(experiment: Experiment) -> list[str]:
    """Names of the metrics that the run reports, of all stages, sorted; reads no data, compiles nothing."""
    names: set[str] = set()
    for index, (gan, data, steps, batch_size, _) in enumerate(experiment.stages):

        def metrics(state, raw, key, due, gan=gan, data=data):
            batch = data.transform(raw, step_context(state, raw, key))
            return train_step(gan, state, batch, key, due=due)[1]

        state, raw, key = abstract_state(experiment, index), data.example(batch_size), stage_key(0, index)
        for due in {due_phases(gan, step) for step in range(steps)}:
            names |= set(jax.eval_shape(functools.partial(metrics, due=due), state, raw, key))
    return members.names(names, experiment.seeds)


def saved_state(experiment: Experiment, meta: Mapping[str, Any]) -> GanState:
    """Shapes and types of the state in a checkpoint that has this meta, of all members.

    Raises:
      ValueError: the meta is not one that `train` saves of this experiment.
    """
    stages = range(len(experiment.stages))
    for name, kind, fits in (
        ("step", int, lambda x: x >= 0),
        ("stage", int, lambda x: x in stages),
        ("images_seen", int, lambda x: x >= 0),
        ("wall_seconds", float, lambda x: 0 <= x < math.inf),
        ("resumed_from", list, lambda x: all(type(step) is int for step in x)),
        ("metrics", dict, lambda x: all(type(value) is float for value in x.values())),
    ):
        if type(meta.get(name)) is not kind or not fits(meta[name]):
            raise ValueError(f"its meta has no {name}, or one that is never saved")
    if experiment.seeds > 1 and not members.are_saved(meta.get("members"), experiment.seeds):
        raise ValueError("its meta has no members, or such as are never saved")
    return members.form_of(abstract_state(experiment, meta["stage"]), experiment.seeds)


def preview_inputs(num_classes: int, show: Show | None = None) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Seeds, labels and columns of the fixed samples: of images a row a class, or 8 x 8.

    What is shown otherwise is as many as `show` wants, of each class as many, and at least one.
    """
    if show is not None:
        seeds = np.arange(max(show.count // max(num_classes, 1), 1))
        if not num_classes:
            return seeds, None, show.columns
        return np.tile(seeds, num_classes), np.repeat(np.arange(num_classes), len(seeds)), show.columns
    if not num_classes:
        return np.arange(64), None, 8
    rows = min(num_classes, 10)
    seeds = np.tile(np.arange(10), rows)
    return seeds, np.repeat(np.arange(rows), 10), 10


def train(
    experiment: Experiment,
    *,
    seed: int,
    observer: Observer,
    checkpoints: Checkpoints | None = None,
    schedule: Schedule = Schedule(),  # noqa: B008 - an immutable tuple
    parallel: str = "auto",
    model_parallel: int = 1,
    deterministic: bool = False,
    window: int | None = None,
    data_workers: int | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    started: float | None = None,
    evaluation: Evaluation | None = None,
    initial: Callable[[GanState], GanState | Inherited] | None = None,
) -> Result:
    """Trains an experiment from its last checkpoint, or from the start.

    Args:
      experiment: what to train.
      seed: of everything random; of several seeds (`Experiment.seeds`), the first.
      observer: is told what happens.
      checkpoints: where the run is kept; None keeps it nowhere. They are written in the background, and are
        whole when this returns. Of several processes, process 0's.
      schedule: when to log, preview, save and stop.
      parallel: one of `ganjax.parallel.KINDS`.
      model_parallel: over how many devices each copy of the model is spread ("sharded").
      deterministic: the same bits however the devices are laid out over processes ("none" and "pmap").
      window: steps to one dispatch, at most; None: one on a CPU, where XLA runs convolutions inside a
        loop on one thread, and up to 100 elsewhere.
      data_workers: threads that read batches ahead, of sets that are larger than memory; see
        `ganjax.data.Feed`. They don't change what is read.
      interrupted: is asked after every dispatch; true saves and ends the run.
      started: `time.monotonic()` at which the process started, for `wall_seconds`.
      evaluation: what to measure of the model meanwhile, by process 0.
      initial: what the first state of a run is made into, member by member, on the host.
    Raises:
      RunError: a loss is not finite, a checkpoint can't be written or read, or the data can't be read.
      UsageError: the arrangement is not to be had, or the last seed is too large.
    """
    members.check(seed, experiment.seeds)
    training = _Training(
        experiment=experiment,
        seed=seed,
        observer=observer,
        checkpoints=checkpoints,
        schedule=schedule,
        parallel=parallel,
        model_parallel=model_parallel,
        deterministic=deterministic,
        window=window or (1 if jax.default_backend() == "cpu" else 100),
        data_workers=data_workers,
        interrupted=interrupted,
        started=time.monotonic() if started is None else started,
        evaluation=evaluation,
        initial=initial,
    )
    try:
        with training.open_feeds:
            return training.run()
    finally:
        if checkpoints is not None:  # whatever ended the run, a save that was begun is finished
            checkpoints.settle()


class _Dispatched(NamedTuple):
    """Steps whose metrics are still on their way from the device."""

    first: int  # global, of the first step: the number of steps before it
    dues: list[tuple[int, ...]]
    metrics: Mapping[str, Any]  # as the runner gave them


@dataclasses.dataclass
class _Training:
    """One process's part of a run: where it stands, and what it has used."""

    experiment: Experiment
    seed: int
    observer: Observer
    checkpoints: Checkpoints | None
    schedule: Schedule
    parallel: str
    model_parallel: int
    deterministic: bool
    window: int
    data_workers: int | None
    interrupted: Callable[[], bool]
    started: float
    evaluation: Evaluation | None
    initial: Callable[[GanState], GanState | Inherited] | None

    step: int = 0  # global
    images: int = 0
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    by_member: list[dict[str, float]] = dataclasses.field(init=False)
    resumed_from: list[int] = dataclasses.field(default_factory=list)
    earlier_seconds: float = 0.0  # of the processes before this one
    wall_seconds: float = 0.0
    first_step_seconds: float | None = None
    compile_seconds: float = 0.0
    steady_images: int = 0
    steady_seconds: float = 0.0
    stopping: bool = False  # asked to stop before the end
    vote: int = 0  # the largest of all processes' votes that has come back
    saved_step: int = -1
    saved_time: float = math.inf  # time.monotonic() of the last save; at first, of the first step
    previewed_step: int = -1
    evaluated_step: int = -1
    figures: dict[str, float] = dataclasses.field(default_factory=dict)  # of the last evaluation
    evaluation_seconds: float = 0.0
    open_feeds: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)
    told: set[str] = dataclasses.field(default_factory=set)  # of damaged images

    def __post_init__(self) -> None:
        self.by_member = [{} for _ in range(self.seeds)]

    def run(self) -> Result:
        stages = self.experiment.stages
        total = sum(stage.steps for stage in stages)
        self.stop = total if self.schedule.stop is None else min(self.schedule.stop, total)
        index, state = self._restore()
        self.observer.begin(self.step, total)
        created = state is None
        while True:
            stage = stages[index]
            placed = arrangement(self.parallel, stage.batch_size, self.model_parallel, self.deterministic)
            runner = members.runner(
                self.seeds,
                functools.partial(abstract_state, self.experiment, index),
                placed,
                stage.gan,
                stage.data.transform,
                stage.batch_size,
                stage.steps,
                self.window,
            )
            if created:
                state = members.joined(self._create(index, runner, state), self.seeds)
                state = hosts.shared_arrays(state)  # which another kind of processor might round otherwise
            assert state is not None
            show = self.experiment.show
            if show is not None and show.conditions is not None:  # such samples cost what their inputs do
                self.sampler = Sampler(stage.gan, chunk=show.count)
            else:
                self.sampler = Sampler(stage.gan)
            state = self._train_stage(index, runner, state)
            self.compile_seconds += runner.compile_seconds + self.sampler.compile_seconds
            if self.stopping or self.step >= self.stop or index + 1 == len(stages):
                break
            index, created = index + 1, True
        self._save(index, state)
        if not self.stopping:
            self._preview(state)
        end = fingerprint(state)
        if self.checkpoints is not None:
            self.checkpoints.wait()
        return Result(
            step=self.step,
            images_seen=self.images,
            wall_seconds=self.wall_seconds,
            first_step_seconds=self.first_step_seconds,
            images_per_second=self.steady_images / self.steady_seconds if self.steady_images else None,
            compile_seconds=self.compile_seconds,
            resumed_from=self.resumed_from,
            fingerprint=end,
            metrics=self.metrics,
            interrupted=self.stopping,
            evaluation=self.figures,
            members=tuple(self._told_by_member()),
        )

    @property
    def seeds(self) -> int:
        """How many members there are."""
        return self.experiment.seeds

    def _create(self, index: int, runner: Runner, old: GanState | None) -> Iterator[GanState]:
        """A stage's first state, member by member, from the host state that the stage before it left."""
        stage = self.experiment.stages[index]
        example = stage.data.example(stage.batch_size)
        for member in range(self.seeds):
            state = runner.create(stage_key(self.seed + member, index), example)
            found: GanState | Inherited = state
            if old is not None and stage.inherit is not None:
                found = stage.inherit(state, members.of(old, member, self.seeds))
            elif old is None and self.initial is not None:
                found = self.initial(state)
            state, message = found if isinstance(found, Inherited) else (found, "")
            if message and not member:
                self.observer.message(f"step {self.step}: {message}")
            yield state

    def _told_by_member(self) -> list[dict[str, Any]]:
        """Of several seeds, each with its last metrics."""
        if self.seeds == 1:
            return []
        return [
            {"seed": self.seed + member, "metrics": dict(metrics)}
            for member, metrics in enumerate(self.by_member)
        ]

    def _restore(self) -> tuple[int, GanState | None]:
        """The stage and state of the last checkpoint; stage 0 and None at the start of a run."""
        checkpoints = self.checkpoints
        found = hosts.by_first(
            lambda: (
                checkpoints
                and checkpoints.restore(
                    lambda meta: saved_state(self.experiment, meta), self.observer.message
                )
            )
        )
        meta = hosts.shared(found and found[1])
        if meta is None:
            return 0, None
        state = found[0] if found else _zeros(saved_state(self.experiment, meta))
        state = hosts.shared_arrays(state)
        self.step = self.saved_step = meta["step"]
        self.images, self.metrics = meta["images_seen"], meta["metrics"]
        each = [member["metrics"] for member in meta["members"]] if self.seeds > 1 else [self.metrics]
        self.by_member = [dict(metrics) for metrics in each]
        self.earlier_seconds = self.wall_seconds = meta["wall_seconds"]
        if "evaluation" in meta:
            self.figures, self.evaluated_step = meta["evaluation"], self.step
        self.resumed_from = [*meta["resumed_from"], *([self.step] if self.step < self.stop else [])]
        return meta["stage"], state

    def _train_stage(self, index: int, runner: Runner, host: GanState) -> GanState:
        """Steps until the stage or the run ends; takes and returns the state on the host."""
        stage = self.experiment.stages[index]
        local = int(members.of(host, 0, self.seeds).step)
        source = stage.data if self.seeds == 1 else members.MemberSource(stage.data, self.seeds)
        stop = min(self.stop, self.step - local + stage.steps)
        if self.step >= stop:
            return host
        first_image = self.images - local * stage.batch_size
        if self.step == 0 and self.schedule.preview_steps:
            self._preview(host)
        key = members.keys([stage_key(self.seed + member, index) for member in range(self.seeds)])
        resident = source.resident() if self.window > 1 else None
        arrays = None if resident is None else runner.put_resident(resident)
        batches = stop - self.step if arrays is None else 0
        first = first_image + local * stage.batch_size
        feed = self._feed(source, stage.batch_size, runner.rows, first, batches)
        state = runner.put(host)
        pending: _Dispatched | None = None
        steady: tuple[float, float, int] | None = None
        while self.step < stop and not self.stopping:
            count = 1 if arrays is None else min(self.window, self._until_event(stop))
            vote = self._own_vote() if jax.process_count() > 1 else 0
            if arrays is None:
                state, metrics = runner.step(state, next(feed), key, local, vote)
            else:
                starts = [first_image + (local + i) * stage.batch_size for i in range(count)]
                indices = [source.indices(self.seed, start, stage.batch_size) for start in starts]
                state, metrics = runner.steps(state, arrays, indices, key, local, vote)
            self._tell_skipped(stage.data)
            dues = [due_phases(stage.gan, local + i) for i in range(count)]
            if self.checkpoints is not None:
                self.checkpoints.check()
            # Only now the metrics of the dispatch before: the device is at work on this one meanwhile.
            self._receive(pending, runner, stage.batch_size)
            pending = _Dispatched(self.step, dues, metrics)
            local += count
            self.step += count
            self.images += count * stage.batch_size
            if jax.process_count() == 1:
                self.vote = self._own_vote()
            self.stopping = self.vote == _STOP and self.step < self.stop
            last = self.step >= stop or self.stopping
            evaluate = (
                self.evaluation is not None
                and (self._is_due(self.evaluation.every) or self.step == self.stop)
                and not self.stopping
            )
            save = self.vote == _SAVE or self._is_due(self.schedule.save_steps) or evaluate
            preview = self._is_due(self.schedule.preview_steps) and not self.stopping
            if save or preview or last or steady is None:
                self._receive(pending, runner, stage.batch_size)
                pending = None
                self.wall_seconds = self.earlier_seconds + time.monotonic() - self.started
            if self.first_step_seconds is None:
                self.first_step_seconds = time.monotonic() - self.started
            if steady is None:
                self.saved_time = min(self.saved_time, time.monotonic())
                steady = (time.monotonic(), self._apart(runner), self.images)
            if save or preview:
                if save and self.checkpoints is not None:
                    self.checkpoints.wait()  # before there is another copy of the state
                host = runner.get(state)
                if evaluate:
                    self._evaluate(index, host)
                if save:
                    self._save(index, host)
                    self.vote = 0  # also of the steps that were voted on before it
                if preview:
                    self._preview(host)
        if steady is not None:
            began, apart, images = steady
            self.steady_seconds += time.monotonic() - began - (self._apart(runner) - apart)
            self.steady_images += self.images - images
        feed.close()
        return runner.get(state)

    def _apart(self, runner: Runner) -> float:
        """Seconds up to now that do not count as training: for compiling and evaluating."""
        return runner.compile_seconds + self.sampler.compile_seconds + self.evaluation_seconds

    def _feed(self, source: Source, batch_size: int, rows: slice, first: int, count: int) -> Feed:
        """This process's rows of the next `count` batches; closed when the run ends or fails."""
        feed = Feed(
            source,
            seed=self.seed,
            first=first,
            batch_size=batch_size,
            count=count,
            rows=rows,
            workers=self.data_workers,
        )
        return self.open_feeds.enter_context(feed)

    def _tell_skipped(self, data: Source) -> None:
        """Names every damaged image that was met, once."""
        for text in tuple(getattr(data, "skipped", ())):
            if text not in self.told:
                self.told.add(text)
                self.observer.message(text)

    def _receive(self, dispatched: _Dispatched | None, runner: Runner, batch_size: int) -> None:
        """Reads the metrics of a dispatch, checks every one of them, and passes them on.

        Raises:
          RunError: one is not finite; names the step, the metric and, of several seeds, the seed.
        """
        if dispatched is None:
            return
        metrics = dict(dispatched.metrics)
        if VOTE in metrics:
            self.vote = int(jax.device_get(metrics.pop(VOTE)))
        columns = members.columns(metrics, self.seeds)
        for i, due in enumerate(dispatched.dues):
            step = dispatched.first + i + 1
            for member, latest in enumerate(self.by_member):
                values = {name: float(columns[name][i, member]) for name in runner.metric_names(due)}
                for name, value in values.items():
                    if not math.isfinite(value):
                        whose = f" with seed {self.seed + member}" if self.seeds > 1 else ""
                        raise RunError(f"step {step}: {name} is {value}{whose}. {self._last_good()}")
                latest.update(values)
            self.metrics.update(members.summary(self.by_member))
            # Without the standard deviations, which would double the line
            means = {name: self.metrics[name] for name in self.by_member[0]}
            self.observer.progress(step, batch_size, means)
            if self.schedule.log_steps and step % self.schedule.log_steps == 0:
                seconds = self.earlier_seconds + time.monotonic() - self.started
                self.observer.log(step, seconds, self.metrics)

    def _save(self, index: int, state: GanState) -> None:
        """Begins a checkpoint of a state on the host, unless this step has one."""
        if self.checkpoints is None or self.step == self.saved_step:
            return
        meta = {
            "step": self.step,
            "stage": index,
            "images_seen": self.images,
            "wall_seconds": self.wall_seconds,
            "resumed_from": self.resumed_from,
            "metrics": self.metrics,
        }
        if self.step == self.evaluated_step:
            meta["evaluation"] = self.figures
        if self.seeds > 1:
            meta["members"] = self._told_by_member()
        self.checkpoints.save(self.step, state, meta, background=True)
        self.saved_step, self.saved_time = self.step, time.monotonic()

    def _preview(self, state: GanState) -> None:
        """Draws the first member's fixed samples from a host state, unless this step's were drawn."""
        if self.step != self.previewed_step and hosts.is_first():
            seeds, labels, columns = preview_inputs(self.experiment.num_classes, self.experiment.show)
            first = members.of(state, 0, self.seeds)
            show = self.experiment.show
            conditions = show.conditions() if show is not None and show.conditions is not None else None
            samples = self.sampler(first, seeds, labels, conditions=conditions)
            self.observer.preview(self.step, samples, columns)
            self.previewed_step = self.step

    def _evaluate(self, index: int, state: GanState) -> None:
        """Measures every member of a host state."""
        if self.evaluation is None or not hosts.is_first():
            return
        began = time.monotonic()
        each = []
        for member in range(self.seeds):
            found = self.evaluation.measure(index, members.of(state, member, self.seeds), self.step)
            each.append({name: float(value) for name, value in found.items()})
        self.figures, self.evaluated_step = members.summary(each), self.step
        self.evaluation_seconds += time.monotonic() - began
        seconds = self.earlier_seconds + time.monotonic() - self.started
        if self.figures:  # nothing, where what was asked for can't be measured yet
            self.observer.evaluated(self.step, seconds, self.figures)

    def _is_due(self, steps: int) -> bool:
        return bool(steps) and self.step % steps == 0

    def _own_vote(self) -> int:
        """What this process alone knows: that it was asked to stop, or that it is time to save."""
        if self.interrupted():
            return _STOP
        minutes = self.schedule.save_minutes
        by_time = bool(minutes) and time.monotonic() - self.saved_time >= 60 * minutes
        if by_time and self.checkpoints is not None and self.checkpoints.saving:
            by_time = False  # a slow disk shall not stop the training
        return _SAVE if by_time and hosts.is_first() else 0

    def _until_event(self, stop: int) -> int:
        """Steps until the next one after which something must be done on the host."""
        intervals = [self.schedule.log_steps, self.schedule.preview_steps, self.schedule.save_steps]
        intervals += [self.evaluation.every] if self.evaluation is not None else []
        return min(stop - self.step, *(n - self.step % n for n in intervals if n), stop)

    def _last_good(self) -> str:
        return "There is no checkpoint yet." if self.checkpoints is None else self.checkpoints.last_good()
