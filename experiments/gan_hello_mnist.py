"""A tutorial's first GAN on MNIST: a wide generator, a small discriminator.

    python run.py --experiment=gan_hello_mnist

The generator of Goodfellow et al. 2014 as a widely read tutorial has it: dense layers of 128*49 and 256*49
units with ReLU, then tanh; a discriminator of one layer of 128, leaky ReLU. At full width the generator has
89,157,264 parameters; `width` scales its layers, by an eighth unless it is set.

Such a discriminator is weak: at one rate for both the generator collapses. So it learns four times as fast
here (Heusel et al. 2017), and its gradient is kept small (R1, Mescheder et al. 2018).
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
    steps: int = setting(70000, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float = setting(5e-4, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(2e-3, "of the discriminator", above=0.0)
    schedule: str = schedule_setting("linear")
    r1: float = setting(2.0, "gamma of the gradient penalty at real images; 0: off", minimum=0.0)
    width: float = setting(0.125, "share of the generator's 6,272 and 12,544 units", above=0.0, maximum=4.0)
    discriminator_hidden: tuple[int, ...] = setting((128,), "units of the discriminator's layers", minimum=1)
    generator_norm: Literal["none", "batch", "virtual"] = setting("none", "normalisation in the generator")
    generator_dropout: float = off("dropout in the generator, also in sampling", below=1.0)
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 0.001}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load)
    generator = MLPGenerator(
        images.image_shape,
        hidden=tuple(max(1, round(config.width * units)) for units in (128 * 49, 256 * 49)),
        activation="relu",
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
