"""SNGAN, SAGAN and BigGAN as the papers have them, and what is refused before anything is compiled."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import config, loop
from ganjax.families.adversarial import DISCRIMINATOR, GENERATOR
from ganjax.gan import Experiment


def configured(name: str, *, tiny: bool = True, **overrides: Any):
    module = importlib.import_module(f"experiments.{name}")
    settings = config.override(module.Config(), (module.TINY if tiny else {}) | overrides, experiment=name)
    config.validate(settings)
    return settings


def built(name: str, **overrides: Any) -> Experiment:
    return importlib.import_module(f"experiments.{name}").build(configured(name, **overrides))


@pytest.mark.parametrize(
    ("name", "size", "generator", "discriminator"),
    [
        ("sngan_cond_cifar10", 32, 4_303_619, 1_055_105),
        ("sagan_cifar10", 32, None, None),
        ("biggan_128", 128, None, None),
        ("biggan_deep_128", 128, None, None),
    ],
)
def test_the_papers_sizes_are_the_defaults(name, size, generator, discriminator):
    experiment = built(name, tiny=False, dataset="random", image_size=size, channels=3)
    state = loop.abstract_state(experiment, 0)
    counts = {
        player: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state.params[player]))
        for player in (GENERATOR, DISCRIMINATOR)
    }
    classes = {"biggan_128": 128 + 1536, "biggan_deep_128": 128 + 2048}.get(name, 0)
    if name == "biggan_128":  # of 1,000 classes, tests/nets/test_residual.py has them; here are 10
        assert counts[GENERATOR] == 70_433_988 - 96 * 31 - 990 * 128
        assert counts[DISCRIMINATOR] == 87_982_370 - 990 * 1536
    elif generator:
        assert counts == {GENERATOR: generator, DISCRIMINATOR: discriminator}
    if classes:
        assert experiment.stages[0].gan.phases[0].accumulate == 8
        assert experiment.stages[0].batch_size == 2048


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "sagan_cifar10",
            {"image_size": 48, "attention": 0},
            "image_size 48x48: .* plans for squares of 28, 32",
        ),
        (
            "sagan_128",
            {"image_size": 128, "attention": 24},
            "attention=24: at image_size 128 expected 0 or one of",
        ),
        ("sngan_mnist", {"image_size": 20}, "image_size 20x20"),
        ("biggan_cifar10", {"num_classes": 1000}, "num_classes=1000: expected 10, as dataset='random' has"),
        ("biggan_cifar10", {"latent_size": 7}, "latent_size=7: expected a multiple of 4"),
        ("biggan_128", {"accumulate": 3}, "accumulate=3: expected a number that divides batch_size=16"),
        ("biggan_128", {"ema_decay": 0.0}, "ema_start=1: expected 40000, as it does nothing with ema_decay"),
        (
            "sagan_mnist",
            {"classification": 2.0},
            "classification=2.0: .* nothing with conditioning=projection",
        ),
        ("sagan_mnist", {"conditioning": "film"}, "conditioning"),
        (
            "sagan_mnist",
            {"conditioning": "auxiliary", "mismatched": 0.5},
            "mismatched=0.5: expected 0, as with conditioning=auxiliary",
        ),
    ],
)
def test_settings_that_do_not_fit(name, settings, message):
    with pytest.raises(ValueError, match=message):
        loop.abstract_state(built(name, **settings), 0)


@pytest.mark.parametrize(
    "conditioning",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("projection", "auxiliary", "concatenation")],
)
def test_every_conditioning_has_its_metrics(conditioning):
    names = loop.metric_names(built("sagan_mnist", conditioning=conditioning))
    own = {"classification", "generator_classification"}
    assert own & set(names) == (own if conditioning == "auxiliary" else set())


def test_orthogonal_regularization_is_of_the_generators_kernels():
    penalties = configured("biggan_128").weight_penalties()
    assert set(penalties[GENERATOR]) == {"orthogonal"}
    assert not penalties[DISCRIMINATOR]
    assert configured("biggan_cifar10").weight_penalties() == {}
    both = configured("biggan_128", spectral_penalty=1.0).weight_penalties()
    assert {player: set(named) for player, named in both.items()} == {
        GENERATOR: {"orthogonal", "spectral_penalty"},
        DISCRIMINATOR: {"spectral_penalty"},
    }


def test_the_average_starts_late():
    decay = (
        built("biggan_128", tiny=False, dataset="random", image_size=32, attention=0, latent_size=4)
        .stages[0]
        .gan.ema[GENERATOR]
    )
    assert float(decay(jnp.int32(39_999))) == 0.0
    assert float(decay(jnp.int32(10_000_000))) == pytest.approx(0.9999)
