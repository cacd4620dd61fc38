"""What the page asks for, as flags of --mode=sample."""

import pytest

from ganjax.errors import UsageError
from ganjax.explorer.controls import Controls

ALL = Controls(
    classes=10,
    truncation="psi",
    noise=("random", "const", "none"),
    layers=8,
    directions=(0.5, 0.25, 0.125),
    directions_file="d.npz",
)
BOUND = Controls(truncation="bound", truncation_modes=("resample", "clamp"))


@pytest.mark.parametrize(
    ("controls", "query", "flags"),
    [
        (Controls(), "", "--seeds=0"),
        (Controls(), "seed=4294967295", "--seeds=4294967295"),
        (Controls(seeds=64), "seed=3", "--seeds=3-66"),
        (Controls(classes=10), "", "--seeds=0 --labels=0"),
        (Controls(classes=10), "label=9&seed=5", "--seeds=5 --labels=9"),
        (BOUND, "truncation=0.5", "--seeds=0 --truncation=0.5"),
        (BOUND, "truncation=1&truncation_mode=clamp", "--seeds=0 --truncation=1.0 --truncation_mode=clamp"),
        (ALL, "truncation=-0.5&noise=none", "--seeds=0 --labels=0 --truncation=-0.5 --noise=none"),
        (ALL, "mix_seed=7&mix_layers=4-7", "--seeds=0 --labels=0 --mix=7:4-7"),
        (
            ALL,
            "direction_2=-1.5&direction_1=0&direction_0=2",
            "--seeds=0 --labels=0 --directions=d.npz --move=0:2.0,2:-1.5",
        ),
    ],
)
def test_flags(controls, query, flags):
    pairs = [tuple(word.split("=")) for word in query.split("&") if word]
    assert controls.flags(pairs) == flags.split()


@pytest.mark.parametrize(
    ("controls", "query", "error"),
    [
        (Controls(), "seed=4294967296", "seed=4294967296: expected an integer from 0 to 4294967295"),
        (Controls(seeds=64), "seed=4294967295", "seed=4294967295: expected an integer from 0 to 4294967232"),
        (Controls(), "seed=-1", "seed=-1: expected an integer from 0 to 4294967295"),
        (Controls(), "seed=", "seed=: expected an integer from 0 to 4294967295"),
        (Controls(), "seed=²", "seed=²: expected an integer from 0 to 4294967295"),
        (Controls(), "seed=1&seed=2", "seed: it was given twice"),
        (Controls(), "label=1", "label: this model has no such control; choose from: seed"),
        (Controls(), "seeds=1", "seeds: this model has no such control; did you mean seed?"),
        (Controls(classes=10), "label=10", "label=10: expected an integer from 0 to 9"),
        (BOUND, "truncation=0", "truncation=0: expected a number above 0, to 100"),
        (BOUND, "truncation=nan", "truncation=nan: expected a number above 0, to 100"),
        (BOUND, "truncation=1e1", "truncation=1e1: expected a number above 0, to 100"),
        (ALL, "truncation=-101", "truncation=-101: expected a number from -100 to 100"),
        (BOUND, "truncation_mode=clamp", "truncation_mode: it does nothing without truncation"),
        (BOUND, "truncation=1&truncation_mode=x", "truncation_mode=x: expected resample, clamp"),
        (ALL, "noise=loud", "noise=loud: expected random, const, none"),
        (ALL, "mix_seed=7", "mix_seed: it goes with mix_layers, which is missing"),
        (ALL, "mix_layers=0-3", "mix_layers: it goes with mix_seed, which is missing"),
        (ALL, "mix_seed=7&mix_layers=4-8", "mix_layers=4-8: expected FIRST-LAST, of the layers 0-7"),
        (ALL, "mix_seed=7&mix_layers=4-3", "mix_layers=4-3: expected FIRST-LAST, of the layers 0-7"),
        (ALL, "direction_0=x", "direction_0=x: expected a number from -100 to 100"),
        (ALL, "direction_3=1", "direction_3: this model has no such control; did you mean"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(controls, query, error):
    pairs = [tuple(word.split("=")) for word in query.split("&")]
    with pytest.raises(UsageError) as caught:
        controls.flags(pairs)
    assert str(caught.value).startswith(error)


def test_what_a_model_has_no_means_for_is_not_there():
    told = Controls().json()
    assert not any(told[name] for name in ("classes", "truncation", "noise", "layers", "directions"))
    assert told["max_seed"] == 2**32 - 1
    assert "directions_file" not in ALL.json()
