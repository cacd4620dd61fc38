"""A set of images at a fraction of its size: what a network that grows learns from first."""

import dataclasses

import numpy as np

from ganjax.data.dataset import Dataset

_AT_ONCE = 256  # images that are read at their full size at a time


def shrunk(dataset: Dataset, factor: int) -> Dataset:
    """The same images, each pixel the mean of `factor` x `factor` of them, rounded to uint8.

    So a network's images of one size are those of the next, shrunk, as `ganjax.layers.downsample` does it to
    rounding. Nothing is read now; what is read is read at full size first.

    Args:
      dataset: of any size.
      factor: at least 1; 1 gives the set itself.
    Raises:
      ValueError: the factor does not divide height and width.
    """
    height, width, channels = dataset.image_shape
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"images of {height}x{width} can't be shrunk by {factor}")
    if factor == 1:
        return dataset
    shape = (height // factor, width // factor, channels)

    def fetch(indices: np.ndarray) -> dict[str, np.ndarray]:
        images, labels = np.empty((len(indices), *shape), np.uint8), []
        for start in range(0, len(indices), _AT_ONCE):
            part = dataset.read(indices[start : start + _AT_ONCE])
            images[start : start + _AT_ONCE] = block_means(part["image"], factor)
            labels.append(part.get("label"))
        if not dataset.num_classes:
            return {"image": images}
        return {"image": images, "label": np.concatenate(labels).astype(np.int32)}

    shrink = dataset.shrink * factor
    return dataclasses.replace(dataset, image_shape=shape, shrink=shrink, fetch=fetch, fetch_among=None)


def block_means(images: np.ndarray, factor: int) -> np.ndarray:
    """uint8 [n, H, W, C] -> uint8 [n, H / factor, W / factor, C], halves rounded up."""
    n, height, width, channels = images.shape
    blocks = images.reshape(n, height // factor, factor, width // factor, factor, channels)
    total = blocks.sum(axis=(2, 4), dtype=np.uint32)
    return ((2 * total + factor * factor) // (2 * factor * factor)).astype(np.uint8)
