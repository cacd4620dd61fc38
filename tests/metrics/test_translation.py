import dataclasses

import numpy as np
import pytest

from ganjax.data.domains import luma
from ganjax.errors import UsageError
from ganjax.metrics import pixels
from ganjax.metrics.translation import (
    Held,
    as_channels,
    bootstrap,
    fit_colour_map,
    judge,
    mapped,
    of_label_maps,
    of_pairs,
    of_sets,
)

DRAW = np.random.default_rng(0)


def images(count=6, channels=3, size=12, low=-1.0, high=1.0):
    return DRAW.uniform(low, high, (count, size, size, channels)).astype(np.float32)


def held(inputs, targets):
    return Held("AtoB", inputs, targets, lambda: (inputs, targets))


def test_channels():
    colour = images(1)
    grey = as_channels(colour, 1)
    np.testing.assert_allclose(grey[..., 0], colour @ np.array([0.299, 0.587, 0.114]), atol=1e-6)
    np.testing.assert_array_equal(as_channels(grey, 3)[..., 2:], grey)
    alpha = np.where(colour[..., :1] < 0, np.float32(-1), np.float32(1))
    four = np.concatenate([colour, alpha], axis=-1)
    np.testing.assert_array_equal(as_channels(four, 3), np.where(alpha < 0, 1, colour))
    np.testing.assert_array_equal(as_channels(four, 1), luma(as_channels(four, 3)))


def test_an_affine_change_of_colours_is_found():
    inputs = images(low=-0.3, high=0.3)
    matrix, offset = DRAW.normal(size=(3, 2)).astype(np.float32) / 3, np.array([0.1, -0.2], np.float32)
    targets = inputs @ matrix + offset
    found = fit_colour_map(inputs, targets)
    np.testing.assert_allclose(found, np.concatenate([matrix, offset[None]]), atol=1e-5)
    np.testing.assert_allclose(mapped(inputs, found), targets, atol=1e-5)
    assert np.abs(mapped(inputs, 100 * found)).max() == 1
    flat = np.full((2, 4, 4, 3), 0.5, np.float32)  # of which no map is the only one
    for error in ("squared", "absolute"):
        np.testing.assert_allclose(mapped(flat, fit_colour_map(flat, flat, error)), flat, atol=1e-6)


def test_the_least_absolute_error_is_less_than_that_of_any_other_map():
    """Of drawings that agree in colour and differ in shape, where least squares gives up on the colours."""
    inputs = np.where(images(8, 1) < 0.5, np.float32(0.9), np.float32(-0.8)) * np.ones(3, np.float32)
    targets = np.where(images(8, 1) < 0.5, inputs, np.float32(0.9))

    def error_of(colour_map):
        return np.abs(mapped(inputs, colour_map) - targets).mean()

    least = fit_colour_map(inputs, targets, "absolute")
    squared = fit_colour_map(inputs, targets)
    identity = np.concatenate([np.eye(3), np.zeros((1, 3))])
    assert error_of(least) < error_of(squared) - 0.01
    assert error_of(least) <= error_of(identity) + 1e-3
    for _ in range(20):
        assert error_of(least) <= error_of(least + DRAW.normal(0, 0.05, least.shape)) + 1e-3


def test_the_bootstrap_interval():
    """Of normal values about 1.96 standard errors to either side."""
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = bootstrap(values)
    error = values.std() / 20
    assert (low, high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.03
    )


def test_the_interval_of_values_that_come_in_groups():
    """Copies add no certainty: the interval is that of one value a group, however many copies it has."""
    values = np.random.default_rng(1).normal(3, 2, 100)
    groups = [str(i) for i in range(100) for _ in range(9)]
    copies = np.repeat(values, 9)
    assert bootstrap(copies, groups) == pytest.approx(bootstrap(values), abs=0.03)
    low, high = bootstrap(copies)
    least, most = bootstrap(copies, groups)
    assert high - low < 0.5 * (most - least)
    unequal = np.concatenate([np.zeros(50), np.ones(2)])  # the mean is over values, not over groups
    low, high = bootstrap(unequal, ["a"] * 50 + ["b"] * 2)
    assert (low, high) == (0.0, 1.0)


def test_pairs_beside_their_baselines():
    inputs, targets = images(), images()
    outputs = 0.75 * targets + 0.25 * inputs
    found = of_pairs(held(inputs, targets), outputs, {})
    assert set(found) == {"l1", "psnr", "ssim"}
    distance = np.abs(inputs.astype(np.float64) - targets).mean()
    assert found["l1"]["identity"] == pytest.approx(distance)
    assert found["l1"]["value"] == pytest.approx(distance / 4, rel=1e-5)
    assert found["l1"]["than_identity"]["better_by"] == pytest.approx(0.75, rel=1e-4)
    assert found["l1"]["than_identity"]["high"] < 0 < found["psnr"]["than_identity"]["low"]
    error = np.mean((outputs - targets).astype(np.float64) ** 2, axis=(1, 2, 3))
    assert found["psnr"]["value"] == pytest.approx(np.mean(10 * np.log10(4 / error)), rel=1e-5)
    # The maps can't do worse than the identity where both are measured by what one of them is fitted to.
    assert found["psnr"]["colour_map"] > found["psnr"]["identity"]
    assert found["l1"]["colour_map"] < found["l1"]["identity"]
    assert found["l1"]["protocol"]["colour_map"] == "least absolute error"
    assert found["psnr"]["protocol"]["colour_map"] == "least squared error"
    assert found["l1"]["protocol"]["interval"] == "95 %, bootstrap over pairs"
    grouped = held(inputs, targets)
    grouped = dataclasses.replace(grouped, groups=["a", "a", "b", "c", "d", "e"])
    again = of_pairs(grouped, outputs, {})["l1"]
    assert again["protocol"]["interval"] == "95 %, bootstrap over 5 groups of pairs"
    assert again["than_identity"]["difference"] == found["l1"]["than_identity"]["difference"]
    assert again["than_identity"]["low"] != found["l1"]["than_identity"]["low"]


def test_similarity_is_that_of_the_images_in_their_files():
    """Of brighter ones and of negatives, where SSIM of values around 0 is another."""
    inputs = DRAW.integers(0, 256, (4, 12, 12, 3), np.uint8)
    targets = 255 - inputs

    def scaled(x):
        return (x / 127.5 - 1).astype(np.float32)

    found = of_pairs(held(scaled(inputs), scaled(targets)), scaled(inputs // 2), {}, ("ssim",))["ssim"]
    for key, images in (("value", inputs // 2), ("identity", inputs)):
        assert found[key] == pytest.approx(pixels.ssim(images, targets).mean(), abs=1e-6)
    assert found["protocol"]["values"] == "[0, 1]"


def test_a_perfect_translation_has_no_finite_psnr():
    inputs, targets = images(), images()
    found = of_pairs(held(inputs, targets), targets, {})
    assert found["psnr"]["value"] is None
    assert "than_identity" not in found["psnr"]
    assert found["l1"]["value"] == 0


def test_what_is_transparent_is_laid_over_white():
    """In inputs, outputs and targets: as if the images had been read without their alpha channel."""
    drawn, alpha = images(8), np.where(images(8, 1) < 0, np.float32(-1), np.float32(1))
    four = np.concatenate([drawn, alpha], axis=-1)
    seen = np.where(alpha < 0, np.float32(1), drawn)
    others, targets = images(8, 4), images(8)

    def measured(inputs, outputs, targets):
        each = held(inputs, targets)
        return of_pairs(each, outputs, {}) | of_sets(each, outputs, {})

    assert measured(four, targets[::-1], targets) == measured(seen, targets[::-1], targets)
    assert measured(targets, four, others) == measured(targets, seen, as_channels(others, 3))


def test_sets_beside_the_inputs():
    inputs, targets = images(12), images(20, low=0.5)
    outputs = images(12, low=0.5)
    found = of_sets(held(inputs, targets), outputs, {})
    assert set(found) == {"pixel_kernel_distance"}
    result = found["pixel_kernel_distance"]
    assert result["inputs"] > 1
    assert abs(result["value"]) < result["inputs"] / 20
    assert result["protocol"]["features"] == "8x8 pixels, no network"
    assert result["protocol"]["subset_size"] == 12
    assert result["than_inputs"]["high"] < 0
    assert 0.1 * result["inputs"] > result["inputs_std"] > 1e-3


@pytest.mark.parametrize("paired", [False, True])
def test_the_interval_of_the_distance_of_sets(paired):
    """Is as wide as such differences vary for other images of the same kind, and so is the standard error."""
    draw = np.random.default_rng(2)

    def other():
        inputs = draw.normal(0, 0.3, (40, 2, 2, 3)).clip(-1, 1)
        targets = (draw.normal(0.4, 0.2, (40, 2, 2, 3)) + (0.3 * inputs if paired else 0)).clip(-1, 1)
        each = dataclasses.replace(held(inputs, targets), **({} if paired else {"training": None}))
        return of_sets(each, 0.9 * inputs + 0.05, {})["pixel_kernel_distance"]

    found = [other() for _ in range(25)]
    differences = [each["than_inputs"]["difference"] for each in found]
    if not paired:
        for each in found:
            assert each["than_inputs"]["difference"] == pytest.approx(each["value"] - each["inputs"])
    assert found[0]["protocol"]["interval"] == f"95 %, bootstrap over {'pairs' if paired else 'images'}"
    widths = [(each["than_inputs"]["high"] - each["than_inputs"]["low"]) / 3.92 for each in found]
    assert np.mean(widths) == pytest.approx(np.std(differences), rel=0.4)
    for key in ("value", "inputs"):
        deviations = [each[f"{key}_std"] for each in found]
        assert np.mean(deviations) == pytest.approx(np.std([each[key] for each in found]), rel=0.4)


@pytest.mark.parametrize("grouped", [False, True])
def test_what_belongs_together_does_not_make_sets_alike(grouped):
    """Of three sets of one kind, the one that follows the targets pair by pair is no nearer as a set."""
    draw = np.random.default_rng(3)
    size, of = 60, np.arange(60) // (3 if grouped else 1)
    sure, differences, naive = 0, [], []
    for _ in range(12):
        alike = draw.normal(0, 0.3, (size, 2, 2, 1))[of]  # of a group, the same
        targets = alike + draw.normal(0, 0.1, (size, 2, 2, 1))
        outputs = alike + draw.normal(0, 0.1, (size, 2, 2, 1))
        inputs = draw.normal(0, 0.3, (size, 2, 2, 1))[of] + draw.normal(0, 0.1, (size, 2, 2, 1))
        each = dataclasses.replace(held(inputs, targets), groups=[str(i) for i in of] if grouped else None)
        result = of_sets(each, outputs, {})["pixel_kernel_distance"]
        sure += result["than_inputs"]["high"] < 0
        differences.append(result["than_inputs"]["difference"])
        naive.append(result["value"] - result["inputs"])
    assert sure <= 3
    assert abs(np.mean(differences)) < 2.5 * np.std(differences) / 12**0.5
    assert np.mean(naive) < -2.5 * np.std(naive) / 12**0.5  # which the difference of the values does not know


def test_the_same_names_in_two_domains_are_not_independent():
    draw = np.random.default_rng(4)
    inputs, targets = (draw.normal(0, 0.3, (12, 2, 2, 1)) for _ in range(2))
    names = [f"{i // 2}" for i in range(12)]
    each = Held("AtoB", inputs, targets, groups=names, target_groups=[*names[2:], "x", "y"])
    of, of_targets = each.units()
    assert [*of[:4], *of_targets[:2]] == [0, 0, 1, 1, 1, 1]
    assert len({*of, *of_targets}) == 8
    apart = dataclasses.replace(each, groups=None, target_groups=None).units()
    assert len({*apart[0], *apart[1]}) == 24
    found = of_sets(each, inputs, {})["pixel_kernel_distance"]
    assert found["protocol"]["interval"] == "95 %, bootstrap over 6 groups of images"
    assert found["than_inputs"] == {"difference": 0, "low": 0, "high": 0}


def test_few_pairs_have_no_interval():
    made = judge(
        lambda most: {"AtoB": held(images(4), images(4))},
        lambda most: None,
        ["AtoB"],
        paired=True,
        cycle=False,
    )
    found = of_pairs(held(images(4), images(4)), images(4), {}, ("l1",))
    assert "than_identity" not in found["l1"]
    assert made.verdict is not None
    better, worse = ({"l1": found["l1"] | {"identity": x, "colour_map": x}} for x in (9.0, 0.0))
    assert made.verdict(better) == []
    assert made.verdict(worse) == [
        "l1: it is not better than the input itself",
        "l1: it is not better than a change of colours",
    ]


def test_too_few_images_for_an_interval():
    result = of_sets(held(images(4), images(4)), images(4), {})["pixel_kernel_distance"]
    assert "than_inputs" not in result
    assert result["value_std"] is None
    groups = dataclasses.replace(held(images(), images()), groups=list("aabbcc"))
    assert "than_inputs" not in of_sets(groups, images(), {})["pixel_kernel_distance"]


def test_the_judge():
    inputs, targets = images(), images()
    made = judge(
        lambda most: {"AtoB": held(inputs[:most], targets[:most])},
        lambda most: None,
        ["AtoB"],
        paired=True,
        cycle=True,
    )
    assert made.metrics == ("l1", "psnr", "ssim", "lpips", "cycle_l1", "pixel_kernel_distance", "fid", "kid")
    assert made.networks == {"lpips": "lpips", "fid": "inception", "kid": "inception"}
    results = made.results({"AtoB": inputs, "AtoBtoA": inputs + 0.25}, None, {})
    assert results["cycle_l1"]["value"] == pytest.approx(0.25, rel=1e-5)
    assert made.verdict is not None
    against = made.verdict(results)
    assert [line.split(":")[0] for line in against].count("l1") == 2
    assert any("no nearer to the targets" in line for line in against)
    both = judge(lambda most: {}, lambda most: None, ["AtoB", "BtoA"], paired=False, cycle=True)
    assert "fid_BtoA" in both.metrics
    assert both.networks["kid_AtoB"] == "inception"


def test_the_judge_measures_what_is_asked_for(monkeypatch):
    """And says before anything is drawn what it can't measure of so few images."""
    inputs = images(1)
    few = judge(
        lambda most: {"AtoB": held(inputs, inputs)},
        lambda most: None,
        ["AtoB"],
        paired=True,
        cycle=False,
        counts=lambda: {"A": 1},
        size=(8, 12),
    )
    told = []
    assert few.of is not None
    rest = few.of((), 100, told.append)
    assert rest.metrics == ("l1", "psnr")
    assert told == [
        "pixel_kernel_distance, fid, kid: left out, for a set has at least 2 images, and 1 of those held out "
        "would be measured",
        "ssim: left out, for its window has 11x11 pixels, and images have 8x12",
        "lpips: left out, for its networks take images of 16x16 and more",
    ]
    assert set(rest.results({"AtoB": inputs}, None, {})) == {"l1", "psnr"}
    assert few.of(("l1",), 100, told.append).metrics == ("l1",)
    assert len(told) == 3
    with pytest.raises(UsageError, match=r"^--metrics=kid: a set has at least 2 images, and 1 of those"):
        few.of(("l1", "kid"), 100, told.append)

    def never(*arguments):
        raise AssertionError("it was not asked for")

    inputs = images()
    both = {direction: Held(direction, inputs, inputs) for direction in ("AtoB", "BtoA")}
    made = judge(lambda most: both, lambda most: None, list(both), paired=False, cycle=True)
    monkeypatch.setattr("ganjax.metrics.translation.of_sets", never)
    assert made.of is not None
    alone = made.of(("cycle_l1_BtoA",), 100, told.append)
    samples = {"AtoB": inputs, "BtoA": inputs, "AtoBtoA": inputs, "BtoAtoB": inputs + 0.5}
    found = alone.results(samples, None, {})
    assert {name: result["value"] for name, result in found.items()} == {"cycle_l1_BtoA": pytest.approx(0.5)}


def test_the_mean_over_directions_says_which_model_is_the_best():
    a, b = images(), images(low=0.5)
    both = {"AtoB": Held("AtoB", a, b), "BtoA": Held("BtoA", b, a)}
    made = judge(lambda most: both, lambda most: None, list(both), paired=False, cycle=True)
    assert next(iter(made.better)) == "kid"
    assert set(made.better) <= set(made.metrics)
    assert made.networks["kid"] == "inception"
    samples = {"AtoB": b[::-1], "BtoA": b, "AtoBtoA": a, "BtoAtoB": b}
    found = made.results(samples, None, {})
    name = "pixel_kernel_distance"
    assert found[name]["value"] == pytest.approx(
        (found[f"{name}_AtoB"]["value"] + found[f"{name}_BtoA"]["value"]) / 2
    )
    assert made.of is not None
    alone = made.of((name,), 100, print).results(samples, None, {})
    assert set(alone) == {name}
    assert alone[name]["value"] == found[name]["value"]
    pairs = judge(lambda most: {}, lambda most: None, ["AtoB"], paired=True, cycle=False)
    assert list(pairs.better) == ["lpips", "l1"]


def test_label_maps(monkeypatch):
    """A network stands in for the one that is trained, and finds the class in the photo's first channel."""

    class Found:
        identity = "abc"

        def classes(self, images):
            return np.minimum(images[..., 0] // 100, 1)

    trained = []

    def network(photos, classes, count):
        trained.append((photos, classes, count))
        return Found()

    monkeypatch.setattr("ganjax.metrics.segmentation.cached_segmenter", network)
    dark = (DRAW.random((6, 4, 4, 1)) < 0.75).repeat(4, axis=1).repeat(4, axis=2)
    maps = np.where(dark, np.array([-1, -1, 0], np.float32), np.array([1, 0, 0], np.float32))
    photos = np.where(dark, np.float32(-0.9), np.float32(0.9)) * np.ones(3, np.float32)
    outputs = photos.copy()
    outputs[0] = -photos[0]
    of_photos = Held("BtoA", maps, photos, lambda: (maps, photos))
    made = judge(
        lambda most: {"BtoA": of_photos},
        lambda most: None,
        ["BtoA"],
        paired=True,
        cycle=False,
        label_maps="B",
    )
    found = made.results({"BtoA": outputs}, None, {})
    assert set(made.metrics) - set(found) == {"lpips", "fid", "kid"}
    result = found["segmenter_pixel_accuracy"]
    assert (result["value"], result["real"]) == (pytest.approx(5 / 6), 1.0)
    assert result["protocol"]["colours"] == [[0, 0, 128], [255, 128, 128]]
    assert 0.6 < found["segmenter_class_iou"]["value"] < result["value"]
    np.testing.assert_array_equal(trained[0][1], ~dark[..., 0])

    of_maps = Held("AtoB", photos, maps, lambda: (photos, maps))
    drawn = maps.copy()
    drawn[:3] = maps[3:]
    agree = (dark[:3] == dark[3:]).mean()
    assert of_label_maps(of_maps, drawn, "B")["label_pixel_accuracy"]["value"] == pytest.approx(
        (agree + 1) / 2
    )
    noise = Held("BtoA", maps, photos, lambda: (images(size=48), photos))
    unmeasured = of_label_maps(noise, outputs, "B")["segmenter_class_iou"]
    assert unmeasured["value"] is None
    assert "areas of one colour" in unmeasured["protocol"]["not_measured"]
