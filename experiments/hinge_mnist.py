"""A GAN with the hinge loss on MNIST.

    python run.py --experiment=hinge_mnist

Lim & Ye 2017, "Geometric GAN", with the networks and the rates of dcgan_mnist.

Seed 0 on two CPU cores (Intel Xeon, Python 3.11.7, jax 0.10.2): 12 min 36 s, 430 images/s. By a classifier
of 99.30 % test accuracy: every class at least 8.2 % of 10,000 samples, mean confidence 0.949, diversity
1.00 of real images', Fréchet distance in the classifier's features 3.7 (real images 1.4). docs/gallery.md
has the pictures.
"""

import dataclasses

from ganjax import data
from ganjax.families.recipe import loss_setting
from ganjax.gan import Experiment
from ganjax.recipes.dcgan import DCGANRecipe


@dataclasses.dataclass(frozen=True)
class Config(DCGANRecipe):
    loss: str = loss_setting("hinge")


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
