"""--mode=classify: what a semi-supervised model says of images of the user's, one by one."""

import csv
import io
import json
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from ganjax.cli import workdir
from ganjax.cli.command import Command
from ganjax.cli.given import CHUNK, Given
from ganjax.cli.translate import to_float
from ganjax.errors import RunError, UsageError
from ganjax.report.files import write_atomically
from ganjax.report.progress import Progress
from ganjax.sampling import Sampler


def run(
    command: Command,
    shape: tuple[int, int, int],
    resized: bool,
    class_names: Sequence[str],
    degrees: float | None,
) -> int:
    """Classifies; returns the exit code.

    Args:
      command: as it was given.
      shape: (H, W, C) of images.
      resized: images of other sizes are brought to this one.
      class_names: one a class; none: the model does not classify.
      degrees: what a predicted target of 1 stands for, an angle; None: there is none.
    """
    run = workdir.open_run(command)
    out = table_path(command.flags.out, run.folder / "classified.csv")
    given = Given(command.flags.input, shape, resized)
    state, meta = workdir.chosen_state(command, run)
    state = jax.device_put(state.replace(opt_state={}))  # once for all chunks
    sampler = Sampler(run.experiment.stages[meta["stage"]].gan, chunk=min(CHUNK, given.count))
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    with Progress(given.count, label="image") as progress:
        for names, images in given.chunks():
            answer = sampler(state, np.arange(len(names)), conditions={"image": to_float(images)})
            if not all(np.isfinite(x).all() for x in answer.values()):
                raise RunError(
                    "the model answers with NaN or infinity; choose an earlier one with --checkpoint="
                )
            for i, name in enumerate(names):
                row: dict[str, Any] = {"image": name}
                if class_names:
                    shares = answer["probabilities"][i]
                    row |= {
                        "class": class_names[shares.argmax()],
                        "probability": round(float(shares.max()), 6),
                    }
                if degrees is not None:
                    row["angle"] = round(float(degrees * answer["targets"][i, 0]), 3)
                rows.append(row)
            progress.update(len(rows), len(rows) / max(time.monotonic() - began, 1e-9))
    write_table(out, rows)
    print(f"{len(rows)} images, by step {meta['step']}: {out}")
    return 0


def table_path(given: str | None, default: epath.Path) -> epath.Path:
    """Where a table goes. Raises UsageError unless it is a .csv or a .json."""
    out = epath.Path(given or default).expanduser()
    if out.suffix not in (".csv", ".json"):
        raise UsageError(f"--out={out}: expected a .csv or a .json")
    return out


def write_table(path: epath.Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows with the same keys, as a .csv with a header or as a .json list of objects."""
    if path.suffix == ".json":
        write_atomically(path, json.dumps(list(rows), indent=1).encode() + b"\n")
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
