"""The models that are measured: a `Gan` and a batch, by name. `benchmarks.peers` has the same in PyTorch."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from experiments import cgan_mnist, stylegan2_folder
from ganjax import losses, optim
from ganjax.data.dataset import Dataset, from_spec
from ganjax.families.adversarial import adversarial
from ganjax.families.cycle import cycle
from ganjax.families.penalties import r1
from ganjax.families.translation import translation
from ganjax.gan import Gan
from ganjax.nets import residual
from ganjax.nets import translation as translation_nets
from ganjax.nets.book import BookDiscriminator, BookGenerator
from ganjax.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from ganjax.nets.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from ganjax.nets.resnet import ResNetDiscriminator, ResNetGenerator
from ganjax.nets.style import StyleGenerator
from ganjax.nets.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from ganjax.nets.unet import UNet


class Model(NamedTuple):
    """What is trained, and on what.

    Attributes:
      gan: the players.
      image_shape: (H, W, C).
      num_classes: 0 for an unconditional GAN.
      names: of the images that a batch has of each example.
      cycle: steps after which those that differ, by regularizers that are due at some, come again.
    """

    gan: Gan
    image_shape: tuple[int, int, int]
    num_classes: int = 0
    names: tuple[str, ...] = ("image",)
    cycle: int = 1

    def batch(self, count: int) -> dict[str, np.ndarray]:
        """The same random examples at every call: images float32 in [-1, 1], "label" where conditional."""
        draw = np.random.default_rng(0)
        batch: dict[str, np.ndarray] = {
            name: draw.uniform(-1, 1, (count, *self.image_shape)).astype(np.float32) for name in self.names
        }
        if self.num_classes:
            batch["label"] = draw.integers(0, self.num_classes, count, dtype=np.int32)
        return batch


def cgan_book(dtype: str) -> Model:
    compute = jnp.dtype(dtype)
    gan = adversarial(
        BookGenerator((28, 28, 1), 10, dtype=compute),
        BookDiscriminator(10, dtype=compute),
        latent_size=100,
        num_classes=10,
        optimizers={player: optim.adam(2e-4, b1=0.5) for player in ("generator", "discriminator")},
    )
    return Model(gan, (28, 28, 1), 10)


def cgan_mnist_default(dtype: str) -> Model:
    assert dtype in ("float32", "bfloat16")
    config = cgan_mnist.Config(dtype=dtype)
    shape = (28, 28, 1)

    experiment = cgan_mnist.build(config, load=lambda name, **_: _metadata(name, shape, 10))
    return Model(experiment.stages[0].gan, shape, 10)


def _metadata(name: str, shape: tuple[int, int, int], num_classes: int = 0) -> Dataset:
    """A set without its pixels."""
    return from_spec(
        {
            "name": name,
            "split": "train",
            "image_shape": shape,
            "num_classes": num_classes,
            "class_names": [str(label) for label in range(num_classes)],
            "num_examples": 60_000,
        }
    )


def dcgan64(dtype: str) -> Model:
    compute = jnp.dtype(dtype)
    gan = adversarial(
        DCGANGenerator((64, 64, 3), dtype=compute),
        DCGANDiscriminator(dtype=compute),
        latent_size=100,
        optimizers={player: optim.adam(2e-4, b1=0.5) for player in ("generator", "discriminator")},
    )
    return Model(gan, (64, 64, 3))


def sngan_resnet32(dtype: str) -> Model:
    """With one discriminator step to a generator step, where the paper has five: every step is alike."""
    compute = jnp.dtype(dtype)
    gan = adversarial(
        ResNetGenerator((32, 32, 3), dtype=compute),
        ResNetDiscriminator(dtype=compute),
        latent_size=128,
        loss=losses.HINGE,
        optimizers={player: optim.adam(2e-4, b1=0.0, b2=0.9) for player in ("generator", "discriminator")},
    )
    return Model(gan, (32, 32, 3))


def biggan32(dtype: str) -> Model:
    """A small BigGAN: 128 channels throughout, attention at 16x16."""
    options: Any = {"width": 32, "attention": 16, "dtype": jnp.dtype(dtype)}
    gan = adversarial(
        residual.ResidualGenerator((32, 32, 3), 10, embedding=128, **options),
        residual.ResidualDiscriminator(10, **options),
        latent_size=128,
        num_classes=10,
        loss=losses.HINGE,
        optimizers={player: optim.adam(2e-4, b1=0.0) for player in ("generator", "discriminator")},
    )
    return Model(gan, (32, 32, 3), 10)


def pggan32(dtype: str) -> Model:
    """PGGAN at 32x32 with 64 channels at most, after the fade, with the later loss: non-saturating and R1."""
    options: Any = {"channel_max": 64, "dtype": jnp.dtype(dtype)}
    return _grown(
        ProgressiveGenerator((32, 32, 3), 3, **options),
        ProgressiveDiscriminator(3, **options),
    )


def stylegan32(dtype: str) -> Model:
    """StyleGAN likewise, with styles and latents of 64 entries."""
    options: Any = {"channel_max": 64, "dtype": jnp.dtype(dtype)}
    return _grown(
        StyleGenerator((32, 32, 3), 3, style_size=64, **options),
        ProgressiveDiscriminator(3, blurred=True, **options),
    )


def _grown(generator: Any, discriminator: nn.Module, latent_size: int = 64) -> Model:
    optimizers = {player: optim.adam(1e-3, b1=0.0, b2=0.99) for player in ("generator", "discriminator")}
    gan = adversarial(
        generator, discriminator, latent_size=latent_size, optimizers=optimizers, penalties={"r1": r1(10.0)}
    )
    return Model(gan, generator.shape)


def pggan_at(level: int, dtype: str) -> Model:
    """PGGAN as wide as in its paper, on images of 4x4 doubled `level` times, with `pggan32`'s loss."""
    size, compute = 4 << level, jnp.dtype(dtype)
    generator = ProgressiveGenerator((size, size, 3), level, dtype=compute)
    return _grown(generator, ProgressiveDiscriminator(level, dtype=compute), 512)


def stylegan2_32(dtype: str) -> Model:
    """StyleGAN2 at 32x32 with 64 channels at most, without mixed styles.

    Its regularizers, which are due in every fourth and sixteenth step, are left out: every step is alike.
    """
    options: Any = {"channel_max": 64, "dtype": jnp.dtype(dtype)}
    gan = adversarial(
        StyleGAN2Generator((32, 32, 3), 3, style_size=64, mapping_layers=2, mixing=0.0, **options),
        StyleGAN2Discriminator(3, **options),
        latent_size=64,
        optimizers={player: optim.adam(2.5e-3, b1=0.0, b2=0.99) for player in ("generator", "discriminator")},
    )
    return Model(gan, (32, 32, 3))


def stylegan2_at(size: int, dtype: str) -> Model:
    """The default of experiments/stylegan2_folder.py for images of this size, R1 and path lengths as often as
    they are due. The number of channels is the experiment's: 16,384 over the side, and 512 at most."""
    chosen: Any = dtype
    config = stylegan2_folder.Config(dataset="random", image_size=size, dtype=chosen)
    (stage,) = stylegan2_folder.build(config, lambda name, **_: _metadata(name, (size, size, 3))).stages
    return Model(stage.gan, (size, size, 3), cycle=math.lcm(config.r1_every, config.path_length_every))


def pix2pix64(dtype: str, dropout: float = 0.5) -> Model:
    compute = jnp.dtype(dtype)
    gan = translation(
        UNet(3, stages=6, dropout=dropout, dtype=compute),
        translation_nets.PatchDiscriminator(70, dtype=compute),
        optimizers={player: optim.adam(2e-4, b1=0.5) for player in ("generator", "discriminator")},
    )
    return Model(gan, (64, 64, 3), names=("A", "B"))


def cyclegan128(dtype: str, pool_size: int = 50) -> Model:
    compute = jnp.dtype(dtype)
    discriminator = translation_nets.PatchDiscriminator(70, norm="instance", dtype=compute)
    gan = cycle(
        {name: translation_nets.ResidualGenerator(3, blocks=6, dtype=compute) for name in ("AtoB", "BtoA")},
        {"A": discriminator, "B": discriminator},
        optimizers={player: optim.adam(2e-4, b1=0.5) for player in ("generators", "discriminators")},
        pool_size=pool_size,
    )
    return Model(gan, (128, 128, 3), names=("A", "B"))


MODELS: dict[str, Callable[..., Model]] = {
    "cgan_book": cgan_book,
    "cgan_mnist": cgan_mnist_default,
    "dcgan64": dcgan64,
    "sngan_resnet32": sngan_resnet32,
    "biggan32": biggan32,
    "pix2pix64": pix2pix64,
    "cyclegan128": cyclegan128,
    "pggan32": pggan32,
    "stylegan32": stylegan32,
    "stylegan2_32": stylegan2_32,
    "pggan128": functools.partial(pggan_at, 5),
    "pggan256": functools.partial(pggan_at, 6),
    "stylegan2_128": functools.partial(stylegan2_at, 128),
    "stylegan2_256": functools.partial(stylegan2_at, 256),
}
