"""PGGAN on emoji: colour drawings that grow from 4x4 to 64x64.

    python run.py --experiment=pggan_emoji --config.dataset=emoji/google

Karras et al. 2018, "Progressive growing of GANs for improved quality, stability, and variation", with fewer
channels. The set is a folder (or an `.npz`) of drawings; `npm pack emoji-datasource-google@16.0.0` fetches
one (its `package/img/google/64`, 3,786 images). Where they are transparent they are laid over white;
`--config.channels=4` keeps the transparency and learns it. Few images: DiffAugment (Zhao et al. 2020) keeps
the discriminator from learning them by heart.
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import loss_setting
from ganjax.gan import Experiment
from ganjax.recipes.growing import ProgressiveRecipe


@dataclasses.dataclass(frozen=True)
class Config(ProgressiveRecipe):
    dataset: str = setting("emoji/google", "a path to a folder or an .npz, or a TFDS name")
    image_size: int | tuple[int, int] | None = setting(
        64,
        "final height and width, or one for both: base_size times a power of two",
        minimum=1,
        maximum=4096,
    )
    channels: int | None = setting(3, "of the images; none: the set's own", choices=(1, 3, 4))
    diff_augment: str = setting(
        "color,translation", "DiffAugment's policy, such as color,translation,cutout; empty: off"
    )
    loss: str = loss_setting("non_saturating")
    gradient_penalty: float = setting(0.0, "weight of the gradient penalty; 0: off", minimum=0.0)
    drift: float = setting(0.0, "weight of the squared logits of real images; 0: off", minimum=0.0)
    r1: float = setting(1.0, "gamma of the gradient penalty at real images; 0: off", minimum=0.0)
    batch_size: int = setting(32, "of the global batch at the largest images", minimum=2, maximum=2**20)
    steps: int = setting(30_000, "batches to train on, at all sizes together", minimum=1, maximum=2**31 - 1)
    fade_images: int = setting(60_000, "images over which a size is faded in", minimum=0)
    hold_images: int = setting(
        60_000, "images after that at a size, but the largest, which has the rest", minimum=1
    )
    latent_size: int = setting(128, "entries of a latent", minimum=1, maximum=65_536)
    channel_base: int = setting(
        512, "channels at the smallest images before the maximum; half as many from size to size", minimum=1
    )
    channel_max: int = setting(96, "channels at most", minimum=1, maximum=4096)


TINY = {
    "dataset": "random",
    "channels": 3,
    "image_size": 8,
    "batch_size": 8,
    "steps": 2,
    "fade_images": 8,
    "hold_images": 8,
    "latent_size": 4,
    "channel_base": 8,
    "channel_max": 8,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
