"""Distances between images, and between sets of images, that need no network: of pixels alone."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from ganjax import errors
from ganjax.metrics.classifier import check_images
from ganjax.metrics.diversity import PairMean, mean_over_pairs

SWD_SMALLEST = 16  # pixels: the height or width that no coarser level of the pyramid follows
SWD_NEIGHBOURHOOD = 7  # pixels of a descriptor's height and width
SWD_PER_IMAGE = 128  # descriptors

# Of the five scales, from fine to coarse (Wang et al. 2003, section 3.2).
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

_PIXELS = 1 << 22  # of images that are worked on at a time
_PROJECTED = 1 << 25  # values at a time
_WINDOW = 11  # pixels of SSIM's Gaussian window, whose standard deviation is
_SIGMA = 1.5
_BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16


class SlicedWasserstein(NamedTuple):
    """Distances between two sets of images, times 1,000 as they are tabulated.

    Attributes:
      value: the mean over the levels.
      per_level: "HEIGHTxWIDTH" of a level -> its distance, from fine to coarse.
    """

    value: float
    per_level: dict[str, float]


def laplacian_swd(
    images: np.ndarray, real_images: np.ndarray, *, projections: int = 512, seed: int = 0
) -> SlicedWasserstein:
    """The sliced Wasserstein distance between patches of images, at each level of a Laplacian pyramid.

    Of every image and level 128 patches of 7x7 pixels are taken at random places; each set's patches are
    normalised by its own mean and deviation of each channel; the distance is that of `sliced_wasserstein`.
    Fine levels say whether edges and noise are alike, the coarsest (about 16 pixels) whether structure is. A
    difference in brightness or contrast of whole sets is normalised away, and what is larger than a patch is
    not seen. Memory is about 25 KB an image and channel of each set, at one level at a time.

    Args:
      images, real_images: uint8 [N, H, W, C], as many of each; 16,384 in the paper. H and W at least 7.
      projections: in all; the paper's are 4 times 128.
      seed: of places and projections.
    Raises:
      UsageError: other types or shapes, not as many of each, or images too small for a patch.

    References:
      Karras, Aila, Laine and Lehtinen, "Progressive Growing of GANs for Improved Quality, Stability, and
      Variation", 2018, section 5.
      Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983, for the pyramid; its filter is
      the binomial (1, 4, 6, 4, 1) / 16, mirrored at borders.
    """
    real_images = check_images(real_images, "real images")
    images = check_images(images, "images", real_images.shape[1:])
    if len(images) != len(real_images) or not len(images):
        raise errors.UsageError(
            f"expected as many images as real ones, at least 1, got {len(images)} and {len(real_images)}"
        )
    height, width = images.shape[1:3]
    if min(height, width) < SWD_NEIGHBOURHOOD:
        raise errors.UsageError(
            f"images of {height}x{width}: patches need at least {SWD_NEIGHBOURHOOD} pixels a side"
        )
    per_level = {}
    for level, (rows, columns) in enumerate(_level_sizes(height, width)):
        last = (min(rows, columns) + 1) // 2 < SWD_SMALLEST
        a, b = (
            _descriptors(each, level, (rows, columns), last, np.random.default_rng([seed, level, i]))
            for i, each in enumerate((images, real_images))
        )
        distance = sliced_wasserstein(a, b, projections=projections, seed=seed)
        per_level[f"{rows}x{columns}"] = 1000 * distance
    return SlicedWasserstein(float(np.mean(list(per_level.values()))), per_level)


def sliced_wasserstein(
    points: np.ndarray, other: np.ndarray, *, projections: int = 512, seed: int = 0
) -> float:
    """The mean Wasserstein-1 distance between projections of two point sets on random unit directions.

    In one dimension the distance is the mean difference of the sorted values. Float32, summed in float64.

    Args:
      points, other: [N, D], as many of each, N >= 1.
      projections: how many directions, at least 1.
      seed: of the directions.
    Raises:
      UsageError: the shapes do not fit, or no projections.

    References:
      Rabin, Peyré, Delon and Bernot, "Wasserstein Barycenter and Its Application to Texture Mixing", 2011.
    """
    points, other = np.asarray(points, np.float32), np.asarray(other, np.float32)
    if points.ndim != 2 or points.shape != other.shape or not points.size:
        raise errors.UsageError(f"expected two sets [N, D] of one shape, got {points.shape}, {other.shape}")
    if projections < 1:
        raise errors.UsageError(f"projections={projections}: expected at least 1")
    directions = np.random.default_rng(seed).normal(size=(projections, points.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions = directions.astype(np.float32)
    total = 0.0
    step = max(1, _PROJECTED // len(points))
    for start in range(0, projections, step):
        some = directions[start : start + step]
        a, b = (np.sort(some @ each.T, axis=1) for each in (points, other))
        total += np.abs(a - b).sum(dtype=np.float64)
    return float(total / (projections * len(points)))


def _level_sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    while True:
        yield height, width
        height, width = (height + 1) // 2, (width + 1) // 2
        if min(height, width) < SWD_SMALLEST:
            return


def _descriptors(
    images: np.ndarray, level: int, size: tuple[int, int], last: bool, draw: np.random.Generator
) -> np.ndarray:
    """Normalised patches of one level, which has this size: float32 [N * 128, C * 49]."""
    count, height, width, channels = images.shape
    tops, lefts = (
        draw.integers(pixels - SWD_NEIGHBOURHOOD + 1, size=(count, SWD_PER_IMAGE)) for pixels in size
    )
    patches = []
    chunk = max(1, _PIXELS // (height * width * channels))
    for start in range(0, count, chunk):
        x = images[start : start + chunk].astype(np.float32)
        for _ in range(level):
            x = _shrink(x)
        if not last:
            x = x - _enlarge(_shrink(x), x.shape[1:3])
        side = (SWD_NEIGHBOURHOOD, SWD_NEIGHBOURHOOD)
        windows = np.lib.stride_tricks.sliding_window_view(x, side, axis=(1, 2))
        place = np.repeat(np.arange(len(x)), SWD_PER_IMAGE)
        top, left = (each[start : start + chunk].ravel() for each in (tops, lefts))
        patches.append(windows[place, top, left].reshape(len(place), channels, -1))
    all_patches = np.concatenate(patches)
    mean = all_patches.mean(axis=(0, 2), dtype=np.float64, keepdims=True)
    std = all_patches.std(axis=(0, 2), dtype=np.float64, keepdims=True)
    all_patches -= mean.astype(np.float32)
    all_patches /= np.maximum(std, 1e-6).astype(np.float32)  # a channel that is constant becomes 0
    return all_patches.reshape(len(all_patches), -1)


def _shrink(x: np.ndarray) -> np.ndarray:
    """Smoothed and every other row and column of it: [n, H, W, C] -> [n, ceil(H / 2), ceil(W / 2), C]."""
    x = scipy.ndimage.correlate1d(x, _BINOMIAL, axis=1, mode="mirror")[:, ::2]
    return scipy.ndimage.correlate1d(x, _BINOMIAL, axis=2, mode="mirror")[:, :, ::2]


def _enlarge(x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """[n, h, w, C] between zeros, smoothed and doubled along each axis: [n, H, W, C] of this size."""
    spread = np.zeros((len(x), *size, x.shape[-1]), np.float32)
    spread[:, ::2, ::2] = x
    spread = scipy.ndimage.correlate1d(spread, 2 * _BINOMIAL, axis=1, mode="mirror")
    return scipy.ndimage.correlate1d(spread, 2 * _BINOMIAL, axis=2, mode="mirror")


def psnr(images: np.ndarray, others: np.ndarray, *, data_range: float = 255.0) -> np.ndarray:
    """The peak signal-to-noise ratio of pairs, in decibels: 10 log10(data_range^2 / mean squared error).

    Args:
      images, others: [N, H, W, C] of one shape, uint8 or floats.
      data_range: from the least to the greatest value that a pixel may have: 255 for uint8, 2 for [-1, 1].
    Returns:
      float64 [N]; infinite where the two are equal.
    Raises:
      UsageError: shapes that do not fit, or a range that is not above 0.
    """
    images, others = _pairs(images, others, data_range)
    error = np.empty(len(images))
    for part in _parts(images):
        difference = images[part].astype(np.float64) - others[part]
        error[part] = np.mean(difference**2, axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / error)


def ssim(images: np.ndarray, others: np.ndarray, *, data_range: float = 255.0) -> np.ndarray:
    """The structural similarity of pairs: 1 for equal images, around 0 for unrelated ones.

    A Gaussian window of 11x11 pixels and standard deviation 1.5, where it lies within the image; constants
    0.01 and 0.03; each channel by itself, then the mean over positions and channels. Float64.

    Args:
      images, others: [N, H, W, C] of one shape, uint8 or floats; H and W at least 11.
      data_range: as in `psnr`.
    Returns:
      float64 [N], in [-1, 1].
    Raises:
      UsageError: shapes that do not fit, images smaller than the window, or a range that is not above 0.

    References:
      Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
      Similarity", 2004.
    """
    images, others = _pairs(images, others, data_range)
    if min(images.shape[1:3]) < _WINDOW:
        height, width = images.shape[1:3]
        raise errors.UsageError(f"images of {height}x{width}: the window needs at least {_WINDOW} pixels")
    result = np.empty(len(images))
    for part in _parts(images):
        x, y = (each[part].astype(np.float64) for each in (images, others))
        result[part] = _similarity(x, y, data_range)[0]
    return result


def ms_ssim(images: np.ndarray, others: np.ndarray, *, data_range: float = 255.0) -> np.ndarray:
    """The structural similarity of pairs over five scales: 1 for equal images, around 0 for unrelated ones.

    Each scale is the mean over blocks of 2x2 of the one before. Where a scale is smaller than SSIM's window
    the window shrinks with it, its standard deviation too, as PGGAN's figures have it; so images of less than
    161 pixels a side compare only with others of their size. Negative terms count as 0. Float64.

    Args:
      images, others: [N, H, W, C] of one shape, uint8 or floats.
      data_range: as in `psnr`.
    Returns:
      float64 [N], in [0, 1].
    Raises:
      UsageError: shapes that do not fit, or a range that is not above 0.

    References:
      Wang, Simoncelli and Bovik, "Multi-Scale Structural Similarity for Image Quality Assessment", 2003.
    """
    images, others = _pairs(images, others, data_range)
    result = np.ones(len(images))
    for part in _parts(images):
        x, y = (each[part].astype(np.float64) for each in (images, others))
        for scale, weight in enumerate(MS_SSIM_WEIGHTS):
            whole, structure = _similarity(x, y, data_range)
            last = scale == len(MS_SSIM_WEIGHTS) - 1
            result[part] *= np.maximum(whole if last else structure, 0) ** weight
            if not last:
                x, y = _halve(x), _halve(y)
    return result


def ms_ssim_diversity(
    images: np.ndarray,
    pairs: int = 10_000,
    *,
    labels: np.ndarray | None = None,
    seed: int = 0,
    tell: Callable[[int, int], None] | None = None,
) -> PairMean:
    """The mean MS-SSIM of random pairs of generated images: high where they are alike.

    To be read beside the same of real images, whose value a model should have and not undercut: noise does.

    Args:
      images: uint8 [N, H, W, C], N >= 2.
      pairs: 10,000 in PGGAN's table.
      labels: integers [N]: pairs are of one class then, as Odena et al. count.
      seed: of the pairs.
      tell: is given how many pairs are done, and of how many.
    Raises:
      UsageError: as `mean_over_pairs`, or another type.

    References:
      Odena, Olah and Shlens, "Conditional Image Synthesis with Auxiliary Classifier GANs", 2017, section 4.2.
      Karras et al., "Progressive Growing of GANs", 2018, section 6.1.
    """
    images = check_images(images, "images")
    return mean_over_pairs(images, ms_ssim, pairs, labels=labels, seed=seed, tell=tell)


def _pairs(images: np.ndarray, others: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    images, others = np.asarray(images), np.asarray(others)
    if images.ndim != 4 or images.shape != others.shape or not images.size:
        raise errors.UsageError(
            f"expected pairs of images [N, H, W, C], got {images.shape} and {others.shape}"
        )
    if not 0 < data_range < float("inf"):
        raise errors.UsageError(f"data_range={data_range}: expected above 0")
    return images, others


def _parts(images: np.ndarray) -> Iterator[slice]:
    chunk = max(1, _PIXELS // images[0].size)
    return (slice(start, start + chunk) for start in range(0, len(images), chunk))


def _similarity(x: np.ndarray, y: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    """SSIM and its contrast and structure part, each a mean over positions and channels: float64 [n]."""
    size = min(_WINDOW, *x.shape[1:3])
    offsets = np.arange(size) - (size - 1) / 2
    window = np.exp(-0.5 * (offsets / (_SIGMA * size / _WINDOW)) ** 2)
    window /= window.sum()

    def local_mean(z: np.ndarray) -> np.ndarray:
        for axis in (1, 2):
            inside = [slice(None)] * 4
            inside[axis] = slice(size // 2, size // 2 + z.shape[axis] - size + 1)
            z = scipy.ndimage.correlate1d(z, window, axis=axis, mode="constant")[tuple(inside)]
        return z

    mean_x, mean_y = local_mean(x), local_mean(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = local_mean(x * y) - product
    variances = local_mean(x**2 + y**2) - squares
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    structure = (2 * covariance + c2) / (variances + c2)
    whole = structure * (2 * product + c1) / (squares + c1)
    return whole.mean(axis=(1, 2, 3)), structure.mean(axis=(1, 2, 3))


def _halve(x: np.ndarray) -> np.ndarray:
    """The mean over blocks of 2x2; an odd last row or column stands for two."""
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
