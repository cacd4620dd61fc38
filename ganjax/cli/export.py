"""--mode=export: the generator of one of a run's checkpoints, as weights and as functions without ganjax; or
all of its networks' weights, as one file."""

from typing import Any

from etils import epath

from ganjax import config as settings
from ganjax.cli import workdir
from ganjax.cli.command import Command
from ganjax.errors import UsageError
from ganjax.export import check_folder, export_generator, export_weights

_FILES = (".png", ".npz", ".json", ".safetensors", ".stablehlo", ".zip")


def run(command: Command) -> int:
    """Exports; returns the exit code."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "export")
    out = epath.Path(command.flags.out or run.folder / "export").expanduser()
    single = out.suffix == ".safetensors"
    if out.suffix in _FILES and not single:
        raise UsageError(f"--out={out}: expected a folder, or a .safetensors")
    if single and out.is_dir():
        raise UsageError(f"--out={out} is a folder; name a file")
    if not single:
        check_folder(out)
    state, meta = workdir.chosen_state(command, run)
    gan = run.experiment.stages[meta["stage"]].gan
    described: dict[str, Any] = {
        "num_classes": run.experiment.num_classes,
        "step": meta["step"],
        "stage": meta["stage"],
        "experiment": command.name,
        "config": settings.to_json(run.config),
        "seed": run.record["seed"] + command.flags.member,
        "data": run.record.get("data", {}),
    }
    if single:
        count = export_weights(out, gan, state, **described)
        print(f"weights of step {meta['step']}: {out} ({count} arrays)")
        return 0
    files = export_generator(out, gan, state, **described)
    print(f"generator of step {meta['step']}: {out} ({', '.join(files)})")
    return 0
