"""A toy whose samples are no images: points in the plane.

It says how they are shown and judged.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import optax

from ganjax import data
from ganjax.config import setting
from ganjax.data import plane
from ganjax.families.adversarial import adversarial
from ganjax.gan import Experiment, Stage
from ganjax.metrics import modes
from ganjax.report.plane import show


@dataclasses.dataclass(frozen=True)
class Config:
    conditional: bool = setting(False, "whether a mode is asked for")
    steps: int = setting(4, "batches to train on", minimum=1)
    batch_size: int = setting(8, "of the global batch", minimum=1)


TINY = {"steps": 2}


class Points(nn.Module):
    """Points, from latents and labels."""

    @nn.compact
    def __call__(self, latents, labels, *, train):
        del train
        if labels is not None:
            latents = jnp.concatenate([latents, nn.one_hot(labels, 8)], axis=-1)
        return nn.Dense(2)(latents)


class Logits(nn.Module):
    """A logit a point."""

    @nn.compact
    def __call__(self, points, labels, *, train):
        del train, labels
        return nn.Dense(1)(points)[:, 0]


def build(config: Config, load=data.load) -> Experiment:
    del load
    mixture = plane.ring(conditional=config.conditional)
    gan = adversarial(
        Points(),
        Logits(),
        latent_size=2,
        num_classes=mixture.num_classes,
        optimizers={"generator": optax.adam(1e-2), "discriminator": optax.adam(1e-2)},
    )
    stage = Stage(gan, mixture, config.steps, config.batch_size)
    return Experiment(
        (stage,), mixture.num_classes, show=show(mixture, count=100), judge=modes.judge(mixture)
    )
