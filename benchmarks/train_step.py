"""A training step of ours against PyTorch's, in alternation.

    python -m benchmarks.train_step --model=NAME --batch=N [--peer=torch,torch-compile|none] [--json]

Each contestant has a process of its own and computes alone, in rounds that take turns; the order turns round
with every round. A contestant's time is the median over its rounds of the median step; the ratio is the
median over rounds of ours / peer, below 1 where ours is faster; s/1000 are
seconds to train on 1,000 images. A model whose regularizers are due at some steps alone (stylegan2_128,
stylegan2_256) is timed over whole cycles of them. With --json there is one object a line for
each peer.
"""

import argparse
import json
import os
import statistics
import sys
from typing import Any

from benchmarks.command_line import MODELS, PEERLESS, Parser, one_of, positive, require_torch
from benchmarks.contestants import OURS, PEERS, Job, Worker


def peers(text: str) -> tuple[str, ...]:
    """What --peer names; () for "none"."""
    names = [one_of((*PEERS, "none"))(name) for name in text.split(",")]
    if names == ["none"]:
        return ()
    return tuple(dict.fromkeys(one_of(tuple(PEERS))(name) for name in names))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.train_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=one_of(MODELS), required=True, help=", ".join(MODELS))
    parser.add_argument("--batch", type=positive(int), default=32, help="images to a step (32)")
    parser.add_argument(
        "--peer", type=peers, default=("torch",), help=f"{', '.join(PEERS)}, several, or none"
    )
    parser.add_argument("--rounds", type=positive(int), default=5, help="rounds (5)")
    parser.add_argument("--seconds", type=positive(float), default=3.0, help="of each contestant's round (3)")
    parser.add_argument(
        "--dtype", type=one_of(("float32", "bfloat16")), default="float32", help="for compute"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each peer")
    options = parser.parse_args(arguments)
    if options.peer and options.model in PEERLESS:
        parser.error(f"--model={options.model} has no peer in PyTorch: give --peer=none")
    if options.peer:
        require_torch(parser)
    return options


def measure(job: Job, names: tuple[str, ...], rounds: int, seconds: float) -> list[Worker]:
    """Every contestant's rounds, taken in turns. `names` are of `OURS` and `PEERS`.

    Raises:
      RuntimeError: a contestant failed.
    """
    workers: list[Worker] = []
    try:
        # One after another, each compiling with the machine to itself; a generator, so that those before
        # one that fails are known and closed.
        workers.extend(Worker(name, job) for name in names)
        for i in range(rounds):
            for worker in workers if i % 2 == 0 else reversed(workers):
                worker.run_round(seconds)
    finally:
        for worker in workers:
            worker.close()
    return workers


def report(job: Job, ours: Worker, peer: Worker | None) -> dict[str, Any]:
    """One line of the output."""
    medians = ours.round_medians()
    facts = ours.facts
    result: dict[str, Any] = {
        "model": job.model,
        "batch": job.batch,
        "device": facts["device"],
        "ours_ms": round(1e3 * statistics.median(medians), 2),
        "ours_s_per_1000_images": round(1e3 * statistics.median(medians) / job.batch, 3),
        "peer": None,
        "peer_ms": None,
        "ratio": None,
        "ours_peak_mb": round(ours.peak_bytes / 1e6),
        "peer_peak_mb": None,
        "compile_s": facts["compile_s"],
    }
    versions = dict(facts["versions"])
    if peer is not None:
        theirs = peer.round_medians()
        versions |= peer.facts["versions"]
        result |= {
            "peer": peer.name,
            "peer_ms": round(1e3 * statistics.median(theirs), 2),
            "ratio": round(statistics.median(a / b for a, b in zip(medians, theirs, strict=True)), 3),
            "peer_peak_mb": round(peer.peak_bytes / 1e6),
            "peer_first_step_s": peer.facts["first_step_s"],
            "peer_device": peer.facts["device"],
        }
    return result | {
        "dtype": job.dtype,
        "cores": os.cpu_count(),
        "rounds": len(medians),
        "steps": sum(len(times) for times in ours.rounds),
        "compiler_options": facts["compiler_options"],
        "memory_kept": facts.get("memory_kept"),
        "versions": versions,
    }


def table(results: list[dict[str, Any]]) -> str:
    """For people: one line a contestant."""
    first = results[0]
    lines = [
        f"{first['model']}, batch {first['batch']}, {first['dtype']}, {first['device']}, "
        + ", ".join(f"{name} {version}" for name, version in results[-1]["versions"].items()),
        f"{'':<16}{'ms/step':>10}{'s/1000':>9}{'ours/peer':>11}{'peak MB':>9}{'first step s':>14}",
        f"{OURS:<16}{first['ours_ms']:>10.1f}{first['ours_s_per_1000_images']:>9.2f}{'':>11}"
        f"{first['ours_peak_mb']:>9}{first['compile_s']:>14.1f}",
    ]
    lines += [
        f"{result['peer']:<16}{result['peer_ms']:>10.1f}{result['peer_ms'] / result['batch']:>9.2f}"
        f"{result['ratio']:>11.3f}"
        f"{result['peer_peak_mb']:>9}{result['peer_first_step_s']:>14.1f}"
        for result in results
        if result["peer"]
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    job = Job(options.model, options.batch, options.dtype)
    try:
        ours, *others = measure(job, (OURS, *options.peer), options.rounds, options.seconds)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    results = [report(job, ours, peer) for peer in others or [None]]
    if options.json:
        for result in results:
            print(json.dumps(result), flush=True)
    else:
        print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
