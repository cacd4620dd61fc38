"""StyleGAN on MNIST: digits that grow from 4x4 to 32x32, steered by style.

    python run.py --experiment=stylegan_mnist

Karras et al. 2019, "A style-based generator architecture for generative adversarial networks", small enough
for two CPU cores: fewer channels, a mapping network of two layers that learns faster, shorter stages, R1 on
every eighth step, higher rates. The images are MNIST's of
28x28, enlarged to 32x32, and shrunk from there. With `--config.conditional=true` a class that you choose.

    python run.py --experiment=stylegan_mnist --mode=sample --truncation=0.7
    python run.py --experiment=stylegan_mnist --mode=evaluate
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.growing import StyleRecipe


@dataclasses.dataclass(frozen=True)
class Config(StyleRecipe):
    dataset: str = setting("mnist", "a TFDS name, or a path to a folder or an .npz")
    image_size: int | tuple[int, int] | None = setting(
        32,
        "final height and width, or one for both: base_size times a power of two",
        minimum=1,
        maximum=4096,
    )
    r1: float = setting(10.0, "gamma of the gradient penalty at real images; 0: off", minimum=0.0)
    r1_every: int = setting(8, "steps to one of R1's own, which is as many times as strong", minimum=1)
    batch_size: int = setting(16, "of the global batch at the largest images", minimum=2, maximum=2**20)
    batch_sizes: tuple[int, ...] = setting(
        (32, 32, 32),
        "of the sizes before the largest, from the smallest on; those left out: batch_size",
        minimum=2,
    )
    steps: int = setting(14_500, "batches to train on, at all sizes together", minimum=1, maximum=2**31 - 1)
    fade_images: int = setting(15_000, "images over which a size is faded in", minimum=0)
    hold_images: int = setting(
        15_000, "images after that at a size, but the largest, which has the rest", minimum=1
    )
    generator_learning_rate: float = setting(2.5e-3, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(2.5e-3, "of the discriminator", above=0.0)
    latent_size: int = setting(64, "entries of a latent", minimum=1, maximum=65_536)
    channel_base: int = setting(
        128, "channels at the smallest images before the maximum; half as many from size to size", minimum=1
    )
    channel_max: int = setting(64, "channels at most", minimum=1, maximum=4096)
    style_size: int = setting(64, "entries of a style", minimum=1, maximum=65_536)
    mapping_layers: int = setting(2, "dense layers from latents to styles", minimum=1, maximum=100)
    mapping_multiplier: float = setting(0.1, "of their learning rate", above=0.0)


TINY = {
    "dataset": "random",
    "image_size": 8,
    "batch_size": 8,
    "batch_sizes": (),
    "steps": 2,
    "r1_every": 1,
    "fade_images": 8,
    "hold_images": 8,
    "latent_size": 4,
    "channel_base": 8,
    "channel_max": 8,
    "style_size": 8,
    "mapping_layers": 2,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
