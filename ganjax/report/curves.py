"""Curves of a run's metrics, as a small PNG. Needs matplotlib, the extra `plots`."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ganjax.errors import RunError

COLORS = 48  # of the palette: lines, their faint halves, and the edges between
_LARGEST = 1e30  # what lies beyond is left out, as what isn't finite is
_LOSSES, _LOGITS = "losses", "logits"
_LINES = ("#1f77b4", "#d6492a", "#2a9d55", "#8e57b5", "#8c6d31", "#444444")


def of_seeds(seed: int, seeds: int) -> str:
    """What the curves of so many seeds, from `seed` on, are of: "seed 3", "mean of seeds 0 to 4"."""
    return f"seed {seed}" if seeds == 1 else f"mean of seeds {seed} to {seed + seeds - 1}"


def panels(names: Sequence[str], chosen: Sequence[str] = ()) -> dict[str, list[str]]:
    """What is drawn into which panel, by title: losses, logits of real and fake, and each chosen metric.

    Args:
      names: of the metrics there are; those that end in `_loss` and in `_logits` are drawn.
      chosen: names of others. They are drawn in panels of their own, in this order.
    """
    found = {
        _LOSSES: [name for name in names if name.endswith("_loss")],
        _LOGITS: [name for name in names if name.endswith("_logits")],
    }
    drawn = [name for group in found.values() for name in group]
    return {title: group for title, group in found.items() if group} | {
        name: [name] for name in chosen if name not in drawn
    }


def metric_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics of a run's log (`ganjax.report.log.read_jsonl`) that are numbers, sorted."""
    names = {name for record in records for name, value in record.items() if is_number(value)}
    return sorted(names - {"step", "seconds"})


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Means over `window` neighbours, fewer at the ends, of shape [n]; what isn't finite is left out.

    Raises:
      ValueError: `window` is not odd and at least 1.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window={window}: expected an odd number, at least 1")
    finite = np.isfinite(values)
    sums = np.cumsum(np.pad(np.where(finite, values, 0.0), (window // 2 + 1, window // 2)))
    counts = np.cumsum(np.pad(finite.astype(float), (window // 2 + 1, window // 2)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums[window:] - sums[:-window]) / (counts[window:] - counts[:-window])


def draw(
    records: Sequence[Mapping[str, Any]],
    chosen: Sequence[str] = (),
    *,
    title: str = "",
    width: float = 6.4,
    dpi: int = 100,
) -> bytes:
    """The curves of `panels`, one below the other: faintly as they are, and smoothed over a twentieth.

    Args:
      records: lines of metrics.jsonl: `step`, and metrics by name.
      chosen: names of metrics besides losses and logits.
      title: above them.
      width: in inches; each panel is a third as high.
      dpi: pixels to an inch.
    Returns:
      a PNG file, with a palette: some 10 to 30 kB.
    Raises:
      ValueError: there are no lines, no metric of these kinds, or a chosen one isn't there.
      RunError: matplotlib isn't installed.
    """
    names = metric_names(records)
    for name in chosen:
        if name not in names:
            raise ValueError(f"there is no metric {name}; choose from: {', '.join(names)}")
    found = panels(names, chosen)
    if not found:
        raise ValueError("there is nothing to draw: no line with a loss, logits or a metric that was chosen")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RunError("curves need matplotlib: pip install 'ganjax[plots]'") from error
    figure = Figure(figsize=(width, width / 3 * len(found) + 0.3), dpi=dpi, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    axes = np.atleast_1d(figure.subplots(len(found), 1, sharex=True, squeeze=True))
    for axis, (heading, group) in zip(axes, found.items(), strict=True):
        drawn = [_curve(axis, records, name, _LINES[i % len(_LINES)]) for i, name in enumerate(group)]
        if all(len(values) > 20 for values in drawn):
            # A first loss of thousands would press the rest flat: of every curve, the middle 99 % are shown.
            ends = np.concatenate([np.quantile(values, [0.005, 0.995]) for values in drawn])
            margin = 0.08 * float(np.ptp(ends)) or 0.5
            axis.set_ylim(ends.min() - margin, ends.max() + margin)
        axis.set_ylabel(heading if heading in (_LOSSES, _LOGITS) else "", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.legend(fontsize=8, loc="upper right", framealpha=0.8)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[-1].set_xlabel("step", fontsize=9)
    canvas.draw()
    return palette_png(np.asarray(canvas.buffer_rgba())[..., :3])


def palette_png(image: np.ndarray, colors: int = COLORS) -> bytes:
    """A small PNG file of uint8 [H, W, 1 or 3], with a palette of at most `colors` and nothing dithered."""
    picture = Image.fromarray(np.ascontiguousarray(image.repeat(3 // image.shape[-1], axis=-1)))
    reduced = picture.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    reduced.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _curve(axis: Any, records: Sequence[Mapping[str, Any]], name: str, color: str) -> np.ndarray:
    """Draws one metric; gives its values that are finite."""
    points = [(record["step"], record[name]) for record in records if is_number(record.get(name))]
    steps, values = np.array(points, np.float64).T
    values = np.where(np.abs(values) < _LARGEST, values, np.nan)
    if len(values) < 3:  # no line to be seen
        axis.plot(steps, values, "o-", color=color, markersize=3, label=name)
        return values[np.isfinite(values)]
    axis.plot(steps, values, color=color, alpha=0.3, linewidth=0.7)
    axis.plot(steps, smoothed(values, max(len(values) // 20, 4) | 1), color=color, linewidth=1.4, label=name)
    return values[np.isfinite(values)]


def is_number(value: Any) -> bool:
    """Whether it can be drawn: a float, or an integer that is not too large for one."""
    # A damaged log may hold integers that no float does.
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
