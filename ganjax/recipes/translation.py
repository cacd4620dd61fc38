"""What the experiments that translate images have in common: settings, data and networks."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from ganjax import augment, data, losses, optim
from ganjax.config import check_unused, setting
from ganjax.data.dataset import alike
from ganjax.data.domains import Divide, by_channels
from ganjax.data.sampling import spread
from ganjax.errors import RunError, UsageError
from ganjax.families import cycle, translation
from ganjax.families.translation import direction_of
from ganjax.gan import Experiment, Gan, Judge, Show, Stage
from ganjax.metrics import translation as metrics
from ganjax.metrics.lpips import over_white
from ganjax.nets.translation import (
    PATCHES,
    PatchDiscriminator,
    ResidualGenerator,
    check_patch,
    least_side,
)
from ganjax.nets.translation import check_residual_shape as check_residual
from ganjax.nets.unet import UNet
from ganjax.report.translation import rows

LOSSES = {
    "non_saturating": losses.NON_SATURATING,
    "least_squares": losses.LEAST_SQUARES,
    "hinge": losses.HINGE,
}
MOST_STAGES = 8  # of a U-Net


def loss_setting(default: str) -> Any:
    """The setting `loss` with another default."""
    return setting(default, "what is minimised", choices=tuple(LOSSES))


@dataclasses.dataclass(frozen=True)
class TranslationRecipe:
    """The settings that all of them have."""

    domain_a: str = setting("", "a folder of A's images, beside domain_b and instead of dataset")
    domain_b: str = setting("", "a folder of B's images")
    image_size: int | tuple[int, int] | None = setting(
        256, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    resize: Literal["crop", "pad", "stretch"] = setting(
        "crop", "how images come to image_size: cropped, with black around them, or out of proportion"
    )
    channels: tuple[int, int] = setting((3, 3), "of A's images and of B's", choices=(1, 3, 4))
    held_out: float = setting(
        0.1, "share that is kept for tests, of a set without a test split; 0: none", minimum=0.0, below=1.0
    )
    held_out_by: str = setting("", "names that are alike up to this text are held out together")
    jitter: float = setting(
        0.117,
        "share by which images grow before they are cropped at random; 0: off",
        minimum=0.0,
        maximum=1.0,
    )
    flip: bool = setting(True, "half of the images are mirrored")

    batch_size: int = setting(1, "of the global batch", minimum=1, maximum=2**20)
    steps: int = setting(80_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    seeds: int = setting(
        1, "runs that are trained in one, with seeds from --seed on", minimum=1, maximum=1000
    )
    evaluate_every: int = setting(
        0, "measure held-out images every so many steps; 0: never", minimum=0, maximum=2**31 - 1
    )
    dtype: Literal["float32", "bfloat16"] = setting("float32", "for compute")
    shown: int = setting(8, "held-out images in the grids of samples", minimum=1, maximum=256)

    width: int = setting(64, "channels next to the image, of a generator", minimum=1, maximum=65_536)
    discriminator_width: int = setting(64, "channels next to the image", minimum=1, maximum=65_536)
    patch: int = setting(70, "pixels on a side of what a logit sees", choices=tuple(PATCHES))

    loss: str = loss_setting("non_saturating")
    adversarial_weight: float = setting(1.0, "of the generators' adversarial loss", minimum=0.0)
    generator_learning_rate: float = setting(2e-4, "of generators", above=0.0)
    discriminator_learning_rate: float = setting(2e-4, "of discriminators", above=0.0)
    beta1: float = setting(0.5, "of Adam", minimum=0.0, below=1.0)
    schedule: Literal["linear", "constant"] = setting("linear", "how the rates go from decay_start on: to 0")
    decay_start: float = setting(0.5, "share of the steps after which they do", minimum=0.0, below=1.0)
    ema_decay: float = setting(0.0, "of averaged generators; 0: no average", minimum=0.0, below=1.0)

    def __post_init__(self) -> None:
        dataset = getattr(self, "dataset", "")
        if dataset and self.domain_a:
            raise ValueError(
                f"--config.dataset={dataset}: expected none beside domain_a={self.domain_a}; say "
                "--config.dataset= with nothing behind it, or leave out the domains"
            )
        if bool(self.domain_a) != bool(self.domain_b):
            here, missing = ("domain_a", "domain_b") if self.domain_a else ("domain_b", "domain_a")
            raise ValueError(f"--config.{here}={getattr(self, here)}: expected --config.{missing} beside it")
        if self.schedule == "constant":
            check_unused(self, "decay_start", "schedule=constant")
        if self.image_size is None:
            check_unused(self, "resize", "image_size=None")
        if not self.held_out:
            check_unused(self, "held_out_by", "held_out=0")

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.dtype)

    def optimizers(self, generators: str, discriminators: str) -> dict[str, optax.GradientTransformation]:
        """By player: Adam, at a rate that is constant and then falls on a straight line to 0."""
        start = round(self.decay_start * self.steps)

        def make(rate: float) -> optax.GradientTransformation:
            falls = self.schedule == "linear" and start < self.steps
            return optim.adam(optim.linear_decay(rate, start, self.steps) if falls else rate, self.beta1)

        return {
            generators: make(self.generator_learning_rate),
            discriminators: make(self.discriminator_learning_rate),
        }

    def weights(self) -> dict[str, float]:
        """Of the adversarial losses, as the papers have them: a discriminator's is halved.

        Our least squares are halved for both players already.
        """
        least_squares = self.loss == "least_squares"
        return {
            "adversarial_weight": self.adversarial_weight * (2.0 if least_squares else 1.0),
            "discriminator_weight": 1.0 if least_squares else 0.5,
        }

    def further(self) -> dict[str, Any]:
        """Further arguments that both families take."""
        average = optim.ema_decay(self.ema_decay) if self.ema_decay else None
        return {"loss": LOSSES[self.loss], "ema_decay": average, **self.weights()}

    def augmentation(self) -> augment.Augmentation | None:
        """The jitter; None: nothing."""
        return augment.jitter(self.jitter, flip=self.flip) if self.jitter or self.flip else None

    def held_out_split(
        self, load: Callable[..., data.Dataset], name: str, split: str, **options: Any
    ) -> tuple:
        """The training set, and what is held out of it (None: nothing)."""
        options |= {"image_size": self.image_size, "resize": self.resize}
        if not self.held_out:
            return load(name, split=split, **options), None
        options |= {"held_out": self.held_out, "held_out_by": self.held_out_by}
        test = split.replace("train", "test")
        return load(name, split=split, **options), load(name, split=test, **options)

    def experiment(
        self,
        gan: Gan,
        source: data.Source,
        sides: Callable[[np.ndarray], dict[str, np.ndarray]],
        count: int,
        directions: Mapping[str, str],
        channels: Mapping[str, tuple[int, int]],
        multiple: int,
        least: int,
        judge: Judge,
    ) -> Experiment:
        """An experiment of one stage.

        Args:
          gan: what is trained.
          source: on what.
          sides: places of the held-out images -> the images by domain; of the training ones, where none are.
          count: how many there are.
          directions: domain -> the direction that begins there.
          channels: direction -> of its inputs and of its outputs.
          multiple: what the sides of an image must be multiples of.
          least: what they must be at least.
          judge: of the translations.
        """
        shown = min(self.shown, count)

        @functools.cache
        def fixed() -> dict[str, np.ndarray]:
            return sides(np.linspace(0, count - 1, shown).astype(int))

        def conditions() -> dict[str, np.ndarray]:
            return {domain: fixed()[domain] for domain in directions}

        def picture(samples: Mapping[str, np.ndarray], columns: int) -> np.ndarray:
            cells = []
            for domain, direction in directions.items():
                again = f"{direction}to{domain}"
                last = samples[again] if again in samples else fixed()[direction[-1]]
                cells += [fixed()[domain], samples[direction], last]
            return rows(cells, columns)

        def compared(samples: Mapping[str, np.ndarray]) -> list[np.ndarray]:
            return [samples[direction] for direction in directions.values()]

        def translate(command: Any) -> int:
            from ganjax.cli import translate  # here: to build an experiment needs no command line

            return translate.run(command, channels, multiple, least)

        return Experiment(
            (Stage(gan, source, self.steps, self.batch_size),),
            modes={"translate": translate},
            show=Show(shown, 1 if len(directions) > 1 or shown < 4 else 2, picture, conditions, compared),
            judge=judge,
            evaluate_every=self.evaluate_every,
            seeds=self.seeds,
        )


def nothing_held_out(count: int) -> Any:
    """In the place of what is held out. Raises UsageError."""
    del count
    raise UsageError(
        "nothing is held out of this run's data to be measured on; train with --config.held_out=0.1"
    )


@dataclasses.dataclass(frozen=True)
class PairedRecipe(TranslationRecipe):
    """pix2pix: a U-Net against a discriminator of patches, learned from pairs."""

    dataset: str = setting("", "pairs side by side: a folder of images, an .npz, or a TFDS name")
    direction: Literal["AtoB", "BtoA"] = setting("AtoB", "what is translated to what; A is the left side")
    label_map: Literal["", "A", "B"] = setting(
        "", "the domain that is a label map, against which classes are measured; none: neither is"
    )
    l1: float = setting(100.0, "weight of the mean absolute difference from the target", minimum=0.0)
    feature_matching: float = setting(
        0.0, "weight of the distance between the discriminator's features; 0: off", minimum=0.0
    )
    stages: int | None = setting(
        None,
        "how often the U-Net halves images; none: as often as they can be",
        minimum=1,
        maximum=MOST_STAGES,
    )
    dropout: float = setting(0.5, "in the decoder, in sampling too", minimum=0.0, below=1.0)
    norm: Literal["batch", "instance", "none"] = setting(
        "batch", "of both networks; instance: what batch is where a batch is one image"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dataset and not self.domain_a:
            raise ValueError("--config.dataset= is missing, or --config.domain_a= and --config.domain_b=")
        if self.norm == "batch" and self.batch_size == 1:
            raise ValueError(
                "--config.norm=batch: expected instance with batch_size=1, for with running statistics "
                "sampling would differ from training"
            )

    def sets(self, load: Callable[..., data.Dataset]) -> tuple[data.Dataset, data.Dataset | None, Divide]:
        """The training set, what is held out, and how an image of theirs is two sides."""
        pair = data.Pair(self.domain_b or None, self.channels)
        train, test = self.held_out_split(load, self.domain_a or self.dataset, "train", pair=pair)
        return train, test, by_channels(self.channels[0])

    def build(self, load: Callable[..., data.Dataset] = data.load) -> Experiment:
        """The experiment. Raises ValueError for images that do not fit the networks."""
        train, test, divide = self.sets(load)
        source, target = self.direction[0], self.direction[-1]
        of = dict(zip("AB", self.channels, strict=True))
        size = train.image_shape[:2]
        check_patch(self.patch, size)
        stages = self.stages or stages_for(size)
        generator = UNet(
            of[target],
            stages,
            self.width,
            self.dropout,
            norm=self.norm,
            dtype=self.compute_dtype,
        )
        discriminator = PatchDiscriminator(
            self.patch, self.discriminator_width, self.norm, affine=True, dtype=self.compute_dtype
        )
        gan = translation.translation(
            generator,
            discriminator,
            optimizers=self.optimizers("generator", "discriminator"),
            source=source,
            target=target,
            l1=self.l1,
            feature_matching=self.feature_matching,
            **self.further(),
        )
        paired = data.Paired(train, divide, self.augmentation())
        held = paired if test is None else data.Paired(test, divide)

        def conditions(most: int) -> dict[str, np.ndarray]:
            return {source: sides(most)[source]}

        @functools.cache
        def sides(most: int) -> dict[str, np.ndarray]:
            return held.sides(spread(held.dataset.num_examples, most))

        def training() -> tuple[np.ndarray, np.ndarray]:
            count = train.num_examples
            some = paired.sides(spread(count, metrics.FITTED))
            return some[source], some[target]

        def held_sides(most: int) -> dict[str, metrics.Held]:
            both = sides(most)
            names = alike(held.dataset.names, self.held_out_by) if self.held_out_by else []
            groups = [names[place] for place in spread(len(names), most)] if names else None
            pairs = metrics.Held(self.direction, both[source], both[target], training, groups)
            return {self.direction: pairs}

        return self.experiment(
            gan,
            paired,
            held.sides,
            held.dataset.num_examples,
            {source: self.direction},
            {self.direction: (of[source], of[target])},
            2**stages,
            2**stages,
            metrics.judge(
                nothing_held_out if test is None else held_sides,
                nothing_held_out if test is None else conditions,
                [self.direction],
                paired=True,
                cycle=False,
                label_maps=self.label_map,
                counts=lambda: nothing_held_out(0) if test is None else {source: test.num_examples},
                size=size,
            ),
        )


def stages_for(size: tuple[int, ...]) -> int:
    """How often images of this (height, width) can be halved, at most 8 times. ValueError where not once."""
    stages = 0
    while stages < MOST_STAGES and all(side % 2 ** (stages + 1) == 0 for side in size):
        stages += 1
    if not stages:
        raise ValueError(f"image_size {size[0]}x{size[1]}: this network halves images, and needs even sides")
    return stages


@dataclasses.dataclass(frozen=True)
class MadePairsRecipe(PairedRecipe):
    """pix2pix on pairs whose first side, of one channel, is made of the second: of any images."""

    dataset: str = setting("", "a folder of images, an .npz, or a TFDS name")
    channels: tuple[int, int] = setting((1, 3), "of A's images, 1, and of B's", choices=(1, 3, 4))

    def __post_init__(self) -> None:
        if self.domain_a:
            raise ValueError(f"--config.domain_a={self.domain_a}: A is made of B here; name a dataset")
        super().__post_init__()
        if self.channels[0] != 1 or self.channels[1] == 1:
            raise ValueError(
                f"--config.channels={self.channels}: expected 1,3 or 1,4, as A is made of colours"
            )

    def made(self, images: jax.Array) -> jax.Array:
        """A's sides [n, H, W, 1] of B's [n, H, W, C]."""
        raise NotImplementedError

    def sets(self, load: Callable[..., data.Dataset]) -> tuple[data.Dataset, data.Dataset | None, Divide]:
        """As `PairedRecipe`, of plain images."""
        options = {"channels": self.channels[1], "flat": True}
        train, test = self.held_out_split(load, self.dataset, "train", **options)
        # Of what is seen over white, as an image to translate is: colours under the transparent say nothing
        return train, test, lambda images: (self.made(over_white(images)), images)


@dataclasses.dataclass(frozen=True)
class CycleRecipe(TranslationRecipe):
    """CycleGAN: two residual generators and two discriminators of patches, learned without pairs."""

    dataset: str = setting("", "two domains: a folder that holds trainA and trainB, or a TFDS name")
    loss: str = loss_setting("least_squares")
    cycle: float = setting(10.0, "weight of what a translation to and fro changes", minimum=0.0)
    identity: float = setting(
        0.5, "share of that weight for what changes in images of the target domain; 0: off", minimum=0.0
    )
    pool_size: int = setting(
        50,
        "generated images of a domain that are remembered for its discriminator",
        minimum=0,
        maximum=65_536,
    )
    blocks: int = setting(9, "residual blocks of a generator", minimum=0, maximum=1000)
    halvings: int = setting(2, "how often a generator halves images before them", minimum=0, maximum=8)
    upsampling: Literal["transposed", "nearest"] = setting(
        "transposed", "how generators enlarge: such convolutions, or every pixel twice and a convolution"
    )
    skip: bool = setting(
        False, "generators add to the image instead of drawing it anew; both domains have as many channels"
    )
    discriminator_norm: Literal["instance", "batch", "none"] = setting("instance", "in discriminators")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip and len(set(self.channels)) > 1:
            a, b = self.channels
            raise ValueError(f"--config.skip=true: expected as many channels of A as of B, got {a} and {b}")
        if not self.halvings:
            check_unused(self, "upsampling", "halvings=0")
        if not self.dataset and not self.domain_a:
            raise ValueError("--config.domain_a= and --config.domain_b= are missing, or --config.dataset=")
        if not self.cycle:
            check_unused(self, "identity", "cycle=0")

    def build(self, load: Callable[..., data.Dataset] = data.load) -> Experiment:
        """The experiment. Raises ValueError for images that do not fit the networks."""
        train, test = {}, {}
        for domain, channels in zip("AB", self.channels, strict=True):
            name = {"A": self.domain_a, "B": self.domain_b}[domain] or self.dataset
            alone = bool(self.domain_a) or self.dataset == "random"
            split = "train" if alone else f"train{domain}"
            try:
                found = self.held_out_split(load, name, split, channels=channels, flat=True)
            except (UsageError, RunError) as error:
                if self.domain_a and not epath.Path(name).expanduser().exists():
                    raise UsageError(f"--config.domain_{domain.lower()}={name}: no such folder") from error
                raise
            train[domain], test[domain] = found
        for dataset in train.values():
            check_residual(dataset.image_shape[:2], self.halvings, self.blocks)
            check_patch(self.patch, dataset.image_shape[:2])
        of = dict(zip("AB", self.channels, strict=True))
        generators = {
            direction_of(a, b): ResidualGenerator(
                of[b],
                self.blocks,
                self.width,
                self.halvings,
                self.upsampling,
                self.skip,
                dtype=self.compute_dtype,
            )
            for a, b in (("A", "B"), ("B", "A"))
        }
        discriminator = PatchDiscriminator(
            self.patch, self.discriminator_width, self.discriminator_norm, dtype=self.compute_dtype
        )
        gan = cycle.cycle(
            generators,
            {"A": discriminator, "B": discriminator},
            optimizers=self.optimizers(cycle.GENERATORS, cycle.DISCRIMINATORS),
            cycle_weight=self.cycle,
            identity=self.identity,
            pool_size=self.pool_size,
            **self.further(),
        )
        source = data.Unpaired(train["A"], train["B"], self.augmentation())
        none_held = test["A"] is None
        held = source if none_held else data.Unpaired(test["A"], test["B"])
        counts = {domain: dataset.num_examples for domain, dataset in held.datasets.items()}
        directions = {"A": "AtoB", "B": "BtoA"}

        @functools.cache
        def images_of(domain: str, most: int) -> np.ndarray:
            places = spread(counts[domain], most)
            return np.asarray(data.to_float(jnp.asarray(held.datasets[domain].read(places)["image"])))

        def conditions(most: int) -> dict[str, np.ndarray]:
            """Those of both domains; of the smaller one its first images again, which nothing is asked of."""
            given = {domain: images_of(domain, most) for domain in "AB"}
            longest = max(map(len, given.values()))
            return {domain: some[np.arange(longest) % len(some)] for domain, some in given.items()}

        def groups_of(domain: str, most: int) -> list[str] | None:
            """What says which of them, in either domain, are of one drawing; None: they have no names."""
            names = alike(held.datasets[domain].names, self.held_out_by)
            return [names[place] for place in spread(len(names), most)] if names else None

        def held_sets(most: int) -> dict[str, metrics.Held]:
            images = {domain: images_of(domain, most) for domain in "AB"}
            groups = {domain: groups_of(domain, most) for domain in "AB"}
            return {
                direction: metrics.Held(
                    direction,
                    images[domain],
                    images[direction[-1]],
                    groups=groups[domain],
                    target_groups=groups[direction[-1]],
                )
                for domain, direction in directions.items()
            }

        return self.experiment(
            gan,
            source,
            held.sides,
            min(counts.values()),
            directions,
            {"AtoB": self.channels, "BtoA": (self.channels[1], self.channels[0])},
            2**self.halvings,
            least_side(self.halvings, self.blocks),
            metrics.judge(
                nothing_held_out if none_held else held_sets,
                nothing_held_out if none_held else conditions,
                list(directions.values()),
                paired=False,
                cycle=True,
                counts=lambda: nothing_held_out(0) if none_held else counts,
            ),
        )
