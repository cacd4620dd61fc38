"""A small classifier, trained here and from scratch, that judges samples of small labelled image sets.

It sees uint8 images, as a viewer does, and is trained on the same training images as the GAN but
apart from it. MNIST takes 62 s of CPU time (jax 0.10.2), about a minute on two busy cores.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from ganjax import errors
from ganjax.metrics import trained

Params = Any
ImageSet = Mapping[str, np.ndarray]  # {"image": uint8 [N, H, W, C], "label": integers [N]}

# Raised whenever a change to this file gives other parameters from the same data, settings and seed.
RECIPE_VERSION = 1


class Network(nn.Module):
    """Three convolutions and two dense layers: uint8 [n, H, W, C] -> (features [n, 128], logits [n, K]).

    No normalisation, so that an image's features do not depend on the batch it came in. Sized for images
    of up to about 64 pixels a side.
    """

    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = images.astype(jnp.float32) / 255 - 0.5
        x = nn.relu(nn.Conv(24, (4, 4), (2, 2))(x))
        x = nn.relu(nn.Conv(48, (3, 3), (2, 2))(x))
        x = nn.relu(nn.Conv(48, (3, 3))(x))
        features = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        return features, nn.Dense(self.num_classes)(features)


class Outputs(NamedTuple):
    """What a classifier says of images: features float32 [N, F] >= 0 and logits float32 [N, K]."""

    features: np.ndarray
    logits: np.ndarray


def _apply(network: Network, params: Params, images: Any) -> tuple[jax.Array, jax.Array]:
    outputs: Any = network.apply({"params": params}, images)
    return outputs


_forward = jax.jit(_apply, static_argnames="network")


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Attributes:
      params: the parameters of `Network`.
      num_classes: how many classes it tells apart.
      image_shape: (H, W, C) of the images it takes.
      test_accuracy: in [0, 1], on the test images it was given; None where there were none.
    """

    params: Params
    num_classes: int
    image_shape: tuple[int, int, int]
    test_accuracy: float | None = None

    @property
    def identity(self) -> str:
        """The sha256 of the parameters, in hex: two classifiers agree everywhere if these agree."""
        return trained.identity(self.params)

    def evaluate(self, images: np.ndarray) -> Outputs:
        """Features and logits in one pass, in chunks of one fixed size so that memory is bounded.

        Args:
          images: uint8 [N, H, W, C]; N may be 0.
        Raises:
          UsageError: the images have another type or shape.
        """
        images = check_images(images, "images", self.image_shape)
        height, width, _ = self.image_shape
        chunk = max(1, min(500, 2**19 // (height * width)))
        network = Network(self.num_classes)
        features, logits = [], []
        for start in range(0, max(len(images), 1), chunk):
            part = images[start : start + chunk]
            # Padded: one shape is one compilation, and an image's result can't depend on its chunk's size.
            padded = np.zeros((chunk, *self.image_shape), np.uint8)
            padded[: len(part)] = part
            part_features, part_logits = _forward(network, self.params, padded)
            features.append(np.asarray(part_features)[: len(part)])
            logits.append(np.asarray(part_logits)[: len(part)])
        return Outputs(np.concatenate(features), np.concatenate(logits))

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, K] from uint8 [N, H, W, C]."""
        return self.evaluate(images).logits

    def features(self, images: np.ndarray) -> np.ndarray:
        """The penultimate layer after its activation, float32 [N, 128], from uint8 [N, H, W, C]."""
        return self.evaluate(images).features

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """float64 [N, K], rows adding up to 1, from uint8 [N, H, W, C]."""
        return softmax(self.logits(images))

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """The share in [0, 1] of images uint8 [N, H, W, C] whose most likely class is their label [N]."""
        labels = check_labels(labels, "labels", len(images), self.num_classes)
        if not len(labels):
            raise errors.UsageError("accuracy needs at least 1 image, got 0")
        return float(np.mean(np.argmax(self.logits(images), axis=-1) == labels))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 [N, K] from logits [N, K]."""
    shifted = np.asarray(logits, np.float64)
    powers = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def check_images(images: np.ndarray, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """`images` as a numpy array, if it is uint8 [N, H, W, C] with (H, W, C) = `shape` where that is given.

    Raises:
      UsageError: it is not; the message calls it `name`.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise errors.UsageError(
            f"{name}: expected uint8 images in [0, 255], got {images.dtype}; "
            "convert [-1, 1] by round((x + 1) * 127.5) and clip"
        )
    if images.ndim != 4:
        raise errors.UsageError(f"{name}: expected images [N, H, W, C], got the shape {images.shape}")
    if shape is not None and images.shape[1:] != tuple(shape):
        raise errors.UsageError(f"{name}: expected images of shape {tuple(shape)}, got {images.shape[1:]}")
    return images


def check_labels(labels: np.ndarray, name: str, count: int, num_classes: int) -> np.ndarray:
    """`labels` as a numpy array, if it is integers [count] in [0, num_classes).

    Raises:
      UsageError: it is not; the message calls it `name`.
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise errors.UsageError(f"{name}: expected integers, got {labels.dtype}")
    if labels.shape != (count,):
        raise errors.UsageError(f"{name}: expected the shape ({count},), one an image, got {labels.shape}")
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise errors.UsageError(f"{name}: expected values in [0, {num_classes}), found {wrong[0]}")
    return labels


def train_classifier(
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    seed: int = 0,
    *,
    test: ImageSet | None = None,
    epochs: int = 4,
    steps: int | None = None,
    batch_size: int = 256,
    learning_rate: float = 4e-3,
    max_shift: int = 1,
) -> Classifier:
    """Trains a classifier, the same for the same arguments on the same kind of machine.

    AdamW over shuffled epochs with a warm-up and a cosine decay; every image is moved by up to
    `max_shift` pixels each way, anew in every epoch, over a border of zeros. No flips: digits have a hand.

    Args:
      images: uint8 [N, H, W, C].
      labels: integers [N] in [0, num_classes).
      num_classes: at least 2.
      seed: of the first parameters, the order and the shifts.
      test: where given, what `test_accuracy` is measured on.
      epochs: at least 1. Four serve MNIST; natural images want more.
      steps: batches in all, at least 1, in the place of `epochs`: the last epoch may be cut short.
      batch_size: at least 1; what is left of an epoch after the last whole batch is left out of it.
      learning_rate: the highest.
      max_shift: in pixels, at least 0.
    Raises:
      UsageError: an argument has another type, shape or range.
      RunError: the training diverged.
    """
    images = check_images(images, "images")
    if num_classes < 2:
        raise errors.UsageError(f"num_classes={num_classes}: expected at least 2")
    labels = check_labels(labels, "labels", len(images), num_classes).astype(np.int32)
    if not len(images):
        raise errors.UsageError("images: expected at least 1 training image, got 0")
    if steps is not None and steps < 1:
        raise errors.UsageError(f"steps={steps}: expected at least 1")
    if epochs < 1 or batch_size < 1 or max_shift < 0:
        raise errors.UsageError(
            f"epochs={epochs}, batch_size={batch_size}, max_shift={max_shift}: "
            "expected at least 1, at least 1 and at least 0"
        )
    image_shape = images.shape[1:]
    if test is not None:
        _check_set(test, "test", image_shape, num_classes)

    batch_size = min(batch_size, len(images))
    steps_per_epoch = len(images) // batch_size
    steps = epochs * steps_per_epoch if steps is None else steps
    epochs = -(-steps // steps_per_epoch)
    network = Network(num_classes)
    params = trained.first_params(network, image_shape, seed)
    optimizer = optax.adamw(trained.schedule(learning_rate, steps), weight_decay=1e-2)
    opt_state = optimizer.init(params)

    def step(params: Params, opt_state: Any, images: jax.Array, labels: jax.Array):
        def loss(params: Params) -> jax.Array:
            _, logits = _apply(network, params, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    compiled = trained.compile_for_backend(
        step, params, opt_state, images[:batch_size], labels[:batch_size], donate=(0, 1)
    )
    value = np.float32(np.nan)
    # A Python loop on purpose: XLA runs convolutions inside a `scan` on one CPU thread.
    for epoch in range(epochs):
        draw = np.random.default_rng([seed, epoch])
        order = draw.permutation(len(images))[: steps_per_epoch * batch_size]
        for index in order.reshape(steps_per_epoch, batch_size)[: steps - epoch * steps_per_epoch]:
            shifted = random_shifts(images[index], max_shift, draw)
            params, opt_state, value = compiled(params, opt_state, shifted, labels[index])
        logging.info("classifier: epoch %d of %d, loss %.4f", epoch + 1, epochs, float(value))
    if not np.isfinite(value):
        raise errors.RunError(
            f"the classifier's training diverged (loss {float(value)}); lower learning_rate={learning_rate}"
        )

    classifier = Classifier(jax.tree.map(np.asarray, params), num_classes, image_shape)
    return _with_test_accuracy(classifier, test)


def cached_classifier(
    train: ImageSet,
    test: ImageSet | None,
    num_classes: int,
    cache_dir: str | os.PathLike | None = None,
    *,
    seed: int = 0,
    **settings: Any,
) -> Classifier:
    """The classifier of these training images: from the cache, or trained and put there.

    A cached file is found by the content of the training arrays, the recipe's version, the settings and
    the seed. One that is damaged is trained anew and written over. `test_accuracy` is measured on `test`
    at every call, so it always speaks for the images given.

    Args:
      train: the training images and labels.
      test: the test images and labels, or None.
      num_classes: at least 2.
      cache_dir: a local folder; default `$GANJAX_CACHE`, or `~/.cache/ganjax`.
      seed: as in `train_classifier`.
      **settings: further arguments of `train_classifier`.
    Raises:
      UsageError, RunError: as `train_classifier`.
    """
    images = check_images(train["image"], "train")
    labels = check_labels(train["label"], "train labels", len(images), num_classes)
    if test is not None:
        _check_set(test, "test", images.shape[1:], num_classes)
    path = _cache_path(images, labels, num_classes, seed, settings, cache_dir)
    classifier = load_classifier(path, num_classes, images.shape[1:])
    if classifier is not None:
        return _with_test_accuracy(classifier, test)
    classifier = train_classifier(images, labels, num_classes, seed, test=test, **settings)
    trained.kept(path, classifier.params, _about(classifier))
    return classifier


def save_classifier(classifier: Classifier, path: str | os.PathLike) -> None:
    """Writes `classifier` as an `.npz` without pickles. A reader sees the old file or the new, never half.

    Raises:
      OSError: the file can't be written.
    """
    trained.save(path, classifier.params, _about(classifier))


def load_classifier(
    path: str | os.PathLike, num_classes: int, image_shape: tuple[int, ...]
) -> Classifier | None:
    """What `save_classifier` wrote, or None where there is no such file or it is damaged.

    Args:
      path: the `.npz`.
      num_classes: what the classifier must tell apart.
      image_shape: the (H, W, C) that it must take.
    """
    found = trained.load(path, {"num_classes": num_classes, "image_shape": list(image_shape)})
    if found is None:
        return None
    params, about = found
    height, width, channels = image_shape
    return Classifier(params, num_classes, (height, width, channels), about["test_accuracy"])


def _about(classifier: Classifier) -> dict[str, Any]:
    return {
        "recipe": RECIPE_VERSION,
        "num_classes": classifier.num_classes,
        "image_shape": list(classifier.image_shape),
        "test_accuracy": classifier.test_accuracy,
    }


def random_shifts(images: np.ndarray, max_shift: int, draw: np.random.Generator) -> np.ndarray:
    """`images` [N, H, W, C], each moved by -max_shift to max_shift pixels along both axes over zeros."""
    if max_shift == 0:
        return images
    count, height, width, _ = images.shape
    border = (max_shift, max_shift)
    padded = np.pad(images, ((0, 0), border, border, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top, left = draw.integers(0, 2 * max_shift + 1, size=(2, count))
    return np.ascontiguousarray(np.moveaxis(windows[np.arange(count), top, left], 1, -1))


def _check_set(data: ImageSet, name: str, image_shape: tuple[int, ...], num_classes: int) -> None:
    images = check_images(data["image"], name, image_shape)
    check_labels(data["label"], f"{name} labels", len(images), num_classes)


def _with_test_accuracy(classifier: Classifier, test: ImageSet | None) -> Classifier:
    accuracy = None if test is None else classifier.accuracy(test["image"], test["label"])
    return dataclasses.replace(classifier, test_accuracy=accuracy)


def _cache_path(
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    seed: int,
    settings: Mapping[str, Any],
    folder: str | os.PathLike | None,
) -> pathlib.Path:
    about = [RECIPE_VERSION, list(images.shape), num_classes, seed, sorted(settings.items())]
    return trained.cache_path("classifier", about, [images, labels.astype(np.int64)], folder)
