"""DCGAN at 64x64 on any folder of images, or CelebA.

    python run.py --experiment=dcgan_64

Radford, Metz & Chintala 2016, at the paper's size: a generator of 1,024, 512, 256 and 128 channels at
`--config.width=128`, from 4x4 to 64x64. Name a folder of images, or a set of TensorFlow Datasets:

    python run.py --experiment=dcgan_64 --config.dataset=./photos --config.width=32
"""

import dataclasses
from typing import Literal

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, off
from ganjax.gan import Experiment
from ganjax.nets.dcgan import DCGANDiscriminator, DCGANGenerator, stages_for


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    dataset: str = setting("celeb_a", "a TFDS name, or a path to a folder or an .npz")
    image_size: int | tuple[int, int] | None = setting(
        64, "height and width, or one for both", minimum=1, maximum=4096
    )
    channels: int | None = setting(3, "of the images; none: the set's own", choices=(1, 3, 4))
    batch_size: int = setting(128, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(40000, "batches to train on", minimum=1, maximum=2**31 - 1)
    width: int = setting(128, "channels at half the image's size", minimum=1, maximum=65_536)
    hidden: int = setting(0, "units of a dense layer next to the smallest maps; 0: without", minimum=0)
    generator_norm: Literal["batch", "virtual"] = setting("batch", "normalisation in the generator")
    discriminator_norm: Literal["batch", "layer", "none"] = setting("batch", "in the discriminator")
    generator_dropout: float = off("dropout in the generator, also in sampling", below=1.0)
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )


TINY = {"dataset": "random", "image_size": 16, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load)
    stages = stages_for(images.image_shape)
    generator = DCGANGenerator(
        images.image_shape,
        width=config.width,
        stages=stages,
        hidden=config.hidden,
        norm=config.generator_norm,
        dropout=config.generator_dropout,
        dtype=config.compute_dtype,
    )
    discriminator = DCGANDiscriminator(
        width=config.width,
        stages=stages,
        hidden=config.hidden,
        norm=config.discriminator_norm,
        dropout=config.discriminator_dropout,
        minibatch_discrimination=config.minibatch_discrimination,
        dtype=config.compute_dtype,
    )
    return config.experiment(images, generator, discriminator)
