"""What generated digits add to a classifier of MNIST that has 20 real ones of each class.

    python run.py --experiment=augmentation_mnist
    python run.py --workdir=runs/augmentation_mnist-seed0 --mode=evaluate

The GAN of cgan_mnist learns from the same few digits as the classifier, with DiffAugment (Zhao et al. 2020,
"Differentiable augmentation for data-efficient GAN training"). The evaluation trains classifiers on these
digits with nothing else, with random shifts, with generated digits and with both, and measures them on the
whole test set.
"""

import dataclasses

from ganjax import data
from ganjax.gan import Experiment
from ganjax.recipes.augmentation import AugmentationRecipe


@dataclasses.dataclass(frozen=True)
class Config(AugmentationRecipe):
    pass


TINY = {"dataset": "random", "image_size": 8, "images_per_class": 2, "batch_size": 8, "steps": 2}
TINY |= {"latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
