"""--mode=explore: a page on this machine that steers a trained generator (`ganjax.explorer`)."""

import shlex
import socket
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from ganjax import export
from ganjax.cli import command as commands
from ganjax.cli import drawing, sample, workdir
from ganjax.cli.command import Command
from ganjax.errors import RunError, UsageError, shortened
from ganjax.explorer import app
from ganjax.explorer.controls import Controls
from ganjax.gan import Gan, GanState
from ganjax.report.images import encode_png
from ganjax.steering import (
    NOISE_MODES,
    Directions,
    Steering,
    load_directions,
    principal_directions,
    save_directions,
)

PICTURE = "picture.png"  # what the commands that the page shows write
MOST = 20  # sliders
SEEDS = 10_000  # the latents from whose styles directions are found
_FLAGS = ("experiment", "member", "standing_statistics")  # that a shown command repeats where they were given


def run(command: Command) -> int:
    """Serves until the process is ended."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "explore")
    app.check_installed()
    flags = command.flags
    listener = app.listening(flags.host, flags.port)
    try:
        state, meta = workdir.chosen_state(command, run)
        explored = explored_of(command, run, state, meta)
        draw_first(explored)  # what can't be drawn is told before there is a page
        local = app.is_local(flags.host)
        if not local:
            print(
                f"ganjax: --host={flags.host}: everyone who reaches this machine can use the page, without a "
                "password",
                file=sys.stderr,
            )
        server = app.server_of(app.create_app(explored, local), listener)
        name = flags.host if flags.host not in ("0.0.0.0", "::") else socket.gethostname()
        name, port = f"[{name}]" if ":" in name else name, listener.getsockname()[1]
        print(f"{explored.title}, step {meta['step']}: http://{name}:{port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    finally:
        listener.close()
    return 0


def draw_first(explored: app.Explored) -> None:
    """Draws once with each kind of noise: each has programs of its own, whose compiling no change should wait
    for."""
    for noise in explored.controls.noise or (None,):
        explored.draw(explored.controls.flags(() if noise is None else (("noise", noise),)))


def explored_of(command: Command, run: workdir.Run, state: GanState, meta: dict) -> app.Explored:
    """What is served: the state's samples, by the code of --mode=sample."""
    gan = run.experiment.stages[meta["stage"]].gan
    controls = controls_of(command, run, gan, state, meta["step"])
    state, _ = drawing.prepared(command.flags, gan, state)
    artist = sample.Artist(run.experiment, gan, state)

    def draw(words: Sequence[str]) -> bytes:
        asked = command._replace(flags=commands.read_flags(words))
        seeds, labels = sample.read_lists(asked, run.experiment, "0")
        return encode_png(artist.sheet(artist.samples(asked.flags, seeds, labels), seeds, labels))

    def shown(words: Sequence[str]) -> str:
        program = ["python", "run.py"] if command.package == "experiments" else ["ganjax"]
        given = [f"--{name}={command.flags[name].value}" for name in _FLAGS if command.flags[name].present]
        own = [f"--workdir={run.folder}", "--mode=sample", *given, f"--checkpoint={meta['step']}"]
        return shlex.join([*program, *own, *words, f"--out={PICTURE}"])

    about = f"{run.folder}, step {meta['step']:,}"
    return app.Explored(command.name, about, controls, draw, shown)


def controls_of(command: Command, run: workdir.Run, gan: Gan, state: GanState, step: int) -> Controls:
    """What the generator can be steered by."""
    show = run.experiment.show
    options: dict[str, Any] = {}
    if drawing.takes(gan.latents, "truncation"):
        options["truncation"] = "bound"
        if drawing.takes(gan.sample, "truncation_mode"):
            options["truncation_modes"] = ("resample", "clamp")
    elif drawing.takes(gan.sample, "truncation"):
        options["truncation"] = "psi"
    if show is None:
        inputs = export.example_inputs(run.experiment.num_classes)
        image = jax.eval_shape(lambda s, x: export.images_of(gan, s, **x), state, inputs)
        options["transparent"] = image.shape[-1] == 4
    if gan.styles is not None:
        options |= {"noise": NOISE_MODES, "layers": gan.styles.layers}
        if (found := directions_of(command, run, gan, state, step)) is not None:
            shares = tuple(map(float, found[0].shares[:MOST]))
            options |= {"directions": shares, "directions_file": str(found[1])}
    elif command.flags.directions is not None:
        raise UsageError("--directions: this model's generator has no styles that could be moved")
    return Controls(1 if show is None else show.count, run.experiment.num_classes, **options)


def directions_of(
    command: Command, run: workdir.Run, gan: Gan, state: GanState, step: int
) -> tuple[Directions, epath.Path] | None:
    """The directions that sliders move along, and their file; None where styles do not vary, or the file
    can't be written.

    The file is `--directions`, or one in the run's folder, so that commands can name it. There it is made
    where it is missing.

    Raises:
      UsageError: they are of styles of another size.
      RunError: the file can't be read.
    """
    assert gan.styles is not None
    if command.flags.directions is not None:
        file = epath.Path(command.flags.directions).expanduser()
    else:
        member = f"-member{command.flags.member}" if run.experiment.seeds > 1 else ""
        file = run.folder / "explore" / f"directions-{step}{member}.npz"
        if not file.exists():
            steering, seeds, classes = Steering(gan, state), np.arange(SEEDS), run.experiment.num_classes
            labels = np.resize(np.arange(classes), SEEDS) if classes else None
            styles = steering.mapped(steering.latents(seeds), labels)
            try:
                save_directions(file, principal_directions(styles))
            except ValueError:
                return None
            except RunError as error:  # another's run can be looked at too
                print(f"ganjax: {error}: so there are no directions on the page", file=sys.stderr)
                return None
    directions, size = load_directions(file), gan.styles.mean(state).shape[0]
    if directions.vectors.shape[1] != size:
        raise UsageError(
            f"--directions={shortened(str(file), 200)}: they have {directions.vectors.shape[1]} entries, and "
            f"this network's styles {size}"
        )
    return directions, file
