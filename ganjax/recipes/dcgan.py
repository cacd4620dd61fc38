"""What the experiments with DCGAN's networks (Radford et al. 2016) share: settings, and how they are made."""

import dataclasses
from collections.abc import Callable
from typing import Literal

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, off, schedule_setting
from ganjax.gan import Experiment
from ganjax.nets.dcgan import DCGANDiscriminator, DCGANGenerator, stages_for


@dataclasses.dataclass(frozen=True)
class DCGANRecipe(ImageRecipe):
    """The settings of one generator and one discriminator, and of DCGAN's networks."""

    steps: int = setting(5000, "batches to train on", minimum=1, maximum=2**31 - 1)
    schedule: str = schedule_setting("linear")
    width: int = setting(64, "channels at half the image's size", minimum=1, maximum=65_536)
    hidden: int = setting(1024, "units of a dense layer next to the smallest maps; 0: without", minimum=0)
    generator_norm: Literal["batch", "virtual"] = setting("batch", "normalisation in the generator")
    discriminator_norm: Literal["batch", "layer", "none"] = setting("batch", "in the discriminator")
    generator_dropout: float = off("dropout in the generator, also in sampling", below=1.0)
    discriminator_dropout: float = off("dropout in the discriminator", below=1.0)
    minibatch_discrimination: int = setting(
        0, "kernels of minibatch discrimination; 0: off", minimum=0, maximum=4096
    )

    def build(self, load: Callable = data.load) -> Experiment:
        """The experiment, on images whose sides halve evenly. Raises ValueError for others."""
        images = self.images(load)
        stages = stages_for(images.image_shape)
        generator = DCGANGenerator(
            images.image_shape,
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
        return self.experiment(images, generator, discriminator)
