"""--mode=export: the generator of one of a run's checkpoints, as weights and as functions without ganjax."""

from etils import epath

from ganjax import config as settings
from ganjax.cli import workdir
from ganjax.cli.command import Command
from ganjax.errors import UsageError
from ganjax.export import check_folder, export_generator

_FILES = (".png", ".npz", ".json", ".safetensors", ".stablehlo", ".zip")


def run(command: Command) -> int:
    """Exports; returns the exit code."""
    run = workdir.open_run(command)
    workdir.check_drawn_from_seeds(run, "export")
    out = epath.Path(command.flags.out or run.folder / "export").expanduser()
    if out.suffix in _FILES:
        raise UsageError(f"--out={out}: expected a folder")
    check_folder(out)
    state, meta = workdir.chosen_state(command, run)
    files = export_generator(
        out,
        run.experiment.stages[meta["stage"]].gan,
        state,
        num_classes=run.experiment.num_classes,
        step=meta["step"],
        stage=meta["stage"],
        experiment=command.name,
        config=settings.to_json(run.config),
        seed=run.record["seed"] + command.flags.member,
        data=run.record.get("data", {}),
    )
    print(f"generator of step {meta['step']}: {out} ({', '.join(files)})")
    return 0
