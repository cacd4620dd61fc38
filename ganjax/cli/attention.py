"""--mode=attention: where a generator with self-attention looks, as a picture."""

import re

import jax
from etils import epath

from ganjax import export
from ganjax.cli import drawing, workdir
from ganjax.cli.command import Command
from ganjax.cli.sample import read_lists
from ganjax.errors import UsageError, shortened
from ganjax.gan import Gan, GanState
from ganjax.report.attention import attention_sheet
from ganjax.report.images import save_png
from ganjax.sampling import Sampler

MAX_ROWS = 64
_AT_ONCE = 4  # images: one of 64x64 queries has millions of weights


def run(command: Command) -> int:
    """Draws; returns the exit code."""
    run = workdir.open_run(command)
    classes = run.experiment.num_classes
    if command.flags.seeds is None:
        command.flags.seeds = "0" if classes else "0-7"
    if command.flags.labels is None and classes:
        command.flags.labels = f"0-{min(classes, 8) - 1}"
    seeds, labels = read_lists(command, run.experiment, "0-7")
    out = epath.Path(command.flags.out or run.folder / "attention.png").expanduser()
    if out.suffix != ".png":
        raise UsageError(f"--out={out}: expected a .png")
    count = len(seeds) * max(len(labels), 1)
    if count > MAX_ROWS:
        raise UsageError(
            f"--seeds={command.flags.seeds}: {count} images are more than {MAX_ROWS}, a row each"
        )
    state, meta = workdir.chosen_state(command, run)
    gan = run.experiment.stages[meta["stage"]].gan
    options = drawing.options_of(command.flags, gan)
    queries = read_queries(command.flags.queries, *image_sides(gan, state, classes))
    state, _ = drawing.prepared(command.flags, gan, state)
    all_seeds, all_labels = drawing.every(seeds, labels)
    sampler = Sampler(gan, min(count, _AT_ONCE))
    images = sampler(state, all_seeds, all_labels, options=options)
    weights = sampler(state, all_seeds, all_labels, options=options | {"attention": True})
    save_png(out, attention_sheet(images, weights, queries))
    print(f"{count} images, {len(queries)} queries, step {meta['step']}: {out}")
    return 0


def image_sides(gan: Gan, state: GanState, num_classes: int) -> tuple[int, int]:
    """Height and width of the images. Raises UsageError unless the model has attention to show."""
    inputs = export.example_inputs(num_classes)
    try:
        if not drawing.takes(gan.sample, "attention"):
            raise ValueError("it has no such option")
        attention = {"attention": True}
        jax.eval_shape(lambda s, x: export.images_of(gan, s, **x, options=attention), state, inputs)
    except ValueError as error:
        raise UsageError("--mode=attention: this model's generator has no self-attention") from error
    images = jax.eval_shape(lambda s, x: export.images_of(gan, s, **x), state, inputs)
    return images.shape[1], images.shape[2]


def read_queries(text: str | None, height: int, width: int) -> list[tuple[int, int]]:
    """`--queries`; by default the middle, and the middles of the quarters. UsageError if it is unreadable."""
    if text is None:
        quarters = [(row, column) for row in (1, 3) for column in (1, 3)]
        return [(height // 2, width // 2), *((r * height // 4, c * width // 4) for r, c in quarters)]
    queries = []
    for word in text.split(","):
        match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", word)
        if match is None or int(match[1]) >= height or int(match[2]) >= width:
            raise UsageError(
                f"--queries={shortened(text)}: expected pixels of {height}x{width}, as in "
                f"0x0,{height - 1}x{width - 1}"
            )
        queries.append((int(match[1]), int(match[2])))
    return queries
