"""Arrangements of devices train the same model; wherever a window is cut, the bits are the same."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import loop, parallel
from ganjax.checkpoint import fingerprint, flatten
from ganjax.errors import UsageError
from ganjax.gan import GanState, Stage, always, due_phases
from ganjax.parallel import Arrangement, Runner, arrangement
from tests.doubles import compiled_fast, toy_experiment

__all__ = ["compiled_fast"]  # the fixture

STEPS, BATCH = 5, 8
KEY = loop.stage_key(0, 0)

needs_devices = pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")


def stage_of(**options) -> Stage:
    return toy_experiment(steps=(STEPS,), **options).stages[0]


def runner_of(stage: Stage, kind: str = "none", window: int = 1) -> Runner:
    placed = arrangement(kind, stage.batch_size)
    return Runner(placed, stage.gan, stage.data.transform, stage.batch_size, stage.steps, window)


def created(stage: Stage, runner: Runner) -> GanState:
    return runner.create(KEY, stage.data.example(BATCH))


def batches(stage: Stage) -> list[np.ndarray]:
    return [stage.data.indices(0, i * BATCH, BATCH) for i in range(STEPS)]


def all_steps(stage: Stage, runner: Runner) -> GanState:
    """The state on the devices after five steps, as the runner's window has it: alone, or four and one."""
    state = runner.put(created(stage, runner))
    if runner.window == 1:
        for step, indices in enumerate(batches(stage)):
            state, _ = runner.step(state, stage.data.read(indices), KEY, step)
    else:
        arrays = runner.put_resident(stage.data.resident())
        for cut in (slice(0, 4), slice(4, STEPS)):
            state, _ = runner.steps(state, arrays, batches(stage)[cut], KEY, cut.start)
    return state


def single_steps(kind: str) -> tuple[GanState, list[dict[str, float]]]:
    """The state and every step's metrics after five steps, one a dispatch."""
    stage = stage_of()
    runner = runner_of(stage, kind)
    state, history = runner.put(created(stage, runner)), []
    for step, indices in enumerate(batches(stage)):
        state, metrics = runner.step(state, stage.data.read(indices), KEY, step)
        history.append({name: float(x) for name, x in metrics.items()})
    return runner.get(state), history


def windows(
    kind: str, cuts: tuple[int, ...], window: int = 4
) -> tuple[GanState, list[dict[str, np.ndarray]]]:
    """The same in dispatches of so many steps each."""
    stage = stage_of()
    runner = runner_of(stage, kind, window)
    arrays = runner.put_resident(stage.data.resident())
    state, history, step = runner.put(created(stage, runner)), [], 0
    for count in cuts:
        state, metrics = runner.steps(state, arrays, batches(stage)[step : step + count], KEY, step)
        history.append({name: np.asarray(x) for name, x in metrics.items()})
        step += count
    assert step == STEPS
    return runner.get(state), history


@pytest.fixture(scope="module")
def reference() -> tuple[GanState, list[dict[str, float]]]:
    return single_steps("none")


def assert_close(a: GanState, b: GanState) -> None:
    """Every parameter tree to 1e-4 of its norm; integers exactly."""
    a_leaves, b_leaves = flatten(a), flatten(b)
    assert list(a_leaves) == list(b_leaves)
    for name, x in a_leaves.items():
        y = b_leaves[name]
        assert x.shape == y.shape
        if np.issubdtype(x.dtype, np.floating):
            assert np.linalg.norm(x - y) <= 1e-4 * max(float(np.linalg.norm(x)), 1e-3), name
        else:
            np.testing.assert_array_equal(x, y, err_msg=name)


@needs_devices
@pytest.mark.parametrize("kind", ["pmap", "sharded"])
def test_four_devices_train_what_one_does(reference, kind):
    state, history = single_steps(kind)
    for mine, expected in zip(history, reference[1], strict=True):
        assert mine == pytest.approx(expected, abs=1e-5)
    assert_close(state, reference[0])
    assert int(state.step) == STEPS


@needs_devices
@pytest.mark.parametrize("kind", ["none", "pmap", "sharded"])
def test_windows_train_what_single_steps_do(reference, kind):
    state, history = windows(kind, (4, 1))
    assert_close(state, reference[0])
    for step, expected in enumerate(reference[1]):
        mine = {name: x[step % 4] for name, x in history[step // 4].items()}
        for name, value in mine.items():
            if name in expected:
                assert value == pytest.approx(expected[name], abs=1e-5)
            else:
                assert np.isnan(value)


def test_wherever_a_window_is_cut_the_bits_are_the_same():
    expected, history = windows("none", (4, 1))
    names = list(history[0])
    joined = {name: np.concatenate([history[0][name], history[1][name][:1]]) for name in names}
    for cuts in [(1, 1, 1, 1, 1), (2, 3), (3, 2), (1, 4)]:
        state, parts = windows("none", cuts)
        assert fingerprint(state) == fingerprint(expected), cuts
        for name in names:
            mine = np.concatenate([part[name][:count] for part, count in zip(parts, cuts, strict=True)])
            np.testing.assert_array_equal(mine, joined[name])
            for part, count in zip(parts, cuts, strict=True):
                assert np.isnan(part[name][count:]).all()


@needs_devices
@pytest.mark.parametrize("kind", ["pmap", "sharded"])
def test_wherever_a_window_is_cut_on_several_devices(kind):
    assert fingerprint(windows(kind, (4, 1))[0]) == fingerprint(windows(kind, (2, 3))[0])


def test_metrics_that_were_not_due_are_nan():
    """The generator is due at the steps 1 and 3."""
    _, history = windows("none", (4, 1))
    np.testing.assert_array_equal(np.isnan(history[0]["generator_loss"]), [True, False, True, False])
    assert not np.isnan(history[0]["discriminator_loss"]).any()
    np.testing.assert_array_equal(np.isnan(history[1]["discriminator_loss"]), [False, True, True, True])


@needs_devices
@pytest.mark.parametrize("window", [1, 4])
def test_the_state_is_the_same_on_every_device(window):
    """Statistics, the pool and the averages too: whatever is local would be lost when one copy is saved."""
    stage = stage_of()
    state = all_steps(stage, runner_of(stage, "pmap", window))
    for name, leaf in flatten(state).items():
        assert leaf.shape[0] == 4, name
        for copy in leaf[1:]:
            np.testing.assert_array_equal(copy, leaf[0], err_msg=name)


@pytest.mark.parametrize(("window", "branches"), [(1, False), (1, True), (4, True)])
def test_in_how_many_programs_each_phase_is(window, branches, monkeypatch):
    """The discriminator is always due; the generator at the steps 1 and 3, in a branch if they are fast."""
    monkeypatch.setattr(parallel, "branches_are_fast", lambda: branches)
    stage = stage_of()
    assert [len(due_phases(stage.gan, step)) for step in range(STEPS)] == [1, 2, 1, 2, 1]
    # Of a branch, and of a window, the form is found out first.
    traces = {(1, False): [2, 1], (1, True): [1, 2], (4, True): [2, 4]}[window, branches]
    chex.clear_trace_counter()
    phases = [
        phase._replace(loss=chex.assert_max_traces(phase.loss, n=n))
        for phase, n in zip(stage.gan.phases, traces, strict=True)
    ]
    stage = stage._replace(gan=stage.gan._replace(phases=tuple(phases)))
    runner = runner_of(stage, window=window)
    all_steps(stage, runner)
    programs = 1 if branches else 2
    assert len(runner._programs) == programs + 1  # and that of the first state
    assert runner.compile_seconds > 0
    assert runner.metric_names((0,)) == ["discriminator_loss", "draw", "filled"]
    assert runner.metric_names((0, 1)) == ["discriminator_loss", "draw", "filled", "generator_loss"]


@pytest.mark.parametrize("window", [1, 4])
def test_a_step_beyond_the_stage_at_which_other_phases_are_due_is_refused(window):
    """Of the first step alone the generator is no part: at the second, where it is due, it would not move."""
    stage = stage_of()._replace(steps=1)
    runner = runner_of(stage, window=window)
    state = runner.put(created(stage, runner))
    indices = batches(stage)[1]
    if window == 1:
        move = functools.partial(runner.step, state, stage.data.read(indices), KEY, 1)
    else:
        move = functools.partial(runner.steps, state, stage.data.resident(), [indices], KEY, 1)
    with pytest.raises(ValueError, match=r"the phases \(0, 1\) are due together at none of the 1 steps"):
        move()


@needs_devices
@pytest.mark.parametrize("kind", ["none", "pmap", "sharded"])
def test_with_branches_the_same_is_trained(reference, kind, monkeypatch):
    monkeypatch.setattr(parallel, "branches_are_fast", lambda: True)
    state, history = single_steps(kind)
    for mine, expected in zip(history, reference[1], strict=True):
        assert mine == pytest.approx(expected, abs=1e-5)
    assert_close(state, reference[0])


@pytest.mark.parametrize("kind", ["none", pytest.param("pmap", marks=needs_devices)])
def test_the_state_is_donated_and_the_hosts_copy_is_not_touched(kind):
    stage = stage_of()
    runner = runner_of(stage, kind)
    host = created(stage, runner)
    before = fingerprint(host)
    kept = runner.get(runner.put(host))  # of another: jax 0.11 does not donate what the host looks at
    state = runner.put(host)
    after, _ = runner.step(state, stage.data.read(batches(stage)[0]), KEY, 0)
    last, _ = runner.step(after, stage.data.read(batches(stage)[1]), KEY, 1)
    jax.block_until_ready(last)
    for given in (state, after):
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given.params))
    assert fingerprint(host) == fingerprint(kept) == before
    assert fingerprint(runner.get(last)) != before


def test_put_and_get_are_inverse():
    stage = stage_of()
    kinds = ["none", "pmap", "sharded"] if jax.device_count() > 1 else ["none"]
    host = created(stage, runner_of(stage))
    for kind in kinds:
        runner = runner_of(stage, kind)
        assert fingerprint(runner.get(runner.put(host))) == fingerprint(host)


def test_abstract_is_the_form_of_what_is_created():
    experiment = toy_experiment(steps=(STEPS,))
    stage = experiment.stages[0]
    state, form = created(stage, runner_of(stage)), loop.abstract_state(experiment, 0)
    assert jax.tree.structure(state) == jax.tree.structure(form)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(form), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)


def test_the_seed_decides_the_first_state_whatever_the_devices():
    stage = stage_of(generator_due=always)
    states = {kind: created(stage, runner_of(stage, kind)) for kind in ("none", "auto")}
    assert fingerprint(states["none"]) == fingerprint(states["auto"])
    other = runner_of(stage).create(loop.stage_key(1, 0), stage.data.example(BATCH))
    assert fingerprint(other) != fingerprint(states["none"])


# Which arrangement.


@needs_devices
def test_auto_is_pmap_on_several_devices():
    everything = tuple(jax.devices())
    assert arrangement("auto", 8) == Arrangement("pmap", everything)
    assert arrangement("sharded", 8) == Arrangement("sharded", everything)
    assert arrangement("none", 7) == Arrangement("none", everything[:1])


def test_auto_is_none_on_one_device(monkeypatch):
    one = jax.devices()[:1]
    monkeypatch.setattr(parallel.jax, "devices", lambda: one)
    assert arrangement("auto", 7) == Arrangement("none", tuple(one))


@needs_devices
@pytest.mark.parametrize("kind", ["auto", "pmap", "sharded"])
def test_a_batch_that_does_not_split_is_refused(kind):
    with pytest.raises(
        UsageError, match=r"^--config\.batch_size=6: it does not split evenly over 4 devices$"
    ):
        arrangement(kind, 6)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UsageError, match=r"^--parallel=tpu: expected one of auto, none, pmap, sharded$"):
        arrangement("tpu", 8)


# Programs.


def test_a_program_is_compiled_at_its_first_call_and_only_then():
    traces = []

    def double(x):
        traces.append(x)
        return 2 * x

    program = parallel.Program(jax.jit(double))
    assert program.compile_seconds == 0
    for value in (1.0, 2.0):
        assert program(jnp.float32(value)) == 2 * value
    assert len(traces) == 1
    assert program.compile_seconds > 0


# Models that are spread over devices.


def wide_stage() -> Stage:
    """With leaves that are large enough to be cut."""
    return toy_experiment(steps=(STEPS,), hidden=512).stages[0]


@needs_devices
@pytest.mark.parametrize("model_parallel", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_spread_model_trains_what_a_whole_one_does(model_parallel):
    stage = wide_stage()
    states = []
    for placed in (arrangement("none", BATCH), arrangement("sharded", BATCH, model_parallel)):
        runner = Runner(placed, stage.gan, stage.data.transform, BATCH, STEPS)
        state = runner.put(created(stage, runner))
        for step, indices in enumerate(batches(stage)):
            state, _ = runner.step(state, stage.data.read(indices), KEY, step)
        states.append(runner.get(state))
    assert_close(states[1], states[0])

    kernel = state.params["generator"]["out"]  # [512, 16], still on the devices after five steps
    assert kernel.addressable_data(0).shape == (512, 16 // model_parallel)
    moment = state.opt_state["generator"][0].mu["out"]
    assert moment.addressable_data(0).shape == (512, 16 // model_parallel)
    bias = state.params["generator"]["bias"]
    assert bias.addressable_data(0).shape == bias.shape  # too small to be worth it
    held = sum(leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves(state))
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert held < {2: 0.6, 4: 0.45}[model_parallel] * whole


@needs_devices
def test_a_spread_model_is_put_and_got_whole():
    stage = wide_stage()
    runner = Runner(arrangement("sharded", BATCH, 2), stage.gan, stage.data.transform, BATCH, STEPS)
    host = created(stage, runner)
    assert fingerprint(runner.get(runner.put(host))) == fingerprint(host)


@needs_devices
@pytest.mark.parametrize(
    ("kind", "model_parallel", "deterministic", "message"),
    [
        ("pmap", 2, False, r"^--model_parallel=2: it needs --parallel=sharded .*; there are 4, .* is pmap$"),
        ("sharded", 3, False, r"^--model_parallel=3: .* a number of devices that it divides; there are 4"),
        ("sharded", 1, True, r"^--deterministic: with --parallel=sharded the order of sums"),
    ],
)
def test_what_does_not_go_together_is_refused(kind, model_parallel, deterministic, message):
    with pytest.raises(UsageError, match=message):
        arrangement(kind, 24, model_parallel, deterministic)


@needs_devices
def test_a_batch_has_to_split_over_the_copies_of_a_spread_model():
    assert arrangement("sharded", 6, 2).parts == 2
    with pytest.raises(
        UsageError,
        match=r"^--config\.batch_size=7: it does not split evenly over 2 parts of 2 devices$",
    ):
        arrangement("sharded", 7, 2)


# Sums in order.


@needs_devices
def test_ordered_means_train_what_pmean_does():
    """To rounding; and there is no other sum over devices in the program."""
    stage = stage_of()
    states = []
    for deterministic in (False, True):
        placed = arrangement("pmap", BATCH, deterministic=deterministic)
        runner = Runner(placed, stage.gan, stage.data.transform, BATCH, STEPS)
        state = runner.put(created(stage, runner))
        raw = stage.data.read(batches(stage)[0])
        state, _ = runner.step(state, raw, KEY, 0)
        states.append(runner.get(state))
        (program,) = [p for name, p in runner._programs.items() if name != "create"]
        compiled: Any = program._compiled
        text = compiled.as_text()
        assert ("all-reduce" in text) is not deterministic
        assert "all-gather" in text
    assert_close(states[1], states[0])


# Several processes.


class Device:
    def __init__(self, process_index: int, id: int):
        self.process_index, self.id = process_index, id


@pytest.mark.parametrize(("here", "expected"), [(0, slice(0, 4)), (1, slice(4, 12)), (2, slice(12, 16))])
def test_a_process_reads_the_rows_of_its_devices(here, expected, monkeypatch):
    """Of eight devices that were found in another order, two belong to each end and four to the middle."""
    devices = [Device(process, i) for i, process in enumerate([2, 1, 0, 1, 0, 1, 2, 1])]
    monkeypatch.setattr(parallel.jax, "devices", lambda: devices)
    monkeypatch.setattr(parallel.jax, "process_count", lambda: 3)
    monkeypatch.setattr(parallel.jax, "process_index", lambda: here)
    placed = arrangement("pmap", 16)
    assert [device.process_index for device in placed.devices] == [0, 0, 1, 1, 1, 1, 2, 2]
    assert placed.rows(16) == expected
    # Two copies of a model over four devices each: the middle process has a part of both.
    spread = arrangement("sharded", 16, 4)
    assert spread.rows(16) == {0: slice(0, 8), 1: slice(0, 16), 2: slice(8, 16)}[here]


def test_several_processes_do_not_train_on_one_device(monkeypatch):
    monkeypatch.setattr(parallel.jax, "process_count", lambda: 3)
    with pytest.raises(UsageError, match=r"^--parallel=none: there are 3 processes; use pmap or sharded$"):
        arrangement("none", 8)
