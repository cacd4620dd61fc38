"""StyleGAN2 on emoji: colour drawings of 32x32, small enough for two CPU cores.

    python run.py --experiment=stylegan2_emoji --config.dataset=emoji/google

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", with fewer channels; gamma,
styles and what else regularizes are those of stylegan2_mnist. The set is a folder (or an `.npz`) of
drawings; `npm pack emoji-datasource-google@16.0.0` fetches one (its `package/img/google/64`). Where they are
transparent they are laid over white; `--config.channels=4` keeps the transparency and learns it. So few
images are learned by heart in the end: stylegan2_ada_emoji.

    python run.py --workdir=runs/stylegan2_emoji-seed0 --mode=sample --truncation=0.7
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import held_out_setting
from ganjax.gan import Experiment
from ganjax.recipes.stylegan2 import StyleGAN2Recipe


@dataclasses.dataclass(frozen=True)
class Config(StyleGAN2Recipe):
    dataset: str = setting("emoji/google", "a path to a folder or an .npz, or a TFDS name")
    image_size: int | tuple[int, int] | None = setting(
        32, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    channels: int | None = setting(3, "of the images; none: the set's own", choices=(1, 3, 4))
    held_out: float = held_out_setting(0.3)
    held_out_by: str = setting("-", "names that are alike up to this text are held out together")
    steps: int = setting(6_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    r1: float | None = setting(
        10.0,
        "gamma of the gradient penalty at real images; none: 0.0002 * pixels / batch; 0: off",
        minimum=0.0,
    )
    latent_size: int = setting(128, "entries of a latent", minimum=1, maximum=65_536)
    style_size: int = setting(128, "entries of a style", minimum=1, maximum=65_536)
    path_length: float = setting(0.0, "weight of path length regularization; 0: off", minimum=0.0)
    mixing: float = setting(
        0.0, "share of generated images with styles of two latents; 0: off", minimum=0.0, maximum=1.0
    )
    mapping_multiplier: float = setting(0.1, "of the mapping network's learning rate", above=0.0)
    channel_base: int | None = setting(
        256, "channels at the smallest images before the maximum, half as many from size to size", minimum=1
    )
    channel_max: int = setting(64, "channels at most", minimum=1, maximum=4096)


TINY = {
    "dataset": "random",
    "channels": 3,
    "image_size": 8,
    "batch_size": 8,
    "steps": 2,
    "r1_every": 2,
    "latent_size": 4,
    "style_size": 8,
    "channel_base": 8,
    "channel_max": 8,
}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
