"""Several seeds in one run: each is a member, which is trained as the run with that seed alone would be.

Members share nothing but the program and the files. On the host a state of S > 1 members is a state whose
leaves have them on a leading axis, so that it is saved, restored and compared as any other; a raw batch has
them on axis 1, so that it is fed and split over devices as any other. A run of one seed has no such axes, and
nothing here changes it.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax.data import Source
from ganjax.errors import UsageError
from ganjax.gan import Array, Batch, Context, GanState, Tree
from ganjax.parallel import VOTE, Runner

MAX_SEED = 2**32 - 1
STD = "_std"  # at the end of a metric's name: the standard deviation over the members


def check(seed: int, count: int) -> None:
    """Raises UsageError unless `seed` and the following ones, `count` in all, are seeds."""
    if count < 1:
        raise UsageError(f"--config.seeds={count}: expected at least 1")
    if count > 1 and seed + count - 1 > MAX_SEED:
        raise UsageError(f"--seed={seed}: with {count} seeds, the last would be beyond {MAX_SEED}")


def check_member(member: int, seed: int, count: int, flag: str = "--member") -> None:
    """Raises UsageError unless a run of `count` seeds from `seed` on has this member."""
    if not 0 <= member < count:
        has = f"members 0-{count - 1}, of the seeds {seed}-{seed + count - 1}" if count > 1 else "one seed"
        raise UsageError(f"{flag}={member}: the run has {has}")


# States.


def of(state: GanState, member: int, count: int) -> GanState:
    """One member of a host state; the state itself where it has one. Views, not copies."""
    return state if count == 1 else jax.tree.map(lambda x: x[member, ...], state)


def joined(states: Iterable[GanState], count: int) -> GanState:
    """The host state of `count` members. They are taken one by one: what it needs besides is one member."""
    states = iter(states)
    first = next(states)
    if count == 1:
        return first
    whole = jax.tree.map(lambda x: np.empty((count, *np.shape(x)), np.asarray(x).dtype), first)
    for member in range(count):
        jax.tree.map(lambda to, x: to.__setitem__(member, x), whole, first if not member else next(states))
    return whole


def form_of(form: GanState, count: int) -> GanState:
    """Shapes and types of the host state of `count` members, from those of one."""
    if count == 1:
        return form
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), form)


# Batches.


class MemberSource:
    """A `Source` whose raw batches hold the examples of `count` members on axis 1; `transform` is of one."""

    def __init__(self, source: Source, count: int):
        self._source, self._count = source, count

    def indices(self, seed: int, start: int, count: int) -> Any:
        """int64 [count, members], or a tree of them: each member's as they are in the run of its own."""
        each = [self._source.indices(seed + member, start, count) for member in range(self._count)]
        return jax.tree.map(lambda *x: np.stack(x, axis=1), *each)

    def example(self, count: int) -> Any:
        """Raw examples of the right form, without reading any."""
        return jax.tree.map(lambda x: np.stack([x] * self._count, axis=1), self._source.example(count))

    def read(self, indices: Any) -> Any:
        """The raw examples at `indices` [n, members]."""
        examples = self._source.read(jax.tree.map(np.ravel, indices))
        return jax.tree.map(lambda x: x.reshape(-1, self._count, *x.shape[1:]), examples)

    def resident(self) -> Any:
        """The whole raw set, which the members share."""
        return self._source.resident()

    def transform(self, batch: Batch, context: Context) -> Batch:
        """The examples of one member."""
        return self._source.transform(batch, context)


# Steps.


class Together(Runner):
    """All members in one program, by `vmap` of the step: metrics are [members], or [window, members].

    What takes a state, a raw batch, indices or a key takes them of all members; `create` makes one member.
    """

    def __init__(self, *args: Any, count: int):
        super().__init__(*args)
        self._metric_shape = (count,)

    def _one(
        self,
        state: GanState,
        raw: Tree,
        key: Array,
        switches: Array,
        vote: Array | None = None,
        *,
        static: tuple[int, ...] | None = None,
        axis_name: str | None = None,
    ) -> tuple[GanState, dict[str, Array]]:
        one = functools.partial(super()._one, static=static, axis_name=axis_name)
        state, metrics = jax.vmap(one, in_axes=(0, 1, 0, None))(state, raw, key, switches)
        return state, metrics | self._counted(vote, axis_name)


class InTurn(Runner):
    """One program of one member, which all members go through in turn: each has the bits of its run alone.

    The state on the devices is a tuple, and so is each metric. What `Together` says of arguments holds here.
    """

    def __init__(self, *args: Any, count: int):
        super().__init__(*args)
        self._count = count

    def put(self, state: GanState) -> Any:
        """A host state onto the devices: a tuple of the members' states."""
        return tuple(super(InTurn, self).put(of(state, m, self._count)) for m in range(self._count))

    def get(self, state: Any) -> GanState:
        """What `put` gave, to the host."""
        return joined((super(InTurn, self).get(member) for member in state), self._count)

    def step(self, state: Any, raw: Tree, key: Array, step: int, vote: int = 0) -> tuple[Any, dict[str, Any]]:
        """One step of every member."""
        one = super().step
        return _gathered(
            one(member, jax.tree.map(lambda x, m=m: x[:, m], raw), key[m], step, vote)
            for m, member in enumerate(state)
        )

    def steps(
        self, state: Any, arrays: Tree, indices: Sequence[Tree], key: Array, step: int, vote: int = 0
    ) -> tuple[Any, dict[str, Any]]:
        """Several steps of every member, each member's in one dispatch."""
        many = super().steps
        return _gathered(
            many(member, arrays, jax.tree.map(lambda x, m=m: x[:, m], indices), key[m], step, vote)
            for m, member in enumerate(state)
        )


def _gathered(results: Iterable[tuple[GanState, Mapping[str, Array]]]) -> tuple[Any, dict[str, Any]]:
    """Of every member its state and its metrics; of the votes, which are the same of all, one."""
    states, metrics = zip(*results, strict=True)
    names = metrics[0]
    return states, {name: names[name] if name == VOTE else tuple(m[name] for m in metrics) for name in names}


def runner(count: int, form: Callable[[], GanState], *args: Any) -> Runner:
    """A `Runner` of so many members.

    Several go together, but for convolutions on a CPU: a vmapped convolution's gradient is three times
    slower there than those of the members in turn.

    Args:
      count: of members.
      form: gives the shapes of one member's state. A parameter of four or more axes is taken for the kernel
        of a convolution.
      *args: for `Runner`.
    """
    if count == 1:
        return Runner(*args)
    convolves = any(len(x.shape) >= 4 for x in jax.tree.leaves(form().params))
    kind = InTurn if convolves and jax.default_backend() == "cpu" else Together
    return kind(*args, count=count)


def keys(each: Sequence[Array]) -> Array:
    """PRNG keys [members]; the key itself where there is one."""
    return each[0] if len(each) == 1 else jnp.stack(each)


# Metrics.


def are_saved(value: Any, count: int) -> bool:
    """Whether it is what a checkpoint's description has of so many members: seed and metrics of each."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(member, dict) and type(member.get("seed")) is int for member in value)
        and all(isinstance(member.get("metrics"), dict) for member in value)
        and all(type(x) is float for member in value for x in member["metrics"].values())
    )


def columns(metrics: Mapping[str, Any], count: int) -> dict[str, np.ndarray]:
    """A dispatch's metrics on the host, as any `Runner` gives them: [steps, members] each."""
    found = jax.device_get(dict(metrics))
    stacked = {name: np.stack(x, axis=-1) if isinstance(x, tuple) else x for name, x in found.items()}
    return {name: np.reshape(x, (-1, count)) for name, x in stacked.items()}


def summary(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the members, and its standard deviation (of a sample) as NAME_std.

    Of one member, its metrics as they are.

    Raises:
      UsageError: a metric has the name that another's standard deviation would have.
    """
    if len(each) == 1:
        return dict(each[0])
    for name in each[0]:
        if name + STD in each[0]:
            raise UsageError(
                f"the metric {name + STD} has the name of the standard deviation of {name} over the seeds; "
                "give it another, or train one seed"
            )
    table = np.array([[metrics[name] for name in each[0]] for metrics in each], np.float64)
    means, deviations = np.mean(table, axis=0).tolist(), np.std(table, axis=0, ddof=1).tolist()
    found: dict[str, float] = {}
    for name, mean, deviation in zip(each[0], means, deviations, strict=True):
        found[name], found[name + STD] = mean, deviation
    return found


def names(metrics: Iterable[str], count: int) -> list[str]:
    """The names that `summary` gives of metrics of these names, sorted."""
    return sorted({name + end for name in metrics for end in ("", *([STD] if count > 1 else []))})
