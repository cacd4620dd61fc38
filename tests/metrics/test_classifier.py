import dataclasses
import gzip
import importlib.resources
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics import classifier as module
from ganjax.metrics.classifier import cached_classifier, load_classifier, save_classifier, train_classifier
from ganjax.metrics.judge import judge

SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 32}


def bright_halves(count: int, seed: int, shape: tuple[int, int, int] = (8, 8, 1)) -> dict[str, np.ndarray]:
    """Three classes that a glance tells apart: the upper half is bright, the lower half is, or neither."""
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 60, (count, *shape), dtype=np.uint8)
    label = np.arange(count) % 3
    image[label == 0, : shape[0] // 2] += 180
    image[label == 1, shape[0] // 2 :] += 180
    return {"image": image, "label": label}


@pytest.fixture(scope="module")
def train():
    return bright_halves(480, seed=0)


@pytest.fixture(scope="module")
def test():
    return bright_halves(120, seed=1)


@pytest.fixture(scope="module")
def trained(train, test):
    return train_classifier(train["image"], train["label"], 3, test=test, **SETTINGS)


def test_learns_what_is_easy(trained, test):
    assert trained.test_accuracy is not None
    assert trained.test_accuracy > 0.95
    assert trained.test_accuracy == trained.accuracy(test["image"], test["label"])
    assert (trained.num_classes, trained.image_shape) == (3, (8, 8, 1))


def test_the_same_seed_is_the_same_classifier(trained, train):
    again = train_classifier(train["image"], train["label"], 3, **SETTINGS)
    assert again.identity == trained.identity
    assert again.test_accuracy is None
    other = train_classifier(train["image"], train["label"], 3, seed=1, **SETTINGS)
    assert other.identity != trained.identity


def test_steps_cut_the_last_epoch_short(trained, train):
    images, labels = train["image"], train["label"]
    settings = {**SETTINGS, "epochs": 1}  # the number of steps goes before it
    whole = train_classifier(images, labels, 3, steps=45, **settings)
    assert whole.identity == trained.identity
    shorter = train_classifier(images, labels, 3, steps=44, **settings)
    assert shorter.identity != trained.identity


def test_three_channels_and_odd_sizes():
    data = bright_halves(6, seed=0, shape=(7, 9, 3))
    classifier = train_classifier(data["image"], data["label"], 3, epochs=1)
    assert classifier.logits(data["image"]).shape == (6, 3)


def test_outputs(trained, test):
    features, logits = trained.evaluate(test["image"])
    assert features.shape == (120, 128)
    assert features.min() >= 0
    np.testing.assert_array_equal(trained.features(test["image"]), features)
    np.testing.assert_array_equal(trained.logits(test["image"]), logits)
    probabilities = trained.probabilities(test["image"])
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(probabilities, jax.nn.softmax(logits), rtol=1e-4, atol=1e-7)
    kernel, bias = (trained.params["Dense_1"][name] for name in ("kernel", "bias"))
    np.testing.assert_allclose(features @ kernel + bias, logits, rtol=1e-4, atol=1e-4)


def test_chunks_change_nothing_and_compile_once(trained):
    images = bright_halves(1201, seed=2)["image"]
    whole = trained.logits(images)
    forward: Any = module._forward
    before = forward._cache_size()
    parts = np.concatenate(
        [trained.logits(images[:1]), trained.logits(images[1:700]), trained.logits(images[700:])]
    )
    assert forward._cache_size() == before
    np.testing.assert_array_equal(whole, parts)
    assert trained.logits(images[:0]).shape == (0, 3)


def test_a_refused_compiler_option_compiles_without(trained, train, monkeypatch):
    monkeypatch.setattr(module.trained, "CPU_COMPILER_OPTIONS", {"xla_no_such_option": "x"})
    plain = train_classifier(train["image"], train["label"], 3, **SETTINGS)
    agree = plain.logits(train["image"]).argmax(-1) == trained.logits(train["image"]).argmax(-1)
    assert agree.mean() > 0.97


def test_compiles_once_for_all_calls():
    traces = []

    def double(x):
        traces.append(x)
        return 2 * x

    compiled = module.trained.compile_for_backend(double, jnp.zeros(3))
    for value in range(3):
        np.testing.assert_array_equal(compiled(jnp.full(3, float(value))), np.full(3, 2.0 * value))
    assert len(traces) == 1


def test_shifts_move_whole_images_over_zeros():
    images = np.random.default_rng(0).integers(1, 256, (64, 5, 6, 2), dtype=np.uint8)
    shifted = module.random_shifts(images, 1, np.random.default_rng(1))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    seen = set()
    for image, candidates in zip(shifted, padded, strict=True):
        fits = [
            (top, left)
            for top in range(3)
            for left in range(3)
            if np.array_equal(image, candidates[top : top + 5, left : left + 6])
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) == 9
    assert module.random_shifts(images, 0, np.random.default_rng(1)) is images


def test_cache_gives_back_what_was_trained(trained, train, test, tmp_path, monkeypatch):
    first = cached_classifier(train, test, 3, tmp_path, **SETTINGS)
    (file,) = tmp_path.iterdir()  # and no temporary file beside it
    assert first.identity == trained.identity
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_classifier", lambda *_, **__: pytest.fail("trained again"))
        second = cached_classifier(train, test, 3, tmp_path, **SETTINGS)
        monkeypatch.setenv("GANJAX_CACHE", str(tmp_path))
        third = cached_classifier(train, None, 3, **SETTINGS)
    assert (second.identity, second.test_accuracy) == (first.identity, first.test_accuracy)
    assert (third.identity, third.test_accuracy) == (first.identity, None)
    with np.load(file, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_cache_key_is_content_settings_and_seed(train):
    def key(images=train["image"], labels=train["label"], seed=0, settings=SETTINGS):
        return module._cache_path(images, labels, 3, seed, settings, None)

    other = train["image"].copy()
    other[5, 3, 3, 0] ^= 1
    assert key() == key(labels=train["label"].astype(np.int32))
    keys = [
        key(),
        key(images=other),
        key(labels=train["label"][::-1]),
        key(seed=1),
        key(settings={"epochs": 4}),
    ]
    assert len(set(keys)) == 5


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "swapped"])
def test_a_damaged_file_is_trained_over(damage, trained, train, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train_classifier", lambda *_, **__: trained)
    cached_classifier(train, None, 3, tmp_path, **SETTINGS)
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    if damage == "swapped":  # a sound archive whose parameters are not the ones it names
        arrays = dict(np.load(file, allow_pickle=False))
        arrays["params/Dense_1/bias"] = arrays["params/Dense_1/bias"] + 1
        np.savez(file, allow_pickle=False, **arrays)
    else:
        flipped = good[:20000] + bytes([good[20000] ^ 255]) + good[20001:]
        file.write_bytes({"empty": b"", "cut": good[:-200], "flipped": flipped, "text": b"no"}[damage])
    assert load_classifier(file, 3, (8, 8, 1)) is None
    assert cached_classifier(train, None, 3, tmp_path, **SETTINGS).identity == trained.identity
    loaded = load_classifier(file, 3, (8, 8, 1))
    assert loaded is not None
    assert loaded.identity == trained.identity


def test_a_failed_write_leaves_the_old_file_and_nothing_else(trained, tmp_path, monkeypatch):
    path = tmp_path / "classifier.npz"
    save_classifier(trained, path)
    good = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_classifier(dataclasses.replace(trained, test_accuracy=0.5), path)
    assert path.read_bytes() == good
    assert list(tmp_path.iterdir()) == [path]


def test_a_cache_that_cannot_be_written_costs_nothing(trained, train, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train_classifier", lambda *_, **__: trained)
    (tmp_path / "file").write_text("in the way")
    assert cached_classifier(train, None, 3, tmp_path / "file").identity == trained.identity


def test_refusals(trained, train):
    image, label = train["image"], train["label"]
    with pytest.raises(errors.UsageError, match="uint8"):
        train_classifier(image / 255, label, 3)
    with pytest.raises(errors.UsageError, match=r"found 2"):
        train_classifier(image, label, 2)
    with pytest.raises(errors.UsageError, match=r"expected the shape \(480,\)"):
        train_classifier(image, label[:5], 3)
    with pytest.raises(errors.UsageError, match="num_classes=1"):
        train_classifier(image, label, 1)
    with pytest.raises(errors.UsageError, match="integers"):
        train_classifier(image, label / 1, 3)
    with pytest.raises(errors.UsageError, match="epochs=0"):
        train_classifier(image, label, 3, epochs=0)
    with pytest.raises(errors.UsageError, match="steps=0"):
        train_classifier(image, label, 3, steps=0)
    with pytest.raises(errors.UsageError, match="at least 1 training image"):
        train_classifier(image[:0], label[:0], 3)
    with pytest.raises(errors.UsageError, match=r"\(8, 8, 1\), got \(9, 8, 1\)"):
        trained.logits(np.zeros((1, 9, 8, 1), np.uint8))
    with pytest.raises(errors.RunError, match="diverged"):
        train_classifier(image, label, 3, learning_rate=float("inf"), **SETTINGS)


def mnist(split: str) -> dict[str, np.ndarray]:
    folder = importlib.resources.files("ganjax.data") / "mnist"
    with (folder / f"{split}-images-idx3-ubyte.gz").open("rb") as file:
        image = np.frombuffer(gzip.decompress(file.read()), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with (folder / f"{split}-labels-idx1-ubyte.gz").open("rb") as file:
        label = np.frombuffer(gzip.decompress(file.read()), np.uint8, offset=8).astype(np.int32)
    return {"image": image, "label": label}


@pytest.mark.slow
def test_mnist_accuracy_and_what_the_judge_says_of_known_sets(tmp_path):
    train, test = mnist("train"), mnist("t10k")
    classifier = cached_classifier(train, test, 10, tmp_path)
    assert classifier.test_accuracy is not None
    assert classifier.test_accuracy >= 0.985
    known = {"train": train, "test": test, "classifier": classifier}

    real = judge(test["image"], test["label"], **known)
    assert real["label_agreement"]["value"] == classifier.test_accuracy
    assert real["within_class_diversity_ratio"]["value"] == pytest.approx(1, abs=0.05)
    assert real["classifier_frechet_distance"]["value"] < 0.01
    real_distance = real["classifier_frechet_distance_real"]["value"]

    copies = judge(train["image"][:5000], train["label"][:5000], nearest=True, **known)
    assert copies["label_agreement"]["value"] > 0.985
    assert copies["classifier_frechet_distance"]["value"] < 3 * real_distance
    assert copies["nearest_training_image"]["value"] == 1

    one_each = np.stack([train["image"][train["label"] == k][0] for k in range(10)])
    collapsed = judge(one_each[test["label"]], test["label"], **known)
    assert collapsed["label_agreement"]["value"] >= 0.85
    assert collapsed["within_class_diversity_ratio"]["value"] == 0
    assert collapsed["classifier_frechet_distance"]["value"] > 10 * real_distance

    noise = np.random.default_rng(0).integers(0, 256, test["image"].shape, dtype=np.uint8)
    noisy = judge(noise, test["label"], **known)
    assert noisy["label_agreement"]["value"] < 0.3
    assert noisy["classifier_frechet_distance"]["value"] > 10 * real_distance
