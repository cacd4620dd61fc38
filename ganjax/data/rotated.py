"""Images turned by angles that are known: a set with a continuous target, made of any set."""

from zlib import crc32

import numpy as np

from ganjax.data.dataset import Dataset

_PART = 1024  # images that are turned at a time


class Rotated(Dataset):
    """A set whose examples have a "target" besides, float32 [n, 1]: the angle as a share of the largest, in
    [-1, 1].

    An image has one angle, which hangs on its place in the set and the split alone.
    """

    def example(self, count: int) -> dict[str, np.ndarray]:
        """Zeros of the form that `read` gives, without reading anything."""
        return super().example(count) | {"target": np.zeros((count, 1), np.float32)}


def rotated(dataset: Dataset, degrees: float) -> Rotated:
    """The set with its images turned, counterclockwise, by angles that are uniform in [-degrees, degrees].

    What comes in from outside of an image is black. Pixels are interpolated between four (bilinear).
    """
    bits = np.random.Philox(np.random.SeedSequence(crc32(dataset.split.encode())))
    words = bits.random_raw(dataset.num_examples) >> np.uint64(40)  # 24 bits, which float32 has
    shares = (2 * (words.astype(np.float64) + 0.5) / 2**24 - 1).astype(np.float32)

    def fetch(indices: np.ndarray) -> dict[str, np.ndarray]:
        examples = dataset.read(indices)
        share = shares[indices]
        return examples | {"image": turned(examples["image"], degrees * share), "target": share[:, None]}

    return Rotated(
        dataset.name,
        dataset.split,
        dataset.image_shape,
        dataset.num_classes,
        dataset.class_names,
        dataset.num_examples,
        fetch,
        skipped=dataset.skipped,
    )


def turned(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, C], each turned counterclockwise around its middle by degrees [n]."""
    result = np.empty_like(images)
    _, height, width, channels = images.shape
    y, x = np.meshgrid(
        np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij"
    )
    for start in range(0, len(images), _PART):
        some = images[start : start + _PART]
        angle = np.deg2rad(degrees[start : start + _PART].astype(np.float64))[:, None, None]
        # Where a pixel of the result comes from. Rows grow downwards, so that counterclockwise is this way
        # round.
        rows = np.sin(angle) * x + np.cos(angle) * y + (height - 1) / 2
        columns = np.cos(angle) * x - np.sin(angle) * y + (width - 1) / 2
        padded = np.pad(some, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(len(some), -1, channels)
        top, left = np.floor(rows), np.floor(columns)
        value = np.zeros((len(some), height, width, channels))
        for down in (0, 1):
            for right in (0, 1):
                weight = np.abs(1 - down - (rows - top)) * np.abs(1 - right - (columns - left))
                row = np.clip(top + down, -1, height).astype(np.int64) + 1
                column = np.clip(left + right, -1, width).astype(np.int64) + 1
                place = (row * (width + 2) + column).reshape(len(some), -1, 1)
                value += weight[..., None] * np.take_along_axis(padded, place, axis=1).reshape(value.shape)
        result[start : start + _PART] = np.floor(value + 0.5).astype(np.uint8)
    return result
