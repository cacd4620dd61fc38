"""CycleGAN: horses to zebras and back, without pairs.

    python run.py --experiment=cyclegan_horse2zebra

Zhu et al. 2017, "Unpaired image-to-image translation using cycle-consistent adversarial networks", with the
paper's settings for 256x256: nine residual blocks, patches of 70 pixels, least squares, batches of one image
of each domain, 200 epochs of 1,334, half of them at a falling rate. The data are TensorFlow Datasets'
`cycle_gan/horse2zebra`; its other sets have other names, and a folder with `trainA`, `trainB`, `testA` and
`testB` will do (`--config.dataset=./maps`).

    python run.py --workdir=runs/cyclegan_horse2zebra-seed0 --mode=translate --input=horses --direction=AtoB
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.translation import CycleRecipe


@dataclasses.dataclass(frozen=True)
class Config(CycleRecipe):
    dataset: str = setting(
        "cycle_gan/horse2zebra", "two domains: a folder that holds trainA and trainB, or a TFDS name"
    )
    steps: int = setting(266_800, "batches to train on", minimum=1, maximum=2**31 - 1)


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "width": 4, "blocks": 1}
TINY |= {"discriminator_width": 4, "patch": 16, "pool_size": 12, "shown": 3}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
