"""How near samples lie to training images, in pixels: near copies are what memorisation looks like."""

from typing import NamedTuple

import numpy as np

from ganjax import errors

_ROWS, _COLUMNS = 1024, 4096


class Nearest(NamedTuple):
    """The nearest reference image of each query: index int64 [N], Euclidean distance float64 [N]."""

    index: np.ndarray
    distance: np.ndarray


def nearest_images(queries: np.ndarray, references: np.ndarray) -> Nearest:
    """The nearest of `references` to each of `queries`, by Euclidean distance with pixels scaled to [0, 1].

    The search is by matrix products in float32, in chunks; the distance to the one found is then exact.
    Which of two references is found whose squared distances differ by less than about 1e-4 is open.

    Args:
      queries: uint8 [N, ...].
      references: uint8 [M, ...], M >= 1, of the same image shape.
    Raises:
      UsageError: another type, shapes that do not fit, or no references.
    """
    queries, references = np.asarray(queries), np.asarray(references)
    if queries.dtype != np.uint8 or references.dtype != np.uint8:
        raise errors.UsageError(f"expected uint8 images, got {queries.dtype} and {references.dtype}")
    if queries.ndim < 2 or queries.shape[1:] != references.shape[1:]:
        raise errors.UsageError(
            f"expected images of one shape, got queries {queries.shape}, references {references.shape}"
        )
    if not len(references):
        raise errors.UsageError("expected at least 1 reference image, got 0")
    # One centre for both leaves distances as they are and makes the products smaller, so rounding too.
    pixels = int(np.prod(queries.shape[1:]))
    flat_queries = queries.reshape(len(queries), pixels)
    flat_references = references.reshape(len(references), pixels)
    centre = flat_references.mean(axis=0, dtype=np.float64).astype(np.float32)
    best = np.full(len(queries), np.inf, np.float32)
    index = np.zeros(len(queries), np.int64)
    for j in range(0, len(references), _COLUMNS):
        columns = (flat_references[j : j + _COLUMNS] - centre) / np.float32(255)
        half_norms = np.einsum("nd,nd->n", columns, columns) / 2
        for i in range(0, len(queries), _ROWS):
            rows = (flat_queries[i : i + _ROWS] - centre) / np.float32(255)
            # |q - r|^2 / 2 but for |q|^2 / 2, which does not change which r is nearest.
            score = rows @ columns.T
            np.subtract(half_norms, score, out=score)
            place = score.argmin(axis=1)
            value = np.take_along_axis(score, place[:, None], axis=1)[:, 0]
            nearer = value < best[i : i + _ROWS]
            best[i : i + _ROWS][nearer] = value[nearer]
            index[i : i + _ROWS][nearer] = place[nearer] + j
    distance = np.empty(len(queries), np.float64)
    for i in range(0, len(queries), _ROWS):
        found = flat_references[index[i : i + _ROWS]].astype(np.int64)
        difference = flat_queries[i : i + _ROWS].astype(np.int64) - found
        distance[i : i + _ROWS] = np.sqrt((difference**2).sum(axis=1)) / 255
    return Nearest(index, distance)
