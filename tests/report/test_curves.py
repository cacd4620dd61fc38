import io
import math
import sys

import numpy as np
import pytest
from PIL import Image

from ganjax.errors import RunError
from ganjax.report.curves import draw, metric_names, of_seeds, palette_png, panels, smoothed


def log(count: int = 100):
    draws = np.random.default_rng(0)
    return [
        {
            "step": 50 * i,
            "seconds": 1.0 * i,
            "images_per_second": None,
            "generator_loss": math.nan if i == 3 else 2 + draws.normal(),
            "discriminator_loss": 1 + draws.normal(),
            "real_logits": draws.normal(),
            "fake_logits": -draws.normal(),
            "accuracy": 0.5,
        }
        for i in range(1, count)
    ]


def opened(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.mode == "P"
        return np.asarray(picture.convert("RGB"))


def test_means_over_neighbours():
    values = np.array([1.0, 2.0, 6.0, 3.0])
    np.testing.assert_allclose(smoothed(values, 3), [1.5, 3, 11 / 3, 4.5])
    np.testing.assert_allclose(smoothed(values, 1), values)
    np.testing.assert_allclose(smoothed(values, 99), np.full(4, 3.0))
    np.testing.assert_allclose(smoothed(np.array([1.0, np.nan, 3.0]), 3), [1, 2, 3])
    assert np.isnan(smoothed(np.array([np.nan, np.nan, 1.0]), 1)[0])
    for window in (0, 2):
        with pytest.raises(ValueError, match=f"window={window}"):
            smoothed(values, window)


def test_what_goes_where():
    names = metric_names(log())
    assert names == ["accuracy", "discriminator_loss", "fake_logits", "generator_loss", "real_logits"]
    assert panels(names, ["accuracy", "real_logits"]) == {
        "losses": ["discriminator_loss", "generator_loss"],
        "logits": ["fake_logits", "real_logits"],
        "accuracy": ["accuracy"],
    }
    assert panels(["accuracy"]) == {}


def test_curves_are_small_pictures():
    pytest.importorskip("matplotlib")
    two, three = draw(log()), draw(log(), ["accuracy"], title="a run")
    assert max(len(two), len(three)) < 40_000
    assert opened(two).shape[1] == opened(three).shape[1] == 640
    assert opened(three).shape[0] > opened(two).shape[0]
    assert draw(log()) == two
    lines = log()
    lines[50]["real_logits"] += 5
    assert draw(lines) != two
    for color in ((31, 119, 180), (214, 73, 42)):
        near = np.abs(opened(two).astype(int) - color).sum(axis=-1) < 40
        assert near.sum() > 300


def test_one_line_is_enough():
    pytest.importorskip("matplotlib")
    assert (opened(draw(log(2))) != 255).any()


def test_what_no_picture_can_show_is_left_out():
    pytest.importorskip("matplotlib")
    lines = log()
    for place, value in {
        5: 10**400,
        6: 1e308,
        7: -1e308,
        8: math.inf,
        9: "text",
        10: True,
        11: [1.0],
    }.items():
        lines[place] = {**lines[place], "generator_loss": value}
    assert (opened(draw(lines)) != 255).any()
    assert (opened(draw([{"step": i, "a_loss": math.nan} for i in range(50)])) != 255).any()


def test_nothing_to_draw():
    for records in ([], [{"step": 1, "accuracy": 0.5}]):
        with pytest.raises(ValueError, match="nothing to draw"):
            draw(records)
    with pytest.raises(ValueError, match="there is no metric accurcy; choose from: accuracy, disc"):
        draw(log(), ["accurcy"])


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RunError, match=r"pip install 'ganjax\[plots\]'"):
        draw(log())


def test_a_palette():
    image = np.zeros((4, 5, 3), np.uint8)
    image[1, 2] = 200, 100, 0
    np.testing.assert_array_equal(opened(palette_png(image)), image)
    assert opened(palette_png(image[..., :1])).shape == (4, 5, 3)


def test_which_seeds_the_curves_are_of():
    assert of_seeds(3, 1) == "seed 3"
    assert of_seeds(2, 4) == "mean of seeds 2 to 5"
