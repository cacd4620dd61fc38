"""ganjax: generative adversarial networks as pure functions, in JAX and Flax.

    from ganjax import create_state, train_step

Names are loaded when they are first used: importing ganjax starts no backend and reads no file.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ganjax.families.adversarial import adversarial
    from ganjax.gan import (
        Context,
        Effects,
        Experiment,
        Gan,
        GanState,
        Phase,
        Stage,
        always,
        due_phases,
        every,
    )
    from ganjax.generator import load_generator
    from ganjax.loop import train
    from ganjax.step import create_state, train_step

_WHERE = {
    "adversarial": "ganjax.families.adversarial",
    "load_generator": "ganjax.generator",
    "train": "ganjax.loop",
    "create_state": "ganjax.step",
    "train_step": "ganjax.step",
} | dict.fromkeys(
    (
        "Context",
        "Effects",
        "Experiment",
        "Gan",
        "GanState",
        "Phase",
        "Stage",
        "always",
        "due_phases",
        "every",
    ),
    "ganjax.gan",
)

__all__ = [
    "Context",
    "Effects",
    "Experiment",
    "Gan",
    "GanState",
    "Phase",
    "Stage",
    "adversarial",
    "always",
    "create_state",
    "due_phases",
    "every",
    "load_generator",
    "train",
    "train_step",
]


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'ganjax' has no attribute {name!r}")
