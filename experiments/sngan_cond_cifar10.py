"""SNGAN on CIFAR-10 with a projection discriminator: pictures of a class that you choose.

    python run.py --experiment=sngan_cond_cifar10

Miyato & Koyama 2018, "cGANs with projection discriminator": the networks and the training of sngan_cifar10,
with scales and shifts for each class in the generator's batch norms, and the label's embedding projected on
the discriminator's features. `--config.conditioning=auxiliary` makes it an AC-GAN (Odena et al. 2017),
`--config.conditioning=concatenation` gives the discriminator the label as a channel beside the image's
(Mirza & Osindero 2014). A step here is one of the discriminator, five of which go to one of the generator.
"""

import dataclasses
from typing import Literal

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import schedule_setting
from ganjax.gan import Experiment
from ganjax.recipes.residual import ResidualRecipe


@dataclasses.dataclass(frozen=True)
class Config(ResidualRecipe):
    dataset: str = setting("cifar10", "a TFDS name, or a path to class folders or an .npz; it needs labels")
    image_size: int | tuple[int, int] | None = setting(
        32, "height and width: 28, 32, 64, 128 or 256", minimum=1, maximum=4096
    )
    steps: int = setting(500000, "batches to train on", minimum=1, maximum=2**31 - 1)
    schedule: str = schedule_setting("linear")
    decay_start: float = setting(
        0.0, "share of the steps after which the rates fall", minimum=0.0, maximum=1.0
    )
    discriminator_steps: int = setting(5, "steps of the discriminator to one of the generator", minimum=1)
    discriminator_width: int = setting(32, "channels, by the plan's multiples", minimum=1, maximum=4096)
    spectral_generator: bool = setting(False, "the generator is spectrally normalised too")
    initialiser: Literal["glorot", "glorot_sqrt2", "orthogonal"] = setting(
        "glorot_sqrt2", "of kernels; glorot_sqrt2: in blocks, but for shortcuts, times sqrt(2)"
    )


TINY = {
    "dataset": "random",
    "image_size": 32,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "generator_width": 1,
    "discriminator_width": 1,
    "discriminator_steps": 2,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
