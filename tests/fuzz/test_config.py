"""Whatever a setting is given: a config that JSON keeps, or an error that names the setting."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any, Literal

from hypothesis import strategies as st

from experiments import cgan_mnist
from ganjax import config
from ganjax.cli.experiments import find, names
from ganjax.errors import UsageError
from tests.cli import toy
from tests.fuzz.harness import fuzzed, json_values, numbers, texts


@dataclasses.dataclass(frozen=True)
class Rich:
    """A setting of every type that there is."""

    count: int = config.setting(1, minimum=-5, maximum=2**40)
    rate: float = config.setting(0.5, above=0.0, below=1.0)
    any_rate: float = config.setting(0.0, finite=False)
    flag: bool = False
    text: str = "text"
    name: str = config.setting("a", choices=("a", "b"))
    size: int = config.setting(4, choices=(4, 8))
    loss: Literal["hinge", "wgan", 3, True, None] = "hinge"
    maybe: int | None = config.setting(None, minimum=1)
    either: int | float = 1
    text_or_flag: bool | str = True
    sizes: tuple[int, ...] = config.setting((1, 2), minimum=0)
    pair: tuple[int, float] = (1, 0.5)
    rates: tuple[float, ...] | None = config.setting((0.5,), finite=False)
    names: tuple[str, ...] = ()
    nothing: tuple[()] = ()


CLASSES = [Rich, toy.Config, *(find(name, "experiments").Config for name in names("experiments"))]
assert cgan_mnist.Config in CLASSES

lists = st.lists(st.one_of(numbers, texts), max_size=4).map(",".join)
texts_of_settings = st.one_of(numbers, texts, lists, lists.map("({})".format), lists.map("[{},]".format))


def given_to(values: st.SearchStrategy) -> st.SearchStrategy[tuple[type, dict[str, Any]]]:
    """A class and values for some of its settings, now and then for one that it has not."""

    def of(kind: type) -> st.SearchStrategy[tuple[type, dict[str, Any]]]:
        known = st.sampled_from([field.name for field in dataclasses.fields(kind)])
        keys = st.integers(0, 9).flatmap(lambda choice: known if choice else texts)
        return st.tuples(st.just(kind), st.dictionaries(keys, values, max_size=3))

    return st.sampled_from([Rich, *CLASSES]).flatmap(of)


made = given_to(texts_of_settings)
stored = given_to(json_values)


def is_kept_by_json(found: Any) -> None:
    """It is valid, and what JSON holds of it makes the same again."""
    config.validate(found)
    hash(found)
    text = json.dumps(config.to_json(found), allow_nan=False)
    again = config.from_json(type(found), json.loads(text))
    assert repr(again) == repr(found)  # repr: NaN is what it is
    assert [type(x) for x in dataclasses.astuple(again)] == [type(x) for x in dataclasses.astuple(found)]
    assert config.describe(type(found))


def names_one_of(error: UsageError, settings: Iterable[str]) -> None:
    text = str(error)
    assert any(f"config.{key[:50]}" in text for key in settings), text
    assert len(text) < 2000, len(text)


def words_of_settings(case: tuple[type, dict[str, str]], folder: pathlib.Path) -> None:
    """Settings as a command line has them: `--config.KEY=VALUE`, or `--config.KEY VALUE`."""
    del folder
    kind, given = case
    words = [f"--config.{key}={value}" for key, value in given.items() if key and "=" not in key]
    overrides, rest = config.split_arguments(words)
    assert rest == []
    assert overrides == {key: value for key, value in given.items() if key and "=" not in key}
    try:
        found = config.override(kind(), overrides)
    except UsageError as error:
        names_one_of(error, overrides)
    else:
        is_kept_by_json(found)


def stored_settings(case: tuple[type, dict[str, Any]], folder: pathlib.Path) -> None:
    """Settings as a config.json may have them."""
    del folder
    kind, given = case
    limits = {field.name: field.metadata.get("ganjax") for field in dataclasses.fields(kind)}
    recorded = [name for name, limit in limits.items() if limit and limit.recorded]
    try:
        found = config.from_json(kind, given)
    except UsageError as error:
        names_one_of(error, [*given, *recorded])
    else:
        is_kept_by_json(found)


def a_list_of_integers(text: str, folder: pathlib.Path) -> None:
    """`--seeds` and `--labels`."""
    del folder
    said = ""
    try:
        found = config.parse_integers(text, name="seeds", maximum=2**32 - 1)
    except UsageError as error:
        said, found = str(error), ()
    if not found:
        assert said.startswith("--seeds=")
        assert len(said) < 2000
    else:
        assert 0 < len(found) <= config.LONGEST_LIST
        assert all(type(x) is int and 0 <= x < 2**32 for x in (found[0], found[-1], min(found), max(found)))


spans = st.tuples(st.integers(-2, 60), st.integers(-2, 2**33)).map("{0[0]}-{0[1]}".format)
integer_lists = st.one_of(st.lists(st.one_of(numbers, spans, texts), max_size=4).map(",".join), texts)

test_words_of_settings, test_words_of_settings_at_length = fuzzed(words_of_settings, made, few=80, many=2000)
test_stored_settings, test_stored_settings_at_length = fuzzed(stored_settings, stored, few=80, many=2000)
test_a_list_of_integers, test_a_list_of_integers_at_length = fuzzed(
    a_list_of_integers, integer_lists, few=50, many=500
)
