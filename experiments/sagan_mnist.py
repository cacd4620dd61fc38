"""SAGAN on MNIST, small enough for a CPU: digits of a class that you choose.

    python run.py --experiment=sagan_mnist

Zhang et al. 2019, "Self-attention generative adversarial networks": both networks residual and spectrally
normalised, self-attention (here at 14x14), projection discriminator, hinge loss, Adam with betas of 0 and
0.9, a discriminator that learns four times as fast. Ours are the size, from 7x7 to 28x28, and rates that
are higher and fall. `--mode=attention` shows where the generator looks.
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import schedule_setting
from ganjax.gan import Experiment
from ganjax.recipes.residual import ResidualRecipe


@dataclasses.dataclass(frozen=True)
class Config(ResidualRecipe):
    dataset: str = setting("mnist", "a TFDS name, or a path to class folders or an .npz; it needs labels")
    image_size: int | tuple[int, int] | None = setting(
        28, "height and width: 28, 32, 64, 128 or 256", minimum=1, maximum=4096
    )
    steps: int = setting(8000, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(64, "entries of a latent", minimum=1, maximum=65_536)
    generator_learning_rate: float = setting(2.5e-4, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(1e-3, "of the discriminator", above=0.0)
    schedule: str = schedule_setting("linear")
    generator_width: int = setting(16, "channels, by the plan's multiples", minimum=1, maximum=4096)
    discriminator_width: int = setting(16, "channels, by the plan's multiples", minimum=1, maximum=4096)
    attention: int = setting(14, "side of the maps with self-attention; 0: without", minimum=0)


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
    return config.build(load)
