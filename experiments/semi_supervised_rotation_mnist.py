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

from ganjax import data
from ganjax.config import check_unused, setting
from ganjax.gan import Experiment
from ganjax.recipes.semi_supervised import NoisyConvRecipe


@dataclasses.dataclass(frozen=True)
class Config(NoisyConvRecipe):
    degrees: float = setting(60.0, "the largest angle", above=0.0, maximum=90.0)
    classify: bool = setting(
        True, "the class is learned too, and what is real is told by all classes' logits"
    )
    regression_weight: float = setting(5.0, "of the angle's squared error, as a share of degrees", above=0.0)
    prior: float = setting(
        0.5,
        "weight of the square of an unlabelled digit's angle, as a share of degrees: angles' mean is 0, "
        "whatever the digit; 0: off",
        minimum=0.0,
        recorded=True,
    )
    turn: float = setting(
        30.0,
        "degrees by which they are turned at random, either way, and their angles with them; 0: not",
        minimum=0.0,
        maximum=45.0,
    )
    consistency: float = setting(
        3.0, "weight of how two predictions of an unlabelled image's class differ; 0: off", minimum=0.0
    )
    angle_consistency: float = setting(
        50.0, "likewise, of its angle as a share of degrees; 0: off", minimum=0.0, recorded=True
    )
    angle_bound: float | None = setting(
        6.0,
        "degrees from which on a difference counts by its size instead of its square; none: never. Digits "
        "that look the same after half a turn make some that are large",
        above=0.0,
        recorded=True,
    )
    input_noise: float = setting(0.0, "standard deviation on pixels, taken in [0, 1]", minimum=0.0)
    noise: float = setting(0.0, "standard deviation on hidden activations", minimum=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.classify:
            check_unused(self, "consistency", "classify=false")
        if not self.angle_consistency:
            check_unused(self, "angle_bound", "angle_consistency=0")
        if not (self._second_differs() or self.input_noise or self.noise):
            for name in ("angle_consistency", "angle_bound"):
                check_unused(self, name, "shift, turn, input_noise and noise of 0")
        if self.prior and not (self.turn and self.angle_consistency):
            off = "angle_consistency=0" if self.turn else "turn=0"
            raise ValueError(
                f"--config.prior={self.prior:g}: expected 0 with {off}, as it would but make angles smaller"
            )

    def _inconsistent(self) -> str:
        if self.angle_consistency or (self.classify and self.consistency):
            return ""
        return "angle_consistency=0 and " + ("consistency=0" if self.classify else "classify=false")


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
        prior_weight=config.prior,
        target_consistency_weight=config.angle_consistency,
        target_consistency_bound=None if config.angle_bound is None else config.angle_bound / config.degrees,
    )
