"""The command line. This module imports little, so that a mistake in the flags is answered at once."""

import io
import os
import signal
import sys
import time
from collections.abc import Sequence

from ganjax.errors import RunError, UsageError
from ganjax.memory import keep_freed_memory, share_one_heap

_STARTED = time.monotonic()  # which no change of the clock moves
_LONGEST_LINE = 1500  # characters of a message


class Signals:
    """SIGINT and SIGTERM: end the process at once, or, while a run is being trained, are noted for its loop.

    A second signal, while a run that was asked to stop saves itself, ends the process too. Nothing is raised:
    an exception that comes up in a callback of compiled code, or while such code is imported, aborts the
    process with a dump. As with SIGKILL, no file is half-written under its own name.
    """

    def __init__(self):
        self.noting = False
        self.noted: int | None = None

    def __call__(self, signum: int, frame: object) -> None:
        del frame
        if self.noting and self.noted is None:
            self.noted = signum
            return
        name = signal.Signals(signum).name
        # Not print, which must not be called from within itself.
        os.write(2, f"ganjax: ended by {name}; nothing was left half-written\n".encode())
        os._exit(128 + signum)


def _line(text: str) -> str:
    """One line that a terminal shows as it is: what a user typed or a file is called may hold anything."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 3] + "..."


def answer(error: UsageError | RunError) -> int:
    """Prints what an error says, in a line, and gives the exit code that it ends with."""
    print(f"ganjax: {_line(str(error))}", file=sys.stderr, flush=True)
    return 2 if isinstance(error, UsageError) else 1


def main(argv: Sequence[str] | None = None, *, package: str = "ganjax.experiments") -> int:
    """Runs a command line and returns its exit code.

    Args:
      argv: the words after the program's name; default: `sys.argv`'s.
      package: where experiments are looked for by name.
    Returns:
      0 done, 1 the run failed, 2 bad usage, 130 and 143 saved after SIGINT and SIGTERM.
    """
    if argv is None:  # the process is ours, and not somebody's who calls this
        if "--mode=import" in sys.argv:  # which takes no steps, and should be small
            share_one_heap()
        else:
            keep_freed_memory()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a path need not be in the terminal's encoding
                stream.reconfigure(errors="backslashreplace")
    signals = Signals()
    before = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        from ganjax.cli import command

        words = list(sys.argv[1:] if argv is None else argv)
        return command.run(words, package=package, signals=signals, started=_STARTED)
    except (UsageError, RunError) as error:
        return answer(error)
    except Exception as error:
        # XLA's has no type of its own, and jax is not imported here.
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = _line(" ".join(str(error).split())[:300]) or "no more is to be had"
        print(
            f"ganjax: there is not enough memory ({reason}); make the model or the batch smaller",
            file=sys.stderr,
        )
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
