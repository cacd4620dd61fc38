"""The errors that a user can mend. The command line prints their message and no traceback."""


class UsageError(ValueError):
    """The command was given wrongly: an unknown name, a value out of range. Exit code 2."""


class RunError(RuntimeError):
    """The command was right but could not be carried out: no data, a full disk, NaN. Exit code 1."""


def nearest(name: str, choices) -> str:
    """A clause that names the choices nearest to `name`, for the end of an error message."""
    import difflib

    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "choose from: " + ", ".join(choices)
