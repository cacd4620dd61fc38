"""SNGAN on MNIST, small enough for a CPU.

    python run.py --experiment=sngan_mnist

Miyato et al. 2018, "Spectral normalization for generative adversarial networks": residual networks, every
layer of the discriminator spectrally normalised, hinge loss, Adam with betas of 0 and 0.9. Ours are the
size, from 7x7 to 28x28, the rates, and one discriminator step to one of the generator.
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, loss_setting, schedule_setting
from ganjax.gan import Experiment
from ganjax.nets.residual import ResidualDiscriminator, ResidualGenerator


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    loss: str = loss_setting("hinge")
    steps: int = setting(8000, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(64, "entries of a latent", minimum=1, maximum=65_536)
    generator_learning_rate: float = setting(2.5e-4, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(1e-3, "of the discriminator", above=0.0)
    beta1: float = setting(0.0, "of Adam", minimum=0.0, below=1.0)
    beta2: float = setting(0.9, "of Adam", minimum=0.0, below=1.0)
    schedule: str = schedule_setting("linear")
    generator_width: int = setting(16, "channels at the image's size", minimum=1, maximum=4096)
    discriminator_width: int = setting(16, "channels at half the image's size", minimum=1, maximum=4096)


TINY = {
    "dataset": "random",
    "image_size": 28,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "generator_width": 2,
    "discriminator_width": 2,
}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load)
    generator = ResidualGenerator(
        images.image_shape, width=config.generator_width, spectral=False, dtype=config.compute_dtype
    )
    discriminator = ResidualDiscriminator(width=config.discriminator_width, dtype=config.compute_dtype)
    return config.experiment(images, generator, discriminator)
