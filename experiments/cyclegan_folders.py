"""CycleGAN at 128x128 on any two folders of images.

    python run.py --experiment=cyclegan_folders --config.domain_a=summer --config.domain_b=winter

Zhu et al. 2017, "Unpaired image-to-image translation using cycle-consistent adversarial networks": six
residual blocks, as in the paper for this size. The folders need not have the same number of images; where one
has no `test` beside its `train`, a tenth of its images is held out.

    python run.py --workdir=runs/cyclegan_folders-seed0 --mode=translate --input=winter --direction=BtoA
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.translation import CycleRecipe


@dataclasses.dataclass(frozen=True)
class Config(CycleRecipe):
    domain_a: str = setting("A", "a folder of A's images, beside domain_b and instead of dataset")
    domain_b: str = setting("B", "a folder of B's images")
    image_size: int | tuple[int, int] | None = setting(
        128, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    blocks: int = setting(6, "residual blocks of a generator", minimum=0, maximum=1000)


TINY = {"dataset": "random", "domain_a": "", "domain_b": "", "image_size": 8, "batch_size": 8, "steps": 2}
TINY |= {"width": 4, "blocks": 1, "discriminator_width": 4, "patch": 16, "pool_size": 12, "shown": 3}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
