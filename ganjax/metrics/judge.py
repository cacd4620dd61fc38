"""Samples of a small labelled image set, judged by a classifier that was trained apart from the GAN."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ganjax import errors
from ganjax.metrics.classifier import Outputs, check_images, check_labels, softmax
from ganjax.metrics.diversity import within_class_diversity
from ganjax.metrics.frechet import frechet_distance, gaussian_statistics
from ganjax.metrics.kernel import kernel_distance
from ganjax.metrics.nearest import nearest_images

NEAREST_QUANTILE = 0.001
NEAREST = "nearest_training_image"

METRICS = (
    "label_agreement",
    "mean_confidence",
    "class_shares",
    "within_class_diversity_ratio",
    "classifier_frechet_distance",
    "classifier_frechet_distance_real",
    "classifier_kernel_distance",
    "classifier_kernel_distance_real",
    "nearest_training_image",
)  # what `judge` answers with: the first only of conditional models, the last only where it is asked for

# What a model of a set like MNIST should do at least; see `verdict`. Fréchet distances depend too much on the
# set and the classifier for a bar: they are to be read beside what real images get.
BARS: Mapping[str, float] = {
    "class_shares": 0.5,
    "mean_confidence": 0.9,
    "label_agreement": 0.98,
    "within_class_diversity_ratio": 0.8,
    # Of 10,000 real images 10 on average, by definition, and more than 20 once in 600 times.
    "nearest_training_image": 2 * NEAREST_QUANTILE,
}


class ImageClassifier(Protocol):
    """What `judge` asks of a classifier; `ganjax.metrics.classifier.Classifier` is one."""

    @property
    def num_classes(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def identity(self) -> str: ...

    def evaluate(self, images: np.ndarray) -> Outputs: ...


def judge(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    train: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    classifier: ImageClassifier,
    per_class: int = 100,
    seed: int = 0,
    nearest: bool = False,
) -> dict[str, dict[str, Any]]:
    """What the classifier, and pixel distances, say of samples.

    Every result is a JSON-able dict with `value`, where there are any further figures, and `protocol`: the
    real split and how many of it, how many samples, the classifier's identity and its accuracy on the
    `test` given, the seed. Lists by class are in the order of the classes.

    - `label_agreement` (only with `labels`): the share of samples whose most likely class is the one asked
      for; `per_class`.
    - `mean_confidence`: the mean probability of the most likely class; `real_test` for the test images.
    - `class_shares`: the share of each class by the classifier; `real_train` by the true labels.
    - `within_class_diversity_ratio`: mean pairwise pixel distance among up to `per_class` samples of a
      class over the same among real training images. `value` is the mean over classes; `minimum`,
      `per_class`. Classes are the labels asked for, or the classifier's where `labels` is None: then a
      class with fewer than 2 samples counts as 0 and is listed in `too_few`.
    - `classifier_frechet_distance`: between Gaussians fitted to the classifier's features of the samples
      and of the test images. Not an FID.
    - `classifier_frechet_distance_real`: the same for as many training images in the samples' place (all
      of them where there are fewer): what real images get.
    - `classifier_kernel_distance`, `classifier_kernel_distance_real`: between the same features, by the
      polynomial kernel of the KID, which this is not; unbiased, so that few samples don't make it larger;
      `std` over 100 subsets of 1,000.
    - `nearest_training_image` (only with `nearest`): the share of samples that lie closer to a training
      image than the 0.1 % quantile of the test images' own distances; `count`, `minimum`, `threshold`.

    Args:
      images: the samples, uint8 [N, H, W, C].
      labels: the classes asked for, integers [N]; None for samples of an unconditional model.
      train: the real training images and labels, `{"image": uint8 [M, H, W, C], "label": integers [M]}`.
      test: the same for the test images.
      classifier: the judge.
      per_class: how many images of a class the diversity is measured on, at least 2.
      seed: of the draws of real images and of samples.
      nearest: whether to search the training images, the slowest part.
    Raises:
      UsageError: types or shapes do not fit, or there are too few samples.
      RunError: too few real images, or the classifier's answers are not finite.
    """
    num_classes = classifier.num_classes
    images = check_images(images, "samples", classifier.image_shape)
    if per_class < 2:
        raise errors.UsageError(f"per_class={per_class}: a distance needs at least 2 images of a class")
    if labels is not None:
        labels = check_labels(labels, "labels", len(images), num_classes)
        _check_enough_of_each_class(labels, num_classes, per_class)
    if len(images) < 2:
        raise errors.UsageError(f"samples: got {len(images)}, at least 2 are needed")
    train_images, train_labels = _real(train, "train", classifier)
    test_images, test_labels = _real(test, "test", classifier)

    real = _evaluate(classifier, test_images, "the test images")
    test_accuracy = float(np.mean(real.logits.argmax(axis=-1) == test_labels))
    dim = real.features.shape[1]
    for count, name, error in (
        (len(images), "samples", errors.UsageError),
        (len(train_images), "train images", errors.RunError),
        (len(test_images), "test images", errors.RunError),
    ):
        if count <= dim:
            raise error(f"{name}: got {count}; the covariance of {dim} features needs at least {dim + 1}")

    outputs = _evaluate(classifier, images, "the samples")
    predicted = outputs.logits.argmax(axis=-1)

    def protocol(**further: Any) -> dict[str, Any]:
        # Built afresh for each result, so that a caller may change one without the others.
        return {
            "samples": len(images),
            "classifier": {"identity": classifier.identity, "test_accuracy": test_accuracy},
            "seed": seed,
            **further,
        }

    results: dict[str, dict[str, Any]] = {}
    if labels is not None:
        agrees = predicted == labels
        results["label_agreement"] = {
            "value": float(agrees.mean()),
            "per_class": [float(agrees[labels == k].mean()) for k in range(num_classes)],
            "protocol": protocol(real_split=None, real_count=0),
        }
    results["mean_confidence"] = {
        "value": float(softmax(outputs.logits).max(axis=-1).mean()),
        "real_test": float(softmax(real.logits).max(axis=-1).mean()),
        "protocol": protocol(real_split="test", real_count=len(test_images)),
    }
    results["class_shares"] = {
        "value": _shares(predicted, num_classes),
        "real_train": _shares(train_labels, num_classes),
        "protocol": protocol(real_split="train", real_count=len(train_images)),
    }
    results["within_class_diversity_ratio"] = {
        **_diversity(
            images,
            predicted if labels is None else labels,
            train_images,
            train_labels,
            num_classes,
            per_class,
            seed,
        ),
        "protocol": protocol(
            real_split="train",
            real_count=per_class * num_classes,
            per_class=per_class,
            classes_by="classifier" if labels is None else "labels",
        ),
    }

    test_statistics = gaussian_statistics(real.features)
    results["classifier_frechet_distance"] = {
        "value": frechet_distance(*gaussian_statistics(outputs.features), *test_statistics),
        "protocol": protocol(real_split="test", real_count=len(test_images), features=dim),
    }
    subset = np.random.default_rng([seed, num_classes]).permutation(len(train_images))[: len(images)]
    train_outputs = _evaluate(classifier, train_images[subset], "the train images")
    results["classifier_frechet_distance_real"] = {
        "value": frechet_distance(*gaussian_statistics(train_outputs.features), *test_statistics),
        "protocol": {
            **protocol(real_split="test", real_count=len(test_images), features=dim),
            "samples": len(subset),
            "samples_from": "train",
        },
    }
    for name, answers, count, source in (
        ("classifier_kernel_distance", outputs, len(images), {}),
        ("classifier_kernel_distance_real", train_outputs, len(subset), {"samples_from": "train"}),
    ):
        distance = kernel_distance(answers.features, real.features, seed=seed)
        results[name] = {
            **distance._asdict(),
            "protocol": {
                **protocol(real_split="test", real_count=len(test_images), features=dim),
                "samples": count,
                **source,
            },
        }
    if nearest:
        found = nearest_training_image(images, train_images, test_images)
        results[NEAREST] = {**found, "protocol": protocol(**found["protocol"])}
    return results


def nearest_training_image(
    images: np.ndarray, train_images: np.ndarray, test_images: np.ndarray | None = None
) -> dict[str, Any]:
    """The result `nearest_training_image` of `judge`, which asks no classifier.

    Args:
      images: the samples, uint8 [N, H, W, C].
      train_images: uint8 [M, H, W, C].
      test_images: images that were not trained on, by whose distances the threshold is chosen; None: there
        are none, and `value` is None beside the `minimum` and the `median` distance.
    Raises:
      UsageError: types or shapes do not fit.
    """
    protocol: dict[str, Any] = {
        "samples": len(images),
        "real_split": "train",
        "real_count": len(train_images),
    }
    if test_images is None:
        distances = nearest_images(images, train_images).distance
        found: dict[str, Any] = {"value": None, "median": float(np.median(distances))}
    else:
        # In one search, which prepares the training images once.
        both = nearest_images(np.concatenate([images, test_images]), train_images).distance
        distances = both[: len(images)]
        threshold = float(np.quantile(both[len(images) :], NEAREST_QUANTILE))
        closer = int((distances < threshold).sum())
        found = {"value": closer / len(images), "count": closer, "threshold": threshold}
        protocol |= {"threshold_split": "test", "threshold_count": len(test_images)}
        protocol["threshold_quantile"] = NEAREST_QUANTILE
    return {**found, "minimum": float(distances.min()), "protocol": protocol}


def verdict(results: Mapping[str, Mapping[str, Any]], *, bars: Mapping[str, float] = BARS) -> list[str]:
    """What speaks against a model: a line for each figure that misses its bar, naming both; none: it passes.

    Args:
      results: from `judge`; figures that are not among them are passed over.
      bars: name -> bar. Of `class_shares`, for unconditional models alone (others are told which classes to
        make): the least share of any class, over the 1 / K that would be its due; 0.5 is 5 % of ten classes.
        Of `mean_confidence`, `label_agreement` and `within_class_diversity_ratio` (the mean over classes):
        the least value. Of `nearest_training_image`: the largest share of samples that may lie closer to a
        training image than the 0.1 % quantile of the test images does; 0: none may.
    Raises:
      ValueError: a bar for a figure that there is none for.
    """
    lines = []
    for name, bar in bars.items():
        if name not in BARS:
            raise ValueError(f"there is no bar for {name}; {errors.nearest(name, BARS)}")
        if name not in results:
            continue
        result = results[name]
        value = result["value"]
        if name == "class_shares":
            least, due = min(value), 1 / len(value)
            if "label_agreement" not in results and not least >= bar * due:
                lines.append(
                    f"{name}: {least:.2%} of the samples are of class {value.index(least)}, "
                    f"expected at least {bar * due:.2%} of each"
                )
        elif name == "nearest_training_image":
            if not value <= bar:
                few = f"at most {bar:.2%}" if bar else "none"
                lines.append(
                    f"{name}: {result['count']} samples ({value:.2%}) lie closer to a training image than "
                    f"{result['threshold']:.3f}, the nearest {result['minimum']:.3f}, expected {few}"
                )
        elif not value >= bar:
            lines.append(f"{name}: {value:.4f}, expected at least {bar}")
    return lines


def _real(
    data: Mapping[str, np.ndarray], name: str, classifier: ImageClassifier
) -> tuple[np.ndarray, np.ndarray]:
    images = check_images(data["image"], name, classifier.image_shape)
    labels = check_labels(data["label"], f"{name} labels", len(images), classifier.num_classes)
    if not len(images):
        raise errors.RunError(f"{name}: there are no images")
    return images, labels


def _evaluate(classifier: ImageClassifier, images: np.ndarray, name: str) -> Outputs:
    outputs = classifier.evaluate(images)
    if not (np.isfinite(outputs.features).all() and np.isfinite(outputs.logits).all()):
        raise errors.RunError(f"the classifier answers NaN or infinity for {name}; is it damaged?")
    return outputs


def _check_enough_of_each_class(labels: np.ndarray, num_classes: int, per_class: int) -> None:
    counts = np.bincount(labels, minlength=num_classes)
    least = int(counts.argmin())
    if counts[least] < per_class:
        raise errors.UsageError(
            f"class {least} has {counts[least] or 'no'} samples; at least {per_class} of each of the "
            f"{num_classes} classes are needed ({per_class * num_classes} in all), or a smaller per_class"
        )


def _shares(labels: np.ndarray, num_classes: int) -> list[float]:
    return (np.bincount(labels, minlength=num_classes) / len(labels)).tolist()


def _diversity(
    images: np.ndarray,
    labels: np.ndarray,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    num_classes: int,
    per_class: int,
    seed: int,
) -> dict[str, Any]:
    real_counts = np.bincount(train_labels, minlength=num_classes)
    if real_counts.min() < per_class:
        raise errors.RunError(
            f"class {real_counts.argmin()} has {real_counts.min()} training images; "
            f"per_class={per_class} of each class are needed"
        )
    real = within_class_diversity(train_images, train_labels, per_class, seed)
    if min(real.values()) == 0:
        raise errors.RunError(f"the training images of class {min(real, key=real.__getitem__)} are all equal")
    counts = np.bincount(labels, minlength=num_classes)
    measured = counts[labels] >= 2
    fake = within_class_diversity(images[measured], labels[measured], per_class, seed)
    # A class that a model does not make has no diversity; leaving it out would flatter the collapse.
    ratios = [fake.get(k, 0.0) / real[k] for k in range(num_classes)]
    return {
        "value": float(np.mean(ratios)),
        "minimum": min(ratios),
        "per_class": ratios,
        "samples_per_class": np.minimum(counts, per_class).tolist(),
        "too_few": np.flatnonzero(counts < 2).tolist(),
    }
