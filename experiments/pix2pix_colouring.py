"""pix2pix as colouring: grey images in colour, learned from any folder of colour images.

    python run.py --experiment=pix2pix_colouring --config.dataset=photos

Isola et al. 2017, "Image-to-image translation with conditional adversarial networks", section 4. The grey
image is the colour image's luma, and is made as it is needed.

    python run.py --workdir=runs/pix2pix_colouring-seed0 --mode=translate --input=grey.jpg --out=coloured
"""

import dataclasses

import jax

from ganjax import data
from ganjax.config import setting
from ganjax.data.domains import luma
from ganjax.gan import Experiment
from ganjax.recipes.translation import MadePairsRecipe


@dataclasses.dataclass(frozen=True)
class Config(MadePairsRecipe):
    dataset: str = setting("cifar10", "a folder of images, an .npz, or a TFDS name")
    image_size: int | tuple[int, int] | None = setting(
        None, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    batch_size: int = setting(16, "of the global batch", minimum=1, maximum=2**20)
    steps: int = setting(20_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    width: int = setting(32, "channels next to the image, of a generator", minimum=1, maximum=65_536)
    discriminator_width: int = setting(32, "channels next to the image", minimum=1, maximum=65_536)
    patch: int = setting(16, "pixels on a side of what a logit sees", choices=(1, 16, 34, 70, 142, 286))

    def made(self, images: jax.Array) -> jax.Array:
        return luma(images)


TINY = {"dataset": "random", "image_size": 16, "batch_size": 8, "steps": 2, "width": 4}
TINY |= {"discriminator_width": 4, "shown": 3}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
