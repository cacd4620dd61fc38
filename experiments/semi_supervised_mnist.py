"""A classifier of MNIST that learns from 100 labels and 60,000 images without.

    python run.py --experiment=semi_supervised_mnist
    python run.py --workdir=runs/semi_supervised_mnist-seed0 --mode=evaluate

Salimans et al. 2016, "Improved techniques for training GANs", section 5.1: the discriminator is the
classifier, with weight normalisation and noise, and the generator matches its features. Theirs is of dense
layers and has a test error of 0.93 % after 300 epochs (180,000 steps). Here, for a CPU, it is of
convolutions, with less noise; images are moved, turned, stretched and bent; and two predictions for an image
without a label shall agree: first those of the network under two draws of all that, then the network's and
its average's. The labelled digits are balanced and chosen by the seed. Beside it the same network learns from
the labels alone. The paper's:

    python run.py --experiment=semi_supervised_mnist --config.network=dense --config.shift=0 --config.turn=0 \
        --config.stretch=0 --config.elastic=0 --config.input_noise=0.3 --config.noise=0.5 \
        --config.consistency=0 --config.generator_learning_rate=3e-3 --config.steps=180000

What comes out of it classifies images:

    python run.py --workdir=runs/semi_supervised_mnist-seed0 --mode=classify --input=digits
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.semi_supervised import NoisyConvRecipe


@dataclasses.dataclass(frozen=True)
class Config(NoisyConvRecipe):
    turn: float = setting(
        15.0, "degrees by which they are turned at random, either way; 0: not", minimum=0.0, maximum=45.0
    )
    stretch: float = setting(
        0.1,
        "share by which they are enlarged or made smaller at random, along either axis",
        minimum=0.0,
        maximum=1.0,
    )
    elastic: float = setting(
        1.0, "pixels by which each of theirs is moved at random, smoothly; 0: not", minimum=0.0
    )
    input_noise: float = setting(0.1, "standard deviation on pixels, taken in [0, 1]", minimum=0.0)
    noise: float = setting(0.2, "standard deviation on hidden activations", minimum=0.0)
    consistency: float = setting(
        10.0, "weight of how two predictions for an unlabelled image differ; 0: off", minimum=0.0
    )
    consistency_average_from: int | None = setting(
        3000,
        "step from which on the second of them is the averaged network's, without noise or moves; none: it "
        "is always the network's own, under another draw",
        minimum=0,
        maximum=2**31 - 1,
    )


TINY = {"dataset": "random", "image_size": 8, "labels_per_class": 2, "batch_size": 8, "steps": 2}
TINY |= {"latent_size": 4, "network": "dense", "hidden": (8, 8), "generator_hidden": (8,)}


def build(config: Config, load=data.load) -> Experiment:
    return config.experiment(load, config.generator, config.discriminator)
