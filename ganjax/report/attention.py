"""Pictures of what chosen points of an image attend to."""

from collections.abc import Sequence

import numpy as np

from ganjax.report.images import grid, to_uint8

_MARK = (60, 220, 60)  # of a query
_HEAT = np.array([255.0, 120.0, 0.0])  # where its largest weight is


def attention_sheet(
    images: np.ndarray, weights: np.ndarray, queries: Sequence[tuple[int, int]]
) -> np.ndarray:
    """A row an image: the image, its queries marked, then for each query where its weights lie.

    Args:
      images: floats [n, H, W, C] in [-1, 1], C of 1, 3 or 4.
      weights: floats [n, h, w, h', w']: of each query on a grid of h x w, the weights of h' x w' places.
      queries: (row, column) of pixels.
    Returns:
      uint8 [H', W', 3]. A query's weights are shown as shares of its largest one, over the image in grey.
    Raises:
      ValueError: a query lies outside of the image, or there is none.
    """
    pixels = to_uint8(images)[..., :3]
    pixels = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels
    height, width = pixels.shape[1:3]
    if not queries:
        raise ValueError("queries: there are none")
    for row, column in queries:
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(
                f"queries={row}x{column}: expected a row from 0 to {height - 1} and a column from 0 to "
                f"{width - 1}"
            )
    grey = 0.5 * pixels.mean(axis=-1, keepdims=True)
    down, across = (np.arange(side) for side in (height, width))
    cells = []
    for image, dim, of_image in zip(pixels, grey, weights, strict=True):
        marked = image.copy()
        shown = []
        for row, column in queries:
            _mark(marked, row, column)
            of_query = of_image[row * of_image.shape[0] // height, column * of_image.shape[1] // width]
            rows, columns = of_query.shape
            heat = (of_query / max(of_query.max(), 1e-12))[
                np.ix_(down * rows // height, across * columns // width)
            ]
            cell = dim * (1 - heat[..., None]) + _HEAT * heat[..., None]
            shown.append(np.clip(np.rint(cell), 0, 255).astype(np.uint8))
            _mark(shown[-1], row, column)
        cells += [marked, *shown]
    return grid(np.stack(cells), 1 + len(queries))


def _mark(image: np.ndarray, row: int, column: int) -> None:
    """A square about the point, a sixteenth of the image."""
    reach = max(image.shape[0] // 32, 0)
    image[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = _MARK
