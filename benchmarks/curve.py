"""A metric against the images that runs had seen, as one table: what training and settings change.

    python -m benchmarks.curve METRIC RUN [RUN ...] [--with=NAME]

as in

    for seed in 0 1 2; do for augment in none ada; do
      python run.py --experiment=stylegan2_ada_emoji --config.augment=$augment \\
          --seed=$seed --workdir=runs/$augment-$seed --save_steps=1000 --keep=10
      python run.py --workdir=runs/$augment-$seed --mode=evaluate --checkpoint=all --real_split=test \\
          --metrics=kid --inception=FILE
    done; done
    python -m benchmarks.curve kid runs/* --with=augment_p

Of each run the figures of evaluations.jsonl (`--config.evaluate_every=`) and of evaluation.json. Runs that
differ in nothing but their seed share a column, with the mean and the standard deviation over seeds.
--with=NAME puts beside it, in brackets, what metrics.jsonl last said under that name: `augment_p`, or
`seconds`. Figures whose protocols differ do not compare, and are refused.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.command_line import Parser
from benchmarks.runs import evaluations, printed
from ganjax.cli.workdir import read_config
from ganjax.errors import RunError
from ganjax.report.log import read_jsonl

OWN = ("step", "seeds")  # of a protocol: what may differ along a run, and between runs


class Curve(NamedTuple):
    """A metric along a run.

    Attributes:
      settings: experiment and settings, by name; what is not the same in all runs names the column.
      points: images seen -> the values of the run's members, and what stands in brackets (none: nan).
      protocol: of all points.
    """

    settings: Mapping[str, Any]
    points: Mapping[int, tuple[list[float], float]]
    protocol: Mapping[str, Any]


def read(folder: pathlib.Path, metric: str, beside: str | None = None) -> Curve:
    """A run's curve.

    Raises:
      RunError: no run, one whose batches may change their size, one that was not measured so, or one that was
        measured in two ways.
    """
    record = read_config(folder)
    batch = record["config"].get("batch_size")
    if type(batch) is not int or record["config"].get("batch_sizes"):
        raise RunError(f"{folder}: expected batches of one size, by which steps can be told in images")
    found: dict[Any, dict[str, Any]] = {}
    if (folder / "evaluations.jsonl").exists():
        found |= {line["step"]: line.get(metric) for line in read_jsonl(folder / "evaluations.jsonl")}
    if (folder / "evaluation.json").exists():
        measured = evaluations(folder / "evaluation.json")
        found |= {step: results[metric] for step, results in measured.items() if metric in results}
    found = {step: result for step, result in found.items() if step is not None and result is not None}
    if not found:
        raise RunError(
            f"{folder}: {metric} was not measured; run: python run.py --workdir={folder} --mode=evaluate "
            f"--checkpoint=all --metrics={metric}"
        )
    protocols = [
        {key: value for key, value in result["protocol"].items() if key not in OWN}
        for result in found.values()
    ]
    if any(protocol != protocols[0] for protocol in protocols):
        raise RunError(f"{folder}: {metric} was measured in two ways: {_differences(protocols)}")
    log = read_jsonl(folder / "metrics.jsonl") if beside else []
    points = {}
    for step in sorted(found):
        members = found[step].get("members") or [found[step]]
        values = [member.get("value") for member in members]
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        if len(numbers) < len(values):
            raise RunError(f"{folder}: {metric} is no number: {values[0]}")
        said = [line[beside] for line in log if line["step"] <= step and beside in line]
        points[step * batch] = (numbers, float(said[-1]) if said else math.nan)
    settings = {"experiment": record["experiment"]} | record["config"]
    return Curve(settings, points, protocols[0])


def table(metric: str, curves: Sequence[Curve]) -> str:
    """Markdown: a row for each number of images, a column for each choice of settings.

    Raises:
      RunError: protocols differ.
    """
    if any(curve.protocol != curves[0].protocol for curve in curves):
        raise RunError(
            f"{metric} was measured in different ways, which do not compare: "
            + _differences([curve.protocol for curve in curves])
        )
    keys = dict.fromkeys(key for curve in curves for key in curve.settings)
    told = [key for key in keys if len({json.dumps(curve.settings.get(key)) for curve in curves}) > 1]
    columns: dict[str, list[Curve]] = {}
    for curve in curves:
        name = ", ".join(f"{key}={_shown(curve.settings.get(key))}" for key in told)
        columns.setdefault(name or str(curve.settings["experiment"]), []).append(curve)
    lines = [["images", *columns], ["---:"] * (1 + len(columns))]
    for images in sorted({images for curve in curves for images in curve.points}):
        cells = [_cell([c.points[images] for c in group if images in c.points]) for group in columns.values()]
        lines.append([f"{images:,}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(points: Sequence[tuple[list[float], float]]) -> str:
    values = [value for found, _ in points for value in found]
    if not values:
        return ""
    cell = f"{statistics.fmean(values):.4g}"
    if len(values) > 1:
        cell += f" ± {statistics.stdev(values):.2g} ({len(values)} seeds)"
    beside = [value for _, value in points if not math.isnan(value)]
    return cell + (f" [{statistics.fmean(beside):.4g}]" if beside else "")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _differences(protocols: Sequence[Mapping[str, Any]]) -> str:
    keys = dict.fromkeys(key for protocol in protocols for key in protocol)
    apart = {key: list(dict.fromkeys(json.dumps(p.get(key)) for p in protocols)) for key in keys}
    return "; ".join(f"{key} {' and '.join(values)}" for key, values in apart.items() if len(values) > 1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metric", metavar="METRIC", help="as --metrics= calls it")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=pathlib.Path, help="a run's folder")
    parser.add_argument("--with", dest="beside", metavar="NAME", help="of metrics.jsonl, in brackets")
    arguments = parser.parse_args(argv)
    metric, beside = arguments.metric, arguments.beside
    return printed("curve", lambda: table(metric, [read(run, metric, beside) for run in arguments.runs]))


if __name__ == "__main__":
    sys.exit(main())
