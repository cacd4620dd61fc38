"""An augmentation whose strength follows the discriminator (Karras et al. 2020, "Training generative
adversarial networks with limited data", section 3): as long as it is too sure of the real images, it is shown
more augmented ones."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganjax.gan import Array, Context, Tree


class Adaptive(NamedTuple):
    """An augmentation of everything that the discriminator sees, with a memory.

    Attributes:
      init: () -> the memory at the start.
      apply: (images [n, ...], keys [n], memory) -> images.
      update: (memory, logits [n] of the local real images, context) -> the memory after a batch that the
        discriminator learned from; the same on every device.
      metrics: memory -> metrics by name.
    """

    init: Callable[[], Tree]
    apply: Callable[[Array, Array, Tree], Array]
    update: Callable[[Tree, Array, Context], Tree]
    metrics: Callable[[Tree], dict[str, Array]]


class Memory(NamedTuple):
    """Float32 scalars.

    Attributes:
      p: the probability of a transform.
      signs: the sum of the signs of real images' logits since p moved last.
      images: how many they are.
    """

    p: Array
    signs: Array
    images: Array


def adaptive(
    augmentation: Callable[[Array, Array, Array], Array],
    *,
    every_images: int,
    speed_images: float,
    target: float = 0.6,
    start: float = 0.0,
    maximum: float = 1.0,
) -> Adaptive:
    """p moves by a small step, up where the mean sign of real images' logits is above the target, else down.

    Args:
      augmentation: (images [n, ...], keys [n], p) -> images.
      every_images: p moves whenever so many real images were seen since the last time, by the share that they
        are of `speed_images`.
      speed_images: over so many images p could rise from 0 to 1; 500,000 in the paper.
      target: between -1 and 1.
      start: p at first.
      maximum: p is kept between 0 and this; transforms leak when they are all but certain.
    Raises:
      ValueError: for a number that is out of range.
    """
    if every_images < 1 or not speed_images > 0:
        raise ValueError(f"every_images={every_images}, speed_images={speed_images}: expected both above 0")
    if not 0.0 <= start <= maximum <= 1.0:
        raise ValueError(f"start={start}, maximum={maximum}: expected 0 <= start <= maximum <= 1")

    def update(memory: Memory, logits: Array, context: Context) -> Memory:
        # Sums of whole numbers: exact, whatever devices the batch is on.
        every_sign = context.gather(jnp.sign(jax.lax.stop_gradient(logits)).astype(jnp.float32))
        signs, images = memory.signs + jnp.sum(every_sign), memory.images + every_sign.shape[0]
        due = images >= every_images
        step = jnp.sign(signs / images - target) * images / speed_images
        return Memory(
            p=jnp.where(due, jnp.clip(memory.p + step, 0.0, maximum), memory.p),
            signs=jnp.where(due, 0.0, signs),
            images=jnp.where(due, 0.0, images),
        )

    return Adaptive(
        init=lambda: Memory(jnp.asarray(start, jnp.float32), jnp.zeros(()), jnp.zeros(())),
        apply=lambda images, keys, memory: augmentation(images, keys, memory.p),
        update=update,
        metrics=lambda memory: {"augment_p": memory.p},
    )
