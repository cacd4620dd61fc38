"""What the experiments that find anomalies have in common: settings, data, stages, and their judge."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ganjax import data, optim
from ganjax.config import check_unused, setting
from ganjax.data.labelled import labels_of
from ganjax.data.normal import Normal, classes_of
from ganjax.data.sampling import spread
from ganjax.errors import RunError, UsageError
from ganjax.families import inversion
from ganjax.families.ganomaly import ganomaly
from ganjax.families.recipe import Recipe
from ganjax.gan import Experiment, Judge, Show, Stage
from ganjax.metrics import anomaly
from ganjax.nets.dcgan import DCGANDiscriminator, DCGANGenerator, stages_for
from ganjax.nets.encoder import ConvEncoder, EncoderDecoderEncoder
from ganjax.report import images as pictures

HELD = 2000  # held-out normal images that the threshold is chosen on, at most


@dataclasses.dataclass(frozen=True)
class NormalRecipe:
    """The settings that all of them have, and what follows: they learn from normal images alone."""

    dataset: str = setting("mnist", "a TFDS name, or a path to a folder or an .npz")
    image_size: int | tuple[int, int] | None = setting(
        None, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    channels: int | None = setting(None, "of the images; none: the set's own", choices=(1, 3, 4))
    normal: str = setting("", "classes that are normal, as in 0-8 or 1,3, or their names; empty: all images")
    held_out: float = setting(
        0.1, "share of the normal images that the threshold is chosen on", above=0.0, below=1.0
    )
    false_alarms: float = setting(
        0.05, "share of normal images that the evaluation's threshold lets be alarms", above=0.0, below=1.0
    )

    batch_size: int = setting(64, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(14_000, "batches to train on", minimum=2, maximum=2**31 - 1)
    seeds: int = setting(
        1, "runs that are trained in one, with seeds from --seed on", minimum=1, maximum=1000
    )
    dtype: Literal["float32", "bfloat16"] = setting("float32", "for compute")
    latent_size: int = setting(128, "entries of a latent", minimum=1, maximum=65_536)
    width: int = setting(64, "channels at half the image's size", minimum=1, maximum=65_536)
    hidden: int = setting(256, "units of a dense layer next to the smallest maps; 0: without", minimum=0)

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.dtype)

    def sizes(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """Of the networks of images [H, W, C]. Raises ValueError unless their sides halve evenly."""
        return {
            "width": self.width,
            "stages": stages_for(shape),
            "hidden": self.hidden,
            "dtype": self.compute_dtype,
        }

    def load(self, load: Callable[..., data.Dataset], split: str) -> data.Dataset:
        """A split of the set."""
        return load(self.dataset, split=split, image_size=self.image_size, channels=self.channels)

    def facts(self) -> dict[str, Any]:
        """What protocols say besides."""
        return {}

    def source(self, load: Callable[..., data.Dataset]) -> Normal:
        """The normal images. Raises ValueError where all classes are normal."""
        whole = self.load(load, "train")
        classes = classes_of(self.normal, whole.class_names, self.dataset) if self.normal else ()
        if self.normal and len(classes) == whole.num_classes:
            raise ValueError(
                f"--config.normal={self.normal}: expected fewer than all {len(classes)} classes, or no "
                "image is an anomaly"
            )
        return Normal(whole, classes or tuple(range(whole.num_classes)), self.held_out)

    def judged(
        self, load: Callable[..., data.Dataset], source: Normal, stages: tuple[Stage, ...]
    ) -> Experiment:
        """The experiment of these stages, on images from `source`."""

        @functools.cache
        def held() -> np.ndarray:
            places = source.held_out
            return source.dataset.read(places[spread(len(places), HELD)])["image"]

        def anomaly_mode(command: Any) -> int:
            from ganjax.cli import anomaly as mode  # here: to build an experiment needs no command line

            return mode.run(command, source.image_shape, self.image_size is not None, held, self.false_alarms)

        return Experiment(
            stages,
            seeds=self.seeds,
            modes={"anomaly": anomaly_mode},
            judge=self.judge(load, source, held),
        )

    def judge(self, load: Callable, source: Normal, held: Callable[[], np.ndarray]) -> Judge:
        """By the test split, whose images of other classes are the anomalies."""
        test, missing = None, ""
        try:
            test = self.load(load, "test")
        except (UsageError, RunError) as error:  # no such split, or, where a run is only drawn from, no data
            missing = f" ({error})"
        if test is not None:
            data.check_same_size(source.dataset, test)

        def given(most: int) -> anomaly.Given:
            if test is None or not test.num_classes or len(source.classes) >= test.num_classes:
                raise UsageError(
                    f"{self.dataset}: there is nothing to be judged on: expected a test split with classes, "
                    f"and --config.normal= of some of them{missing}"
                )
            places = spread(test.num_examples, most)
            anomalous = ~np.isin(labels_of(test)[places], source.classes)
            if anomalous.all() or not anomalous.any():
                kind = "anomalies" if anomalous.any() else "normal"
                raise UsageError(
                    f"{self.dataset}: {len(places)} test images, all of them {kind}: there is nothing to "
                    "tell apart; expected both, with a larger --num_samples="
                )

            def normal(most: int) -> np.ndarray:
                return source.read(source.places[spread(len(source.places), most)])["image"]

            threshold = held()
            threshold = threshold[spread(len(threshold), most)]
            return anomaly.Given(test.read(places)["image"], anomalous, threshold, normal)

        facts = {"dataset": self.dataset, "split": "test", "normal": self.normal, **self.facts()}
        return anomaly.judge(
            given,
            lambda images: np.asarray(data.to_float(jnp.asarray(images))),
            self.false_alarms,
            facts,
        )


@dataclasses.dataclass(frozen=True)
class AnomalyRecipe(NormalRecipe):
    """f-AnoGAN: a WGAN-GP with DCGAN's networks on normal images, and then an encoder into its generator. Or,
    with `search_steps` and no `encoder_steps`, AnoGAN: a search for each image's latents."""

    steps: int = setting(16_000, "batches to train on, of both stages", minimum=2, maximum=2**31 - 1)
    encoder_steps: int = setting(8000, "of them, the last, for the encoder; 0: without an encoder", minimum=0)
    learning_rate: float = setting(
        5e-4, "of generator and critic; falls to 0 in the second half of theirs", above=0.0
    )
    critic_steps: int = setting(5, "steps of the critic to one of the generator", minimum=1)
    gradient_penalty: float = setting(10.0, "weight of the gradient penalty", above=0.0)
    ema_decay: float = setting(0.999, "of the averaged generator; 0: no average", minimum=0.0, below=1.0)
    encoder_learning_rate: float = setting(5e-4, "of the encoder; falls to 0 in the second half", above=0.0)
    kappa: float = setting(1.0, "weight of the features' residual in the score", minimum=0.0)
    search_steps: int = setting(
        0, "by which an image's latents are searched for, from the encoder's on, or random ones", minimum=0
    )
    search_rate: float = setting(0.05, "of the search's steps, by Adam", above=0.0)

    def __post_init__(self) -> None:
        if self.steps - self.encoder_steps < self.critic_steps:
            raise ValueError(
                f"--config.encoder_steps={self.encoder_steps}: expected at most "
                f"{self.steps - self.critic_steps}, so that of steps={self.steps} there are some before, and "
                f"the generator moves, every critic_steps={self.critic_steps} of them"
            )
        for name, other in (("search_rate", "search_steps"), ("encoder_learning_rate", "encoder_steps")):
            if not getattr(self, other):
                check_unused(self, name, f"{other}=0")
        if not self.encoder_steps and not self.search_steps:
            raise ValueError(
                "--config.encoder_steps=0: expected search_steps too, as without an encoder latents are "
                "searched for"
            )

    def facts(self) -> dict[str, Any]:
        """Which weights score: the encoder's are the last, the generator's were averaged before it."""
        averaged = self.ema_decay and self.encoder_steps
        return {"weights": "averaged generator, last encoder"} if averaged else {}

    def first_stage(self, source: Normal, generator: nn.Module, discriminator: nn.Module) -> Stage:
        """The WGAN-GP on normal images."""
        recipe = Recipe(
            batch_size=self.batch_size,
            steps=self.steps - self.encoder_steps,
            seeds=self.seeds,
            dtype=self.dtype,
            latent_size=self.latent_size,
            loss="wasserstein",
            generator_learning_rate=self.learning_rate,
            discriminator_learning_rate=self.learning_rate,
            beta1=0.0,
            beta2=0.9,
            schedule="linear",
            ema_decay=self.ema_decay,
            discriminator_steps=self.critic_steps,
            gradient_penalty=self.gradient_penalty,
        )
        (stage,) = recipe.experiment(source, generator, discriminator).stages
        return stage

    def build(self, load: Callable = data.load) -> Experiment:
        """The experiment, on images whose sides halve evenly. Raises ValueError for others."""
        source = self.source(load)
        sizes = self.sizes(source.image_shape)
        generator = DCGANGenerator(source.image_shape, **sizes)
        # No batch norm: the gradient penalty is each example's own, and so is a score
        discriminator = DCGANDiscriminator(norm="none", **sizes)
        base = self.first_stage(source, generator, discriminator)
        search = inversion.Search(self.search_steps, self.search_rate)
        if not self.encoder_steps:
            gan = inversion.searching(base.gan, generator, discriminator, search=search, kappa=self.kappa)
            return self.judged(load, source, (base._replace(gan=gan),))
        rate = optim.linear_decay(self.encoder_learning_rate, self.encoder_steps // 2, self.encoder_steps)
        gan = inversion.inversion(
            base.gan,
            generator,
            discriminator,
            ConvEncoder(self.latent_size, **sizes),
            optimizer=optim.adam(rate),
            kappa=self.kappa,
            search=search,
        )
        first = base._replace(gan=inversion.before_encoder(base.gan))
        second = Stage(gan, source, self.encoder_steps, self.batch_size, inversion.inherit)
        return self.judged(load, source, (first, second))


@dataclasses.dataclass(frozen=True)
class GANomalyRecipe(NormalRecipe):
    """GANomaly, with DCGAN's networks."""

    latent_size: int = setting(100, "entries of a latent", minimum=1, maximum=65_536)
    learning_rate: float = setting(2e-4, "of both players; falls to 0 in the second half", above=0.0)
    beta1: float = setting(0.5, "of Adam", minimum=0.0, below=1.0)
    adversarial: float = setting(1.0, "weight of the features' distance", minimum=0.0)
    reconstruction: float = setting(50.0, "weight of the pixels' distance", minimum=0.0)
    latent: float = setting(1.0, "weight of the latents' distance", minimum=0.0)
    shown: int = setting(
        8,
        "normal images in the grids of samples: held-out ones, or learned ones where none is held out",
        minimum=1,
        maximum=256,
    )

    def build(self, load: Callable = data.load) -> Experiment:
        """The experiment, on images whose sides halve evenly. Raises ValueError for others."""
        source = self.source(load)
        sizes = self.sizes(source.image_shape)
        rate = optim.linear_decay(self.learning_rate, self.steps // 2, self.steps)
        gan = ganomaly(
            EncoderDecoderEncoder(source.image_shape, self.latent_size, **sizes),
            DCGANDiscriminator(**sizes),
            optimizers={player: optim.adam(rate, self.beta1) for player in ("generator", "discriminator")},
            adversarial=self.adversarial,
            reconstruction=self.reconstruction,
            latent=self.latent,
        )
        stage = Stage(gan, source, self.steps, self.batch_size)

        @functools.cache
        def shown() -> np.ndarray:
            some = source.held_out if len(source.held_out) else source.places
            images = source.dataset.read(np.resize(some, self.shown))["image"]
            return np.asarray(data.to_float(jnp.asarray(images)))

        def picture(samples: Any, columns: int) -> np.ndarray:
            again = samples["reconstruction"]
            pairs = np.stack([shown()[: len(again)], again], axis=1).reshape(-1, *source.image_shape)
            return pictures.grid(pictures.to_uint8(pairs), 2 * columns)

        built = self.judged(load, source, (stage,))

        def compared(samples: Any) -> list[np.ndarray]:
            return [samples["reconstruction"]]

        show = Show(self.shown, min(4, self.shown), picture, lambda: {"image": shown()}, compared)
        return built._replace(show=show)
