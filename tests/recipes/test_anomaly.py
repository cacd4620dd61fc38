"""What the experiments that find anomalies show."""

import numpy as np
import pytest
from PIL import Image

from tests.recipes.tiny import built


@pytest.mark.parametrize(("share", "held"), [(0.01, 0), (0.25, 2)])
def test_ganomaly_shows_normal_images(tmp_path, share, held):
    """Held-out ones, and where there are none such as it learns from; the set's first is an anomaly."""
    for kind, brightness in (("bad", 200), ("good", 0)):
        for split in ("train", "test"):
            (tmp_path / split / kind).mkdir(parents=True)
            for i in range(8):
                image = np.full((8, 8), brightness + i, np.uint8)
                Image.fromarray(image).save(tmp_path / split / kind / f"{i}.png")
    settings = {"dataset": str(tmp_path), "image_size": 8, "normal": "good"}
    experiment = built("ganomaly_mnist", **settings, held_out=share, shown=5)
    source = experiment.stages[0].data
    assert len(source.held_out) == held
    some = source.dataset.read(source.held_out if held else source.places)["image"][:, 0, 0, 0]
    shown = np.round((experiment.show.conditions()["image"][:, 0, 0, 0] + 1) * 127.5)
    np.testing.assert_array_equal(shown, np.resize(some, 5))
