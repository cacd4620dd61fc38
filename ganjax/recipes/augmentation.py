"""What the experiments share that ask whether generated images help a classifier of few real ones."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import numpy as np

from ganjax import augment, data
from ganjax.config import setting
from ganjax.data.labelled import Few
from ganjax.families.recipe import ImageRecipe
from ganjax.gan import Experiment
from ganjax.metrics import augmentation
from ganjax.nets.conditional import ConditionalDiscriminator, ConditionalGenerator
from ganjax.nets.dcgan import stages_for


@dataclasses.dataclass(frozen=True)
class AugmentationRecipe:
    """A conditional GAN that learns from a few images of each class, with DiffAugment, and is judged by what
    a classifier gains from its samples.
    """

    dataset: str = setting("mnist", "a labelled set: a TFDS name, or a path to a folder or an .npz")
    image_size: int | tuple[int, int] | None = setting(
        None, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    channels: int | None = setting(None, "of the images; none: the set's own", choices=(1, 3, 4))
    images_per_class: int = setting(20, "real images of each class", minimum=1, maximum=2**31 - 1)
    images_seed: int = setting(0, "of which these are", minimum=0, maximum=2**32 - 1)

    batch_size: int = setting(64, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(3500, "batches to train on", minimum=1, maximum=2**31 - 1)
    seeds: int = setting(
        1, "runs that are trained in one, with seeds from --seed on", minimum=1, maximum=1000
    )
    dtype: Literal["float32", "bfloat16"] = setting("float32", "for compute")
    latent_size: int = setting(64, "entries of a latent", minimum=1, maximum=65_536)
    width: int = setting(48, "channels at half the image's size", minimum=1, maximum=65_536)
    learning_rate: float = setting(1e-3, "of both players; falls to 0 in the second half", above=0.0)
    diff_augment: str = setting("translation", "DiffAugment's policy; empty: off")

    classifiers: int = setting(5, "that the evaluation trains in each of four ways", minimum=1, maximum=1000)
    classifier_steps: int = setting(1000, "batches that each is trained on", minimum=1)
    max_shift: int = setting(2, "pixels by which classical augmentation moves images", minimum=0)
    flip: bool = setting(False, "classical augmentation mirrors images")

    def __post_init__(self) -> None:
        try:
            augment.diff_augment(self.diff_augment)
        except ValueError as error:
            raise ValueError(f"--config.diff_augment: {error}") from error

    def build(self, load: Callable[..., data.Dataset] = data.load) -> Experiment:
        """The experiment, on images whose sides halve evenly. Raises ValueError for others."""
        train, test = (
            load(self.dataset, split=split, image_size=self.image_size, channels=self.channels)
            for split in ("train", "test")
        )
        data.check_same_size(train, test)
        if test.class_names != train.class_names:
            raise ValueError(f"--config.dataset={self.dataset}: expected a test split of the same classes")
        if self.max_shift >= min(train.image_shape[:2]):
            size = "x".join(map(str, train.image_shape[:2]))
            raise ValueError(f"--config.max_shift={self.max_shift}: expected less than the images' {size}")
        source = Few(train, self.images_per_class, self.images_seed)
        shape, classes = train.image_shape, train.num_classes
        recipe = ImageRecipe(
            batch_size=self.batch_size,
            steps=self.steps,
            seeds=self.seeds,
            dtype=self.dtype,
            latent_size=self.latent_size,
            generator_learning_rate=self.learning_rate,
            discriminator_learning_rate=self.learning_rate,
            schedule="linear",
            diff_augment=self.diff_augment,
        )
        stages, dtype = stages_for(shape), jnp.dtype(self.dtype)

        @functools.cache
        def held() -> dict[str, np.ndarray]:
            return test.read(np.arange(test.num_examples))

        return recipe.experiment(
            source,
            ConditionalGenerator(shape, classes, width=self.width, stages=stages, dtype=dtype),
            ConditionalDiscriminator(classes, width=self.width, stages=stages, dtype=dtype),
            num_classes=classes,
            judge=augmentation.judge(
                lambda: train.read(source.places),
                held,
                classes,
                seeds=self.classifiers,
                steps=self.classifier_steps,
                batch_size=64,
                max_shift=self.max_shift,
                flip=self.flip,
                facts={
                    "dataset": self.dataset,
                    "split": "test",
                    "images_per_class": self.images_per_class,
                    "images_seed": self.images_seed,
                },
            ),
        )
