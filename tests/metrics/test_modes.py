import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.data.plane import grid, ring
from ganjax.errors import UsageError
from ganjax.gan import Context
from ganjax.metrics.modes import METRICS, judge, mode_coverage, verdict

CENTERS = np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]])


def values(results):
    return {name: result["value"] for name, result in results.items()}


def test_by_hand():
    samples = np.array([[0, 0], [0, 2.9], [0, 3.1], [10, 0], [10, 1], [10, -1], [3, 9], [11, 11]])
    results = mode_coverage(samples, CENTERS, std=1.0)
    assert json.loads(json.dumps(results)) == results
    reached = results["modes_reached"]
    assert (reached["value"], reached["modes"], reached["share"]) == (3, 4, 0.75)
    assert reached["missed"] == [2]  # (3, 9) is nearest to it, and sqrt(10) away
    assert reached["half_filled"] == 3  # half of an equal share of eight samples is one
    good = [2, 3, 0, 1]
    assert results["good_samples"]["value"] == 6 / 8
    assert results["good_samples"]["real"] == pytest.approx(0.98889, abs=1e-5)
    assert results["mode_shares"]["value"] == [n / 6 for n in good]
    expected = sum(n / 6 * math.log(n / 6 * 4) for n in good if n)
    assert results["mode_kl"]["value"] == pytest.approx(expected)
    assert mode_coverage(samples, CENTERS, 1.0, at_least=2)["modes_reached"]["value"] == 2
    assert mode_coverage(samples, CENTERS, 1.0, within=3.2)["good_samples"]["value"] == 1
    for result in results.values():
        assert {"samples": 8, "std": 1.0, "within": 3.0}.items() <= result["protocol"].items()


def test_labels():
    labels = np.array([0, 1, 2, 2])
    results = mode_coverage(CENTERS, CENTERS, 1.0, labels=labels)
    assert results["label_agreement"]["value"] == 0.75
    assert set(results) == set(METRICS)


def test_collapse_and_nothing_good():
    one = mode_coverage(np.zeros((100, 2)), CENTERS, 1.0)
    assert one["modes_reached"]["value"] == 1
    assert one["mode_kl"]["value"] == pytest.approx(math.log(4))
    assert len(verdict(one)) == 2
    # A blob between all modes is near to all of them, and reaches none.
    none = mode_coverage(
        np.full((100, 2), 5.0) + np.random.default_rng(0).normal(size=(100, 2)), CENTERS, 1.0
    )
    assert values(none) == {
        "modes_reached": 0,
        "good_samples": 0,
        "mode_shares": [0, 0, 0, 0],
        "mode_kl": math.log(4),
    }
    assert [line.split(":")[0] for line in verdict(none)] == ["modes_reached", "good_samples", "mode_kl"]


@pytest.mark.parametrize("mixture", [ring(), grid(conditional=True)], ids=["ring", "grid"])
def test_the_mixture_itself_passes(mixture):
    modes = mixture.indices(0, 0, 10_000)
    context = Context(jax.random.key(1), jnp.arange(10_000, dtype=jnp.int32))
    samples = np.asarray(mixture.transform(mixture.read(modes), context)["image"])
    judged = judge(mixture)
    results = judged.results(samples, modes if mixture.num_classes else None)
    assert set(results) == set(judged.metrics)
    assert judged.verdict is not None
    assert judged.verdict(results) == []
    reached = results["modes_reached"]
    assert reached["value"] == reached["half_filled"] == len(mixture.centers)
    assert results["good_samples"]["value"] == pytest.approx(results["good_samples"]["real"], abs=0.005)
    assert results["mode_kl"]["value"] < 0.01
    assert results["mode_kl"]["protocol"]["mixture"] == mixture.name


def test_the_verdict_names_figure_value_and_bar():
    samples = np.concatenate([CENTERS[[0, 1, 2]].repeat(30, axis=0), np.full((10, 2), 5.0)])
    results = mode_coverage(samples, CENTERS, 1.0, labels=np.zeros(100, int))
    assert verdict(results) == [
        "modes_reached: 3 of 4, expected 100% of them",
        "mode_kl: 0.2877, expected at most 0.1",
        "label_agreement: 0.4000, expected at least 0.98",
    ]
    assert verdict(results, bars={"modes_reached": 0.75, "good_samples": 0.95}) == [
        "good_samples: 0.9000, expected at least 0.95"
    ]
    assert verdict({"mode_shares": results["mode_shares"]}) == []
    with pytest.raises(ValueError, match="there is no bar for mode_shares"):
        verdict(results, bars={"mode_shares": 1.0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": np.zeros((2, 3))}, r"samples: expected points \[n, 2\]"),
        ({"samples": np.zeros((0, 2))}, "at least one"),
        ({"samples": np.array([[0.0, np.nan]])}, "samples: 1 coordinates are not finite"),
        ({"centers": np.zeros(2)}, "centers: expected points"),
        ({"std": 0.0}, r"std=0\.0"),
        ({"within": float("nan")}, "within=nan"),
        ({"at_least": 0}, "at_least=0"),
        ({"labels": np.zeros(3, int)}, "labels: expected 1 integers"),
        ({"labels": np.array([4])}, "expected 0 to 3, found 4"),
    ],
)
def test_refusals(changes, message):
    arguments = {"samples": np.zeros((1, 2)), "centers": CENTERS, "std": 1.0} | changes
    with pytest.raises(UsageError, match=message):
        mode_coverage(**arguments)
