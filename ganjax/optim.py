"""What optax does not have: schedules by the run's step, ramps for moving averages, boxes for weights.

optax counts a player's updates; ours are functions of the step that `train_step` hands to `update`, so
that several critic steps to one generator step, or a phase that is rarely due, do not bend them.
"""

import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax

Schedule = Callable[[jax.Array], jax.Array]
Tree = Any
Path = tuple[str, ...]


def scale_by_learning_rate(learning_rate: float | Schedule) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by -learning_rate, or by -learning_rate(step) of the run's step.

    `update` takes the step as `step=`, and raises ValueError where a schedule is not given it.
    """

    def init(params: optax.Params) -> optax.OptState:
        del params
        return optax.EmptyState()

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        if not callable(learning_rate):
            rate = learning_rate
        elif "step" in extra:
            rate = learning_rate(extra["step"])
        else:
            raise ValueError("this learning rate is a schedule of the run's step: update(..., step=...)")
        return jax.tree.map(lambda u: jnp.asarray(-rate, u.dtype) * u, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def adam(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    *,
    clip: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam (Kingma & Ba 2015) whose learning rate may be a schedule of the run's step.

    Args:
      learning_rate: a number, or a function of the step.
      b1: decay of the gradient's average.
      b2: decay of the squared gradient's average.
      eps: added to the root.
      clip: gradients are first scaled down to this global norm (all of the player's leaves as one vector).
    """
    return _chain(clip, optax.scale_by_adam(b1, b2, eps), learning_rate)


def rmsprop(
    learning_rate: float | Schedule, decay: float = 0.9, eps: float = 1e-8, *, clip: float | None = None
) -> optax.GradientTransformationExtraArgs:
    """RMSprop (Hinton 2012, lecture 6) whose learning rate may be a schedule of the run's step.

    A step is -rate g / (sqrt(v) + eps) with v = decay v + (1 - decay) g^2, which begins at 0 and is not
    corrected for it: the first step is 1 / sqrt(1 - decay) times the rate. `eps` stands outside the root, as
    in PyTorch, on which the WGAN's settings were found (there decay=0.99); optax has it inside by default.

    Args:
      learning_rate: a number, or a function of the step; 5e-5 in Arjovsky et al. 2017.
      decay: of the squared gradient's average.
      eps: added to the root.
      clip: as for `adam`.
    """
    return _chain(clip, optax.scale_by_rms(decay, eps, eps_in_sqrt=False), learning_rate)


def _chain(
    clip: float | None, direction: optax.GradientTransformation, learning_rate: float | Schedule
) -> optax.GradientTransformationExtraArgs:
    if clip is None:
        return optax.chain(direction, scale_by_learning_rate(learning_rate))
    if not clip > 0.0:
        raise ValueError(f"clip={clip}: expected a global norm above 0, or None")
    return optax.chain(optax.clip_by_global_norm(clip), direction, scale_by_learning_rate(learning_rate))


def linear_decay(value: float, start: int, end: int) -> Schedule:
    """`value` until step `start`, then on a straight line to 0 at step `end`.

    References:
      Gulrajani et al. 2017, "Improved training of Wasserstein GANs", appendix F, from step 0 on; Zhu et al.
      2017, "Unpaired image-to-image translation using cycle-consistent adversarial networks", section 4, from
      the middle on.
    """
    if not 0 <= start < end:
        raise ValueError(f"linear_decay(start={start}, end={end}): expected 0 <= start < end")
    return lambda step: value * jnp.clip((end - step) / (end - start), 0.0, 1.0)


def cosine_decay(value: float, steps: int, *, start: int = 0, end_value: float = 0.0) -> Schedule:
    """`value` until step `start`, then along half a cosine to `end_value` at step `start + steps`, and on.

    References:
      Loshchilov & Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts", equation 5, without
      restarts.
    """
    if start < 0 or steps < 1:
        raise ValueError(f"cosine_decay(steps={steps}, start={start}): expected steps >= 1 and start >= 0")

    def schedule(step: jax.Array) -> jax.Array:
        done = jnp.clip((jnp.asarray(step) - start) / steps, 0.0, 1.0)
        return end_value + (value - end_value) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))

    return schedule


def exponential_decay(
    value: float, factor: float, steps: int, *, start: int = 0, staircase: bool = False
) -> Schedule:
    """`value` until step `start`, then times `factor` every `steps` steps, without end.

    Args:
      value: at the start.
      factor: above 0.
      steps: at least 1.
      start: a step.
      staircase: fall at the end of every `steps` steps, instead of a little at each.
    References:
      Goodfellow et al. 2014, "Generative adversarial nets": in the authors' code rates fall so.
    """
    if not factor > 0.0 or steps < 1 or start < 0:
        raise ValueError(
            f"exponential_decay(factor={factor}, steps={steps}, start={start}): expected factor > 0,"
            " steps >= 1 and start >= 0"
        )

    def schedule(step: jax.Array) -> jax.Array:
        since = jnp.maximum(jnp.asarray(step) - start, 0)
        return value * jnp.power(factor, since // steps if staircase else since / steps)

    return schedule


def warmup(schedule: float | Schedule, steps: int) -> Schedule:
    """`schedule` (or a constant) times (step + 1) / steps in the first `steps` steps, then as it is.

    Step 0 has a rate above 0, so that no batch is wasted; `steps` of 0 warms nothing up.

    References:
      Goyal et al. 2017, "Accurate, large minibatch SGD: training ImageNet in 1 hour", section 2.2.
    """
    if steps < 0:
        raise ValueError(f"warmup(steps={steps}): expected steps >= 0")

    def warmed(step: jax.Array) -> jax.Array:
        rate = schedule(step) if callable(schedule) else schedule
        return rate * jnp.minimum((jnp.asarray(step) + 1) / max(steps, 1), 1.0)

    return warmed


def ema_decay(decay: float, *, start: int = 0, ramp: bool = True, every: int = 1) -> Schedule:
    """The decay of a moving average, by step.

    Args:
      decay: reached in the end, in [0, 1).
      start: until this step the average follows the parameters (decay 0).
      ramp: begin with (1 + t) / (10 + t), t of the average's own steps after `start`, so that the average of
        a short run is not dominated by its first parameters.
      every: the average is of what moves, and it with that, on one of so many steps.
    References:
      Karras et al. 2018, "Progressive growing of GANs"; Yazici et al. 2019, "The unusual effectiveness of
      averaging in GAN training"; Brock et al. 2019, "Large scale GAN training for high fidelity natural image
      synthesis", for a later start.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"decay={decay}: expected a number in [0, 1)")

    def schedule(step: jax.Array) -> jax.Array:
        since = jnp.asarray(step - start, jnp.float32)
        own = since / every
        ramped = jnp.minimum(decay, (1.0 + own) / (10.0 + own)) if ramp else decay
        return jnp.where(since < 0, 0.0, ramped)

    return schedule


def ema_by_images(
    half_life: float, batch_size: int, *, start: int = 0, ramp: float = 0.0, every: int = 1
) -> Schedule:
    """The decay of a moving average of which half is of the last `half_life` images, by step.

    Args:
      half_life: images, above 0.
      batch_size: of a step.
      start: until this step the average follows the parameters (decay 0).
      ramp: the half-life is at most this share of the images seen since then, so that the average of a short
        run is not dominated by its first parameters; 0: it is what it is.
      every: the average is of what moves, and it with that, on one of so many steps.
    References:
      Karras et al. 2018, "Progressive growing of GANs"; Karras et al. 2020, "Training generative adversarial
      networks with limited data", for the ramp.
    """
    if not half_life > 0.0 or ramp < 0.0:
        raise ValueError(f"half_life={half_life}, ramp={ramp}: expected half_life > 0 and ramp >= 0")

    def schedule(step: jax.Array) -> jax.Array:
        seen = jnp.asarray(step - start, jnp.float32) * batch_size
        images = jnp.minimum(half_life, ramp * seen) if ramp else jnp.full_like(seen, half_life)
        # 0 images: the average is what was seen last.
        decay = jnp.exp2(-batch_size * every / jnp.where(images > 0, images, 1.0))
        return jnp.where((seen < 0) | (images <= 0), 0.0, decay)

    return schedule


def lazily(rate: float, b1: float, b2: float, interval: int) -> tuple[float, float, float]:
    """Adam's rate and betas for a player that descends a regularizer by itself on every `interval`-th step.

    With k the interval, the player moves k + 1 times where it else would k times: the rate times
    c = k / (k + 1), and the betas to the power of c.

    References:
      Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", appendix B.
    """
    if interval < 1:
        raise ValueError(f"interval={interval}: expected at least 1")
    share = interval / (interval + 1)
    return rate * share, b1**share, b2**share


def frozen(
    optimizer: optax.GradientTransformation, layers: Collection[str]
) -> optax.GradientTransformationExtraArgs:
    """`optimizer`, but that what lies under these names at the top of the parameters does not move.

    References:
      Mo et al. 2020, "Freeze the discriminator: a simple baseline for fine-tuning GANs".
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        moved: Any
        moved, state = inner.update(updates, state, params, **extra)
        still = {name: jax.tree.map(jnp.zeros_like, moved[name]) for name in layers}
        return {**moved, **still}, state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def clip(params: Tree, bound: float, only: Callable[[Path, jax.Array], bool] | None = None) -> Tree:
    """Every number of `params` brought into [-bound, bound].

    Args:
      params: a tree.
      bound: above 0.
      only: (path, leaf) -> whether that leaf is clipped, a path being like ("Conv_0", "kernel"); None: all.
    References:
      Arjovsky et al. 2017, "Wasserstein GAN", algorithm 1 (bound 0.01).
    """
    _check_bound(bound)

    def leaf(keys: tuple, x: jax.Array) -> jax.Array:
        path = tuple(str(getattr(key, "key", getattr(key, "name", key))) for key in keys)
        return jnp.clip(x, -bound, bound) if only is None or only(path, x) else x

    return jax.tree_util.tree_map_with_path(leaf, params)


def _check_bound(bound: float) -> None:
    if not bound > 0.0:
        raise ValueError(f"clip: bound={bound}: expected a number above 0")


def clip_all(bound: float) -> Callable[[Tree], Tree]:
    """A projection for `Gan.constrain`: all parameters into [-bound, bound], scales and biases of norms too,
    as in the code of Arjovsky et al. ValueError for a bound that is not above 0."""
    _check_bound(bound)
    return functools.partial(clip, bound=bound)


def clip_kernels(bound: float) -> Callable[[Tree], Tree]:
    """A projection for `Gan.constrain`: the kernels of convolutions into [-bound, bound], and nothing else.

    That is, leaves named "kernel" with three axes or more; dense kernels have two.

    Raises:
      ValueError: the bound is not above 0; the projection raises it for parameters without a convolution.
    """
    _check_bound(bound)

    def convolution(path: Path, leaf: jax.Array) -> bool:
        return path[-1:] == ("kernel",) and leaf.ndim >= 3

    def project(params: Tree) -> Tree:
        found: list[Path] = []

        def only(path: Path, leaf: jax.Array) -> bool:
            if convolution(path, leaf):
                found.append(path)
            return convolution(path, leaf)

        clipped = clip(params, bound, only)
        if not found:
            raise ValueError("clip=kernels: there are no kernels of convolutions here; clip all weights")
        return clipped

    return project
