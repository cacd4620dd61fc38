"""What the experiments that find anomalies have in common: settings, data, stages, and their judge."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ganjax import data, optim
from ganjax.config import setting
from ganjax.data.labelled import labels_of
from ganjax.data.normal import Normal, classes_of
from ganjax.errors import RunError, UsageError
from ganjax.families import inversion
from ganjax.families.recipe import loss_setting, wrong
from ganjax.gan import Experiment, Judge, Stage
from ganjax.metrics import anomaly
from ganjax.nets.dcgan import DCGANDiscriminator, DCGANGenerator, stages_for
from ganjax.nets.encoder import ConvEncoder
from ganjax.recipes.dcgan import DCGANRecipe

HELD = 2000  # held-out normal images that the threshold is chosen on, at most


@dataclasses.dataclass(frozen=True)
class AnomalyRecipe(DCGANRecipe):
    """f-AnoGAN: a WGAN-GP on normal images, and then an encoder into its generator.

    Its `steps` are those of both stages, and the schedule of the rates is that of the first.
    """

    normal: str = setting("", "classes that are normal, as in 0-8 or 1,3, or their names; empty: all images")
    held_out: float = setting(
        0.1, "share of the normal images that the threshold is chosen on", above=0.0, below=1.0
    )
    false_alarms: float = setting(
        0.05, "share of normal images that the evaluation's threshold lets be alarms", above=0.0, below=1.0
    )
    encoder_steps: int = setting(4000, "of the steps, the last, for the encoder", minimum=1)
    encoder_learning_rate: float = setting(5e-4, "of the encoder; falls to 0 in the second half", above=0.0)
    kappa: float = setting(1.0, "weight of the features' residual in the score", minimum=0.0)

    loss: str = loss_setting("wasserstein")
    steps: int = setting(14_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(128, "entries of a latent", minimum=1, maximum=65_536)
    generator_learning_rate: float = setting(5e-4, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(5e-4, "of the critic", above=0.0)
    beta1: float = setting(0.0, "of Adam", minimum=0.0, below=1.0)
    beta2: float = setting(0.9, "of Adam", minimum=0.0, below=1.0)
    discriminator_steps: int = setting(5, "steps of the critic to one of the generator", minimum=1)
    gradient_penalty: float = setting(10.0, "weight of the gradient penalty; 0: off", minimum=0.0)
    hidden: int = setting(256, "units of a dense layer next to the smallest maps; 0: without", minimum=0)
    discriminator_norm: str = setting("none", "in the critic", choices=("layer", "none"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluate_every:
            raise wrong(self, "evaluate_every", "0, as there is nothing to measure before the encoder learns")

    def build(self, load: Callable = data.load) -> Experiment:
        """The experiment, on images whose sides halve evenly. Raises ValueError for others."""
        if self.encoder_steps >= self.steps:
            raise wrong(self, "encoder_steps", f"less than steps={self.steps}, which are those of both")
        whole = self.images(load)
        classes = classes_of(self.normal, whole.class_names, self.dataset) if self.normal else ()
        if self.normal and len(classes) == whole.num_classes:
            raise wrong(self, "normal", f"fewer than all {len(classes)} classes: else none is an anomaly")
        source = Normal(whole, classes or tuple(range(whole.num_classes)), self.held_out)
        shape, stages = whole.image_shape, stages_for(whole.image_shape)
        generator = DCGANGenerator(
            shape,
            width=self.width,
            stages=stages,
            hidden=self.hidden,
            norm=self.generator_norm,
            dropout=self.generator_dropout,
            dtype=self.compute_dtype,
        )
        discriminator = DCGANDiscriminator(
            width=self.width,
            stages=stages,
            hidden=self.hidden,
            norm=self.discriminator_norm,
            dropout=self.discriminator_dropout,
            minibatch_discrimination=self.minibatch_discrimination,
            dtype=self.compute_dtype,
        )
        first = dataclasses.replace(self, steps=self.steps - self.encoder_steps)
        first = first.experiment(source, generator, discriminator)
        base = first.stages[0]
        rate = optim.linear_decay(self.encoder_learning_rate, self.encoder_steps // 2, self.encoder_steps)
        gan = inversion.inversion(
            base.gan,
            generator,
            discriminator,
            ConvEncoder(self.latent_size, self.width, stages, self.hidden, dtype=self.compute_dtype),
            optimizer=optim.adam(rate),
            kappa=self.kappa,
        )

        @functools.cache
        def held() -> np.ndarray:
            return whole.read(source.held_out[:HELD])["image"]

        def anomaly_mode(command: Any) -> int:
            from ganjax.cli import anomaly as mode  # here: to build an experiment needs no command line

            return mode.run(command, shape, self.image_size is not None, held)

        return first._replace(
            stages=(
                base._replace(gan=inversion.before_encoder(base.gan)),
                Stage(gan, source, self.encoder_steps, self.batch_size, inversion.inherit),
            ),
            modes={"anomaly": anomaly_mode},
            judge=self.judge(load, source, held),
        )

    def judge(self, load: Callable, source: Normal, held: Callable[[], np.ndarray]) -> Judge:
        """By the test split, whose images of other classes are the anomalies."""
        try:
            test = load(self.dataset, split="test", image_size=self.image_size, channels=self.channels)
        except (
            UsageError,
            RunError,
        ):  # there is no such split, or, where a run is only sampled from, no data
            test = None

        def given(most: int) -> anomaly.Given:
            if test is None or not test.num_classes or len(source.classes) >= test.num_classes:
                raise UsageError(
                    f"{self.dataset}: there is nothing to be judged on: expected a test split with classes, "
                    "and --config.normal= of some of them"
                )
            places = np.arange(min(most, test.num_examples))
            anomalous = ~np.isin(labels_of(test)[places], source.classes)

            def normal(most: int) -> np.ndarray:
                return source.read(source.places[:most])["image"]

            return anomaly.Given(test.read(places)["image"], anomalous, held(), normal)

        facts = {"dataset": self.dataset, "split": "test", "normal": self.normal}
        return anomaly.judge(
            given,
            lambda images: np.asarray(data.to_float(jnp.asarray(images))),
            self.false_alarms,
            facts,
        )
