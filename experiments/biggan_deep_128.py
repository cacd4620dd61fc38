"""BigGAN-deep at 128x128 on ImageNet or any folder with a folder for each class.

    python run.py --experiment=biggan_deep_128

Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis", appendix B:
bottleneck blocks, two in the place of one, and latents that go to every block whole, beside a class
embedding of 128 that all layers share; attention at 64x64, both networks spectrally normalised, projection
discriminator, hinge loss, batches of 2,048, Adam at 5e-5 for the generator and 2e-4 for the discriminator
with betas of 0 and 0.999, two discriminator steps to one of the generator, orthogonal regularization of
1e-4, the average of the generator's weights from its step 20,000 on, standing statistics. A step here is
one of the discriminator.

A batch is gone through in `--config.accumulate` micro-batches, whose batch statistics are their own: 256
images in each over all devices, unless you say otherwise. Name class folders, or a set of TensorFlow
Datasets:

    python run.py --experiment=biggan_deep_128 --config.dataset=./animals --config.batch_size=256 \\
        --config.accumulate=1

`--mode=sample --truncation=0.5` gives up variety for fidelity.
"""

import dataclasses
from typing import Literal

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
    batch_size: int = setting(2048, "of the global batch", minimum=2, maximum=2**20)
    accumulate: int = setting(8, "micro-batches to one update", minimum=1, maximum=2**20)
    steps: int = setting(300000, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float = setting(5e-5, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(2e-4, "of the discriminator", above=0.0)
    beta2: float = setting(0.999, "of Adam", minimum=0.0, below=1.0)
    discriminator_steps: int = setting(2, "steps of the discriminator to one of the generator", minimum=1)
    ema_decay: float = setting(0.9999, "of the averaged generator; 0: no average", minimum=0.0, below=1.0)
    ema_start: int = setting(
        40000, "step until which the average follows the generator", minimum=0, maximum=2**31 - 1
    )
    orthogonal: float = setting(
        1e-4, "weight of orthogonal regularization of the generator; 0: off", minimum=0.0
    )
    generator_width: int = setting(128, "channels, by the plan's multiples", minimum=1, maximum=4096)
    discriminator_width: int = setting(128, "channels, by the plan's multiples", minimum=1, maximum=4096)
    embedding: int = setting(128, "size of the class embedding that the generator's norms share", minimum=1)
    attention: int = setting(64, "side of the maps with self-attention; 0: without", minimum=0)
    initialiser: Literal["glorot", "orthogonal"] = setting("orthogonal", "of kernels")
    standing_statistics: int = setting(
        100, "batches whose statistics samples are drawn with, when trained; 0: running ones", minimum=0
    )
    deep: bool = setting(True, "BigGAN-deep's blocks")


TINY = {
    "dataset": "random",
    "image_size": 32,
    "batch_size": 16,
    "steps": 2,
    "latent_size": 4,
    "generator_width": 1,
    "discriminator_width": 1,
    "accumulate": 2,
    "embedding": 4,
    "attention": 8,
    "discriminator_steps": 2,
    "ema_start": 1,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
