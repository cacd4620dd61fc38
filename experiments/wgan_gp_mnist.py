"""WGAN-GP on MNIST: a critic whose gradient is kept near 1.

    python run.py --experiment=wgan_gp_mnist

Gulrajani et al. 2017, "Improved training of Wasserstein GANs": gradient penalty of weight 10, no batch
normalisation in the critic, five critic steps to one of the generator, Adam with betas of 0 and 0.9. The
paper's rate of 1e-4 is for days of training; here it is 5e-4, and falls in the second half. The networks
are those of dcgan_mnist, with narrower dense layers. A step here is one of the critic.
"""

import dataclasses
from typing import Literal

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import loss_setting
from ganjax.gan import Experiment
from ganjax.recipes.dcgan import DCGANRecipe


@dataclasses.dataclass(frozen=True)
class Config(DCGANRecipe):
    loss: str = loss_setting("wasserstein")
    steps: int = setting(10000, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float = setting(5e-4, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(5e-4, "of the critic", above=0.0)
    beta1: float = setting(0.0, "of Adam", minimum=0.0, below=1.0)
    beta2: float = setting(0.9, "of Adam", minimum=0.0, below=1.0)
    discriminator_steps: int = setting(5, "steps of the critic to one of the generator", minimum=1)
    gradient_penalty: float = setting(10.0, "weight of the gradient penalty; 0: off", minimum=0.0)
    hidden: int = setting(256, "units of a dense layer next to the smallest maps; 0: without", minimum=0)
    discriminator_norm: Literal["batch", "layer", "none"] = setting("none", "in the discriminator")


TINY = {
    "dataset": "random",
    "image_size": 16,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "width": 4,
    "discriminator_steps": 2,
    "hidden": 8,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
