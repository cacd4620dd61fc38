"""A classifier of CIFAR-10 that learns from 4,000 labels and 50,000 images without.

    python run.py --experiment=semi_supervised_cifar10
    python run.py --workdir=runs/semi_supervised_cifar10-seed0 --mode=evaluate

Salimans et al. 2016, "Improved techniques for training GANs", section 5.2: nine convolutions with weight
normalisation and dropout against DCGAN's generator, which matches their features. The paper has a test error
of 18.63 % (at 400 labels a class); its run is of 1,200 epochs, and this of 200. It is for a GPU.

    python run.py --workdir=runs/semi_supervised_cifar10-seed0 --mode=classify --input=photos
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.semi_supervised import ConvRecipe


@dataclasses.dataclass(frozen=True)
class Config(ConvRecipe):
    dataset: str = setting("cifar10", "a labelled set: a TFDS name, or a path to a folder or an .npz")
    labels_per_class: int = setting(400, "labelled examples of each class", minimum=1, maximum=2**31 - 1)
    steps: int = setting(100_000, "batches to train on", minimum=1, maximum=2**31 - 1)


TINY = {"dataset": "random", "image_size": 16, "labels_per_class": 2, "batch_size": 8, "steps": 2}
TINY |= {"latent_size": 4, "width": 4, "generator_width": 4}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
