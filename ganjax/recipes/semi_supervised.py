"""What the experiments that learn from few labels have in common: settings, data, and how they are judged."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ganjax import data, optim
from ganjax.augment import Augmentation, distort_and_tell, flip_and_shift
from ganjax.config import check_unused, setting
from ganjax.data.labelled import FewLabels, Labelled, Unlabelled
from ganjax.data.rotated import rotated
from ganjax.data.sampling import spread
from ganjax.families import semi_supervised as family
from ganjax.gan import Experiment, Stage
from ganjax.metrics import classification
from ganjax.nets.dcgan import DCGANGenerator, stages_for
from ganjax.nets.semi_supervised import NoisyConvNet, NoisyMLP, SoftplusGenerator, WeightNormConvNet


@dataclasses.dataclass(frozen=True)
class SemiSupervisedRecipe:
    """The settings that all of them have."""

    dataset: str = setting("mnist", "a labelled set: a TFDS name, or a path to a folder or an .npz")
    image_size: int | tuple[int, int] | None = setting(
        None, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    channels: int | None = setting(None, "of the images; none: the set's own", choices=(1, 3, 4))
    labels_per_class: int = setting(10, "labelled examples of each class", minimum=1, maximum=2**31 - 1)
    unlabelled_split: str = setting(
        "train", "the split whose images come without labels; none that has images of the test split"
    )

    batch_size: int = setting(
        100, "labelled examples to a step, and as many unlabelled", minimum=2, maximum=2**20
    )
    steps: int = setting(18_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    seeds: int = setting(
        1, "runs that are trained in one, with seeds from --seed on", minimum=1, maximum=1000
    )
    evaluate_every: int = setting(
        0, "measure on test images every so many steps; 0: never", minimum=0, maximum=2**31 - 1
    )
    dtype: Literal["float32", "bfloat16"] = setting("float32", "for compute")
    latent_size: int = setting(100, "entries of a latent", minimum=1, maximum=65_536)

    fake_class: Literal["implicit", "explicit"] = setting(
        "implicit", "how generated images are told: by all K logits, or by one of their own"
    )
    generator_loss: Literal["feature_matching", "non_saturating"] = setting(
        "feature_matching", "what the generator minimises"
    )
    shift: int = setting(
        0, "pixels by which all images are moved at random in training, either way; 0: not", minimum=0
    )
    turn: float = setting(
        0.0, "degrees by which they are turned at random, either way; 0: not", minimum=0.0, maximum=45.0
    )
    stretch: float = setting(
        0.0,
        "share by which they are enlarged or made smaller at random, along either axis",
        minimum=0.0,
        maximum=1.0,
    )
    elastic: float = setting(
        0.0, "pixels by which each of theirs is moved at random, smoothly; 0: not", minimum=0.0
    )
    unlabelled_weight: float = setting(1.0, "of telling real images from generated ones", minimum=0.0)
    consistency: float = setting(
        0.0,
        "weight of how two predictions for an unlabelled image differ; 0: off",
        minimum=0.0,
    )
    consistency_average_from: int | None = setting(
        None,
        "step from which on the second of them is the averaged network's, without noise or moves; none: it "
        "is always the network's own, under another draw",
        minimum=0,
        maximum=2**31 - 1,
    )
    baseline: bool = setting(True, "trains the same network on the labels alone beside it, to compare with")
    baseline_steps: int = setting(
        3000,
        "for which that is trained, at the same falling rate; labels are soon learned by heart",
        minimum=1,
    )

    learning_rate: float = setting(3e-3, "of all players", above=0.0)
    generator_learning_rate: float | None = setting(None, "of the generator; none: learning_rate", above=0.0)
    beta1: float = setting(0.5, "of Adam", minimum=0.0, below=1.0)
    beta2: float = setting(0.999, "of Adam", minimum=0.0, below=1.0)
    schedule: Literal["linear", "constant"] = setting("linear", "how the rate goes from decay_start on: to 0")
    decay_start: float = setting(0.5, "share of the steps after which it does", minimum=0.0, below=1.0)
    ema_decay: float = setting(
        0.999, "of the averaged discriminator, which predicts; 0: the last", minimum=0.0, below=1.0
    )

    def __post_init__(self) -> None:
        if off := self._inconsistent():
            check_unused(self, "consistency_average_from", off)
        if not self.ema_decay:
            check_unused(self, "consistency_average_from", "ema_decay=0")
        if self.schedule == "constant":
            check_unused(self, "decay_start", "schedule=constant")
        if not self.baseline:
            check_unused(self, "baseline_steps", "baseline=false")

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.dtype)

    def _augment(self, degrees: float | None = None) -> Augmentation | family.TargetAugmentation | None:
        """What `shift`, `turn`, `stretch` and `elastic` ask for; with `degrees`, of which targets are shares,
        it says how it changed them."""
        distorts = bool(self.turn or self.stretch or self.elastic)
        if not distorts and not self.shift:
            return None
        distorted = distort_and_tell(self.turn, self.stretch, self.elastic) if distorts else None
        shifted = flip_and_shift(self.shift, flip=False) if self.shift else None

        def augment(images: jax.Array, keys: jax.Array) -> Any:
            turned = None
            if distorted is not None:
                images, turned = distorted(images, keys)
            if shifted is not None:
                images = shifted(images, keys)
            return images if degrees is None or turned is None else (images, turned[:, None] / degrees)

        return augment

    def _inconsistent(self) -> str:
        """The settings by which no predictions are asked to agree; "" where they are."""
        return "" if self.consistency else "consistency=0"

    def _second_differs(self) -> bool:
        """Whether a second prediction differs from the first without noise of the network's own."""
        return self._augment() is not None or self._average_from() is not None

    def _average_from(self) -> int | None:
        """`consistency_average_from`, where there is an average."""
        return self.consistency_average_from if self.ema_decay else None

    def load(self, load: Callable[..., data.Dataset], split: str) -> data.Dataset:
        """A split of the set."""
        return load(self.dataset, split=split, image_size=self.image_size, channels=self.channels)

    def experiment(
        self,
        load: Callable[..., data.Dataset],
        generator: Callable[[tuple[int, int, int]], nn.Module],
        discriminator: Callable[[int, int], nn.Module],
        *,
        degrees: float | None = None,
        classify: bool = True,
        **of_targets: Any,
    ) -> Experiment:
        """An experiment of one stage.

        Args:
          load: `ganjax.data.load` or the like.
          generator: image shape -> network.
          discriminator: logits, targets -> network.
          degrees: images are turned by at most so much, and the angle is predicted; None: they are not.
          classify: classes are predicted.
          of_targets: further arguments of the family's, for angles as a share of `degrees`.
        """
        sets = {
            split: self.load(load, split) for split in dict.fromkeys(("train", self.unlabelled_split, "test"))
        }
        names = sets["train"].class_names
        if degrees is not None:
            sets = {split: rotated(dataset, degrees) for split, dataset in sets.items()}
        source = FewLabels(
            Labelled(sets["train"], self.labels_per_class), Unlabelled(sets[self.unlabelled_split])
        )
        test = sets["test"]
        if test.class_names != names or data.share_images(self.dataset, self.unlabelled_split, "test"):
            raise ValueError(
                f"--config.dataset={self.dataset}, unlabelled_split={self.unlabelled_split}: expected a test "
                "split of the same classes, which is not trained on"
            )
        data.check_same_size(sets["train"], test)
        if not classify and self.fake_class == "explicit":
            raise ValueError("--config.fake_class=explicit: expected implicit, as no classes are learned")
        if self.shift >= min(source.image_shape[:2]):
            height, width = source.image_shape[:2]
            raise ValueError(f"--config.shift={self.shift}: expected less than the images' {height}x{width}")
        for name in ("stretch", "elastic"):  # which change angles by as much as no one knows
            if degrees is not None and (value := getattr(self, name)):
                raise ValueError(f"--config.{name}={value:g}: expected 0, as the angle is what is learned")
        num_classes, num_targets = len(names) if classify else 0, 0 if degrees is None else 1

        def optimizer(rate: float, steps: int) -> optax.GradientTransformation:
            start = round(self.decay_start * steps)
            falls = self.schedule == "linear" and start < steps  # else no step is left on which it would
            by_step = optim.linear_decay(rate, start, steps) if falls else rate
            return optim.adam(by_step, self.beta1, self.beta2)

        for_baseline = min(self.baseline_steps, self.steps)
        optimizers = {
            "generator": optimizer(self.generator_learning_rate or self.learning_rate, self.steps),
            "discriminator": optimizer(self.learning_rate, self.steps),
        }
        if self.baseline:
            optimizers["baseline"] = optimizer(self.learning_rate, for_baseline)
        gan = family.semi_supervised(
            generator(source.image_shape),
            discriminator(family.outputs_for(num_classes, self.fake_class), num_targets),
            latent_size=self.latent_size,
            optimizers=optimizers,
            num_classes=num_classes,
            num_targets=num_targets,
            generator_loss=self.generator_loss,
            unlabelled_weight=self.unlabelled_weight,
            augment=self._augment(degrees),
            consistency_weight=self.consistency,
            consistency_average_from=self._average_from(),
            ema_decay=optim.ema_decay(self.ema_decay) if self.ema_decay else None,
            baseline=self.baseline,
            baseline_due=lambda step: step < for_baseline,
            **of_targets,
        )

        @functools.cache
        def examples(most: int) -> dict[str, np.ndarray]:
            return test.read(spread(test.num_examples, most))

        def images(most: int) -> np.ndarray:
            return np.asarray(data.to_float(jnp.asarray(examples(most)["image"])))

        def classify_mode(command: Any) -> int:
            from ganjax.cli import classify  # here: to build an experiment needs no command line

            return classify.run(
                command, source.image_shape, self.image_size is not None, names if classify else (), degrees
            )

        return Experiment(
            (Stage(gan, source, self.steps, self.batch_size),),
            seeds=self.seeds,
            modes={"classify": classify_mode},
            judge=classification.judge(
                images,
                examples,
                class_names=names if classify else (),
                unit=degrees,
                baseline=self.baseline,
                facts={"dataset": self.dataset, "split": "test", "labels_per_class": self.labels_per_class},
            ),
            evaluate_every=self.evaluate_every,
        )


@dataclasses.dataclass(frozen=True)
class NoisyRecipe(SemiSupervisedRecipe):
    """Of small grey images: a discriminator with weight normalisation and Gaussian noise, of dense layers as
    in the paper or of convolutions, and the paper's dense generator."""

    network: Literal["dense", "convolutions"] = setting("dense", "the discriminator's layers")
    hidden: tuple[int, ...] = setting((1000, 500, 250, 250, 250), "widths of its dense layers", minimum=1)
    width: int = setting(32, "channels of its first convolution", minimum=1, maximum=65_536)
    input_noise: float = setting(0.3, "standard deviation on pixels, taken in [0, 1]", minimum=0.0)
    noise: float = setting(0.5, "standard deviation on hidden activations", minimum=0.0)
    generator_hidden: tuple[int, ...] = setting((500, 500), "widths of the generator", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "hidden" if self.network == "convolutions" else "width", f"network={self.network}")
        if not (self._second_differs() or self.input_noise or self.noise):
            check_unused(self, "consistency", "shift, turn, stretch, elastic, input_noise and noise of 0")

    def generator(self, shape: tuple[int, int, int]) -> nn.Module:
        """Of images [H, W, C]."""
        return SoftplusGenerator(shape, self.generator_hidden, dtype=self.compute_dtype)

    def discriminator(self, outputs: int, targets: int) -> nn.Module:
        """Of so many logits and predicted numbers."""
        noise = self.input_noise, self.noise
        if self.network == "dense":
            return NoisyMLP(outputs, targets, self.hidden, *noise, dtype=self.compute_dtype)
        return NoisyConvNet(outputs, targets, self.width, *noise, pool=not targets, dtype=self.compute_dtype)


@dataclasses.dataclass(frozen=True)
class NoisyConvRecipe(NoisyRecipe):
    """`NoisyRecipe` of a small network of convolutions, with a slow generator, on images that are moved."""

    network: Literal["dense", "convolutions"] = setting("convolutions", "the discriminator's layers")
    width: int = setting(16, "channels of its first convolution", minimum=1, maximum=65_536)
    steps: int = setting(12_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float | None = setting(2e-4, "of the generator; none: learning_rate", above=0.0)
    shift: int = setting(
        2, "pixels by which all images are moved at random in training, either way; 0: not", minimum=0
    )


@dataclasses.dataclass(frozen=True)
class ConvRecipe(SemiSupervisedRecipe):
    """Of images in colour: convolutions with weight normalisation and dropout, and DCGAN's generator."""

    learning_rate: float = setting(3e-4, "of all players", above=0.0)
    baseline_steps: int = setting(
        20_000,
        "for which the network that learns from labels alone is trained, at the same falling rate",
        minimum=1,
    )
    width: int = setting(96, "channels of the discriminator's first layers", minimum=1, maximum=65_536)
    generator_width: int = setting(128, "channels at half the image's size", minimum=1, maximum=65_536)
    input_dropout: float = setting(0.2, "share of pixels that are dropped", minimum=0.0, below=1.0)
    dropout: float = setting(0.5, "share of activations that are dropped", minimum=0.0, below=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self._second_differs() or self.input_dropout or self.dropout):
            check_unused(self, "consistency", "shift, turn, stretch, elastic, input_dropout and dropout of 0")

    def build(self, load: Callable[..., data.Dataset] = data.load) -> Experiment:
        """The experiment. Raises ValueError for images that do not fit the networks."""

        def generator(shape: tuple[int, int, int]) -> nn.Module:
            return DCGANGenerator(shape, self.generator_width, stages_for(shape), dtype=self.compute_dtype)

        def discriminator(outputs: int, targets: int) -> nn.Module:
            return WeightNormConvNet(
                outputs, targets, self.width, self.input_dropout, self.dropout, dtype=self.compute_dtype
            )

        return self.experiment(load, generator, discriminator)
