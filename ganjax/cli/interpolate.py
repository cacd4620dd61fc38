"""--mode=interpolate: from seed to seed on the sphere, as a strip and as an animation."""

import sys

import numpy as np
from etils import epath

from ganjax.cli import workdir
from ganjax.cli.command import Command
from ganjax.cli.sample import MAX_GRID, read_lists
from ganjax.errors import UsageError
from ganjax.report import images as pictures
from ganjax.sampling import Sampler, latents, slerp


def run(command: Command) -> int:
    """Interpolates; returns the exit code."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "interpolate")
    if command.flags.seeds is None:
        command.flags.seeds = "0-3"
    seeds, labels = read_lists(command, run.experiment, "0-3")
    if len(seeds) < 2:
        raise UsageError(f"--seeds={command.flags.seeds}: it takes two to go from one to the other")
    out = epath.Path(command.flags.out or run.folder).expanduser()
    suffix = out.suffix if command.flags.out else ""  # a run's folder may have a dot in its name
    if suffix not in (".png", ".gif", ""):
        raise UsageError(f"--out={out}: expected a .png, a .gif, or a folder for both")
    rows = len(labels) or 1
    count = rows * len(seeds) * command.flags.frames
    if count > MAX_GRID:
        raise UsageError(f"--seeds={command.flags.seeds}: {count} images are too many for a strip, or a GIF")
    state, meta = workdir.last_state(
        run,
        lambda text: print(text, file=sys.stderr),
        command.flags.checkpoint,
        command.flags.member,
    )
    gan = run.experiment.stages[meta["stage"]].gan
    if gan.latents is None:
        raise UsageError("--mode=interpolate: this model has no latents to go between")
    path = closed_path(latents(gan, seeds), command.flags.frames)
    drawn = Sampler(gan)(
        state,
        np.zeros(rows * len(path), np.uint32),
        np.repeat(np.asarray(labels, np.int32), len(path)) if labels else None,
        latents=np.tile(path, (rows, 1)),
    )
    frames = drawn.reshape(rows, len(path), *drawn.shape[1:])
    picture = workdir.picture_of(run.experiment)
    written = []
    if suffix in (".png", ""):
        # The strip ends at the last seed; the way back to the first is for the animation.
        there = frames[:, : command.flags.frames * (len(seeds) - 1) + 1]
        written.append(out if suffix else out / "interpolation.png")
        pictures.save_png(written[-1], picture(there.reshape(-1, *frames.shape[2:]), there.shape[1]))
    if suffix in (".gif", ""):
        written.append(out if suffix else out / "interpolation.gif")
        columns = min(rows, 5)
        sheets = np.stack([picture(frames[:, i], columns) for i in range(len(path))])
        pictures.save_gif(written[-1], sheets, command.flags.fps)
    print(f"{len(seeds)} seeds, {rows} rows, step {meta['step']}: {', '.join(map(str, written))}")
    return 0


def closed_path(points: np.ndarray, frames: int) -> np.ndarray:
    """[K, Z] -> [K * frames, Z]: from point to point and back to the first, `frames` to a leg."""
    t = np.arange(frames) / frames
    legs = zip(points, np.roll(points, -1, axis=0), strict=True)
    return np.concatenate([slerp(start, end, t) for start, end in legs])
