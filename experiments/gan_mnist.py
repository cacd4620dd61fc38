"""The first GAN, of fully connected networks, on MNIST.

    python run.py --experiment=gan_mnist

Goodfellow et al. 2014, "Generative adversarial nets", in the form of the textbooks: a generator of 256, 512
and 1,024 units (1,486,352 parameters on MNIST) and a discriminator of 1,024, 512 and 256 (1,460,225), leaky
ReLU 0.2, tanh at the end.
"""

import dataclasses
from typing import Literal

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, off, schedule_setting
from ganjax.gan import Experiment
from ganjax.nets.mlp import MLPDiscriminator, MLPGenerator


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    steps: int = setting(20000, "batches to train on", minimum=1, maximum=2**31 - 1)
    schedule: str = schedule_setting("linear")
    hidden: tuple[int, ...] = setting((256, 512, 1024), "units of the generator's layers", minimum=1)
    discriminator_hidden: tuple[int, ...] = setting((1024, 512, 256), "of the discriminator's", minimum=1)
    generator_norm: Literal["none", "batch", "virtual"] = setting("none", "normalisation in the generator")
    generator_dropout: float = off("dropout in the generator, also in sampling", below=1.0)
    discriminator_dropout: float = setting(
        0.3, "dropout in the discriminator; 0: off", minimum=0.0, below=1.0
    )
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )


TINY = {
    "dataset": "random",
    "image_size": 8,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "hidden": (8, 8),
    "discriminator_hidden": (8, 8),
}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load)
    generator = MLPGenerator(
        images.image_shape,
        hidden=config.hidden,
        norm=config.generator_norm,
        dropout=config.generator_dropout,
        dtype=config.compute_dtype,
    )
    discriminator = MLPDiscriminator(
        hidden=config.discriminator_hidden,
        dropout=config.discriminator_dropout,
        minibatch_discrimination=config.minibatch_discrimination,
        dtype=config.compute_dtype,
    )
    return config.experiment(images, generator, discriminator)
