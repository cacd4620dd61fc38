"""The gallery of results, from runs' folders: pictures, curves and a section of docs/gallery.md for each run.

    python -m benchmarks.gallery RUN [RUN ...] [--docs=docs] [--name=NAME]

Of each run its last sample grid and its curves (as --mode=plot draws them) become small PNGs in
DOCS/images/gallery, and its section of DOCS/gallery.md, between two markers, is written anew; other sections
stay as they are. A section is named for the run's experiment; a second run of it, with other settings, needs
a name of its own. Every figure is read from the run's config.json, result.json and evaluation.json. A run
that has not reached its end is refused.
"""

import argparse
import json
import pathlib
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.command_line import Parser
from benchmarks.runs import evaluations, read_object
from ganjax import config as settings
from ganjax.cli import experiments
from ganjax.cli.workdir import read_config
from ganjax.errors import RunError, UsageError
from ganjax.report.curves import draw, of_seeds, palette_png
from ganjax.report.files import write_atomically
from ganjax.report.log import read_jsonl
from ganjax.report.progress import duration

LARGEST = 720  # pixels of a picture's width
PACKAGES = ("python", "jax", "flax", "ganjax")

_HEADING = """# Gallery

Runs of the experiments that come along. Pictures are the last that a run drew, of its fixed latents, from
averaged weights where there are any. `python -m benchmarks.gallery` writes the sections from the runs' own
files. What the figures mean, and when they mislead: [metrics.md](metrics.md).

A fingerprint is that of the code of its day on that machine: a change to the networks' layers may move last
bits, and with them every number by a little.
"""


def section(folder: pathlib.Path, name: str, package: str = "experiments") -> str:
    """A run's section in Markdown, without markers.

    Args:
      folder: the run's.
      name: of its pictures.
      package: where experiments are looked for by name.
    Raises:
      RunError: a file is missing or damaged, or the run has not reached its end.
    """
    record, result = read_config(folder), read_object(folder / "result.json")
    if not result.get("complete"):
        raise RunError(f"{folder} has not reached its end: step {result.get('step')}; let it go on first")
    module = experiments.find(record["experiment"], package)
    command = _command(record, settings.to_json(module.Config()))
    rate, memory = result["images_per_second"], result["peak_memory_mb"]
    rows = {
        "command": f"`{command}`",
        "seed": str(record["seed"]),
        "steps": f"{result['step']:,}, {result['images_seen']:,} images",
        "time": duration(result["wall_seconds"])
        + (f", {rate:,.0f} images/s" if rate else "")
        + (f", {memory:,.0f} MB at most" if memory else ""),
        "hardware": _hardware(record),
        "versions": ", ".join(
            f"{key} {record['versions'][key]}" for key in PACKAGES if key in record["versions"]
        ),
        "fingerprint": f"`{result['fingerprint'][:16]}`",
    }
    lines = [
        f"## {name}",
        "",
        experiments.summary(module),
        "",
        f"![Samples of {name}](images/gallery/{name}.png)",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in rows.items()),
        "",
        *_evaluated(folder, command),
        "",
        f"![Curves of {name}](images/gallery/{name}_curves.png)",
    ]
    return "\n".join(lines)


def replaced(page: str, name: str, text: str) -> str:
    """The page with the section between `name`'s markers written anew, or added at the end."""
    begin, end = f"<!-- {name}: written by benchmarks.gallery -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{text}\n{end}\n"
    pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end) + r"\n", re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda match: block, page, count=1)
    return page.rstrip("\n") + "\n\n" + block


def add(
    folder: pathlib.Path, docs: pathlib.Path, package: str = "experiments", name: str | None = None
) -> str:
    """Writes a run's pictures and its section; returns the name that they have."""
    record = read_config(folder)
    if name is None:
        name = str(record["experiment"])
        name = pathlib.PurePath(name).stem if name.endswith(".py") else name.rpartition(".")[2]
        name += f"-seed{record['seed']}" if record["seed"] else ""
    text = section(folder, name, package)
    sheets = sorted((folder / "samples").glob("*.png"))
    if not sheets:
        raise RunError(f"{folder / 'samples'} holds no picture")
    records = read_jsonl(folder / "metrics.jsonl")
    images = docs / "images" / "gallery"
    write_atomically(images / f"{name}.png", small_png(sheets[-1]))
    which = of_seeds(record["seed"], record["config"].get("seeds", 1))
    write_atomically(images / f"{name}_curves.png", draw(records, title=f"{name}, {which}"))
    path = docs / "gallery.md"
    page = path.read_text(encoding="utf-8") if path.exists() else _HEADING
    write_atomically(path, replaced(page, name, text).encode())
    return name


def small_png(path: pathlib.Path) -> bytes:
    """A picture at most `LARGEST` wide, in at most 64 colours."""
    with Image.open(path) as picture:
        picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
        if picture.width > LARGEST:
            size = LARGEST, round(picture.height * LARGEST / picture.width)
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        pixels = np.asarray(picture)
    return palette_png(pixels if pixels.ndim == 3 else pixels[..., None], colors=64)


def _command(record: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    words = ["python", "run.py", f"--experiment={record['experiment']}"]
    words += [f"--seed={record['seed']}"] if record["seed"] else []
    for key, value in record["config"].items():
        if key not in defaults or defaults[key] != value:
            words.append(f"--config.{key}={value if isinstance(value, str) else json.dumps(value)}")
    return shlex.join(words)


def _hardware(record: Mapping[str, Any]) -> str:
    devices = list(record.get("devices", ()))
    kinds = [f"{devices.count(kind)} x {kind}" for kind in dict.fromkeys(devices) if kind != "cpu"]
    kinds += [record["processor"]] if record.get("processor") else []
    cores = record.get("cores")
    counted = [f"{cores} cores" if cores > 1 else "1 core"] if cores else []
    return ", ".join([*kinds, *counted]) or "not recorded"


def _evaluated(folder: pathlib.Path, command: str) -> list[str]:
    if not (folder / "evaluation.json").exists():
        return [f"Not evaluated yet: `{command} --mode=evaluate`."]
    results = list(evaluations(folder / "evaluation.json").values())[-1]
    verdict = results.pop("verdict", None)
    hidden = ("value", "std", "protocol", "per_class", "samples_per_class", "members")
    lines = ["| figure | value | besides |", "|---|---|---|"]
    for name, result in results.items():
        besides = {key: value for key, value in result.items() if key not in hidden and value != []}
        text = "; ".join(f"{key} {_figure(value)}" for key, value in besides.items())
        value = _figure(result["value"]) if "value" in result else "see the run's file"
        value += f" ± {_figure(result['std'])}" if "std" in result else ""  # over several seeds
        lines.append(f"| `{name}` | {value} | {text} |")
    protocol = dict(next(iter(results.values()))["protocol"]) if results else {}
    judged = [f"{protocol[key]:,} {key}" for key in ("samples",) if key in protocol]
    judged += [f"step {protocol['step']}", f"{protocol['weights']} weights"] if "step" in protocol else []
    if "inception" in protocol:
        network = protocol["inception"]
        judged.append(f"the Inception of sha256 {network['sha256'][:8]}..., {network['resize']} resizing")
        judged.append(f"against {protocol['real_count']:,} images of split {protocol['real_split']}")
    if "classifier" in protocol:
        judged.append(f"a classifier of {protocol['classifier']['test_accuracy']:.2%} test accuracy")
    lines += ["", f"On {', '.join(judged)}."]
    if verdict is not None:
        said = "it passes." if verdict["value"] else " ".join(f"{line}." for line in verdict["against"])
        lines += ["", f"Verdict: {said}"]
    return lines


def _figure(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_figure(part)}" for key, part in value.items())
    if isinstance(value, list):
        return " to ".join(_figure(end) for end in (min(value), max(value))) if value else "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=pathlib.Path, help="a run's folder")
    parser.add_argument("--docs", type=pathlib.Path, default=pathlib.Path("docs"), help="default: docs")
    parser.add_argument("--name", help="of one RUN's section and pictures; default: its experiment's")
    arguments = parser.parse_args(argv)
    if arguments.name is not None and (
        len(arguments.runs) > 1 or not re.fullmatch(r"[a-z0-9_.-]+", arguments.name)
    ):
        parser.error(f"--name={arguments.name} is for one RUN, and of letters a-z, digits, '_', '-' and '.'")
    try:
        for folder in arguments.runs:
            print(f"{folder}: {add(folder, arguments.docs, name=arguments.name)}")
    except (RunError, UsageError, ValueError) as error:
        print(f"gallery: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
