"""A classifier of house numbers that learns from 1,000 labels and half a million images without.

    python run.py --experiment=semi_supervised_svhn
    python run.py --workdir=runs/semi_supervised_svhn-seed0 --mode=evaluate --num_samples=26032

Salimans et al. 2016, "Improved techniques for training GANs", section 5.3: SVHN's cropped digits, as TFDS has
them (`svhn_cropped`). The labelled ones are of `train`; the images without labels are those of `extra`. The
paper has a test error of 8.11 %. It is for a GPU.

    python run.py --workdir=runs/semi_supervised_svhn-seed0 --mode=classify --input=numbers
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.semi_supervised import ConvRecipe


@dataclasses.dataclass(frozen=True)
class Config(ConvRecipe):
    dataset: str = setting("svhn_cropped", "a labelled set: a TFDS name, or a path to a folder or an .npz")
    labels_per_class: int = setting(100, "labelled examples of each class", minimum=1, maximum=2**31 - 1)
    unlabelled_split: str = setting("extra", "the split whose images come without labels")
    steps: int = setting(100_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    width: int = setting(64, "channels of the discriminator's first layers", minimum=1, maximum=65_536)


TINY = {"dataset": "random", "unlabelled_split": "train", "image_size": 16, "labels_per_class": 2}
TINY |= {"batch_size": 8, "steps": 2, "latent_size": 4, "width": 4, "generator_width": 4}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
