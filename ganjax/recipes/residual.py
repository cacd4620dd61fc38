"""What the experiments with residual networks and labels share: settings, and how the networks are made."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from flax import linen as nn

from ganjax import data
from ganjax.config import check_unused, setting
from ganjax.families.adversarial import DISCRIMINATOR
from ganjax.families.recipe import ImageRecipe, loss_setting, schedule_setting, wrong
from ganjax.gan import Experiment
from ganjax.nets.residual import ResidualDiscriminator, ResidualGenerator, latent_parts
from ganjax.regularizers import WeightPenalty

# Of kernels, and of those in blocks where they are another: SNGAN's code has these larger.
_INITIALISERS: dict[str, tuple[nn.initializers.Initializer, nn.initializers.Initializer | None]] = {
    "glorot": (nn.initializers.glorot_uniform(), None),
    "glorot_sqrt2": (
        nn.initializers.glorot_uniform(),
        nn.initializers.variance_scaling(2.0, "fan_avg", "uniform"),
    ),
    "orthogonal": (nn.initializers.orthogonal(), None),
}


@dataclasses.dataclass(frozen=True)
class ResidualRecipe(ImageRecipe):
    """The settings of `ganjax.nets.residual`'s networks. What the papers share is the default."""

    loss: str = loss_setting("hinge")
    beta1: float = setting(0.0, "of Adam", minimum=0.0, below=1.0)
    beta2: float = setting(0.9, "of Adam", minimum=0.0, below=1.0)
    schedule: str = schedule_setting("constant")
    latent_size: int = setting(128, "entries of a latent", minimum=1, maximum=65_536)

    num_classes: int | None = setting(None, "of the set, which must have as many; none: as it has", minimum=1)
    generator_width: int = setting(64, "channels, by the plan's multiples", minimum=1, maximum=4096)
    discriminator_width: int = setting(64, "channels, by the plan's multiples", minimum=1, maximum=4096)
    conditioning: Literal["projection", "auxiliary", "concatenation"] = setting(
        "projection", "how the label enters the discriminator"
    )
    classification: float = setting(
        1.0, "weight of the auxiliary classifier's loss, with conditioning=auxiliary", above=0.0
    )
    embedding: int = setting(
        0, "size of the class embedding that the generator's norms share; 0: tables of their own", minimum=0
    )
    attention: int = setting(0, "side of the maps with self-attention; 0: without", minimum=0)
    deep: bool = setting(False, "BigGAN-deep's blocks")
    spectral_generator: bool = setting(True, "the generator is spectrally normalised too")
    initialiser: Literal["glorot", "glorot_sqrt2", "orthogonal"] = setting(
        "glorot", "of kernels; glorot_sqrt2: in blocks, but for shortcuts, times sqrt(2)"
    )
    standing_statistics: int = setting(
        0, "batches whose statistics samples are drawn with, when trained; 0: running ones", minimum=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conditioning != "auxiliary":
            check_unused(self, "classification", f"conditioning={self.conditioning}")
        if self.conditioning == "auxiliary" and self.mismatched:
            raise wrong(self, "mismatched", "0, as with conditioning=auxiliary logits are of no label")

    def weight_penalties(self) -> dict[str, dict[str, tuple[float, WeightPenalty]]]:
        """The orthogonal one of the generator alone (Brock et al. 2019, section 3.1).

        It is of kernels, so class embeddings are left out.
        """
        found = super().weight_penalties()
        others = {k: x for k, x in found.get(DISCRIMINATOR, {}).items() if k != "orthogonal"}
        return {**found, DISCRIMINATOR: others} if found else {}

    def labelled(self, load: Callable) -> data.Dataset:
        """The training split. Raises ValueError unless it has labels, of `num_classes` classes."""
        images = self.images(load, conditional=True)
        if self.num_classes is not None and self.num_classes != images.num_classes:
            raise wrong(self, "num_classes", f"{images.num_classes}, as dataset={self.dataset!r} has")
        return images

    def build(self, load: Callable = data.load) -> Experiment:
        """The experiment, on images that there is a plan for. Raises ValueError for others."""
        images = self.labelled(load)
        classes = images.num_classes
        if self.embedding and not self.deep and self.latent_size % (n := latent_parts(images.image_shape)):
            raise wrong(self, "latent_size", f"a multiple of {n}, the parts it is split into")
        kernel_init, block_init = _INITIALISERS[self.initialiser]
        options: dict[str, Any] = {
            "attention": self.attention,
            "deep": self.deep,
            "kernel_init": kernel_init,
            "dtype": self.compute_dtype,
            "block_init": block_init,
        }
        generator = ResidualGenerator(
            images.image_shape,
            classes,
            self.generator_width,
            self.embedding,
            spectral=self.spectral_generator,
            **options,
        )
        discriminator = ResidualDiscriminator(classes, self.discriminator_width, self.conditioning, **options)
        return self.experiment(
            images,
            generator,
            discriminator,
            num_classes=classes,
            classification=self.classification if self.conditioning == "auxiliary" else 0.0,
            standing_statistics=self.standing_statistics,
        )
