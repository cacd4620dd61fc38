"""What the tests of recipes share."""

import importlib
from typing import Any

from ganjax import config
from ganjax.gan import Experiment


def built(name: str, **changes: Any) -> Experiment:
    """An experiment at its smallest, but for these settings."""
    module = importlib.import_module(f"experiments.{name}")
    settings = config.override(module.Config(), module.TINY | changes, experiment=name)
    config.validate(settings)
    return module.build(settings)
