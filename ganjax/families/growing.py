"""Growth: a stage for each size of images, networks that take over the layers of the smaller ones, and new
layers that are faded in (Karras et al. 2018, "Progressive growing of GANs for improved quality, stability,
and variation").
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganjax.gan import Array, GanState, Inherited, Stage, Tree
from ganjax.layers import crossfaded, downsample, upsample


class Rung(NamedTuple):
    """A stage of growth.

    Attributes:
      level: how often the sides of the smallest images are doubled.
      batch_size: of the global batch.
      steps: batches.
      fade_steps: of these the first, over which alpha goes from 0 to 1; 0: nothing is faded in.
      first: steps of the run before this stage.
    """

    level: int
    batch_size: int
    steps: int
    fade_steps: int = 0
    first: int = 0

    def alpha(self, step: Array) -> Array:
        """How far the new layers are faded in at a step of the stage: 0 at first, 1 from `fade_steps` on."""
        if not self.fade_steps:
            return jnp.ones((), jnp.float32)
        return jnp.minimum(jnp.asarray(step, jnp.float32) / self.fade_steps, 1.0)


def ladder(
    levels: Sequence[int], steps: int, batch_sizes: Sequence[int], *, fade_images: int, hold_images: int
) -> tuple[Rung, ...]:
    """When a run grows: `hold_images` at the first level; at the next ones `fade_images` to fade in and
    `hold_images` more; at the last, after the fade, whatever steps are left.

    Args:
      levels: ascending, at least one.
      steps: of the whole run.
      batch_sizes: one for each level.
      fade_images, hold_images: at least 0 and at least 1. Lengths are rounded up to whole batches.
    Raises:
      ValueError: there are too few steps, and how many it takes at least.
    """
    rungs: list[Rung] = []
    first = 0
    for place, (level, batch) in enumerate(zip(levels, batch_sizes, strict=True)):
        fade = math.ceil(fade_images / batch) if place else 0
        count = fade + math.ceil(hold_images / batch)
        if level == levels[-1]:
            least = first + max(fade, 1)
            if steps < least:
                raise ValueError(
                    f"steps={steps}: with fade_images={fade_images}, hold_images={hold_images} and "
                    f"these batches it takes at least {least} to the largest images; take more steps or "
                    "shorter times"
                )
            count = steps - first
        rungs.append(Rung(level, batch, count, fade, first))
        first += count
    return tuple(rungs)


def faded(rung: Rung) -> Callable[[Array, Array], Array]:
    """(images, step) -> images: real ones, as blurred as generated ones are while new layers are faded in."""
    return lambda images, step: crossfaded(upsample(downsample(images)), images, rung.alpha(step))


def growing(stages: Sequence[Stage], *, reset_optimizers: bool = True) -> tuple[Stage, ...]:
    """Stages of growing networks, each but the first taking over from the one before what fits.

    Args:
      stages: one for each rung, of networks whose common layers have common names.
      reset_optimizers: optimizers start afresh in every stage, as in the paper; else they keep what they
        have of the parameters that go on.
    """

    def inherit(new: GanState, old: GanState) -> Inherited:
        return carried_over(new, old, optimizers=not reset_optimizers)

    return tuple(stage._replace(inherit=inherit if place else None) for place, stage in enumerate(stages))


def carried_over(new: GanState, old: GanState, *, optimizers: bool = False) -> Inherited:
    """`new` with every array of `old` that has the same path and shape: of the parameters, the averages, the
    statistics and the carry, and of the optimizers' state where that is asked for. A line says which layers
    of each player are new, and which are gone."""
    fields = ["params", "stats", "ema", "carry", *(["opt_state"] if optimizers else [])]
    state = new.replace(**{name: fitting(getattr(new, name), getattr(old, name)) for name in fields})
    told = []
    for player in new.params:
        ours, theirs = _layers(new.params[player]), _layers(old.params.get(player, {}))
        kept = [name for name, shapes in ours.items() if theirs.get(name) == shapes]
        fresh, gone = sorted(set(ours) - set(kept)), sorted(set(theirs) - set(kept))
        told.append(
            f"{player}: {len(kept)} of {len(ours)} layers go on"
            + (f", new are {', '.join(fresh)}" if fresh else "")
            + (f", gone are {', '.join(gone)}" if gone else "")
        )
    told.append("optimizers: kept of what goes on" if optimizers else "optimizers: afresh")
    return Inherited(state, "; ".join(told))


def fitting(new: Tree, old: Tree) -> Tree:
    """`new` with the leaves of `old` that have the same path and shape."""
    found = dict(jax.tree_util.tree_leaves_with_path(old))

    def choose(path: tuple, leaf: Tree) -> Tree:
        other = found.get(path)
        return other if other is not None and np.shape(other) == np.shape(leaf) else leaf

    return jax.tree_util.tree_map_with_path(choose, new)


def _layers(params: Mapping[str, Tree]) -> dict[str, list]:
    """The shapes in each layer at the top of a network's parameters."""
    return {
        name: [(path, np.shape(leaf)) for path, leaf in jax.tree_util.tree_leaves_with_path(layer)]
        for name, layer in params.items()
    }
