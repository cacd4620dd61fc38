"""StyleGAN2 on CIFAR-10 with adaptive augmentation: the paper's settings for 32x32.

    python run.py --experiment=stylegan2_ada_cifar10

Karras et al. 2020, "Training generative adversarial networks with limited data", appendix D: 512 channels at
all sizes, a discriminator without shortcuts, R1 of gamma 0.01, batches of 64 in groups of 32, neither mixed
styles nor path length regularization, an average over 500,000 images; 100 million images. The generator's
rate is four fifths of the discriminator's: the paper's code shrinks it for path length regularization, also
where there is none. (It changes the generator's beta2 with it, to 0.992, which stays at 0.99 here.)
`--config.conditional=true` for the class-conditional model. For an accelerator.
"""

import dataclasses
from typing import Literal

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.stylegan2 import StyleGAN2Recipe


@dataclasses.dataclass(frozen=True)
class Config(StyleGAN2Recipe):
    dataset: str = setting("cifar10", "a TFDS name, or a path to a folder or an .npz")
    batch_size: int = setting(64, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(1_562_500, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float | None = setting(
        0.002, "of the generator; none: 0.0025, from 1024x1024 pixels on 0.002", above=0.0
    )
    ema_kimg: float | None = setting(
        500.0, "half-life of the averaged generator, in thousands of images; none: 0.3125 * batch", above=0.0
    )
    r1: float | None = setting(
        0.01,
        "gamma of the gradient penalty at real images; none: 0.0002 * pixels / batch; 0: off",
        minimum=0.0,
    )
    path_length: float = setting(0.0, "weight of path length regularization; 0: off", minimum=0.0)
    mixing: float = setting(
        0.0, "share of generated images with styles of two latents; 0: off", minimum=0.0, maximum=1.0
    )
    channel_base: int | None = setting(
        8192, "channels at the smallest images before the maximum, half as many from size to size", minimum=1
    )
    label_layers: int | None = setting(
        8, "those from classes, in the discriminator; none: mapping_layers", minimum=1, maximum=100
    )
    architecture: Literal["residual", "plain"] = setting("plain", "of the discriminator")
    group: int | None = setting(
        32,
        "images over which the discriminator sees the standard deviation; none: 4, or the batch; 0: without",
        minimum=0,
    )
    augment: Literal["none", "ada", "fixed"] = setting(
        "ada", "ADA's transforms of all that the discriminator sees; fixed: with one probability"
    )


TINY = {
    "dataset": "random",
    "image_size": 8,
    "batch_size": 8,
    "steps": 2,
    "r1_every": 2,
    "latent_size": 4,
    "style_size": 8,
    "channel_base": 8,
    "channel_max": 8,
    "group": 4,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
