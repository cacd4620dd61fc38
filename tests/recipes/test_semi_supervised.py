"""What the experiments that learn from few labels make of their settings."""

from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from ganjax import augment, data, random
from ganjax.loop import abstract_state
from ganjax.recipes import semi_supervised as recipe
from tests.recipes.tiny import built

STILL = {"shift": 0, "turn": 0.0, "stretch": 0.0, "elastic": 0.0}
QUIET = STILL | {"input_noise": 0.0, "noise": 0.0, "consistency_average_from": None}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("semi_supervised_mnist", {"shift": 8}, "shift=8: expected less than the images' 8x8"),
        (
            "semi_supervised_mnist",
            QUIET | {"consistency": 1.0},
            "does nothing with shift, turn, stretch, elastic, input_noise",
        ),
        (
            "semi_supervised_mnist",
            {"consistency_average_from": 9, "consistency": 0.0},
            "consistency_average_from=9: expected 3000, as it does nothing with consistency=0",
        ),
        (
            "semi_supervised_mnist",
            {"consistency": 1.0, "consistency_average_from": 9, "ema_decay": 0.0},
            "consistency_average_from=9: expected 3000, as it does nothing with ema_decay=0",
        ),
        (
            "semi_supervised_rotation_mnist",
            {"stretch": 0.1},
            "stretch=0.1: expected 0, as the angle is what is learned",
        ),
        (
            "semi_supervised_rotation_mnist",
            {"elastic": 1.0},
            "elastic=1: expected 0, as the angle is what is learned",
        ),
        (
            "semi_supervised_rotation_mnist",
            {"angle_consistency": 0.0, "angle_bound": 9.0},
            "angle_bound=9.0: expected 6.0, as it does nothing with angle_consistency=0",
        ),
        (
            "semi_supervised_rotation_mnist",
            {"classify": False, "consistency": 9.0},
            "consistency=9.0: expected 3.0, as it does nothing with classify=false",
        ),
        (
            "semi_supervised_rotation_mnist",
            {"turn": 0.0},
            "prior=0.5: expected 0 with turn=0, as it would but make angles smaller",
        ),
        (
            "semi_supervised_rotation_mnist",
            {"angle_consistency": 0.0, "prior": 1.0},
            "prior=1: expected 0 with angle_consistency=0",
        ),
        (
            "semi_supervised_rotation_mnist",
            {"classify": False, "angle_consistency": 0.0, "prior": 0.0, "consistency_average_from": 9},
            "expected None, as it does nothing with angle_consistency=0 and classify=false",
        ),
        (
            "semi_supervised_rotation_mnist",
            {"shift": 0, "turn": 0.0, "prior": 0.0, "angle_bound": 9.0},
            "angle_bound=9.0: expected 6.0, as it does nothing with shift, turn",
        ),
        (
            "semi_supervised_rotation_mnist",
            {"shift": 0, "turn": 0.0, "angle_consistency": 9.0},
            "angle_consistency=9.0: expected 50.0, as it does nothing with shift, turn",
        ),
        (
            "semi_supervised_mnist",
            QUIET | {"consistency_average_from": 3000, "ema_decay": 0.0, "consistency": 1.0},
            "does nothing with shift, turn, stretch, elastic, input_noise",
        ),
        (
            "semi_supervised_cifar10",
            {"input_dropout": 0.0, "dropout": 0.0, "consistency": 1.0},
            "does nothing with shift, turn, stretch, elastic, input_dropout",
        ),
    ],
)
def test_what_does_not_fit(name, changes, message):
    with pytest.raises(ValueError, match=message):
        built(name, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"decay_start": 0.8, "baseline_steps": 2, "steps": 10},
        {"decay_start": 0.99, "steps": 30},
        {"decay_start": 0.5, "steps": 1},
        {"decay_start": 0.99, "steps": 1},
    ],
)
def test_few_steps_leave_none_on_which_the_rate_falls(changes):
    built("semi_supervised_mnist", **changes)


@pytest.mark.parametrize("name", ["semi_supervised_mnist", "augmentation_mnist", "anomaly_mnist"])
def test_test_images_of_another_size(tmp_path, name):
    labels = np.arange(20) % 10
    grey, coloured = (np.zeros((20, 8, 8, channels), np.uint8) for channels in (1, 3))
    path = str(tmp_path / "images.npz")
    np.savez(path, image=grey, image_test=coloured, label=labels, label_test=labels)
    few = {"labels_per_class": 1} if name.startswith("semi") else {}
    few |= {"images_per_class": 1} if name.startswith("aug") else {}
    with pytest.raises(ValueError, match="train has images of 8x8x1 and test of 8x8x3, expected one size"):
        built(name, dataset=path, **few)


def test_no_image_of_the_test_split_is_learned_from(tmp_path):
    for place in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / place).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / place / f"{i}.png")
    folder = {"dataset": str(tmp_path), "image_size": 8, "labels_per_class": 1}
    built("semi_supervised_mnist", **folder)
    for split in ("test", "validation"):  # both are what lies in val
        with pytest.raises(ValueError, match="which is not trained on"):
            built("semi_supervised_mnist", **folder, unlabelled_split=split)
    for place in ("test/a", "test/b"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / place / "0.png")
    built("semi_supervised_mnist", **folder, unlabelled_split="validation")


@pytest.mark.parametrize("name", ["semi_supervised_mnist", "semi_supervised_cifar10"])
def test_shift_and_consistency_reach_the_family(name, monkeypatch):
    given: dict[str, Any] = {}
    family = recipe.family.semi_supervised

    def recorded(*networks, **options):
        given.update(options)
        return family(*networks, **options)

    monkeypatch.setattr(recipe.family, "semi_supervised", recorded)
    built(name, **STILL, consistency=0.0)
    assert (given["augment"], given["consistency_weight"]) == (None, 0)
    alone = STILL | {"consistency_average_from": None, "consistency": 3.0}
    abstract_state(built(name, **alone | {"shift": 2}), 0)
    assert (given["consistency_weight"], given["consistency_average_from"]) == (3, None)
    images = data.to_float(jax.numpy.arange(256, dtype="uint8").reshape(1, 16, 16, 1))
    moved = given["augment"](images.repeat(40, 0), random.from_seeds(jax.numpy.arange(40)))
    centres = {float(image[8, 8, 0]) for image in moved}
    assert len(centres) > 10  # of 25 places
    inner = {float(x) for x in images[0, 6:11, 6:11, 0].ravel()}
    assert centres <= inner  # by two pixels at most, and no mirror image
    moves = {"turn": 10.0, "stretch": 0.2, "shift": 1, "elastic": 0.5}
    built(name, **moves, consistency=1.0, consistency_average_from=7)
    assert given["consistency_average_from"] == 7
    turned = np.asarray(given["augment"](images.repeat(40, 0), random.from_seeds(jax.numpy.arange(40))))
    alone = augment.distort(10.0, 0.2, 0.5)(images.repeat(40, 0), random.from_seeds(jax.numpy.arange(40)))
    moved = [
        np.abs(np.asarray(one)[1:-1, 1:-1] - other[1:-1, 1:-1]).max()
        for one, other in zip(alone, turned, strict=True)
    ]
    assert 0 < sum(difference == 0 for difference in moved) < 20  # of nine places one is where it was
    if name == "semi_supervised_mnist":
        built("semi_supervised_rotation_mnist", turn=10.0, shift=1, degrees=50.0)
        keys = random.from_seeds(jax.numpy.arange(40))
        moved, change = given["augment"](images.repeat(40, 0), keys)
        told = augment.distort_and_tell(10.0)(images.repeat(40, 0), keys)[1]
        np.testing.assert_allclose(change, np.asarray(told)[:, None] / 50, rtol=1e-6)
        assert moved.shape == (40, 16, 16, 1)
        built("semi_supervised_rotation_mnist", degrees=50.0, consistency=0, angle_bound=5.0, prior=2.0)
        wanted = {"consistency_weight": 0, "target_consistency_weight": 50.0, "prior_weight": 2.0}
        assert wanted | {"target_consistency_bound": 0.1} == {
            name: given[name] for name in (*wanted, "target_consistency_bound")
        }
        assert np.abs(change).max() > 0.1
