"""The command line. This module imports little, so that a mistake in the flags is answered at once."""

import os
import signal
import sys
import time
from collections.abc import Sequence

_STARTED = time.time()


class Interrupted(KeyboardInterrupt):  # which asyncio and others let through
    """SIGINT or SIGTERM came where there is nothing to save."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum


class Signals:
    """SIGINT and SIGTERM: raise `Interrupted`, or, while a run is being trained, are noted for its loop.

    A second signal while the first is being answered ends the process at once.
    """

    def __init__(self):
        self.noting = False
        self.noted: int | None = None
        self._raised = False

    def __call__(self, signum: int, frame: object) -> None:
        del frame
        if self._raised:  # on the way out, where another exception would be a traceback
            os._exit(128 + signum)
        if self.noting and self.noted is None:
            self.noted = signum
        else:
            self._raised = True
            raise Interrupted(signum)


def main(argv: Sequence[str] | None = None, *, package: str = "ganjax.experiments") -> int:
    """Runs a command line and returns its exit code.

    Args:
      argv: the words after the program's name; default: `sys.argv`'s.
      package: where experiments are looked for by name.
    Returns:
      0 done, 1 the run failed, 2 bad usage, 130 and 143 interrupted by SIGINT and SIGTERM.
    """
    signals = Signals()
    before = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        from ganjax import errors

        try:
            from ganjax.cli import command

            return command.run(
                list(sys.argv[1:] if argv is None else argv),
                package=package,
                signals=signals,
                started=_STARTED,
            )
        except errors.UsageError as error:
            print(f"ganjax: {error}", file=sys.stderr)
            return 2
        except errors.RunError as error:
            print(f"ganjax: {error}", file=sys.stderr)
            return 1
    except Interrupted as interrupt:
        name = signal.Signals(interrupt.signum).name
        print(f"ganjax: ended by {name}; nothing was left half-written", file=sys.stderr)
        return 128 + interrupt.signum
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
