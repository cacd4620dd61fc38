"""A toy: two dense networks on 4x4 images.

It reads from top to bottom, and compiles in no time.
"""

import dataclasses
import sys
import time
from typing import Any

import jax.numpy as jnp
import numpy as np

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
    pause: float = setting(0.0, "seconds that a batch takes to read", minimum=0.0)
    convolves: bool = setting(False, "whether the discriminator begins with a convolution")
    evaluate_every: int = setting(0, "measure so often; 0: never", minimum=0)
    seeds: int = setting(1, "how many seeds to train, from --seed on", minimum=1, maximum=1024)


TINY = {"steps": 2}


class Slow:
    """A source that takes its time, and says so."""

    def __init__(self, source: data.Dataset, pause: float):
        self._source, self._pause = source, pause

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        sys.stdout.write("reading\n")  # at once, as several threads read
        sys.stdout.flush()
        time.sleep(self._pause)
        return self._source.read(indices)


def build(config: Config, load=data.load) -> Experiment:
    images = load(config.dataset, split="train", image_size=4)
    classes = images.num_classes if config.conditional else 0
    gan = toy_gan(
        num_classes=classes,
        spoil=lambda step, value: jnp.where(step == config.nan_step, jnp.nan, value),
        convolves=config.convolves,
    )
    gan = gan if config.interpolates else gan._replace(latents=None)
    source = Slow(images, config.pause) if config.pause else images
    stage = Stage(gan, source, config.steps, config.batch_size)
    count = {"count": lambda command: print(command.name) or 0}
    return Experiment((stage,), classes, config.seeds, count, evaluate_every=config.evaluate_every)
