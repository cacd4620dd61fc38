"""--mode=sample: images by seed and label, from the averaged weights of a run's last checkpoint."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags as absl_flags
from etils import epath

from ganjax import config as settings
from ganjax import projection
from ganjax.cli import drawing, steered, workdir
from ganjax.cli.command import Command
from ganjax.errors import UsageError
from ganjax.gan import Experiment, Gan, GanState
from ganjax.loop import preview_inputs
from ganjax.report import images as pictures
from ganjax.report.files import write_atomically
from ganjax.sampling import Sampler
from ganjax.steering import Directions, Look, Steering

MAX_GRID = 10_000
POINTS = 64  # samples at a time, of those that make one picture together
MAX_SEED = 2**32 - 1


def run(command: Command) -> int:
    """Samples; returns the exit code."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "sample")
    show = run.experiment.show
    if command.flags.latent is not None:
        return _of_latents(command, run)
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
    how(command.flags, gan, state)
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
        self._sampler = Sampler(gan, None if experiment.show is None else POINTS)
        self._steering = None if gan.styles is None else Steering(gan, self._state)

    def samples(
        self, flags: absl_flags.FlagValues, seeds: Sequence[int], labels: Sequence[int]
    ) -> np.ndarray:
        """Float32 [seeds * labels, ...], as `drawing.every` orders them.

        Raises:
          UsageError, RunError: as `how`.
        """
        options, look, directions = how(flags, self._gan, self._state)
        every = drawing.every(seeds, labels)
        if self._steering is None or look is None:
            return self._sampler(self._state, *every, options=options)
        return self._steering.draw(*every, look=look, directions=directions)

    def sheet(self, samples: np.ndarray, seeds: Sequence[int], labels: Sequence[int]) -> np.ndarray:
        """Their picture, uint8 [H, W, C]: a row a label, or as square as can be."""
        return self._picture(samples, len(seeds) if labels else math.ceil(math.sqrt(len(samples))))


def how(
    flags: absl_flags.FlagValues, gan: Gan, state: GanState
) -> tuple[Mapping[str, Any], Look | None, Directions | None]:
    """What flags say of drawing: the family's options, and of a model with styles its look and directions.

    Raises:
      UsageError: a flag does not fit the model.
      RunError: the file of directions can't be read.
    """
    options = drawing.options_of(flags, gan)
    steered.check(flags, gan)
    if gan.styles is None:
        return options, None, None
    return options, *steered.look_of(flags, gan, state, "random")


def _of_latents(command: Command, run: workdir.Run) -> int:
    """Pictures of projected images, and of these moved along directions."""
    flags = command.flags
    if run.experiment.show is not None:
        raise UsageError("--latent: this model's samples are no images")
    for name in ("seeds", "labels", "mix", "truncation_mode"):
        if flags[name].present:
            raise UsageError(f"--{name} does nothing with --latent")
    out = epath.Path(flags.out or run.folder / "sample.png").expanduser()
    if out.suffix not in (".png", ""):
        raise UsageError(f"--out={out}: expected a .png or a folder")
    if flags.noise == "random":
        raise UsageError("--noise=random: with --latent there are no seeds; expected const or none")
    found = steered.read_latents(flags.latent)
    state, meta = workdir.chosen_state(command, run)
    gan = run.experiment.stages[meta["stage"]].gan
    steered.check(flags, gan)
    steered.check_latents(found, gan, state, run.experiment.num_classes)
    state, _ = drawing.prepared(flags, gan, state)
    if gan.styles is None:
        if flags.truncation is not None:
            raise UsageError("--truncation does nothing with --latent, of a model without styles")
        samples = projection.draw(list(found.values()), None, Sampler(gan), state)
    else:
        look, directions = steered.look_of(flags, gan, state, "const")
        steering = Steering(gan, state)
        each = [
            p._replace(styles=steering.looked(np.asarray(p.styles)[None], look, directions)[0])
            for p in found.values()
        ]
        if flags.noise is None:  # that which was projected
            samples = projection.draw(each, steering, Sampler(gan), state)
        else:
            samples = steering.images(np.stack([np.asarray(p.styles) for p in each]), look.noise)
    if out.suffix:
        pictures.save_png(
            out, workdir.picture_of(run.experiment)(samples, math.ceil(math.sqrt(len(samples))))
        )
    else:
        for name, image in zip(found, pictures.to_uint8(samples), strict=True):
            pictures.save_png(out / f"{name}.png", image)
    print(f"{len(samples)} images of step {meta['step']}: {out}")
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
