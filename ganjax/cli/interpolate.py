"""--mode=interpolate: from seed to seed on the sphere, or from class to class: a strip and a film."""

from collections.abc import Sequence

import jax
import numpy as np
from etils import epath

from ganjax import random
from ganjax.cli import drawing, workdir
from ganjax.cli.command import Command
from ganjax.cli.sample import MAX_GRID, read_lists
from ganjax.errors import UsageError
from ganjax.gan import Gan, GanState
from ganjax.report import images as pictures
from ganjax.report import video
from ganjax.sampling import Sampler, latents, slerp


def run(command: Command) -> int:
    """Interpolates; returns the exit code."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "interpolate")
    if command.flags.seeds is None:
        command.flags.seeds = "0-3"
    seeds, labels = read_lists(command, run.experiment, "0-3")
    of_classes = command.flags.between == "labels"
    if of_classes:
        if not labels:
            raise UsageError("--between=labels: this model takes no labels")
        if len(labels) < 2:
            raise UsageError(f"--labels={command.flags.labels}: it takes two to go from one to the other")
    elif len(seeds) < 2:
        raise UsageError(f"--seeds={command.flags.seeds}: it takes two to go from one to the other")
    out = epath.Path(command.flags.out or run.folder).expanduser()
    suffix = out.suffix if command.flags.out else ""  # a run's folder may have a dot in its name
    if suffix not in (".png", ".gif", ".mp4", ""):
        raise UsageError(f"--out={out}: expected a .png, a .gif, an .mp4, or a folder for all")
    if suffix == ".mp4" and video.encoder() is None:
        raise UsageError(f"--out={out}: there is no encoder for it here; {video.HOW}")
    rows, stops = (len(seeds), len(labels)) if of_classes else (len(labels) or 1, len(seeds))
    count = rows * stops * command.flags.frames
    if count > MAX_GRID:
        raise UsageError(f"--seeds={command.flags.seeds}: {count} images are too many for a strip, or a GIF")
    state, meta = workdir.chosen_state(command, run)
    gan = run.experiment.stages[meta["stage"]].gan
    options = drawing.options_of(command.flags, gan)
    if of_classes:
        check_mixtures(gan, state, run.experiment.num_classes)
    elif gan.latents is None:
        raise UsageError("--mode=interpolate: this model has no latents to go between")
    state, _ = drawing.prepared(command.flags, gan, state)
    if of_classes:
        path = closed_mixtures(labels, run.experiment.num_classes, command.flags.frames)
        all_seeds = np.repeat(np.asarray(seeds, np.uint32), len(path))
        drawn = Sampler(gan)(state, all_seeds, np.tile(path, (rows, 1)), options=options)
    else:
        of_latents = drawing.of_latents(gan, options)
        path = closed_path(latents(gan, seeds, of_latents), command.flags.frames)
        drawn = Sampler(gan)(
            state,
            np.zeros(rows * len(path), np.uint32),
            np.repeat(np.asarray(labels, np.int32), len(path)) if labels else None,
            latents=np.tile(path, (rows, 1)),
            options={name: value for name, value in options.items() if name not in of_latents},
        )
    frames = drawn.reshape(rows, len(path), *drawn.shape[1:])
    picture = workdir.picture_of(run.experiment)
    written = []
    if suffix in (".png", ""):
        # The strip ends at the last one; the way back to the first is for the animation.
        there = frames[:, : command.flags.frames * (stops - 1) + 1]
        written.append(out if suffix else out / "interpolation.png")
        pictures.save_png(written[-1], picture(there.reshape(-1, *frames.shape[2:]), there.shape[1]))
    if suffix != ".png":
        columns = min(rows, 5)
        sheets = np.stack([picture(frames[:, i], columns) for i in range(len(path))])
        if suffix != ".mp4":
            written.append(out if suffix else out / "interpolation.gif")
            pictures.save_gif(written[-1], sheets, command.flags.fps)
        if suffix == ".mp4" or (not suffix and video.encoder() is not None):
            written.append(out if suffix else out / "interpolation.mp4")
            video.save_mp4(written[-1], sheets, command.flags.fps)
    between = "labels" if of_classes else "seeds"
    print(f"{stops} {between}, {rows} rows, step {meta['step']}: {', '.join(map(str, written))}")
    return 0


def check_mixtures(gan: Gan, state: GanState, num_classes: int) -> None:
    """Raises UsageError unless the model draws mixtures of classes, by their shares."""
    shares = jax.ShapeDtypeStruct((1, num_classes), np.float32)
    seeds = jax.ShapeDtypeStruct((1,), np.uint32)
    try:
        jax.eval_shape(lambda *x: gan.sample(x[0], random.from_seeds(x[1]), x[2]), state, seeds, shares)
    except (TypeError, ValueError) as error:
        raise UsageError("--between=labels: this model's networks take one class, and no mixtures") from error


def closed_mixtures(labels: Sequence[int], num_classes: int, frames: int) -> np.ndarray:
    """Shares of the classes, float32 [K * frames, num_classes]: from each of K labels on a straight line to
    the next, and back to the first, `frames` to a leg."""
    corners = np.eye(num_classes, dtype=np.float32)[np.asarray(labels)]
    t = (np.arange(frames, dtype=np.float32) / frames)[None, :, None]
    legs = (1 - t) * corners[:, None] + t * np.roll(corners, -1, axis=0)[:, None]
    return legs.reshape(-1, num_classes)


def closed_path(points: np.ndarray, frames: int) -> np.ndarray:
    """[K, Z] -> [K * frames, Z]: from point to point and back to the first, `frames` to a leg."""
    t = np.arange(frames) / frames
    legs = zip(points, np.roll(points, -1, axis=0), strict=True)
    return np.concatenate([slerp(start, end, t) for start, end in legs])
