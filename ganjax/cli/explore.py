"""--mode=explore: a page on this machine that steers a trained generator (`ganjax.explorer`)."""

import shlex
import socket
import sys
from collections.abc import Sequence

from ganjax.cli import command as commands
from ganjax.cli import drawing, sample, workdir
from ganjax.cli.command import Command
from ganjax.explorer import app
from ganjax.explorer.controls import Controls
from ganjax.gan import Gan, GanState
from ganjax.report.images import encode_png

PICTURE = "picture.png"  # what the commands that the page shows write
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
        explored.draw(explored.controls.flags(()))  # what can't be drawn is told before there is a page
        local = app.is_local(flags.host)
        if not local:
            print(
                f"ganjax: --host={flags.host}: everyone who reaches this machine can use the page, without a "
                "password",
                file=sys.stderr,
            )
        server = app.create_app(explored, app.LOCAL if local else None)
        name = "localhost" if local else socket.gethostname()
        port = listener.getsockname()[1]
        print(f"{explored.title}, step {meta['step']}: http://{name}:{port}/ (Ctrl-C ends it)", flush=True)
        app.serve(server, listener)
    finally:
        listener.close()
    return 0


def explored_of(command: Command, run: workdir.Run, state: GanState, meta: dict) -> app.Explored:
    """What is served: the state's samples, by the code of --mode=sample."""
    gan = run.experiment.stages[meta["stage"]].gan
    controls = controls_of(run, gan, state)
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


def controls_of(run: workdir.Run, gan: Gan, state: GanState) -> Controls:
    """What the generator can be steered by."""
    del state
    show, options = run.experiment.show, {}
    if drawing.takes(gan.latents, "truncation"):
        options = {"truncation": "bound"}
        if drawing.takes(gan.sample, "truncation_mode"):
            options["truncation_modes"] = ("resample", "clamp")
    elif drawing.takes(gan.sample, "truncation"):
        options = {"truncation": "psi"}
    return Controls(1 if show is None else show.count, run.experiment.num_classes, **options)
