"""StyleGAN2's settings: those that follow from the images, what is regularized when, and what is refused."""

from typing import Any

import jax
import numpy as np
import pytest

from ganjax import loop
from ganjax.checkpoint import Checkpoints, flatten
from ganjax.loop import Schedule
from ganjax.recipes.stylegan2 import StyleGAN2Recipe
from tests.doubles import Recorder, compiled_fast

__all__ = ["compiled_fast"]  # a fixture of the whole module

SMALL: dict[str, Any] = {
    "dataset": "random",
    "image_size": (8, 12),
    "channels": 3,
    "batch_size": 8,
    "steps": 4,
    "latent_size": 4,
    "style_size": 4,
    "channel_base": 4,
    "channel_max": 4,
    "r1_every": 4,
    "path_length_every": 2,
    "augment": "ada",
    "augment_p": 0.3,
    "ada_every": 1,
    "ada_kimg": 0.1,
}


def recipe(**changes: Any) -> StyleGAN2Recipe:
    settings: dict[str, Any] = SMALL | changes
    return StyleGAN2Recipe(**settings)


def test_what_follows_from_the_images():
    auto = StyleGAN2Recipe(batch_size=32).resolved(256, 256)
    assert auto.r1 == pytest.approx(0.0002 * 256**2 / 32)
    assert auto.ema_kimg == 10
    assert auto.channel_base == 4096
    assert auto.generator_learning_rate == auto.discriminator_learning_rate == 0.0025
    assert auto.group == 4
    large = StyleGAN2Recipe(batch_size=2, r1=0.0, group=0).resolved(1024, 1024)
    assert (large.r1, large.group, large.channel_base) == (0, 0, 8192)
    assert large.generator_learning_rate == 0.002
    assert StyleGAN2Recipe(batch_size=8, accumulate=4).resolved(32, 32).group == 2
    for batch, group in ((50, 2), (6, 3), (3, 3), (7, 7), (9, 3), (12, 4)):
        assert StyleGAN2Recipe(batch_size=batch).resolved(32, 32).group == group
    assert auto.ema_ramp == 0.05
    begun = StyleGAN2Recipe().with_weights()  # of another run: the average goes on
    assert begun.resolved(256, 256).ema_ramp == 0
    assert StyleGAN2Recipe(ema_ramp=0.1).with_weights().ema_ramp == 0.1
    assert StyleGAN2Recipe(ema_decay=0.9).with_weights().ema_ramp is None
    oblong = StyleGAN2Recipe().resolved(96, 160)  # 6x10 is the smallest
    assert oblong.channel_base == 16384 // 6
    assert oblong.r1 == pytest.approx(0.0002 * 96 * 160 / 32)


def test_when_it_is_regularized():
    gan = recipe(r1_every=16, path_length_every=4).build().stages[0].gan
    assert [phase.player for phase in gan.phases] == ["discriminator"] * 2 + ["generator"] * 2
    due = [[step for step in range(33) if phase.due(step)] for phase in gan.phases]
    assert due[1] == [15, 31]
    assert due[3] == [3, 7, 11, 15, 19, 23, 27, 31]
    for name, phase, steps in (("generator_steps", 1, [31]), ("discriminator_steps", 3, [7, 15, 23, 31])):
        slow = recipe(r1_every=16, path_length_every=4, **{name: 2}, steps=40).build().stages[0].gan
        assert [step for step in range(33) if slow.phases[phase].due(step)] == steps, name
    assert recipe().lazy_intervals() == {"generator": 2}  # gamma is not known yet
    assert recipe(r1=1.0).lazy_intervals() == {"generator": 2, "discriminator": 4}
    none = recipe(path_length=0.0, path_length_every=4, r1=0.0, r1_every=16)
    assert len(none.build().stages[0].gan.phases) == 2
    assert none.lazy_intervals() == {}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"group": 3}, r"--config.group=3: expected a number that divides the \(micro-\)batch of 8"),
        ({"path_length_shrink": 3}, r"--config.path_length_shrink=3: expected a number that divides"),
        (
            {"path_length": 0.0},
            r"path_length_every=2: expected 4, as it does nothing with",
        ),
        (
            {"ema_decay": 0.9, "ema_kimg": 1.0},
            r"ema_kimg=1.0: expected None, as it does nothing with ema_decay",
        ),
        ({"label_layers": 3}, r"label_layers=3: expected None, as it does nothing with conditional=False"),
        ({"augment": "none"}, r"--config.augment_p=0.3: expected 0.0, as it does nothing with augment=none"),
        ({"augment_p_max": 0.2}, r"--config.augment_p=0.3: expected at most augment_p_max=0.2"),
        ({"augment_groups": "colors"}, r"--config.augment_groups: .*did you mean color"),
        ({"loss": "wasserstein"}, r"--config.augment=ada: expected none or fixed with loss=wasserstein"),
    ],
)
def test_settings_that_do_not_fit(changes, text):
    with pytest.raises(ValueError, match=text):
        recipe(**changes).build()


def test_a_fixed_probability_is_to_be_given():
    with pytest.raises(ValueError, match=r"--config.augment_p=0.0: expected more than 0 with augment=fixed"):
        StyleGAN2Recipe(augment="fixed")


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_an_average_by_batches_instead_of_images(decay):
    state = loop.abstract_state(recipe(ema_decay=decay).build(), 0)
    assert bool(state.ema) == bool(decay)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "pmap", "sharded"])
def test_what_it_remembers(kind, tmp_path):
    """p, the mean path length and the mean style: resumed to the bit, the same on every layout."""
    if kind != "none" and jax.device_count() < 4:
        pytest.skip("needs four devices")
    states = {}
    for name, layout, stops in (("whole", "none", [None]), ("parts", kind, [1, 3, None])):
        checkpoints = Checkpoints(tmp_path / name)
        experiment = recipe().build()
        for stop in stops:
            result = loop.train(
                experiment,
                seed=0,
                observer=Recorder(),
                checkpoints=checkpoints,
                schedule=Schedule(log_steps=1, preview_steps=0, save_minutes=0, stop=stop),
                parallel=layout,
            )
        found = checkpoints.restore(lambda meta: loop.abstract_state(experiment, meta["stage"]), pytest.fail)
        assert found is not None
        states[name] = (result.fingerprint, flatten(found[0]))
    if kind == "none":
        assert states["parts"][0] == states["whole"][0]
    for path in ("carry/augmentation/p", "carry/path_length", "stats/generator/styles/mean"):
        ours, theirs = (states[name][1][path] for name in ("parts", "whole"))
        assert np.abs(theirs).max() > 0, path
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, err_msg=path)
