from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, Literal, Optional

import numpy as np
import pytest

from ganjax import config as settings
from ganjax.config import setting
from ganjax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Config:
    dataset: str = setting("mnist", "a name or a path")
    batch_size: int = setting(64, "images to a step", minimum=1)
    steps: int = 2500
    learning_rate: float = setting(2e-4, "Adam's", above=0, maximum=1)
    momentum: float = setting(0.5, minimum=0, below=1)
    shift: float = setting(0.0, finite=False)
    flip: bool = False
    loss: Literal["hinge", "wgan"] = "hinge"
    resolution: int = setting(32, choices=(32, 64))
    seed: int | None = None
    name: Optional[str] = None  # noqa: UP045 (both spellings must work)
    channels: tuple[int, ...] = setting((64, 128), "per layer", minimum=1)
    betas: tuple[float, int] = (0.5, 1)
    augment: int | Literal["auto"] = "auto"
    crop: float | int = 0.5
    hidden: int = dataclasses.field(default=3, init=False)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("batch_size", "32", 32),
        ("batch_size", "1_000", 1000),
        ("batch_size", "1e3", 1000),
        ("batch_size", "2.0", 2),
        ("steps", "-3", -3),
        ("steps", "1000000000000000000001", 1000000000000000000001),
        ("learning_rate", "1e-3", 1e-3),
        ("learning_rate", "1", 1.0),
        ("momentum", "0", 0.0),
        ("shift", "-inf", -math.inf),
        ("flip", "true", True),
        ("flip", "Yes", True),
        ("flip", "0", False),
        ("dataset", "", ""),
        ("dataset", "none", "none"),
        ("loss", "wgan", "wgan"),
        ("resolution", "64", 64),
        ("seed", "none", None),
        ("seed", "7", 7),
        ("name", "None", None),
        ("name", "x=y", "x=y"),
        ("channels", "8", (8,)),
        ("channels", "8, 16,", (8, 16)),
        ("channels", "(8,16)", (8, 16)),
        ("channels", "", ()),
        ("betas", "0,9", (0.0, 9)),
        ("augment", "auto", "auto"),
        ("augment", "4", 4),
        # values that have their type already
        ("batch_size", 2, 2),
        ("batch_size", np.int64(2), 2),
        ("learning_rate", 1, 1.0),
        ("flip", True, True),
        ("seed", None, None),
        ("channels", [1, 2], (1, 2)),
        ("betas", (1, 2), (1.0, 2)),
        ("crop", 3, 3),
        ("crop", 3.0, 3.0),
    ],
)
def test_override_reads_values_by_the_field_s_type(key: str, text: Any, expected: Any):
    value = getattr(settings.override(Config(), {key: text}), key)
    assert value == expected
    assert type(value) is type(expected)
    if isinstance(expected, tuple):
        assert [type(item) for item in value] == [type(item) for item in expected]


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("batch_size", "0", "--config.batch_size=0: expected an integer of at least 1"),
        ("batch_size", "1.5", "--config.batch_size=1.5: expected an integer of at least 1"),
        ("batch_size", "1e999999999", "--config.batch_size=1e999999999: expected an integer of at least 1"),
        ("batch_size", "nan", "--config.batch_size=nan: expected an integer of at least 1"),
        ("batch_size", "", "--config.batch_size=: expected an integer of at least 1"),
        ("batch_size", True, "--config.batch_size=true: expected an integer of at least 1"),
        ("batch_size", 2.0, "--config.batch_size=2.0: expected an integer of at least 1"),
        ("steps", "many", "--config.steps=many: expected an integer"),
        (
            "learning_rate",
            "0",
            "--config.learning_rate=0: expected a finite number of at most 1 and above 0",
        ),
        ("momentum", "1", "--config.momentum=1: expected a finite number of at least 0 and below 1"),
        ("momentum", "nan", "--config.momentum=nan: expected a finite number of at least 0 and below 1"),
        ("momentum", "1e400", "--config.momentum=1e400: expected a finite number of at least 0 and below 1"),
        ("momentum", False, "--config.momentum=false: expected a finite number of at least 0 and below 1"),
        ("flip", "on", "--config.flip=on: expected true or false"),
        ("flip", 1, "--config.flip=1: expected true or false"),
        ("loss", "Hinge", "--config.loss=Hinge: expected one of hinge, wgan"),
        ("resolution", "48", "--config.resolution=48: expected one of 32, 64"),
        ("seed", "x", "--config.seed=x: expected an integer or none"),
        (
            "channels",
            "8,0",
            "--config.channels=8,0: expected a comma-separated list, each an integer of at least 1",
        ),
        (
            "betas",
            "1",
            "--config.betas=1: expected 2 comma-separated values: a finite number, an integer",
        ),
        ("augment", "often", "--config.augment=often: expected an integer or one of auto"),
        ("dataset", 3, "--config.dataset=3: expected text"),
        ("bach_size", "1", "--config.bach_size: cgan has no such setting; did you mean batch_size?"),
        ("hidden", "1", "--config.hidden: cgan has no such setting; choose from: "),
    ],
)
def test_override_refuses(key: str, text: Any, message: str):
    with pytest.raises(UsageError) as error:
        settings.override(Config(), {key: text}, experiment="cgan")
    if key == "hidden":
        assert str(error.value).startswith(message)
    else:
        assert str(error.value) == message


def test_override_leaves_the_original_and_the_other_settings():
    before = Config(batch_size=3)
    after = settings.override(before, {"steps": "5"})
    assert before == Config(batch_size=3)
    assert after == Config(batch_size=3, steps=5)


def test_what_post_init_refuses_is_a_usage_error():
    @dataclasses.dataclass(frozen=True)
    class Even:
        n: int = 0

        def __post_init__(self):
            if self.n % 2:
                raise ValueError(f"config.n={self.n}: expected an even number")

    with pytest.raises(UsageError, match=r"config\.n=3: expected an even number"):
        settings.override(Even(), {"n": "3"})
    with pytest.raises(UsageError, match=r"config\.n=3"):
        settings.from_json(Even, {"n": 3})


def test_a_type_that_no_setting_can_have_is_the_author_s_error():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        table: dict = dataclasses.field(default_factory=dict)

    for use in (lambda: settings.override(Odd(), {"table": "x"}), lambda: settings.describe(Odd)):
        with pytest.raises(TypeError, match="dict"):
            use()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "config.batch_size=0: expected an integer of at least 1"),
        ({"batch_size": 64.0}, "config.batch_size=64.0: expected an integer of at least 1"),
        ({"batch_size": "64"}, 'config.batch_size="64": expected an integer of at least 1'),
        ({"momentum": math.nan}, "config.momentum=nan: expected a finite number of at least 0 and below 1"),
        ({"loss": "lsgan"}, 'config.loss="lsgan": expected one of hinge, wgan'),
        ({"resolution": 48}, "config.resolution=48: expected one of 32, 64"),
        ({"channels": [8]}, "config.channels=[8]: expected a tuple, got a list"),
        ({"seed": 0.5}, "config.seed=0.5: expected an integer or none"),
    ],
)
def test_validate_names_what_is_wrong(changes: dict[str, Any], message: str):
    with pytest.raises(UsageError) as error:
        settings.validate(Config(**changes))
    assert str(error.value) == message


def test_validate_accepts():
    settings.validate(Config())
    settings.validate(Config(learning_rate=1, shift=math.nan, seed=3, augment=2, channels=()))


def test_describe():
    @dataclasses.dataclass(frozen=True)
    class Small:
        needed: int
        batch_size: int = setting(64, "images to a step", minimum=1)
        decay: float = setting(0.5, "of the average", minimum=0, below=1)
        channels: tuple[int, ...] = (64, 128)
        loss: Literal["hinge", "wgan"] = "hinge"
        seed: int | None = None
        flip: bool = setting(True, "mirror half of the images")
        tag: str = ""

    assert (
        settings.describe(Small)
        == """\
--config.needed      int             required
--config.batch_size  int >= 1        64        images to a step
--config.decay       0 <= float < 1  0.5       of the average
--config.channels    int,int,...     64,128
--config.loss        hinge|wgan      hinge
--config.seed        int or none     none
--config.flip        bool            true      mirror half of the images
--config.tag         str             \"\""""
    )


def test_the_default_of_describe_can_be_typed():
    """Every default as the table shows it, read back, is the default."""
    for row in settings.describe(Config).splitlines():
        key, rest = row.removeprefix("--config.").split(maxsplit=1)
        default = getattr(Config(), key)
        assert settings._show(default) in rest
        assert getattr(settings.override(Config(), {key: settings._show(default)}), key) == default


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(name="none", seed=0, channels=(), betas=(0.1, 2), flip=True, augment=3, crop=1),
        Config(learning_rate=0.1 + 0.2, shift=-math.inf, dataset="nan"),
    ],
)
def test_json_round_trip_is_exact(config: Config):
    text = json.dumps(settings.to_json(config), allow_nan=False)
    back = settings.from_json(Config, json.loads(text))
    assert back == config
    assert repr(back) == repr(config)  # 1 and 1.0, True and 1 are equal, but not the same


def test_json_of_nan_and_numpy():
    config = Config(shift=math.nan, batch_size=np.int32(4), momentum=np.float32(0.25))  # type: ignore[arg-type]
    values = settings.to_json(config)
    assert (values["shift"], values["batch_size"], values["momentum"]) == ("nan", 4, 0.25)
    assert math.isnan(settings.from_json(Config, values).shift)


def test_from_json_across_versions():
    assert settings.from_json(Config, {"steps": 3}) == Config(steps=3)
    with pytest.raises(UsageError, match=r"config\.step is not a setting here.*did you mean steps"):
        settings.from_json(Config, {"step": 3})
    with pytest.raises(UsageError, match=r'^config\.steps="3": expected an integer$'):
        settings.from_json(Config, {"steps": "3"})
    with pytest.raises(UsageError, match=r"config\.momentum=10{50}.*\.\.\.: expected a"):
        settings.from_json(Config, {"momentum": 10**400})

    @dataclasses.dataclass(frozen=True)
    class Needy:
        needed: int

    with pytest.raises(UsageError, match=r"config\.needed is missing"):
        settings.from_json(Needy, {})

    @dataclasses.dataclass(frozen=True)
    class Changed:
        prior: float = setting(0.5, recorded=True)

    assert settings.from_json(Changed, {"prior": 0.5}) == Changed()
    with pytest.raises(UsageError, match=r"config\.prior is missing.*whose default 0\.5 would.*another run"):
        settings.from_json(Changed, {})


def test_differences():
    a = {"experiment": "cgan", "seed": 0, "config": {"steps": 2500, "old": 1.5, "flip": True, "size": [1, 2]}}
    b = {"experiment": "cgan", "seed": 1, "config": {"steps": 100, "flip": 1, "size": (1, 2), "new": "x"}}
    assert settings.differences(a, b) == [
        "seed is 0 there and 1 here",
        "config.steps is 2500 there and 100 here",
        "config.flip is true there and 1 here",
        'config.new is "x" here and unknown there: another version made that run',
        "config.old is 1.5 there and unknown here: another version made that run",
    ]
    assert settings.differences(b["config"], {**b["config"], "steps": 1}, prefix="config.") == [
        "config.steps is 100 there and 1 here"
    ]
    assert settings.differences(a, a) == []
    assert settings.differences({"x": 1}, {"x": 1.0}) == []


@pytest.mark.parametrize(
    ("argv", "overrides", "rest"),
    [
        ("run.py --experiment=cgan --config.steps=5", {"steps": "5"}, "run.py --experiment=cgan"),
        ("-config.steps=5 x", {"steps": "5"}, "x"),
        ("--config.steps 5 --seed=1", {"steps": "5"}, "--seed=1"),
        (
            "--config.shift -1 --config.low -.5 --config.l -inf",
            {"shift": "-1", "low": "-.5", "l": "-inf"},
            "",
        ),
        ("--config.flip --seed=1", {"flip": "true"}, "--seed=1"),
        ("--config.flip --config.steps=5", {"flip": "true", "steps": "5"}, ""),
        ("--config.flip", {"flip": "true"}, ""),
        ("--config.flip -- --config.steps=5", {"flip": "true"}, "-- --config.steps=5"),
        ("--config.steps=5 --config.steps=6", {"steps": "6"}, ""),
        ("--config.name=a=b --config.tag=", {"name": "a=b", "tag": ""}, ""),
        ("--configure=1 config.steps=5 --config_file=x", {}, "--configure=1 config.steps=5 --config_file=x"),
    ],
)
def test_split_arguments(argv: str, overrides: dict[str, str], rest: str):
    assert settings.split_arguments(argv.split()) == (overrides, rest.split())


@pytest.mark.parametrize("word", ["--config=x.py", "--config", "-config=1", "--config.=1", "--config."])
def test_split_arguments_refuses(word: str):
    with pytest.raises(UsageError) as error:
        settings.split_arguments(["run.py", word, "5"])
    assert str(error.value) == f"{word}: settings are given one by one, as --config.KEY=VALUE"


def test_a_flag_without_value_sets_a_bool_alone():
    overrides, _ = settings.split_arguments(["--config.flip", "--config.dataset"])
    assert settings.override(Config(), {"flip": overrides["flip"]}).flip is True
    with pytest.raises(UsageError, match=r"^--config\.dataset: the value is missing; expected text$"):
        settings.override(Config(), overrides)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-3", (0, 1, 2, 3)),
        ("7", (7,)),
        ("1,5,9-12", (1, 5, 9, 10, 11, 12)),
        ("5, 1,5-5", (5, 1, 5)),
        ("007", (7,)),
    ],
)
def test_parse_integers(text: str, expected: tuple[int, ...]):
    assert settings.parse_integers(text, name="seeds") == expected


def test_parse_integers_at_the_limits():
    assert settings.parse_integers("-3--1", name="n", minimum=-3, maximum=-1) == (-3, -2, -1)
    assert len(settings.parse_integers("0-999999", name="seeds")) == 1_000_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9-3", "--seeds=9-3: a range runs upwards, like 3-9"),
        ("a", "--seeds=a: expected integers and ranges, like 0-63 or 1,5,9-12"),
        ("", "--seeds=: expected integers and ranges, like 0-63 or 1,5,9-12"),
        ("1,", "--seeds=1,: expected integers and ranges, like 0-63 or 1,5,9-12"),
        ("1-2-3", "--seeds=1-2-3: expected integers and ranges, like 0-63 or 1,5,9-12"),
        ("1.0", "--seeds=1.0: expected integers and ranges, like 0-63 or 1,5,9-12"),
        ("-5", "--seeds=-5: expected integers from 0 to 2000000"),
        ("3,2000001", "--seeds=3,2000001: expected integers from 0 to 2000000"),
        ("0-1000000", "--seeds=0-1000000: 1000001 integers are too many, at most 1000000 may be"),
        ("5,0-999999", "--seeds=5,0-999999: 1000001 integers are too many, at most 1000000 may be"),
        ("9" * 100, f"--seeds={'9' * 57}...: expected integers and ranges, like 0-63 or 1,5,9-12"),
    ],
)
def test_parse_integers_refuses(text: str, message: str):
    with pytest.raises(UsageError) as error:
        settings.parse_integers(text, name="seeds", maximum=2_000_000)
    assert str(error.value) == message
