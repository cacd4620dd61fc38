"""What is measured of one state after another."""

import jax.numpy as jnp
import numpy as np

from ganjax.cli.command import read_flags
from ganjax.cli.measuring import Measurer
from ganjax.data import plane
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
