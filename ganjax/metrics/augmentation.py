"""Whether generated images help a classifier of few real ones: four ways to train it, side by side."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ganjax.errors import UsageError
from ganjax.gan import Judge
from ganjax.metrics.classifier import ImageSet, check_labels, train_classifier
from ganjax.report.images import to_uint8

# What the classifier is trained on besides the real images: classical augmentation, generated images.
ARMS: Mapping[str, tuple[bool, bool]] = {
    "nothing": (False, False),
    "classical": (True, False),
    "generated": (False, True),
    "both": (True, True),
}


def training_set(real: ImageSet, generated: ImageSet | None, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, C] and labels [N]: the real ones and, with `flip`, their mirror images; with
    generated ones, as many of these, the real ones said again as often as need be.

    Args:
      real: "image" and "label".
      generated: likewise, or None.
      flip: add what a mirror shows, also of generated images.
    """
    sets = [
        (real["image"], real["label"]),
        *([(generated["image"], generated["label"])] if generated else []),
    ]
    if flip:
        sets = [(np.concatenate([x, x[:, :, ::-1]]), np.concatenate([y, y])) for x, y in sets]
    if len(sets) > 1:
        count = max(len(labels) for _, labels in sets)
        sets = [(x[np.arange(count) % len(x)], y[np.arange(count) % len(y)]) for x, y in sets]
    return np.concatenate([x for x, _ in sets]), np.concatenate([y for _, y in sets])


def accuracies(
    real: ImageSet,
    generated: ImageSet,
    test: ImageSet,
    num_classes: int,
    *,
    seeds: int,
    steps: int,
    batch_size: int,
    max_shift: int,
    flip: bool,
) -> dict[str, list[float]]:
    """By the name of the way (`ARMS`), the accuracy on the test images of `seeds` classifiers.

    Each is `ganjax.metrics.classifier.train_classifier`'s, trained for the same number of steps and on
    batches of the same size, however large its training set is.

    Args:
      real: the real images that there are, uint8, and their labels.
      generated: samples of a model that learned from these alone, and the labels asked for.
      test: what is measured on.
      num_classes: at least 2.
      seeds: classifiers to a way.
      steps: batches that one is trained on; the last epoch is cut short.
      batch_size: of these, or as many as there are real images.
      max_shift: classical augmentation moves images by up to so many pixels, anew in each epoch.
      flip: and mirrors them.
    """
    found: dict[str, list[float]] = {}
    batch_size = min(batch_size, len(real["label"]))  # of every way: it is the smallest set
    for name, (classical, by_model) in ARMS.items():
        images, labels = training_set(real, generated if by_model else None, flip and classical)
        found[name] = []
        for seed in range(seeds):
            classifier = train_classifier(
                images,
                labels,
                num_classes,
                seed,
                test=test,
                steps=steps,
                batch_size=batch_size,
                max_shift=max_shift if classical else 0,
            )
            assert classifier.test_accuracy is not None
            found[name].append(classifier.test_accuracy)
    return found


def judge(
    real: Callable[[], ImageSet],
    test: Callable[[], ImageSet],
    num_classes: int,
    *,
    facts: Mapping[str, Any],
    **options: Any,
) -> Judge:
    """The judge of a conditional model that learned from few images, by what its samples are good for.

    `accuracy_nothing`, `accuracy_classical`, `accuracy_generated`, `accuracy_both`: the mean of `seeds`, with
    its `standard_error`, which is that of classifiers alone: all learn from the same choice of images and the
    same model; None of one classifier, which can not tell it. Generated images are half of those that a
    classifier is trained on.

    Args:
      real: gives the images that the model learned from.
      test: gives the whole test set.
      num_classes: at least 2.
      facts: what protocols say besides.
      **options: of `accuracies`.
    """

    def results(samples: np.ndarray, labels: np.ndarray | None) -> dict[str, dict[str, Any]]:
        if labels is None:
            raise UsageError("augmentation: these samples have no labels to train a classifier by")
        labels = check_labels(labels, "labels", len(samples), num_classes)
        there, held = real(), test()
        generated = {"image": to_uint8(samples), "label": labels.astype(np.int32)}
        found = accuracies(there, generated, held, num_classes, **options)
        protocol = {
            "real_images": len(there["image"]),
            "generated_images": len(samples),
            "test_images": len(held["image"]),
            "standard_error": "over classifiers; the choice of real images and the model are one",
            **options,
            "batch_size": min(options["batch_size"], len(there["image"])),
            **facts,
        }
        return {
            f"accuracy_{name}": {
                "value": float(np.mean(each)),
                "standard_error": standard_error(each),
                "each": each,
                "protocol": protocol,
            }
            for name, each in found.items()
        }

    def verdict(results: Mapping[str, dict[str, Any]]) -> list[str]:
        """Where generated images do not help beyond what two standard errors may hide, or none are known."""
        lines = []
        for with_it, without in (("generated", "nothing"), ("both", "classical")):
            a, b = (results[f"accuracy_{name}"] for name in (with_it, without))
            if a["standard_error"] is None or b["standard_error"] is None:
                lines.append(
                    f"accuracy_{with_it}: {a['value']:.4f}, beside accuracy_{without}, {b['value']:.4f}: one "
                    "classifier can not tell whether generated images help; expected more, in a run with "
                    "--config.classifiers="
                )
                continue
            error = float(np.hypot(a["standard_error"], b["standard_error"]))
            if not a["value"] - b["value"] > 2 * error:
                lines.append(
                    f"accuracy_{with_it}: {a['value']:.4f} is not above accuracy_{without}, {b['value']:.4f} "
                    f"by more than two standard errors of the difference ({error:.4f})"
                )
        return lines

    return Judge(tuple(f"accuracy_{name}" for name in ARMS), results, verdict)


def standard_error(values: list[float]) -> float | None:
    """Of the mean of independent values; None of a single one, of which it can not be told."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
