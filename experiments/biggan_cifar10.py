"""BigGAN on CIFAR-10: pictures of a class that you choose.

    python run.py --experiment=biggan_cifar10

Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis": a class embedding
that all layers share, latents split over the blocks, spectral normalisation of both networks, projection
discriminator, orthogonal initialisation, hinge loss, an averaged generator, standing statistics. The
paper's figure for CIFAR-10 (its appendix C: FID 14.73) is of the settings of a row of its table 1; these are
those that implementations have since agreed on: batches of 50, four discriminator steps to one of the
generator, Adam at 2e-4 with betas of 0 and 0.999, and neither attention nor orthogonal regularization. A
step is one of the discriminator.
"""

import dataclasses
from typing import Literal

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
    batch_size: int = setting(50, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(500000, "batches to train on", minimum=1, maximum=2**31 - 1)
    beta2: float = setting(0.999, "of Adam", minimum=0.0, below=1.0)
    discriminator_steps: int = setting(4, "steps of the discriminator to one of the generator", minimum=1)
    ema_decay: float = setting(0.9999, "of the averaged generator; 0: no average", minimum=0.0, below=1.0)
    ema_start: int = setting(
        4000, "step until which the average follows the generator", minimum=0, maximum=2**31 - 1
    )
    embedding: int = setting(128, "size of the class embedding that the generator's norms share", minimum=1)
    initialiser: Literal["glorot", "orthogonal"] = setting("orthogonal", "of kernels")
    standing_statistics: int = setting(
        100, "batches whose statistics samples are drawn with, when trained; 0: running ones", minimum=0
    )


TINY = {
    "dataset": "random",
    "image_size": 32,
    "batch_size": 8,
    "steps": 2,
    "latent_size": 4,
    "generator_width": 1,
    "discriminator_width": 1,
    "embedding": 4,
    "discriminator_steps": 2,
    "ema_start": 1,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
