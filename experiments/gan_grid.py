"""Twenty-five Gaussians on a grid: a GAN should find all of them.

    python run.py --experiment=gan_grid

The grid of Srivastava et al. 2017, "VEEGAN", and Lin et al. 2018, "PacGAN": five by five modes of standard
deviation 0.05, two apart. Fully connected networks; harder to cover than the ring.
"""

import dataclasses

from ganjax.config import setting
from ganjax.data import plane
from ganjax.gan import Experiment
from ganjax.recipes.plane import PlaneRecipe


@dataclasses.dataclass(frozen=True)
class Config(PlaneRecipe):
    side: int = setting(5, "Gaussians to a side", minimum=1, maximum=100)
    spacing: float = setting(2.0, "between neighbours", above=0.0)
    std: float = setting(0.05, "standard deviation of a Gaussian", above=0.0)


TINY = {"batch_size": 8, "steps": 2, "latent_size": 4, "hidden": (8, 8)}


def build(config: Config, load=None) -> Experiment:
    del load  # the points are drawn as they are needed
    return config.on(plane.grid(config.side, config.spacing, config.std))
