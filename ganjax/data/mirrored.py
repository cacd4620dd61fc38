"""A set of images that have no left and right: half of those that are drawn are mirrored."""

import dataclasses

import jax.numpy as jnp

from ganjax import random
from ganjax.data.dataset import Dataset
from ganjax.gan import Batch, Context


class _Mirrored(Dataset):
    def transform(self, batch: Batch, context: Context) -> Batch:
        batch = super().transform(batch, context)
        flip = random.uniform(context.example_keys("mirror"), ()) < 0.5
        images = batch["image"]
        return {**batch, "image": jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)}


def mirrored(dataset: Dataset) -> Dataset:
    """The same images, of which a batch's are mirrored left to right with probability 1/2, each time anew.

    Karras et al. 2020, "Training generative adversarial networks with limited data", double a set by it. The
    set itself, and what it is measured by, stay as they are.
    """
    fields = [field.name for field in dataclasses.fields(Dataset) if field.init]
    return _Mirrored(**{name: getattr(dataset, name) for name in fields})
