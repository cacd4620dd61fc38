"""The vocabulary: what a GAN is, what changes while it trains, what an experiment is.

A GAN is a tuple of pure functions (`Gan`). All that changes while it trains is one pytree (`GanState`).
`ganjax.step` and `ganjax.loop` train any `Gan`; what differs between families is in the functions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import numpy as np
import optax

from ganjax import collectives, random

Array = jax.Array
Tree = Any  # a pytree of arrays
Batch = Any  # a pytree whose leaves have the batch as their first axis


class GanState(flax.struct.PyTreeNode):
    """All that changes while a GAN trains.

    Attributes:
      step: int32 [], batches seen in this stage.
      params: player -> trainable tree.
      stats: player -> the other linen collections ({} where there are none).
      opt_state: player -> optax state.
      ema: player -> averaged params, for the players named in `Gan.ema`.
      carry: what the family remembers from step to step besides: a replay pool, ADA's p.
    """

    step: Array
    params: dict[str, Tree]
    stats: dict[str, Tree]
    opt_state: dict[str, Tree]
    ema: dict[str, Tree]
    carry: Tree


class Context(NamedTuple):
    """What a loss knows of where and when it runs.

    Attributes:
      key: PRNG key of this step and this phase's stream.
      index: int32 [n], the places of the local examples in the global batch.
      axis_name: the mapped axis under `pmap`; None where the batch is whole.
      ordered: means over devices are added in the axis' order, so that their bits do not depend on how the
        devices are laid out.
    """

    key: Array
    index: Array
    axis_name: str | None = None
    ordered: bool = False

    def stream(self, name: str) -> Array:
        """A PRNG key for what is drawn once for the whole batch."""
        return random.stream(self.key, name)

    def example_keys(self, name: str) -> Array:
        """PRNG keys [n], one an example, the same however the batch is split over devices."""
        return random.per_example(random.stream(self.key, name), self.index)

    def mean(self, tree: Tree) -> Tree:
        """The mean over devices of every leaf (of leaves that are themselves local means)."""
        return collectives.mean(tree, self.axis_name, ordered=self.ordered)

    def statistic(self, x: Array) -> Array:
        """The mean over devices of a local batch's mean, for use in a loss: gradients go back through it."""
        return x if self.axis_name is None else collectives.statistic(x, self.axis_name)

    def gather(self, x: Array) -> Array:
        """The global batch [N, ...] from the local one [n, ...], on every device."""
        if self.axis_name is None:
            return x
        return collectives.gather(x, self.axis_name)


class Effects(NamedTuple):
    """What a loss leaves behind besides its value.

    Attributes:
      stats: player -> collections after the forward passes. Only the moving player's are kept.
      carry: the family's memory afterwards; None leaves it as it was.
      metrics: name -> scalar, averaged over devices by the step.
    `stats` and `carry` must leave a loss equal on every device: use `Context.mean` and `gather`.
    """

    stats: Mapping[str, Tree] = {}
    carry: Tree = None
    metrics: Mapping[str, Array] = {}


LossFn = Callable[[Tree, GanState, Batch, Context], tuple[Array, Effects]]


def always(step: int) -> bool:
    """Due at every step."""
    del step
    return True


def every(k: int) -> Callable[[int], bool]:
    """Due at the last of every `k` steps: k-1, 2k-1, ..."""
    if k < 1:
        raise ValueError(f"every({k}): the interval must be at least 1")
    return lambda step: step % k == k - 1


class Phase(NamedTuple):
    """On the steps that are due, `player` descends `loss`.

    Attributes:
      player: whose parameters move.
      loss: (the player's params, state, batch, context) -> (scalar, Effects).
      due: a host function of the step in the stage.
      stream: phases of one stream draw the same random numbers in a step; default: the player's own.
      accumulate: micro-batches to one update, whose gradients are averaged. Each has every `accumulate`-th
        example of the global batch; its batch statistics are its own, and statistics and carry go through
        the micro-batches in turn.
    """

    player: str
    loss: LossFn
    due: Callable[[int], bool] = always
    stream: str = ""
    accumulate: int = 1


class Styles(NamedTuple):
    """A generator in its two parts: one that maps latents to styles, and one that makes images of these, each
    of its layers with a style of its own (Karras et al. 2019, "A style-based generator architecture for
    generative adversarial networks"). All of averaged parameters, where there are any.

    Attributes:
      layers: how many layers have a style, L.
      mapping: (state, latents [n, Z], labels or None) -> styles [n, S].
      mean: state -> [S], the running mean of styles, which truncation goes towards.
      noise: (state, keys [n]) -> what `sample` adds to the layers' pixels where it is given these keys: a
        tuple of maps [n, H', W'].
      constant_noise: state -> maps of the network's own, a tuple of [H', W']; None for a network without.
      synthesis: (state, styles [n, L, S], maps as `noise` gives them) -> images [n, H, W, C], not
        clipped to [-1, 1], as `sample`'s are.
    """

    layers: int
    mapping: Callable[..., Array]
    mean: Callable[[GanState], Array]
    noise: Callable[[GanState, Array], tuple[Array, ...]]
    synthesis: Callable[[GanState, Array, tuple[Array, ...]], Array]
    constant_noise: Callable[[GanState], tuple[Array, ...] | None] = lambda state: None


class Gan(NamedTuple):
    """A GAN: pure functions, and nothing that changes.

    Attributes:
      init: (key, batch) -> (params, stats, carry), each of the first two by player. Of the batch only
        shapes and types may be used.
      phases: run in this order within a step, each seeing what those before it did.
      optimizers: player -> optax transformation. `update` is also given `step`, the state's step.
      sample: (state, keys [n], conditions or None, **options) -> images [n, H, W, C] in [-1, 1], or
        whatever else the family generates, a tree of arrays [n, ...] (the experiment's `Show` says how it is
        shown). Conditions are labels int [n], or what else the family draws from, a tree of arrays [n, ...].
        Uses the averaged parameters where there are any.
      latents: (keys [n], **options) -> the latents [n, Z] that `sample` draws from these keys, and takes
        instead of them as `latents=`; None for a family without.
      ema: player -> decay in [0, 1] as a function of the step.
      constrain: player -> projection of its params, applied after init and after every update.
      prepare: (trained state on the host, **options) -> the state that is sampled from in its place, and what
        protocols say of it; None: the state serves as it is.
      styles: of a generator that is steered by styles, its two parts; None for every other.
      logits: (trained state, images [n, H, W, C] in [-1, 1], labels int [n] or None) -> what the
        discriminator says of them outside of training, [n], of patches their mean; None for a family whose
        discriminator is not asked about images alone.
    """

    init: Callable[[Array, Batch], tuple[dict, dict, Tree]]
    phases: tuple[Phase, ...]
    optimizers: Mapping[str, optax.GradientTransformation]
    sample: Callable[..., Any]
    latents: Callable[..., Array] | None = None
    ema: Mapping[str, Callable[[Array], Array]] = {}
    constrain: Mapping[str, Callable[[Tree], Tree]] = {}
    prepare: Callable[..., tuple[GanState, Mapping[str, Any]]] | None = None
    styles: Styles | None = None
    logits: Callable[..., Array] | None = None


class Inherited(NamedTuple):
    """What a stage takes over from the one before it.

    Attributes:
      state: that the stage begins with.
      message: a line for who watches the run; "" for none.
    """

    state: GanState
    message: str = ""


class Stage(NamedTuple):
    """A stretch of training with one `Gan` and one batch size.

    Attributes:
      gan: what is trained.
      data: where its batches come from, a `ganjax.data.Source`.
      steps: how many batches.
      batch_size: examples to a global batch.
      inherit: (new state, old state), both on the host -> state, or `Inherited`, at the stage's start; None
        starts afresh.
    """

    gan: Gan
    data: Any
    steps: int
    batch_size: int
    inherit: Callable[[GanState, GanState], GanState | Inherited] | None = None


class Show(NamedTuple):
    """How samples are shown that are not images: points, for one.

    Attributes:
      count: how many samples make one picture.
      columns: what `picture` is given where nothing else asks for another number.
      picture: (samples float32 [n, ...] as `Gan.sample` gives them, columns) -> uint8 [H, W, C], of one size
        whatever n >= 1 is. Raises ValueError for samples that are not finite.
      conditions: gives what the samples are drawn from, a tree of arrays [count, ...], the same at every
        call; it is asked when a picture is due. Then `picture` may know what these are, and draw it beside.
        None: they are drawn from seeds, and labels where there are classes.
      compared: samples -> arrays [n, ...] in [-1, 1] of what the networks made, by whose spread a run is
        watched (`ganjax.metrics.collapse`), each by itself; None: it is not.
    """

    count: int
    columns: int
    picture: Callable[[Any, int], np.ndarray]
    conditions: Callable[[], Tree] | None = None
    compared: Callable[[Any], Sequence[np.ndarray]] | None = None


class Judge(NamedTuple):
    """What `--mode=evaluate` asks instead of the judge of images.

    Attributes:
      metrics: the names of the results.
      results: (samples float32 [n, ...], labels int [n] or None) -> by name, JSON-able dicts with `value`,
        `protocol` (a dict), and further figures. Raises UsageError for samples that can't be judged. Where
        there are `networks`, a third argument has those that the user gave, by name.
      verdict: results -> what speaks against the model, a line each; none: it passes.
      conditions: (how many at most) -> what the samples are drawn from, a tree of arrays [n, ...]; None: they
        are drawn from seeds and labels.
      networks: metric -> the network that it needs, "inception" or "lpips", whose weights are the user's.
      of: (names, how many samples at most, say) -> the judge that measures these alone; of no names, all that
        can be measured, where `say` is told of what is left out. Raises UsageError, before anything is drawn
        or compiled, for a name that can't be measured of what there is. None: it measures all at once.
      better: those that can say which checkpoint is the best, and whether less ("min") or more ("max") is
        better. The first that is measured does, where nothing else is asked for; before those that the
        command line knows of any judge.
    """

    metrics: tuple[str, ...]
    results: Callable[..., Mapping[str, dict[str, Any]]]
    verdict: Callable[[Mapping[str, dict[str, Any]]], list[str]] | None = None
    conditions: Callable[[int], Tree] | None = None
    networks: Mapping[str, str] = {}
    of: Callable[[Sequence[str], int, Callable[[str], None]], "Judge"] | None = None
    better: Mapping[str, str] = {}


class Experiment(NamedTuple):
    """What an experiment file builds: stages, trained one after another, and modes of its own.

    Attributes:
      stages: at least one.
      num_classes: how many classes a sample can be asked for by label; 0: it takes no labels.
      seeds: how many members one run trains: the run's seed, and the next ones (`ganjax.members`).
      modes: name -> function, what the family adds to the command line.
      show: how samples are shown; None: they are images, in a grid.
      judge: how samples are judged; None: as images (`ganjax.metrics.judge`, `ganjax.metrics.suite`).
      evaluate_every: the command line measures samples so often while it trains, in steps; 0: never.
      frozen: the layers that do not move, as "player/name", for weights that are inherited
        (`ganjax.transfer`).
    """

    stages: tuple[Stage, ...]
    num_classes: int = 0
    seeds: int = 1
    modes: Mapping[str, Callable] = {}
    show: Show | None = None
    judge: Judge | None = None
    evaluate_every: int = 0
    frozen: tuple[str, ...] = ()


def due_phases(gan: Gan, step: int) -> tuple[int, ...]:
    """The indices of the phases that are due at `step` of the stage: `train_step`'s static `due`."""
    return tuple(i for i, phase in enumerate(gan.phases) if phase.due(step))
