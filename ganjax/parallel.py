"""Runs the pure step on devices: one device, `pmap`, or one program over a sharded mesh.

A `Runner` holds compiled programs and no state. Each distinct set of due phases is a program of its own,
or, where several steps go into one dispatch, a branch of one program.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ganjax import random
from ganjax.errors import UsageError
from ganjax.gan import Array, Context, Gan, GanState, Tree, due_phases
from ganjax.step import create_state, step_context, train_step

AXIS = "data"
KINDS = ("auto", "none", "pmap", "sharded")


@functools.cache
def compiler_options() -> dict[str, Any] | None:
    """XLA options for our own programs on the default backend; None where there are none to set.

    On a CPU, matrix products run through YNN one by one, and convolutions, which it takes over by default
    and can be ten times slower at, do not. The option is experimental: a jaxlib that does not know it is
    left as it is.
    """
    if jax.default_backend() != "cpu":
        return None
    options = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options).lower(jnp.zeros(())).compile()
    except Exception:
        return None
    return options


def arrangement(kind: str, batch_size: int) -> tuple[str, list[Any]]:
    """Which of "none", "pmap" and "sharded" it will be, and on which devices.

    Args:
      kind: one of `KINDS`. "auto" is "pmap" on several devices and "none" on one.
      batch_size: of the global batch.
    Raises:
      UsageError: the kind is unknown, or the batch does not split evenly.
    """
    if kind not in KINDS:
        raise UsageError(f"--parallel={kind}: expected one of {', '.join(KINDS)}")
    devices = jax.devices()
    if kind == "auto":
        kind = "pmap" if len(devices) > 1 else "none"
    if kind == "none":
        devices = devices[:1]
    if batch_size % len(devices):
        raise UsageError(
            f"--config.batch_size={batch_size}: it does not split evenly over {len(devices)} devices"
        )
    return kind, devices


class Program:
    """A function compiled at its first call, with the seconds that took.

    Args:
      function: has been through `jit` or `pmap`.
      once: it will run once: on a CPU, compiling quickly matters more than running quickly.
    """

    def __init__(self, function: Any, once: bool = False):
        self._function, self._once = function, once
        self._compiled: Callable | None = None
        self.compile_seconds = 0.0

    def __call__(self, *args):
        if self._compiled is None:
            start = time.perf_counter()
            options = {"xla_backend_optimization_level": 1} if self._once else compiler_options()
            options = options if jax.default_backend() == "cpu" else None
            lowered = self._function.lower(*args)
            self._compiled = lowered.compile(compiler_options=options)
            self.compile_seconds = time.perf_counter() - start
        assert self._compiled is not None
        return self._compiled(*args)


class Runner:
    """Steps of one `Gan` on one arrangement of devices.

    Args:
      kind: one of `KINDS`. "auto" is "pmap" on several devices and "none" on one.
      gan: what is trained.
      transform: (raw batch, context) -> batch, traced into the step (`Source.transform`).
      batch_size: of the global batch.
      num_steps: of the stage: which sets of phases will be due.
      window: steps to one dispatch, at most; 1 dispatches each alone. Where a window is cut short does not
        change a bit; one step alone is compiled by itself and rounds differently.
    """

    def __init__(
        self, kind: str, gan: Gan, transform: Callable, batch_size: int, num_steps: int, window: int = 1
    ):
        kind, self.devices = arrangement(kind, batch_size)
        self.kind, self.gan, self.batch_size, self.window = kind, gan, batch_size, window
        self._transform = transform
        self._num_steps = num_steps
        self._mesh = Mesh(np.array(self.devices), (AXIS,))
        self._programs: dict[Any, Program] = {}
        self.metric_names: dict[tuple[int, ...], list[str]] = {}  # by the phases that are due, once traced

    @property
    def compile_seconds(self) -> float:
        """Seconds spent compiling so far."""
        return sum(program.compile_seconds for program in self._programs.values())

    def create(self, key: Array, raw: Tree) -> GanState:
        """The state at step 0, on the host. `raw` is an example of a raw batch."""
        with jax.default_device(self.devices[0]):
            return _to_host(self._program("create", lambda: jax.jit(self._create), once=True)(key, raw))

    def abstract(self, key: Array, raw: Tree) -> GanState:
        """Shapes and types of the state, without computing it."""
        return jax.eval_shape(self._create, key, raw)

    def _create(self, key: Array, raw: Tree) -> GanState:
        context = Context(key, jnp.arange(jax.tree.leaves(raw)[0].shape[0], dtype=jnp.int32))
        return create_state(self.gan, key, self._transform(raw, context))

    def put(self, state: GanState) -> GanState:
        """A host state onto the devices."""
        if self.kind == "pmap":
            n = len(self.devices)
            state = jax.tree.map(lambda x: np.broadcast_to(x, (n, *np.shape(x))), state)
        return jax.device_put(state, self._placement(PartitionSpec(AXIS) if self.kind == "pmap" else None))

    def get(self, state: GanState) -> GanState:
        """A device state to the host, as numpy arrays that own their memory."""
        return _to_host(jax.tree.map(lambda x: x[0], state) if self.kind == "pmap" else state)

    def put_resident(self, arrays: Tree) -> Tree:
        """A whole raw data set onto every device."""
        return jax.device_put(arrays, self._placement(None))

    def step(self, state: GanState, raw: Tree, key: Array, step: int) -> tuple[GanState, dict[str, Array]]:
        """One step.

        Args:
          state: on the devices; donated.
          raw: a raw batch on the host, `batch_size` examples.
          key: the stage's PRNG key.
          step: of the stage, the same number as in the state.
        Returns:
          the state, and the metrics by name, scalars still on a device.
        """
        due = due_phases(self.gan, step)
        if self.kind == "pmap":
            n = len(self.devices)
            raw = jax.tree.map(lambda x: x.reshape(n, x.shape[0] // n, *x.shape[1:]), raw)
        else:
            raw = jax.device_put(raw, self._placement(PartitionSpec(AXIS)))
        one = functools.partial(self._one, due=due, axis_name=self._axis_name)
        program = self._program(due, lambda: self._on_devices(one, in_axes=(0, 0, None)))
        state, metrics = program(state, raw, key)
        return state, {name: x[0] for name, x in metrics.items()} if self.kind == "pmap" else metrics

    def steps(
        self, state: GanState, arrays: Tree, indices: Sequence[Tree], key: Array, step: int
    ) -> tuple[GanState, dict[str, Array]]:
        """Several steps in one dispatch, on data that live on the device.

        The loop's trip count is dynamic: a window that is cut short runs the same program, so that a run
        has the same bits wherever it is stopped, saved or logged.

        Args:
          state: on the devices; donated.
          arrays: from `put_resident`.
          indices: the batches' indices (`Source.indices`), one a step, at most `window` of them.
          key: the stage's PRNG key.
          step: of the stage, of the first batch.
        Returns:
          the state, and metrics by name, [window] each, still on a device; NaN where a metric's phase
          was not due, and beyond the last batch.
        """
        dues = [due_phases(self.gan, step + i) for i in range(len(indices))]
        branches = self._distinct_dues
        which = [branches.index(due) for due in dues]
        which += [0] * (self.window - len(which))
        indices = [*indices, *[indices[-1]] * (self.window - len(indices))]
        stacked = jax.tree.map(lambda *xs: np.stack(xs).astype(np.int32), *indices)
        count = np.int32(len(dues))
        which = np.asarray(which, np.int32)
        if self.kind == "pmap":
            n = len(self.devices)
            stacked = jax.tree.map(lambda x: x.reshape(x.shape[0], n, -1), stacked)
        else:
            stacked = jax.device_put(stacked, self._placement(PartitionSpec(None, AXIS)))
        many = functools.partial(self._many, axis_name=self._axis_name)
        axes = (0, None, 1, None, None, None)
        program = self._program("window", lambda: self._on_devices(many, in_axes=axes))
        state, metrics = program(state, arrays, stacked, which, count, key)
        return state, {name: x[0] for name, x in metrics.items()} if self.kind == "pmap" else metrics

    def _on_devices(self, function: Callable, in_axes: tuple) -> Callable:
        """`function` under `pmap` or `jit`, its first argument donated; `in_axes` are pmap's."""
        if self.kind != "pmap":
            return jax.jit(function, donate_argnums=0)
        return jax.pmap(function, AXIS, in_axes=in_axes, devices=self.devices, donate_argnums=0)

    @property
    def _axis_name(self) -> str | None:
        return AXIS if self.kind == "pmap" else None

    @functools.cached_property
    def _distinct_dues(self) -> list[tuple[int, ...]]:
        return sorted({due_phases(self.gan, step) for step in range(self._num_steps)})

    def _many(self, state, arrays, indices, which, count, key, *, axis_name):
        def gather(i):
            return jax.tree.map(
                lambda index, examples: jax.tree.map(lambda x: x[index[i]], examples), indices, arrays
            )

        branches = [functools.partial(self._one, due=due, axis_name=axis_name) for due in self._distinct_dues]
        shapes = [jax.eval_shape(branch, state, gather(0), key)[1] for branch in branches]
        names = sorted({name for metrics in shapes for name in metrics})

        def padded(branch):
            def run(state, raw):
                state, metrics = branch(state, raw, key)
                missing = jnp.full((), jnp.nan, jnp.float32)
                return state, {name: metrics.get(name, missing) for name in names}

            return run

        def body(i, carried):
            state, history = carried
            state, metrics = jax.lax.switch(which[i], [padded(b) for b in branches], state, gather(i))
            return state, {name: history[name].at[i].set(metrics[name]) for name in names}

        history = {name: jnp.full((self.window,), jnp.nan, jnp.float32) for name in names}
        return jax.lax.fori_loop(0, count, body, (state, history))

    def _one(
        self, state: GanState, raw: Tree, key: Array, *, due: tuple[int, ...], axis_name: str | None = None
    ) -> tuple[GanState, dict[str, Array]]:
        context = step_context(state, raw, key, axis_name)
        batch = self._transform(raw, context._replace(key=random.stream(context.key, "raw batch to batch")))
        state, metrics = train_step(self.gan, state, batch, key, due=due, axis_name=axis_name)
        self.metric_names[due] = sorted(metrics)
        return state, metrics

    def _placement(self, spec: PartitionSpec | None):
        if self.kind == "none":
            return self.devices[0]
        return NamedSharding(self._mesh, spec or PartitionSpec())

    def _program(self, name: Any, build: Callable[[], Callable], once: bool = False) -> Program:
        if name not in self._programs:
            self._programs[name] = Program(build(), once)
        return self._programs[name]


def _to_host(tree: Tree) -> Tree:
    """Copies: on a CPU a view would change under a donated buffer."""
    return jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(tree))
