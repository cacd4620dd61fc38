"""Finds digits that were not among those it learned from: GANomaly on MNIST.

    python run.py --experiment=ganomaly_mnist --config.normal=0-8
    python run.py --workdir=runs/ganomaly_mnist-seed0 --mode=evaluate

Akcay et al. 2018, "GANomaly: Semi-supervised anomaly detection via adversarial training": an autoencoder of
normal digits is trained against a discriminator, and a second encoder finds the latents of its
reconstructions; how far these are from the digit's own is the score. `--config.dataset=` takes any set, as in
anomaly_folder. The grids have held-out normal images (learned ones, where none is held out)
beside what is made of them.

    python run.py --workdir=runs/ganomaly_mnist-seed0 --mode=anomaly --input=digits --false_alarm_rate=0.01
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.anomaly import GANomalyRecipe


@dataclasses.dataclass(frozen=True)
class Config(GANomalyRecipe):
    normal: str = setting(
        "0-8", "classes that are normal, as in 0-8 or 1,3, or their names; empty: all images"
    )


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2}
TINY |= {"latent_size": 4, "width": 4, "hidden": 8, "shown": 3}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
