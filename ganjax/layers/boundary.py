"""A line that XLA's fusion does not cross.

XLA merges elementwise operations into the loop that uses their values, and computes them again for every
use. For a chain of transforms, each a sum of a few terms of the one before, that multiplies the terms, and a
loop that reads 25 arrays at once thrashes the cache. So the steps of a chain are computations of their own,
whose results are written to memory.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax

try:
    from jax.experimental.xla_metadata import set_xla_metadata
except ImportError:  # then only the speed differs
    set_xla_metadata: Any = lambda **metadata: contextlib.nullcontext()  # noqa: E731


def apart(function: Callable, *args: Any) -> Any:
    """function(*args), not fused with what its arguments come from and its results go to.

    Args:
      function: from pytrees of arrays to one. Its derivatives are kept apart likewise.
      args: its arguments.
    """
    with set_xla_metadata(inlineable="false"):
        return jax.jit(function)(*args)


def settled(x: jax.Array) -> jax.Array:
    """x, computed once and written to memory, whatever uses it.

    A gradient goes to two convolutions and a sum, each of which would compute again what it comes from.

    Args:
      x: of any shape and type.
    """
    return apart(lambda x: x, x)
