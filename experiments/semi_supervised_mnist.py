"""A classifier of MNIST that learns from 100 labels and 60,000 images without.

    python run.py --experiment=semi_supervised_mnist
    python run.py --workdir=runs/semi_supervised_mnist-seed0 --mode=evaluate

Salimans et al. 2016, "Improved techniques for training GANs", section 5.1: the discriminator is the
classifier, with weight normalisation and noise, and the generator matches its features. The paper's is of
dense layers and has a test error of 0.93 % after 300 epochs (180,000 steps); here are 40, with a rate that
falls to 0. `--config.network=convolutions` is another one. The labelled digits are balanced and chosen by the
seed. Beside it the same network learns from the labels alone.

    python run.py --workdir=runs/semi_supervised_mnist-seed0 --mode=classify --input=digits
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.semi_supervised import NoisyRecipe


@dataclasses.dataclass(frozen=True)
class Config(NoisyRecipe):
    steps: int = setting(24_000, "batches to train on", minimum=1, maximum=2**31 - 1)


TINY = {"dataset": "random", "image_size": 8, "labels_per_class": 2, "batch_size": 8, "steps": 2}
TINY |= {"latent_size": 4, "hidden": (8, 8), "generator_hidden": (8,)}


def build(config: Config, load=data.load) -> Experiment:
    return config.experiment(load, config.generator, config.discriminator)
