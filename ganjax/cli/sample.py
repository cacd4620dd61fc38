"""--mode=sample: images by seed and label, from the averaged weights of a run's last checkpoint."""

import io
import math

import numpy as np
from etils import epath

from ganjax import config as settings
from ganjax import projection
from ganjax.cli import drawing, steered, workdir
from ganjax.cli.command import Command
from ganjax.errors import UsageError
from ganjax.gan import Experiment
from ganjax.loop import preview_inputs
from ganjax.report import images as pictures
from ganjax.report.files import write_atomically
from ganjax.sampling import Sampler
from ganjax.steering import Steering

MAX_GRID = 10_000
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
    options = drawing.options_of(command.flags, gan)
    steered.check(command.flags, gan)
    all_seeds, all_labels = drawing.every(seeds, labels)
    if gan.styles is None:
        state, _ = drawing.prepared(command.flags, gan, state)
        samples = Sampler(gan)(state, all_seeds, all_labels, options=options)
    else:
        look, directions = steered.look_of(command.flags, gan, state, "random")
        state, _ = drawing.prepared(command.flags, gan, state)
        samples = Steering(gan, state).draw(all_seeds, all_labels, look=look, directions=directions)
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


def _of_latents(command: Command, run: workdir.Run) -> int:
    """Pictures of projected images, and of these moved along directions."""
    flags = command.flags
    if run.experiment.show is not None:
        raise UsageError("--latent: this model's samples are no images")
    for name in ("seeds", "labels", "mix"):
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
    if gan.styles is None:
        if flags.truncation is not None:
            raise UsageError("--truncation does nothing with --latent, of a model without styles")
        state, _ = drawing.prepared(flags, gan, state)
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
