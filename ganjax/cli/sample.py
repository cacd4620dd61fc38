"""--mode=sample: images by seed and label, from the averaged weights of a run's last checkpoint."""

import io
import math
from collections.abc import Sequence

import jax
import numpy as np
from absl import flags as absl_flags
from etils import epath

from ganjax import config as settings
from ganjax.cli import drawing, workdir
from ganjax.cli.command import Command
from ganjax.errors import UsageError
from ganjax.gan import Experiment, Gan, GanState
from ganjax.loop import preview_inputs
from ganjax.report import images as pictures
from ganjax.report.files import write_atomically
from ganjax.sampling import Sampler, at_once

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
    drawing.options_of(command.flags, gan)
    state, _ = drawing.prepared(command.flags, gan, state)
    artist = Artist(run.experiment, gan, state)
    samples = artist.samples(command.flags, seeds, labels)
    all_seeds, all_labels = drawing.every(seeds, labels)
    if out.suffix == ".npz":
        drawn = {"image": pictures.to_uint8(samples)} if show is None else {"sample": samples}
        arrays = {**drawn, "seed": all_seeds.astype(np.int64)}
        if all_labels is not None:
            arrays["label"] = all_labels
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        write_atomically(out, file.getvalue())
    elif out.suffix == ".png":
        pictures.save_png(out, artist.sheet(samples, seeds, labels))
    else:
        for i, image in enumerate(pictures.to_uint8(samples)):
            folder = out  # with classes, one for each, as `ganjax.data.load` and others read them
            if all_labels is not None:
                digits = len(str(run.experiment.num_classes - 1))
                folder = out / f"{all_labels[i]:0{digits}d}"
            pictures.save_png(folder / f"seed{all_seeds[i]:06d}.png", image)
    print(f"{count} {'images' if show is None else 'samples'} of step {meta['step']}: {out}")
    return 0


class Artist:
    """Draws samples of a trained model as flags say, once or again and again: the same bytes, and each
    program is compiled once.

    Args:
      experiment: the model's.
      gan: of the stage that the state is of.
      state: what is sampled from, as `drawing.prepared` gives it.
    """

    def __init__(self, experiment: Experiment, gan: Gan, state: GanState):
        self._gan, self._picture = gan, workdir.picture_of(experiment)
        self._state = jax.device_put(state.replace(opt_state={}))
        self._sampler = Sampler(gan, at_once()) if experiment.show is None else Sampler(gan)

    def samples(
        self, flags: absl_flags.FlagValues, seeds: Sequence[int], labels: Sequence[int]
    ) -> np.ndarray:
        """Float32 [seeds * labels, ...], as `drawing.every` orders them.

        Raises:
          UsageError: a flag does not fit the model.
        """
        options = drawing.options_of(flags, self._gan)
        return self._sampler(self._state, *drawing.every(seeds, labels), options=options)

    def sheet(self, samples: np.ndarray, seeds: Sequence[int], labels: Sequence[int]) -> np.ndarray:
        """Their picture, uint8 [H, W, C]: a row a label, or as square as can be."""
        return self._picture(samples, len(seeds) if labels else math.ceil(math.sqrt(len(samples))))


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
