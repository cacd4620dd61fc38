"""What an experiment's own judge is asked for, before anything is drawn: for evaluate and train."""

from collections.abc import Callable

from absl import flags as absl_flags

from ganjax.gan import Experiment


def judged(
    experiment: Experiment, flags: absl_flags.FlagValues, say: Callable[[str], None] = lambda text: None
) -> Experiment:
    """The experiment, whose own judge, if it has one, measures what `--metrics` names and nothing else.

    Args:
      experiment: as it is built.
      flags: of the command.
      say: is told what is left out, where nothing is named.
    Raises:
      UsageError: what is named can't be measured of the data that there are.
    """
    own = experiment.judge
    if own is None or own.of is None:
        return experiment
    asked = flags.metrics.split(",") if flags.metrics else []
    if not set(asked) <= set(own.metrics):  # which the `Measurer` refuses
        return experiment
    return experiment._replace(judge=own.of(asked, flags.num_samples, say))
