"""How far a long job is: a bar on a terminal, plain lines elsewhere."""

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TextIO


def duration(seconds: float) -> str:
    """A time that a person reads: `45s`, `3m40s`, `1h02m`, `2d03h`; `?` where it is not finite."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, math.floor(seconds + 0.5))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    minutes = math.floor(seconds / 60 + 0.5)
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02}m"
    hours = math.floor(seconds / 3600 + 0.5)
    return f"{hours // 24}d{hours % 24:02}h"


def number(value: float) -> str:
    """A figure at a glance: four significant digits, no exponent between 0.0001 and a million."""
    value = float(value)
    if 1000 <= abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.4g}"


def _is_terminal(file: TextIO) -> bool:
    """Whether a bar can be drawn. Some containers give a terminal no size, and tqdm draws nothing there."""
    try:
        return file.isatty() and min(os.get_terminal_size(file.fileno())) > 0
    except (OSError, ValueError):
        return False


class Progress:
    """Shows steps done, images a second, time left and metrics, all on stderr.

    On a terminal this is a tqdm bar; otherwise plain lines like

        step 500/2500  20%  561 images/s  left 3m40s  discriminator_loss 1.21  generator_loss 0.85
    """

    def __init__(
        self,
        total: int,
        initial: int = 0,
        *,
        unit: str = "images",
        label: str = "step",
        every_seconds: float = 10.0,
        file: TextIO | None = None,
        terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Draws an empty bar on a terminal, nothing elsewhere.

        Args:
          total: steps when all is done.
          initial: steps done already, by an earlier run.
          unit: what `update` counts a second of.
          label: what is counted; without braces.
          every_seconds: a plain line at most so often; the first and the last are always printed.
          file: where to; default stderr.
          terminal: draw a bar; default: whether `file` is a terminal that has a size.
          clock: seconds, for tests.
        """
        self._total = total
        self._step = initial
        self._unit, self._label = unit, label
        self._file = sys.stderr if file is None else file
        self._clock = clock
        self._rate: float | None = None
        self._metrics: dict[str, Any] = {}
        self._shown_at = -math.inf
        self._pending = False
        self._closed = False
        # Time left comes from the last stretch, so that compilation at the start is soon forgotten.
        self._samples: deque[tuple[float, int]] = deque(maxlen=64)
        self._bar: Any = None
        if _is_terminal(self._file) if terminal is None else terminal:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                initial=initial,
                file=self._file,
                dynamic_ncols=True,
                bar_format=label + " {n_fmt}/{total_fmt} {percentage:3.0f}% |{bar:16}| {desc}",
            )
        self._every_seconds = every_seconds if self._bar is None else 0.2

    def update(
        self,
        step: int,
        images_per_second: float | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Tells that `step` steps are done. Cheap: most calls show nothing.

        Args:
          step: steps done, counted like `total`.
          images_per_second: the rate; None keeps the last one.
          metrics: name -> number; None keeps the last ones. Read only when shown, so device arrays are not
            waited for at every call.
        """
        now = self._clock()
        self._step = step
        self._rate = self._rate if images_per_second is None else images_per_second
        self._metrics = self._metrics if metrics is None else dict(metrics)
        self._pending = True
        if not self._samples or now - self._samples[-1][0] >= 0.5:
            self._samples.append((now, step))
        if now - self._shown_at >= self._every_seconds or step >= self._total:
            self._show(now)

    def message(self, text: str) -> None:
        """Prints a line above the bar, or among the plain lines."""
        if self._bar is not None and not self._closed:
            self._bar.write(text, file=self._file)
        else:
            print(text, file=self._file, flush=True)

    def close(self) -> None:
        """Shows the last update, if it was not yet, and leaves the terminal on a new line."""
        if self._closed:
            return
        if self._pending:
            self._show(self._clock())
        if self._bar is not None:
            self._bar.close()
        self._closed = True

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _seconds_left(self, now: float) -> float | None:
        if not self._samples or self._step >= self._total:
            return None
        then, step = self._samples[0]
        if self._step <= step or now <= then:
            return None
        return (self._total - self._step) * (now - then) / (self._step - step)

    def _figures(self, now: float) -> list[str]:
        left = self._seconds_left(now)
        return [
            *([] if self._rate is None else [f"{number(round(self._rate, 1))} {self._unit}/s"]),
            *([] if left is None else [f"left {duration(left)}"]),
            *(f"{name} {number(value)}" for name, value in self._metrics.items()),
        ]

    def _show(self, now: float) -> None:
        figures = self._figures(now)
        if self._bar is not None:
            self._bar.n = self._step
            self._bar.set_description_str("  ".join(figures))
        else:
            percent = math.floor(100 * self._step / self._total) if self._total else 100
            parts = [f"{self._label} {self._step}/{self._total}", f"{percent}%", *figures]
            print("  ".join(parts), file=self._file, flush=True)
        self._shown_at = now
        self._pending = False
