"""DCGAN on CIFAR-10, tuned: augmentation, an averaged generator, rates that fall.

    python run.py --experiment=dcgan_cifar10

Radford et al. 2016 with what has been learnt since: DiffAugment (Zhao et al. 2020), an averaged generator,
and rates that fall in the second half.
"""

import dataclasses
from typing import Literal

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, off
from ganjax.gan import Experiment
from ganjax.nets.dcgan import DCGANDiscriminator, DCGANGenerator, stages_for


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    dataset: str = setting("cifar10", "a TFDS name, or a path to a folder or an .npz")
    schedule: Literal["constant", "linear", "cosine", "exponential"] = setting(
        "linear", "how both rates fall from decay_start on; exponential: to a hundredth"
    )
    diff_augment: str = setting("translation,color", "DiffAugment's policy; empty: off")
    steps: int = setting(12000, "batches to train on", minimum=1, maximum=2**31 - 1)
    width: int = setting(64, "channels at half the image's size", minimum=1, maximum=65_536)
    hidden: int = setting(0, "units of a dense layer next to the smallest maps; 0: without", minimum=0)
    generator_norm: Literal["batch", "virtual"] = setting("batch", "normalisation in the generator")
    discriminator_norm: Literal["batch", "layer", "none"] = setting("batch", "in the discriminator")
    generator_dropout: float = off("dropout in the generator, also in sampling", below=1.0)
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )


TINY = {"dataset": "random", "image_size": 16, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load)
    stages = stages_for(images.image_shape)
    generator = DCGANGenerator(
        images.image_shape,
        width=config.width,
        stages=stages,
        hidden=config.hidden,
        norm=config.generator_norm,
        dropout=config.generator_dropout,
        dtype=config.compute_dtype,
    )
    discriminator = DCGANDiscriminator(
        width=config.width,
        stages=stages,
        hidden=config.hidden,
        norm=config.discriminator_norm,
        dropout=config.discriminator_dropout,
        minibatch_discrimination=config.minibatch_discrimination,
        dtype=config.compute_dtype,
    )
    return config.experiment(images, generator, discriminator)
