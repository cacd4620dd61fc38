"""What is measured of one state after another."""

import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.cli.command import read_flags
from ganjax.cli.measuring import Measurer
from ganjax.data import load, plane
from ganjax.data.shrunk import shrunk
from ganjax.errors import TooEarly, UsageError
from ganjax.gan import Experiment, Gan, GanState, Judge, Stage


def test_every_measurement_is_asked_for_as_many_samples():
    """Whatever the judge makes of the number: it may add images to them, or have fewer."""
    asked = []

    def conditions(most):
        asked.append(most)
        return {"image": np.zeros((most + 3, 2), np.float32)}

    gan = Gan(
        lambda key, batch: ({}, {}, ()), (), {}, lambda state, keys, given: {"score": given["image"][:, 0]}
    )
    judge = Judge(
        ("seen",),
        lambda samples, labels: {"seen": {"value": len(samples["score"]), "protocol": {}}},
        conditions=conditions,
    )
    experiment = Experiment((Stage(gan, plane.ring(), 1, 4),), judge=judge)
    measurer = Measurer(experiment, read_flags(["--num_samples=10"]), lambda text: None)
    state = GanState(jnp.zeros((), jnp.int32), {}, {}, {}, {}, ())
    for step in (1, 2, 3):
        found = measurer.measure(0, state, step)["seen"]
        assert (found["value"], found["protocol"]["seeds"]) == (13, "0-12")
    assert asked == [10, 10, 10]


def test_what_is_too_small_for_a_metric_is_measured_by_the_others(tmp_path):
    """As the first images of those that grow."""
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "images.npz", image=images)
    gan = Gan(
        lambda key, batch: ({}, {}, ()),
        (),
        {},
        lambda state, keys, labels: jnp.zeros((len(keys), *state.params["shape"].shape, 1)),
    )
    stages = tuple(Stage(gan, load(str(tmp_path / "images.npz"), image_size=side), 1, 4) for side in (4, 8))
    said = []
    for flags in ([], ["--metrics=swd,ms_ssim"]):
        experiment = Experiment(stages)
        measurer = Measurer(experiment, read_flags([*flags, "--num_samples=10"]), said.append)
        for index, side in enumerate((4, 8)):
            params = {"shape": jnp.zeros((side, side))}
            state = GanState(jnp.zeros((), jnp.int32), params, {}, {}, {}, ())
            names = list(measurer.measure(index, state, 1))
            assert names == (["ms_ssim"] if index == 0 else ["swd", "ms_ssim"])
    assert said.count("swd: not of images of 4x4") == 2
    measurer = Measurer(Experiment(stages), read_flags(["--metrics=swd", "--num_samples=10"]), said.append)
    with pytest.raises(TooEarly, match="of images of 4x4, too small for swd"):
        measurer.measure(
            0, GanState(jnp.zeros((), jnp.int32), {"shape": jnp.zeros((4, 4))}, {}, {}, {}, ()), 1
        )
    alone = Measurer(Experiment(stages[:1]), read_flags(["--metrics=swd", "--num_samples=10"]), said.append)
    with pytest.raises(UsageError, match="images of 4x4: patches need at least 7 pixels a side"):
        alone.measure(0, GanState(jnp.zeros((), jnp.int32), {"shape": jnp.zeros((4, 4))}, {}, {}, {}, ()), 1)


def test_small_images_are_compared_with_real_ones_of_the_training(tmp_path):
    """Which were halved from the largest on, not brought to their size at once."""
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "images.npz", image=images)
    small = shrunk(load(str(tmp_path / "images.npz"), image_size=8), 2)
    gan = Gan(
        lambda key, batch: ({}, {}, ()), (), {}, lambda state, keys, labels: jnp.zeros((len(keys), 4, 4, 1))
    )
    flags = read_flags(["--metrics=ms_ssim", "--num_samples=10"])
    measurer = Measurer(Experiment((Stage(gan, small, 1, 4),)), flags, lambda text: None)
    real = measurer._real(small, "train")
    places = np.arange(10)
    np.testing.assert_array_equal(real.read(places)["image"], small.read(places)["image"])
