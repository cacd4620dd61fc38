"""What is timed: our training step, and the peers', behind one protocol, each in a process of its own.

A contestant prepares (builds, compiles, runs until nothing more is compiled), then runs rounds when it is
asked to; in between it waits and computes nothing. jax and torch are imported only by the process that
needs them: each peak of memory is one contestant's own.
"""

import contextlib
import math
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from ganjax.cli.workdir import processor
from ganjax.memory import keep_freed_memory

OURS = "ganjax"
MINIMUM_STEPS = 3  # in a round, whatever its time


class Job(NamedTuple):
    """What is measured: a name in `benchmarks.models.MODELS`, the batch size, the compute dtype."""

    model: str
    batch: int
    dtype: str = "float32"


class Contestant(NamedTuple):
    """A prepared training step.

    Attributes:
      advance: runs a number of steps and returns when the device has finished them.
      chunk: how many steps one call is asked for: a window where steps share a dispatch, a model's cycle
        where it has one, else 1.
      facts: what to report of it.
      peak_bytes: the most memory so far, of the device's, or on a CPU of the process.
    """

    advance: Callable[[int], None]
    chunk: int
    facts: dict[str, Any]
    peak_bytes: Callable[[], int]


def process_peak_bytes() -> int:
    """The most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def ours(job: Job, window: int | None = None) -> Contestant:
    """Our step as a run takes it: through `Runner`, the state donated.

    Args:
      job: what is measured.
      window: steps to one dispatch, on data that live on the device; 1 takes each batch from the host.
        Default: 1 on a CPU, where a loop around convolutions is slow, and 16 elsewhere.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")  # the peer shares the accelerator
    import jax
    import numpy as np

    from benchmarks.models import MODELS
    from ganjax.parallel import Runner, arrangement, compiler_options

    model = MODELS[job.model](job.dtype)
    raw = model.batch(job.batch)
    key = jax.random.key(0)
    device = jax.devices()[0]
    if window is None:
        window = 1 if device.platform == "cpu" else math.lcm(16, model.cycle)
    steps = 1000  # of the stage; the same phases are due after the last
    runner = Runner(
        arrangement("none", job.batch), model.gan, lambda batch, context: batch, job.batch, steps, window
    )
    state = runner.put(runner.create(key, raw))
    created = runner.compile_seconds
    done = 0
    resident = runner.put_resident(raw) if window > 1 else None

    def advance(count: int) -> None:
        nonlocal state, done
        if resident is not None:
            indices = [np.arange(job.batch)] * count
            state, _ = runner.steps(state, resident, indices, key, done)
        else:
            for i in range(count):
                state, _ = runner.step(state, raw, key, done + i)
        done += count
        jax.block_until_ready(state)

    chunk = math.lcm(window, model.cycle)
    for _ in range(2):
        advance(chunk)

    def peak_bytes() -> int:
        stats = device.memory_stats() or {}
        return stats.get("peak_bytes_in_use") or process_peak_bytes()

    facts = {
        "device": device.device_kind if device.platform != "cpu" else cpu_name(),
        "platform": device.platform,
        "compile_s": round(runner.compile_seconds - created, 2),
        "versions": {"jax": jax.__version__, "python": platform.python_version()},
        "compiler_options": compiler_options() or {},
    }
    return Contestant(advance, chunk, facts, peak_bytes)


def torch_peer(job: Job, compiled: bool) -> Contestant:
    """The peer's step, eager or compiled, with every core of the machine or on its GPU."""
    import torch

    from benchmarks import peers
    from benchmarks.models import MODELS

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(os.cpu_count() or 1)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, which is XLA's default there too
    batch = MODELS[job.model](job.dtype).batch(job.batch)
    trainer = peers.trainer(job.model, device, getattr(torch, job.dtype), compiled)
    given = trainer.put(*batch.values())

    def advance(count: int) -> None:
        for _ in range(count):
            trainer.step(*given)
        if device == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    advance(1)
    first = time.perf_counter() - start
    # Twice more: compiled code may be specialised again at the second call.
    for _ in range(2):
        advance(1)
    facts = {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "platform": device,
        "first_step_s": round(first, 2),
        "versions": {"torch": torch.__version__},
    }

    def peak_bytes() -> int:
        return torch.cuda.max_memory_allocated() if device == "cuda" else process_peak_bytes()

    return Contestant(advance, 1 if device == "cpu" else 16, facts, peak_bytes)


# By the name that --peer takes.
PEERS: dict[str, Callable[[Job], Contestant]] = {
    "torch": lambda job: torch_peer(job, compiled=False),
    "torch-compile": lambda job: torch_peer(job, compiled=True),
}


def cpu_name() -> str:
    """The processor's name, and how many of its cores there are."""
    return f"{processor()}, {os.cpu_count()} cores"


def measure_round(contestant: Contestant, seconds: float) -> list[float]:
    """Seconds of each step (or the mean of each chunk), for `seconds` and at least `MINIMUM_STEPS` steps."""
    times: list[float] = []
    start = time.perf_counter()
    while len(times) * contestant.chunk < MINIMUM_STEPS or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        contestant.advance(contestant.chunk)
        times.append((time.perf_counter() - before) / contestant.chunk)
    return times


def _serve(connection: Any, name: str, job: Job) -> None:
    """A contestant's process: prepares, then answers each number of seconds with a round's times."""
    # As our command line does. For both: PyTorch gives its tensors' memory back in the same way.
    kept = keep_freed_memory()
    try:
        contestant = ours(job) if name == OURS else PEERS[name](job)
        connection.send(("ready", contestant.facts | {"memory_kept": kept}))
        while (seconds := connection.recv()) is not None:
            times = measure_round(contestant, seconds)
            connection.send(("round", (times, contestant.peak_bytes())))
    except EOFError:  # the other side has gone
        pass
    except BaseException:
        connection.send(("failed", traceback.format_exc()))


class Worker:
    """A contestant in a process of its own.

    Args:
      name: `OURS` or one of `PEERS`.
      job: what it trains.
    Attributes:
      facts: what it said of itself when it was ready.
      rounds: the times of each round's steps, in seconds.
      peak_bytes: the most memory it has used, as of its last round.
    Raises:
      RuntimeError: it failed; the message holds its traceback.
    """

    def __init__(self, name: str, job: Job):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, name, job), daemon=False)
        self._process.start()
        other.close()
        self.rounds: list[list[float]] = []
        self.peak_bytes = 0
        self.facts: dict[str, Any] = self._receive("ready")

    def run_round(self, seconds: float) -> None:
        """One round, appended to `rounds`."""
        self._connection.send(seconds)
        times, self.peak_bytes = self._receive("round")
        self.rounds.append(times)

    def round_medians(self) -> list[float]:
        """The median step of each round, in seconds."""
        return [statistics.median(times) for times in self.rounds]

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):  # it has ended already
            self._connection.send(None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()

    def _receive(self, expected: str) -> Any:
        try:
            kind, value = self._connection.recv()
        except EOFError:
            kind, value = "failed", f"its process ended with code {self._process.exitcode}"
        if kind != expected:
            self.close()
            raise RuntimeError(f"{self.name}: {value}")
        return value
