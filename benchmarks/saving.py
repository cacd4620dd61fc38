"""How long a checkpoint holds up the training: written by the training's own thread, and in the background.

    python -m benchmarks.saving [--megabytes=300] [--rounds=5] [--workdir=DIR]

A state of so many MB lives on the device. A round copies it to the host, saves it, and computes matrix
products until the checkpoint is whole. Printed are medians: the copy, how long the save holds up its caller
(the stall), how long until the checkpoint is whole, and the rate of the products meanwhile against that
without a save.
"""

import argparse
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

from benchmarks.command_line import Parser, positive


def measure(megabytes: int, rounds: int, folder: pathlib.Path, background: bool) -> dict[str, float]:
    """Medians by name: seconds, and the share of the rate of the products."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ganjax.checkpoint import Checkpoints

    count = megabytes * 250_000 // 30
    keys = jax.random.split(jax.random.key(0), 30)
    state = {f"layer{i}": jax.random.normal(key, (count,)) for i, key in enumerate(keys)}
    jax.block_until_ready(state)
    product = jax.jit(jnp.dot)
    x = jnp.ones((512, 512))

    def products(until) -> float:
        """The rate, a second."""
        start, done = time.monotonic(), 0
        while not until(time.monotonic() - start):
            product(x, x).block_until_ready()
            done += 1
        return done / (time.monotonic() - start)

    products(lambda seconds: seconds > 0.5)
    alone = products(lambda seconds: seconds > 2.0)
    seen: list[dict[str, float]] = []
    with Checkpoints(folder, keep=1) as checkpoints:
        for step in range(rounds):
            start = time.monotonic()
            host = {name: np.array(leaf) for name, leaf in state.items()}
            copied = time.monotonic()
            checkpoints.save(step, host, {}, background=background)  # pyright: ignore[reportArgumentType]
            saved = time.monotonic()
            rate = products(lambda _: not checkpoints.saving) if background else 0.0
            checkpoints.wait()
            whole = time.monotonic()
            seen.append({"copy": copied - start, "stall": saved - copied, "whole": whole - copied})
            seen[-1]["rate"] = rate / alone
    return {name: statistics.median(row[name] for row in seen) for name in seen[0]}


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m benchmarks.saving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--megabytes", type=positive(int), default=300, help="of the state (300)")
    parser.add_argument("--rounds", type=positive(int), default=5, help="saves (5)")
    parser.add_argument("--workdir", type=pathlib.Path, help="for the checkpoints; default: a temporary one")
    options = parser.parse_args(arguments)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ganjax-saving-", dir=options.workdir))
    try:
        for background in (False, True):
            found = measure(options.megabytes, options.rounds, folder / str(background), background)
            line = (
                f"{'in the background' if background else 'by its own thread'}: copy {found['copy']:.3f} s, "
            )
            line += f"stall {found['stall']:.3f} s, whole after {found['whole']:.2f} s"
            line += f", products at {found['rate']:.0%} of their rate meanwhile" if background else ""
            print(line, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
