"""Path length regularization of a generator that is steered by styles (Karras et al. 2020, "Analyzing and
improving the image quality of StyleGAN", section 3.2): a step of fixed size in the space of styles should
change images by a fixed amount."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import random
from ganjax.families.adversarial import GENERATOR
from ganjax.gan import Array, Batch, Context, Effects, Gan, GanState, Phase, Tree, every

PATH_LENGTH = "path_length"  # in the carry, the running mean


def path_lengths(images_of: Callable[[Array], Array], styles: Array, noise: Array) -> Array:
    """|J^T y| of each example, [n], root mean square over its layers, J being the derivative of its image in
    its styles.

    Args:
      images_of: styles -> images [n, H, W, C], each of its own styles alone.
      styles: [n, layers, S].
      noise: y, standard normal, [n, H, W, C]; it is divided by sqrt(H W).
    """
    noise = noise / jnp.sqrt(jnp.asarray(noise.shape[1] * noise.shape[2], noise.dtype))
    gradient = jax.grad(lambda styles: jnp.sum(images_of(styles) * noise))(styles)
    squares = jnp.mean(jnp.sum(jnp.square(gradient), axis=2), axis=1)
    # The root's own gradient is finite everywhere: 0 where the images do not depend on the styles.
    some = squares > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1.0)), 0.0)


def with_path_length(
    gan: Gan,
    generator: nn.Module,
    *,
    latent_size: int,
    num_classes: int = 0,
    weight: float = 2.0,
    interval: int = 4,
    shrink: int = 2,
    decay: float = 0.01,
    accumulate: int = 1,
    stride: int = 1,
) -> Gan:
    """`gan` with a phase in which the generator descends E (path length - their running mean)^2.

    Args:
      gan: of the adversarial family.
      generator: its generator, which has the methods `styles` and `images` of `StyleGAN2Generator`.
      latent_size: Z.
      num_classes: 0 for an unconditional GAN.
      weight: of the penalty.
      interval: k: the phase is due on the last of every k of the generator's steps, and k times as strong.
      shrink: of the batch every `shrink`-th example is taken, for memory.
      decay: 1 - that of the running mean, which starts at 0.
      accumulate: micro-batches to one update.
      stride: the generator moves on the last of every `stride` steps of the run.
    The phase raises ValueError where `shrink` does not divide the batch.
    """

    def chosen(context: Context) -> tuple[Context, Array]:
        """Every `shrink`-th example of the global batch, and weights of those that are here."""
        count = context.index.shape[0]
        if count % shrink == 0:
            return context._replace(index=context.index[::shrink]), jnp.ones((count // shrink,))
        if context.axis_name is None:
            raise ValueError(f"path_length_shrink={shrink}: it does not divide the (micro-)batch of {count}")
        # A device with few examples has them all, and those that are not chosen count for nothing.
        place = context.index // accumulate
        return context, jnp.where(place % shrink == 0, float(shrink), 0.0)

    def loss(params: Tree, state: GanState, batch: Batch, context: Context) -> tuple[Array, Effects]:
        del batch
        context, weights = chosen(context)
        labels = random.randint(context.example_keys("label"), 0, num_classes) if num_classes else None
        latents = random.normal(context.example_keys("z"), (latent_size,))
        keys = context.example_keys(GENERATOR)
        variables = {"params": params, **state.stats[GENERATOR]}
        styles, _ = generator.apply(
            variables,
            latents,
            labels,
            train=True,
            keys=keys,
            method="styles",
            mutable=list(state.stats[GENERATOR]),
        )

        def images_of(styles: Array) -> Array:
            images = generator.apply(variables, styles, keys, method="images")
            assert isinstance(images, jax.Array)
            return images

        shape = jax.eval_shape(images_of, styles).shape
        lengths = path_lengths(images_of, styles, random.normal(context.example_keys("noise"), shape[1:]))
        length = context.mean(jax.lax.stop_gradient(jnp.mean(weights * lengths)))
        mean = state.carry[PATH_LENGTH] + decay * (length - state.carry[PATH_LENGTH])
        penalty = weight * jnp.mean(weights * jnp.square(lengths - mean))
        carry = {**state.carry, PATH_LENGTH: mean}
        metrics = {"path_length": length, "path_length_penalty": penalty}
        return interval * penalty, Effects(carry=carry, metrics=metrics)

    def init(key: Array, batch: Batch) -> tuple[dict, dict, Tree]:
        params, stats, carry = gan.init(key, batch)
        return params, stats, {**(carry or {}), PATH_LENGTH: jnp.zeros(())}

    phase = Phase(GENERATOR, loss, every(interval * stride), "path length", accumulate)
    return gan._replace(init=init, phases=(*gan.phases, phase))
