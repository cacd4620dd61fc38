import json

import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics.classifier import Outputs
from ganjax.metrics.frechet import frechet_distance, gaussian_statistics
from ganjax.metrics.judge import BARS, METRICS, judge, nearest_training_image, verdict


class Stub:
    """Two classes of 2x2 images: the left upper pixel's is 1 where it is bright. Features: two pixels."""

    num_classes = 2
    image_shape = (2, 2, 1)
    identity = "stub"

    def evaluate(self, images: np.ndarray) -> Outputs:
        brightness = images[:, 0, 0, 0] / 255
        # Probability 0.9 for the class it picks.
        logits = np.where(brightness[:, None] > 0.5, [0, np.log(9)], [np.log(9), 0])
        return Outputs(images[:, 1, :, 0] / 255, logits)


class Broken(Stub):
    def evaluate(self, images: np.ndarray) -> Outputs:
        return Outputs(np.full((len(images), 2), np.nan), np.zeros((len(images), 2)))


def made(count: int, seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 256, (count, 2, 2, 1), dtype=np.uint8)
    label = np.arange(count) % 2
    image[:, 0, 0, 0] = 255 * label
    return {"image": image, "label": label}


TRAIN, TEST = made(400, 0), made(200, 1)
REAL = {"train": TRAIN, "test": TEST, "classifier": Stub()}


def test_real_images_look_real():
    samples = made(200, 2)
    results = judge(samples["image"], samples["label"], nearest=True, per_class=100, **REAL)
    assert json.loads(json.dumps(results)) == results
    assert results["label_agreement"]["value"] == 1
    assert results["label_agreement"]["per_class"] == [1, 1]
    assert results["mean_confidence"]["value"] == pytest.approx(0.9)
    assert results["class_shares"]["value"] == [0.5, 0.5]
    assert results["within_class_diversity_ratio"]["value"] == pytest.approx(1, abs=0.1)
    expected = frechet_distance(
        *gaussian_statistics(samples["image"][:, 1, :, 0] / 255),
        *gaussian_statistics(TEST["image"][:, 1, :, 0] / 255),
    )
    assert results["classifier_frechet_distance"]["value"] == pytest.approx(expected)
    assert results["classifier_frechet_distance_real"]["value"] < 0.01
    assert results["nearest_training_image"]["count"] <= 5


def test_every_figure_states_its_protocol():
    samples = made(200, 2)
    results = judge(samples["image"], samples["label"], nearest=True, seed=3, **REAL)
    assert tuple(results) == METRICS
    for result in results.values():
        protocol = result["protocol"]
        assert {"samples", "classifier", "seed", "real_split", "real_count"} <= set(protocol)
        assert protocol["classifier"] == {"identity": "stub", "test_accuracy": 1.0}
        assert (protocol["samples"], protocol["seed"]) == (200, 3)
    assert results["classifier_frechet_distance"]["protocol"]["real_count"] == 200
    assert results["nearest_training_image"]["protocol"]["real_count"] == 400


def test_agreement_and_shares_by_hand():
    samples = made(8, 4)
    # Of the four asked to be 1, one is dark.
    samples["image"][1, 0, 0, 0] = 0
    results = judge(samples["image"], samples["label"], per_class=4, **REAL)
    assert results["label_agreement"]["value"] == 7 / 8
    assert results["label_agreement"]["per_class"] == [1, 3 / 4]
    assert results["class_shares"]["value"] == [5 / 8, 3 / 8]


def test_test_accuracy_is_measured_on_the_test_images_given():
    wrong = {"image": TEST["image"], "label": np.where(np.arange(200) < 50, 1 - TEST["label"], TEST["label"])}
    results = judge(made(200, 2)["image"], train=TRAIN, test=wrong, classifier=Stub())
    assert results["mean_confidence"]["protocol"]["classifier"]["test_accuracy"] == 0.75


def test_a_collapsed_class_has_no_diversity():
    samples = made(200, 2)
    samples["image"][samples["label"] == 1] = samples["image"][1]
    result = judge(samples["image"], samples["label"], **REAL)["within_class_diversity_ratio"]
    assert result["per_class"][1] == result["minimum"] == 0
    assert result["per_class"][0] == pytest.approx(1, abs=0.1)
    assert result["value"] == pytest.approx(result["per_class"][0] / 2)


def test_without_labels_the_classifier_sorts_and_a_missing_class_counts_as_none():
    samples = made(200, 2)["image"]
    results = judge(samples, **REAL)
    assert "label_agreement" not in results
    assert results["within_class_diversity_ratio"]["minimum"] > 0.9
    assert results["within_class_diversity_ratio"]["protocol"]["classes_by"] == "classifier"

    samples[:, 0, 0, 0] = 0
    samples[0, 0, 0, 0] = 255
    result = judge(samples, **REAL)["within_class_diversity_ratio"]
    assert result["too_few"] == [1]
    assert result["samples_per_class"] == [100, 1]
    assert result["minimum"] == result["per_class"][1] == 0


def test_copies_of_training_images_are_found():
    results = judge(TRAIN["image"][:200], TRAIN["label"][:200], nearest=True, **REAL)
    nearest = results["nearest_training_image"]
    assert nearest["threshold"] > 0
    assert nearest["count"] == 200
    assert nearest["value"] == 1
    assert nearest["minimum"] == 0


def test_the_seed_decides_the_draws():
    samples = made(200, 2)

    def run(seed):
        return judge(samples["image"], samples["label"], per_class=20, seed=seed, **REAL)

    assert run(1) == run(1)
    name = "classifier_frechet_distance_real"
    assert run(1)[name]["value"] != run(2)[name]["value"]
    name = "within_class_diversity_ratio"
    assert run(1)[name]["value"] != run(2)[name]["value"]


def test_refusals():
    image, label = made(200, 2).values()
    with pytest.raises(errors.UsageError, match="uint8"):
        judge(np.full(image.shape, np.nan), label, **REAL)
    with pytest.raises(errors.UsageError, match=r"\(2, 2, 1\), got \(3, 2, 1\)"):
        judge(np.zeros((200, 3, 2, 1), np.uint8), label, **REAL)
    with pytest.raises(errors.UsageError, match=r"expected the shape \(200,\)"):
        judge(image, label[:7], **REAL)
    with pytest.raises(errors.UsageError, match=r"found 2"):
        judge(image, label + 1, **REAL)
    with pytest.raises(errors.UsageError, match=r"class 0 has 99 samples; at least 100"):
        judge(image[1:-1], label[1:-1], **REAL)
    with pytest.raises(errors.UsageError, match="class 1 has no samples"):
        judge(image, np.zeros(200, int), **REAL)
    with pytest.raises(errors.UsageError, match="got 2; the covariance of 2 features needs at least 3"):
        judge(image[:2], **REAL)
    with pytest.raises(errors.UsageError, match="per_class=1"):
        judge(image, label, per_class=1, **REAL)
    with pytest.raises(errors.RunError, match="NaN"):
        judge(image, label, train=TRAIN, test=TEST, classifier=Broken())
    few = {"image": TRAIN["image"][:50], "label": TRAIN["label"][:50]}
    with pytest.raises(errors.RunError, match="25 training images"):
        judge(image, label, train=few, test=TEST, classifier=Stub())
    flat = {"image": np.zeros_like(TRAIN["image"]), "label": TRAIN["label"]}
    with pytest.raises(errors.RunError, match="all equal"):
        judge(image, label, train=flat, test=TEST, classifier=Stub())


def figures(**values):
    """Results that just pass, as `judge` gives them, and what is changed of them."""
    passing = {
        "mean_confidence": {"value": 0.9},
        "class_shares": {"value": [0.05, *[0.95 / 9] * 9]},
        "within_class_diversity_ratio": {"value": 0.8, "minimum": 0.1},
        "classifier_frechet_distance": {"value": 1e9},
        "nearest_training_image": {"value": 0.0, "count": 0, "minimum": 3.0, "threshold": 2.5},
    }
    return passing | values


def test_the_verdict_is_empty_for_what_passes():
    assert verdict(figures()) == []
    assert verdict(figures(label_agreement={"value": 0.98})) == []
    assert verdict({}) == []
    samples = made(200, 2)
    results = judge(samples["image"], samples["label"], nearest=True, **REAL)
    results["nearest_training_image"] |= {"value": 0.0, "count": 0}  # of 200 real images a few may be closer
    assert verdict(results) == []


@pytest.mark.parametrize(
    ("name", "result", "line"),
    [
        ("mean_confidence", {"value": 0.8999}, "mean_confidence: 0.8999, expected at least 0.9"),
        ("mean_confidence", {"value": float("nan")}, "mean_confidence: nan, expected at least 0.9"),
        ("label_agreement", {"value": 0.979}, "label_agreement: 0.9790, expected at least 0.98"),
        (
            "within_class_diversity_ratio",
            {"value": 0.7},
            "within_class_diversity_ratio: 0.7000, expected at least 0.8",
        ),
        (
            "class_shares",
            {"value": [0.12] * 3 + [0.04] + [0.1] * 6},
            "class_shares: 4.00% of the samples are of class 3, expected at least 5.00% of each",
        ),
        (
            "nearest_training_image",
            {"value": 0.003, "count": 3, "minimum": 1.0, "threshold": 2.5},
            "nearest_training_image: 3 samples (0.30%) lie closer to a training image than 2.500, "
            "the nearest 1.000, expected at most 0.20%",
        ),
    ],
)
def test_the_verdict_names_figure_value_and_bar(name, result, line):
    assert verdict(figures(**{name: result})) == [line]


def test_bars_of_ones_own():
    results = figures(nearest_training_image={"value": 0.003, "count": 3, "minimum": 1.0, "threshold": 2.5})
    assert verdict(results, bars={**BARS, "nearest_training_image": 0.003}) == []
    (line,) = verdict(results, bars={**BARS, "nearest_training_image": 0.0})
    assert line.endswith("expected none")
    assert verdict(results, bars={"mean_confidence": 0.95}) == [
        "mean_confidence: 0.9000, expected at least 0.95"
    ]
    with pytest.raises(ValueError, match="there is no bar for classifier_frechet_distance"):
        verdict(results, bars={"classifier_frechet_distance": 3.0})


def test_which_classes_a_conditional_model_makes_is_asked_of_it():
    shares = {"value": [1.0] + [0.0] * 9}
    assert len(verdict(figures(class_shares=shares))) == 1
    assert verdict(figures(class_shares=shares, label_agreement={"value": 1.0})) == []


def test_nearest_training_images_without_a_classifier():
    draw = np.random.default_rng(0)
    train, test = (draw.integers(0, 256, (60, 4, 4, 1), np.uint8) for _ in range(2))
    samples = np.concatenate([train[:3], draw.integers(0, 256, (7, 4, 4, 1), np.uint8)])
    found = nearest_training_image(samples, train, test)
    assert (found["value"], found["count"], found["minimum"]) == (0.3, 3, 0.0)
    alone = nearest_training_image(samples, train)
    assert (alone["value"], alone["minimum"]) == (None, 0.0)
    assert alone["median"] > 0.5
    assert "threshold_count" not in alone["protocol"]
