"""A toy of the adversarial family, whose generator is steered by styles: three layers that are added up.

It compiles quickly.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import optax

from ganjax import data, random
from ganjax.config import setting
from ganjax.families.adversarial import adversarial
from ganjax.gan import Experiment, Stage
from ganjax.layers import Embed


@dataclasses.dataclass(frozen=True)
class Config:
    dataset: str = setting("random", "a TFDS name, or a path")
    steps: int = setting(1, "batches to train on", minimum=1)
    batch_size: int = setting(8, "of the global batch", minimum=1)
    conditional: bool = setting(True, "whether it takes labels")


TINY = {"steps": 1}


class Map(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, latents, labels=None):
        if labels is not None:
            latents = jnp.concatenate([latents, Embed(self.num_classes, 3)(labels)], axis=-1)
        return nn.Dense(4)(latents)


class Painter(nn.Module):
    num_classes: int
    layers: int = 3

    def setup(self):
        self.mapping = Map(self.num_classes)
        self.paints = [nn.Dense(64, use_bias=False) for _ in range(self.layers)]
        self.mean = self.variable("styles", "mean", lambda: jnp.full((4,), 0.1))

    def noise(self, keys):
        return (random.normal(random.streams(keys, "noise"), (8, 8)),)

    def images(self, styles, noise=None):
        x = jnp.stack([paint(styles[:, i]) for i, paint in enumerate(self.paints)]).sum(axis=0)
        noise = 0.0 if noise is None else 0.1 * noise[0][..., None]
        return 0.3 * x.reshape(-1, 8, 8, 1) + noise

    def __call__(self, latents, labels=None, *, train, keys=None, truncation=None):
        style = self.mapping(latents, labels)
        if truncation is not None:
            style = self.mean.value[None] + truncation * (style - self.mean.value[None])
        noise = None if keys is None else self.noise(keys)
        return jnp.clip(self.images(jnp.repeat(style[:, None], self.layers, axis=1), noise), -1, 1)


class Judge(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, images, labels=None, *, train):
        x = nn.relu(nn.Dense(8)(images.reshape(images.shape[0], -1)))
        if labels is None:
            return nn.Dense(1)(x)[:, 0]
        return jnp.sum(nn.Embed(self.num_classes, 8)(labels) * x, axis=-1)


def build(config: Config, load=data.load) -> Experiment:
    images = load(config.dataset, split="train", image_size=8)
    classes = images.num_classes if config.conditional else 0
    gan = adversarial(
        Painter(classes),
        Judge(classes),
        latent_size=3,
        num_classes=classes,
        optimizers={player: optax.sgd(0.1) for player in ("generator", "discriminator")},
    )
    return Experiment((Stage(gan, images, config.steps, config.batch_size),), classes)
