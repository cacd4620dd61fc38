"""Finds digits that were not among those it learned from: f-AnoGAN on MNIST.

    python run.py --experiment=anomaly_mnist --config.normal=0-8
    python run.py --workdir=runs/anomaly_mnist-seed0 --mode=evaluate

Schlegl et al. 2019, "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks": a
WGAN with gradient penalty learns the normal digits; then an encoder learns to find their latents, and what it
can't give back is an anomaly. The networks are those of wgan_gp_mnist. The evaluation has PCA beside it and,
with `pip install 'ganjax[anomaly]'`, an isolation forest.

    python run.py --workdir=runs/anomaly_mnist-seed0 --mode=anomaly --input=digits --false_alarm_rate=0.01
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.anomaly import AnomalyRecipe


@dataclasses.dataclass(frozen=True)
class Config(AnomalyRecipe):
    normal: str = setting(
        "0-8", "classes that are normal, as in 0-8 or 1,3, or their names; empty: all images"
    )


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "encoder_steps": 1}
TINY |= {"latent_size": 4, "width": 4, "hidden": 8, "critic_steps": 1}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
