"""SAGAN at 128x128 on ImageNet or any folder with a folder for each class.

    python run.py --experiment=sagan_128

Zhang et al. 2019, "Self-attention generative adversarial networks", at the paper's size: spectral
normalisation of both networks, attention at 32x32, projection discriminator, hinge loss, one step of each
player, batches of 256, Adam with betas of 0 and 0.9 at 1e-4 for the generator and 4e-4 for the
discriminator. Name class folders, or a set of TensorFlow Datasets:

    python run.py --experiment=sagan_128 --config.dataset=./animals --config.batch_size=64
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.residual import ResidualRecipe


@dataclasses.dataclass(frozen=True)
class Config(ResidualRecipe):
    dataset: str = setting(
        "imagenet2012", "a TFDS name, or a path to class folders or an .npz; it needs labels"
    )
    image_size: int | tuple[int, int] | None = setting(
        128, "height and width: 28, 32, 64, 128 or 256", minimum=1, maximum=4096
    )
    channels: int | None = setting(3, "of the images; none: the set's own", choices=(1, 3, 4))
    batch_size: int = setting(256, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(1000000, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float = setting(1e-4, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(4e-4, "of the discriminator", above=0.0)
    attention: int = setting(32, "side of the maps with self-attention; 0: without", minimum=0)


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
