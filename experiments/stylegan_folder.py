"""StyleGAN on any folder of images: they grow from 8x8 to 1024x1024.

    python run.py --experiment=stylegan_folder --config.dataset=./photos --config.image_size=256

Karras et al. 2019, "A style-based generator architecture for generative adversarial networks": a mapping
network of eight layers, a style and noise in every layer, a learned constant of 4x4, mixed styles, blurred
resampling; the non-saturating loss with R1 of gamma 10; growth from 8x8 on, new layers faded in over 600,000
images and trained on as many; Adam at 1e-3 with betas of 0 and 0.99. (The authors' code has smaller batches
and higher rates at larger sizes; here rate and batch stay, but for `--config.batch_sizes=`.) With
`--config.growing=false` the images have their size from the start, with `--config.conditional=true` a class
that you choose, of a set with labels.

    python run.py --workdir=runs/stylegan_folder-seed0 --mode=sample --truncation=0.7
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.growing import StyleRecipe


@dataclasses.dataclass(frozen=True)
class Config(StyleRecipe):
    dataset: str = setting("photos", "a path to a folder or an .npz, or a TFDS name")
    first_size: int | None = setting(
        8,
        "the shorter side of the images that are trained on first, base_size times a power of two; none: "
        "base_size",
        minimum=1,
        maximum=4096,
    )
    fade_images: int = setting(600_000, "images over which a size is faded in", minimum=0)
    hold_images: int = setting(
        600_000, "images after that at a size, but the largest, which has the rest", minimum=1
    )
    steps: int = setting(
        1_000_000, "batches to train on, at all sizes together", minimum=1, maximum=2**31 - 1
    )


TINY = {
    "dataset": "random",
    "image_size": 8,
    "first_size": None,
    "batch_size": 8,
    "steps": 2,
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
