"""--mode=plot: curves of a run's losses and other metrics, from its metrics.jsonl."""

from etils import epath

from ganjax.cli import workdir
from ganjax.cli.command import Command
from ganjax.errors import RunError, UsageError, nearest, shortened
from ganjax.report import curves
from ganjax.report.files import write_atomically
from ganjax.report.log import read_jsonl


def run(command: Command) -> int:
    """Draws; returns the exit code."""
    run = workdir.open_run(command)
    out = epath.Path(command.flags.out or run.folder / "curves.png").expanduser()
    if out.suffix != ".png":
        raise UsageError(f"--out={out}: expected a .png")
    path = run.folder / "metrics.jsonl"
    try:
        records = [record for record in read_jsonl(path) if curves.is_number(record.get("step"))]
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror or error}") from error
    names = curves.metric_names(records)
    chosen = command.flags.metrics.split(",") if command.flags.metrics else []
    for name in chosen:
        if name not in names:
            raise UsageError(
                f"--metrics={shortened(name)}: the run has no such metric; {nearest(name, names)}"
            )
    if not curves.panels(names, chosen):
        raise RunError(f"{path} holds no losses and no logits; name what to draw with --metrics")
    title = f"{run.record['experiment']}, {curves.of_seeds(run.record['seed'], run.experiment.seeds)}"
    write_atomically(out, curves.draw(records, chosen, title=title))
    print(f"curves of {len(records)} lines, to step {max(record['step'] for record in records)}: {out}")
    return 0
