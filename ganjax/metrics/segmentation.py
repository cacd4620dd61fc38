"""Whether generated photos show what their label maps say: scores by a segmentation network that is trained
here, on the real photos and their label maps.

The idea is the FCN-score of Isola et al. 2017, "Image-to-image translation with conditional adversarial
networks", which is by a given FCN-8s of Cityscapes: figures of one network compare with none of another's.
"""

import dataclasses
import functools
import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from ganjax import errors
from ganjax.layers import Conv, ConvTranspose
from ganjax.metrics import trained
from ganjax.metrics.classifier import check_images

# Raised whenever a change to this file gives other parameters from the same data and seed.
RECIPE_VERSION = 1
SIDE = 128  # pixels on a side at most: larger images are reduced
MOST_COLOURS = 64
APART = 48.0  # colours nearer than this (Euclidean, of 255) are one
ALIKE = 16  # what neighbours differ by at most within an area
LEAST_SHARE = 0.002  # of all pixels, that a colour of its own has
EPOCHS = 20
BATCH = 8


def palette(maps: np.ndarray) -> np.ndarray:
    """The colours that label maps uint8 [N, H, W, C] are drawn in, the most frequent first: uint8 [K, C].

    Found where many pixels lie together in colour, then moved to the mean of the pixels that are nearest.
    Pixels at borders are left out, for compression and resizing mix their colours.

    Raises:
      UsageError: fewer than two colours.
    """
    maps = check_images(maps, "label maps")
    pixels = np.concatenate([_inner(each) for each in maps])
    pixels = pixels[:: max(1, len(pixels) // 2**20)].astype(np.float64)
    if not len(pixels):
        raise errors.UsageError("label maps: expected areas of one colour, found none")
    cells, inverse, counts = np.unique(pixels // 16, axis=0, return_inverse=True, return_counts=True)
    sums = np.zeros(cells.shape)
    np.add.at(sums, inverse.reshape(-1), pixels)
    colours: list[np.ndarray] = []
    for cell in np.argsort(-counts, kind="stable"):
        if counts[cell] < LEAST_SHARE * len(pixels) or len(colours) == MOST_COLOURS:
            break
        colour = sums[cell] / counts[cell]
        if all(np.linalg.norm(colour - other) >= APART for other in colours):
            colours.append(colour)
    if len(colours) < 2:
        raise errors.UsageError(f"label maps: expected several colours, found {len(colours)}")
    found = np.stack(colours)
    for _ in range(5):
        nearest = _nearest(pixels, found)
        found = np.stack(
            [pixels[nearest == k].mean(0) if (nearest == k).any() else found[k] for k in range(len(found))]
        )
    shares = np.bincount(_nearest(pixels, found), minlength=len(found))
    return np.rint(found[np.argsort(-shares, kind="stable")]).astype(np.uint8)


def _inner(image: np.ndarray) -> np.ndarray:
    """The pixels [n, C] of an image uint8 [H, W, C] that are like those around them."""
    values = image.astype(np.int16)
    alike = np.ones(image.shape[:2], bool)
    for axis in (0, 1):
        steps = np.abs(np.diff(values, axis=axis)).max(-1) <= ALIKE
        edge = np.ones_like(np.take(alike, [0], axis))
        alike &= np.concatenate([steps, edge], axis) & np.concatenate([edge, steps], axis)
    return image[alike]


def _nearest(pixels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """int [N]: which of the colours [K, C] is nearest to each of the pixels float64 [N, C]."""
    colours = colours.astype(np.float64)
    return np.argmin(np.square(colours).sum(1) - 2 * pixels @ colours.T, axis=1)


def classes_of(maps: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The nearest colour of each pixel: uint8 [N, H, W] from uint8 [N, H, W, C] and a palette [K, C]."""
    maps = check_images(maps, "label maps")
    found = [_nearest(each.reshape(-1, each.shape[-1]).astype(np.float64), colours) for each in maps]
    return np.asarray(found, np.uint8).reshape(maps.shape[:3])


def scores(predicted: np.ndarray, wanted: np.ndarray, num_classes: int) -> dict[str, float]:
    """Pixel accuracy, class accuracy and class IoU in [0, 1] (Long, Shelhamer & Darrell 2015) of all pixels.

    Args:
      predicted: integers [...] in [0, num_classes).
      wanted: likewise; the means over classes are over those that occur here.
      num_classes: K.
    """
    table = np.bincount(
        wanted.reshape(-1).astype(np.int64) * num_classes + predicted.reshape(-1), minlength=num_classes**2
    ).reshape(num_classes, num_classes)
    right, there, said = np.diag(table), table.sum(1), table.sum(0)
    occurs = there > 0
    return {
        "pixel_accuracy": float(right.sum() / table.sum()),
        "class_accuracy": float((right[occurs] / there[occurs]).mean()),
        "class_iou": float((right[occurs] / (there + said - right)[occurs]).mean()),
    }


class Network(nn.Module):
    """Convolutions to an eighth of the size and back, with skips: uint8 [n, H, W, C] -> logits [n, H, W, K].

    Any H and W: images are extended at their edges to multiples of 8, and logits cut back.
    """

    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        height, width = images.shape[1:3]
        more = ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0))
        x = jnp.pad(images.astype(jnp.float32) / 127.5 - 1, more, mode="edge")
        skips = [x]
        for features in (24, 48, 96):
            x = nn.relu(Conv(features, (4, 4), (2, 2))(x))
            skips.append(x)
        skips.pop()
        x = nn.relu(Conv(96, (3, 3))(x))
        x = nn.relu(Conv(96, (3, 3))(x))
        for features in (48, 24):
            x = nn.relu(ConvTranspose(features, (4, 4), (2, 2))(x))
            x = jnp.concatenate([x, skips.pop()], axis=-1)
        x = nn.relu(ConvTranspose(24, (4, 4), (2, 2))(x))
        x = jnp.concatenate([x, skips.pop()], axis=-1)
        return Conv(self.num_classes, (3, 3))(x)[:, :height, :width]


@functools.partial(jax.jit, static_argnames="network")
def _classes(network: Network, params: trained.Params, images: jax.Array) -> jax.Array:
    logits: Any = network.apply({"params": params}, images)
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A trained network.

    Attributes:
      params: of `Network`.
      num_classes: how many it tells apart.
      image_shape: (H, W, C) of the images it takes.
    """

    params: trained.Params
    num_classes: int
    image_shape: tuple[int, int, int]

    @property
    def identity(self) -> str:
        """The sha256 of the parameters, in hex."""
        return trained.identity(self.params)

    def classes(self, images: np.ndarray) -> np.ndarray:
        """The most likely class of each pixel: uint8 [N, H, W] from uint8 [N, H, W, C]."""
        images = check_images(images, "images", self.image_shape)
        network = Network(self.num_classes)
        found = np.zeros(images.shape[:3], np.uint8)
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            padded = np.zeros((BATCH, *self.image_shape), np.uint8)  # one shape is one compilation
            padded[: len(part)] = part
            found[start : start + BATCH] = np.asarray(_classes(network, self.params, padded))[: len(part)]
        return found


def train_segmenter(
    images: np.ndarray, classes: np.ndarray, num_classes: int, seed: int = 0, *, epochs: int = EPOCHS
) -> Segmenter:
    """Trains a network, the same for the same arguments on the same kind of machine.

    AdamW over shuffled epochs with a warm-up and a cosine decay, cross-entropy of all pixels; half of the
    images are mirrored, anew in every epoch.

    Args:
      images: uint8 [N, H, W, C], N >= 1.
      classes: integers [N, H, W] in [0, num_classes).
      num_classes: at least 2.
      seed: of the first parameters, the order and the mirroring.
      epochs: at least 1.
    Raises:
      UsageError: an argument has another type or shape.
      RunError: the training diverged.
    """
    images = check_images(images, "images")
    if classes.shape != images.shape[:3] or not len(images):
        raise errors.UsageError(
            f"classes: expected the shape {images.shape[:3]} with at least one image, got {classes.shape}"
        )
    batch = min(BATCH, len(images))
    steps = len(images) // batch
    network = Network(num_classes)
    params = trained.first_params(network, images.shape[1:], seed)
    optimizer = optax.adamw(trained.schedule(3e-3, epochs * steps), weight_decay=1e-2)
    opt_state = optimizer.init(params)

    def step(params: trained.Params, opt_state: Any, images: jax.Array, classes: jax.Array):
        def loss(params: trained.Params) -> jax.Array:
            logits: Any = network.apply({"params": params}, images)
            chosen = classes[..., None] == jnp.arange(num_classes, dtype=classes.dtype).reshape(1, 1, 1, -1)
            return -jnp.where(chosen, nn.log_softmax(logits), 0.0).sum(-1).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    first = images[:batch], classes[:batch].astype(np.uint8)
    compiled = trained.compile_for_backend(step, params, opt_state, *first, donate=(0, 1), options={})
    value = np.float32(np.nan)
    for epoch in range(epochs):  # in Python: XLA runs convolutions inside a `scan` on one CPU thread
        draw = np.random.default_rng([seed, epoch])
        order = draw.permutation(len(images))[: steps * batch].reshape(steps, batch)
        for index in order:
            mirrored = draw.random(batch) < 0.5
            pair = []
            for array in (images, classes.astype(np.uint8)):
                some = array[index]
                some[mirrored] = some[mirrored, :, ::-1]
                pair.append(some)
            params, opt_state, value = compiled(params, opt_state, *pair)
        logging.info("segmenter: epoch %d of %d, loss %.4f", epoch + 1, epochs, float(value))
    if not np.isfinite(value):
        raise errors.RunError(f"the segmentation network's training diverged (loss {float(value)})")
    return Segmenter(jax.tree.map(np.asarray, params), num_classes, images.shape[1:])


def cached_segmenter(
    images: np.ndarray,
    classes: np.ndarray,
    num_classes: int,
    cache_dir: str | os.PathLike | None = None,
    *,
    seed: int = 0,
) -> Segmenter:
    """The network of these images and classes: from the cache, or trained and put there.

    Args and errors as `train_segmenter`'s; `cache_dir` as in `trained.cache_path`.
    """
    about = [RECIPE_VERSION, list(images.shape), num_classes, seed, EPOCHS]
    path = trained.cache_path("segmenter", about, [images, classes], cache_dir)
    of = {"num_classes": num_classes, "image_shape": list(images.shape[1:])}
    found = trained.load(path, of)
    if found is not None:
        return Segmenter(found[0], num_classes, images.shape[1:])
    segmenter = train_segmenter(images, classes, num_classes, seed)
    trained.kept(path, segmenter.params, of)
    return segmenter


def block_of(images: np.ndarray) -> int:
    """By what images [N, H, W, C] are reduced, so that no side is longer than `SIDE`."""
    return -(-max(images.shape[1:3]) // SIDE)


def photos(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, C] as the network sees them: means over blocks, the last of which may be cut off."""
    block = block_of(images)
    if block == 1:
        return images
    count, height, width, channels = images.shape
    height, width = height // block, width // block
    cut = images[:, : height * block, : width * block]
    blocks = cut.reshape(count, height, block, width, block, channels)
    return np.rint(blocks.mean((2, 4), dtype=np.float32)).astype(np.uint8)


def points(maps: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, C] at the centres of the blocks of `photos`: label maps have no means."""
    block = block_of(maps)
    height, width = (side // block * block for side in maps.shape[1:3])
    return maps[:, block // 2 : height : block, block // 2 : width : block]
