"""A textbook's convolutional GAN on MNIST: upsampling and tanh.

    python run.py --experiment=dcgan_upsampling_mnist

A convolutional GAN after Radford et al. 2016 as a textbook has it: dense layers of 1,024 and 128*49 units,
batch normalisation, twice upsampling and a 5x5 convolution, tanh throughout; the generator has 6,763,777
numbers on MNIST, of them 12,544 running statistics. The discriminator pools where the paper has strides.
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, off, schedule_setting
from ganjax.gan import Experiment
from ganjax.nets.upsampling import UpsamplingDiscriminator, UpsamplingGenerator


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    steps: int = setting(4000, "batches to train on", minimum=1, maximum=2**31 - 1)
    schedule: str = schedule_setting("linear")
    width: int = setting(64, "channels at half the image's size", minimum=1, maximum=65_536)
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load)
    generator = UpsamplingGenerator(images.image_shape, width=config.width, dtype=config.compute_dtype)
    discriminator = UpsamplingDiscriminator(
        width=config.width,
        dropout=config.discriminator_dropout,
        minibatch_discrimination=config.minibatch_discrimination,
        dtype=config.compute_dtype,
    )
    return config.experiment(images, generator, discriminator)
