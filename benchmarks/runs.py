"""The files of runs' folders, as benchmarks read them."""

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from ganjax.errors import RunError


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object. Raises RunError where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        return content
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from error


def evaluations(path: pathlib.Path) -> dict[int | None, dict[str, Any]]:
    """What evaluation.json holds, by steps: one checkpoint's results or, of `--checkpoint=all`, several.

    Returns:
      step, in order -> results by name; the step is None where nothing says which it was.
    Raises:
      RunError: the file is missing or damaged.
    """
    content = read_object(path)
    if content and all(key.isdigit() for key in content):
        results = {int(step): content[step] for step in sorted(content, key=int)}
    else:
        steps = [result["protocol"].get("step") for result in content.values() if _is_result(result)]
        results = {next((step for step in steps if step is not None), None): content}
    for step, figures in results.items():
        if not isinstance(figures, dict) or not all(_is_result(result) for result in figures.values()):
            at = "" if step is None else f" of step {step}"
            raise RunError(f"{path} is damaged: expected results{at} by name, each with its protocol")
    return dict(results)


def _is_result(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("protocol"), dict)


def printed(program: str, make: Callable[[], str]) -> int:
    """Prints what `make` returns, or in a line why there is none; returns the exit code."""
    try:
        print(make())
    except RunError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    return 0
