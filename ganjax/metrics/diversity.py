"""How much images differ from one another: in pixels, or by a distance that is given."""

from collections.abc import Callable
from typing import NamedTuple

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
    images = np.asarray(images)
    if per_class < 2:
        raise errors.UsageError(f"per_class={per_class}: a distance needs at least 2 images of a class")
    result = {}
    for label, places in _by_class(images, labels).items():
        # From the class's own stream: what another class holds does not change this one's draw.
        draw = np.random.default_rng([seed, label])
        chosen = draw.permutation(places)[:per_class]
        result[label] = pairwise_distance(images[chosen])
    return result


class PairMean(NamedTuple):
    """A mean over pairs of images.

    Attributes:
      value: the mean over all pairs; of classes, the mean over these.
      std_error: of `value`, from the pairs drawn: of another draw of pairs of the same images.
      per_class: class -> mean; {} without labels.
    """

    value: float
    std_error: float
    per_class: dict[int, float]


def mean_over_pairs(
    images: np.ndarray,
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray],
    pairs: int = 10_000,
    *,
    labels: np.ndarray | None = None,
    batch: int = 64,
    seed: int = 0,
    tell: Callable[[int, int], None] | None = None,
) -> PairMean:
    """The mean of `compare` over random pairs of different images, of one class where there are labels.

    With LPIPS this is the diversity that Zhu et al. ("Toward Multimodal Image-to-Image Translation", 2017)
    and Huang et al. (2018) state; with MS-SSIM, PGGAN's (`ganjax.metrics.pixels.ms_ssim_diversity`).

    Args:
      images: [N, ...], N >= 2, as `compare` takes them.
      compare: two batches [n, ...] of images -> [n], finite; n is `batch` at every call.
      pairs: how many are drawn, in all and evenly over the classes, at least 1 of each.
      labels: integers [N], at least 0; at least 2 images of each class that they name.
      batch: pairs at a time.
      seed: of the draw.
      tell: is given how many pairs are done, and of how many.
    Raises:
      UsageError: too few images, pairs or rows of a batch, or labels that do not fit.
      RunError: a value is NaN or infinite.
    """
    images = np.asarray(images)
    if images.ndim < 2 or len(images) < 2:
        raise errors.UsageError(f"images: expected [N, ...] with N >= 2, got the shape {images.shape}")
    if pairs < 1 or batch < 1:
        raise errors.UsageError(f"pairs={pairs}, batch={batch}: expected at least 1 each")
    groups = {0: np.arange(len(images))} if labels is None else _by_class(images, labels)
    each = -(-pairs // len(groups))
    left, right = [], []
    for label, places in groups.items():
        draw = np.random.default_rng([seed, label])
        first = draw.integers(len(places), size=each)
        # One of the others, each as likely.
        second = (first + draw.integers(1, len(places), size=each)) % len(places)
        left.append(places[first])
        right.append(places[second])
    a, b = np.concatenate(left), np.concatenate(right)
    values = []
    for start in range(0, len(a), batch):
        # Filled up: one shape is one compilation of what a network compares by.
        i, j = (np.resize(x[start : start + batch], batch) for x in (a, b))
        answer = np.asarray(compare(images[i], images[j]), np.float64)
        if answer.shape != (batch,):
            raise errors.UsageError(
                f"compare: expected one value a pair, the shape ({batch},), got {answer.shape}"
            )
        values.append(answer[: len(a) - start])
        if tell is not None:
            tell(min(start + batch, len(a)), len(a))
    grouped = np.concatenate(values).reshape(len(groups), each)
    if not np.isfinite(grouped).all():
        raise errors.RunError("a comparison of two images is NaN or infinite")
    error = float(np.sqrt(grouped.var(axis=1, ddof=1).mean() / grouped.size)) if each > 1 else float("nan")
    means = grouped.mean(axis=1)
    per_class = {} if labels is None else dict(zip(groups, means.tolist(), strict=True))
    return PairMean(float(means.mean()), error, per_class)


def _by_class(images: np.ndarray, labels: np.ndarray) -> dict[int, np.ndarray]:
    """class -> places of its images, at least 2 of each."""
    labels = np.asarray(labels)
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise errors.UsageError(
            f"labels: expected integers of shape {images.shape[:1]}, got {labels.dtype} {labels.shape}"
        )
    if labels.size and labels.min() < 0:
        raise errors.UsageError(f"labels: expected at least 0, found {labels.min()}")
    groups = {label: np.flatnonzero(labels == label) for label in np.unique(labels).tolist()}
    for label, places in groups.items():
        if len(places) < 2:
            raise errors.UsageError(f"class {label} has 1 image; a distance needs at least 2")
    return groups
