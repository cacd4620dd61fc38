"""Growth: when it happens, what goes on, and what is refused."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import data, loop
from ganjax.checkpoint import Checkpoints
from ganjax.errors import UsageError
from ganjax.families.growing import Rung, carried_over, faded, ladder
from ganjax.gan import GanState
from ganjax.layers import downsample, upsample
from ganjax.loop import Schedule
from ganjax.recipes.growing import ProgressiveRecipe, StyleRecipe
from tests.doubles import Recorder, compiled_fast

__all__ = ["compiled_fast"]  # a fixture of the whole module

SMALL: dict[str, Any] = {
    "dataset": "random",
    "image_size": 8,
    "batch_size": 4,
    "latent_size": 3,
    "channel_base": 4,
    "channel_max": 4,
    "fade_images": 12,
    "hold_images": 4,
}
QUIET = Schedule(log_steps=1, preview_steps=0, save_minutes=0)


def test_a_ladder():
    rungs = ladder([0, 1, 2], 40, [16, 8, 4], fade_images=20, hold_images=30)
    assert rungs == (
        Rung(0, 16, 2, 0, 0),
        Rung(1, 8, 3 + 4, 3, 2),
        Rung(2, 4, 31, 5, 9),  # whatever is left of 40
    )
    alphas = [float(rungs[1].alpha(jnp.asarray(step))) for step in range(5)]
    assert alphas == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert alphas[0] == 0
    assert alphas[3] == 1
    assert float(rungs[0].alpha(jnp.asarray(0))) == 1
    with pytest.raises(ValueError, match=r"steps=13: .* at least 14 to the largest images"):
        ladder([0, 1, 2], 13, [16, 8, 4], fade_images=20, hold_images=30)


def test_real_images_are_faded_in_too():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)
    fade = faded(Rung(1, 4, 10, 4))
    blurred = upsample(downsample(images))
    np.testing.assert_array_equal(fade(images, jnp.asarray(0)), blurred)
    np.testing.assert_allclose(fade(images, jnp.asarray(1)), 0.75 * blurred + 0.25 * images, atol=1e-6)
    np.testing.assert_array_equal(fade(images, jnp.asarray(4)), images)


def state_of(step: int, value: float, layers: dict[str, int]) -> GanState:
    params = {name: {"kernel": np.full(size, value)} for name, size in layers.items()}
    moments = {"mu": params}
    return GanState(
        step=np.int32(step),  # pyright: ignore[reportArgumentType]
        params={"generator": params},
        stats={"generator": {"styles": {"mean": np.full(2, value)}}},
        opt_state={"generator": moments},
        ema={"generator": params},
        carry={"memory": np.full(1, value)},
    )


@pytest.mark.parametrize("optimizers", [False, True])
def test_what_goes_on(optimizers):
    old = state_of(7, 1.0, {"a": 3, "b": 2, "gone": 2})
    new = state_of(0, 2.0, {"a": 3, "b": 5, "new": 2})
    state, message = carried_over(new, old, optimizers=optimizers)
    assert int(state.step) == 0
    for tree in (state.params["generator"], state.ema["generator"]):
        found = {name: leaf["kernel"].tolist() for name, leaf in tree.items()}
        assert found == {"a": [1.0] * 3, "b": [2.0] * 5, "new": [2.0] * 2}
    assert state.stats["generator"]["styles"]["mean"].tolist() == [1.0, 1.0]
    assert state.carry["memory"].tolist() == [1.0]
    moment = state.opt_state["generator"]["mu"]["a"]["kernel"]
    assert moment.tolist() == [1.0 if optimizers else 2.0] * 3
    assert message.startswith("generator: 1 of 3 layers go on, new are b, new, gone are b, gone; ")
    assert message.endswith("kept of what goes on" if optimizers else "afresh")


def test_the_stages_of_a_run():
    settings: dict[str, Any] = SMALL | {"image_size": 16, "batch_sizes": (16, 8), "steps": 20}
    config = ProgressiveRecipe(**settings)
    stages = config.build().stages
    assert [stage.batch_size for stage in stages] == [16, 8, 4]
    assert [stage.steps for stage in stages] == [1, 2 + 1, 16]
    assert [stage.data.image_shape for stage in stages] == [(4, 4, 1), (8, 8, 1), (16, 16, 1)]
    assert [stage.inherit is None for stage in stages] == [True, False, False]
    with pytest.raises(ValueError, match=r"batch_sizes=\(16, 8\): expected \(\), as it does nothing with"):
        dataclasses.replace(config, growing=False).build()
    stays = {
        name: getattr(ProgressiveRecipe(), name) for name in ("batch_sizes", "fade_images", "hold_images")
    }
    whole = dataclasses.replace(config, growing=False, **stays)  # which has no sizes before
    assert whole.build().stages[0].batch_size == 4
    assert [(stage.steps, stage.data.image_shape) for stage in whole.build().stages] == [(20, (16, 16, 1))]
    with pytest.raises(ValueError, match="reset_optimizers=False: expected True, as it does nothing"):
        dataclasses.replace(whole, reset_optimizers=False).build()
    with pytest.raises(ValueError, match=r"freeze_d=1: expected 0 where images grow.*growing=false"):
        dataclasses.replace(config, freeze_d=1).build()
    assert dataclasses.replace(whole, freeze_d=1).build().stages
    with pytest.raises(ValueError, match=r"batch_sizes=\(16, 8\): expected at most 1"):
        dataclasses.replace(config, first_size=8).build()
    with pytest.raises(ValueError, match="joined=True: expected false, or group=0"):
        dataclasses.replace(config, joined=True).build()
    assert dataclasses.replace(config, joined=True, group=0).build().stages
    late = dataclasses.replace(config, first_size=8, batch_sizes=(8,)).build().stages
    assert [stage.data.image_shape for stage in late] == [(8, 8, 1), (16, 16, 1)]
    assert [(stage.steps, stage.batch_size) for stage in late] == [(1, 8), (19, 4)]
    settings = SMALL | {"image_size": (8, 16), "steps": 20}
    oblong = ProgressiveRecipe(**settings)
    assert [stage.data.image_shape for stage in oblong.build().stages] == [(4, 8, 1), (8, 16, 1)]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image_size": 12}, r"--config.image_size=12: expected base_size=4 times a power of two, as 8, 16"),
        ({"image_size": (8, 12)}, None),
        ({"image_size": (8, 13)}, r"--config.image_size=8,13: expected base_size=4 times a power"),
        ({"batch_size": 6}, r"--config.group=4: expected a number that divides the \(micro-\)batch of 6"),
        (
            {"batch_size": 12, "accumulate": 2},
            r"--config.group=4: expected a number that divides the .* of 6",
        ),
        ({"first_size": 6}, r"--config.first_size=6: expected one of 4, 8"),
        ({"first_size": 8, "growing": False}, r"first_size=8: expected None, as it does nothing"),
        ({"steps": 3}, r"--config.steps=3: .* at least 4"),
        ({"batch_size": 512}, r"'random' has 256 images, fewer than a batch of 512"),
    ],
)
def test_settings_that_do_not_fit(changes, text):
    settings: dict[str, Any] = SMALL | {"steps": 20} | changes
    config = ProgressiveRecipe(**settings)
    if text is None:
        config.build()
        return
    with pytest.raises(ValueError, match=text):
        config.build()


def test_how_images_are_resized_is_asked_of_the_data():
    asked: dict[str, Any] = {}

    def load(name: str, **options: Any) -> data.Dataset:
        asked.update(options)
        return data.load(name, **options)

    settings: dict[str, Any] = SMALL | {"steps": 20, "resize": "pad"}
    stages = ProgressiveRecipe(**settings).build(load).stages
    assert asked["resize"] == "pad"
    assert all(isinstance(stage.data, data.Dataset) and stage.data.resize == "pad" for stage in stages)
    with pytest.raises(
        ValueError, match="resize=pad: expected crop, as it does nothing with image_size=None"
    ):
        dataclasses.replace(ProgressiveRecipe(**settings), image_size=None)


def test_images_that_are_enlarged_are_said_to_be(monkeypatch):
    told = []
    monkeypatch.setattr("absl.logging.warning", lambda message, *values: told.append(message % values))
    settings: dict[str, Any] = SMALL | {"image_size": 32, "steps": 99}
    ProgressiveRecipe(**settings).build()
    assert told == ["dataset=random: its images of 28x28 are enlarged to 32x32"]


def test_a_set_without_labels_has_no_classes_to_ask_for():
    unlabelled = dataclasses.replace(data.load("random", image_size=8), num_classes=0, class_names=())
    config = ProgressiveRecipe(**SMALL, steps=20, conditional=True)
    assert config.build().num_classes == 10
    with pytest.raises(
        ValueError, match="conditional=True: expected false, as dataset='random' has no labels"
    ):
        config.build(lambda *_, **__: unlabelled)
    with pytest.raises(UsageError):
        config.build(lambda *a, **k: data.load("nothing"))


def trained(config: ProgressiveRecipe | StyleRecipe, **options: Any):
    recorder = Recorder()
    result = loop.train(config.build(), seed=0, observer=recorder, schedule=QUIET, **options)
    return result, recorder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [ProgressiveRecipe, StyleRecipe])
@pytest.mark.parametrize("kind", ["none", "pmap", "sharded"])
def test_resuming_within_a_fade_is_bitwise(recipe, kind, tmp_path):
    if kind != "none" and jax.device_count() < 4:
        pytest.skip("needs four devices")
    config = recipe(**SMALL, steps=6)  # one at 4x4; then three of a fade, and two more
    whole, recorder = trained(config, parallel=kind)
    (message,) = [call.content for call in recorder.of("message")]
    assert message.startswith("step 1: discriminator: ")
    assert "new are " in message
    for stop in (3, None):
        experiment = config.build()
        part = loop.train(
            experiment,
            seed=0,
            observer=Recorder(),
            checkpoints=Checkpoints(tmp_path / "run"),
            schedule=QUIET._replace(stop=stop),
            parallel=kind,
        )
    assert part.resumed_from == [3]
    assert part.fingerprint == whole.fingerprint
    assert all(np.isfinite(value) for value in whole.metrics.values())


@pytest.mark.slow
def test_the_number_of_devices_does_not_change_what_is_trained():
    if jax.device_count() < 4:
        pytest.skip("needs four devices")
    config = ProgressiveRecipe(**SMALL, steps=5)
    one, four = trained(config, parallel="none")[0], trained(config, parallel="pmap")[0]
    for name, value in one.metrics.items():
        assert four.metrics[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
