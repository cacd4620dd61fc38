"""Several seeds in one run: each member is the run with its seed alone, however it is trained."""

import dataclasses
import importlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import config, data, loop, members, parallel
from ganjax.checkpoint import Checkpoints, fingerprint, flatten
from ganjax.data import Feed
from ganjax.errors import RunError, UsageError
from ganjax.gan import Experiment, always
from ganjax.loop import Result, Schedule
from ganjax.members import InTurn, MemberSource, Together
from ganjax.parallel import Runner, arrangement
from tests.doubles import SECOND, SHAPE, Images, Recorder, compiled_fast, toy_experiment

__all__ = ["compiled_fast"]  # the fixture

SEED, COUNT = 3, 3
QUIET = Schedule(log_steps=1, preview_steps=0, save_minutes=0)

needs_devices = pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")


@dataclasses.dataclass
class Trained:
    result: Result
    logs: list[dict[str, float]]  # of every step
    state: dict[str, np.ndarray]  # the last, by leaf
    meta: dict[str, Any]
    recorder: Recorder


class Black:
    """A sampler that compiles nothing."""

    compile_seconds = 0.0

    def __init__(self, gan):
        del gan

    def __call__(self, state, seeds, labels=None, conditions=None) -> np.ndarray:
        return np.zeros((len(seeds), *SHAPE), np.float32)


def train(folder, experiment: Experiment, seed: int = SEED, draws: bool = False, **options) -> Trained:
    """Trains from the folder's last checkpoint; options are `loop.train`'s and the schedule's."""
    of_schedule = {name: options.pop(name) for name in Schedule._fields if name in options}
    recorder, checkpoints = Recorder(), Checkpoints(folder)
    options = {"parallel": "none", "schedule": QUIET._replace(**of_schedule)} | options
    with pytest.MonkeyPatch.context() as patched:
        if not draws:
            patched.setattr(loop, "Sampler", Black)
        result = loop.train(experiment, seed=seed, observer=recorder, checkpoints=checkpoints, **options)
    state, meta = checkpoints._read(result.step)
    return Trained(result, [call.content for call in recorder.of("log")], state, meta, recorder)


def toy(seeds: int = 1, **options) -> Experiment:
    """Three steps of one program."""
    return toy_experiment(**{"steps": (3,), "generator_due": always, "seeds": seeds} | options)


def each_alone(factory, made: dict[str, Any], **options) -> list[Trained]:
    """The run of every seed by itself."""
    return [train(factory.mktemp("alone"), toy(**made), SEED + m, **options) for m in range(COUNT)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> list[Trained]:
    return each_alone(tmp_path_factory, {})


def member_of(state: dict[str, np.ndarray], member: int) -> dict[str, np.ndarray]:
    return {name: x[member, ...] for name, x in state.items()}


def assert_same_logs(found: list[dict[str, float]], each: list[list[dict[str, float]]]) -> None:
    """Of every step and metric mean and standard deviation are those of the runs alone."""
    assert len(found) == len(each[0])
    for step, logged in enumerate(found):
        expected = {}
        for name in each[0][step]:
            values = [logs[step][name] for logs in each]
            mean = math.fsum(values) / COUNT
            expected[name] = mean
            expected[name + "_std"] = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (COUNT - 1))
        assert logged == pytest.approx(expected, abs=1e-5), step + 1


def assert_each_is_its_run(found: Trained, runs: list[Trained]) -> None:
    """To 1e-5 in the metrics of every step."""
    assert_same_logs(found.logs, [run.logs for run in runs])
    assert [told["seed"] for told in found.result.members] == [3, 4, 5]
    assert found.meta["members"] == list(found.result.members)
    for member, run in enumerate(runs):
        assert found.result.members[member]["metrics"] == pytest.approx(run.result.metrics, abs=1e-5)
        state = member_of(found.state, member)
        assert list(state) == list(run.state)
        for name, x in state.items():
            assert (x.shape, x.dtype) == (run.state[name].shape, run.state[name].dtype)
            np.testing.assert_allclose(x, run.state[name], rtol=1e-3, atol=1e-4, err_msg=name)
        assert (found.result.step, found.result.images_seen) == (run.result.step, run.result.images_seen)


def several(kind: str, devices: int, window: int, slow: bool = False):
    return pytest.param(kind, devices, window, marks=[needs_devices, *([pytest.mark.slow] if slow else [])])


@pytest.mark.parametrize(
    ("kind", "devices", "window"),
    [
        ("none", 1, 1),
        ("none", 1, 2),
        several("pmap", 2, 1),
        several("pmap", 4, 1, slow=True),
        several("pmap", 4, 2, slow=True),
        several("sharded", 4, 1),
        several("sharded", 4, 2, slow=True),
    ],
)
def test_together_each_is_its_run_alone(alone, tmp_path, monkeypatch, kind, devices, window):
    """With batches and noise of each seed's own."""
    some = jax.devices()[:devices]
    monkeypatch.setattr(parallel.jax, "devices", lambda: some)
    assert_each_is_its_run(train(tmp_path, toy(COUNT), parallel=kind, window=window), alone)


STAGES: dict[str, Any] = {"steps": (3, 2), "generator_due": SECOND}


@pytest.mark.slow
@pytest.mark.parametrize("window", [1, 2])
def test_together_over_stages(tmp_path_factory, tmp_path, window):
    """The second of which inherits, with a phase that is seldom due."""
    runs = each_alone(tmp_path_factory, STAGES, window=window)
    assert_each_is_its_run(train(tmp_path, toy(COUNT, **STAGES), window=window), runs)


@pytest.mark.parametrize(
    ("window", "parallel", "stages"),
    [
        pytest.param(1, "none", {"steps": (2, 1)}, marks=pytest.mark.slow),
        pytest.param(1, "none", STAGES, marks=pytest.mark.slow),
        pytest.param(2, "none", STAGES, marks=pytest.mark.slow),
        pytest.param(1, "pmap", {}, marks=[needs_devices, pytest.mark.slow]),
    ],
)
def test_in_turn_each_has_the_bits_of_its_run_alone(tmp_path_factory, tmp_path, window, parallel, stages):
    made = {"convolves": True} | stages
    runs = each_alone(tmp_path_factory, made, window=window, parallel=parallel)
    found = train(tmp_path, toy(COUNT, **made), window=window, parallel=parallel)
    assert_each_is_its_run(found, runs)
    for member, run in enumerate(runs):
        assert found.result.members[member] == {"seed": SEED + member, "metrics": run.result.metrics}
        assert fingerprint(member_of(found.state, member)) == run.result.fingerprint
    assert len({run.result.fingerprint for run in runs}) == COUNT


@pytest.mark.parametrize(
    ("convolves", "window", "stages", "stops"),
    [
        (False, 1, {}, (1,)),
        pytest.param(False, 1, STAGES, (1, 3, 4), marks=pytest.mark.slow),
        pytest.param(False, 2, STAGES, (1, 3, 4), marks=pytest.mark.slow),
        pytest.param(True, 1, STAGES, (1, 3, 4), marks=pytest.mark.slow),
    ],
)
def test_stopped_and_taken_up_again_it_has_the_same_bits(tmp_path, convolves, window, stages, stops):
    """Within a stage, at its end, and after it."""

    def part(folder: str, stop: int | None) -> Trained:
        return train(tmp_path / folder, toy(2, convolves=convolves, **stages), stop=stop, window=window)

    whole = part("whole", None)
    for stop in (*stops, None):
        last = part("parts", stop)
    assert last.result.fingerprint == whole.result.fingerprint
    assert last.result.members == whole.result.members
    assert last.result.metrics == whole.result.metrics
    assert last.result.resumed_from == list(stops)
    done = part("parts", None)  # a run at its end knows its members' metrics
    assert done.result.first_step_seconds is None
    assert done.result.members == whole.result.members


def test_one_seed_is_saved_and_told_as_ever(alone):
    run = alone[0]
    assert run.result.members == ()
    assert "members" not in run.meta
    assert run.state["step"].shape == ()
    assert not any(name.endswith("_std") for name in run.result.metrics)


def test_progress_shows_means_and_the_preview_the_first_member(tmp_path):
    found = train(tmp_path / "two", toy(2), stop=1, preview_steps=1, draws=True)
    one = train(tmp_path / "one", toy(), stop=1, preview_steps=1, draws=True)
    assert one.recorder.steps("preview") == [0, 1]
    (_, shown) = found.recorder.of("progress")[-1].content
    assert sorted(shown) == ["discriminator_loss", "draw", "filled", "generator_loss"]
    assert shown == {name: found.result.metrics[name] for name in shown}
    for mine, theirs in zip(found.recorder.of("preview"), one.recorder.of("preview"), strict=True):
        np.testing.assert_allclose(mine.content[0], theirs.content[0], atol=1e-5)


@pytest.mark.parametrize("convolves", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_member_that_diverges_is_named_by_its_seed(tmp_path_factory, tmp_path, alone, convolves):
    """The generator's loss is NaN at the third step where it is above those of all but one."""
    runs = each_alone(tmp_path_factory, {"convolves": True}) if convolves else alone
    losses = [run.logs[2]["generator_loss"] for run in runs]
    limit = sum(sorted(losses)[-2:]) / 2

    def spoil(step, value):
        return jnp.where((step == 2) & (value > limit), jnp.nan, value)

    experiment = toy(COUNT, convolves=convolves, spoil=spoil)
    seed = SEED + losses.index(max(losses))
    with pytest.raises(RunError, match=rf"^step 3: generator_loss is nan with seed {seed}\. There is no"):
        train(tmp_path, experiment)


def test_a_state_that_diverges_is_named_by_its_seed(tmp_path):
    w = np.ones((3, 2), np.float32)
    w[1, 1] = np.inf
    state: Any = {"w": w}
    meta = {"members": [{"seed": seed, "metrics": {}} for seed in (7, 8, 9)]}
    with pytest.raises(RunError, match=r"^step 4: w is not finite with seed 8\. There is no checkpoint yet"):
        Checkpoints(tmp_path).save(4, state, meta)


def test_a_checkpoint_without_its_members_is_damaged():
    experiment = toy_experiment(seeds=2)
    meta: dict[str, Any] = {"step": 1, "stage": 0, "images_seen": 8, "wall_seconds": 1.0, "resumed_from": []}
    meta["metrics"] = {"x": 1.0, "x_std": 0.0}
    each = [{"seed": 0, "metrics": {"x": 1.0}}, {"seed": 1, "metrics": {"x": 1.0}}]
    form = loop.saved_state(experiment, meta | {"members": each})
    assert form.step.shape == (2,)
    bad = (None, {}, each[:1], [*each, each[0]], [1, 2], [each[0], {"seed": 1}])
    worse = ([each[0], {"seed": "1", "metrics": {}}], [each[0], {"seed": 1, "metrics": {"x": 1}}])
    for members_ in (*bad, *worse):
        with pytest.raises(ValueError, match="its meta has no members, or such as are never saved"):
            loop.saved_state(experiment, meta | {"members": members_})


# Which way.


def test_convolutions_on_a_cpu_go_in_turn_and_all_else_together(monkeypatch):
    def kind(seeds: int, convolves: bool) -> type:
        stage = toy_experiment(convolves=convolves).stages[0]
        form = lambda: loop.abstract_state(toy_experiment(convolves=convolves), 0)  # noqa: E731
        placed = arrangement("none", stage.batch_size)
        return type(members.runner(seeds, form, placed, stage.gan, stage.data.transform, 8, 5))

    assert kind(1, True) is kind(1, False) is Runner
    assert kind(2, False) is Together
    assert kind(2, True) is (InTurn if jax.default_backend() == "cpu" else Together)
    monkeypatch.setattr(members.jax, "default_backend", lambda: "gpu")
    assert kind(2, True) is Together


@pytest.mark.slow
def test_convolutions_together_train_what_they_do_in_turn(tmp_path, monkeypatch):
    """As they go on an accelerator."""
    turn = train(tmp_path / "turn", toy(2, convolves=True))
    monkeypatch.setattr(members, "InTurn", Together)
    together = train(tmp_path / "together", toy(2, convolves=True))
    for mine, theirs in zip(together.result.members, turn.result.members, strict=True):
        assert mine["metrics"] == pytest.approx(theirs["metrics"], abs=1e-5)


@pytest.mark.parametrize("kind", [Together, InTurn])
def test_the_state_is_donated_and_what_is_got_is_what_was_put(kind):
    stage = toy().stages[0]
    runner = kind(arrangement("none", 8), stage.gan, stage.data.transform, 8, 5, count=2)
    each = [loop.stage_key(seed, 0) for seed in (0, 1)]
    host = members.joined((runner.create(key, stage.data.example(8)) for key in each), 2)
    kept = runner.get(runner.put(host))
    assert fingerprint(kept) == fingerprint(host)
    source = MemberSource(stage.data, 2)
    state = runner.put(host)
    last, _ = runner.step(state, source.read(source.indices(0, 0, 8)), members.keys(each), 0)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state) if leaf.ndim > 1)
    assert fingerprint(kept) == fingerprint(host) != fingerprint(runner.get(last))


@needs_devices
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "pmap"])
def test_an_experiment_goes_together_as_on_accelerators(tmp_path, monkeypatch, kind):
    """With batch statistics over the devices, and this package's own convolutions."""
    name = "cgan_mnist"
    module = importlib.import_module(f"experiments.{name}")
    settings = config.override(module.Config(), module.TINY, experiment=name)
    experiment = module.build(settings, data.load)._replace(seeds=2)
    turn = train(tmp_path / "turn", experiment, parallel=kind)
    monkeypatch.setattr(members, "InTurn", Together)
    together = train(tmp_path / "together", experiment, parallel=kind)
    assert turn.logs
    for mine, theirs in zip(together.logs, turn.logs, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


@needs_devices
@pytest.mark.slow
def test_members_that_are_spread_over_devices(tmp_path):
    """As `--model_parallel` spreads a model."""
    wide = toy(2, hidden=512)
    whole = train(tmp_path / "whole", wide)
    spread = train(tmp_path / "spread", wide, parallel="sharded", model_parallel=2)
    for mine, theirs in zip(spread.logs, whole.logs, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


# Batches.


class Pair:
    """A source of two sets, whose indices are a tree."""

    def __init__(self):
        self.a, self.b = Images(24, num_classes=3), Images(10)

    def indices(self, seed, start, count):
        return {"a": self.a.indices(seed, start, count), "b": self.b.indices(seed, start, count)}

    def example(self, count):
        return {"a": self.a.example(count), "b": self.b.example(count)}

    def read(self, indices):
        return {"a": self.a.read(indices["a"]), "b": self.b.read(indices["b"])}

    def resident(self):
        return None

    def transform(self, batch, context):
        return batch


def test_batches_have_the_members_on_axis_one():
    """Also where they are read by threads, part by part, and where a source joins several."""
    sources: list[Any] = [Images(30, num_classes=3), Pair()]
    for source in sources:
        joint = MemberSource(source, 2)
        for workers in (0, 2):
            with Feed(joint, seed=7, first=40, batch_size=40, count=2, workers=workers) as feed:
                batches = list(feed)
            assert len(batches) == 2
            for k, batch in enumerate(batches):
                for member in range(2):
                    expected = source.read(source.indices(7 + member, 40 * (k + 1), 40))
                    mine = jax.tree.map(lambda x, m=member: x[:, m], batch)
                    jax.tree.map(np.testing.assert_array_equal, mine, expected)
        shapes = jax.tree.map(lambda x: (x.shape, x.dtype), joint.example(40))
        assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), batches[0])


def test_the_rows_of_a_process():
    source = MemberSource(Images(30), 2)
    with Feed(source, seed=0, first=0, batch_size=8, count=1, rows=slice(2, 6)) as feed:
        batch = next(feed)
    np.testing.assert_array_equal(batch["image"], source.read(source.indices(0, 0, 8)[2:6])["image"])


# Metrics.


def test_the_summary_is_mean_and_sample_standard_deviation():
    each = [{"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 2.0}, {"a": 6.0, "b": 2.0}]
    assert members.summary(each) == {"a": 3.0, "a_std": pytest.approx(7**0.5), "b": 2.0, "b_std": 0.0}
    assert members.summary(each[:1]) == {"a": 1.0, "b": 2.0}
    huge = members.summary([{"a": 3e38}, {"a": 3e38}])  # the sum is beyond float32
    assert huge == {"a": 3e38, "a_std": 0.0}
    with pytest.raises(UsageError, match=r"the metric a_std has the name of the standard deviation of a"):
        members.summary([{"a": 1.0, "a_std": 1.0}] * 2)


def test_the_names_of_a_runs_metrics(alone):
    each = [run.result.metrics for run in alone]
    assert loop.metric_names(toy(2)) == sorted(members.summary(each))
    assert loop.metric_names(toy()) == sorted(each[0])


def test_a_dispatchs_metrics_in_every_form():
    turn = {"x": (np.array([1.0, 2.0]), np.array([3.0, 4.0]))}
    np.testing.assert_array_equal(members.columns(turn, 2)["x"], [[1, 3], [2, 4]])
    together = {"x": np.array([[1.0, 3.0], [2.0, 4.0]])}
    np.testing.assert_array_equal(members.columns(together, 2)["x"], [[1, 3], [2, 4]])
    np.testing.assert_array_equal(members.columns({"x": np.float32(5)}, 1)["x"], [[5]])


# What is refused.


def test_seeds_that_there_are_not():
    for seed, count, message in (
        (0, 0, r"^--config\.seeds=0: expected at least 1$"),
        (2**32 - 2, 3, r"^--seed=4294967294: with 3 seeds, the last would be beyond 4294967295$"),
    ):
        with pytest.raises(UsageError, match=message):
            loop.train(toy_experiment(seeds=count), seed=seed, observer=Recorder(), parallel="none")
    members.check(2**32 - 2, 2)


def test_members_that_there_are_not():
    members.check_member(4, 10, 5)
    for member, count, message in (
        (5, 5, r"^--member=5: the run has members 0-4, of the seeds 10-14$"),
        (1, 1, r"^--member=1: the run has one seed$"),
    ):
        with pytest.raises(UsageError, match=message):
            members.check_member(member, 10, count)


def test_a_state_of_one_member_is_the_state():
    state = loop.abstract_state(toy_experiment(), 0)
    assert members.of(state, 0, 1) is members.joined([state], 1) is members.form_of(state, 1) is state
    form = flatten(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), members.form_of(state, 4)))
    assert all(leaf.shape[0] == 4 for leaf in form.values())
