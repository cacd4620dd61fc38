"""StyleGAN2 on any folder of images, up to 1024x1024.

    python run.py --experiment=stylegan2_folder --config.dataset=./photos --config.image_size=256

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN". What a user would have to tune
follows from the size of the images and of the batch: gamma, channels, rates, the groups of minibatch
deviation, the averaged generator's half-life (docs/stylegan2.md); what is given counts. Height and width may
differ, as in `--config.image_size=128,256`. `--config.conditional=true` for a class that you choose, of a set
with labels, such as a folder of folders; `--config.mirror=true` where left and right mean nothing;
`--config.dtype=bfloat16` on an accelerator. With few images, take stylegan2_ada_folder.

    python run.py --workdir=runs/stylegan2_folder-seed0 --mode=sample --truncation=0.7
"""

import dataclasses

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
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
