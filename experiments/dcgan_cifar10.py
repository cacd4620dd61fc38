"""DCGAN on CIFAR-10, tuned: augmentation, an averaged generator, rates that fall.

    python run.py --experiment=dcgan_cifar10

Radford et al. 2016 with what has been learnt since: DiffAugment (Zhao et al. 2020), an averaged generator,
and rates that fall in the second half.
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.dcgan import DCGANRecipe


@dataclasses.dataclass(frozen=True)
class Config(DCGANRecipe):
    dataset: str = setting("cifar10", "a TFDS name, or a path to a folder or an .npz")
    diff_augment: str = setting("translation,color", "DiffAugment's policy; empty: off")
    steps: int = setting(12000, "batches to train on", minimum=1, maximum=2**31 - 1)
    hidden: int = setting(0, "units of a dense layer next to the smallest maps; 0: without", minimum=0)


TINY = {"dataset": "random", "image_size": 16, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
