"""WGAN on MNIST: a critic whose weights are clipped.

    python run.py --experiment=wgan_mnist

Arjovsky, Chintala & Bottou 2017, "Wasserstein GAN", with a textbook's networks (the critic has 70,337
numbers): RMSprop at 5e-5, weights in [-0.01, 0.01] after every step, five critic steps to one of the
generator. Batches are of 32 images where the paper has 64: what limits such training is the number of its
small steps. A step here is one of the critic. As in the paper's experiments the first 25 generator steps and
every 500th wait for 100 of the critic; `--config.warmup_discriminator_steps=20` shortens that. The paper
clips all weights, the book those of convolutions: `--config.clip=kernels`. The metric `logit_gap` is the
critic's estimate of the distance.
"""

import dataclasses
from typing import Literal

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, loss_setting
from ganjax.gan import Experiment
from ganjax.nets.wasserstein import WassersteinCritic, WassersteinGenerator


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    loss: str = loss_setting("wasserstein")
    batch_size: int = setting(32, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(80_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(50, "entries of a latent", minimum=1, maximum=65_536)
    optimizer: Literal["adam", "rmsprop"] = setting("rmsprop", "of both players")
    generator_learning_rate: float = setting(5e-5, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(5e-5, "of the critic", above=0.0)
    clip_weights: float = setting(0.01, "bound of the critic's weights; 0: none", minimum=0.0)
    discriminator_steps: int = setting(5, "steps of the critic to one of the generator", minimum=1)
    warmup_generator_steps: int = setting(
        25, "generator steps, at first and every 500th, with a longer wait for the critic", minimum=0
    )
    width: int = setting(64, "channels of the generator", minimum=1, maximum=65_536)
    critic_width: int = setting(64, "channels of the critic", minimum=1, maximum=65_536)
    discriminator_norm: Literal["batch", "layer", "none"] = setting("batch", "in the critic")


TINY = {
    "dataset": "random",
    "image_size": 8,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "width": 4,
    "critic_width": 2,
    "discriminator_steps": 2,
    "warmup_generator_steps": 1,
    "warmup_discriminator_steps": 2,
}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load)
    generator = WassersteinGenerator(images.image_shape, width=config.width, dtype=config.compute_dtype)
    critic = WassersteinCritic(
        width=config.critic_width, norm=config.discriminator_norm, dtype=config.compute_dtype
    )
    return config.experiment(images, generator, critic)
