"""The loop: whatever interrupts a run, and whoever watches it, its bits are the same."""

import math
import threading
import time
import types

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganjax import loop
from ganjax.checkpoint import Best, Checkpoints, fingerprint
from ganjax.errors import RunError
from ganjax.gan import Show, always
from ganjax.loop import Result, Schedule
from tests.doubles import SHAPE, Recorder, compiled_fast, toy_experiment, toy_gan

__all__ = ["compiled_fast"]  # the fixture

QUIET = Schedule(log_steps=0, preview_steps=0, save_minutes=0)


def train(experiment=None, observer=None, **options) -> Result:
    options = {"seed": 0, "schedule": QUIET, "parallel": "none"} | options
    return loop.train(experiment or toy_experiment(), observer=observer or Recorder(), **options)


@pytest.fixture(scope="module", params=[1, 3], ids=["single", "window3"])
def whole(request, tmp_path_factory) -> tuple[int, Result, dict[int, str]]:
    """A run that is never interrupted: its window, its result, and its fingerprint at every step."""
    folder = tmp_path_factory.mktemp("whole")
    checkpoints = Checkpoints(folder, keep=100)
    schedule = QUIET._replace(save_steps=1)
    result = train(checkpoints=checkpoints, schedule=schedule, window=request.param)
    prints = {}
    experiment = toy_experiment()
    for step in checkpoints.steps():
        leaves, meta = checkpoints._read(step)
        assert meta["step"] == step
        assert meta["stage"] == (step > 5)
        assert meta["images_seen"] == min(step, 5) * 8 + max(step - 5, 0) * 4
        assert set(leaves) >= {"step", "ema/generator/in", "carry/pool"}
        prints[step] = meta["fingerprint"]
    assert sum(stage.steps for stage in experiment.stages) == 9
    return request.param, result, prints


def test_every_step_changes_the_state_and_the_end_is_the_result(whole):
    _, result, prints = whole
    assert sorted(prints) == list(range(1, 10))
    assert len(set(prints.values())) == 9
    assert prints[9] == result.fingerprint
    assert result.step == 9
    assert result.images_seen == 5 * 8 + 4 * 4
    assert not result.interrupted


def test_stopped_after_every_step_it_ends_with_the_same_bits(whole, tmp_path):
    window, result, prints = whole
    for stop in range(1, 10):
        part = train(checkpoints=Checkpoints(tmp_path), schedule=QUIET._replace(stop=stop), window=window)
        assert part.step == stop
        assert part.fingerprint == prints[stop], f"after {stop} steps"
        assert part.resumed_from == list(range(1, stop))
        assert part.images_seen == min(stop, 5) * 8 + max(stop - 5, 0) * 4
    assert part.metrics == result.metrics


@pytest.mark.parametrize("stop", [4, 5, 6])
def test_taken_up_again_around_the_change_of_stage(whole, tmp_path, stop):
    window, result, _ = whole
    for until in (stop, None):
        part = train(checkpoints=Checkpoints(tmp_path), schedule=QUIET._replace(stop=until), window=window)
    assert part.fingerprint == result.fingerprint
    assert part.resumed_from == [stop]


def test_watching_changes_no_bit(whole, tmp_path):
    """Logging, previewing and saving at odd intervals; all of them cut windows short."""
    window, result, prints = whole
    recorder = Recorder()
    busy = Schedule(log_steps=2, preview_steps=3, save_steps=4, save_minutes=1e-9)
    again = train(observer=recorder, checkpoints=Checkpoints(tmp_path, keep=9), schedule=busy, window=window)
    assert again.fingerprint == result.fingerprint == prints[9]
    assert again.metrics == result.metrics
    assert recorder.steps("log") == [2, 4, 6, 8]
    assert recorder.steps("preview") == [0, 3, 6, 9]


def test_without_checkpoints(whole):
    window, result, _ = whole
    assert train(window=window).fingerprint == result.fingerprint


def test_another_seed_is_another_run(whole):
    window, result, _ = whole
    assert train(seed=1, window=window).fingerprint != result.fingerprint


def test_evaluating_changes_no_bit_and_saves_what_it_found(whole, tmp_path):
    """At its steps and at the end, of the stage that made the state; figures go into the checkpoints."""
    window, result, prints = whole

    def measure(index, state, step):
        assert fingerprint(state) == prints[step]
        assert index == (step > 5)
        return {"distance": abs(step - 6)} if step > 2 else {}  # not yet

    evaluation = loop.Evaluation(2, measure)
    recorder, best = Recorder(), Best("distance")
    for stop in (3, None):  # taken up again in between
        with Checkpoints(tmp_path, keep=1, best=best) as checkpoints:
            again = train(
                observer=recorder,
                checkpoints=checkpoints,
                schedule=QUIET._replace(stop=stop),
                window=window,
                evaluation=evaluation,
            )
            assert checkpoints.steps() == ([3] if stop else [6, 9])
    assert (again.fingerprint, again.metrics) == (result.fingerprint, result.metrics)
    assert recorder.steps("evaluated") == [3, 4, 6, 8, 9]
    assert [call.content for call in recorder.of("evaluated")] == [
        {"distance": abs(step - 6)} for step in (3, 4, 6, 8, 9)
    ]
    assert again.evaluation == {"distance": 3}


def test_metrics_and_images_are_those_of_the_step_whatever_the_window():
    """A window must attribute each step's metrics to it, and repeat none that were not due."""
    seen = []
    for window in (1, 3):
        recorder = Recorder()
        schedule = QUIET._replace(log_steps=1)
        train(observer=recorder, schedule=schedule, window=window)
        seen.append(recorder.of("log"))
        assert recorder.steps("log") == list(range(1, 10))
        assert sum(call.content[0] for call in recorder.of("progress")) == 5 * 8 + 4 * 4
        assert recorder.steps("progress")[-1] == 9
    for calls in zip(*seen, strict=True):
        filled = [call.content["filled"] for call in calls]
        assert filled == [calls[0].step] * 2
        for other in calls[1:]:
            for name, value in calls[0].content.items():
                assert other.content[name] == pytest.approx(value, rel=1e-4), (calls[0].step, name)
    draws = [call.content["draw"] for call in seen[0]]
    assert len(set(draws)) == 9  # each stage has a key of its own, and each step
    first, second, third = (call.content for call in seen[0][:3])
    assert "generator_loss" not in first  # due at every second step
    assert second["generator_loss"] == third["generator_loss"]
    assert second["discriminator_loss"] != third["discriminator_loss"]


def test_batches_go_on_over_stages_and_resumes(tmp_path):
    """Images in the order of the epochs: 5 batches of 8, then 4 of 4, of 24 images."""
    reads = []
    for stop in (2, 5, None):
        experiment = toy_experiment()
        train(experiment, checkpoints=Checkpoints(tmp_path), schedule=QUIET._replace(stop=stop))
        reads += experiment.stages[0].data.read_indices
    assert [len(indices) for indices in reads] == [8] * 5 + [4] * 4
    order = np.concatenate(reads)
    assert sorted(order[:24]) == sorted(order[24:48]) == list(range(24))
    source = toy_experiment().stages[0].data
    np.testing.assert_array_equal(order, source.indices(0, 0, 56))


# What is saved, and when.


def test_saves_by_steps_and_at_the_end(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=100)
    train(checkpoints=checkpoints, schedule=QUIET._replace(save_steps=4))
    assert checkpoints.steps() == [4, 8, 9]


def test_saves_at_the_end_only_if_nothing_else_is_asked_for(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    train(checkpoints=checkpoints)
    assert checkpoints.steps() == [9]


def test_saves_by_time_also_in_stages_shorter_than_that(tmp_path, monkeypatch):
    """20 seconds a step by this clock: after more than a minute a checkpoint, whichever stage it is."""
    now = [0.0]
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    class Clock(Recorder):
        def progress(self, step, images, metrics):
            now[0] += 20.0

    checkpoints = Checkpoints(tmp_path, keep=100)
    experiment = toy_experiment(steps=(2, 2, 2, 2))
    loop.train(
        experiment,
        seed=0,
        observer=Clock(),
        checkpoints=checkpoints,
        schedule=QUIET._replace(save_minutes=1),
        parallel="none",
    )
    assert len(checkpoints.steps()) >= 2
    assert max(np.diff([0, *checkpoints.steps()])) <= 5


class Held:
    """Saves that go on until they are told to end; each has its step."""

    def __init__(self, monkeypatch):
        self.begun: list[int] = []
        self.end = threading.Event()
        write = Checkpoints._write

        def held(checkpoints, step, leaves, meta):
            self.begun.append(step)
            assert self.end.wait(60)
            write(checkpoints, step, leaves, meta)

        monkeypatch.setattr(Checkpoints, "_write", held)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """Step 2's is not whole before step 5, and yet it is step 2's."""
    whole = train()
    held = Held(monkeypatch)
    checkpoints = Checkpoints(tmp_path, keep=9)
    seen: list[int] = []

    def interrupted() -> bool:
        seen.append(len(list(tmp_path.iterdir())))
        if len(seen) == 5:
            held.end.set()
            checkpoints.settle()
        return False

    schedule = QUIET._replace(save_steps=2, stop=3)
    train(checkpoints=checkpoints, schedule=schedule, interrupted=lambda: held.end.set() or False)
    held.end.clear()
    result = train(checkpoints=checkpoints, schedule=QUIET._replace(save_steps=5), interrupted=interrupted)
    assert held.begun == [2, 3, 5, 9]
    assert seen[:4] == [2] * 4  # steps 4 to 7
    assert result.fingerprint == whole.fingerprint
    assert checkpoints.steps() == [2, 3, 5, 9]
    leaves, meta = checkpoints._read(5)
    assert (meta["step"], int(leaves["step"])) == (5, 5)
    assert meta["metrics"]["filled"] == 5


def test_a_save_by_time_does_not_wait_for_the_one_before(tmp_path, monkeypatch):
    held = Held(monkeypatch)
    asked = []

    def interrupted() -> bool:
        asked.append(held.begun[:])
        if len(asked) == 6:
            held.end.set()
        return False

    checkpoints = Checkpoints(tmp_path, keep=9)
    schedule = QUIET._replace(save_minutes=1e-9)
    train(checkpoints=checkpoints, schedule=schedule, interrupted=interrupted)
    assert asked[5] == [2]  # not 3 to 6
    assert checkpoints.steps()[-1] == 9


@pytest.mark.parametrize("stop", [pytest.param(3, marks=pytest.mark.slow), 9])
def test_a_save_that_fails_in_the_background_ends_the_run(tmp_path, monkeypatch, stop):
    """At the next step, or at the end; then the run goes on from the one before."""
    whole = train()
    checkpoints = Checkpoints(tmp_path)
    train(checkpoints=checkpoints, schedule=QUIET._replace(stop=2))
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints._manager, "save", lambda *args, **kwargs: 1 / 0)
        recorder = Recorder()
        with pytest.raises(RunError, match=r"step 3 could not be written .*; the last one is of step 2\."):
            train(
                observer=recorder,
                checkpoints=checkpoints,
                schedule=QUIET._replace(save_steps=3, stop=stop),
                interrupted=lambda: checkpoints.settle() or False,  # so that the next step finds it failed
            )
        assert recorder.steps("progress") == [3]
        checkpoints.check()  # it was told once
    rest = train(checkpoints=checkpoints)
    assert rest.resumed_from == [2]
    assert rest.fingerprint == whole.fingerprint


def test_whatever_ends_a_run_what_it_was_saving_is_whole(tmp_path, monkeypatch):
    held = Held(monkeypatch)

    class Failing(Recorder):
        def progress(self, step, images, metrics):
            if step == 4:
                held.end.set()
                raise KeyError("the observer's")

    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(KeyError, match="the observer's"):
        train(observer=Failing(), checkpoints=checkpoints, schedule=QUIET._replace(save_steps=3))
    assert [path.name for path in tmp_path.iterdir()] == ["00000003"]


# A run that is at its end.


def test_a_run_at_its_end_does_nothing(tmp_path):
    first = train(checkpoints=Checkpoints(tmp_path))
    recorder = Recorder()
    again = train(observer=recorder, checkpoints=Checkpoints(tmp_path))
    assert again.fingerprint == first.fingerprint
    assert again.metrics == first.metrics
    assert (again.step, again.images_seen) == (first.step, first.images_seen)
    assert again.wall_seconds == first.wall_seconds
    assert again.first_step_seconds is None
    assert again.images_per_second is None
    assert again.resumed_from == []
    assert not recorder.of("progress")
    assert recorder.steps("begin") == [9]


@pytest.mark.parametrize("stop", [9, 10, 10**9])
def test_a_stop_at_or_beyond_the_end_is_the_end(stop):
    assert train(schedule=QUIET._replace(stop=stop)).step == 9


def test_a_stop_before_the_last_checkpoint_leaves_it(tmp_path):
    first = train(checkpoints=Checkpoints(tmp_path), schedule=QUIET._replace(stop=6))
    again = train(checkpoints=Checkpoints(tmp_path), schedule=QUIET._replace(stop=3))
    assert (again.step, again.fingerprint) == (6, first.fingerprint)


# Interrupted.


def test_interrupted_saves_what_there_is_and_says_so(tmp_path):
    asked = iter([False, False, True])
    recorder = Recorder()
    part = train(observer=recorder, checkpoints=Checkpoints(tmp_path), interrupted=lambda: next(asked))
    assert part.interrupted
    assert part.step == 3
    assert Checkpoints(tmp_path).steps() == [3]
    assert recorder.steps("progress")[-1] == 3
    assert not recorder.of("preview")  # it should end quickly
    rest = train(checkpoints=Checkpoints(tmp_path))
    assert rest.resumed_from == [3]
    assert rest.fingerprint == train().fingerprint


def test_interrupted_at_the_last_step_is_done():
    result = train(schedule=QUIET._replace(stop=2), interrupted=lambda: True)
    assert (result.step, result.interrupted) == (1, True)
    steps = iter([False, True])
    result = train(schedule=QUIET._replace(stop=2), interrupted=lambda: next(steps))
    assert (result.step, result.interrupted) == (2, False)


# What the loop refuses to go on with.


def spoiled(value: float, step: int):
    return lambda now, loss: jnp.where(now == step, value, loss)


@pytest.mark.parametrize(("value", "window"), [(math.nan, 1), (math.nan, 3), (-math.inf, 1)])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, value, window):
    """The generator's loss of the sixth step: step 5, counted from 0."""
    experiment = toy_experiment(steps=(9,), spoil=spoiled(value, 5))
    checkpoints = Checkpoints(tmp_path, keep=100)
    schedule = QUIET._replace(save_steps=2)
    message = rf"^step 6: generator_loss is {value}\. The last good checkpoint is of step 4\.$"
    with pytest.raises(RunError, match=message):
        train(experiment, checkpoints=checkpoints, schedule=schedule, window=window)
    assert checkpoints.steps() == [2, 4]
    # A run that was never spoiled goes on from there.
    whole = train(toy_experiment(steps=(9,)), window=window)
    rest = train(toy_experiment(steps=(9,)), checkpoints=Checkpoints(tmp_path), window=window)
    assert rest.resumed_from == [4]
    assert rest.fingerprint == whole.fingerprint


def test_a_loss_that_is_not_finite_at_first_says_that_there_is_no_checkpoint():
    experiment = toy_experiment(steps=(3,), spoil=spoiled(math.nan, 0), generator_due=always)
    with pytest.raises(RunError, match=r"^step 1: generator_loss is nan\. There is no checkpoint yet\.$"):
        train(experiment)


def keep(now, value):
    del now
    return value


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_that_are_not_finite_are_not_saved(tmp_path, dtype):
    """A NaN gradient under a finite loss: the last step's is seen in no metric."""

    def spoil_gradient(now, value):  # finite, but the derivative at 0 is 0 * inf
        inside = jnp.where(now == 3, value * 0.0, 1.0)
        return value + jnp.where(now == 3, jnp.sqrt(inside), 0.0)

    def spoil_moments(updates, state, params=None, **extra):
        return updates, jnp.where(extra["step"] == 3, jnp.nan, 0.0).astype(jnp.bfloat16)

    optimizer = optax.adam(1e-2)
    if dtype == "bfloat16":
        moments = optax.GradientTransformationExtraArgs(lambda params: jnp.bfloat16(0), spoil_moments)
        optimizer, spoil_gradient = optax.chain(optimizer, moments), keep
    experiment = toy_experiment(
        steps=(4,), spoil_gradient=spoil_gradient, optimizer=optimizer, generator_due=lambda step: step == 1
    )
    checkpoints = Checkpoints(tmp_path)
    schedule = QUIET._replace(save_steps=2)
    with pytest.raises(
        RunError, match=r"^step 4: \S+ is not finite\. The last good checkpoint is of step 2\.$"
    ):
        train(experiment, checkpoints=checkpoints, schedule=schedule)
    assert checkpoints.steps() == [2]


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(tmp_path):
    whole = train()
    train(checkpoints=Checkpoints(tmp_path / "c"), schedule=QUIET._replace(stop=6, save_steps=3))
    (tmp_path / "c" / "00000006" / "meta" / "metadata").write_text("{")
    recorder = Recorder()
    rest = train(observer=recorder, checkpoints=Checkpoints(tmp_path / "c"))
    assert rest.fingerprint == whole.fingerprint
    assert rest.resumed_from == [3]
    assert "step 6 is damaged" in recorder.of("message")[0].content


# What it tells.


def test_times_add_up_over_resumes(tmp_path):
    parts = [
        train(
            checkpoints=Checkpoints(tmp_path),
            schedule=QUIET._replace(stop=stop),
            started=time.monotonic() - 100,
        )
        for stop in (3, 6, None)
    ]
    assert [part.wall_seconds // 100 for part in parts] == [1, 2, 3]
    for part in parts:
        assert part.first_step_seconds is not None
        assert 100 < part.first_step_seconds < 160
        assert 0 < part.compile_seconds < 60
        assert part.images_per_second is not None
        assert part.images_per_second > 0


def test_the_steady_rate_leaves_the_first_step_out():
    assert train(schedule=QUIET._replace(stop=1)).images_per_second is None


def test_what_an_observer_sees(tmp_path):
    recorder = Recorder()
    schedule = Schedule(stop=4, log_steps=2, preview_steps=2)
    train(observer=recorder, checkpoints=Checkpoints(tmp_path), schedule=schedule)
    assert recorder.calls[0] == ("begin", 0, 9)
    assert recorder.calls[1].name == "preview"
    assert recorder.steps("preview") == [0, 2, 4]
    assert recorder.steps("progress") == [1, 2, 3, 4]
    for call in recorder.of("preview"):
        images, columns = call.content
        assert images.shape == (64, *SHAPE)
        assert columns == 8
        assert np.abs(images).max() <= 1
    frames = [call.content[0] for call in recorder.of("preview")]
    assert not np.array_equal(frames[0], frames[-1])
    recorder = Recorder()
    train(observer=recorder, checkpoints=Checkpoints(tmp_path), schedule=schedule._replace(stop=5))
    assert recorder.steps("begin") == [4]
    assert recorder.steps("preview") == [5]


def test_progress_counts_a_step_before_it_is_logged():
    """Whoever computes a rate when a line is logged must have seen all of its images."""
    for window in (1, 3):
        recorder = Recorder()
        train(observer=recorder, schedule=QUIET._replace(log_steps=2, stop=4), window=window)
        seen, rates = 0, []
        for call in recorder.calls:
            seen += call.content[0] if call.name == "progress" else 0
            rates += [seen] if call.name == "log" else []
        assert rates == [16, 32]


def test_a_conditional_model_is_previewed_a_row_a_class():
    seeds, labels, columns = loop.preview_inputs(3)
    assert labels is not None
    assert columns == 10
    np.testing.assert_array_equal(seeds.reshape(3, 10), np.tile(np.arange(10), (3, 1)))
    np.testing.assert_array_equal(labels.reshape(3, 10), np.repeat([[0], [1], [2]], 10, axis=1))


def test_the_abstract_state_has_the_form_of_the_real_one():
    experiment = toy_experiment()
    for stage in (0, 1):
        gan = experiment.stages[stage].gan
        state = loop.abstract_state(experiment, stage)
        assert set(state.params) == set(gan.optimizers)
        assert state.carry["pool"].shape == (2, *SHAPE)
    assert fingerprint({}) == fingerprint(())  # of no leaves


def test_the_metrics_are_known_before_a_step_is_taken():
    experiment = toy_experiment()
    want = ["discriminator_loss", "draw", "filled", "generator_loss"]
    assert loop.metric_names(experiment) == want == sorted(train(experiment).metrics)
    assert not toy_experiment().stages[0].data.read_indices


def test_the_toy_gan_moves_everything_that_it_should(tmp_path):
    """Guards the tests above: a toy whose pool or averages stood still would prove nothing."""
    checkpoints = Checkpoints(tmp_path, keep=100)
    train(checkpoints=checkpoints, schedule=QUIET._replace(save_steps=1))
    before, after = checkpoints._read(8)[0], checkpoints._read(9)[0]
    same = {name for name in before if np.array_equal(before[name], after[name])}
    generator = {name for name in before if "generator" in name}
    assert same <= generator  # step 9 moves the discriminator alone
    before = checkpoints._read(7)[0]
    assert not {name for name in before if np.array_equal(before[name], after[name])} - {
        "opt_state/generator/0/count"
    }
    assert toy_gan().phases[1].due(1)


def test_what_is_no_image_is_previewed_as_the_experiment_says():
    show = Show(count=20, columns=3, picture=lambda samples, columns: np.zeros((1, 1, 3), np.uint8))
    seeds, labels, columns = loop.preview_inputs(0, show)
    assert labels is None
    assert (seeds.tolist(), columns) == (list(range(20)), 3)
    seeds, labels, _ = loop.preview_inputs(8, show)
    assert labels is not None
    assert seeds.tolist() == [0, 1] * 8
    assert labels.tolist() == np.repeat(np.arange(8), 2).tolist()
    assert len(loop.preview_inputs(30, show)[0]) == 30  # at least one of each
    recorder = Recorder()
    train(toy_experiment()._replace(show=show), observer=recorder, schedule=QUIET._replace(stop=1))
    assert recorder.of("preview")[-1].content[0].shape == (20, *SHAPE)
