import numpy as np
import pytest

from ganjax.report.translation import rows


def test_an_example_is_a_row():
    images = [np.full((2, 50, 50, c), x, np.float32) for c, x in ((1, -1.0), (3, 0.0), (4, 1.0))]
    sheet = rows(images)
    assert sheet.shape == (2 * 52 + 2, 3 * 52 + 2, 3)
    assert [sheet[10, 10 + 52 * i].tolist() for i in range(3)] == [[0] * 3, [128] * 3, [255] * 3]
    assert rows(images, columns=2).shape == (52 + 2, 6 * 52 + 2, 3)


def test_what_is_no_row():
    with pytest.raises(ValueError, match="as many images of one size"):
        rows([np.zeros((2, 4, 4, 3), np.float32), np.zeros((1, 4, 4, 3), np.float32)])
    with pytest.raises(ValueError, match="as many images of one size"):
        rows([])
