"""pix2pix at 64x64: one vendor's emoji as another draws them, small enough for a CPU.

    python run.py --experiment=pix2pix_emoji --config.domain_a=emoji/google --config.domain_b=emoji/twitter

Isola et al. 2017, "Image-to-image translation with conditional adversarial networks". The two folders hold
drawings of the same names: `npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0` fetches
them (`package/img/google/64` and `package/img/twitter/64` in the archives), 3,786 each. A tenth of the pairs
is held out; of two in three of these another variant, mostly of another skin tone, is trained on. With
`--config.held_out_by=-` none is: names are alike up to the first dash, which is the first code point.

    python run.py --workdir=runs/pix2pix_emoji-seed0 --mode=evaluate
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.translation import PairedRecipe


@dataclasses.dataclass(frozen=True)
class Config(PairedRecipe):
    domain_a: str = setting("emoji/google", "a folder of A's images, beside domain_b and instead of dataset")
    domain_b: str = setting("emoji/twitter", "a folder of B's images")
    image_size: int | tuple[int, int] | None = setting(
        64, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    batch_size: int = setting(16, "of the global batch", minimum=1, maximum=2**20)
    jitter: float = setting(
        0.0, "share by which images grow before they are cropped at random; 0: off", minimum=0.0, maximum=1.0
    )
    flip: bool = setting(False, "half of the images are mirrored")
    steps: int = setting(7000, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float = setting(5e-4, "of generators", above=0.0)
    ema_decay: float = setting(0.998, "of averaged generators; 0: no average", minimum=0.0, below=1.0)
    feature_matching: float = setting(
        10.0, "weight of the distance between the discriminator's features; 0: off", minimum=0.0
    )
    width: int = setting(32, "channels next to the image, of a generator", minimum=1, maximum=65_536)
    discriminator_width: int = setting(32, "channels next to the image", minimum=1, maximum=65_536)
    patch: int = setting(34, "pixels on a side of what a logit sees", choices=(1, 16, 34, 70, 142, 286))


TINY = {"dataset": "random", "domain_a": "", "domain_b": "", "image_size": 16, "batch_size": 8, "steps": 2}
TINY |= {"width": 4, "discriminator_width": 4, "patch": 16, "shown": 3}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
