"""Transfer learning: a new run that begins with the weights of another (`--init_from`)."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from ganjax.checkpoint import Checkpoints
from ganjax.errors import RunError, UsageError
from ganjax.export import PARTS, WEIGHTS
from ganjax.gan import GanState, Inherited


def initial(
    path: epath.PathLike, warn: Callable[[str], None], frozen: Collection[str] = ()
) -> Callable[[GanState], Inherited]:
    """What makes a new run's first state one with the weights of another.

    Args:
      path: the folder of a run, whose last checkpoint counts (of several seeds, the first); that of an
        exported generator; or its `generator.safetensors`.
      warn: is told of checkpoints that are damaged.
      frozen: as `with_weights` has it.
    Raises:
      UsageError: there is none of these; the function raises it for a state that nothing fits.
      RunError: what is there is damaged.
    """
    leaves = read(path, warn)
    return lambda state: with_weights(state, leaves, str(path), frozen)


def read(path: epath.PathLike, warn: Callable[[str], None]) -> dict[str, np.ndarray]:
    """The leaves of the state that lies there, by path (`ganjax.checkpoint.flatten`); see `initial`."""
    place = epath.Path(path).expanduser()
    if (place / "checkpoints").is_dir():
        with Checkpoints(place / "checkpoints", read_only=True) as checkpoints:
            found = checkpoints.latest(warn)
        if found is not None:
            _, leaves, meta = found
            several = len(meta.get("members", ())) > 1
            return {name: leaf[0] for name, leaf in leaves.items()} if several else leaves
        raise RunError(f"--init_from={path}: the run there holds no checkpoint yet; train it first")
    file = place / WEIGHTS if place.is_dir() else place
    if not file.exists():
        raise UsageError(
            f"--init_from={path}: expected the folder of a run, of an exported generator, or its {WEIGHTS}"
        )
    from ganjax.generator import read_weights  # which imports much

    return read_weights(file)


def with_weights(
    state: GanState, leaves: Mapping[str, np.ndarray], where: str, frozen: Collection[str] = ()
) -> Inherited:
    """`state` with every parameter, average and statistic of `leaves` that has its path, shape and type.

    Of a player that has parameters there and no average, or the other way round, either takes the one that
    there is. Steps, optimizers and what a family remembers besides stay new.

    Args:
      state: new.
      leaves: by path, as of a run's checkpoint.
      where: they are from.
      frozen: layers that will not move, as "player/name", so that they are of no use unless taken whole.
    Raises:
      UsageError: nothing fits, or a part of a frozen layer does not.
    """
    fits: dict[str, list[bool]] = {}
    fixed = tuple(f"{layer}/" for layer in frozen)

    def of(part: str, path: tuple, leaf: Any) -> Any:
        rest = jax.tree_util.keystr(path, simple=True, separator="/")
        instead = {"params": "ema", "ema": "params"}.get(part, part)
        for name in (f"{part}/{rest}", f"{instead}/{rest}"):
            other = leaves.get(name)
            if other is not None and other.shape == np.shape(leaf) and other.dtype == leaf.dtype:
                break
        else:
            other = None
        if part == "params":
            if other is None and f"{rest}/".startswith(fixed):
                raise UsageError(
                    f"--init_from={where}: {rest} of {'x'.join(map(str, np.shape(leaf)))} is not there, and "
                    "would keep its random values, as its layer is not to move; lower --config.freeze_d"
                )
            fits.setdefault(rest.split("/")[0], []).append(other is not None)
        return leaf if other is None else np.array(other)

    taken = {
        part: jax.tree_util.tree_map_with_path(lambda path, leaf, part=part: of(part, path, leaf), tree)
        for part in PARTS
        for tree in (getattr(state, part),)
    }
    if not any(any(each) for each in fits.values()):
        raise UsageError(f"--init_from={where}: none of its weights fits this model's, by name and shape")
    told = ", ".join(f"{player} {sum(each)} of {len(each)}" for player, each in fits.items())
    return Inherited(state.replace(**taken), f"arrays from {where}: {told}; optimizers afresh")
