"""Runs the pure step on devices: one device, `pmap`, or one program over a sharded mesh, on one host or many.

A `Runner` holds compiled programs and no state. Each distinct set of due phases is a program of its own,
or, where several steps go into one dispatch, a branch of one program.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ganjax import random
from ganjax.errors import UsageError
from ganjax.gan import Array, Context, Gan, GanState, Tree, due_phases
from ganjax.step import create_state, joined_metrics, phased_step, step_context

AXIS, MODEL_AXIS = "data", "model"
KINDS = ("auto", "none", "pmap", "sharded")
VOTE = "vote"  # among a step's metrics where there are several processes
# Leaves of fewer entries stay whole on every device where a model is sharded.
SHARDED_SIZE = 2**12


@functools.cache
def compiler_options(deterministic: bool = False) -> dict[str, Any] | None:
    """XLA options for our own programs on the default backend; None where there are none to set.

    On a CPU, matrix products run through YNN one by one, and convolutions, which it takes over by default
    and can be ten times slower at, do not. The option is experimental: a jaxlib that does not know it is
    left as it is.

    Args:
      deterministic: on a GPU, use only operations that give the same bits every time.
    """
    if jax.default_backend() == "gpu" and deterministic:
        return {"xla_gpu_deterministic_ops": True}
    if jax.default_backend() != "cpu":
        return None
    options = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options).lower(jnp.zeros(())).compile()
    except Exception:
        return None
    return options


class Arrangement(NamedTuple):
    """How a batch and a model lie on devices.

    Attributes:
      kind: "none", "pmap" or "sharded".
      devices: in the order of the batch; those of one process are neighbours.
      model_parallel: over how many devices each copy of a model is spread; 1 but for "sharded".
      ordered: means over devices are added in their order.
    """

    kind: str
    devices: tuple[Any, ...]
    model_parallel: int = 1
    ordered: bool = False

    @property
    def parts(self) -> int:
        """Into how many parts a batch is split."""
        return len(self.devices) // self.model_parallel

    def rows(self, batch_size: int) -> slice:
        """Which of a global batch's examples this process's devices work on."""
        here = jax.process_index()
        places = [i for i, device in enumerate(self.devices) if device.process_index == here]
        size = batch_size // self.parts
        return slice(places[0] // self.model_parallel * size, (places[-1] // self.model_parallel + 1) * size)


def arrangement(
    kind: str,
    batch_size: int,
    model_parallel: int = 1,
    deterministic: bool = False,
    *,
    setting: str = "batch_size",
) -> Arrangement:
    """What `kind` comes to on the devices there are, of all processes.

    Args:
      kind: one of `KINDS`. "auto" is "pmap" on several devices and "none" on one.
      batch_size: of the global batch.
      model_parallel: over how many devices each copy of the model is spread.
      deterministic: the same bits however the devices are laid out over processes.
      setting: what the batch's size is called in the error.
    Raises:
      UsageError: the kind is unknown or not to be had, or the batch does not split evenly.
    """
    if kind not in KINDS:
        raise UsageError(f"--parallel={kind}: expected one of {', '.join(KINDS)}")
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if kind == "auto":
        kind = "pmap" if len(devices) > 1 else "none"
    if kind == "none":
        if jax.process_count() > 1:
            raise UsageError(
                f"--parallel=none: there are {jax.process_count()} processes; use pmap or sharded"
            )
        devices = devices[:1]
    if model_parallel > 1 and (kind != "sharded" or len(devices) % model_parallel):
        raise UsageError(
            f"--model_parallel={model_parallel}: it needs --parallel=sharded and a number of devices that it "
            f"divides; there are {len(devices)}, and the arrangement is {kind}"
        )
    if deterministic and kind == "sharded":
        raise UsageError(
            "--deterministic: with --parallel=sharded the order of sums is the compiler's; use pmap"
        )
    if batch_size % (len(devices) // model_parallel):
        over = "devices" if model_parallel == 1 else f"parts of {model_parallel} devices"
        raise UsageError(
            f"--config.{setting}={batch_size}: it does not split evenly over "
            f"{len(devices) // model_parallel} {over}"
        )
    return Arrangement(kind, tuple(devices), model_parallel, deterministic)


def branches_are_fast() -> bool:
    """Whether a branch of a program runs as fast as a program of its own.

    Not on a CPU: XLA's convolutions are slower there in a branch, as they are in a loop (steps of a small
    convolutional GAN, of which every fifth moves the generator, took 2.4 times as long).
    """
    return jax.default_backend() != "cpu"


class Program:
    """A function compiled at its first call, with the seconds that took.

    Args:
      function: has been through `jit` or `pmap`.
      once: it will run once: on a CPU, compiling quickly matters more than running quickly.
      deterministic: see `compiler_options`.
    """

    def __init__(self, function: Any, once: bool = False, deterministic: bool = False):
        self._function, self._once, self._deterministic = function, once, deterministic
        self._compiled: Callable | None = None
        self.compile_seconds = 0.0

    def __call__(self, *args):
        if self._compiled is None:
            start = time.perf_counter()
            options = compiler_options(self._deterministic)
            if self._once and jax.default_backend() == "cpu":
                options = {"xla_backend_optimization_level": 1}
            lowered = self._function.lower(*args)
            self._compiled = lowered.compile(compiler_options=options)
            self.compile_seconds = time.perf_counter() - start
        assert self._compiled is not None
        return self._compiled(*args)


def state_at_first(gan: Gan, transform: Callable, key: Array, raw: Tree) -> GanState:
    """The state at step 0, from an example of a raw batch; see `Runner`."""
    context = Context(key, jnp.arange(jax.tree.leaves(raw)[0].shape[0], dtype=jnp.int32))
    return create_state(gan, key, transform(raw, context))


class Runner:
    """Steps of one `Gan` on one arrangement of devices. `ganjax.members` has those of several seeds.

    Where there are several processes, each calls the same methods in the same order.

    Args:
      placed: from `arrangement`.
      gan: what is trained.
      transform: (raw batch, context) -> batch, traced into the step (`Source.transform`).
      batch_size: of the global batch.
      num_steps: of the stage: which sets of phases will be due.
      window: steps to one dispatch, at most; 1 dispatches each alone. Where a window is cut short does not
        change a bit; one step alone is compiled by itself and rounds differently.
    """

    def __init__(
        self,
        placed: Arrangement,
        gan: Gan,
        transform: Callable,
        batch_size: int,
        num_steps: int,
        window: int = 1,
    ):
        self.placed, self.kind, self.devices = placed, placed.kind, placed.devices
        self.gan, self.batch_size, self.window = gan, batch_size, window
        self.rows = placed.rows(batch_size)  # of each batch, what this process reads
        self._metric_shape: tuple[int, ...] = ()  # of what `_one` gives
        self._transform = transform
        self._num_steps = num_steps
        grid = np.array(self.devices).reshape(placed.parts, placed.model_parallel)
        self._mesh = (
            Mesh(grid, (AXIS, MODEL_AXIS)) if placed.model_parallel > 1 else Mesh(grid[:, 0], (AXIS,))
        )
        self._several = len({device.process_index for device in self.devices}) > 1
        self._programs: dict[Any, Program] = {}
        self._names: dict[int, list[str]] = {}  # of every phase's metrics, once traced

    @property
    def compile_seconds(self) -> float:
        """Seconds spent compiling so far."""
        return sum(program.compile_seconds for program in self._programs.values())

    def metric_names(self, due: tuple[int, ...]) -> list[str]:
        """The metrics of a step at which these phases were due; after the first one."""
        return sorted({name for phase in due for name in self._names[phase]})

    def create(self, key: Array, raw: Tree) -> GanState:
        """The state at step 0, on the host. `raw` is an example of a raw batch."""
        here = next(device for device in self.devices if device.process_index == jax.process_index())
        with jax.default_device(here):
            return _to_host(self._program("create", lambda: jax.jit(self._create), once=True)(key, raw))

    def _create(self, key: Array, raw: Tree) -> GanState:
        return state_at_first(self.gan, self._transform, key, raw)

    def put(self, state: GanState) -> GanState:
        """A host state onto the devices."""
        if self.kind == "none":
            return jax.device_put(state, self.devices[0])
        if self.kind == "pmap":
            n = len(self.devices)
            state = jax.tree.map(lambda x: np.broadcast_to(x, (n, *np.shape(x))), state)
            return self._place(state, PartitionSpec(AXIS))
        return jax.tree.map(lambda x: self._place(x, self._spread(x)), state)

    def get(self, state: GanState) -> GanState:
        """A device state to the host, as numpy arrays that own their memory."""
        if self.kind == "pmap":
            return _to_host(jax.tree.map(lambda x: x.addressable_data(0)[0], state))
        if self.placed.model_parallel > 1:
            whole = NamedSharding(self._mesh, PartitionSpec())
            state = self._program("get", lambda: jax.jit(lambda x: x, out_shardings=whole))(state)
        return _to_host(jax.tree.map(lambda x: x.addressable_data(0), state))

    def put_resident(self, arrays: Tree) -> Tree:
        """A whole raw data set onto every device."""
        return self._place(arrays, PartitionSpec())

    def step(
        self, state: GanState, raw: Tree, key: Array, step: int, vote: int = 0
    ) -> tuple[GanState, dict[str, Array]]:
        """One step.

        Args:
          state: on the devices; donated.
          raw: of a raw batch of `batch_size` examples this process's `rows`, on the host.
          key: the stage's PRNG key.
          step: of the stage, the same number as in the state.
          vote: where there are several processes, the metric `VOTE` is the largest of theirs.
        Returns:
          the state, and the metrics by name, scalars still on a device.
        """
        due = due_phases(self.gan, step)
        if self.kind == "pmap":
            raw = jax.tree.map(lambda x: self._split(x, 0), raw)
        raw = self._place(raw, PartitionSpec(AXIS), self.rows.start, axis=0)
        # One program for all steps, or where branches are slow one for each set of phases.
        static = None if branches_are_fast() else due
        one = functools.partial(self._one, static=static, axis_name=self._axis_name)
        program = self._program(("step", static), lambda: self._on_devices(one, (0, 0, None, None, 0), state))
        state, metrics = program(state, raw, key, self._switches(due), *self._votes(vote))
        scalars = self._scalars(metrics)
        return state, {name: x for name, x in scalars.items() if name in (VOTE, *self.metric_names(due))}

    def steps(
        self, state: GanState, arrays: Tree, indices: Sequence[Tree], key: Array, step: int, vote: int = 0
    ) -> tuple[GanState, dict[str, Array]]:
        """Several steps in one dispatch, on data that live on the device.

        The loop's trip count is dynamic: a window that is cut short runs the same program, so that a run
        has the same bits wherever it is stopped, saved or logged.

        Args:
          state: on the devices; donated.
          arrays: from `put_resident`.
          indices: the global batches' indices (`Source.indices`), one a step, at most `window` of them.
          key: the stage's PRNG key.
          step: of the stage, of the first batch.
          vote: as for `step`.
        Returns:
          the state, and metrics by name, [window] each, still on a device; NaN where a metric's phase
          was not due, and beyond the last batch. `VOTE` is a scalar.
        """
        count = np.int32(len(indices))
        switches = [self._switches(due_phases(self.gan, step + i)) for i in range(len(indices))]
        switches = np.stack([*switches, *switches[-1:] * (self.window - len(indices))])
        indices = [*indices, *[indices[-1]] * (self.window - len(indices))]
        stacked = jax.tree.map(lambda *xs: np.stack(xs).astype(np.int32)[:, self.rows], *indices)
        if self.kind == "pmap":
            stacked = jax.tree.map(lambda x: self._split(x, 1), stacked)
        stacked = self._place(stacked, PartitionSpec(None, AXIS), self.rows.start, axis=1)
        many = functools.partial(self._many, axis_name=self._axis_name)
        axes = (0, None, 1, None, None, None, 0)
        program = self._program("window", lambda: self._on_devices(many, axes, state))
        state, metrics = program(state, arrays, stacked, switches, count, key, *self._votes(vote))
        return state, self._scalars(metrics)

    def _split(self, x: np.ndarray, axis: int) -> np.ndarray:
        """This process's rows along an axis -> its devices, rows of each."""
        size = self.batch_size // len(self.devices)
        return x.reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :])

    def _votes(self, vote: int) -> tuple[Array, ...]:
        if not self._several:
            return ()
        here = sum(device.process_index == jax.process_index() for device in self.devices)
        votes = np.full(here, vote, np.int32)
        mesh = Mesh(np.array(self.devices), (AXIS,))
        sharding = NamedSharding(mesh, PartitionSpec(AXIS))
        return (jax.make_array_from_process_local_data(sharding, votes, (len(self.devices),)),)

    def _scalars(self, metrics: Mapping[str, Array]) -> dict[str, Array]:
        if self.kind == "pmap":
            return {name: x.addressable_data(0)[0] for name, x in metrics.items()}
        return {name: x.addressable_data(0) for name, x in metrics.items()}

    def _on_devices(self, function: Callable, in_axes: tuple, state: GanState) -> Callable:
        """`function` under `pmap` or `jit`, its first argument donated; `in_axes` are pmap's.

        The last of them is that of the votes, which are given only where there are several processes.
        """
        if self.kind == "pmap":
            in_axes = in_axes if self._several else in_axes[:-1]
            devices = list(self.devices)
            return jax.pmap(function, AXIS, in_axes=in_axes, devices=devices, donate_argnums=0)
        if self.kind == "none":
            return jax.jit(function, donate_argnums=0)
        # Where a step leaves the state is where the next one takes it from.
        shardings = jax.tree.map(lambda x: x.sharding, state), NamedSharding(self._mesh, PartitionSpec())
        return jax.jit(function, donate_argnums=0, out_shardings=shardings)

    @property
    def _axis_name(self) -> str | None:
        return AXIS if self.kind == "pmap" else None

    @functools.cached_property
    def _dues(self) -> dict[int, bool]:
        """The phases that are due at some step of the stage, and whether they are at every one."""
        each = {due_phases(self.gan, step) for step in range(self._num_steps)}
        return {phase: all(phase in due for due in each) for phase in sorted(set().union(*each))}

    def _switches(self, due: tuple[int, ...]) -> np.ndarray:
        """Of each phase whether it is due, for the device: bool [phases].

        Raises:
          ValueError: these are not due at a step of this stage, for which programs are made.
        """
        always = {phase for phase, every_time in self._dues.items() if every_time}
        if not always <= set(due) <= set(self._dues):
            raise ValueError(f"the phases {due} are due together at none of the {self._num_steps} steps")
        return np.asarray([phase in due for phase in range(len(self.gan.phases))], bool)

    def _many(self, state, arrays, indices, switches, count, key, vote=None, *, axis_name):
        def gather(i):
            return jax.tree.map(
                lambda index, examples: jax.tree.map(lambda x: x[index[i]], examples), indices, arrays
            )

        one = functools.partial(self._one, axis_name=axis_name)
        names = sorted(jax.eval_shape(one, state, gather(0), key, switches[0])[1])

        def body(i, carried):
            state, history = carried
            state, metrics = one(state, gather(i), key, switches[i])
            return state, {name: history[name].at[i].set(metrics[name]) for name in names}

        history = {name: jnp.full((self.window, *self._metric_shape), jnp.nan, jnp.float32) for name in names}
        state, history = jax.lax.fori_loop(0, count, body, (state, history))
        return state, history | self._counted(vote, axis_name)

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
        """One step, of the phases `static`; None: of those that `switches` says on the device.

        Each phase is then compiled once, behind a branch if it is not always due.
        """
        ordered = self.placed.ordered
        context = step_context(state, raw, key, axis_name, ordered)
        batch = self._transform(raw, context._replace(key=random.stream(context.key, "raw batch to batch")))
        due: Any = static
        if static is None:
            due = {phase: every_time or switches[phase] for phase, every_time in self._dues.items()}
        state, by_phase = phased_step(
            self.gan, state, batch, key, due=due, axis_name=axis_name, ordered=ordered
        )
        self._names |= {phase: sorted(values) for phase, (_, values) in by_phase.items()}
        return state, joined_metrics(by_phase) | self._counted(vote, axis_name)

    def _counted(self, vote: Array | None, axis_name: str | None) -> dict[str, Array]:
        """The largest of the processes' votes, as a metric, where there are any."""
        if vote is None:
            return {}
        return {VOTE: jnp.max(vote) if axis_name is None else jax.lax.pmax(vote, axis_name)}

    def _spread(self, leaf: Any) -> PartitionSpec:
        """Along which axis a leaf of the state is cut over the devices of a copy of the model.

        The last that can be cut, the output channels of a kernel, or else another; small ones stay whole.
        """
        parts, shape = self.placed.model_parallel, np.shape(leaf)
        if parts > 1 and np.size(leaf) >= SHARDED_SIZE:
            for axis in reversed(range(len(shape))):
                if shape[axis] % parts == 0:
                    return PartitionSpec(*([None] * axis), MODEL_AXIS)
        return PartitionSpec()

    def _place(self, tree: Tree, spec: PartitionSpec, first: int | None = None, axis: int = 0) -> Tree:
        """Host arrays onto the mesh.

        Args:
          first: where `tree` holds only this process's part of the global arrays along `axis`: the example
            that it begins with. None: `tree` is whole.
        """
        if self.kind == "none":
            return jax.device_put(tree, self.devices[0])
        sharding = NamedSharding(self._mesh, spec)
        if not self._several:
            return jax.device_put(tree, sharding)
        if first is None:
            return jax.tree.map(lambda x: _from_parts(np.shape(x), sharding, lambda index: x[index]), tree)
        # In numbers of what is split: examples, or under pmap devices.
        unit = self.batch_size // len(self.devices) if self.kind == "pmap" else 1
        length, start = self.batch_size // unit, first // unit

        def place(x: np.ndarray) -> Array:
            def part(index: tuple[slice, ...]) -> np.ndarray:
                begin, end, _ = index[axis].indices(length)
                return x[(*index[:axis], slice(begin - start, end - start), *index[axis + 1 :])]

            return _from_parts((*x.shape[:axis], length, *x.shape[axis + 1 :]), sharding, part)

        return jax.tree.map(place, tree)

    def _program(self, name: Any, build: Callable[[], Callable], once: bool = False) -> Program:
        if name not in self._programs:
            self._programs[name] = Program(build(), once, self.placed.ordered)
        return self._programs[name]


def _from_parts(shape: tuple[int, ...], sharding: NamedSharding, part: Callable) -> Array:
    """A global array of which this process has the parts of its devices: `part` takes their index."""
    return jax.make_array_from_callback(shape, sharding, part)


def _to_host(tree: Tree) -> Tree:
    """Copies: on a CPU a view would change under a donated buffer."""
    return jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(tree))
