"""What the loop needs of data: a batch is a pure function of the seed and of how many came before."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from ganjax.gan import Batch, Context


class Source(Protocol):
    """Where a stage's batches come from. Nothing is remembered between batches.

    `indices` runs on the host with numpy, so that every platform sees the same batches. A source that
    joins several data sets (labelled and unlabelled, two domains) answers with trees of the same form.

    `read` may be called by several threads at once. A source that can put up with damaged examples has
    besides a sequence `skipped`, a line for each that it met, which the loop passes on. One that chooses
    among its examples has besides `check(seed)`, which raises UsageError where there are too few; a new run
    asks it before its folder is made.
    """

    def indices(self, seed: int, start: int, count: int) -> Any:
        """Which examples come after the first `start`: int64 [count], or a tree of them.

        `start` counts over the whole run, also where stages have other batch sizes.
        """
        ...

    def example(self, count: int) -> Any:
        """Raw examples of the right form, without reading any."""
        ...

    def read(self, indices: Any) -> Any:
        """The raw examples at `indices`, uint8 images, on the host: a tree of numpy arrays."""
        ...

    def resident(self) -> Any:
        """The whole raw set, to be kept on an accelerator and gathered from; None if it is too large."""
        ...

    def transform(self, batch: Batch, context: Context) -> Batch:
        """Raw examples to what the losses see; pure, traced into the compiled step."""
        ...


def to_float(images: jax.Array) -> jax.Array:
    """uint8 [0, 255] to float32 [-1, 1]."""
    # Not x / 127.5 - 1, which compiles to a fused multiply-add that exceeds 1 and differs from the uncompiled
    centred = 2 * images.astype(jnp.int32) - 255
    return centred.astype(jnp.float32) * jnp.float32(1 / 255)
