"""How samples are drawn, as the flags say: what a family's `sample`, `latents` and `prepare` are given."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from ganjax import random, sampling
from ganjax.errors import UsageError, one_line
from ganjax.gan import Gan, GanState


def takes(function: Callable | None, option: str) -> bool:
    """Whether a function has an argument of that name."""
    return function is not None and option in inspect.signature(function).parameters


def every(seeds: Sequence[int], labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Each seed with each label, a row a label: every seed for the first, then every seed for the second.

    Returns:
      uint32 seeds and int32 labels, [len(seeds) * len(labels)]; without labels [len(seeds)] and None.
    """
    all_labels = np.repeat(np.asarray(labels, np.int32), len(seeds)) if labels else None
    return np.tile(np.asarray(seeds, np.uint32), max(len(labels), 1)), all_labels


def options_of(flags: absl_flags.FlagValues, gan: Gan) -> dict[str, Any]:
    """What `sample` is given: `truncation` and `truncation_mode`, where the flags say so.

    Raises:
      UsageError: the family has no such option, or none with that value.
    """
    options: dict[str, Any] = {}
    for name in ("truncation", "truncation_mode"):
        if flags[name].value is None:
            continue
        if not takes(gan.sample, name):
            raise UsageError(f"--{name}: this model has no such option")
        options[name] = flags[name].value
    if "truncation_mode" in options and "truncation" not in options:
        raise UsageError("--truncation_mode does nothing without --truncation=")
    latents, named = gan.latents, of_latents(gan, options)
    if latents is not None and named:
        try:
            jax.eval_shape(lambda seeds: latents(random.from_seeds(seeds), **named), jnp.zeros(1))
        except ValueError as error:
            raise UsageError(f"--{one_line(error)}") from error
    elif not math.isfinite(options.get("truncation", 0.0)):  # of styles, which is any number
        raise UsageError(f"--truncation={options['truncation']}: expected a number")
    return options


def of_latents(gan: Gan, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of these options, those that say how latents are drawn."""
    return {name: value for name, value in options.items() if takes(gan.latents, name)}


def prepared(flags: absl_flags.FlagValues, gan: Gan, state: GanState) -> tuple[GanState, Mapping[str, Any]]:
    """`sampling.prepared`, as the flags say. Raises UsageError where the family can't."""
    options = {}
    if flags.standing_statistics is not None:
        if not takes(gan.prepare, "standing_statistics"):
            raise UsageError("--standing_statistics: this model has no such option")
        options["standing_statistics"] = flags.standing_statistics
    try:
        return sampling.prepared(gan, state, options)
    except ValueError as error:
        raise UsageError(f"--{one_line(error)}") from error
