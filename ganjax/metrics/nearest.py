"""How near samples lie to training images, in pixels: near copies are what memorisation looks like."""

from typing import NamedTuple

import numpy as np

from ganjax import errors
from ganjax.report import images as pictures

_SCORES = 1 << 24  # of a block of queries and all references, at a time
_COLUMNS = 4096  # references that are turned into floats at a time
_DIRECTIONS = 64  # that distances are first bounded in
_LEARN_FROM = 8192  # references that the directions are chosen by
_FEW = 16  # candidates that are always compared one by one
_SLACK = 1e-3  # of half a squared distance: far beyond what rounding in float32 does


class Nearest(NamedTuple):
    """The nearest reference image of each query: index int64 [N], Euclidean distance float64 [N]."""

    index: np.ndarray
    distance: np.ndarray


def nearest_images(queries: np.ndarray, references: np.ndarray) -> Nearest:
    """The nearest of `references` to each of `queries`, by Euclidean distance with pixels scaled to [0, 1].

    Distances are exact for uint8. All pairs are compared in a few directions, those in which the references
    differ most, and by the length of what is left: that is never more than their distance. What may still be
    nearer than the first guess by this bound is compared in every pixel. Of references that are equally near
    the first is found; where squared distances differ by less than about 1e-4 it may be the other.

    Args:
      queries: uint8 [N, ...].
      references: uint8 [M, ...], M >= 1, of the same image shape.
    Raises:
      UsageError: another type, shapes that do not fit, or no references.
    """
    queries, references = _checked(queries, references)
    centre = references.mean(axis=0, dtype=np.float64).astype(np.float32)
    directions = _principal(references, centre)
    there = _bounding(references, centre, directions)
    half_norms = np.einsum("nd,nd->n", there, there) / 2
    index = np.zeros(len(queries), np.int64)
    squared = np.zeros(len(queries), np.int64)
    rows = max(_SCORES // len(references), 1)
    for i in range(0, len(queries), rows):
        some = queries[i : i + rows]
        here = _bounding(some, centre, directions)
        # |q - r|^2 / 2 but for |q|^2 / 2, which does not change which r is nearest.
        score = here @ there.T
        np.subtract(half_norms, score, out=score)
        guess = score.argmin(axis=1)
        least = _squared(some, references[guess])
        limit = least / (2 * 255**2) - np.einsum("nd,nd->n", here, here) / 2 + _SLACK
        possible = score <= limit[:, None]
        counts = np.count_nonzero(possible, axis=1)
        # Pair by pair a comparison takes some fifty times as long as in a product of all with all.
        many = counts > _FEW + len(references) // 64
        for k in np.flatnonzero((counts > 1) & ~many):
            candidates = np.flatnonzero(possible[k])
            distances = _squared(some[k][None], references[candidates])
            place = distances.argmin()
            guess[k], least[k] = candidates[place], distances[place]
        if many.any():
            guess[many] = _by_products(some[many], references, centre)
            least[many] = _squared(some[many], references[guess[many]])
        index[i : i + rows], squared[i : i + rows] = guess, least
    return Nearest(index, np.sqrt(squared) / 255)


def nearest_neighbours(queries: np.ndarray, references: np.ndarray, k: int) -> Nearest:
    """The k nearest of `references` to each of `queries`, nearest first; the distance of `nearest_images`.

    All pairs are compared in every pixel: for a few queries. Exact for uint8; of references that are equally
    near the first comes first.

    Args:
      queries: uint8 [N, ...].
      references: uint8 [M, ...], M >= k, of the same image shape.
      k: at least 1.
    Returns:
      index int64 [N, k] and distance float64 [N, k].
    Raises:
      UsageError: another type, shapes that do not fit, or fewer references than k.
    """
    queries, references = _checked(queries, references)
    if not 1 <= k <= len(references):
        raise errors.UsageError(f"neighbours={k}: expected 1 to {len(references)}")
    rows = max(1, min(_COLUMNS, _SCORES // max(1, queries.shape[1])))
    index = np.empty((len(queries), k), np.int64)
    squared = np.empty((len(queries), k), np.int64)
    for i, query in enumerate(queries):
        all_squared = np.concatenate(
            [_squared(query[None], references[j : j + rows]) for j in range(0, len(references), rows)]
        )
        index[i] = np.argsort(all_squared, kind="stable")[:k]
        squared[i] = all_squared[index[i]]
    return Nearest(index, np.sqrt(squared) / 255)


def neighbours_sheet(
    samples: np.ndarray,
    train: np.ndarray,
    count: int = 8,
    neighbours: int = 7,
    *,
    nearest_first: bool = False,
) -> np.ndarray:
    """A picture for the eye: in each row a sample, then the training images nearest to it, in order.

    Copies and near copies show; a copy that was mirrored or shifted by much is not found, for pixels are what
    is compared. A model that does not memorise has samples that are none of their neighbours.

    Args:
      samples: uint8 [N, H, W, C], C of 1, 3 or 4.
      train: uint8 [M, H, W, C].
      count: samples that are shown, the first ones; all of them where there are fewer.
      neighbours: training images beside each, at most M.
      nearest_first: show the samples that lie nearest to any training image, in this order: the worst case in
        place of a fair draw. All samples are searched for that.
    Returns:
      uint8 [height, width, C], as `ganjax.report.images.grid` draws.
    Raises:
      UsageError: other types or shapes, no samples, or counts out of range.
    """
    samples, train = np.asarray(samples), np.asarray(train)
    if samples.ndim != 4 or samples.shape[-1] not in (1, 3, 4) or not len(samples) or count < 1:
        raise errors.UsageError(
            f"samples: expected at least 1 of [N, H, W, C] with C of 1, 3 or 4, got {samples.shape} and "
            f"count={count}"
        )
    if nearest_first:
        samples = samples[np.argsort(nearest_images(samples, train).distance, kind="stable")]
    samples = samples[:count]
    beside = nearest_neighbours(samples, train, neighbours).index
    rows = np.concatenate([samples[:, None], train[beside]], axis=1)
    return pictures.grid(rows.reshape(-1, *samples.shape[1:]), columns=1 + neighbours)


def _checked(queries: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as uint8 [N, pixels]."""
    queries, references = np.asarray(queries), np.asarray(references)
    if queries.dtype != np.uint8 or references.dtype != np.uint8:
        raise errors.UsageError(f"expected uint8 images, got {queries.dtype} and {references.dtype}")
    if queries.ndim < 2 or queries.shape[1:] != references.shape[1:]:
        raise errors.UsageError(
            f"expected images of one shape, got queries {queries.shape}, references {references.shape}"
        )
    if not len(references):
        raise errors.UsageError("expected at least 1 reference image, got 0")
    pixels = int(np.prod(queries.shape[1:]))
    queries, references = queries.reshape(len(queries), pixels), references.reshape(len(references), pixels)
    return queries, references


def _principal(references: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Orthonormal columns, float32 [pixels, D]: the directions in which references differ most."""
    pixels = references.shape[1]
    if pixels <= _DIRECTIONS:
        return np.eye(pixels, dtype=np.float32)
    some = references[:: -(-len(references) // _LEARN_FROM)]
    if pixels > _LEARN_FROM:  # of large images no covariance, whose size is squared: any basis bounds
        return np.linalg.qr(np.random.default_rng(0).normal(size=(pixels, _DIRECTIONS)))[0].astype(np.float32)
    values = (some - centre) / np.float32(255)
    return np.linalg.eigh(values.T @ values)[1][:, -_DIRECTIONS:].astype(np.float32)


def _bounding(images: np.ndarray, centre: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """float32 [N, D + 1], as far from each other as images at most: by the triangle inequality, what lies
    outside of the directions differs at least as much as its length does."""
    points = np.empty((len(images), directions.shape[1] + 1), np.float32)
    for i in range(0, len(images), _COLUMNS):
        values = (images[i : i + _COLUMNS] - centre) / np.float32(255)
        inside = values @ directions
        left = np.einsum("nd,nd->n", values, values) - np.einsum("nd,nd->n", inside, inside)
        points[i : i + _COLUMNS, :-1] = inside
        points[i : i + _COLUMNS, -1] = np.sqrt(np.maximum(left, 0))
    return points


def _squared(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances of uint8 [N, pixels], pair by pair, in grey levels: int64 [N]."""
    difference = some.astype(np.int32) - others
    return np.einsum("nd,nd->n", difference, difference, dtype=np.int64)


def _by_products(queries: np.ndarray, references: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The nearest references by products in all pixels, int64 [N]: for what the bound tells nothing of."""
    here = (queries - centre) / np.float32(255)
    best = np.full(len(queries), np.inf, np.float32)
    index = np.zeros(len(queries), np.int64)
    for j in range(0, len(references), _COLUMNS):
        there = (references[j : j + _COLUMNS] - centre) / np.float32(255)
        score = here @ there.T
        np.subtract(np.einsum("nd,nd->n", there, there) / 2, score, out=score)
        place = score.argmin(axis=1)
        value = np.take_along_axis(score, place[:, None], axis=1)[:, 0]
        nearer = value < best
        best[nearer], index[nearer] = value[nearer], place[nearer] + j
    return index
