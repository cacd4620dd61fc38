"""--mode=interpolate: from seed to seed, on the sphere of latents or on a straight line between styles, or
from class to class: a strip and a film."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from ganjax import random
from ganjax.cli import drawing, steered, workdir
from ganjax.cli.command import Command
from ganjax.cli.sample import MAX_GRID, read_lists
from ganjax.errors import UsageError
from ganjax.gan import Gan, GanState
from ganjax.report import images as pictures
from ganjax.report import video
from ganjax.sampling import Sampler, latents, slerp
from ganjax.steering import Directions, Look, Steering, layered


def run(command: Command) -> int:
    """Interpolates; returns the exit code."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "interpolate")
    flags, num_classes = command.flags, run.experiment.num_classes
    if flags.seeds is None:
        flags.seeds = f"0-{4 * flags.paths - 1}"
    seeds, labels = read_lists(command, run.experiment, "0-3")
    of_classes = flags.between == "labels"
    if of_classes:
        if not labels:
            raise UsageError("--between=labels: this model takes no labels")
        if len(labels) < 2:
            raise UsageError(f"--labels={flags.labels}: it takes two to go from one to the other")
        if flags["paths"].present:
            raise UsageError("--paths does nothing with --between=labels: there is a row for each seed")
    elif len(seeds) < 2 * flags.paths:
        raise UsageError(
            f"--seeds={flags.seeds}: it takes two to go from one to the other"
            + (f", for each of {flags.paths} paths" if flags.paths > 1 else "")
        )
    elif len(seeds) % flags.paths:
        raise UsageError(f"--paths={flags.paths}: {len(seeds)} seeds do not make so many paths of one length")
    out = epath.Path(flags.out or run.folder).expanduser()
    suffix = out.suffix if flags.out else ""  # a run's folder may have a dot in its name
    if suffix not in (".png", ".gif", ".mp4", ""):
        raise UsageError(f"--out={out}: expected a .png, a .gif, an .mp4, or a folder for all")
    if suffix == ".mp4" and video.encoder() is None:
        raise UsageError(f"--out={out}: there is no encoder for it here; {video.HOW}")
    if flags.noise == "random":
        raise UsageError("--noise=random: from frame to frame it would flicker; expected const or none")
    if flags.space not in (None, "z", "w"):
        raise UsageError(f"--space={flags.space}: expected z or w, in which there are ways between seeds")
    if of_classes:
        rows, stops = len(seeds), len(labels)
    else:
        rows, stops = (len(labels) or 1) * flags.paths, len(seeds) // flags.paths
    if rows * stops * flags.frames > MAX_GRID:
        count = rows * stops * flags.frames
        raise UsageError(f"--seeds={flags.seeds}: {count} images are too many for a strip, or a GIF")
    state, meta = workdir.chosen_state(command, run)
    gan = run.experiment.stages[meta["stage"]].gan
    options = drawing.options_of(flags, gan)
    steered.check(flags, gan)
    if flags.space == "w":
        if gan.styles is None:
            raise UsageError("--space=w: this model's generator has no styles; leave it out, or name z")
    elif of_classes:
        check_mixtures(gan, state, num_classes)
    if not of_classes and gan.latents is None:
        raise UsageError("--mode=interpolate: this model has no latents to go between")
    if gan.styles is not None:
        look, directions = steered.look_of(flags, gan, state, "const")
        state, _ = drawing.prepared(flags, gan, state)
        steering = Steering(gan, state)
        path = styles_between(
            steering, seeds, labels, flags.frames, flags.paths, flags.space or "z", num_classes, of_classes
        )
        drawn = steered_images(steering, path, look, directions)
    else:
        state, _ = drawing.prepared(flags, gan, state)
        drawn = plain_images(
            gan, state, seeds, labels, flags.frames, flags.paths, num_classes, of_classes, options
        )
    frames = drawn.reshape(rows, -1, *drawn.shape[1:])
    picture = workdir.picture_of(run.experiment)
    # Unless the flag says so, a strip ends at the last one, and the way back to the first is for films.
    there = frames[:, : flags.frames * (stops - 1) + 1]
    written = []
    if suffix in (".png", ""):
        shown = frames if flags.loop else there
        written.append(out if suffix else out / "interpolation.png")
        pictures.save_png(written[-1], picture(shown.reshape(-1, *frames.shape[2:]), shown.shape[1]))
    if suffix != ".png":
        shown = there if flags.loop is False else frames
        columns = min(rows, 5)
        sheets = np.stack([picture(shown[:, i], columns) for i in range(shown.shape[1])])
        if suffix != ".mp4":
            written.append(out if suffix else out / "interpolation.gif")
            pictures.save_gif(written[-1], sheets, flags.fps, loop=flags.loop is not False)
        if suffix == ".mp4" or (not suffix and video.encoder() is not None):
            written.append(out if suffix else out / "interpolation.mp4")
            video.save_mp4(written[-1], sheets, flags.fps)
    between = "labels" if of_classes else "seeds"
    print(f"{stops} {between}, {rows} rows, step {meta['step']}: {', '.join(map(str, written))}")
    return 0


def plain_images(
    gan: Gan,
    state: GanState,
    seeds: Sequence[int],
    labels: Sequence[int],
    frames: int,
    paths: int,
    num_classes: int,
    of_classes: bool,
    options: dict[str, Any],
) -> np.ndarray:
    """Images along closed paths, row by row, of a model without styles."""
    if of_classes:
        path = closed_line(np.eye(num_classes, dtype=np.float32)[np.asarray(labels)], frames)
        all_seeds = np.repeat(np.asarray(seeds, np.uint32), len(path))
        return Sampler(gan)(state, all_seeds, np.tile(path, (len(seeds), 1)), options=options)
    of_latents = drawing.of_latents(gan, options)
    path = latents_between(latents(gan, seeds, of_latents), frames, paths)
    return Sampler(gan)(
        state,
        np.zeros(max(len(labels), 1) * len(path), np.uint32),
        np.repeat(np.asarray(labels, np.int32), len(path)) if labels else None,
        latents=np.tile(path, (max(len(labels), 1), 1)),
        options={name: value for name, value in options.items() if name not in of_latents},
    )


def styles_between(
    steering: Steering,
    seeds: Sequence[int],
    labels: Sequence[int],
    frames: int,
    paths: int,
    space: str,
    num_classes: int,
    of_classes: bool,
) -> np.ndarray:
    """w [rows * K * frames, S] along closed paths, row by row; the rows are those of `plain_images`."""
    z = steering.latents(seeds)
    if of_classes and space == "w":
        ends = steering.mapped(np.repeat(z, len(labels), axis=0), np.tile(labels, len(seeds)))
        return np.concatenate([closed_line(row, frames) for row in np.split(ends, len(seeds))])
    if of_classes:
        shares = closed_line(np.eye(num_classes, dtype=np.float32)[np.asarray(labels)], frames)
        return steering.mapped(np.repeat(z, len(shares), axis=0), np.tile(shares, (len(seeds), 1)))
    if space == "w":
        of_label = [steering.mapped(z, np.full(len(z), label)) for label in labels] or [steering.mapped(z)]
        rows = [row for each in of_label for row in np.split(each, paths)]
        return np.concatenate([closed_line(row, frames) for row in rows])
    path = latents_between(z, frames, paths)
    if not labels:
        return steering.mapped(path)
    return steering.mapped(np.tile(path, (len(labels), 1)), np.repeat(np.asarray(labels), len(path)))


def steered_images(
    steering: Steering, styles: np.ndarray, look: Look, directions: Directions | None
) -> np.ndarray:
    """Images of w [n, S], all with the same noise."""
    return steering.images(steering.looked(layered(styles, steering.layers), look, directions), look.noise)


def latents_between(z: np.ndarray, frames: int, paths: int) -> np.ndarray:
    """[K, Z] in so many closed paths one after the other: [K * frames, Z]."""
    return np.concatenate([closed_path(part, frames) for part in np.split(z, paths)])


def check_mixtures(gan: Gan, state: GanState, num_classes: int) -> None:
    """Raises UsageError unless the model draws mixtures of classes, by their shares."""
    shares = jax.ShapeDtypeStruct((1, num_classes), np.float32)
    seeds = jax.ShapeDtypeStruct((1,), np.uint32)
    try:
        jax.eval_shape(lambda *x: gan.sample(x[0], random.from_seeds(x[1]), x[2]), state, seeds, shares)
    except (TypeError, ValueError) as error:
        raise UsageError("--between=labels: this model's networks take one class, and no mixtures") from error


def closed_line(points: np.ndarray, frames: int) -> np.ndarray:
    """[K, S] -> float32 [K * frames, S]: on straight lines from point to point, and back to the first,
    `frames` to a leg."""
    t = (np.arange(frames, dtype=np.float32) / frames)[None, :, None]
    legs = (1 - t) * points[:, None] + t * np.roll(points, -1, axis=0)[:, None]
    return legs.reshape(-1, points.shape[1])


def closed_path(points: np.ndarray, frames: int) -> np.ndarray:
    """[K, Z] -> [K * frames, Z]: from point to point and back to the first, `frames` to a leg."""
    t = np.arange(frames) / frames
    legs = zip(points, np.roll(points, -1, axis=0), strict=True)
    return np.concatenate([slerp(start, end, t) for start, end in legs])
