"""One table of several runs that find anomalies, from their evaluations: ours beside the simpler methods.

    python -m benchmarks.anomaly RUN [RUN ...]

A run is one choice of what is normal, as in

    for normal in 0-8 0-7,9 0-6,8-9; do
      python run.py --experiment=anomaly_mnist --config.normal=$normal --workdir=runs/normal_$normal
      python run.py --workdir=runs/normal_$normal --mode=evaluate
    done

A row for each run, and their means: the area under the ROC curve and the average precision, each with those
of every other method that all the runs were measured beside. Of a run of several seeds it is the mean over
them, with the standard deviation (of a sample) where they differ.
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.command_line import Parser
from benchmarks.runs import printed, read_object
from ganjax.cli.workdir import read_config
from ganjax.errors import RunError

FIGURES = ("roc_area", "average_precision")


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Markdown.

    Args:
      runs: of each, `normal`, and the results of `FIGURES` as the evaluation gives them.
    """
    figures = [{figure: _by_method(run[figure]) for figure in FIGURES} for run in runs]
    columns = [
        (figure, method)
        for figure in FIGURES
        for method in figures[0][figure]
        if all(method in of_run[figure] for of_run in figures)
    ]
    rows = [[_shown(of_run[figure][method]) for figure, method in columns] for of_run in figures]
    names = [run["normal"] or "all" for run in runs]
    if len(runs) > 1:
        means = [[np.mean(of_run[figure][method]) for of_run in figures] for figure, method in columns]
        rows, names = [*rows, [f"{np.mean(each):.4f}" for each in means]], [*names, "**mean**"]
    heads = ["normal", *(f"`{figure}` {_called(method)}" for figure, method in columns)]
    lines = [heads, ["---"] * len(heads)]
    lines += [[name, *row] for name, row in zip(names, rows, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _by_method(result: Mapping[str, Any]) -> dict[str, list[float]]:
    """Method -> its figure of every member, which is one of a run of one seed."""
    members = result.get("members") or [result]
    return {
        method: [member[method] for member in members]
        for method, value in members[0].items()
        if isinstance(value, float) and all(isinstance(member.get(method), float) for member in members)
    }


def _shown(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.4f}"
    return f"{mean} ± {np.std(values, ddof=1):.4f}" if len(set(values)) > 1 else mean


def _called(method: str) -> str:
    return "ours" if method == "value" else method.replace("_", " ")


def read(folder: pathlib.Path) -> dict[str, Any]:
    """What `table` takes of a run. Raises RunError where it has not been evaluated, or finds no anomalies."""
    normal = read_config(folder)["config"].get("normal")
    if normal is None:
        raise RunError(f"{folder}: expected a run of an experiment that finds anomalies")
    if not (folder / "evaluation.json").exists():
        raise RunError(f"{folder} is not evaluated; run: python run.py --workdir={folder} --mode=evaluate")
    results = read_object(folder / "evaluation.json")
    lacking = [figure for figure in FIGURES if figure not in results]
    if lacking:
        raise RunError(f"{folder}: its evaluation lacks {', '.join(lacking)}; evaluate it without --metrics=")
    return {"normal": normal} | {figure: results[figure] for figure in FIGURES}


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=pathlib.Path, help="a run's folder")
    arguments = parser.parse_args(argv)
    return printed("anomaly", lambda: table([read(folder) for folder in arguments.runs]))


if __name__ == "__main__":
    sys.exit(main())
