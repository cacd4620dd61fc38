"""What a classifier of real images says of generated ones: Inception Score, distances by class, accuracy of a
classifier that learnt from samples alone."""

from typing import Any, NamedTuple

import numpy as np

from ganjax import errors
from ganjax.metrics.classifier import ImageSet, check_labels, softmax, train_classifier
from ganjax.metrics.frechet import frechet_distance, gaussian_statistics


class Score(NamedTuple):
    """Mean and standard deviation (over n) over the splits."""

    value: float
    std: float


def inception_score(logits: np.ndarray, splits: int = 10, seed: int | None = 0) -> Score:
    """exp of the mean divergence KL(p(y|x) || p(y)), over splits of the samples.

    With the logits of the FID Inception's 1008-way head this is the Inception Score; with those of another
    classifier it is not, goes by another name, and compares with nobody's. It lies between 1 (every image is
    judged alike) and the number of classes.

    Args:
      logits: [N, K] of samples, finite; N >= splits.
      splits: how many parts the samples fall into, each with a p(y) of its own; 10 of 50,000 in the paper.
      seed: of the order in which samples go into the splits; None keeps theirs, as the paper's code did,
        which is wrong where they are sorted by class.
    Raises:
      UsageError: another shape, or fewer samples than splits.
      RunError: a logit is NaN or infinite.

    References:
      Salimans et al., "Improved Techniques for Training GANs", 2016, section 4.
      Barratt and Sharma, "A Note on the Inception Score", 2018, for what it does not say.
    """
    logits = np.asarray(logits)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise errors.UsageError(f"logits: expected the shape [N, K] with K >= 2, got {logits.shape}")
    if splits < 1 or len(logits) < splits:
        raise errors.UsageError(f"splits={splits}: expected at least 1 and at most the {len(logits)} samples")
    if not np.isfinite(logits).all():
        raise errors.RunError("logits: found NaN or infinity")
    probabilities = softmax(logits)
    if seed is not None:
        probabilities = probabilities[np.random.default_rng(seed).permutation(len(probabilities))]
    scores = []
    for part in np.array_split(probabilities, splits):
        marginal = part.mean(axis=0)
        # 0 log 0 is 0: a class may be so unlikely that its probability underflows.
        terms = part * (np.log(np.maximum(part, 1e-300)) - np.log(np.maximum(marginal, 1e-300)))
        scores.append(np.exp(terms.sum(axis=1).mean()))
    return Score(float(np.mean(scores)), float(np.std(scores)))


class ByClass(NamedTuple):
    """A figure of each class, float64 [K] in their order, and its mean over the classes."""

    value: float
    per_class: np.ndarray


def check_each_class(labels: np.ndarray, what: str, num_classes: int) -> None:
    """Raises UsageError where a class has fewer than the 2 images that a distance needs.

    Args:
      labels: integers in [0, num_classes), [N].
      what: is labelled, for the message.
      num_classes: K.
    """
    counts = np.bincount(labels, minlength=num_classes)
    least = int(counts.argmin())
    if counts[least] < 2:
        raise errors.UsageError(
            f"class {least}: found {counts[least]} {what}; a distance by class needs at least 2 of each"
        )


def frechet_distance_by_class(
    features: np.ndarray,
    labels: np.ndarray,
    real_features: np.ndarray,
    real_labels: np.ndarray,
    num_classes: int,
) -> ByClass:
    """The Fréchet distance among the images of each class: intra-FID, with Inception's features.

    It sees what the distance over all classes does not: a class whose images are all alike, or are another
    class's. With fewer images of a class than features it is large for that reason alone, so that only equal
    numbers compare.

    Args:
      features: of samples, [N, F], finite.
      labels: the classes asked for, integers [N].
      real_features, real_labels: of real images, [M, F] and [M].
      num_classes: K; each class needs at least 2 samples and 2 real images.
    Raises:
      UsageError: shapes or types do not fit, or a class has too few images.
      RunError: a feature is NaN or infinite.

    References:
      Miyato and Koyama, "cGANs with Projection Discriminator", 2018, section 5.
    """
    features, real_features = np.asarray(features), np.asarray(real_features)
    labels = check_labels(labels, "labels", len(features), num_classes)
    real_labels = check_labels(real_labels, "real labels", len(real_features), num_classes)
    check_each_class(labels, "samples", num_classes)
    check_each_class(real_labels, "real images", num_classes)
    distances = [
        frechet_distance(
            *gaussian_statistics(features[labels == k]), *gaussian_statistics(real_features[real_labels == k])
        )
        for k in range(num_classes)
    ]
    return ByClass(float(np.mean(distances)), np.array(distances))


def classification_accuracy_score(
    samples: np.ndarray,
    labels: np.ndarray,
    test: ImageSet,
    num_classes: int,
    seed: int = 0,
    **settings: Any,
) -> ByClass:
    """The accuracy on real test images of a classifier that was trained on samples alone.

    A class that a model makes badly, or in one kind only, is one that this classifier can't tell. Read it
    beside the same for real training images, which is its ceiling.

    Args:
      samples: uint8 [N, H, W, C]; as many as there are training images, for a fair comparison.
      labels: the classes asked for, integers [N].
      test: real images and labels, with at least one of each class.
      num_classes: K.
      seed: of the training.
      **settings: further arguments of `ganjax.metrics.classifier.train_classifier`.
    Returns:
      The share of all test images that are taken for what they are (top-1), and the share of each class.
    Raises:
      UsageError: types or shapes do not fit, or the test images lack a class.
      RunError: the training diverged.

    References:
      Ravuri and Vinyals, "Classification Accuracy Score for Conditional Generative Models", 2019. There the
      classifier is a ResNet-50 for ImageNet; here it is a small one for small images.
    """
    test_labels = check_labels(test["label"], "test labels", len(test["image"]), num_classes)
    counts = np.bincount(test_labels, minlength=num_classes)
    if not counts.all():
        raise errors.UsageError(f"class {int(counts.argmin())} has no test images")
    classifier = train_classifier(samples, labels, num_classes, seed, **settings)
    right = classifier.logits(test["image"]).argmax(axis=-1) == test_labels
    per_class = np.array([right[test_labels == k].mean() for k in range(num_classes)])
    return ByClass(float(right.mean()), per_class)
