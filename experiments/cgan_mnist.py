"""Conditional GAN on MNIST: digits of a class that you choose.

    python run.py --experiment=cgan_mnist

Mirza & Osindero 2014, "Conditional Generative Adversarial Nets", in the compact convolutional form of
Radford et al. 2016, the label entering the discriminator by projection (Miyato & Koyama 2018).

Seed 0 on two CPU cores (Intel Xeon, Python 3.11.7, jax 0.10.2): 2 min 45 s, 1,469 images/s. Label
agreement 98.65 % of 10,000 samples, by a classifier of 99.30 % test accuracy; diversity 0.97 of real images'
(least diverse class 0.92); Fréchet distance in the classifier's features 6.1 (real images 1.4). Measured by

    python run.py --experiment=cgan_mnist --mode=evaluate
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp

from ganjax import data, losses, optim
from ganjax.config import setting
from ganjax.families.adversarial import adversarial
from ganjax.gan import Experiment, Stage
from ganjax.nets.conditional import ConditionalDiscriminator, ConditionalGenerator

LOSSES = {
    "non_saturating": losses.NON_SATURATING,
    "least_squares": losses.LEAST_SQUARES,
    "hinge": losses.HINGE,
}


@dataclasses.dataclass(frozen=True)
class Config:
    dataset: str = setting("mnist", "a TFDS name, or a path to a folder or an .npz; it needs labels")
    image_size: int = setting(28, "height and width, a multiple of 4", minimum=4, maximum=4096)
    batch_size: int = setting(64, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(3500, "batches to train on", minimum=1, maximum=2**31 - 1)
    dtype: Literal["float32", "bfloat16"] = setting("float32", "for compute")
    latent_size: int = setting(64, "entries of a latent", minimum=1, maximum=65_536)
    width: int = setting(48, "channels at half the image's size", minimum=1, maximum=65_536)
    loss: Literal["non_saturating", "least_squares", "hinge"] = setting("non_saturating", "what is minimised")
    generator_learning_rate: float = setting(1e-3, "of Adam", above=0.0)
    discriminator_learning_rate: float = setting(1e-3, "of Adam", above=0.0)
    decay_start: float = setting(
        0.5, "share of the steps after which both rates fall to 0", minimum=0.0, maximum=1.0
    )
    beta1: float = setting(0.5, "of Adam", minimum=0.0, below=1.0)
    ema_decay: float = setting(0.999, "of the averaged generator", minimum=0.0, below=1.0)


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    images = load(config.dataset, split="train", image_size=config.image_size)
    if not images.num_classes:
        raise ValueError(f"dataset={config.dataset!r} has no labels, and this GAN is conditional on them")
    dtype = jnp.dtype(config.dtype)
    generator = ConditionalGenerator(images.image_shape, images.num_classes, width=config.width, dtype=dtype)
    discriminator = ConditionalDiscriminator(images.num_classes, width=config.width, dtype=dtype)

    def adam(learning_rate: float):
        start = round(config.decay_start * config.steps)
        decays = start < config.steps
        rate = optim.linear_decay(learning_rate, start, config.steps) if decays else learning_rate
        return optim.adam(rate, b1=config.beta1)

    gan = adversarial(
        generator,
        discriminator,
        latent_size=config.latent_size,
        num_classes=images.num_classes,
        loss=LOSSES[config.loss],
        optimizers={
            "generator": adam(config.generator_learning_rate),
            "discriminator": adam(config.discriminator_learning_rate),
        },
        ema_decay=optim.ema_decay(config.ema_decay),
    )
    stage = Stage(gan, images, steps=config.steps, batch_size=config.batch_size)
    return Experiment((stage,), num_classes=images.num_classes)
