"""pix2pix and CycleGAN in PyTorch: the same networks and steps as `ganjax.nets.unet`,
`ganjax.nets.translation` and their families, from the papers (Isola et al. 2017, Zhu et al. 2017).

As in `benchmarks.peers.step`: channels-last, fused Adam, one generator pass for both players' losses, and no
gradient for discriminators while generators learn.
"""

import itertools
import random
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def widths_of(width: int, stages: int) -> list[int]:
    """Channels after each stage: twice as many each time, up to 8 times."""
    return [width * min(2**stage, 8) for stage in range(stages)]


class UNet(nn.Module):
    def __init__(
        self, channels_in: int = 3, channels: int = 3, stages: int = 6, width: int = 64, dropout: float = 0.5
    ):
        super().__init__()
        widths = widths_of(width, stages)
        bare = (0, stages - 1)
        self.downs = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1, bias=stage in bare)
            for stage, (before, after) in enumerate(itertools.pairwise([channels_in, *widths]))
        )
        self.down_norms = nn.ModuleList(nn.BatchNorm2d(features) for features in widths[1:-1])
        inputs = [widths[-1], *(2 * features for features in reversed(widths[1:-1]))]
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
            for before, after in zip(inputs, reversed(widths[:-1]), strict=True)
        )
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(features) for features in reversed(widths[:-1]))
        self.output = nn.ConvTranspose2d(2 * width, channels, 4, stride=2, padding=1)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        last = len(self.downs) - 1
        for stage, down in enumerate(self.downs):
            x = down(F.leaky_relu(x, 0.2) if stage else x)
            if stage not in (0, last):
                x = self.down_norms[stage - 1](x)
            skips.append(x)
        x = skips.pop()
        for stage, (up, norm) in enumerate(zip(self.ups, self.up_norms, strict=True)):
            x = norm(up(F.relu(x)))
            if stage < 3 and self.dropout:
                x = F.dropout(x, self.dropout, training=True, inplace=True)
            x = torch.cat([x, skips.pop()], dim=1)
        return torch.tanh(self.output(F.relu(x, inplace=True)).float())


def unet_names(stages: int = 6) -> dict[str, str]:
    """A module's name here -> in `ganjax.nets.unet`."""
    return {
        **{f"downs.{i}": f"Conv_{i}" for i in range(stages)},
        **{f"down_norms.{i}": f"BatchNorm_{i}" for i in range(stages - 2)},
        **{f"ups.{i}": f"ConvTranspose_{i}" for i in range(stages - 1)},
        **{f"up_norms.{i}": f"BatchNorm_{stages - 2 + i}" for i in range(stages - 1)},
        "output": f"ConvTranspose_{stages - 1}",
    }


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv_0 = nn.Conv2d(width, width, 3, bias=False)
        self.conv_1 = nn.Conv2d(width, width, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(F.instance_norm(self.conv_0(F.pad(x, (1, 1, 1, 1), mode="reflect"))), inplace=True)
        return x + F.instance_norm(self.conv_1(F.pad(y, (1, 1, 1, 1), mode="reflect")))


class ResidualGenerator(nn.Module):
    def __init__(
        self, channels_in: int = 3, channels: int = 3, blocks: int = 6, width: int = 64, halvings: int = 2
    ):
        super().__init__()
        self.first = nn.Conv2d(channels_in, width, 7, bias=False)
        self.downs = nn.ModuleList(
            nn.Conv2d(width << stage, width << (stage + 1), 3, stride=2, padding=1, bias=False)
            for stage in range(halvings)
        )
        self.blocks = nn.ModuleList(Block(width << halvings) for _ in range(blocks))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(
                width << (stage + 1), width << stage, 3, stride=2, padding=1, output_padding=1, bias=False
            )
            for stage in reversed(range(halvings))
        )
        self.output = nn.Conv2d(width, channels, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.instance_norm(self.first(F.pad(x, (3, 3, 3, 3), mode="reflect"))), inplace=True)
        for down in self.downs:
            x = F.relu(F.instance_norm(down(x)), inplace=True)
        for block in self.blocks:
            x = block(x)
        for up in self.ups:
            x = F.relu(F.instance_norm(up(x)), inplace=True)
        return torch.tanh(self.output(F.pad(x, (3, 3, 3, 3), mode="reflect")).float())


def residual_names(blocks: int = 6, halvings: int = 2) -> dict[str, str]:
    """A module's name here -> in `ganjax.nets.translation`."""
    first = 1 + halvings
    return {
        "first": "Conv_0",
        **{f"downs.{i}": f"Conv_{1 + i}" for i in range(halvings)},
        **{f"blocks.{i}.conv_{j}": f"Conv_{first + 2 * i + j}" for i in range(blocks) for j in range(2)},
        **{f"ups.{i}": f"ConvTranspose_{i}" for i in range(halvings)},
        "output": f"Conv_{first + 2 * blocks}",
    }


class PatchDiscriminator(nn.Module):
    """`stages` convolutions of stride 2: three see 70 pixels. `batch_norm`: else instance normalisation."""

    def __init__(self, channels_in: int, stages: int = 3, width: int = 64, batch_norm: bool = True):
        super().__init__()
        widths = widths_of(width, stages + 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2 if stage < stages else 1, padding=1, bias=stage == 0)
            for stage, (before, after) in enumerate(itertools.pairwise([channels_in, *widths]))
        )
        self.norms = (
            nn.ModuleList(nn.BatchNorm2d(features) for features in widths[1:]) if batch_norm else None
        )
        self.logit = nn.Conv2d(widths[-1], 1, 4, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for stage, conv in enumerate(self.convs):
            x = conv(x)
            if stage:
                x = F.instance_norm(x) if self.norms is None else self.norms[stage - 1](x)
            x = F.leaky_relu(x, 0.2, inplace=True)
        return self.logit(x).float()


def patch_names(stages: int = 3, batch_norm: bool = True) -> dict[str, str]:
    """A module's name here -> in `ganjax.nets.translation`."""
    norms = {f"norms.{i}": f"BatchNorm_{i}" for i in range(stages)} if batch_norm else {}
    convs = {f"convs.{i}": f"Conv_{i}" for i in range(stages + 1)}
    return {**convs, **norms, "logit": f"Conv_{stages + 1}"}


class Pair(NamedTuple):
    """pix2pix's networks."""

    generator: nn.Module
    discriminator: nn.Module


class Cycle(NamedTuple):
    """CycleGAN's networks, by direction and by domain, and how many images a pool remembers."""

    generators: dict[str, nn.Module]
    discriminators: dict[str, nn.Module]
    pool_size: int = 50


class _Trainer:
    """Two players and their optimizers, on one device; see `benchmarks.peers.step.Trainer`."""

    def __init__(
        self, players: tuple[Iterable[nn.Module], Iterable[nn.Module]], device: str, dtype: torch.dtype
    ):
        self.device, self.dtype = torch.device(device), dtype
        for module in itertools.chain(*players):
            module.train().to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.parameters = [[p for module in player for p in module.parameters()] for player in players]
        self.optimizers = [
            torch.optim.Adam(parameters, lr=2e-4, betas=(0.5, 0.999), fused=True)
            for parameters in self.parameters
        ]

    def put(self, a, b) -> tuple[Tensor, Tensor]:
        """numpy images [n, H, W, C] of both domains onto the device, as channels-last NCHW."""
        first, second = (torch.from_numpy(x).permute(0, 3, 1, 2).to(self.device) for x in (a, b))
        return first, second

    def descend(self, player: int, loss: Tensor) -> None:
        optimizer = self.optimizers[player]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def discriminators_require_gradients(self, value: bool) -> None:
        for parameter in self.parameters[1]:
            parameter.requires_grad_(value)

    def autocast(self):
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


class PairTrainer(_Trainer):
    """pix2pix: non-saturating loss, of which the discriminator has half; L1 by 100."""

    def __init__(self, networks: Pair, device: str = "cpu", dtype=torch.float32, compiled: bool = False):
        super().__init__(([networks.generator], [networks.discriminator]), device, dtype)
        wrap = _compiler(compiled)
        self.generator, self.discriminator = map(wrap, networks)

    def step(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """One batch of pairs: the discriminator's loss and the generator's, before each moves."""
        with self.autocast():
            fake = self.generator(a)
            real_logits = self.discriminator(torch.cat([a, b], dim=1))
            fake_logits = self.discriminator(torch.cat([a, fake.detach()], dim=1))
            of_discriminator = 0.5 * (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean())
        self.descend(1, of_discriminator)
        self.discriminators_require_gradients(False)
        with self.autocast():
            logits = self.discriminator(torch.cat([a, fake], dim=1))
            of_generator = F.softplus(-logits).mean() + 100 * F.l1_loss(fake, b)
        self.descend(0, of_generator)
        self.discriminators_require_gradients(True)
        return of_discriminator.detach(), of_generator.detach()


class CycleTrainer(_Trainer):
    """CycleGAN: least squares, of which discriminators have half; cycle by 10, identity by 5; pools."""

    def __init__(self, networks: Cycle, device: str = "cpu", dtype=torch.float32, compiled: bool = False):
        players = networks.generators.values(), networks.discriminators.values()
        super().__init__(players, device, dtype)
        wrap = _compiler(compiled)
        self.to_b, self.to_a = (wrap(networks.generators[name]) for name in ("AtoB", "BtoA"))
        self.judge_a, self.judge_b = (wrap(networks.discriminators[name]) for name in "AB")
        self.pool_size = networks.pool_size
        self.pools: dict[str, list[Tensor]] = {"A": [], "B": []}

    def shown(self, domain: str, images: Tensor) -> Tensor:
        """What a discriminator sees for new images: some of the past."""
        if not self.pool_size:
            return images
        pool, chosen = self.pools[domain], []
        for image in images:
            if len(pool) < self.pool_size:
                pool.append(image)
            elif random.random() < 0.5:
                place = random.randrange(self.pool_size)
                pool[place], image = image, pool[place]
            chosen.append(image)
        return torch.stack(chosen)

    def step(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """One batch of each domain: the discriminators' loss and the generators', before each moves."""
        with self.autocast():
            fake_b, fake_a = self.to_b(a), self.to_a(b)
            of_discriminators = torch.zeros((), device=self.device)
            for domain, judge, real, fake in (("A", self.judge_a, a, fake_a), ("B", self.judge_b, b, fake_b)):
                logits = judge(real), judge(self.shown(domain, fake.detach()))
                of_discriminators = of_discriminators + 0.5 * (
                    (logits[0] - 1).square().mean() + logits[1].square().mean()
                )
        self.descend(1, of_discriminators)
        self.discriminators_require_gradients(False)
        with self.autocast():
            of_generators = (self.judge_b(fake_b) - 1).square().mean()
            of_generators = of_generators + (self.judge_a(fake_a) - 1).square().mean()
            back = F.l1_loss(self.to_a(fake_b), a) + F.l1_loss(self.to_b(fake_a), b)
            same = F.l1_loss(self.to_a(a), a) + F.l1_loss(self.to_b(b), b)
            of_generators = of_generators + 10 * back + 5 * same
        self.descend(0, of_generators)
        self.discriminators_require_gradients(True)
        return of_discriminators.detach(), of_generators.detach()


def _compiler(compiled: bool) -> Any:
    return (lambda module: torch.compile(module, dynamic=False)) if compiled else (lambda module: module)
