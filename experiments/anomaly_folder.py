"""Learns what is normal from any folder of images, and finds what is not: f-AnoGAN at 64x64.

    python run.py --experiment=anomaly_folder --config.dataset=FOLDER
    python run.py --workdir=runs/anomaly_folder-seed0 --mode=anomaly --input=OTHERS

Schlegl et al. 2019, "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks". The
folder holds normal images. Or it holds `train` and `test` with a folder for each kind of image in them, as
inspection sets have it: then --config.normal=good names the kind that is learned, and the evaluation counts
the others among the test images as anomalies. It is for a GPU.
"""

import dataclasses

from ganjax import data
from ganjax.config import setting
from ganjax.gan import Experiment
from ganjax.recipes.anomaly import AnomalyRecipe


@dataclasses.dataclass(frozen=True)
class Config(AnomalyRecipe):
    dataset: str = setting("normal", "a path to a folder or an .npz, or a TFDS name")
    image_size: int | tuple[int, int] | None = setting(
        64, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    steps: int = setting(60_000, "batches to train on, of both stages", minimum=2, maximum=2**31 - 1)
    encoder_steps: int = setting(
        15_000, "of the steps, the last, for the encoder; 0: without an encoder", minimum=0
    )
    learning_rate: float = setting(
        2e-4, "of generator and critic; falls to 0 in the second half of theirs", above=0.0
    )


TINY = {"dataset": "random", "image_size": 8, "batch_size": 8, "steps": 2, "encoder_steps": 1}
TINY |= {"latent_size": 4, "width": 4, "hidden": 8, "critic_steps": 1}


def build(config: Config, load=data.load) -> Experiment:
    return config.build(load)
