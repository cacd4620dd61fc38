"""Twenty-five Gaussians on a grid: a GAN should find all of them.

    python run.py --experiment=gan_grid

The grid of Srivastava et al. 2017, "VEEGAN", and Lin et al. 2018, "PacGAN": five by five modes of standard
deviation 0.05, two apart. Fully connected networks; harder to cover than the ring.
"""

import dataclasses
from typing import Literal

from ganjax.config import setting
from ganjax.data import plane
from ganjax.families.recipe import Recipe, off
from ganjax.gan import Experiment
from ganjax.metrics import modes
from ganjax.nets.mlp import MLPDiscriminator, MLPGenerator
from ganjax.report import plane as pictures


@dataclasses.dataclass(frozen=True)
class Config(Recipe):
    side: int = setting(5, "Gaussians to a side", minimum=1, maximum=100)
    spacing: float = setting(2.0, "between neighbours", above=0.0)
    std: float = setting(0.05, "standard deviation of a Gaussian", above=0.0)
    batch_size: int = setting(256, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(12_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(16, "entries of a latent", minimum=1, maximum=65_536)
    hidden: tuple[int, ...] = setting((128, 128, 128), "units of both players' layers", minimum=1)
    generator_learning_rate: float = setting(1e-3, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(2e-3, "of the discriminator", above=0.0)
    schedule: Literal["constant", "linear", "cosine", "exponential"] = setting(
        "linear", "how both rates fall from decay_start on; exponential: to a hundredth"
    )
    decay_start: float = setting(
        0.3, "share of the steps after which the rates fall", minimum=0.0, maximum=1.0
    )
    r1: float = setting(0.1, "gamma of the gradient penalty at real points; 0: off", minimum=0.0)
    generator_dropout: float = off("dropout in the generator, also in sampling", below=1.0)
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )


TINY = {"batch_size": 8, "steps": 2, "latent_size": 4, "hidden": (8, 8)}


def build(config: Config, load=None) -> Experiment:
    del load  # the points are drawn as they are needed
    mixture = plane.grid(config.side, config.spacing, config.std)
    generator = MLPGenerator(
        mixture.image_shape,
        hidden=config.hidden,
        activation="relu",
        dropout=config.generator_dropout,
        bounded=False,
        dtype=config.compute_dtype,
    )
    discriminator = MLPDiscriminator(
        hidden=config.hidden,
        dropout=config.discriminator_dropout,
        minibatch_discrimination=config.minibatch_discrimination,
        dtype=config.compute_dtype,
    )
    return config.experiment(
        mixture, generator, discriminator, show=pictures.show(mixture), judge=modes.judge(mixture)
    )
