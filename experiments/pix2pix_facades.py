"""pix2pix: photos of facades from label maps, or of any pairs that lie side by side.

    python run.py --experiment=pix2pix_facades --config.dataset=facades --config.direction=BtoA

Isola et al. 2017, "Image-to-image translation with conditional adversarial networks", with the paper's
settings for the CMP Facades (Tyleček & Šára 2013): 256x256, a U-Net of eight stages, patches of 70 pixels,
batches of one image, 200 epochs of 400 (the rate falls in the second half, as in the authors' PyTorch code).
`facades` is a folder with `train` and `test` (or `val`), in it images twice as wide as high, the photo on the
left (A) and the label map on the right (B), as the paper's authors distribute them; without the direction
label maps are drawn from photos. Batch normalisation of one image is instance normalisation, in sampling too.

    python run.py --workdir=runs/pix2pix_facades-seed0 --mode=translate --input=labels --out=photos
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.translation import PairedRecipe


@dataclasses.dataclass(frozen=True)
class Config(PairedRecipe):
    dataset: str = setting("facades", "pairs side by side: a folder of images, an .npz, or a TFDS name")
    label_map: str = setting(
        "B",
        "the domain that is a label map, against which classes are measured; none: neither is",
        choices=("", "A", "B"),
    )
    norm: str = setting(
        "instance",
        "of both networks; instance: what batch is where a batch is one image",
        choices=("batch", "instance", "none"),
    )


TINY = {"dataset": "random", "image_size": 16, "batch_size": 8, "steps": 2, "width": 4, "patch": 16}
TINY |= {"discriminator_width": 4, "shown": 3, "label_map": ""}  # of noise there are no colours


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
