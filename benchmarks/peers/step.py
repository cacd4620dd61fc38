"""One training step in PyTorch, as somebody who knows it writes it: eager, or compiled.

- Images and weights are channels-last. Adam is the fused one; a step launches no other optimizer kernels.
- One generator pass serves both phases: the discriminator learns from its images detached, and the
  generator's loss goes back through the same graph.
- While the generator learns, the discriminator's parameters require no gradient: none is computed for them,
  and what only that would need is not kept.
- Compiled (`torch.compile`, default mode, static shapes): the generator, and each of the two losses with the
  discriminator passes in it. Each is a function of its own because the discriminator's parameters require
  gradients in one and not in the other, which compiling fixes. The optimizers stay as they are: each is one
  fused kernel already.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Recipe(NamedTuple):
    """How two networks are trained.

    Attributes:
      generator, discriminator: as in `ganjax.families.adversarial`, but for `train`.
      names: for `copy_weights`, of the generator and of the discriminator.
      latent_size: of the generator's input.
      num_classes: 0 for an unconditional GAN.
      hinge: the hinge loss (Miyato et al. 2018); else the non-saturating one.
      r1: gamma of the gradient penalty at real images (Mescheder et al. 2018); 0: off.
      learning_rate: of both players' Adam, by step.
      betas: likewise.
      ema_decay: of the averaged generator, by step; None keeps none.
    """

    generator: nn.Module
    discriminator: nn.Module
    names: tuple[dict[str, str], dict[str, str]]
    latent_size: int
    num_classes: int = 0
    hinge: bool = False
    r1: float = 0.0
    learning_rate: Callable[[int], float] = lambda step: 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    ema_decay: Callable[[int], float] | None = None


class Trainer:
    """The two networks, their optimizers and the averaged generator on one device.

    Args:
      recipe: what is trained; its networks move to the device.
      device: "cpu" or "cuda".
      dtype: of the convolutions and matrix products: float32, or bfloat16 by autocast.
      compiled: whether through `torch.compile`.
    """

    def __init__(
        self,
        recipe: Recipe,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ):
        self.recipe, self.device, self.dtype = recipe, torch.device(device), dtype
        self.generator = _channels_last(recipe.generator.train(), self.device)
        self.discriminator = _channels_last(recipe.discriminator.train(), self.device)
        self.generator_parameters = list(self.generator.parameters())
        self.discriminator_parameters = list(self.discriminator.parameters())
        self.optimizers = [
            torch.optim.Adam(parameters, lr=recipe.learning_rate(0), betas=recipe.betas, fused=True)
            for parameters in (self.generator_parameters, self.discriminator_parameters)
        ]
        self.ema = [p.detach().clone() for p in self.generator_parameters] if recipe.ema_decay else []
        self.steps = 0
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self._generate = wrap(self.generator)
        # torch.compile can't differentiate a gradient again.
        self._discriminator_loss = self._of_discriminator if recipe.r1 else wrap(self._of_discriminator)
        self._generator_loss = wrap(self._of_generator)

    def put(self, images, labels=None) -> tuple[Tensor, Tensor | None]:
        """numpy images [n, H, W, C] and labels [n] onto the device, images as channels-last NCHW."""
        x = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device)
        return x, None if labels is None else torch.from_numpy(labels).long().to(self.device)

    def step(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        latents: Tensor | None = None,
        fake_labels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One batch: the discriminator's loss and the generator's, before each moves.

        Args:
          images: [n, C, H, W].
          labels: [n], of a conditional GAN.
          latents: [n, Z]; drawn where not given.
          fake_labels: [n]; likewise.
        """
        recipe = self.recipe
        if latents is None:
            latents = torch.randn(len(images), recipe.latent_size, device=self.device)
        if recipe.num_classes and fake_labels is None:
            fake_labels = torch.randint(recipe.num_classes, (len(images),), device=self.device)
        rate = recipe.learning_rate(self.steps)
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = rate
        of_generator, of_discriminator = self.optimizers

        with self._autocast():
            fake = self._generate(latents, fake_labels)
            discriminator_loss, penalty = self._discriminator_loss(images, labels, fake.detach(), fake_labels)
        of_discriminator.zero_grad(set_to_none=True)
        (discriminator_loss if penalty is None else discriminator_loss + penalty).backward()
        of_discriminator.step()

        self._discriminator_requires_gradients(False)
        with self._autocast():
            generator_loss = self._generator_loss(fake, fake_labels)
        of_generator.zero_grad(set_to_none=True)
        generator_loss.backward()
        of_generator.step()
        self._discriminator_requires_gradients(True)

        if recipe.ema_decay is not None:
            weight = 1.0 - recipe.ema_decay(self.steps)
            lerp = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]
            lerp(self.ema, [p.detach() for p in self.generator_parameters], weight)
        self.steps += 1
        return discriminator_loss.detach(), generator_loss.detach()

    def _of_discriminator(self, images, labels, fake, fake_labels) -> tuple[Tensor, Tensor | None]:
        """The loss, and the penalty where there is one."""
        images = images.detach().requires_grad_() if self.recipe.r1 else images
        real_logits = self.discriminator(images, labels)
        fake_logits = self.discriminator(fake, fake_labels)
        if self.recipe.hinge:
            return F.relu(1.0 - real_logits).mean() + F.relu(1.0 + fake_logits).mean(), None
        value = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        if not self.recipe.r1:
            return value, None
        (gradient,) = torch.autograd.grad(real_logits.sum(), images, create_graph=True)
        return value, self.recipe.r1 / 2 * gradient.square().sum((1, 2, 3)).mean()

    def _of_generator(self, fake, fake_labels) -> Tensor:
        logits = self.discriminator(fake, fake_labels)
        return -logits.mean() if self.recipe.hinge else F.softplus(-logits).mean()

    def _discriminator_requires_gradients(self, value: bool) -> None:
        for parameter in self.discriminator_parameters:
            parameter.requires_grad_(value)

    def _autocast(self):
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=enabled)


def _channels_last(module: nn.Module, device: torch.device) -> nn.Module:
    return module.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
