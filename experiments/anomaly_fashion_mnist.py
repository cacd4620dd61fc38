"""Finds clothes of a kind that it did not learn from: f-AnoGAN on Fashion-MNIST.

    python run.py --experiment=anomaly_fashion_mnist --config.normal=0-8
    python run.py --workdir=runs/anomaly_fashion_mnist-seed0 --mode=evaluate

Schlegl et al. 2019, "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks", as
in anomaly_mnist. The set is TFDS's (`fashion_mnist`), or a folder with the idx files:
--config.dataset=FOLDER.
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.anomaly import AnomalyRecipe


@dataclasses.dataclass(frozen=True)
class Config(AnomalyRecipe):
    dataset: str = setting("fashion_mnist", "a TFDS name, or a path to a folder or an .npz")
    normal: str = setting(
        "0-8", "classes that are normal, as in 0-8 or 1,3, or their names; empty: all images"
    )


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "encoder_steps": 1}
TINY |= {"latent_size": 4, "width": 4, "hidden": 8, "critic_steps": 1}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
