"""Metrics by name: of what, by what, computed how often, and with which protocol."""

import dataclasses
import json

import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics import frechet, sets, suite

DRAW = np.random.default_rng(0)
DIM = 6


class Network:
    """The first pixels, as features and as logits; counts what it sees."""

    identity, batch = "stub", 64

    def __init__(self, head: bool = True):
        self.head, self.seen = head, 0
        self.about = {"inception": {"sha256": "0", "resizer": "tf1"}}

    def evaluate(self, images: np.ndarray) -> suite.Answers:
        self.seen += len(images)
        flat = images.reshape(len(images), -1).astype(np.float32) / 255
        return suite.Answers(flat[:, :DIM], flat[:, DIM : DIM + 4] if self.head else None)


def noise(count: int, shape=(8, 8, 1), classes: int = 3, **about) -> sets.Images:
    images = DRAW.integers(0, 256, (count, *shape), np.uint8)
    return sets.of_arrays(images, np.arange(count) % classes if classes else None, classes, about)


def subject(generated: sets.Images, real: sets.Images, network: Network, **options) -> suite.Subject:
    return suite.Subject(generated, real, {"inception": lambda: network}, **options)


GENERATED, REAL = noise(4100), noise(1300, set="noise", split="train")


def test_every_metric_has_its_value_and_its_protocol():
    network = Network()
    names = [name for name, metric in suite.METRICS.items() if metric.network == "inception"]
    results = suite.measure(subject(GENERATED, REAL, network, seed=3), names)
    assert list(results) == names
    json.dumps(results, allow_nan=False)
    for name, result in results.items():
        protocol = result["protocol"]
        assert np.isfinite(result["value"])
        assert (protocol["samples"], protocol["seed"]) == (4100, 3)
        assert protocol["inception"] == {"sha256": "0", "resizer": "tf1"}
        of_real = [protocol.get(key) for key in ("real_set", "real_split", "real_count")]
        assert of_real == ([None] * 3 if name == "inception_score" else ["noise", "train", 1300])
    assert network.seen == 4100 + 1300  # once for all of them
    # The same noise: the figures that know of equality say so.
    assert 0 <= results["fid"]["value"] < 0.02
    assert abs(results["kid"]["value"]) < 3 * results["kid"]["std"]
    for name in ("precision", "recall", "density", "coverage"):
        assert results[name]["value"] > 0.8, name
        assert results[name]["images"] == 1300  # as many of both
    assert len(results["intra_fid"]["per_class"]) == 3


def test_metrics_of_pixels_need_no_network():
    network, some, more = Network(), noise(40), noise(60, set="noise", split="train")
    results = suite.measure(subject(some, more, network), suite.PIXELS_DEFAULT)
    assert network.seen == 0
    assert results["swd"]["images"] == 40  # as many of each
    assert set(results["swd"]["per_level"]) == {"8x8"}
    assert results["ms_ssim"]["value"] == pytest.approx(results["ms_ssim"]["real"], abs=0.05)
    assert results["ms_ssim"]["protocol"] == {
        "samples": 40,
        "seed": 0,
        "real_set": "noise",
        "real_split": "train",
        "real_count": 60,
    }


def test_a_discriminator_that_knows_what_it_was_trained_on():
    """It says the mean pixel, of labelled images plus the label: the three sets are 3, 1 and -1 apart."""

    def of(level, count, **about):
        images = np.full((count, 2, 2, 1), level, np.uint8)
        return sets.of_arrays(images, np.zeros(count, int), 3, about)

    def logits(images, labels):
        assert (labels == 0).all()
        return images.reshape(len(images), -1).mean(1)

    critic = suite.Critic(logits, of(30, 9))
    names, held = ["discriminator_overfitting"], of(25, 5, set="x", split="test")
    (result,) = suite.measure(subject(of(10, 7), held, Network(), critic=critic), names).values()
    protocol = result.pop("protocol")
    assert result == {"value": 0.25, "train": 30.0, "held_out": 25.0, "generated": 10.0, "images": 5}
    assert protocol["real_split"] == "test"
    for real, asked, message in (
        (held, None, "there is none"),
        (of(25, 5, split="train"), critic, "real_split=test"),
    ):
        with pytest.raises(errors.UsageError, match=message):
            suite.measure(subject(of(10, 7), real, Network(), critic=asked), names)


def test_the_discriminator_is_not_shown_images_in_order_of_class():
    """Its minibatch deviation would be that of one class."""
    classes = np.arange(60) // 20
    pictures = np.broadcast_to(classes[:, None, None, None], (60, 2, 2, 1)).astype(np.uint8)
    shown = []

    def logits(images, labels):
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
        shown.append(labels)
        return labels.astype(float)

    several = sets.of_arrays(pictures, classes, 3, {"set": "x", "split": "test"})
    critic = suite.Critic(logits, several)
    suite.measure(subject(several, several, Network(), critic=critic), ["discriminator_overfitting"])
    for labels in shown:
        np.testing.assert_array_equal(np.sort(labels), classes)
        assert np.count_nonzero(np.diff(labels)) > 20


def test_known_answers():
    bright = sets.of_arrays(np.full((1000, 8, 8, 1), 255, np.uint8) - (GENERATED.read(0, 1000) >> 3))
    results = suite.measure(subject(bright, REAL, Network()), ["fid", "precision", "recall"])
    mean, cov = frechet.gaussian_statistics(Network().evaluate(bright.read(0, 1000)).features)
    real = frechet.gaussian_statistics(Network().evaluate(REAL.read(0, 1300)).features)
    assert results["fid"]["value"] == pytest.approx(frechet.frechet_distance(mean, cov, *real), rel=1e-9)
    assert results["precision"]["protocol"]["neighbours"] == 3
    assert results["recall"]["value"] < 0.05
    same = suite.measure(subject(REAL, REAL, Network()), ["fid", "precision", "recall"])
    assert same["fid"]["value"] < 1e-9
    assert same["precision"]["value"] == same["recall"]["value"] == 1


def test_statistics_alone_keep_no_features():
    whole = subject(GENERATED, REAL, Network())
    suite.measure(whole, ["fid"])
    assert {need.what for need in whole._found} == {"statistics"}
    streamed = suite.measure(whole, ["fid", "precision"])["fid"]["value"]  # which has features meanwhile
    kept = suite.measure(subject(GENERATED, REAL, Network()), ["precision", "fid"])["fid"]["value"]
    assert streamed == pytest.approx(kept, rel=1e-9)


def test_what_was_found_of_the_real_images_is_kept_by_content(tmp_path):
    first, again, other, grown = (Network() for _ in range(4))
    other.identity = "another"
    results = [
        suite.measure(subject(GENERATED, real, network, cache=tmp_path), ["fid", "precision"])
        for network, real in (
            (first, REAL),
            (again, sets.of_arrays(REAL.read(0, 1300).copy(), REAL.labels, 3, {"set": "copy"})),
            (other, REAL),
            (grown, noise(1301)),
        )
    ]
    assert [network.seen for network in (first, again, other, grown)] == [5400, 4100, 5400, 5401]
    assert results[0]["precision"]["value"] == results[1]["precision"]["value"]
    assert results[0]["fid"]["value"] == pytest.approx(results[1]["fid"]["value"], rel=1e-9)
    for path in tmp_path.iterdir():  # damaged files are made anew
        path.write_bytes(b"PK" + path.read_bytes()[2:200])
    damaged = Network()
    suite.measure(subject(GENERATED, REAL, damaged, cache=tmp_path), ["fid", "precision"])
    assert damaged.seen == 5400


def test_of_real_statistics_there_is_a_frechet_distance_alone(tmp_path):
    features = Network().evaluate(REAL.read(0, 1300)).features
    frechet.save_statistics(tmp_path / "real.npz", *frechet.gaussian_statistics(features), 1300)
    assert sets.is_statistics(str(tmp_path / "real.npz"))
    real, statistics = sets.of_statistics(str(tmp_path / "real.npz"))
    some = subject(GENERATED, real, Network(), real_statistics=statistics)
    value = suite.measure(some, ["fid"])["fid"]["value"]
    assert value == pytest.approx(suite.measure(subject(GENERATED, REAL, Network()), ["fid"])["fid"]["value"])
    unknown = subject(GENERATED, dataclasses.replace(real, count=0), Network(), real_statistics=statistics)
    assert suite.measure(unknown, ["fid"])["fid"]["protocol"]["real_count"] is None
    with pytest.raises(errors.UsageError, match="kid: it takes the real images themselves"):
        suite.measure(some, ["kid"])


def test_statistics_of_another_network_are_refused(tmp_path):
    about = {"network": "stub"}
    features = Network().evaluate(REAL.read(0, 1300)).features
    frechet.save_statistics(tmp_path / "real.npz", *frechet.gaussian_statistics(features), 1300, about)
    real, statistics = sets.of_statistics(str(tmp_path / "real.npz"))
    assert suite.measure(subject(GENERATED, real, Network(), real_statistics=statistics), ["fid"])
    other = Network()
    other.identity = "another"
    with pytest.raises(errors.UsageError, match=r"real images are those of stub, .* by another"):
        suite.measure(subject(GENERATED, real, other, real_statistics=statistics), ["fid"])
    assert other.seen == 0


class Pixels:
    """In the place of LPIPS: the mean squared difference of images in [-1, 1]."""

    network, sha256 = "alexnet", "0"

    def distances(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        a, b = (images / 127.5 - 1 if images.dtype == np.uint8 else images for images in (x, y))
        return np.square(a - b).mean(axis=(1, 2, 3))


def test_diversity_by_lpips():
    told = []
    flat = np.repeat(np.array([0, 255] * 20, np.uint8), 32 * 32).reshape(40, 32, 32, 1)  # black or white
    one = subject(
        sets.of_arrays(flat),
        noise(60, (32, 32, 1), set="noise"),
        Network(),
        lpips=Pixels,
        tell=lambda *x: told.append(x),
    )
    found = suite.measure(one, ["lpips_diversity"])["lpips_diversity"]
    assert found["value"] == pytest.approx(4 * 20 / 39, abs=4 * found["std"])  # 20 of the 39 others differ
    assert found["real"] == pytest.approx(2 / 3, rel=0.02)  # of two uniform numbers in [-1, 1]
    assert found["pairs"] == 780
    assert found["protocol"]["lpips"] == {"network": "alexnet", "sha256": "0"}
    assert told[-1] == ("LPIPS of real pairs", 780, 780)


def test_a_path_length_needs_no_real_images():
    """Of a generator that is linear in w the step is the same everywhere."""

    def draw(styles: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        return np.broadcast_to(styles[:, :1, None, None], (len(styles), 32, 32, 1))

    latents = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    generator = suite.Generator(
        lambda seeds: latents[seeds], draw, batch=8, mapped=lambda latents, labels: latents, draw_styles=draw
    )
    one = subject(
        noise(40, (32, 32, 1)), sets.none((32, 32, 1)), Network(), lpips=Pixels, generator=generator
    )
    found = suite.measure(one, ["perceptual_path_length_w"])["perceptual_path_length_w"]
    steps = np.square(latents[40:, 0] - latents[:40, 0])
    low, high = np.quantile(steps, 0.01, method="lower"), np.quantile(steps, 0.99, method="higher")
    kept = steps[(steps >= low) & (steps <= high)]
    assert found["value"] == pytest.approx(kept.mean(), rel=0.05)
    assert (found["paths"], found["kept"], found["protocol"]["space"]) == (40, len(kept), "w")


@pytest.mark.parametrize("name", ["lpips_diversity", "perceptual_path_length"])
def test_images_too_small_for_lpips_are_said_to_be(name):
    generator = suite.Generator(lambda seeds: seeds[:, None], lambda latents: latents, batch=1)
    one = subject(noise(9, (28, 28, 1)), noise(9, (28, 28, 1)), Network(), lpips=Pixels, generator=generator)
    with pytest.raises(errors.UsageError, match=f"{name}: generated images of 28x28: .* at least 31 pixels"):
        suite.measure(one, [name])


def test_by_a_classifier():
    network = Network()
    one = suite.Subject(GENERATED, REAL, {"classifier": lambda: network})
    names = [metric.name for metric in suite.CLASSIFIER]
    found = suite.measure(one, names)
    assert list(found) == names
    assert 1 < found["classifier_score"]["value"] < 1.2  # every class is as likely, whatever the image
    assert found["classifier_precision"]["value"] > 0.8
    assert len(found["classifier_intra_frechet_distance"]["per_class"]) == 3
    assert network.seen == 4100 + 1300


def test_pixels_that_do_not_fit_memory_are_left_out(monkeypatch):
    said = []
    monkeypatch.setattr(suite, "PIXELS_READ", 30 * 64)
    one = subject(noise(40), noise(60), Network(), say=said.append)
    assert suite.measure(one, ["swd"])["swd"]["images"] == 30
    assert said == ["pixels of 30 images of 40 are compared: more do not fit memory"]


@pytest.mark.parametrize(
    ("name", "generated", "real", "message"),
    [
        ("kid", noise(999), REAL, "kid: 999 generated images, at least 1000 are needed; draw more samples"),
        (
            "kid",
            GENERATED,
            noise(10),
            "kid: 10 real images, at least 1000 are needed; .*or name a larger set",
        ),
        ("fid_infinity", noise(4095), REAL, "fid_infinity: 4095 generated images, at least 4096 are needed"),
        ("precision", noise(3), REAL, "precision: 3 generated images, at least 4"),
        ("coverage", GENERATED, noise(5), "coverage: 5 real images, at least 6"),
        ("inception_score", noise(9), REAL, "inception_score: 9 generated images, at least 10"),
        ("intra_fid", noise(1100, classes=0), REAL, "intra_fid: it is by class, and the samples have no"),
        ("intra_fid", GENERATED, noise(50, classes=0), "it is by class, and the real set has no labels"),
        ("intra_fid", GENERATED, noise(50, classes=4), "the classes differ: 3 of the samples, 4 of the real"),
        ("swd", noise(20, (8, 8, 3)), REAL, "swd: it compares pixels, and the generated images are 8x8x3"),
    ],
)
def test_what_can_not_be_judged_is_said_before_anything_is_computed(name, generated, real, message):
    network = Network()
    with pytest.raises(errors.UsageError, match=message):
        suite.measure(subject(generated, real, network), ["fid", name])
    assert network.seen == 0


def test_a_class_without_images_is_named():
    images = DRAW.integers(0, 256, (60, 8, 8, 1), np.uint8)
    empty = sets.of_arrays(images, np.arange(60) % 2, 3)
    network = Network()
    with pytest.raises(errors.UsageError, match="class 2: found 0 generated images"):
        suite.measure(subject(empty, REAL, network), ["intra_fid"])
    assert network.seen == 0


def test_no_head_no_score():
    with pytest.raises(errors.UsageError, match="these weights have no class head"):
        suite.measure(subject(GENERATED, REAL, Network(head=False)), ["inception_score"])


def test_answers_that_are_not_finite():
    class Broken(Network):
        def evaluate(self, images):
            features, logits = super().evaluate(images)
            return suite.Answers(
                np.where(images.reshape(len(images), -1)[:, :DIM] > 250, np.nan, features), logits
            )

    with pytest.raises(errors.RunError, match="inception answers NaN or infinity for generated images"):
        suite.measure(subject(GENERATED, REAL, Broken()), ["fid"])


def test_few_samples_are_warned_of():
    said = []
    suite.measure(subject(noise(DIM), REAL, Network(), say=said.append), ["fid"])
    assert said == [
        f"warning: fid of {DIM} generated images, not more than its {DIM} features, is much too large"
    ]
    del said[:]
    suite.measure(subject(noise(15), REAL, Network(), say=said.append), ["intra_fid"])
    assert said == [
        f"warning: intra_fid of 5 images of a class, not more than its {DIM} features, is much too large"
    ]
