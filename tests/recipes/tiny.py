"""What the tests of recipes share."""

import importlib
from typing import Any

from ganjax import config


def built(name: str, **changes: Any) -> Any:
    """An `Experiment` at its smallest, but for these settings; tests look into its parts."""
    module = importlib.import_module(f"experiments.{name}")
    settings = config.override(module.Config(), module.TINY | changes, experiment=name)
    config.validate(settings)
    return module.build(settings)
