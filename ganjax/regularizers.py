"""Regularizers as pure functions: what a gradient of the critic, a weight or a logit is penalised for. The
caller weighs and reduces them: what is named [n] has one value an example.

A critic is a function from images [n, ...] (points [n, 2] too) to logits of any shape whose first axis is n
(PatchGAN's [n, h, w, 1]), in which an example's logits depend on that example alone; the logits of an image
are summed. A discriminator with batch statistics is not one: freeze them, or use another norm.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ganjax import random

Tree = Any
Critic = Callable[[jax.Array], jax.Array]
Path = tuple[str, ...]


def gradient_square(critic: Critic, images: jax.Array) -> jax.Array:
    """|grad of the critic at an image|^2, [n]: R1 on real images, R2 on generated ones, each times gamma / 2.

    Args:
      critic: see the module's docstring.
      images: [n, ...].
    References:
      Mescheder et al. 2018, "Which training methods for GANs do actually converge?"
      (gamma = 10).
    """
    gradients = jax.grad(lambda x: jnp.sum(critic(x)))(images)
    return jnp.sum(jnp.square(gradients.reshape(gradients.shape[0], -1)), axis=1)


def gradient_penalty(
    critic: Critic, images: jax.Array, *, target: float = 1.0, one_sided: bool = False
) -> jax.Array:
    """(|grad of the critic at an image| - target)^2, [n].

    The norm's own gradient is finite everywhere: where the critic is flat it is taken as 0.

    Args:
      critic: see the module's docstring.
      images: [n, ...]: `interpolates` for WGAN-GP, `dragan_points` for DRAGAN.
      target: the norm that is not penalised.
      one_sided: smaller norms are not penalised either (WGAN-LP).
    References:
      Gulrajani et al. 2017, "Improved training of Wasserstein GANs" (weight 10); Petzka et al. 2018, "On the
      regularization of Wasserstein GANs", for the one-sided form.
    """
    square = gradient_square(critic, images)
    flat = square <= 0.0
    # The root's slope at 0 is infinite, and `where` alone would give 0 * inf: hence a 1 in its place.
    norm = jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, square)))
    excess = norm - target
    return jnp.square(jax.nn.relu(excess) if one_sided else excess)


def interpolates(real: jax.Array, fake: jax.Array, weight: jax.Array) -> jax.Array:
    """weight * real + (1 - weight) * fake, [n, ...]: the points of WGAN-GP's penalty (Gulrajani et al. 2017).

    Args:
      real: [n, ...].
      fake: the same shape.
      weight: [n], uniform in [0, 1) in the paper: `random.uniform(keys, ())`.
    """
    chex.assert_equal_shape([real, fake])
    chex.assert_shape(weight, (real.shape[0],))
    weight = weight.reshape(-1, *(1,) * (real.ndim - 1)).astype(real.dtype)
    return weight * real + (1.0 - weight) * fake


def dragan_points(real: jax.Array, keys: jax.Array, std: float | jax.Array) -> jax.Array:
    """x + 0.5 a std u: the points of DRAGAN's penalty, [n, ...]; u is uniform in [0, 1) and drawn for each
    number, a likewise and drawn for each example.

    Args:
      real: [n, ...].
      keys: PRNG keys [n].
      std: the standard deviation of all numbers in the *global* batch of real images, a scalar.
    References:
      Kodali et al. 2017, "On convergence and stability of GANs"; the form of the perturbation is that of the
      authors' code (the paper leaves the noise's law open), the penalty `gradient_penalty` of weight 10.
    """
    share = random.uniform(random.streams(keys, "share"), (), real.dtype)
    noise = random.uniform(random.streams(keys, "noise"), real.shape[1:], real.dtype)
    return real + 0.5 * std * share.reshape(-1, *(1,) * (real.ndim - 1)) * noise


def consistency(logits: jax.Array, logits_of_augmented: jax.Array) -> jax.Array:
    """(D(x) - D(T(x)))^2, elementwise; gradients flow into both.

    Args:
      logits: of real images, any shape.
      logits_of_augmented: of the same images, augmented; the same shape.
    References:
      Zhang et al. 2020, "Consistency regularization for generative adversarial networks" (CR-GAN, weight 10),
      for the last layer, the one that the paper uses.
    """
    chex.assert_equal_shape([logits, logits_of_augmented])
    return jnp.square(logits - logits_of_augmented)


def no_kernel(path: Path) -> bool:
    """Skips nothing."""
    del path
    return False


def orthogonal(params: Tree, *, skip: Callable[[Path], bool] = no_kernel) -> jax.Array:
    """The sum over kernels of |W^T W * (1 - I)|_F^2, a scalar: filters should be orthogonal, of any length.

    A kernel is a leaf named "kernel" with at least two axes; W is its matrix [all inputs, outputs].

    Args:
      params: a tree of nested mappings.
      skip: path -> whether to leave out the kernel there; a path is like ("Dense_0", "kernel").
    Raises:
      ValueError: where there is no such kernel.
    References:
      Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis", section
      3.1 (weight 1e-4, on the generator without its class embedding).
    """
    total = jnp.zeros(())
    for matrix in _matrices(params, skip).values():
        # |W^T W|_F = |W W^T|_F: the smaller one, or a wide layer would need gigabytes.
        products = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
        lengths = jnp.sum(jnp.square(matrix), axis=0)
        total += jnp.sum(jnp.square(products)) - jnp.sum(jnp.square(lengths))
    return total


class WeightPenalty(NamedTuple):
    """A penalty on a player's parameters that may remember what it saw.

    Attributes:
      init: params -> memory, a tree of arrays that share no buffer with the parameters.
      apply: (params, memory) -> (penalty, a scalar, and the memory afterwards). No gradient flows into or out
        of the memory. With equal parameters on all devices, memories stay equal.
    """

    init: Callable[[Tree], Tree]
    apply: Callable[[Tree, Tree], tuple[jax.Array, Tree]]


def orthogonal_penalty(*, skip: Callable[[Path], bool] = no_kernel) -> WeightPenalty:
    """`orthogonal`, which has nothing to remember: its memory is ()."""
    return WeightPenalty(lambda params: (), lambda params, memory: (orthogonal(params, skip=skip), memory))


def spectral_penalty(*, skip: Callable[[Path], bool] = no_kernel) -> WeightPenalty:
    """The sum over kernels of sigma(W)^2 / 2, with sigma the largest singular value.

    The memory holds a vector for each kernel, by its path; a call improves it by one step of power iteration,
    and sigma is the estimate after that. The first vectors are always the same ones. Kernels and `skip` are
    those of `orthogonal`, ValueError likewise.

    References:
      Yoshida & Miyato 2017, "Spectral norm regularization for improving the generalizability of deep
      learning", algorithm 1.
    """

    def init(params: Tree) -> dict[str, jax.Array]:
        # Normal draws: a vector of ones would be orthogonal to some kernels' first singular vector by design.
        key = jax.random.key(0, impl="threefry2x32")
        return {
            path: _unit(jax.random.normal(random.stream(key, path), matrix.shape[1:]))
            for path, matrix in _matrices(params, skip).items()
        }

    def apply(params: Tree, memory: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        total, after = jnp.zeros(()), {}
        for path, matrix in _matrices(params, skip).items():
            fixed = jax.lax.stop_gradient(matrix)
            old = jax.lax.stop_gradient(memory[path])
            left = _unit(fixed @ old)
            right = fixed.T @ left
            # A kernel of zeros must not wipe out the vector that finds it when it has grown.
            after[path] = jnp.where(jnp.any(right != 0.0), _unit(right), old)
            sigma = left @ matrix @ after[path]
            total += 0.5 * jnp.square(sigma)
        return total, after

    return WeightPenalty(init, apply)


class History(NamedTuple):
    """What `historical_averaging` remembers.

    Attributes:
      mean: of the parameters at all calls so far, a tree like them.
      count: float32 [], how many calls.
    """

    mean: Tree
    count: jax.Array


def historical_averaging() -> WeightPenalty:
    """|theta - mean of past thetas|^2, summed over all parameters; 0 at the first call, which has no past.

    The memory is a `History`. The mean moves ever less with the number of calls; after some 10^6, float32
    begins to round its small moves away.

    References:
      Salimans et al. 2016, "Improved techniques for training GANs", section 3.3.
    """

    def init(params: Tree) -> History:
        return History(jax.tree.map(jnp.zeros_like, params), jnp.zeros(()))

    def apply(params: Tree, memory: History) -> tuple[jax.Array, History]:
        memory, fixed = jax.lax.stop_gradient((memory, params))
        squares = jax.tree.map(lambda x, mean: jnp.sum(jnp.square(x - mean)), params, memory.mean)
        penalty = jnp.where(memory.count > 0, 1.0, 0.0) * sum(jax.tree.leaves(squares), jnp.zeros(()))
        count = memory.count + 1.0
        mean = jax.tree.map(lambda mean, x: mean + (x - mean) / count, memory.mean, fixed)
        return penalty, History(mean, count)

    return WeightPenalty(init, apply)


class LecamMemory(NamedTuple):
    """Moving averages of the discriminator's logits, float32 scalars.

    Attributes:
      real: of the real images' mean logit.
      fake: of the generated images' mean logit.
      count: how many updates.
    """

    real: jax.Array
    fake: jax.Array
    count: jax.Array


def lecam_init() -> LecamMemory:
    """The memory before the first update."""
    return LecamMemory(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))


def lecam_update(
    memory: LecamMemory, real_mean: jax.Array, fake_mean: jax.Array, decay: float | jax.Array = 0.99
) -> LecamMemory:
    """The memory after another batch; the first batch's means are taken as they are. No gradient flows in.

    Args:
      memory: before.
      real_mean: a scalar, the mean logit of the real images in the *global* batch.
      fake_mean: likewise of the generated ones.
      decay: in [0, 1).
    """
    memory, real_mean, fake_mean = jax.lax.stop_gradient((memory, real_mean, fake_mean))
    kept = jnp.where(memory.count > 0, decay, 0.0)
    return LecamMemory(
        real=kept * memory.real + (1.0 - kept) * real_mean,
        fake=kept * memory.fake + (1.0 - kept) * fake_mean,
        count=memory.count + 1.0,
    )


def lecam(real_logits: jax.Array, fake_logits: jax.Array, memory: LecamMemory) -> jax.Array:
    """E (D(x) - a_F)^2 + E (D(G(z)) - a_R)^2, a scalar, with the moving averages a of the memory; 0 where the
    memory has seen no batch.

    The formula is the paper's. The authors' code differs: it cuts both differences off at 0 from below, and
    takes the second with the other sign. The means are those of the local batch, whose mean over devices is
    that of the global one.

    Args:
      real_logits: any shape.
      fake_logits: any shape.
      memory: of the batches before.
    References:
      Tseng et al. 2021, "Regularizing generative adversarial networks under limited data".
    """
    memory = jax.lax.stop_gradient(memory)
    real = jnp.mean(jnp.square(real_logits - memory.fake))
    fake = jnp.mean(jnp.square(fake_logits - memory.real))
    return jnp.where(memory.count > 0, 1.0, 0.0) * (real + fake)


def _matrices(params: Tree, skip: Callable[[Path], bool]) -> dict[str, jax.Array]:
    """The kernels that are penalised, as matrices [inputs, outputs], by "module/.../kernel"."""
    matrices = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        path = tuple(str(getattr(key, "key", getattr(key, "name", key))) for key in keys)
        if path and path[-1] == "kernel" and leaf.ndim >= 2 and not skip(path):
            matrices["/".join(path)] = leaf.reshape(-1, leaf.shape[-1])
    if not matrices:
        raise ValueError(
            'a penalty on kernels found none: no leaf "kernel" of two or more axes is left to it'
        )
    return matrices


def _unit(vector: jax.Array) -> jax.Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)
