"""Conditional GAN on MNIST: digits of a class that you choose.

    python run.py --experiment=cgan_mnist

Mirza & Osindero 2014, "Conditional Generative Adversarial Nets", in the compact convolutional form of
Radford et al. 2016, the label entering the discriminator by projection (Miyato & Koyama 2018).

Seed 0 on two CPU cores (Intel Xeon, Python 3.11.7, jax 0.10.2): 2 min 45 s, 1,469 images/s. Label
agreement 98.68 % of 10,000 samples, by a classifier of 99.30 % test accuracy; diversity 0.97 of real images'
(least diverse class 0.90); Fréchet distance in the classifier's features 5.8 (real images 1.4). Measured by

    python run.py --experiment=cgan_mnist --mode=evaluate
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, off, schedule_setting
from ganjax.gan import Experiment
from ganjax.nets.conditional import ConditionalDiscriminator, ConditionalGenerator


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    dataset: str = setting("mnist", "a TFDS name, or a path to a folder or an .npz; it needs labels")
    image_size: int | tuple[int, int] | None = setting(
        28, "height and width, or one for both; multiples of 4", minimum=4, maximum=4096
    )
    steps: int = setting(3500, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(64, "entries of a latent", minimum=1, maximum=65_536)
    width: int = setting(48, "channels at half the image's size", minimum=1, maximum=65_536)
    generator_learning_rate: float = setting(1e-3, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(1e-3, "of the discriminator", above=0.0)
    schedule: str = schedule_setting("linear")
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load, conditional=True)
    generator = ConditionalGenerator(
        images.image_shape, images.num_classes, width=config.width, dtype=config.compute_dtype
    )
    discriminator = ConditionalDiscriminator(
        images.num_classes,
        width=config.width,
        dropout=config.discriminator_dropout,
        minibatch_discrimination=config.minibatch_discrimination,
        dtype=config.compute_dtype,
    )
    return config.experiment(images, generator, discriminator, num_classes=images.num_classes)
