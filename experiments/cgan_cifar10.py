"""Conditional GAN on CIFAR-10: pictures of a class that you choose.

    python run.py --experiment=cgan_cifar10

Mirza & Osindero 2014 in the convolutional form of Radford et al. 2016: the label chooses scales and shifts
in the generator, and enters the discriminator by projection (Miyato & Koyama 2018).
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, off, schedule_setting
from ganjax.gan import Experiment
from ganjax.nets.conditional import ConditionalDiscriminator, ConditionalGenerator
from ganjax.nets.dcgan import stages_for


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    dataset: str = setting("cifar10", "a TFDS name, or a path to a folder or an .npz; it needs labels")
    schedule: str = schedule_setting("linear")
    diff_augment: str = setting("translation,color", "DiffAugment's policy; empty: off")
    steps: int = setting(12000, "batches to train on", minimum=1, maximum=2**31 - 1)
    width: int = setting(64, "channels at half the image's size", minimum=1, maximum=65_536)
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load, conditional=True)
    stages = stages_for(images.image_shape)
    generator = ConditionalGenerator(
        images.image_shape, images.num_classes, width=config.width, stages=stages, dtype=config.compute_dtype
    )
    discriminator = ConditionalDiscriminator(
        images.num_classes,
        width=config.width,
        stages=stages,
        dropout=config.discriminator_dropout,
        minibatch_discrimination=config.minibatch_discrimination,
        dtype=config.compute_dtype,
    )
    return config.experiment(images, generator, discriminator, num_classes=images.num_classes)
