"""PGGAN on any folder of images: they grow from 4x4 to 1024x1024.

    python run.py --experiment=pggan_folder --config.dataset=./photos --config.image_size=256

Karras et al. 2018, "Progressive growing of GANs for improved quality, stability, and variation": networks
that double their images' sides in stages, new layers faded in over 800,000 images and trained on as many;
equalized learning rate, pixel norm, the standard deviation over groups of four; WGAN-GP with drift, one
critic step to one of the generator; Adam at 1e-3 with betas of 0 and 0.99, afresh at every size. The set is a
folder, an `.npz` or a TFDS name. Batches of 16 are the paper's up to 128x128; for smaller ones beyond, and
larger ones at first, there is `--config.batch_sizes=`. `steps` are those of all sizes together.
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.growing import ProgressiveRecipe


@dataclasses.dataclass(frozen=True)
class Config(ProgressiveRecipe):
    dataset: str = setting("photos", "a path to a folder or an .npz, or a TFDS name")
    steps: int = setting(850_000, "batches to train on, at all sizes together", minimum=1, maximum=2**31 - 1)


TINY = {
    "dataset": "random",
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
