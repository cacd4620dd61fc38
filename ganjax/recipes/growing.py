"""What the experiments with growing networks share: settings, and how stages and networks are made."""

import dataclasses
from collections.abc import Callable

from absl import logging
from flax import linen as nn

from ganjax import data
from ganjax.config import check_unused, default_of, setting
from ganjax.data.images import check_size
from ganjax.data.shrunk import shrunk
from ganjax.errors import UsageError
from ganjax.families.growing import Rung, faded, growing, ladder
from ganjax.families.recipe import ImageRecipe, check_group, loss_setting, wrong
from ganjax.gan import Experiment
from ganjax.nets.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from ganjax.nets.style import StyleGenerator

OF_GROWTH = ("first_size", "batch_sizes", "fade_images", "hold_images", "reset_optimizers")


@dataclasses.dataclass(frozen=True)
class GrowingRecipe(ImageRecipe):
    """The settings of `ganjax.nets.progressive`'s networks. What the paper has is the default."""

    image_size: int | tuple[int, int] | None = setting(
        1024,
        "final height and width, or one for both: base_size times a power of two; none: the set's",
        minimum=1,
        maximum=4096,
    )
    base_size: int = setting(4, "the shorter side of the smallest images", minimum=1, maximum=4096)
    growing: bool = setting(True, "images grow; else they have their size from the start")
    first_size: int | None = setting(
        None,
        "the shorter side of the images that are trained on first, base_size times a power of two; none: "
        "base_size",
        minimum=1,
        maximum=4096,
    )
    batch_size: int = setting(16, "of the global batch at the largest images", minimum=2, maximum=2**20)
    batch_sizes: tuple[int, ...] = setting(
        (), "of the sizes before the largest, from the smallest on; those left out: batch_size", minimum=2
    )
    steps: int = setting(500_000, "batches to train on, at all sizes together", minimum=1, maximum=2**31 - 1)
    fade_images: int = setting(800_000, "images over which a size is faded in", minimum=0)
    hold_images: int = setting(
        800_000, "images after that at a size, but the largest, which has the rest", minimum=1
    )
    reset_optimizers: bool = setting(
        True,
        "optimizers start afresh at every size; else new layers' first steps are up to ten times too long",
    )

    conditional: bool = setting(False, "images are of a class that is asked for; the set needs labels")
    latent_size: int = setting(512, "entries of a latent", minimum=1, maximum=65_536)
    generator_learning_rate: float = setting(1e-3, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(1e-3, "of the discriminator", above=0.0)
    beta1: float = setting(0.0, "of Adam", minimum=0.0, below=1.0)
    beta2: float = setting(0.99, "of Adam", minimum=0.0, below=1.0)

    channel_base: int = setting(
        4096, "channels at the smallest images before the maximum; half as many from size to size", minimum=1
    )
    channel_max: int = setting(512, "channels at most", minimum=1, maximum=4096)
    group: int = setting(
        4, "images over which the discriminator sees the standard deviation; 0: without", minimum=0
    )

    def generator(self, shape: tuple[int, int, int], rung: Rung, num_classes: int) -> nn.Module:
        """Of images of this shape."""
        raise NotImplementedError

    def discriminator(self, rung: Rung, num_classes: int) -> nn.Module:
        """Of the images of a rung."""
        raise NotImplementedError

    def classes_of(self, images: data.Dataset) -> int:
        """How many classes the networks are told of."""
        if self.conditional and not images.num_classes:
            raise wrong(self, "conditional", f"false, as dataset={self.dataset!r} has no labels")
        return images.num_classes if self.conditional else 0

    def levels(self, height: int, width: int) -> int:
        """How often the smallest images' sides are doubled. Raises ValueError for a size that is none of
        them."""
        level, shorter = 0, min(height, width)
        while shorter > self.base_size and shorter % 2 == 0:
            level, shorter = level + 1, shorter // 2
        if shorter != self.base_size or height % 2**level or width % 2**level:
            sides = ", ".join(str(self.base_size * 2**k) for k in range(1, 6))
            raise ValueError(
                f"--config.image_size={height if height == width else f'{height},{width}'}: expected "
                f"base_size={self.base_size} times a power of two, as {sides}; or another --config.base_size="
            )
        return level

    def first_level(self, top: int) -> int:
        """The level of `first_size`. Raises ValueError where there is none of that size up to the largest."""
        sizes = [self.base_size << level for level in range(top + 1)]
        first = self.base_size if self.first_size is None else self.first_size
        if first not in sizes:
            raise wrong(self, "first_size", f"one of {', '.join(map(str, sizes))}")
        return sizes.index(first)

    def rungs(self, top: int) -> tuple[Rung, ...]:
        """The stages up to this level. Raises ValueError for batches or lengths that do not fit."""
        levels = range(self.first_level(top), top + 1) if self.growing else (top,)
        for name in () if self.growing else OF_GROWTH:
            check_unused(self, name, "growing=false")
        before = self.batch_sizes[: len(levels) - 1]
        if len(self.batch_sizes) > len(before) and self.batch_sizes != default_of(self, "batch_sizes"):
            count = len(before)
            raise wrong(self, "batch_sizes", f"at most {count}, as many as sizes before the largest")
        sizes = [*before, *[self.batch_size] * (len(levels) - len(before))]
        for size in sizes:
            if size % self.accumulate:
                raise wrong(
                    self, "accumulate", f"a number that divides every size's batch, as that of {size}"
                )
            check_group(self, self.group, size // self.accumulate)
        try:
            return ladder(
                levels, self.steps, sizes, fade_images=self.fade_images, hold_images=self.hold_images
            )
        except ValueError as error:
            raise ValueError(f"--config.{error}") from error

    def build(self, load: Callable = data.load) -> Experiment:
        """The experiment. Raises ValueError for sizes and batches that do not fit the images."""
        if self.image_size is not None:
            size = check_size(self.image_size)
            assert size is not None
            self.levels(*size)  # before any data are looked for
            own = native_size(self, load)
        else:
            own = None
        images = self.images(load)
        height, width, _ = images.image_shape
        if self.image_size is not None and own is None:
            logging.warning(
                "dataset=%s: its images are of several sizes; those smaller than %dx%d are enlarged",
                self.dataset,
                height,
                width,
            )
        elif own is not None and (own[0] < height or own[1] < width):
            logging.warning(
                "dataset=%s: its images of %dx%d are enlarged to %dx%d", self.dataset, *own, height, width
            )
        top, classes = self.levels(height, width), self.classes_of(images)
        rungs = self.rungs(top)
        if self.freeze_d and len(rungs) > 1:
            raise wrong(
                self,
                "freeze_d",
                "0 where images grow, for at each size the first layers are new; or "
                "take --config.growing=false",
            )
        largest = max(rung.batch_size for rung in rungs)
        if images.num_examples < largest:
            raise ValueError(
                f"dataset={self.dataset!r} has {images.num_examples} images, fewer than a batch of "
                f"{largest}; take smaller batches (--config.batch_size=, --config.batch_sizes=), or more"
            )
        built = []
        for rung in rungs:
            source = shrunk(images, 2 ** (top - rung.level))
            built.append(
                self.experiment(
                    source,
                    self.generator(source.image_shape, rung, classes),
                    self.discriminator(rung, classes),
                    num_classes=classes,
                    rung=rung,
                    by_step={"alpha": rung.alpha} if rung.fade_steps else None,
                    of_real=faded(rung) if rung.fade_steps else None,
                )
            )
        stages = growing([one.stages[0] for one in built], reset_optimizers=self.reset_optimizers)
        return built[-1]._replace(stages=stages)


def native_size(config: ImageRecipe, load: Callable) -> tuple[int, int] | None:
    """Height and width of the set's own images; None where they differ."""
    try:
        return load(config.dataset, split="train", channels=config.channels).image_shape[:2]
    except UsageError:
        return None


@dataclasses.dataclass(frozen=True)
class ProgressiveRecipe(GrowingRecipe):
    """PGGAN (Karras et al. 2018)."""

    loss: str = loss_setting("wasserstein")
    gradient_penalty: float = setting(10.0, "weight of the gradient penalty; 0: off", minimum=0.0)
    drift: float = setting(1e-3, "weight of the squared logits of real images; 0: off", minimum=0.0)

    def generator(self, shape: tuple[int, int, int], rung: Rung, num_classes: int) -> nn.Module:
        return ProgressiveGenerator(
            shape,
            rung.level,
            bool(rung.fade_steps),
            self.channel_base,
            self.channel_max,
            num_classes,
            dtype=self.compute_dtype,
        )

    def discriminator(self, rung: Rung, num_classes: int) -> nn.Module:
        return ProgressiveDiscriminator(
            rung.level,
            bool(rung.fade_steps),
            num_classes,
            self.channel_base,
            self.channel_max,
            self.group,
            dtype=self.compute_dtype,
        )


@dataclasses.dataclass(frozen=True)
class StyleRecipe(GrowingRecipe):
    """StyleGAN (Karras et al. 2019)."""

    r1: float = setting(10.0, "gamma of the gradient penalty at real images; 0: off", minimum=0.0)

    style_size: int = setting(512, "entries of a style", minimum=1, maximum=65_536)
    mapping_layers: int = setting(8, "dense layers from latents to styles", minimum=1, maximum=100)
    mapping_multiplier: float = setting(0.01, "of their learning rate", above=0.0)
    mixing: float = setting(
        0.9, "share of generated images with styles of two latents; 0: off", minimum=0.0, maximum=1.0
    )
    mean_decay: float = setting(0.995, "of the styles' running mean", minimum=0.0, below=1.0)

    def generator(self, shape: tuple[int, int, int], rung: Rung, num_classes: int) -> nn.Module:
        return StyleGenerator(
            shape,
            rung.level,
            bool(rung.fade_steps),
            num_classes,
            self.channel_base,
            self.channel_max,
            self.style_size,
            self.mapping_layers,
            self.mapping_multiplier,
            self.mixing,
            self.mean_decay,
            dtype=self.compute_dtype,
        )

    def discriminator(self, rung: Rung, num_classes: int) -> nn.Module:
        return ProgressiveDiscriminator(
            rung.level,
            bool(rung.fade_steps),
            num_classes,
            self.channel_base,
            self.channel_max,
            self.group,
            blurred=True,
            dtype=self.compute_dtype,
        )
