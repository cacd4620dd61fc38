"""SNGAN on CIFAR-10 with residual networks, without labels.

    python run.py --experiment=sngan_cifar10

Miyato et al. 2018, "Spectral normalization for generative adversarial networks", table 4 and section 4:
every layer of the discriminator is spectrally normalised, hinge loss, five discriminator steps to one of
the generator, Adam at 2e-4 with betas of 0 and 0.9, rates that fall to 0 on a line. A step here is one of
the discriminator; the paper's 100,000 generator steps are the default. The averaged generator is ours. (Its
authors' code gives the generator twice the discriminator's batch, with latents of its own, and half as many
steps; here both see the same batch.)
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, loss_setting, schedule_setting
from ganjax.gan import Experiment
from ganjax.nets.resnet import ResNetDiscriminator, ResNetGenerator


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    dataset: str = setting("cifar10", "a TFDS name, or a path to a folder or an .npz")
    loss: str = loss_setting("hinge")
    steps: int = setting(500000, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(128, "entries of a latent", minimum=1, maximum=65_536)
    beta1: float = setting(0.0, "of Adam", minimum=0.0, below=1.0)
    beta2: float = setting(0.9, "of Adam", minimum=0.0, below=1.0)
    schedule: str = schedule_setting("linear")
    decay_start: float = setting(
        0.0, "share of the steps after which the rates fall", minimum=0.0, maximum=1.0
    )
    discriminator_steps: int = setting(5, "steps of the discriminator to one of the generator", minimum=1)
    generator_width: int = setting(256, "channels throughout", minimum=1, maximum=65_536)
    discriminator_width: int = setting(128, "channels throughout", minimum=1, maximum=65_536)


TINY = {
    "dataset": "random",
    "image_size": 8,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "generator_width": 4,
    "discriminator_width": 4,
    "discriminator_steps": 2,
}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load)
    generator = ResNetGenerator(images.image_shape, config.generator_width, dtype=config.compute_dtype)
    discriminator = ResNetDiscriminator(config.discriminator_width, dtype=config.compute_dtype)
    return config.experiment(images, generator, discriminator)
