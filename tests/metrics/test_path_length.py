import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics.path_length import perceptual_path_length, spherical
from ganjax.sampling import slerp


def squared(a, b):
    return np.sum((np.asarray(a, np.float64) - b) ** 2, axis=1)


def test_straight_lines_of_a_linear_generator_have_their_own_length():
    # |A (end - start)|^2, wherever the step is; float32 latents leave a few digits of a step of 1/16.
    draw = np.random.default_rng(0)
    starts, ends = draw.normal(size=(2, 50, 3))
    matrix = draw.normal(size=(3, 5))
    expected = squared(starts @ matrix, ends @ matrix)
    calls = []

    def generate(latents):
        calls.append(latents.shape)
        assert latents.dtype == np.float32
        return latents @ matrix

    for sampling in ("full", "end"):
        found = perceptual_path_length(
            generate, squared, starts, ends, space="w", sampling=sampling, epsilon=1 / 16, reject=0, batch=8
        )
        assert found.value == pytest.approx(expected.mean(), rel=1e-4)
        assert found.std_error == pytest.approx(expected.std(ddof=1) / np.sqrt(50), rel=1e-3)
        assert found.kept == 50
    assert set(calls) == {(8, 3)}
    # The least and the greatest are left out: of 50, the fifth part at either end.
    ranked = np.sort(expected)
    trimmed = perceptual_path_length(
        generate, squared, starts, ends, space="w", epsilon=1 / 16, reject=10 / 49
    )
    assert trimmed.value == pytest.approx(ranked[10:40].mean(), rel=1e-4)
    assert trimmed.kept == 30


def test_on_a_circle_a_path_has_the_squared_angle():
    starts, ends = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.0], [2.0, 0.0]])
    found = perceptual_path_length(lambda z: z, squared, starts, ends, epsilon=0.01, reject=0)
    assert found.value == pytest.approx((1 + 4) / 2 * (np.pi / 2) ** 2, rel=1e-3)


def test_spherical_interpolation_is_that_of_one_pair_at_a_time():
    draw = np.random.default_rng(1)
    starts, ends = draw.normal(size=(2, 6, 4))
    ends[1], ends[2], ends[3] = starts[1] * 3, -starts[2], 0
    t = draw.uniform(size=6)
    expected = [slerp(a, b, np.array([at]))[0] for a, b, at in zip(starts, ends, t, strict=True)]
    np.testing.assert_allclose(spherical(starts, ends, t), expected, rtol=1e-5, atol=1e-6)


def test_where_the_steps_are_and_which_labels_they_have():
    starts, ends = np.zeros((5, 1)), np.ones((5, 1))
    seen = []

    def generate(latents, labels):
        seen.append((latents[:, 0].copy(), labels.copy()))
        return latents

    labels = np.array([3, 1, 4, 1, 5])
    options = {"space": "w", "labels": labels, "batch": 4, "reject": 0, "epsilon": 0.25}
    perceptual_path_length(generate, squared, starts, ends, sampling="end", **options)
    np.testing.assert_allclose([at[0] for at, _ in seen], [0, 0.25, 0, 0.25])
    for at in range(2):
        np.testing.assert_array_equal(seen[at][1], [3, 1, 4, 1])
        np.testing.assert_array_equal(seen[2 + at][1], [5, 5, 5, 5])
    seen.clear()
    first = perceptual_path_length(generate, squared, starts, ends, **options)
    assert len(set(seen[0][0].tolist())) == 4
    np.testing.assert_allclose(seen[1][0] - seen[0][0], 0.25, rtol=1e-6)
    assert first == perceptual_path_length(generate, squared, starts, ends, **options)


def test_refusals():
    two = np.zeros((2, 3))
    for arguments, message in (
        ({"ends": np.zeros((2, 4))}, r"starts and ends \[N, Z\]"),
        ({"space": "v"}, "space='v': expected z or w"),
        ({"sampling": "begin"}, "sampling='begin': expected full or end"),
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"reject": 0.5}, "reject=0.5"),
        ({"labels": np.zeros(3)}, r"labels: expected the shape \(2,\)"),
        ({"distance": lambda a, b: 0.0}, "one value a pair"),
    ):
        settings = {"generate": lambda z: z, "distance": squared, "starts": two, "ends": two, **arguments}
        with pytest.raises(errors.UsageError, match=message):
            perceptual_path_length(**settings)
    with pytest.raises(errors.RunError, match="NaN"):
        perceptual_path_length(lambda z: z * np.nan, squared, two, two)
