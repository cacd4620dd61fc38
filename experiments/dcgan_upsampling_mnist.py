"""A textbook's convolutional GAN on MNIST: upsampling and tanh.

    python run.py --experiment=dcgan_upsampling_mnist

A convolutional GAN after Radford et al. 2016 as a textbook has it: the generator has dense layers of 1,024
and 128*49 units, batch normalisation, twice upsampling and a 5x5 convolution, tanh throughout, 6,763,777
numbers on MNIST, of them 12,544 running statistics. It learns slowly: its rate is ten times the
discriminator's, and Adam has no momentum, or that one wins and classes are lost. The discriminator is
DCGAN's; the textbook's, which pools where the paper has strides and takes three times as long, is
`--config.discriminator=pooling`.
"""

import dataclasses
from typing import Any, Literal

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, off, schedule_setting
from ganjax.gan import Experiment
from ganjax.nets.dcgan import DCGANDiscriminator
from ganjax.nets.upsampling import UpsamplingDiscriminator, UpsamplingGenerator


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    batch_size: int = setting(32, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(15_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float = setting(1e-3, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(1e-4, "of the discriminator", above=0.0)
    beta1: float = setting(0.0, "of Adam", minimum=0.0, below=1.0)
    schedule: str = schedule_setting("linear")
    width: int = setting(64, "channels at half the image's size", minimum=1, maximum=65_536)
    discriminator: Literal["strided", "pooling"] = setting(
        "strided", "DCGAN's, of strided convolutions; or the textbook's, with max pools and tanh"
    )
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load)
    generator = UpsamplingGenerator(images.image_shape, width=config.width, dtype=config.compute_dtype)
    options: Any = {
        "dropout": config.discriminator_dropout,
        "minibatch_discrimination": config.minibatch_discrimination,
        "dtype": config.compute_dtype,
    }
    if config.discriminator == "pooling":
        discriminator = UpsamplingDiscriminator(config.width, **options)
    else:
        discriminator = DCGANDiscriminator(config.width, stages=2, **options)
    return config.experiment(images, generator, discriminator)
