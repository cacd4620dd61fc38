"""--mode=sample: images by seed and label, from the averaged weights of a run's last checkpoint."""

import io
import math

import numpy as np
from etils import epath

from ganjax import config as settings
from ganjax.cli import drawing, workdir
from ganjax.cli.command import Command
from ganjax.errors import UsageError
from ganjax.gan import Experiment
from ganjax.loop import preview_inputs
from ganjax.report import images as pictures
from ganjax.report.files import write_atomically
from ganjax.sampling import Sampler

MAX_GRID = 10_000
MAX_SEED = 2**32 - 1


def run(command: Command) -> int:
    """Samples; returns the exit code."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "sample")
    show = run.experiment.show
    seeds, labels = read_lists(command, run.experiment, "0-63")
    out = epath.Path(command.flags.out or run.folder / "sample.png").expanduser()
    if out.suffix not in (".png", ".npz", ""):
        raise UsageError(f"--out={out}: expected a .png, an .npz or a folder")
    if show is not None and not out.suffix:
        raise UsageError(
            f"--out={out}: these samples make one picture, and no folder; name a .png or an .npz"
        )
    count = len(seeds) * max(len(labels), 1)
    if out.suffix == ".png" and count > MAX_GRID:
        instead = "images are too many for a grid; name an .npz or a folder"
        if show is not None:
            instead = "samples are too many for a picture; name an .npz"
        raise UsageError(f"--out={out}: {count} {instead}")
    state, meta = workdir.chosen_state(command, run)
    gan = run.experiment.stages[meta["stage"]].gan
    options = drawing.options_of(command.flags, gan)
    state, _ = drawing.prepared(command.flags, gan, state)
    all_seeds, all_labels = drawing.every(seeds, labels)
    samples = Sampler(gan)(state, all_seeds, all_labels, options=options)
    if out.suffix == ".npz":
        drawn = {"image": pictures.to_uint8(samples)} if show is None else {"sample": samples}
        arrays = {**drawn, "seed": all_seeds.astype(np.int64)}
        if all_labels is not None:
            arrays["label"] = all_labels
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        write_atomically(out, file.getvalue())
    elif out.suffix == ".png":
        columns = len(seeds) if labels else math.ceil(math.sqrt(count))
        pictures.save_png(out, workdir.picture_of(run.experiment)(samples, columns))
    else:
        for i, image in enumerate(pictures.to_uint8(samples)):
            folder = out  # with classes, one for each, as `ganjax.data.load` and others read them
            if all_labels is not None:
                digits = len(str(run.experiment.num_classes - 1))
                folder = out / f"{all_labels[i]:0{digits}d}"
            pictures.save_png(folder / f"seed{all_seeds[i]:06d}.png", image)
    print(f"{count} {'images' if show is None else 'samples'} of step {meta['step']}: {out}")
    return 0


def read_lists(
    command: Command, experiment: Experiment, default_seeds: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """`--seeds` and `--labels`; by default ten seeds for every class, or `default_seeds` without classes.

    What an experiment shows otherwise than in a grid is by default what its previews show.
    """
    flags, num_classes = command.flags, experiment.num_classes
    if flags.seeds is not None:
        text = flags.seeds
    elif experiment.show is not None:
        text = f"0-{int(preview_inputs(num_classes, experiment.show)[0].max())}"
    else:
        text = "0-9" if num_classes else default_seeds
    seeds = settings.parse_integers(text, name="seeds", maximum=MAX_SEED)
    labels = tuple(range(num_classes))
    if flags.labels is not None:
        labels = settings.parse_integers(flags.labels, name="labels")
        workdir.check_labels(labels, num_classes)
    return seeds, labels
