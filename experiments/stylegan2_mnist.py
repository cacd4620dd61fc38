"""StyleGAN2 on MNIST: digits of 28x28 from 7x7 up, small enough for two CPU cores.

    python run.py --experiment=stylegan2_mnist

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN": modulated convolutions, images
of all sizes added up, a residual discriminator and lazy R1; with fewer channels. As Karras et al. have it for
CIFAR-10 ("Training generative adversarial networks with limited data", appendix D) there are two mapping
layers, no mixing of styles and no path length regularization (`--config.path_length=2` brings it back).
Gamma is far above the heuristic: with 0.1 samples are one and the same image for thousands of steps, with 10
they are digits after 1,000. With `--config.conditional=true` a digit that you choose.

    python run.py --workdir=runs/stylegan2_mnist-seed0 --mode=sample --truncation=0.7
    python run.py --workdir=runs/stylegan2_mnist-seed0 --mode=evaluate
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.stylegan2 import StyleGAN2Recipe


@dataclasses.dataclass(frozen=True)
class Config(StyleGAN2Recipe):
    dataset: str = setting("mnist", "a TFDS name, or a path to a folder or an .npz")
    steps: int = setting(10_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    r1: float | None = setting(
        10.0,
        "gamma of the gradient penalty at real images; none: 0.0002 * pixels / batch; 0: off",
        minimum=0.0,
    )
    latent_size: int = setting(64, "entries of a latent", minimum=1, maximum=65_536)
    style_size: int = setting(64, "entries of a style", minimum=1, maximum=65_536)
    path_length: float = setting(0.0, "weight of path length regularization; 0: off", minimum=0.0)
    mixing: float = setting(
        0.0, "share of generated images with styles of two latents; 0: off", minimum=0.0, maximum=1.0
    )
    mapping_multiplier: float = setting(0.1, "of the mapping network's learning rate", above=0.0)
    channel_base: int | None = setting(
        128, "channels at the smallest images before the maximum, half as many from size to size", minimum=1
    )
    channel_max: int = setting(64, "channels at most", minimum=1, maximum=4096)


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
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
