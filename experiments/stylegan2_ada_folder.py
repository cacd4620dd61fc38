"""StyleGAN2 with adaptive augmentation on any folder of images: a few thousand will do.

    python run.py --experiment=stylegan2_ada_folder --config.dataset=./photos --config.image_size=256

Karras et al. 2020, "Training generative adversarial networks with limited data": as stylegan2_folder, but
that the discriminator sees everything transformed, with a probability that follows how sure it is of the real
images. `--config.augment_groups=blit,geom` leaves colours alone; all groups are in docs/stylegan2.md.

    python run.py --workdir=runs/stylegan2_ada_folder-seed0 --mode=sample --truncation=0.7
"""

import dataclasses
from typing import Literal

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.stylegan2 import StyleGAN2Recipe


@dataclasses.dataclass(frozen=True)
class Config(StyleGAN2Recipe):
    dataset: str = setting("photos", "a path to a folder or an .npz, or a TFDS name")
    image_size: int | tuple[int, int] | None = setting(
        256, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
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
    "path_length_every": 2,
    "latent_size": 4,
    "style_size": 8,
    "channel_base": 8,
    "channel_max": 8,
    "augment_groups": "blit,color",
    "augment_p": 0.5,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
