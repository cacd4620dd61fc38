"""Whether reading the data holds up the training: DCGAN at 64x64 from a folder of JPEGs.

    python -m benchmarks.feeding [--batch=128] [--images=20000] [--workers=N] [--json]

The same steps in turns: fed from the folder, decoded again for every batch, and from one batch that is ready
on the host. What the first takes longer is what the device stands idle for data; the aim is 5 % on an
accelerator. On a CPU, which both reads and computes, it is what reading takes away. The JPEGs are made once,
of smooth random colours, in a folder that is removed at the end.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

from benchmarks.command_line import Parser, positive
from ganjax.memory import keep_freed_memory

SIZE = 64


def make_images(folder: pathlib.Path, count: int) -> None:
    """JPEGs of 64x64 pixels, of the size on disk of photographs."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for i in range(count):
        rough = Image.fromarray(draw.integers(0, 256, (12, 12, 3), np.uint8))
        rough.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / f"{i:06d}.jpg", quality=90)


def measure(
    folder: pathlib.Path, batch: int, workers: int | None, rounds: int, seconds: float
) -> dict[str, Any]:
    """The object that is printed."""
    import jax

    from benchmarks.contestants import cpu_name
    from benchmarks.models import MODELS
    from ganjax import data
    from ganjax.data import dataset, feed
    from ganjax.parallel import Runner, arrangement

    dataset.MEMORY_BUDGET = 0  # as if the set were larger: every image is decoded again
    images = data.load(str(folder))
    model = MODELS["dcgan64"]("float32")
    steps = 10**6
    runner = Runner(arrangement("none", batch), model.gan, images.transform, batch, steps)
    key = jax.random.key(0)
    state = runner.put(runner.create(key, images.example(batch)))
    batches = feed.Feed(images, seed=0, first=0, batch_size=batch, count=steps, workers=workers)
    ready = images.read(images.indices(0, 0, batch))
    done = 0

    def one_round(source) -> float:
        """Seconds a step, without waiting for the device in between, as the loop has it."""
        nonlocal state, done
        begun, count, pending = time.perf_counter(), 0, None
        while count < 3 or time.perf_counter() - begun < seconds:
            state, metrics = runner.step(state, source(), key, done)
            if pending is not None:
                jax.device_get(pending)  # the metrics of the step before
            pending, count, done = metrics, count + 1, done + 1
        jax.block_until_ready(state)
        return (time.perf_counter() - begun) / count

    fed, given = lambda: next(batches), lambda: ready
    with batches:
        for source in (fed, given):
            one_round(source)  # compiles, fills what is read ahead
        times: dict[str, list[float]] = {"fed": [], "ready": []}
        for i in range(rounds):
            for name in ("fed", "ready") if i % 2 == 0 else ("ready", "fed"):
                times[name].append(one_round(fed if name == "fed" else given))
    ratios = [f / r for f, r in zip(times["fed"], times["ready"], strict=True)]
    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else cpu_name(),
        "cores": os.cpu_count(),
        "batch": batch,
        "workers": feed.default_workers() if workers is None else workers,
        "fed_ms": round(1e3 * statistics.median(times["fed"]), 2),
        "ready_ms": round(1e3 * statistics.median(times["ready"]), 2),
        "images_per_second": round(batch / statistics.median(times["fed"])),
        "idle_percent": round(100 * (1 - 1 / statistics.median(ratios)), 1),
        "jax": jax.__version__,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m benchmarks.feeding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--batch", type=positive(int), default=128, help="images to a step (128)")
    parser.add_argument("--images", type=positive(int), default=20_000, help="JPEGs in the folder (20000)")
    parser.add_argument("--workers", type=positive(int), help="threads that read (the default of a run)")
    parser.add_argument("--rounds", type=positive(int), default=5, help="rounds (5)")
    parser.add_argument("--seconds", type=positive(float), default=5.0, help="of each round (5)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    if arguments is None:  # the process is ours
        keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        make_images(pathlib.Path(folder), options.images)
        result = measure(
            pathlib.Path(folder), options.batch, options.workers, options.rounds, options.seconds
        )
    if options.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['device']}, batch {result['batch']}: {result['fed_ms']} ms a step from JPEGs, "
            f"{result['ready_ms']} from a batch that is ready: idle {result['idle_percent']} % of the time"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
