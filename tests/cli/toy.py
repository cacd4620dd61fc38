"""A toy: two dense networks on 4x4 images.

It reads from top to bottom, and compiles in no time.
"""

import dataclasses

import jax.numpy as jnp

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment, Stage
from tests.doubles import toy_gan


@dataclasses.dataclass(frozen=True)
class Config:
    dataset: str = setting("random", "a TFDS name, or a path")
    steps: int = setting(4, "batches to train on", minimum=1)
    batch_size: int = setting(8, "of the global batch", minimum=1)
    conditional: bool = setting(True, "whether it takes labels")
    nan_step: int = setting(-1, "the step at which the generator's loss is NaN")
    interpolates: bool = setting(True, "whether it has latents")


TINY = {"steps": 2}


def build(config: Config, load=data.load) -> Experiment:
    images = load(config.dataset, split="train", image_size=4)
    classes = images.num_classes if config.conditional else 0
    gan = toy_gan(
        num_classes=classes,
        spoil=lambda step, value: jnp.where(step == config.nan_step, jnp.nan, value),
    )
    gan = gan if config.interpolates else gan._replace(latents=None)
    stage = Stage(gan, images, config.steps, config.batch_size)
    return Experiment((stage,), classes, modes={"count": lambda command: print(command.name) or 0})
