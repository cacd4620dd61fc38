"""DCGAN on MNIST: strided convolutions and batch normalisation.

    python run.py --experiment=dcgan_mnist

Radford, Metz & Chintala 2016, "Unsupervised representation learning with deep convolutional generative
adversarial networks": batch normalisation except at the generator's output and the discriminator's input,
ReLU and leaky ReLU 0.2, weights from N(0, 0.02), Adam at 2e-4 with beta1 of 0.5. As in the authors' own form
for MNIST, a dense layer of 1,024 units stands next to the smallest maps; the rates fall in the second half.

Seed 0 on two CPU cores (Intel Xeon, Python 3.11.7, jax 0.10.2): 19 min 0 s, 283 images/s. By a classifier of
99.30 % test accuracy: every class at least 8.5 % of 10,000 samples, mean confidence 0.948, diversity 1.02
of real images', Fréchet distance in the classifier's features 4.7 (real images 1.4). docs/gallery.md has
the pictures.
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
    steps: int = setting(5000, "batches to train on", minimum=1, maximum=2**31 - 1)
    schedule: Literal["constant", "linear", "cosine", "exponential"] = setting(
        "linear", "how both rates fall from decay_start on; exponential: to a hundredth"
    )
    width: int = setting(64, "channels at half the image's size", minimum=1, maximum=65_536)
    hidden: int = setting(1024, "units of a dense layer next to the smallest maps; 0: without", minimum=0)
    generator_norm: Literal["batch", "virtual"] = setting("batch", "normalisation in the generator")
    discriminator_norm: Literal["batch", "layer", "none"] = setting("batch", "in the discriminator")
    generator_dropout: float = off("dropout in the generator, also in sampling", below=1.0)
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )


TINY = {
    "dataset": "random",
    "image_size": 16,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "width": 4,
    "hidden": 8,
}


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
