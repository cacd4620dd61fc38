import numpy as np
import pytest

from ganjax.report.attention import attention_sheet


def test_a_row_an_image_and_where_its_queries_look():
    images = np.zeros((2, 8, 8, 1), np.float32)
    weights = np.zeros((2, 4, 4, 2, 2), np.float32)
    weights[:, 3, 0, 0, 1] = 0.8  # the query of pixels 6-7, 0-1 looks to the upper right
    weights[:, 3, 0, 1, 0] = 0.2
    weights[:, 0, 0, 1, 1] = 1.0
    sheet = attention_sheet(images, weights, [(7, 1), (0, 0)])
    height, width, channels = sheet.shape
    assert channels == 3
    cell = (width - 2) // 3
    assert height == 2 * cell + 2

    def at(row, column):
        """An image's cells in pixels of the image."""
        top, left = row * cell + 2, column * cell + 2
        scale = (cell - 2) // 8
        return sheet[top : top + cell - 2 : scale, left : left + cell - 2 : scale].astype(int)

    for row in (0, 1):
        image, first, second = (at(row, column) for column in range(3))
        assert image[7, 1].tolist() == image[0, 0].tolist() == [60, 220, 60]  # marked
        assert (image[1:7, 2:] == 128).all()
        np.testing.assert_array_equal(first[0, 5], [255, 120, 0])  # the largest weight
        np.testing.assert_array_equal(first[0, 2], [64, 64, 64])  # none: the image in grey
        # A quarter of the largest, by hand: 64 * 0.75 + (255, 120, 0) * 0.25.
        np.testing.assert_allclose(first[5, 2], [112, 78, 48], atol=1)
        np.testing.assert_array_equal(second[6, 6], [255, 120, 0])


@pytest.mark.parametrize(
    ("queries", "message"), [([(8, 0)], "8x0: expected a row from 0 to 7"), ([], "none")]
)
def test_queries_outside_are_refused(queries, message):
    with pytest.raises(ValueError, match=message):
        attention_sheet(np.zeros((1, 8, 8, 1)), np.zeros((1, 4, 4, 2, 2)), queries)
