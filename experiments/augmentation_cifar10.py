"""What generated images add to a classifier of CIFAR-10 that has 100 real ones of each class.

    python run.py --experiment=augmentation_cifar10
    python run.py --workdir=runs/augmentation_cifar10-seed0 --mode=evaluate

As augmentation_mnist, on CIFAR-10; classical augmentation shifts and mirrors pictures. It is for a GPU.
DiffAugment: Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training".
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.augmentation import AugmentationRecipe


@dataclasses.dataclass(frozen=True)
class Config(AugmentationRecipe):
    dataset: str = setting("cifar10", "a labelled set: a TFDS name, or a path to a folder or an .npz")
    images_per_class: int = setting(100, "real images of each class", minimum=1, maximum=2**31 - 1)
    steps: int = setting(20_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(100, "entries of a latent", minimum=1, maximum=65_536)
    width: int = setting(64, "channels at half the image's size", minimum=1, maximum=65_536)
    learning_rate: float = setting(2e-4, "of both players; falls to 0 in the second half", above=0.0)
    diff_augment: str = setting("color,translation,cutout", "DiffAugment's policy; empty: off")
    classifier_steps: int = setting(3000, "batches that each is trained on", minimum=1)
    max_shift: int = setting(4, "pixels by which classical augmentation moves images", minimum=0)
    flip: bool = setting(True, "classical augmentation mirrors images")


TINY = {"dataset": "random", "image_size": 8, "images_per_class": 2, "batch_size": 8, "steps": 2}
TINY |= {"latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
