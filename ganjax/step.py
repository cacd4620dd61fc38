"""The one training step: pure, undecorated, for every family.

    state = create_state(gan, key, batch)
    state, metrics = train_step(gan, state, batch, key)

The same `key` serves every step: the state's step number is folded in. Put the transform outside:
`jax.jit(functools.partial(train_step, gan))`, or `pmap` with `axis_name`; `ganjax.parallel` does so.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from ganjax import random
from ganjax.gan import Array, Batch, Context, Effects, Gan, GanState, Phase, Tree


def create_state(gan: Gan, key: Array, batch: Batch) -> GanState:
    """The state at step 0.

    Args:
      gan: what will be trained.
      key: PRNG key.
      batch: an example batch; only its shapes and types matter.
    Raises:
      ValueError: where a part of `gan` names a player that `init` did not make, or a player that moves
        has no optimizer.
    """
    params, stats, carry = gan.init(random.stream(key, "init"), batch)
    _check_names(gan, params)
    for player, project in gan.constrain.items():
        params = {**params, player: project(params[player])}
    return GanState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats={player: stats.get(player, {}) for player in params},
        opt_state={player: opt.init(params[player]) for player, opt in gan.optimizers.items()},
        # A copy: the averaged parameters must not share a buffer with those that are donated.
        ema={player: jax.tree.map(jnp.copy, params[player]) for player in gan.ema},
        carry=carry,
    )


def _check_names(gan: Gan, params: Mapping[str, Tree]) -> None:
    moving = {phase.player for phase in gan.phases}
    for part, names in {
        "phases": moving,
        "optimizers": set(gan.optimizers),
        "ema": set(gan.ema),
        "constrain": set(gan.constrain),
    }.items():
        if not names <= set(params):
            raise ValueError(
                f"{part} name {sorted(names - set(params))}, but the players are {sorted(params)}"
            )
    if not moving <= set(gan.optimizers):
        raise ValueError(
            f"no optimizer for {sorted(moving - set(gan.optimizers))}, only for {sorted(gan.optimizers)}"
        )


def train_step(
    gan: Gan,
    state: GanState,
    batch: Batch,
    key: Array,
    *,
    due: tuple[int, ...] | Mapping[int, Array | bool] | None = None,
    axis_name: str | None = None,
    ordered: bool = False,
) -> tuple[GanState, dict[str, Array]]:
    """One batch: every phase that is due, in order, then the moving averages.

    Args:
      gan: what is trained.
      state: before the step.
      batch: a tree whose leaves have the (local) batch first.
      key: PRNG key, the same at every step of a stage.
      due: the indices in `gan.phases` of those that run now (`ganjax.gan.due_phases`), default all. Static;
        or, of each index that may be due, whether it is: True, or a scalar on the device, so that one program
        serves steps of several kinds.
      axis_name: the axis of an enclosing `pmap`, over which gradients and metrics are averaged.
      ordered: they are added in the axis' order, so that the bits do not depend on how the devices are laid
        out over processes; slower on many devices.
    Returns:
      the state after the step, and metrics by name, float32 scalars; NaN where no phase that was due has it.
    Raises:
      ValueError: where the batch's leaves differ in size, or a phase's micro-batches do not divide it.
    """
    state, by_phase = phased_step(gan, state, batch, key, due=due, axis_name=axis_name, ordered=ordered)
    return state, joined_metrics(by_phase)


def phased_step(
    gan: Gan,
    state: GanState,
    batch: Batch,
    key: Array,
    *,
    due: tuple[int, ...] | Mapping[int, Array | bool] | None = None,
    axis_name: str | None = None,
    ordered: bool = False,
) -> tuple[GanState, dict[int, tuple[Array | bool, dict[str, Array]]]]:
    """`train_step`, with the metrics of every phase by themselves: index -> (whether it was due, metrics)."""
    context = step_context(state, batch, key, axis_name, ordered)
    due = tuple(range(len(gan.phases))) if due is None else due
    switches = dict(due) if isinstance(due, Mapping) else dict.fromkeys(due, True)
    metrics: dict[int, tuple[Array | bool, dict[str, Array]]] = {}
    moved: dict[str, Array | bool] = {}
    for i in sorted(switches):
        phase, switch = gan.phases[i], switches[i]
        move = functools.partial(_descend, gan, phase, batch=batch, context=context)
        state, values = move(state) if switch is True else _perhaps(move, phase.player, state, switch)
        metrics[i] = switch, values
        before = moved.get(phase.player, False)
        moved[phase.player] = True if before is True or switch is True else jnp.logical_or(before, switch)
    ema = dict(state.ema)
    for player in sorted(set(moved) & set(ema)):
        decay = gan.ema[player](state.step)
        after = optax.incremental_update(state.params[player], ema[player], 1.0 - decay)
        ema[player] = after if moved[player] is True else _either(moved[player], after, ema[player])
    return state.replace(step=state.step + 1, ema=ema), metrics


def joined_metrics(by_phase: Mapping[int, tuple[Array | bool, Mapping[str, Array]]]) -> dict[str, Array]:
    """By name what `phased_step` gives by phase; of several phases that were due the last one's."""
    metrics: dict[str, Array] = {}
    for switch, values in by_phase.values():
        for name, value in values.items():
            alone = switch is True or name not in metrics
            metrics[name] = value if alone else jnp.where(switch, value, metrics[name])
    return metrics


def _either(switch: Array | bool, chosen: Tree, other: Tree) -> Tree:
    return jax.tree.map(lambda x, y: jnp.where(switch, x, y), chosen, other)


def _perhaps(
    move: Callable[[GanState], tuple[GanState, dict[str, Array]]],
    player: str,
    state: GanState,
    switch: Array | bool,
) -> tuple[GanState, dict[str, Array]]:
    """`move(state)` where the device finds `switch` true; else the state as it is, and metrics of NaN.

    Only what a phase of this player may change goes through the branch: of the rest the compiler sees that
    it stays the same, so that what was computed of it before the branch need not be computed again after it.
    """

    def parts(state: GanState) -> tuple[Tree, ...]:
        mine = tuple(part[player] for part in (state.params, state.opt_state, state.stats))
        return (*mine, state.carry)

    def with_parts(given: tuple[Tree, ...]) -> GanState:
        params, opt_state, stats, carry = given
        return state.replace(
            params={**state.params, player: params},
            opt_state={**state.opt_state, player: opt_state},
            stats={**state.stats, player: stats},
            carry=carry,
        )

    def moved(given: tuple[Tree, ...]) -> tuple[tuple[Tree, ...], dict[str, Array]]:
        after, values = move(with_parts(given))
        return parts(after), values

    form = jax.eval_shape(moved, parts(state))[1]

    def left(given: tuple[Tree, ...]) -> tuple[tuple[Tree, ...], dict[str, Array]]:
        return given, {name: jnp.full(x.shape, jnp.nan, x.dtype) for name, x in form.items()}

    after, values = jax.lax.cond(switch, moved, left, parts(state))
    return with_parts(after), values


def step_context(
    state: GanState, batch: Batch, key: Array, axis_name: str | None = None, ordered: bool = False
) -> Context:
    """The context of this state's step: its key, and which examples of the global batch are here."""
    sizes = {x.shape[0] for x in jax.tree.leaves(batch)}
    if len(sizes) != 1:  # taken for one size, the longer leaves would be cut off in silence
        raise ValueError(f"a batch's leaves have one size on their first axis; got {sorted(sizes)}")
    (size,) = sizes
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * size
    return Context(
        key=jax.random.fold_in(key, state.step),
        index=first + jnp.arange(size, dtype=jnp.int32),
        axis_name=axis_name,
        ordered=ordered,
    )


def _descend(
    gan: Gan, phase: Phase, state: GanState, *, batch: Batch, context: Context
) -> tuple[GanState, dict[str, Array]]:
    player = phase.player
    context = context._replace(key=random.stream(context.key, phase.stream or player))
    gradient = jax.value_and_grad(phase.loss, has_aux=True)

    def part(state: GanState, examples: Batch, index: Array) -> tuple[GanState, tuple[Tree, Tree]]:
        (_, effects), grads = gradient(state.params[player], state, examples, context._replace(index=index))
        metrics = {name: jnp.asarray(x, jnp.float32) for name, x in effects.metrics.items()}
        return _keep(state, player, effects), (grads, metrics)

    if phase.accumulate == 1:
        state, means = part(state, batch, context.index)
    else:
        state, means = _over_parts(part, state, *_split(batch, context.index, phase.accumulate))
    grads, values = context.mean(means)
    optimizer = optax.with_extra_args_support(gan.optimizers[player])
    updates, opt_state = optimizer.update(
        grads, state.opt_state[player], state.params[player], step=state.step
    )
    params = optax.apply_updates(state.params[player], updates)
    if player in gan.constrain:
        params = gan.constrain[player](params)
    state = state.replace(
        params={**state.params, player: params}, opt_state={**state.opt_state, player: opt_state}
    )
    return state, values


def _keep(state: GanState, player: str, effects: Effects) -> GanState:
    """Of a loss's effects, what outlives it: the moving player's statistics and the carry."""
    stats = {**state.stats, player: effects.stats.get(player, state.stats[player])}
    return state.replace(stats=stats, carry=state.carry if effects.carry is None else effects.carry)


def _split(batch: Batch, index: Array, parts: int) -> tuple[Batch, Array]:
    """Micro-batches, [n, ...] to [parts, n / parts, ...], and their examples' places.

    Each has every `parts`-th example, so that it has the same ones however the batch is split over devices.
    """
    size = index.shape[0]
    if parts < 1 or size % parts:
        raise ValueError(f"accumulate={parts} micro-batches do not divide the (local) batch of {size}")

    def dealt(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(size // parts, parts, *x.shape[1:]), 1, 0)

    return jax.tree.map(dealt, batch), dealt(index)


def looped() -> bool:
    """Whether micro-batches go through one loop, which compiles one and holds the results of one at a time.

    Not on a CPU: there XLA runs convolutions inside a loop on one thread.
    """
    return jax.default_backend() != "cpu"


def _over_parts(
    part: Callable[[GanState, Batch, Array], tuple[GanState, Tree]],
    state: GanState,
    batches: Batch,
    indices: Array,
) -> tuple[GanState, Tree]:
    """The state after all micro-batches in turn, and the mean of what `part` gives of each."""
    count = indices.shape[0]
    if not looped():
        found = []
        for i in range(count):
            state, values = part(state, jax.tree.map(lambda x, i=i: x[i], batches), indices[i])
            found.append(values)
        return state, _average(found)

    def body(carry: tuple[Tree, Tree], inputs: tuple[Batch, Array]) -> tuple[tuple[Tree, Tree], None]:
        (stats, memory), total = carry
        after, values = part(state.replace(stats=stats, carry=memory), *inputs)
        return ((after.stats, after.carry), jax.tree.map(jnp.add, total, values)), None

    form = jax.eval_shape(lambda: part(state, jax.tree.map(lambda x: x[0], batches), indices[0])[1])
    total = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), form)
    carry, _ = jax.lax.scan(body, ((state.stats, state.carry), total), (batches, indices))
    (stats, memory), total = carry
    return state.replace(stats=stats, carry=memory), jax.tree.map(lambda x: x / count, total)


def _average(trees: list) -> Tree:
    return jax.tree.map(lambda *xs: sum(xs[1:], xs[0]) / len(xs), *trees)
