"""Pictures of translated images beside what they were made of."""

from collections.abc import Sequence

import numpy as np

from ganjax.report.images import grid, opaque, to_uint8


def rows(examples: Sequence[np.ndarray], columns: int = 1) -> np.ndarray:
    """A sheet on which each example is some images side by side: its input, its output, its target, say.

    Args:
      examples: arrays of N images each, floats [N, H, W, C] in [-1, 1] of one height and width, in the order
        in which they stand beside each other; C may differ.
      columns: examples to a row.
    Returns:
      uint8 [R, S, 3], as `ganjax.report.images.grid` lays it out; what has an alpha channel is laid over
      white.
    Raises:
      ValueError: there are none, they differ in number or size, or are not finite.
    """
    cells = [opaque(to_uint8(images)) for images in examples]
    if not cells or len({images.shape for images in cells}) != 1:
        raise ValueError(f"rows of {[images.shape for images in cells]}: expected as many images of one size")
    together = np.stack(cells, axis=1)
    return grid(together.reshape(-1, *together.shape[2:]), columns * len(cells))
