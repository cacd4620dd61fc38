"""The errors that a user can mend. The command line prints their message and no traceback."""


class UsageError(ValueError):
    """The command was given wrongly: an unknown name, a value out of range. Exit code 2."""


class NoSplit(UsageError):
    """A data set has no part of the name that was asked for."""


class TooEarly(UsageError):
    """A checkpoint is of a stage that can not answer yet what was asked."""

    def __init__(self, why: str):
        """`why`: what the checkpoint is."""
        super().__init__(f"this checkpoint is {why}; name a later one with --checkpoint=, or train on")
        self.why = why


class RunError(RuntimeError):
    """The command was right but could not be carried out: no data, a full disk, NaN. Exit code 1."""


def one_line(error: BaseException) -> str:
    """What an exception says, in one line of at most 200 characters; its type where it says nothing."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, 200)


def shortened(text: str, length: int = 60) -> str:
    """`text` as a message can hold it, which a value of any length may go into."""
    return text if len(text) <= length else text[: length - 3] + "..."


def nearest(name: str, choices) -> str:
    """A clause that names the choices nearest to `name`, for the end of an error message."""
    import difflib

    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "choose from: " + ", ".join(choices)
