"""DCGAN at 64x64 on any folder of images, or CelebA.

    python run.py --experiment=dcgan_64

Radford, Metz & Chintala 2016, at the paper's size: a generator of 1,024, 512, 256 and 128 channels at
`--config.width=128`, from 4x4 to 64x64. Name a folder of images, or a set of TensorFlow Datasets:

    python run.py --experiment=dcgan_64 --config.dataset=./photos --config.width=32
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import schedule_setting
from ganjax.gan import Experiment
from ganjax.recipes.dcgan import DCGANRecipe


@dataclasses.dataclass(frozen=True)
class Config(DCGANRecipe):
    dataset: str = setting("celeb_a", "a TFDS name, or a path to a folder or an .npz")
    image_size: int | tuple[int, int] | None = setting(
        64, "height and width, or one for both", minimum=1, maximum=4096
    )
    channels: int | None = setting(3, "of the images; none: the set's own", choices=(1, 3, 4))
    batch_size: int = setting(128, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(40000, "batches to train on", minimum=1, maximum=2**31 - 1)
    schedule: str = schedule_setting("constant")
    width: int = setting(128, "channels at half the image's size", minimum=1, maximum=65_536)
    hidden: int = setting(0, "units of a dense layer next to the smallest maps; 0: without", minimum=0)


TINY = {"dataset": "random", "image_size": 16, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
