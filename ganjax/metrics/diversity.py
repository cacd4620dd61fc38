"""How much images differ from one another, in pixels."""

import numpy as np

from ganjax import errors

_CHUNK = 512


def pairwise_distance(images: np.ndarray) -> float:
    """The mean Euclidean distance over all pairs of different images, pixels scaled to [0, 1].

    Exact for uint8: squared distances are whole numbers below 2^53, so equal images are 0 apart.

    Args:
      images: uint8 [N, ...], N >= 2.
    Returns:
      In [0, sqrt(pixels of an image)]; an unbiased estimate of a population's, whatever N.
    Raises:
      UsageError: another type, or fewer than 2 images.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise errors.UsageError(f"images: expected uint8 in [0, 255], got {images.dtype}")
    if images.ndim < 2 or len(images) < 2:
        raise errors.UsageError(f"images: expected [N, ...] with N >= 2, got the shape {images.shape}")
    count = len(images)
    flat = images.reshape(count, -1)
    total = 0.0
    for i in range(0, count, _CHUNK):
        rows = flat[i : i + _CHUNK].astype(np.float64)
        row_norms = np.einsum("nd,nd->n", rows, rows)
        for j in range(i, count, _CHUNK):
            columns = flat[j : j + _CHUNK].astype(np.float64)
            column_norms = np.einsum("nd,nd->n", columns, columns)
            squared = row_norms[:, None] + column_norms[None, :] - 2 * (rows @ columns.T)
            # A block off the diagonal stands for its mirror image too.
            total += np.sqrt(squared).sum() * (1 if i == j else 2)
    return float(total / (count * (count - 1)) / 255)


def within_class_diversity(
    images: np.ndarray, labels: np.ndarray, per_class: int = 100, seed: int = 0
) -> dict[int, float]:
    """`pairwise_distance` among images of one class, for each class that `labels` names.

    Args:
      images: uint8 [N, ...].
      labels: integers [N], at least 0.
      per_class: how many images of a class are drawn, without replacement; all of them where there are fewer.
      seed: of the draw.
    Returns:
      class -> mean distance, classes in order.
    Raises:
      UsageError: shapes or types do not fit, per_class < 2, or a class has only one image.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise errors.UsageError(
            f"labels: expected integers of shape {images.shape[:1]}, got {labels.dtype} {labels.shape}"
        )
    if labels.size and labels.min() < 0:
        raise errors.UsageError(f"labels: expected at least 0, found {labels.min()}")
    if per_class < 2:
        raise errors.UsageError(f"per_class={per_class}: a distance needs at least 2 images of a class")
    result = {}
    for label in np.unique(labels).tolist():
        places = np.flatnonzero(labels == label)
        if len(places) < 2:
            raise errors.UsageError(f"class {label} has 1 image; a distance needs at least 2")
        # From the class's own stream: what another class holds does not change this one's draw.
        draw = np.random.default_rng([seed, label])
        chosen = draw.permutation(places)[:per_class]
        result[label] = pairwise_distance(images[chosen])
    return result
