"""What the StyleGAN2 experiments share: settings, those that follow from the images, and how networks are
made."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from ganjax import data, optim
from ganjax.config import setting
from ganjax.families.adversarial import GENERATOR
from ganjax.families.path_length import with_path_length
from ganjax.families.penalties import Seen
from ganjax.families.recipe import ImageRecipe, check_group, wrong
from ganjax.gan import Array, Experiment
from ganjax.nets.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator, levels_of


@dataclasses.dataclass(frozen=True)
class StyleGAN2Recipe(ImageRecipe):
    """StyleGAN2 (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN"), with the
    settings of "Training generative adversarial networks with limited data" (Karras et al. 2020). What is
    none by default follows from the size of the images and of the batch: `resolved`."""

    batch_size: int = setting(32, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(780_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(512, "entries of a latent", minimum=1, maximum=65_536)
    generator_learning_rate: float | None = setting(
        None, "of the generator; none: 0.0025, from 1024x1024 pixels on 0.002", above=0.0
    )
    discriminator_learning_rate: float | None = setting(
        None, "of the discriminator; none: as the generator's by default", above=0.0
    )
    beta1: float = setting(0.0, "of Adam", minimum=0.0, below=1.0)
    beta2: float = setting(0.99, "of Adam", minimum=0.0, below=1.0)
    ema_decay: float | None = setting(
        None, "of the averaged generator, by step; none: by ema_kimg; 0: no average", minimum=0.0, below=1.0
    )
    ema_kimg: float | None = setting(
        None, "half-life of the averaged generator, in thousands of images; none: 0.3125 * batch", above=0.0
    )
    ema_ramp: float | None = setting(
        None,
        "share of the images seen that the half-life does not exceed; none: 0.05, with --init_from 0; 0: off",
        minimum=0.0,
    )
    r1: float | None = setting(
        None,
        "gamma of the gradient penalty at real images; none: 0.0002 * pixels / batch; 0: off",
        minimum=0.0,
    )
    r1_every: int = setting(16, "steps to one of R1's own, which is as many times as strong", minimum=1)
    path_length: float = setting(2.0, "weight of path length regularization; 0: off", minimum=0.0)
    path_length_every: int = setting(
        4, "steps to one of its own, which is as many times as strong", minimum=1
    )
    path_length_shrink: int = setting(2, "of a batch, one of so many examples serves for it", minimum=1)
    path_length_decay: float = setting(0.01, "of its running mean", above=0.0, maximum=1.0)
    mixing: float = setting(
        0.9, "share of generated images with styles of two latents; 0: off", minimum=0.0, maximum=1.0
    )
    mean_decay: float = setting(0.995, "of the styles' running mean", minimum=0.0, below=1.0)

    conditional: bool = setting(False, "images are of a class that is asked for; the set needs labels")
    base_size: int = setting(
        4, "sides are halved as long as none is shorter than this", minimum=2, maximum=4096
    )
    channel_base: int | None = setting(
        None,
        "channels at the smallest images before the maximum, half as many from size to size; none: 16384 "
        "over their shorter side, from 512x512 pixels on 32768",
        minimum=1,
    )
    channel_max: int = setting(512, "channels at most", minimum=1, maximum=4096)
    style_size: int = setting(512, "entries of a style", minimum=1, maximum=65_536)
    mapping_layers: int = setting(
        2, "dense layers from latents to styles; StyleGAN2 had 8", minimum=1, maximum=100
    )
    mapping_multiplier: float = setting(0.01, "of their learning rate", above=0.0)
    label_layers: int | None = setting(
        None, "those from classes, in the discriminator; none: mapping_layers", minimum=1, maximum=100
    )
    architecture: Literal["residual", "plain", "skip"] = setting("residual", "of the discriminator")
    group: int | None = setting(
        None,
        "images over which the discriminator sees the standard deviation; none: up to 4, as many as divide "
        "the batch, or all of one that none divide; 0: without",
        minimum=0,
    )
    low_levels: int = setting(
        4, "so many of the largest sizes compute in dtype, those below in float32", minimum=0, maximum=100
    )
    clamp: float | None = setting(
        None, "size at which either network's activations are cut off; none: at none", above=0.0
    )
    constant_noise: bool = setting(
        False, "the generator has fixed noise of its own too, as official weights have, for --noise=const"
    )

    def switches(self) -> Mapping[str, tuple[str, Callable[[Any], bool]]]:
        own: dict[str, tuple[str, Callable[[Any], bool]]] = {
            name: ("path_length", lambda weight: weight != 0)
            for name in ("path_length_every", "path_length_shrink", "path_length_decay")
        }
        own |= {name: ("ema_decay", lambda decay: decay is None) for name in ("ema_kimg", "ema_ramp")}
        return {**super().switches(), **own, "label_layers": ("conditional", bool)}

    def resolved(self, height: int, width: int) -> "StyleGAN2Recipe":
        """These settings for images of this size, none of those that follow from it left open.

        The heuristics are those of Karras et al.'s second paper and its code: gamma grows with the pixels and
        shrinks with the batch, the averaged generator's half-life is that of 10,000 images for a batch of 32,
        and so on.
        """
        pixels = height * width
        shorter = min(height, width) >> levels_of(height, width, self.base_size)
        micro = self.batch_size // self.accumulate
        by_default = {
            "generator_learning_rate": 0.002 if pixels >= 1024**2 else 0.0025,
            "discriminator_learning_rate": 0.002 if pixels >= 1024**2 else 0.0025,
            "ema_kimg": 0.3125 * self.batch_size,
            "ema_ramp": 0.05,
            "r1": 0.0002 * pixels / self.batch_size,
            "channel_base": max((32768 if pixels >= 512**2 else 16384) // shorter, 1),
            "group": next((count for count in (4, 3, 2) if micro % count == 0), micro),
        }
        if self.ema_decay is not None:  # the average is by that
            del by_default["ema_kimg"], by_default["ema_ramp"]
        missing = {name: value for name, value in by_default.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def with_weights(self) -> "StyleGAN2Recipe":
        """These settings for a run that begins with the weights of another: the average goes on from the one
        that it takes, which a half-life of few images would lose at once."""
        if self.ema_decay is not None or self.ema_ramp is not None:
            return self
        return dataclasses.replace(self, ema_ramp=0.0)

    def average(self, batch_size: int) -> optim.Schedule | None:
        if self.ema_decay is not None:
            return super().average(batch_size)
        assert self.ema_kimg is not None
        assert self.ema_ramp is not None
        return optim.ema_by_images(
            1000 * self.ema_kimg,
            batch_size,
            start=self.ema_start,
            ramp=self.ema_ramp,
            every=self.discriminator_steps,
        )

    def lazy_intervals(self) -> dict[str, int]:
        """Path length besides."""
        return super().lazy_intervals() | ({GENERATOR: self.path_length_every} if self.path_length else {})

    def watched(self) -> dict[str, Callable[[Seen], Array]]:
        """How logits are distributed, and the first of ADA's heuristics of overfitting, "real_sign": the mean
        sign of real images' logits (the second paper, section 3)."""

        def deviation(logits: Array, seen: Seen) -> Array:
            mean, square = (seen.context.statistic(jnp.mean(x)) for x in (logits, jnp.square(logits)))
            return jnp.sqrt(jnp.maximum(square - jnp.square(mean), 0.0))

        found = {
            "real_sign": lambda seen: jnp.mean(jnp.sign(seen.real_logits)),
            "fake_sign": lambda seen: jnp.mean(jnp.sign(seen.fake_logits)),
            "real_logits_deviation": lambda seen: deviation(seen.real_logits, seen),
            "fake_logits_deviation": lambda seen: deviation(seen.fake_logits, seen),
        }
        gamma = self.r1
        return found | ({"r1_gamma": lambda seen: jnp.asarray(gamma)} if gamma else {})

    def networks(self, shape: tuple[int, int, int], num_classes: int) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator of images [H, W, C], of settings that are `resolved`."""
        level = levels_of(*shape[:2], self.base_size)
        assert self.channel_base is not None
        assert self.group is not None
        generator = StyleGAN2Generator(
            shape,
            level,
            num_classes,
            self.channel_base,
            self.channel_max,
            self.style_size,
            self.mapping_layers,
            self.mapping_multiplier,
            self.mixing,
            self.mean_decay,
            self.low_levels,
            self.compute_dtype,
            self.clamp,
            self.constant_noise,
        )
        discriminator = StyleGAN2Discriminator(
            level,
            num_classes,
            self.architecture,
            self.channel_base,
            self.channel_max,
            self.group,
            self.label_layers or self.mapping_layers,
            self.mapping_multiplier,
            self.low_levels,
            self.compute_dtype,
            clamp=self.clamp,
        )
        return generator, discriminator

    def build(self, load: Callable = data.load) -> Experiment:
        """The experiment. Raises ValueError for settings that do not fit the images, or each other."""
        images = self.images(load, conditional=self.conditional)
        return self.resolved(*images.image_shape[:2])._built(images)

    def _built(self, images: data.Dataset) -> Experiment:
        batch = self.batch_size // self.accumulate
        check_group(self, self.group or 0, batch)
        if self.path_length and batch % self.path_length_shrink:
            raise wrong(self, "path_length_shrink", f"a number that divides the (micro-)batch of {batch}")
        classes = images.num_classes if self.conditional else 0
        generator, discriminator = self.networks(images.image_shape, classes)
        built = self.experiment(images, generator, discriminator, num_classes=classes)
        if not self.path_length:
            return built
        (stage,) = built.stages
        gan = with_path_length(
            stage.gan,
            generator,
            latent_size=self.latent_size,
            num_classes=classes,
            weight=self.path_length,
            interval=self.path_length_every,
            shrink=self.path_length_shrink,
            decay=self.path_length_decay,
            accumulate=self.accumulate,
            stride=self.discriminator_steps,
        )
        return built._replace(stages=(stage._replace(gan=gan),))
