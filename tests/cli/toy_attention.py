"""A toy of the adversarial family, whose generator has attention, batch statistics and classes to mix.

It compiles quickly.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import optax

from ganjax import data
from ganjax.config import setting
from ganjax.families.adversarial import adversarial
from ganjax.gan import Experiment, Stage
from ganjax.layers import BatchNorm, Embed, SelfAttention


@dataclasses.dataclass(frozen=True)
class Config:
    dataset: str = setting("random", "a TFDS name, or a path")
    steps: int = setting(1, "batches to train on", minimum=1)
    batch_size: int = setting(8, "of the global batch", minimum=1)
    accumulate: int = setting(1, "micro-batches to one update", minimum=1)
    attention: bool = setting(True, "whether the generator has attention")
    one_hot: bool = setting(False, "whether the generator takes one class alone")


TINY = {"steps": 1}


class Painter(nn.Module):
    num_classes: int
    attention: bool
    one_hot: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, latents, labels, *, train):
        embed = nn.Embed if self.one_hot else Embed
        x = embed(self.num_classes, 4)(labels)
        x = BatchNorm(axis_name=self.axis_name)(nn.Dense(128)(jnp.concatenate([latents, x], -1)), train=train)
        x = x.reshape(-1, 8, 8, 2)
        if self.attention:
            x = SelfAttention(spectral=False)(x, train=train)
        return jnp.tanh(x[..., :1])


class Judge(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, images, labels, *, train):
        x = nn.relu(nn.Dense(8)(images.reshape(images.shape[0], -1)))
        return jnp.sum(nn.Embed(self.num_classes, 8)(labels) * x, axis=-1)


def build(config: Config, load=data.load) -> Experiment:
    images = load(config.dataset, split="train", image_size=8)
    gan = adversarial(
        Painter(images.num_classes, config.attention, config.one_hot),
        Judge(images.num_classes),
        latent_size=3,
        num_classes=images.num_classes,
        optimizers={player: optax.sgd(0.1) for player in ("generator", "discriminator")},
        accumulate=config.accumulate,
    )
    return Experiment((Stage(gan, images, config.steps, config.batch_size),), images.num_classes)
