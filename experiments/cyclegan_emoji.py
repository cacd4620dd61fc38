"""CycleGAN at 64x64: one vendor's emoji as another draws them and back, without pairs, on a CPU.

    python run.py --experiment=cyclegan_emoji --config.domain_a=emoji/google --config.domain_b=emoji/twitter

Zhu et al. 2017, "Unpaired image-to-image translation using cycle-consistent adversarial networks", in a small
size. pix2pix_emoji says where the images come from. Their pairs are not used: each folder has an order of its
own.

    python run.py --workdir=runs/cyclegan_emoji-seed0 --mode=evaluate
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.translation import CycleRecipe


@dataclasses.dataclass(frozen=True)
class Config(CycleRecipe):
    domain_a: str = setting("emoji/google", "a folder of A's images, beside domain_b and instead of dataset")
    domain_b: str = setting("emoji/twitter", "a folder of B's images")
    image_size: int | tuple[int, int] | None = setting(
        64, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    held_out_by: str = setting("-", "names that are alike up to this text are held out together")
    batch_size: int = setting(1, "of the global batch", minimum=1, maximum=2**20)
    jitter: float = setting(
        0.0, "share by which images grow before they are cropped at random; 0: off", minimum=0.0, maximum=1.0
    )
    steps: int = setting(14000, "batches to train on", minimum=1, maximum=2**31 - 1)
    width: int = setting(24, "channels next to the image, of a generator", minimum=1, maximum=65_536)
    discriminator_width: int = setting(32, "channels next to the image", minimum=1, maximum=65_536)
    patch: int = setting(34, "pixels on a side of what a logit sees", choices=(1, 16, 34, 70, 142, 286))
    blocks: int = setting(4, "residual blocks of a generator", minimum=0, maximum=1000)


TINY = {"dataset": "random", "domain_a": "", "domain_b": "", "image_size": 8, "batch_size": 8, "steps": 2}
TINY |= {"width": 4, "blocks": 1, "discriminator_width": 4, "patch": 16, "pool_size": 12, "shown": 3}
TINY |= {"held_out_by": ""}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
