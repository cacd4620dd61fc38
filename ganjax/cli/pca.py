"""--mode=pca: the principal directions of styles (Härkönen et al. 2020, "GANSpace"), each as a strip."""

import numpy as np
from etils import epath

from ganjax import config as settings
from ganjax.cli import drawing, steered, workdir
from ganjax.cli.command import Command
from ganjax.cli.sample import MAX_GRID, MAX_SEED
from ganjax.errors import UsageError
from ganjax.report import images as pictures
from ganjax.steering import Move, Steering, layered, moved, principal_directions, save_directions, truncated

STOPS = 7  # pictures to a strip, the middle one where it starts


def run(command: Command) -> int:
    """Analyses; returns the exit code."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "pca")
    flags, num_classes = command.flags, run.experiment.num_classes
    seeds = settings.parse_integers(flags.seeds or "0-3", name="seeds", maximum=MAX_SEED)
    labels = tuple(range(num_classes))
    if flags.labels is not None:
        labels = settings.parse_integers(flags.labels, name="labels")
        workdir.check_labels(labels, num_classes)
    out = epath.Path(flags.out or run.folder / "pca").expanduser()
    if out.suffix or (out.exists() and not out.is_dir()):
        raise UsageError(f"--out={out}: expected a folder, for directions and strips")
    if len(seeds) * STOPS > MAX_GRID:
        raise UsageError(f"--seeds={flags.seeds}: strips of so many seeds have more than {MAX_GRID} images")
    if not 0 < flags.amount < 1000:
        raise UsageError(f"--amount={flags.amount}: expected standard deviations, above 0 and below 1000")
    if flags.noise == "random":
        raise UsageError("--noise=random: along a strip it would change too; expected const or none")
    state, meta = workdir.chosen_state(command, run)
    gan = run.experiment.stages[meta["stage"]].gan
    steered.check_mode("pca", gan)
    assert gan.styles is not None
    size = gan.styles.mean(state).shape[0]
    most = min(size, flags.num_samples - 1)
    if flags.num_samples < 2:
        raise UsageError(f"--num_samples={flags.num_samples}: expected at least 2 latents to find directions")
    if (flags.components or 1) > most:
        raise UsageError(
            f"--components={flags.components}: {flags.num_samples} styles of {size} entries "
            f"have {most} at most"
        )
    layers = None if flags.layers is None else steered.layers_of(flags.layers, gan.styles.layers)
    drawing.options_of(flags, gan)
    look, _ = steered.look_of(flags, gan, state, "const")
    steering = Steering(gan, state)

    def given(count: int) -> np.ndarray | None:
        return np.resize(labels, count) if labels else None

    drawn = np.arange(flags.num_samples)
    styles = steering.mapped(steering.latents(drawn), given(len(drawn)))
    try:
        directions = principal_directions(styles, flags.components)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    save_directions(out / "directions.npz", directions)
    starts = layered(steering.mapped(steering.latents(seeds), given(len(seeds))), steering.layers)
    if look.truncation is not None:
        starts = truncated(starts, steering.mean, look.truncation, look.cutoff)
    amounts = np.linspace(-flags.amount, flags.amount, STOPS)
    count = len(directions.vectors)
    digits = len(str(count - 1))
    for component in range(count):
        stops = [moved(starts, directions, [Move(component, float(x), layers)]) for x in amounts]
        rows = np.stack(stops, axis=1).reshape(-1, *starts.shape[1:])
        images = pictures.to_uint8(steering.images(rows, look.noise))
        pictures.save_png(out / f"component{component:0{digits}d}.png", pictures.grid(images, STOPS))
    print(
        f"{count} directions of {flags.num_samples} styles, with "
        f"{directions.shares.sum():.1%} of their variance, step {meta['step']}: {out / 'directions.npz'}; "
        f"a strip each from -{flags.amount:g} to {flags.amount:g} deviations, a row a seed"
    )
    return 0
