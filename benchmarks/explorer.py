"""How soon the explorer shows a change: its server, asked over HTTP for one changed picture after the other.

    python -m benchmarks.explorer      # needs ganjax[explore]

The network is stylegan2_emoji's, of 32x32 pixels, with random weights, which take no less time than trained
ones. Milliseconds from the request to the whole PNG, for each kind of change; before it the page waits 30.
Beside them the processor's time that a picture takes, of all cores together, which others at work on the
machine do not lengthen: with a core to itself it does not take longer than that.
"""

import http.client
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from ganjax.cli import Signals, command, experiments, explore, workdir
from ganjax.cli.compilation_cache import num_cores
from ganjax.explorer import app
from ganjax.gan import GanState
from ganjax.loop import abstract_state

EXPERIMENT, SETTINGS = "stylegan2_emoji", {"dataset": "random"}
COUNT = 20  # pictures to a kind of change

CHANGES: dict[str, Callable[[int], str]] = {
    "seed": lambda i: f"seed={i}",
    "truncation": lambda i: f"truncation={i / 40}",
    "noise": lambda i: f"seed={i // 3}&noise={('random', 'const', 'none')[i % 3]}",
    "style mixing": lambda i: f"mix_seed={i}&mix_layers={i % 4}-{4 + i % 4}",
    "directions": lambda i: f"direction_0={i / 10 - 1}&direction_1={1 - i / 10}",
}


def random_state(run: workdir.Run) -> GanState:
    """The run's first state, but with every weight drawn at random."""
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        floats = np.issubdtype(leaf.dtype, np.floating)
        return (rng.normal(size=leaf.shape) if floats else np.zeros(leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(draw, abstract_state(run.experiment, 0))


def times(address: tuple[str, int], query: Callable[[int], str]) -> Iterator[tuple[float, float]]:
    """Milliseconds until each picture is there, and of the processor; the first, which may compile, is left
    out."""
    connection = http.client.HTTPConnection(*address)
    for i in range(COUNT + 1):
        start, busy = time.perf_counter(), time.process_time()
        connection.request("GET", f"/picture?{query(i)}")
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(content.decode())
        if i:
            yield 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - busy)
    connection.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        flags = command.read_flags([f"--workdir={folder}/run"])
        module = experiments.find(EXPERIMENT, "experiments")
        asked = command.Command(EXPERIMENT, module, SETTINGS, flags, "experiments", Signals(), 0.0)
        run = workdir.plan(asked)
        explored = explore.explored_of(asked, run, random_state(run), {"stage": 0, "step": 0})
        explore.draw_first(explored)
        listener = app.listening("localhost", 0)
        server = app.server_of(app.create_app(explored), listener)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"{EXPERIMENT}, {workdir.processor()}, {num_cores()} cores, jax {jax.__version__}")
        print(f"{'change':14} {'median':>8} {'95 %':>8} {'longest':>8} {'processor':>10}  ms", flush=True)
        for name, query in CHANGES.items():
            wall, busy = np.array(list(times(("localhost", listener.getsockname()[1]), query))).T
            figures = f"{np.median(wall):8.0f} {np.quantile(wall, 0.95):8.0f} {wall.max():8.0f}"
            print(f"{name:14} {figures} {np.median(busy):10.0f}", flush=True)
        server.shutdown()


if __name__ == "__main__":
    main()
