"""The alarm of a run that collapses: what is measured at every grid, and when that is a warning."""

import dataclasses
import statistics
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ganjax import errors
from ganjax.metrics.diversity import pairwise_distance


class Measure(NamedTuple):
    """What is known of one step.

    Attributes:
      step: the step of the grid.
      diversity: `fixed_diversity` of the grid's images; None where there is none.
      discriminator_accuracy: the share in [0, 1] of real and generated images that the discriminator takes
        for what they are, half the weight on each; None where it gives none, as critics do.
    """

    step: int
    diversity: float | None = None
    discriminator_accuracy: float | None = None


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a history is a warning.

    Attributes:
      fall: diversity under this share of the reference is a fall. The reference is the median of the grids so
        far, those of falls left out, so that one wild grid neither makes nor hides a fall.
      recovery: at this share of the reference a fall is over. More than `fall`, so that what hovers about the
        limit warns once.
      settle: how many grids at the start are passed over,
      settle_steps: and those before which step. Untrained networks make noise or one grey image, first steps
        overshoot, and their discriminators are at chance or always right: none of that says what the run's
        values should be.
      least: a diversity at or under which a grid is a fall whatever came before: for runs that never had any.
        0 means images that are equal to the byte; a share of the real images' own distance asks for more.
      accurate: a discriminator at or above this accuracy wins: its gradients may say little.
      chance: one that is this near to 0.5 tells nothing apart. Near enough that a good generator, whose
        discriminator's accuracy on a batch strays around 0.5, does not meet it at grid after grid, as a
        discriminator does that always answers the same.
      patience: at how many grids on end it must be so, and no longer be so before it is told again.
    """

    fall: float = 0.5
    recovery: float = 0.7
    settle: int = 2
    settle_steps: int = 500
    least: float = 0.0
    accurate: float = 0.995
    chance: float = 0.01
    patience: int = 5

    def __post_init__(self):
        if not 0 < self.fall < self.recovery <= 1:
            raise errors.UsageError(
                f"fall={self.fall}, recovery={self.recovery}: expected 0 < fall < recovery <= 1"
            )
        if self.settle < 0 or self.settle_steps < 0 or self.patience < 1:
            raise errors.UsageError(
                f"settle={self.settle}, settle_steps={self.settle_steps}, patience={self.patience}: "
                "expected at least 0, at least 0 and at least 1"
            )
        if not (0 <= self.chance < 0.5 < self.accurate <= 1 and self.least >= 0):
            raise errors.UsageError(
                f"chance={self.chance}, accurate={self.accurate}, least={self.least}: "
                "expected in [0, 0.5), in (0.5, 1] and at least 0"
            )


def fixed_diversity(images: np.ndarray, labels: np.ndarray | None = None) -> float:
    """How far the images of the fixed latents are apart: the root of the mean squared difference of two
    images' pixels, scaled to [0, 1], on average over pairs; of images of other sizes it stays comparable.

    Within classes where there are labels, for a conditional model that makes one image of each class has
    collapsed, however far these are apart: the mean over the classes of two images or more. Where no class
    has two, over all images.

    Args:
      images: uint8 [N, ...], N >= 2, the same latents and labels at every step.
      labels: integers [N].
    Raises:
      UsageError: another type, too few images, or labels that do not fit.
    """
    images = np.asarray(images)
    if labels is None:
        return _apart(images)
    labels = np.asarray(labels)
    if labels.shape != images.shape[:1]:
        raise errors.UsageError(f"labels: expected the shape {images.shape[:1]}, got {labels.shape}")
    groups = [images[labels == label] for label in np.unique(labels)]
    groups = [group for group in groups if len(group) >= 2] or [images]
    return float(np.mean([_apart(group) for group in groups]))


def _apart(images: np.ndarray) -> float:
    return pairwise_distance(images) / float(np.sqrt(max(np.prod(images.shape[1:]), 1)))


class Alarm:
    """Follows a run grid by grid. A fall of diversity is told once, and so is a spell of a bad accuracy.

    It has no memory but the history: after that of an interrupted run it goes on as if nothing had happened.
    """

    def __init__(self, rule: Rule | None = None):
        self.rule = rule or Rule()
        self._grids = 0
        self._earlier: list[float] = []  # diversities that the reference is the median of
        self._fallen = self._gone = False
        self._spells = {name: _Spell(self.rule.patience) for name in ("accurate", "chance")}

    def update(self, measure: Measure) -> str | None:
        """A warning of one line that names the step, or None."""
        rule = self.rule
        early = self._grids < rule.settle or measure.step < rule.settle_steps
        self._grids += 1
        if early:
            return None
        found = [self._diversity(measure.diversity), self._accuracy(measure.discriminator_accuracy)]
        text = "; ".join(part for part in found if part)
        return f"step {measure.step}: {text}" if text else None

    def _diversity(self, value: float | None) -> str | None:
        if value is None:
            return None
        reference = statistics.median(self._earlier) if self._earlier else None
        gone = not value > self.rule.least  # NaN too
        if gone:
            told, self._fallen, self._gone = self._gone, True, True
            if told:
                return None
            before = "" if reference is None else f", {reference:.3g} before"
            return f"collapse: the images of the fixed latents are {value:.3g} apart on average{before}"
        if self._fallen:
            if reference is not None and value < self.rule.recovery * reference:
                return None
            self._fallen = self._gone = False
        elif reference is not None and value < self.rule.fall * reference:
            self._fallen = True
            return (
                f"collapse? the images of the fixed latents are {value:.3g} apart on average, "
                f"{value / reference:.0%} of the {reference:.3g} before"
            )
        self._earlier.append(value)
        return None

    def _accuracy(self, value: float | None) -> str | None:
        if value is None:
            return None
        patience = self.rule.patience
        texts = []
        if self._spells["accurate"].update(value >= self.rule.accurate):
            texts.append(
                f"the discriminator is nearly always right, at {patience} grids on end ({value:.3f})"
            )
        if self._spells["chance"].update(abs(value - 0.5) <= self.rule.chance):
            texts.append(f"the discriminator is at chance, at {patience} grids on end ({value:.3f})")
        return "; ".join(texts) or None


class _Spell:
    """Says so when something has held `patience` times on end; again when it had ceased for as long."""

    def __init__(self, patience: int):
        self._patience, self._on, self._count = patience, False, 0

    def update(self, holds: bool) -> bool:
        self._count = self._count + 1 if holds != self._on else 0
        if self._count < self._patience:
            return False
        self._on, self._count = holds, 0
        return holds


def warnings(history: Iterable[Measure], rule: Rule | None = None) -> list[tuple[int, str]]:
    """All (step, warning)s of a history, in its order."""
    alarm = Alarm(rule)
    found = [(measure.step, alarm.update(measure)) for measure in history]
    return [(step, text) for step, text in found if text]
