"""--mode=style_mix: the styles of some images in layers of others, as in the figures of the papers (Karras et
al. 2019, "A style-based generator architecture for generative adversarial networks", figure 3)."""

import numpy as np
from etils import epath

from ganjax import config as settings
from ganjax.cli import drawing, steered, workdir
from ganjax.cli.command import Command
from ganjax.cli.sample import MAX_GRID, MAX_SEED
from ganjax.errors import UsageError
from ganjax.report import images as pictures
from ganjax.steering import Steering, mixed


def run(command: Command) -> int:
    """Draws; returns the exit code."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "style_mix")
    flags = command.flags
    rows, columns = (
        settings.parse_integers(text, name=name, maximum=MAX_SEED)
        for name, text in (("rows", flags.rows or "0-3"), ("columns", flags.columns or "4-8"))
    )
    labels: tuple[int, ...] = (0,) if run.experiment.num_classes else ()
    if flags.labels is not None:
        labels = settings.parse_integers(flags.labels, name="labels")
        workdir.check_labels(labels, run.experiment.num_classes)
    label = steered.one_label(labels, flags.labels)
    out = epath.Path(flags.out or run.folder / "style_mix.png").expanduser()
    if out.suffix != ".png":
        raise UsageError(f"--out={out}: expected a .png")
    if len(rows) * len(columns) > MAX_GRID:
        raise UsageError(f"--columns={flags.columns}: {len(rows) * len(columns)} images are too many for one")
    if flags.noise == "random":
        raise UsageError("--noise=random: a mixture is of two seeds; expected const or none")
    state, meta = workdir.chosen_state(command, run)
    gan = run.experiment.stages[meta["stage"]].gan
    steered.check_mode("style_mix", gan)
    assert gan.styles is not None
    if flags.layers is None:
        raise UsageError(
            "--layers=LIST is missing: in which layers the style is the column's, of "
            f"0-{gan.styles.layers - 1}; the first shape the image most coarsely"
        )
    layers = steered.layers_of(flags.layers, gan.styles.layers)
    drawing.options_of(flags, gan)
    look, directions = steered.look_of(flags, gan, state, "const")
    steering = Steering(gan, state)
    of_rows, of_columns = (
        steering.styles(
            seeds, None if label is None else [label] * len(seeds), look=look, directions=directions
        )
        for seeds in (rows, columns)
    )
    mixtures = mixed(of_rows, of_columns, layers)
    styles = np.concatenate([of_columns, of_rows, mixtures.reshape(-1, *of_rows.shape[1:])])
    images = pictures.to_uint8(steering.images(styles, look.noise))
    pictures.save_png(out, figure(images, len(rows), len(columns)))
    print(f"{len(rows)} rows, {len(columns)} columns, layers {flags.layers}, step {meta['step']}: {out}")
    return 0


def figure(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """uint8 [H, W, C]: mixtures with the rows' images on the left and the columns' above.

    Args:
      images: uint8 [columns + rows + rows * columns, H, W, C], in this order.
    """
    above, left = images[:columns], images[columns : columns + rows]
    mixtures = images[columns + rows :].reshape(rows, columns, *images.shape[1:])
    corner = np.full((1, *images.shape[1:]), 255, np.uint8)
    lines = [corner, above] + [x for row in zip(left[:, None], mixtures, strict=True) for x in row]
    return pictures.grid(np.concatenate(lines), columns + 1)
