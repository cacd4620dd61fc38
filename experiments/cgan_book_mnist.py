"""A textbook's conditional GAN on MNIST: the label is an image channel.

    python run.py --experiment=cgan_book_mnist

Mirza & Osindero 2014, "Conditional generative adversarial nets", in the convolutional form of a textbook:
the label's embedding (50) becomes one more channel of both networks' input. The generator has 1,169,336
parameters on MNIST; the book's listing lost its second transposed convolution, without which images would
be 14x14.

Nothing in these networks is normalised, and a 7x7 convolution over 128 channels moves its outputs far at each
step: at the usual rates all pixels are black within a hundred steps, where tanh has no gradient left. So
Adam has no momentum here, the discriminator learns four times as fast as the generator, R1 keeps its
gradient small, and batches are of 32. A label that is one channel of many is easily overlooked: of the
samples 97.2 % were of the class that was asked for (96.1 % with the book's dropout and R1 of 1). So the
discriminator also learns that real images with another label are not real (Reed et al. 2016): 99.8 % are.
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.families.recipe import ImageRecipe, schedule_setting
from ganjax.gan import Experiment
from ganjax.nets.book import BookDiscriminator, BookGenerator


@dataclasses.dataclass(frozen=True)
class Config(ImageRecipe):
    batch_size: int = setting(32, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(18000, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float = setting(1e-4, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(4e-4, "of the discriminator", above=0.0)
    beta1: float = setting(0.0, "of Adam", minimum=0.0, below=1.0)
    schedule: str = schedule_setting("linear")
    r1: float = setting(0.1, "gamma of the gradient penalty at real images; 0: off", minimum=0.0)
    mismatched: float = setting(
        0.5, "weight of telling real images from real images with other labels; 0: off", minimum=0.0
    )
    width: int = setting(128, "channels throughout", minimum=1, maximum=65_536)
    discriminator_dropout: float = setting(
        0.0, "dropout before the discriminator's logit, 0.4 in the book; 0: off", minimum=0.0, below=1.0
    )


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "latent_size": 4, "width": 4}


def build(config: Config, load=data.load) -> Experiment:
    images = config.images(load, conditional=True)
    generator = BookGenerator(
        images.image_shape, images.num_classes, width=config.width, dtype=config.compute_dtype
    )
    discriminator = BookDiscriminator(
        images.num_classes,
        width=config.width,
        dropout=config.discriminator_dropout,
        dtype=config.compute_dtype,
    )
    return config.experiment(images, generator, discriminator, num_classes=images.num_classes)
