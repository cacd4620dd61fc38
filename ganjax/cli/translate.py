"""--mode=translate: images of the user's through a trained translator, and a sheet that compares them."""

import collections
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from ganjax.cli import workdir
from ganjax.cli.command import Command
from ganjax.data import folder, images
from ganjax.errors import RunError, UsageError, shortened
from ganjax.report import images as pictures
from ganjax.report.progress import Progress
from ganjax.sampling import Sampler

SHEET = 32  # examples on the sheet, at most
CELL = 192  # pixels of a cell's side, at most; smaller images are not enlarged


class Task(NamedTuple):
    """An image to translate.

    Attributes:
      path: its file.
      name: what its translation is called, without the ending.
    """

    path: epath.Path
    name: str


def run(command: Command, channels: Mapping[str, tuple[int, int]], multiple: int, least: int) -> int:
    """Translates; returns the exit code, 1 where an image was damaged.

    Args:
      command: as it was given.
      channels: direction -> channels of its inputs and of its outputs.
      multiple: what the sides of an image must be multiples of: others are padded by reflection, and the
        translation is cut to their size.
      least: what they must be at least; likewise.
    """
    flags = command.flags
    direction = flags.direction or next(iter(channels))
    if direction not in channels:
        raise UsageError(f"--direction={shortened(direction)}: this model has {' and '.join(channels)} alone")
    if not flags.input:
        raise UsageError("--input=FILE|FOLDER is missing: what is to be translated")
    given = epath.Path(flags.input).expanduser()
    tasks = tasks_of(given)
    targets = targets_of(flags.target, tasks) if flags.target else {}
    run = workdir.open_run(command)
    out = epath.Path(flags.out or run.folder / "translated").expanduser()
    if out.suffix.lower() in images.SUFFIXES or (out.exists() and not out.is_dir()):
        raise UsageError(f"--out={out}: expected a folder, in which translations keep their images' names")
    sheet = free_name("comparison", [task.name for task in tasks])
    check_apart(out, given, tasks, [sheet, *(task.name for task in tasks)], targets.values())
    state, meta = workdir.last_state(run, _say, flags.checkpoint)
    state = jax.device_put(state.replace(opt_state={}))  # once for all images
    sampler = Sampler(run.experiment.stages[meta["stage"]].gan, chunk=1)

    source, depth = direction[0], channels[direction][0]
    examples: list[list[np.ndarray | None]] = []
    damaged: list[str] = []
    translated = 0

    def whole(path: epath.Path, channels: int) -> tuple[np.ndarray, np.ndarray | None] | None:
        """What `read` gives; None for a damaged file, which is told of at the end."""
        try:
            return read(path, channels)
        except images.Damaged as error:
            damaged.append(str(error))
            return None

    began = time.monotonic()
    with Progress(len(tasks), label="image") as progress:
        for done, task in enumerate(tasks, 1):
            progress.update(done, done / max(time.monotonic() - began, 1e-9))
            there = whole(task.path, depth)
            if there is None:
                continue
            image, alpha = there
            padded, crop = pad(image, multiple, least)
            answer = sampler(state, [0], conditions={source: to_float(padded)[None]})
            if not all(np.isfinite(x).all() for x in answer.values()):
                raise RunError(
                    f"{folder.shown(task.path)}: the model answers with NaN or infinity; "
                    "choose an earlier one with --checkpoint="
                )
            found = {name: pictures.to_uint8(x[0])[crop] for name, x in answer.items()}
            result = found[direction]
            pictures.save_png(out / f"{task.name}.png", with_alpha(result, alpha))
            translated += 1
            if len(examples) < SHEET:
                row: list[np.ndarray | None] = [image, result]
                if targets:  # or what comes back would stand in the place of the target that others have
                    target = whole(targets[task.name], 3) if task.name in targets else None
                    row.append(None if target is None else target[0])
                row += [x for name, x in found.items() if name != direction]
                examples.append(row)
    if not examples:
        raise RunError(f"nothing was translated: {damaged[0]}")
    pictures.save_png(out / f"{sheet}.png", comparison(examples))
    count = len(tasks) if not damaged else f"{translated} of {len(tasks)}"
    print(f"{count} images, {direction} of step {meta['step']}: {out}; side by side in {sheet}.png")
    for line in damaged:
        _say(line)
    return 1 if damaged else 0


def check_apart(
    out: epath.Path,
    place: epath.Path,
    tasks: Sequence[Task],
    names: Sequence[str],
    targets: Iterable[epath.Path] = (),
) -> None:
    """Raises UsageError where pictures could take the place of the images that they are of, or be taken for
    some of them the next time.

    Args:
      out: the folder of the pictures.
      place: the file or the folder of the images.
      tasks: these, where they are files.
      names: of the pictures.
      targets: other files that they could take the place of.
    """
    there, chosen = os.path.realpath(place), os.path.realpath(out)
    # A link in `out` may lead to any of the images.
    read = {os.path.realpath(task.path) for task in tasks}
    written = {os.path.realpath(out / f"{name}.png") for name in names}
    if written & {os.path.realpath(target) for target in targets}:
        raise UsageError(f"--out={out}: translations would take the place of --target; name another folder")
    if chosen == there or read & written:
        raise UsageError(f"--out={out}: the images lie there themselves; name another folder")
    if chosen.startswith(os.path.join(there, "")):
        raise UsageError(
            f"--out={out}: it lies in --input={place}, and would be read too the next time; name a folder "
            "elsewhere"
        )


def free_name(name: str, taken: Sequence[str]) -> str:
    """This name, or the next longer that is not taken."""
    while name in taken:
        name = f"{name}_"
    return name


def tasks_of(path: epath.Path, flag: str = "input") -> list[Task]:
    """The images in a file or a folder, and in the folders in it, by name.

    Raises:
      UsageError: there is no such file or folder, or no image in it.
    """
    if not path.exists():
        raise UsageError(f"--{flag}={path}: no such file or folder")
    if not path.is_dir():
        return [Task(path, path.stem)]
    found = folder.below(path)
    if not found:
        raise folder.no_images(path)
    names, whole = [folder.stem(each, path) for each in found], []
    # Two of one name, as a.png and a.jpg, keep their endings; and a.jpg.png does, if it then has the name of
    # one of them.
    while names != whole:
        counts, whole = collections.Counter(names), names
        names = [
            name if counts[name] == 1 else each.relative_to(path).as_posix()
            for each, name in zip(found, names, strict=True)
        ]
    return [Task(each, name) for each, name in zip(found, names, strict=True)]


def targets_of(path: str, tasks: list[Task]) -> dict[str, epath.Path]:
    """What should come out, of the images of the same names in a file or a folder.

    Raises:
      UsageError: there is none for any.
    """
    there = tasks_of(epath.Path(path).expanduser(), "target")
    if len(tasks) == len(there) == 1:
        return {tasks[0].name: there[0].path}
    known = {task.name: task.path for task in there}
    found = {task.name: known[task.name] for task in tasks if task.name in known}
    if not found:
        raise UsageError(f"--target={path}: no image there has the name of one of --input")
    return found


def read(path: epath.Path, channels: int) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 [H, W, channels], and the alpha channel [H, W, 1] that the network does not see; None: none."""
    content, name = folder.read_bytes(path), folder.shown(path)
    image = images.decode(content, name, channels, oriented=True)
    if channels == 4:
        return image, None
    whole = images.decode(content, name, 4, oriented=True)
    alpha = whole[..., 3:]
    return image, None if (alpha == 255).all() else alpha


def with_alpha(image: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """An image with the alpha channel that its original has, as RGBA: over white, as the network sees its
    inputs, it looks as it is, as far as a colour can make it so."""
    if alpha is None or image.shape[-1] == 4:
        return image
    colours = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    share = alpha / np.float32(255)
    bare = (colours - 255 * (1 - share)) / np.where(share > 0, share, 1)
    bare = np.where(share > 0, np.clip(np.round(bare), 0, 255), colours).astype(np.uint8)
    return np.concatenate([bare, alpha], axis=-1)


def pad(image: np.ndarray, multiple: int, least: int = 1) -> tuple[np.ndarray, tuple[slice, slice]]:
    """An image whose sides are multiples and no smaller than `least`, by its reflection around it, and where
    in it the image lies. Where the image is smaller than the padding, it is reflected as often as need be."""
    pads, crop = [], []
    for size in image.shape[:2]:
        whole = -(-max(size, least) // multiple) * multiple
        first = (whole - size) // 2
        pads.append((first, whole - size - first))
        crop.append(slice(first, first + size))
    return np.pad(image, (*pads, (0, 0)), mode="reflect"), (crop[0], crop[1])


def comparison(examples: Sequence[Sequence[np.ndarray | None]]) -> np.ndarray:
    """A sheet, a row an example: its input, its output and what else there is, each fitted into a cell; None
    is a blank one. Rows are of one length."""
    side = min(CELL, max(max(image.shape[:2]) for row in examples for image in row if image is not None))
    blank = np.full((side, side, 3), 255, np.uint8)
    cells = [blank if image is None else _in_cell(image, side) for row in examples for image in row]
    return pictures.grid(np.stack(cells), len(examples[0]))


def _in_cell(image: np.ndarray, side: int) -> np.ndarray:
    scale = min(side / max(image.shape[:2]), 1.0)
    size = tuple(max(1, math.floor(length * scale + 0.5)) for length in image.shape[:2])
    small = images.fit_array(pictures.opaque(image[None])[0], 3, (size[0], size[1]))
    top, left = ((side - length) // 2 for length in size)
    cell = np.full((side, side, 3), 255, np.uint8)
    cell[top : top + size[0], left : left + size[1]] = small
    return cell


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 to float32 [-1, 1], as `ganjax.data.to_float` does on a device."""
    return (2 * image.astype(np.int32) - 255).astype(np.float32) * np.float32(1 / 255)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
