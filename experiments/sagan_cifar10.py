"""SAGAN on CIFAR-10: self-attention at 16x16, pictures of a class that you choose.

    python run.py --experiment=sagan_cifar10

Zhang et al. 2019, "Self-attention generative adversarial networks", at 32x32 with SNGAN's residual blocks:
spectral normalisation of both networks, attention, projection discriminator, hinge loss, one step of each
player, Adam with betas of 0 and 0.9 at 1e-4 for the generator and 4e-4 for the discriminator.
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.residual import ResidualRecipe


@dataclasses.dataclass(frozen=True)
class Config(ResidualRecipe):
    dataset: str = setting("cifar10", "a TFDS name, or a path to class folders or an .npz; it needs labels")
    image_size: int | tuple[int, int] | None = setting(
        32, "height and width: 28, 32, 64, 128 or 256", minimum=1, maximum=4096
    )
    steps: int = setting(200000, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float = setting(1e-4, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(4e-4, "of the discriminator", above=0.0)
    attention: int = setting(16, "side of the maps with self-attention; 0: without", minimum=0)


TINY = {
    "dataset": "random",
    "image_size": 32,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "generator_width": 1,
    "discriminator_width": 1,
    "attention": 8,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
