"""--mode=anomaly: how far images of the user's are from normal ones, with a picture of what differs."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath

from ganjax.cli import workdir
from ganjax.cli.classify import write_table
from ganjax.cli.command import Command
from ganjax.cli.given import CHUNK, Given
from ganjax.cli.translate import free_name, to_float
from ganjax.data import images as image_files
from ganjax.errors import RunError, UsageError
from ganjax.metrics.anomaly import check_false_alarms, threshold_at
from ganjax.report import images as pictures
from ganjax.report.progress import Progress
from ganjax.sampling import Sampler

SHEET = 32  # images on the sheet, those with the highest scores


def run(
    command: Command,
    shape: tuple[int, int, int],
    resized: bool,
    held_out: Callable[[], np.ndarray],
    false_alarms: float,
) -> int:
    """Scores images; returns the exit code.

    Args:
      command: as it was given.
      shape: (H, W, C) of images.
      resized: images of other sizes are brought to this one.
      held_out: gives normal images that were not learned from, uint8 [m, H, W, C].
      false_alarms: the run's share of them that may be taken for anomalies, unless the command has another.
    """
    run = workdir.open_run(command)
    out = epath.Path(command.flags.out or run.folder / "anomalies").expanduser()
    if out.suffix in (*image_files.SUFFIXES, ".csv", ".json") or (out.exists() and not out.is_dir()):
        raise UsageError(f"--out={out}: expected a folder, for scores and pictures")
    given = Given(command.flags.input, shape, resized)
    sheet = free_name("highest", given.names)
    given.check_apart(out, sheet)
    normal, rate = held_out(), command.flags.false_alarm_rate
    rate = false_alarms if rate is None else rate
    check_false_alarms(rate, len(normal))
    state, meta = workdir.chosen_state(command, run)
    state = jax.device_put(state.replace(opt_state={}))  # once for all chunks
    sampler = Sampler(run.experiment.stages[meta["stage"]].gan, chunk=CHUNK)

    def answers(images: np.ndarray, first: int = 0) -> dict[str, np.ndarray]:
        seeds = np.arange(first, first + len(images))  # by which a search without an encoder begins
        found = sampler(state, seeds, conditions={"image": to_float(images)})
        if not all(np.isfinite(x).all() for x in found.values()):
            raise RunError("the model answers with NaN or infinity; choose an earlier one with --checkpoint=")
        return found

    threshold = threshold_at(answers(normal)["score"], rate)
    rows: list[dict[str, Any]] = []
    highest: list[tuple[float, np.ndarray]] = []
    began = time.monotonic()
    with Progress(given.count, label="image") as progress:
        for names, images in given.chunks():
            found = answers(images, len(rows))
            for i, name in enumerate(names):
                score = float(found["score"][i])
                rows.append({"image": name, "score": score, "anomaly": score > threshold})
                three = beside(images[i], pictures.to_uint8(found["reconstruction"][i]))
                pictures.save_png(out / f"{name}.png", pictures.strip(three))
                highest = sorted([*highest, (score, three)], key=lambda x: -x[0])[:SHEET]
            progress.update(len(rows), len(rows) / max(time.monotonic() - began, 1e-9))
    write_table(out / "scores.csv", rows)
    pictures.save_png(out / f"{sheet}.png", pictures.grid(np.concatenate([x for _, x in highest]), 3))
    above = sum(row["anomaly"] for row in rows)
    print(
        f"{len(rows)} images by step {meta['step']}, {above} of them above {threshold:.6g}, which at most "
        f"{rate:.3g} of normal images exceed, by those held out: {out}; scores in scores.csv, "
        f"the highest in {sheet}.png"
    )
    return 0


def beside(image: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """uint8 [3, H, W, C]: the image, what is made of its latents, and how far they are apart (white: far)."""
    residual = np.abs(image.astype(np.int16) - reconstruction).astype(np.uint8)
    if image.shape[-1] == 4:
        residual[..., 3] = 255
    return np.stack([image, reconstruction, residual])
