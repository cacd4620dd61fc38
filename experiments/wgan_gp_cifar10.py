"""WGAN-GP on CIFAR-10 with residual networks.

    python run.py --experiment=wgan_gp_cifar10

Gulrajani et al. 2017, "Improved training of Wasserstein GANs", section 5.4 and appendix: residual networks
of 128 channels, gradient penalty of weight 10, five critic steps to one of the generator, Adam at 2e-4 with
betas of 0 and 0.9, rates that fall to 0 on a line. A step here is one of the critic; the paper's 100,000
generator steps are the default.
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
    loss: str = loss_setting("wasserstein")
    steps: int = setting(500000, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(128, "entries of a latent", minimum=1, maximum=65_536)
    beta1: float = setting(0.0, "of Adam", minimum=0.0, below=1.0)
    beta2: float = setting(0.9, "of Adam", minimum=0.0, below=1.0)
    schedule: str = schedule_setting("linear")
    decay_start: float = setting(
        0.0, "share of the steps after which the rates fall", minimum=0.0, maximum=1.0
    )
    discriminator_steps: int = setting(5, "steps of the critic to one of the generator", minimum=1)
    gradient_penalty: float = setting(10.0, "weight of the gradient penalty; 0: off", minimum=0.0)
    width: int = setting(128, "channels throughout", minimum=1, maximum=65_536)


TINY = {
    "dataset": "random",
    "image_size": 8,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "width": 4,
    "discriminator_steps": 2,
}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load)
    generator = ResNetGenerator(images.image_shape, width=config.width, dtype=config.compute_dtype)
    critic = ResNetDiscriminator(width=config.width, spectral=False, pool="mean", dtype=config.compute_dtype)
    return config.experiment(images, generator, critic)
