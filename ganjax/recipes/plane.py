"""What the experiments on points in the plane share: settings, and how they are built."""

import dataclasses

from ganjax.config import setting
from ganjax.data.plane import Mixture
from ganjax.families.recipe import Recipe, off, schedule_setting
from ganjax.gan import Experiment
from ganjax.metrics import modes
from ganjax.nets.mlp import MLPDiscriminator, MLPGenerator
from ganjax.report import plane as pictures


@dataclasses.dataclass(frozen=True)
class PlaneRecipe(Recipe):
    """The settings of one generator and one discriminator, fully connected."""

    batch_size: int = setting(256, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(12_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    latent_size: int = setting(16, "entries of a latent", minimum=1, maximum=65_536)
    hidden: tuple[int, ...] = setting((128, 128, 128), "units of both players' layers", minimum=1)
    generator_learning_rate: float = setting(1e-3, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(2e-3, "of the discriminator", above=0.0)
    schedule: str = schedule_setting("linear")
    decay_start: float = setting(
        0.3, "share of the steps after which the rates fall", minimum=0.0, maximum=1.0
    )
    r1: float = setting(0.1, "gamma of the gradient penalty at real points; 0: off", minimum=0.0)
    generator_dropout: float = off("dropout in the generator, also in sampling", below=1.0)
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )

    def on(self, mixture: Mixture) -> Experiment:
        """The experiment on a mixture of Gaussians, which shows and judges its samples as points."""
        generator = MLPGenerator(
            mixture.image_shape,
            hidden=self.hidden,
            activation="relu",
            dropout=self.generator_dropout,
            bounded=False,
            dtype=self.compute_dtype,
        )
        discriminator = MLPDiscriminator(
            hidden=self.hidden,
            dropout=self.discriminator_dropout,
            minibatch_discrimination=self.minibatch_discrimination,
            dtype=self.compute_dtype,
        )
        return self.experiment(
            mixture, generator, discriminator, show=pictures.show(mixture), judge=modes.judge(mixture)
        )
