"""Relativistic GANs on MNIST: real images should look more real than generated ones.

    python run.py --experiment=ragan_mnist

Jolicoeur-Martineau 2019, "The relativistic discriminator: a key element missing from standard GAN", against
the average image, with the networks and the rates of dcgan_mnist. Pair against pair, with the two gradient
penalties that make it converge (Huang et al. 2024, "The GAN is dead; long live the GAN! A modern baseline
GAN"), is

    python run.py --experiment=ragan_mnist --config.loss=relativistic_pairing --config.r1=1 --config.r2=1 \
        --config.discriminator_norm=none --workdir=runs/r3gan_mnist
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import loss_setting
from ganjax.gan import Experiment
from ganjax.recipes.dcgan import DCGANRecipe


@dataclasses.dataclass(frozen=True)
class Config(DCGANRecipe):
    loss: str = loss_setting("relativistic_average")
    steps: int = setting(3700, "batches to train on", minimum=1, maximum=2**31 - 1)


TINY = {
    "dataset": "random",
    "image_size": 16,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "width": 4,
    "hidden": 8,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
