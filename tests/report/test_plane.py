import numpy as np
import pytest

from ganjax.data.plane import ring
from ganjax.report.plane import draw, show

CENTERS = np.array([[-1.0, -1.0], [1.0, 1.0]])
BLUE, ORANGE = np.array([31, 119, 180]), np.array([214, 73, 40])


def near(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Where, in [0, 1] from the left and from below, the picture has about this colour: [n, 2]."""
    rows, columns = np.nonzero(np.abs(picture.astype(int) - colour).sum(axis=-1) < 60)
    return np.stack([columns / picture.shape[1], 1 - rows / picture.shape[0]], axis=1)


def test_dots_are_where_the_points_are():
    picture = draw(np.array([[1.0, 1.0]]), CENTERS, 0.1, size=400)
    assert (picture.dtype, picture.shape) == (np.uint8, (400, 400, 3))
    half = (1 + 0.3) * 1.2
    found = near(picture, BLUE)
    assert len(found)
    np.testing.assert_allclose(found.mean(axis=0), (1 + half) / (2 * half), atol=0.01)
    assert not len(near(picture, ORANGE))


def test_strays_are_of_another_colour_and_never_out_of_sight():
    found = near(draw(np.array([[1.0, -1.0]]), CENTERS, 0.1), ORANGE)
    assert found[:, 0].mean() > 0.7
    assert found[:, 1].mean() < 0.3
    found = near(draw(np.array([[0.0, 1e30]]), CENTERS, 0.1), ORANGE)
    assert found[:, 1].min() > 0.98
    assert found[:, 0].mean() == pytest.approx(0.5, abs=0.01)


def test_modes_are_circles_even_where_nothing_is():
    empty = draw(np.zeros((0, 2)), CENTERS, 0.1)
    rows, columns = np.nonzero((empty != 255).any(axis=-1))
    place = np.stack([columns / 512, 1 - rows / 512], axis=1)
    centre = place[place[:, 0] > 0.5].mean(axis=0)
    half = (1 + 0.3) * 1.2
    np.testing.assert_allclose(centre, (1 + half) / (2 * half), atol=0.01)
    np.testing.assert_allclose(np.hypot(*(place[place[:, 0] > 0.5] - centre).T), 0.3 / (2 * half), atol=0.01)


def test_an_experiment_shows_points_in_the_mixtures_units():
    mixture = ring()
    shown = show(mixture, count=7)
    assert shown.count == 7
    picture = shown.picture(mixture.centers / mixture.scale, 3)
    np.testing.assert_array_equal(picture, draw(mixture.centers, mixture.centers, mixture.std))
    assert len(near(picture, BLUE))
    assert not len(near(picture, ORANGE))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": np.zeros((2, 3))}, r"points \[2, 3\]"),
        ({"points": np.array([[np.nan, 0.0]])}, "expected finite"),
        ({"centers": np.zeros((0, 2))}, "0 centers"),
        ({"std": 0.0}, r"std=0\.0"),
        ({"size": 8}, "size=8"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        draw(**({"points": np.zeros((1, 2)), "centers": CENTERS, "std": 1.0} | changes))
