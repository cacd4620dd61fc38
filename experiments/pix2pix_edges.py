"""pix2pix from edges: photos from line drawings, learned from any folder of photos.

    python run.py --experiment=pix2pix_edges --config.dataset=photos

Isola et al. 2017, "Image-to-image translation with conditional adversarial networks", section 4, whose edges
are a network's (HED); ours are Sobel's (`ganjax.data.domains.edges`), made as they are needed. A drawing to
translate has dark lines on white.

    python run.py --workdir=runs/pix2pix_edges-seed0 --mode=translate --input=drawing.png --out=photos
"""

import dataclasses

import jax

from ganjax import data
from ganjax.config import setting
from ganjax.data.domains import edges
from ganjax.gan import Experiment
from ganjax.recipes.translation import MadePairsRecipe


@dataclasses.dataclass(frozen=True)
class Config(MadePairsRecipe):
    dataset: str = setting("photos", "a folder of images, an .npz, or a TFDS name")
    image_size: int | tuple[int, int] | None = setting(
        128, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    batch_size: int = setting(4, "of the global batch", minimum=1, maximum=2**20)
    steps: int = setting(40_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    strength: float = setting(4.0, "how dark edges are drawn", above=0.0)

    def made(self, images: jax.Array) -> jax.Array:
        return edges(images, self.strength)


TINY = {"dataset": "random", "image_size": 16, "batch_size": 8, "steps": 2, "width": 4}
TINY |= {"discriminator_width": 4, "patch": 16, "shown": 3}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
