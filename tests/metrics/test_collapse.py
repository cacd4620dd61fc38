import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics.collapse import Alarm, Measure, Rule, fixed_diversity, warnings
from ganjax.metrics.diversity import pairwise_distance

APART = "the images of the fixed latents are"
EARLY = [0.2, 9.0]  # an untrained network, then an overshoot


def history(diversities, accuracies=None, every=500):
    accuracies = [None] * len(diversities) if accuracies is None else accuracies
    return [
        Measure(every * i, diversity, accuracy)
        for i, (diversity, accuracy) in enumerate(zip(diversities, accuracies, strict=True))
    ]


def steps(found):
    return [step for step, _ in found]


def test_a_fall_is_told_once_and_names_the_step():
    found = warnings(history([*EARLY, 8, 8.2, 7.9, 3.9, 3.5, 3.8, 3.9]))
    assert found == [(2500, f"step 2500: collapse? {APART} 3.9 apart on average, 49% of the 8 before")]


def test_what_hovers_about_the_limit_is_told_once_and_a_second_fall_again():
    hovering = [*EARLY, 8, 8, 8, 3.9, 4.1, 3.9, 4.2, 5.5, 3.9]
    assert steps(warnings(history(hovering))) == [2500]
    # Over at 0.7 of what it was before the fall; the reference is not that of the fallen grids.
    assert steps(warnings(history([*hovering, 5.7, 4.1, 3.9, 3.0]))) == [2500, 6500]


def test_no_alarm_at_the_start():
    for start in ([9, 0, 3, 4, 5], [0, 0, 5, 5, 5], [0.1, 20, 5, 6, 5], [30, 25, 8, 8, 8]):
        assert warnings(history(start)) == []
    # Grids at every tenth step: all of them are the start.
    dense = [9, 8, 7, 1, 0.1, 0, 3, 4, 5]
    assert warnings(history(dense, every=10)) == []
    assert steps(warnings(history(dense, every=10), Rule(settle_steps=0, settle=0))) == [30, 50]
    # A discriminator that has seen nothing is at chance, and then soon always right.
    assert warnings(history([5] * 9, [0.5] * 4 + [1.0] * 5, every=50)) == []


def test_growth_noise_and_a_slow_drift_within_the_limit_are_no_alarm():
    draw = np.random.default_rng(0)
    noisy = (8 + draw.normal(size=300)).tolist()
    assert warnings(history([*EARLY, *noisy], [0.5, 0.5, *draw.normal(0.7, 0.05, 300).clip(0, 1)])) == []
    assert warnings(history([*EARLY, *np.linspace(1, 12, 50)])) == []
    # One grid that is far too diverse does not make the next ones a fall.
    assert warnings(history([*EARLY, 8, 8, 40, 8, 8])) == []
    # A slow fall is one in the end.
    assert len(warnings(history([*EARLY, *np.linspace(8, 1, 60)]))) == 1


def test_equal_images_are_told_whatever_came_before():
    found = warnings(history([0.3, 0.1, 0, 0, 0]))
    assert found == [(1000, "step 1000: collapse: the images of the fixed latents are 0 apart on average")]
    # After a fall it is worse news, and after a recovery news again.
    found = warnings(history([*EARLY, 8, 8, 3, 0, 0, 8, 0]))
    assert steps(found) == [2000, 2500, 4000]
    assert found[1][1].endswith("are 0 apart on average, 8 before")
    # A share of the real images' distance, for a run that was never diverse.
    assert steps(warnings(history([0.2, 0.3, 0.9, 0.8, 0.9]), Rule(least=1.0))) == [1000]
    assert steps(warnings(history([*EARLY, 8, 8, float("nan")]))) == [2000]


def test_a_discriminator_that_is_always_right_or_at_chance():
    count = 30
    always = warnings(history([8] * count, [1.0] * count))
    assert always == [
        (3000, "step 3000: the discriminator is nearly always right, at 5 grids on end (1.000)")
    ]
    chance = warnings(history([None] * count, [0.8] * 10 + [0.505] * 20))
    assert chance == [(7000, "step 7000: the discriminator is at chance, at 5 grids on end (0.505)")]
    # Not on end.
    assert warnings(history([8] * count, [1.0, 1.0, 1.0, 0.98, 1.0] * 6)) == []
    # A good model's discriminator strays around 0.5 by what a batch of 64 gives it.
    draw = np.random.default_rng(1)
    accuracies = draw.binomial(128, 0.5, 300) / 128
    assert warnings(history([8] * 300, accuracies)) == []
    # Once a spell, which is over when it has ceased for as long.
    spells = [0.9, 0.9] + [1.0] * 5 + [0.9] + [1.0] * 5 + [0.9] * 5 + [1.0] * 5
    assert steps(warnings(history([8] * len(spells), spells))) == [3000, 11000]


def test_both_at_once_are_one_line():
    found = warnings(history([*EARLY, 8, 8, 8, 8, 1], [0.9, 0.9, 1, 1, 1, 1, 1]))
    assert len(found) == 1
    assert "collapse?" in found[0][1]
    assert "nearly always right" in found[0][1]
    assert "\n" not in found[0][1]


def test_a_run_that_is_resumed_goes_on_from_its_history():
    measures = history([*EARLY, 8, 8, 8, 3, 3, 8, 8, 3, 3])
    alarm = Alarm()
    told = [alarm.update(measure) for measure in measures]
    for cut in range(len(measures)):
        resumed = Alarm()
        for measure in measures[:cut]:
            resumed.update(measure)
        assert [resumed.update(measure) for measure in measures[cut:]] == told[cut:]


def test_fixed_diversity_is_within_classes():
    images = np.random.default_rng(2).integers(0, 256, (7, 4, 4, 1), dtype=np.uint8)
    assert fixed_diversity(images) == pairwise_distance(images) / 4  # sixteen pixels
    labels = np.array([3, 3, 3, 1, 1, 0, 7])
    expected = (pairwise_distance(images[:3]) + pairwise_distance(images[3:5])) / 2 / 4
    assert fixed_diversity(images, labels) == pytest.approx(expected)
    assert fixed_diversity(images, np.arange(7)) == fixed_diversity(images)
    # One image of each class is a collapse.
    assert fixed_diversity(images[[0, 0, 5, 5]], np.array([0, 0, 1, 1])) == 0
    with pytest.raises(errors.UsageError, match="labels"):
        fixed_diversity(images, np.zeros(3, int))


def test_fixed_diversity_of_images_that_grow_stays_comparable():
    images = np.random.default_rng(2).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
    enlarged = images.repeat(2, axis=1).repeat(2, axis=2)
    assert fixed_diversity(enlarged) == pytest.approx(fixed_diversity(images))
    noise = np.array([0, 255], np.uint8)[:, None, None, None].repeat(4, 1).repeat(8, 2)
    assert fixed_diversity(noise) == 1.0  # black and white


@pytest.mark.parametrize(
    "settings",
    [{"fall": 0.8}, {"recovery": 1.1}, {"settle": -1}, {"patience": 0}, {"accurate": 0.4}, {"least": -1}],
)
def test_rules_that_make_no_sense(settings):
    with pytest.raises(errors.UsageError, match=f"{next(iter(settings))}="):
        Rule(**settings)
