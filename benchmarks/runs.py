"""The files of runs' folders, as benchmarks read them."""

import json
import pathlib
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
