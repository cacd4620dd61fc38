"""Pictures of a run that grows keep their size, and so does what lies where in them."""

import numpy as np

from ganjax.cli import workdir
from ganjax.recipes.growing import ProgressiveRecipe
from ganjax.report.images import sheet


def test_grids_of_all_stages_have_one_size():
    config = ProgressiveRecipe(
        dataset="random", image_size=16, batch_size=4, steps=20, fade_images=4, hold_images=4, latent_size=3
    )
    picture = workdir.picture_of(config.build())
    draw = np.random.default_rng(0)
    small = draw.uniform(-1, 1, (6, 4, 4, 1)).astype(np.float32)
    large = draw.uniform(-1, 1, (6, 16, 16, 1)).astype(np.float32)
    assert picture(small, 3).shape == picture(large, 3).shape
    np.testing.assert_array_equal(picture(small, 3), sheet(small.repeat(4, 1).repeat(4, 2), 3))
    np.testing.assert_array_equal(picture(large, 3), sheet(large, 3))
