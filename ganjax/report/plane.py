"""A picture of points against the modes of a mixture."""

import numpy as np
from PIL import Image, ImageDraw

from ganjax.data.plane import Mixture
from ganjax.gan import Show

SIZE = 512  # pixels
SHOWN = 2048  # samples to one picture, by default

_FINE = 2  # drawn so many times as large, then reduced: Pillow's circles have jagged edges
_BACKGROUND, _CIRCLE, _GOOD, _STRAY = (255, 255, 255), (90, 90, 90), (31, 119, 180), (214, 73, 40)


def draw(
    points: np.ndarray, centers: np.ndarray, std: float, *, within: float = 3.0, size: int = SIZE
) -> np.ndarray:
    """Points as dots, modes as circles of `within` standard deviations.

    Dots inside of a circle are blue, others orange; what lies outside of the picture is drawn at its edge.

    Args:
      points: finite [N, 2], x to the right, y upwards.
      centers: [K, 2], K >= 1.
      std: of each mode in both coordinates, above 0.
      within: in standard deviations.
      size: height and width in pixels, at least 16.
    Returns:
      uint8 [size, size, 3], of which a twelfth on each side lies outside of the outermost circles.
    Raises:
      ValueError: shapes do not fit, or values are out of range or not finite.
    """
    points, centers = np.asarray(points, np.float64), np.asarray(centers, np.float64)
    for name, array in (("points", points), ("centers", centers)):
        if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
            raise ValueError(f"draw: {name} {list(array.shape)}: expected finite [n, 2]")
    if not len(centers) or not std > 0 or not within > 0 or size < 16:
        raise ValueError(
            f"draw: {len(centers)} centers, std={std}, within={within}, size={size}: "
            "expected at least one, numbers above 0 and at least 16 pixels"
        )
    low, high = centers.min(axis=0), centers.max(axis=0)
    half = (float((high - low).max()) / 2 + within * std) * 1.2
    scale = size * _FINE / (2 * half)

    def place(x: np.ndarray) -> np.ndarray:
        """Pixels [n, 2] of the fine picture, from its upper left corner."""
        return ((x - (low + high)[None] / 2) * np.array([[1.0, -1.0]]) + half) * scale

    picture = Image.new("RGB", (size * _FINE, size * _FINE), _BACKGROUND)
    pen = ImageDraw.Draw(picture)
    distances = np.full(len(points), np.inf)
    for center in centers:
        distances = np.minimum(distances, np.hypot(*(points - center[None]).T))
    dot = max(1.5 * _FINE * size / SIZE, 1.0)
    dots = np.clip(place(points), 0, size * _FINE - 1)
    for good in (False, True):
        for x, y in dots[(distances <= within * std) == good]:
            pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=_GOOD if good else _STRAY)
    radius = max(within * std * scale, 2.0 * dot)  # on top, and never so small as to be hidden
    for x, y in place(centers):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_CIRCLE, width=_FINE)
    return np.asarray(picture.reduce(_FINE))


def show(mixture: Mixture, count: int = SHOWN) -> Show:
    """How an experiment on a mixture shows `count` samples: `Experiment(..., show=show(mixture))`."""

    def picture(samples: np.ndarray, columns: int) -> np.ndarray:
        del columns  # one picture for all
        return draw(mixture.points(samples), mixture.centers, mixture.std)

    return Show(count, 1, picture, compared=lambda samples: [samples])
