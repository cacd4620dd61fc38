"""Predicts by how much digits are turned, from 100 known angles; and which they are, if asked to.

    python run.py --experiment=semi_supervised_rotation_mnist
    python run.py --workdir=runs/semi_supervised_rotation_mnist-seed0 --mode=evaluate

MNIST's digits, each turned by an angle of its own in [-degrees, degrees], made as they are read. The
discriminator of semi_supervised_mnist predicts the angle besides telling real from generated, by the same
features; with `classify` it predicts the class too, from the same labelled digits. In training digits are
turned further, by up to `turn`, and their angles with them: of digits without a label two predictions must
differ by just as much. Beside it the same network learns from the labelled digits alone, turned likewise.

    python run.py --workdir=runs/semi_supervised_rotation_mnist-seed0 --mode=classify --input=digits
"""

import dataclasses
from typing import Literal

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.semi_supervised import NoisyRecipe


@dataclasses.dataclass(frozen=True)
class Config(NoisyRecipe):
    degrees: float = setting(60.0, "the largest angle", above=0.0, maximum=90.0)
    classify: bool = setting(
        True, "the class is learned too, and what is real is told by all classes' logits"
    )
    regression_weight: float = setting(10.0, "of the angle's squared error, as a share of degrees", above=0.0)
    network: Literal["dense", "convolutions"] = setting("convolutions", "the discriminator's layers")
    width: int = setting(16, "channels of its first convolution", minimum=1, maximum=65_536)
    steps: int = setting(12_000, "batches to train on", minimum=1, maximum=2**31 - 1)
    generator_learning_rate: float | None = setting(2e-4, "of the generator; none: learning_rate", above=0.0)
    shift: int = setting(
        2, "pixels by which all images are moved at random in training, either way; 0: not", minimum=0
    )
    turn: float = setting(
        30.0,
        "degrees by which they are turned at random, either way, and their angles with them; 0: not",
        minimum=0.0,
        maximum=45.0,
    )
    consistency: float = setting(
        10.0, "weight of how two predictions for an unlabelled image differ; 0: off", minimum=0.0
    )
    input_noise: float = setting(0.1, "standard deviation on pixels, taken in [0, 1]", minimum=0.0)
    noise: float = setting(0.1, "standard deviation on hidden activations", minimum=0.0)


TINY = {"dataset": "random", "image_size": 8, "labels_per_class": 2, "batch_size": 8, "steps": 2}
TINY |= {"latent_size": 4, "network": "dense", "hidden": (8, 8), "generator_hidden": (8,)}


def build(config: Config, load=data.load) -> Experiment:
    return config.experiment(
        load,
        config.generator,
        config.discriminator,
        degrees=config.degrees,
        classify=config.classify,
        regression_weight=config.regression_weight,
    )
