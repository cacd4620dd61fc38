"""--mode=project: the latents whose images are nearest to images of the user's."""

import json
import math
import time
from typing import Any

import numpy as np
from etils import epath

from ganjax import config as settings
from ganjax import export, projection
from ganjax.cli import drawing, workdir
from ganjax.cli.command import Command
from ganjax.cli.steered import one_label
from ganjax.cli.translate import Task, tasks_of, to_float
from ganjax.data import folder, images
from ganjax.errors import UsageError, one_line, shortened
from ganjax.projection import CHUNK, Projector
from ganjax.report import images as pictures
from ganjax.report.files import write_atomically
from ganjax.report.progress import Progress

FILM = 60  # frames at most


def run(command: Command) -> int:
    """Projects; returns the exit code."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "project")
    flags, num_classes = command.flags, run.experiment.num_classes
    if run.experiment.show is not None:
        raise UsageError("--mode=project: this model's samples are no images")
    if not flags.target:
        raise UsageError("--target=FILE|FOLDER is missing: the images that are projected")
    out = epath.Path(flags.out or run.folder / "projected").expanduser()
    if out.suffix.lower() in (*images.SUFFIXES, ".npz", ".gif", ".mp4") or (
        out.exists() and not out.is_dir()
    ):
        raise UsageError(f"--out={out}: expected a folder, for latents, pictures and films")
    labels = ()
    if flags.labels is not None:
        labels = settings.parse_integers(flags.labels, name="labels")
        workdir.check_labels(labels, num_classes)
    label = one_label(labels, flags.labels)
    tasks = tasks_of(epath.Path(flags.target).expanduser(), "target")
    state, meta = workdir.chosen_state(command, run)
    gan = run.experiment.stages[meta["stage"]].gan
    space = flags.space or ("z" if gan.styles is None else "w+")
    try:
        projection.check_space(gan, space)
    except ValueError as error:
        raise UsageError(f"--mode=project: {error}") from error
    shape, _ = export.sample_shapes(gan, export.shapes_of(state.replace(opt_state={})), num_classes)
    targets = to_float(np.stack([read(task, (shape[0], shape[1], shape[2])) for task in tasks]))
    distance = distance_of(flags.lpips, tuple(shape))
    state, _ = drawing.prepared(flags, gan, state)
    chunk = min(CHUNK, len(tasks))
    projector = Projector(
        gan, state, distance, space=space, num_classes=num_classes, draws=flags.draws, chunk=chunk
    )
    steps = flags.steps or projection.STEPS
    interval = math.ceil(steps / FILM)
    rows: list[dict[str, Any]] = []
    done = 0
    with Progress(len(tasks) * steps, label="step") as progress:
        for start in range(0, len(tasks), chunk):
            some, given = tasks[start : start + chunk], targets[start : start + chunk]
            began, frames = time.monotonic(), []

            def seen(step: int, images: Any, some=some, began=began, frames=frames, done=done) -> None:
                if step % interval == 0 or step == 1:
                    frames.append(pictures.to_uint8(images))
                progress.update(done + step * len(some), step * len(some) / (time.monotonic() - began))

            found = projector(given, label=label, steps=steps, seen=seen)
            done += steps * len(some)
            final = projector.images(found)
            far = projector.distances(final, given)
            each = (time.monotonic() - began) / len(some)
            for i, task in enumerate(some):
                of_pixels = float(np.mean(np.square(final[i] - given[i])))
                row = {
                    "image": task.name,
                    "distance": distance.name,
                    distance.name: float(far[i]),
                    "pixels": of_pixels,
                }
                row |= {"label": found[i].label} if num_classes else {}
                rows.append(row | {"space": space, "steps": steps, "seconds": round(each, 2)})
                figures = {"distance": far[i], "step": meta["step"]}
                projection.save(out / f"{task.name}.npz", found[i], **figures)
                pair = pictures.to_uint8(np.stack([given[i], final[i]]))
                pictures.save_png(out / f"{task.name}.png", pictures.strip(pair))
                film = [np.stack([pair[0], frame[i]]) for frame in frames] + [pair]
                sheets = np.stack([pictures.strip(frame) for frame in film])
                pictures.save_gif(out / f"{task.name}.gif", sheets, flags.fps, loop=False)
    write_atomically(out / "projected.json", json.dumps(rows, indent=1).encode() + b"\n")
    by = "LPIPS" if flags.lpips else "squared difference of pixels (--lpips=FILE would be nearer to the eye)"
    middle = float(np.median([row[distance.name] for row in rows]))
    print(
        f"{len(rows)} images into {space}, step {meta['step']}, by {by}: {middle:.4g}"
        f"{' (median)' if len(rows) > 1 else ''}, {rows[-1]['seconds']:g} s each: {out}"
    )
    return 0


def read(task: Task, shape: tuple[int, int, int]) -> np.ndarray:
    """An image of this shape, uint8. Raises UsageError where it has another size, RunError if it is none."""
    name = folder.shown(task.path)
    image = images.decode(folder.read_bytes(task.path), name, shape[2], oriented=True)
    height, width = image.shape[:2]
    if image.shape != shape:
        raise UsageError(
            f"--target: {name} is {height}x{width} (height x width), and this model's images "
            f"are {shape[0]}x{shape[1]}; bring it to that size"
        )
    return image


def distance_of(path: str | None, shape: tuple[int, ...]) -> projection.Distance:
    """LPIPS with the weights of `--lpips`; pixels where there are none. UsageError if it can't see them."""
    if path is None:
        return projection.of_pixels()
    from ganjax.metrics.lpips import load_lpips

    network = load_lpips(*path.split(","))
    try:
        return projection.of_lpips(network, shape)
    except ValueError as error:
        raise UsageError(
            f"--lpips={shortened(path)}: {one_line(error)}; leave it out, and pixels are compared"
        ) from error
