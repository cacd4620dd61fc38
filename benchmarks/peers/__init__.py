"""The models of `benchmarks.models` in PyTorch: the same networks, losses and optimizers, by name.

Written from the papers for speed in PyTorch's own idiom; tests/benchmarks/ shows that they compute the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.peers import book, conditional, dcgan, progressive, residual, resnet, stylegan2, translation
from benchmarks.peers.step import Recipe, Trainer

__all__ = ["PEERS", "Recipe", "Trainer", "trainer"]


def cgan_book() -> Recipe:
    return Recipe(
        book.BookGenerator(),
        book.BookDiscriminator(),
        (book.GENERATOR_NAMES, book.DISCRIMINATOR_NAMES),
        latent_size=100,
        num_classes=10,
    )


def cgan_mnist() -> Recipe:
    """The defaults of experiments/cgan_mnist.py."""
    rate, steps = 1e-3, 3500

    def decaying(step: int) -> float:
        return rate * min(1.0, (steps - step) / (steps - steps // 2))

    return Recipe(
        conditional.ConditionalGenerator(),
        conditional.ConditionalDiscriminator(),
        (conditional.GENERATOR_NAMES, conditional.DISCRIMINATOR_NAMES),
        latent_size=64,
        num_classes=10,
        learning_rate=decaying,
        ema_decay=lambda step: min(0.999, (1 + step) / (10 + step)),
    )


def dcgan64() -> Recipe:
    return Recipe(dcgan.DCGANGenerator(), dcgan.DCGANDiscriminator(), dcgan.names(), latent_size=100)


def sngan_resnet32() -> Recipe:
    return Recipe(
        resnet.ResNetGenerator(),
        resnet.ResNetDiscriminator(),
        resnet.names(),
        latent_size=128,
        hinge=True,
        betas=(0.0, 0.9),
    )


def biggan32() -> Recipe:
    generator = residual.ResidualGenerator(32, 10, 128, 32, embedding=128, attention=16)
    discriminator = residual.ResidualDiscriminator(32, 10, 32, attention=16)
    return Recipe(
        generator,
        discriminator,
        (residual.names(generator), residual.names(discriminator)),
        latent_size=128,
        num_classes=10,
        hinge=True,
        betas=(0.0, 0.999),
    )


def pggan(widths: Sequence[int] = progressive.WIDTHS, latent_size: int = 64) -> Recipe:
    generator = progressive.ProgressiveGenerator(latent_size, widths)
    discriminator = progressive.ProgressiveDiscriminator(widths)
    return Recipe(
        generator,
        discriminator,
        (progressive.names(generator), progressive.names(discriminator)),
        latent_size=latent_size,
        r1=10.0,
        learning_rate=lambda step: 1e-3,
        betas=(0.0, 0.99),
    )


def stylegan32() -> Recipe:
    generator = progressive.StyleGenerator()
    discriminator = progressive.ProgressiveDiscriminator(blurred=True)
    names = progressive.names(generator), progressive.names(discriminator)
    return pggan()._replace(generator=generator, discriminator=discriminator, names=names)


def stylegan2_32() -> Recipe:
    generator, discriminator = stylegan2.StyleGAN2Generator(), stylegan2.StyleGAN2Discriminator()
    return Recipe(
        generator,
        discriminator,
        (stylegan2.names(generator), stylegan2.names(discriminator)),
        latent_size=64,
        learning_rate=lambda step: 2.5e-3,
        betas=(0.0, 0.99),
    )


def pix2pix64(dropout: float = 0.5) -> translation.Pair:
    return translation.Pair(translation.UNet(dropout=dropout), translation.PatchDiscriminator(6))


def cyclegan128(pool_size: int = 50) -> translation.Cycle:
    return translation.Cycle(
        {name: translation.ResidualGenerator() for name in ("AtoB", "BtoA")},
        {name: translation.PatchDiscriminator(3, batch_norm=False) for name in "AB"},
        pool_size,
    )


def trainer(name: str, device: str, dtype: torch.dtype, compiled: bool) -> Any:
    """What trains the peer of this name: `put` takes a batch's arrays, and `step` what it gives."""
    networks = PEERS[name]()
    kinds = {translation.Pair: translation.PairTrainer, translation.Cycle: translation.CycleTrainer}
    return kinds.get(type(networks), Trainer)(networks, device, dtype, compiled)


PEERS: dict[str, Callable[[], Any]] = {
    "cgan_book": cgan_book,
    "cgan_mnist": cgan_mnist,
    "dcgan64": dcgan64,
    "sngan_resnet32": sngan_resnet32,
    "biggan32": biggan32,
    "pix2pix64": pix2pix64,
    "cyclegan128": cyclegan128,
    "pggan32": pggan,
    "stylegan32": stylegan32,
    "stylegan2_32": stylegan2_32,
    "pggan128": lambda: pggan((512, 512, 512, 512, 256, 128), 512),
    "pggan256": lambda: pggan((512, 512, 512, 512, 256, 128, 64), 512),
}
