"""An experiment's settings: a frozen dataclass, and what the command line does with it.

    @dataclasses.dataclass(frozen=True)
    class Config:
        batch_size: int = setting(64, "images to a step", minimum=1)
        loss: Literal["hinge", "wgan"] = "hinge"

    overrides, rest = split_arguments(sys.argv)     # --config.batch_size=32
    config = override(Config(), overrides)          # Config(batch_size=32, loss="hinge")

Fields may be int, float, bool, str, a Literal, a union of these with None or with each other, and tuples of
them, `tuple[int, ...]` or `tuple[int, float]`.
"""

import dataclasses
import decimal
import json
import math
import numbers
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, Union

from ganjax.errors import UsageError, nearest, shortened

C = TypeVar("C")

LONGEST_LIST = 1_000_000  # integers that `parse_integers` gives at most


class _Limits(NamedTuple):
    help: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] | None = None
    finite: bool = True
    recorded: bool = False


def setting(
    default: Any,
    help: str = "",
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] | None = None,
    finite: bool = True,
    recorded: bool = False,
) -> Any:
    """A dataclass field with an explanation and limits. Plain fields do as well where there are none.

    Limits and choices hold for every element of a tuple, and not for None.

    Args:
      default: the value where none is given.
      help: what it is and in which unit, for `describe`.
      minimum: the least value.
      maximum: the greatest value.
      above: a value that must be exceeded.
      below: a value that must not be reached.
      choices: the only values.
      finite: False admits NaN and infinities to a float.
      recorded: a new setting whose default is not what runs from before it did: `from_json` refuses their
        configs, which lack it.
    """
    allowed = None if choices is None else tuple(choices)
    limits = _Limits(help, minimum, maximum, above, below, allowed, finite, recorded)
    return dataclasses.field(default=default, metadata={"ganjax": limits})


class _Field(NamedTuple):
    annotation: Any
    limits: _Limits
    default: Any  # dataclasses.MISSING where there is none


def _fields(config_class: type) -> dict[str, _Field]:
    """The settings by name."""
    hints = typing.get_type_hints(config_class)  # `from __future__ import annotations` leaves text in fields
    found = {}
    for field in dataclasses.fields(config_class):
        if field.init:
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            found[field.name] = _Field(hints[field.name], field.metadata.get("ganjax", _Limits()), default)
    return found


class _Mismatch(Exception):
    """A value doesn't fit. `_expectation` has the words for it."""


def _members(annotation: Any) -> tuple[Any, ...] | None:
    """The members of a union, None last; None where `annotation` is no union."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        members = typing.get_args(annotation)
        return tuple(sorted(members, key=lambda member: member is type(None)))
    return None


def _unsupported(annotation: Any) -> TypeError:
    return TypeError(f"a setting of type {annotation} is not supported (see ganjax.config)")


def _limited(value: Any, limits: _Limits) -> Any:
    """`value`, a number or a string, if it is within the limits."""
    if limits.choices is not None and value not in limits.choices:
        raise _Mismatch
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and limits.finite and not math.isfinite(value):
            raise _Mismatch
        # Written so that NaN, where it is admitted, passes.
        if (
            (limits.minimum is not None and value < limits.minimum)
            or (limits.maximum is not None and value > limits.maximum)
            or (limits.above is not None and value <= limits.above)
            or (limits.below is not None and value >= limits.below)
        ):
            raise _Mismatch
    return value


def _integer(text: str) -> int:
    try:
        value = decimal.Decimal(text)
    except decimal.InvalidOperation:
        raise _Mismatch from None
    # The bound on the exponent comes first: 1e999999999 would take a gigabyte to write out.
    if not value.is_finite() or abs(value.adjusted()) > 30 or value != int(value):
        raise _Mismatch
    return int(value)


_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _from_text(text: str, annotation: Any, limits: _Limits) -> Any:
    """What `text` of the command line means for a field of this type."""
    members = _members(annotation)
    if members is not None:
        if type(None) in members and text.lower() == "none":
            return None
        for member in members:
            if member is not type(None):
                try:
                    return _from_text(text, member, limits)
                except _Mismatch:
                    continue
        raise _Mismatch
    if typing.get_origin(annotation) is Literal:
        for choice in typing.get_args(annotation):
            if text == str(choice) or (not isinstance(choice, str) and text.lower() == str(choice).lower()):
                return _limited(choice, limits)
        raise _Mismatch
    if typing.get_origin(annotation) is tuple:
        inner = text.strip()
        if inner[:1] + inner[-1:] in ("()", "[]"):
            inner = inner[1:-1].strip()
        parts = [part.strip() for part in inner.removesuffix(",").split(",")] if inner else []
        return tuple(
            _from_text(part, element, limits)
            for part, element in zip(parts, _elements(annotation, len(parts)), strict=True)
        )
    if annotation is bool:
        if text.lower() not in _TRUTH:
            raise _Mismatch
        return _TRUTH[text.lower()]
    if annotation is int:
        return _limited(_integer(text), limits)
    if annotation is float:
        try:
            return _limited(float(text), limits)
        except ValueError:
            raise _Mismatch from None
    if annotation is str:
        return _limited(text, limits)
    raise _unsupported(annotation)


def _elements(annotation: Any, count: int) -> tuple[Any, ...]:
    """The types of a tuple's elements, if it may have `count` of them."""
    elements = typing.get_args(annotation)
    if len(elements) == 2 and elements[1] is Ellipsis:
        return (elements[0],) * count
    if elements == ((),):  # how Python 3.10 and older spelt tuple[()]
        elements = ()
    if len(elements) != count:
        raise _Mismatch
    return elements


def _from_value(value: Any, annotation: Any, limits: _Limits) -> Any:
    """A value that has its type already, as the field holds it: lists become tuples, integers floats."""
    members = _members(annotation)
    if members is not None:
        # The member whose type it is comes first: 1 in `float | int` is no float.
        for member in sorted(members, key=lambda member: type(value) is not member):
            try:
                return _from_value(value, member, limits)
            except _Mismatch:
                continue
        raise _Mismatch
    if annotation is type(None):
        if value is not None:
            raise _Mismatch
        return None
    if typing.get_origin(annotation) is Literal:
        for choice in typing.get_args(annotation):
            if type(value) is type(choice) and value == choice:
                return _limited(choice, limits)
        raise _Mismatch
    if typing.get_origin(annotation) is tuple:
        if not isinstance(value, (tuple, list)):
            raise _Mismatch
        elements = _elements(annotation, len(value))
        return tuple(_from_value(v, element, limits) for v, element in zip(value, elements, strict=True))
    if annotation is bool:
        if not isinstance(value, bool):
            raise _Mismatch
        return value
    if annotation is int:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise _Mismatch
        return _limited(int(value), limits)
    if annotation is float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise _Mismatch
        try:
            return _limited(float(value), limits)
        except OverflowError:  # an integer beyond the largest float
            raise _Mismatch from None
    if annotation is str:
        if not isinstance(value, str):
            raise _Mismatch
        return _limited(value, limits)
    raise _unsupported(annotation)


def _show(value: Any) -> str:
    """A value as it would be typed."""
    if isinstance(value, (tuple, list)):
        return ",".join(_show(item) for item in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _range(limits: _Limits) -> str:
    """The limits in words, with a leading space: " of at least 1"."""
    if limits.minimum is not None and limits.maximum is not None:
        words = [f"from {_show(limits.minimum)} to {_show(limits.maximum)}"]
    elif limits.minimum is not None:
        words = [f"of at least {_show(limits.minimum)}"]
    elif limits.maximum is not None:
        words = [f"of at most {_show(limits.maximum)}"]
    else:
        words = []
    words += [] if limits.above is None else [f"above {_show(limits.above)}"]
    words += [] if limits.below is None else [f"below {_show(limits.below)}"]
    return "".join(" " + ("and " if i else "") + word for i, word in enumerate(words))


def _expectation(annotation: Any, limits: _Limits) -> str:
    """What a field takes, in words, after "expected"."""
    members = _members(annotation)
    if members is not None:
        words = ["none" if m is type(None) else _expectation(m, limits) for m in members]
        return " or ".join(dict.fromkeys(words))
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(_show(choice) for choice in typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        elements = typing.get_args(annotation)
        if len(elements) == 2 and elements[1] is Ellipsis:
            return f"a comma-separated list, each {_expectation(elements[0], limits)}"
        words = ", ".join(_expectation(element, limits) for element in elements)
        return f"{len(elements)} comma-separated values: {words}"
    if annotation is bool:
        return "true or false"
    if limits.choices is not None:
        return "one of " + ", ".join(_show(choice) for choice in limits.choices)
    if annotation is int:
        return "an integer" + _range(limits)
    if annotation is float:
        return ("a finite number" if limits.finite else "a number") + _range(limits)
    if annotation is str:
        return "text"
    raise _unsupported(annotation)


class BareFlag(str):
    """The "true" of a `--config.KEY` that came without a value. Only a bool can be set so."""


def _convert(name: str, value: Any, field: _Field, *, text: bool) -> Any:
    try:
        if text and isinstance(value, str):
            return _from_text(value, field.annotation, field.limits)
        return _from_value(value, field.annotation, field.limits)
    except _Mismatch:
        shown = f'"{value}"' if isinstance(value, str) and not text else _show(value)
        expected = _expectation(field.annotation, field.limits)
        raise UsageError(f"{name}={shortened(shown)}: expected {expected}") from None


def _made(make: Any, *arguments: Any, **changes: Any) -> Any:
    """Makes a config; what its __post_init__ refuses is a wrong usage too."""
    try:
        return make(*arguments, **changes)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error


def override(config: C, overrides: Mapping[str, Any], *, experiment: str = "") -> C:
    """`config` with some settings changed.

    Strings are read as the field's type asks: integers like `1_000` or `1e3`; bools `true`, `false`, `1`,
    `0`, `yes`, `no`; `none` where None may be (so a `str | None` can't be the word none); tuples
    `64,128`, with or without brackets. Other values must have the type already; a list may stand for a
    tuple and an integer for a float.

    Args:
      config: an instance of a frozen dataclass.
      overrides: key -> string from the command line, or value.
      experiment: its name, for messages.

    Raises:
      UsageError: an unknown key (the nearest ones are named), a value of another type or out of range.
    """
    fields = _fields(type(config))
    changes = {}
    for key, value in overrides.items():
        if key not in fields:
            whose = experiment or "the experiment"
            raise UsageError(
                f"--config.{shortened(key)}: {whose} has no such setting; {nearest(key, fields)}"
            )
        if isinstance(value, BareFlag) and not _takes_bool(fields[key].annotation):
            expected = _expectation(fields[key].annotation, fields[key].limits)
            raise UsageError(f"--config.{key}: the value is missing; expected {expected}")
        changes[key] = _convert(f"--config.{key}", value, fields[key], text=True)
    return _made(dataclasses.replace, config, **changes)


def default_of(config: Any, name: str) -> Any:
    """What a setting of a config is unless another value is given."""
    return next(field.default for field in dataclasses.fields(config) if field.name == name)


def check_unused(config: Any, name: str, where: str) -> None:
    """Raises ValueError unless a setting has its default.

    Args:
      config: whose `__post_init__` or `build` asks, where the setting has no effect.
      name: of the setting.
      where: why not, as in "schedule=constant".
    """
    default = default_of(config, name)
    if (value := getattr(config, name)) != default:
        raise ValueError(f"--config.{name}={value}: expected {default}, as it does nothing with {where}")


def _takes_bool(annotation: Any) -> bool:
    return annotation is bool or bool in (_members(annotation) or ())


def validate(config: Any) -> None:
    """Checks the type, the limits and the choices of every setting, however `config` was made.

    Raises:
      UsageError: it names the first setting that is wrong.
    """
    for name, field in _fields(type(config)).items():
        value = getattr(config, name)
        if isinstance(value, list):  # as good as a tuple elsewhere; but a config should be hashable
            raise UsageError(f"config.{name}={value}: expected a tuple, got a list")
        _convert(f"config.{name}", value, field, text=False)


def _type_name(annotation: Any, limits: _Limits) -> str:
    """The type for the help table: `int >= 1`, `0 <= float < 1`, `hinge|wgan`, `int,int,...`."""
    members = _members(annotation)
    if members is not None:
        return " or ".join("none" if m is type(None) else _type_name(m, limits) for m in members)
    if typing.get_origin(annotation) is Literal:
        return "|".join(_show(choice) for choice in typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        elements = typing.get_args(annotation)
        if len(elements) == 2 and elements[1] is Ellipsis:
            inner = _type_name(elements[0], limits)
            return f"{inner},{inner},..." if inner.isidentifier() else f"({inner}),..."
        return ",".join(_type_name(element, limits) for element in elements)
    if annotation is bool:
        return "bool"
    if limits.choices is not None:
        return "|".join(_show(choice) for choice in limits.choices)
    if annotation not in (int, float, str):
        raise _unsupported(annotation)
    name = annotation.__name__
    if annotation is str:
        return name
    low = [(limits.minimum, ">=", "<="), (limits.above, ">", "<")]
    high = [(limits.maximum, "<="), (limits.below, "<")]
    lows = [(limit, after, before) for limit, after, before in low if limit is not None]
    highs = [(limit, after) for limit, after in high if limit is not None]
    if lows and highs:
        name = f"{_show(lows[0][0])} {lows[0][2]} {name}"
        lows = lows[1:]
    return name + "".join(f" {sign} {_show(limit)}" for limit, sign, *_ in [*lows, *highs])


def describe(config_class: type) -> str:
    """The table of settings for `--help`: a line each of key, type with limits, default and explanation."""
    rows = []
    for name, field in _fields(config_class).items():
        default = "required" if field.default is dataclasses.MISSING else _show(field.default)
        row = (f"--config.{name}", _type_name(field.annotation, field.limits), default or '""')
        rows.append((*row, field.limits.help))
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]
        ).rstrip()
        for row in rows
    )


def to_json(config: Any) -> dict[str, Any]:
    """The settings as JSON holds them, which `from_json` reads back.

    Tuples become lists; NaN and infinities, where a setting admits them, "nan", "inf" and "-inf".
    """
    return {name: _plain(getattr(config, name)) for name in _fields(type(config))}


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, int, float)):  # numpy's
        return _plain(int(value) if isinstance(value, numbers.Integral) else float(value))
    return value


def from_json(config_class: type[C], values: Mapping[str, Any]) -> C:
    """The config that `to_json` made `values` of. Settings that `values` lacks have their defaults.

    Raises:
      UsageError: `values` has a key that `config_class` does not know (another version's), lacks one that has
        no default or is `recorded`, or a value is of another type or out of range.
    """
    fields = _fields(config_class)
    for key in values:
        if key not in fields:
            raise UsageError(
                f"config.{shortened(key)} is not a setting here: the config was written by another version; "
                f"{nearest(key, fields)}"
            )
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise UsageError(f"config.{name} is missing, and has no default")
        if name not in values and field.limits.recorded:
            raise UsageError(
                f"config.{name} is missing: the config is from before that setting, whose default "
                f"{field.default} would change what the run learns; begin another run"
            )
    converted = {
        name: _convert(f"config.{name}", _nonfinite(value, fields[name]), fields[name], text=False)
        for name, value in values.items()
    }
    return _made(config_class, **converted)


def _nonfinite(value: Any, field: _Field) -> Any:
    """Turns "nan", "inf" and "-inf" back into numbers, in a setting that admits them."""
    if field.limits.finite:
        return value
    if isinstance(value, list):
        return [_nonfinite(item, field) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def differences(a: Mapping[str, Any], b: Mapping[str, Any], *, prefix: str = "") -> list[str]:
    """What sets two runs apart, a line each: `config.steps is 2500 there and 100 here`.

    Args:
      a: JSON of the run there, the stored one; dicts in it are compared key by key.
      b: JSON of the run here.
      prefix: goes before every name, like `config.` if `a` and `b` are configs.

    Returns:
      the lines, in the order of `b`'s keys, then those that only `a` has. None: the runs are the same.
    """
    lines = []
    for key in [*b, *(key for key in a if key not in b)]:
        name = f"{prefix}{key}"
        if key not in a:
            lines.append(f"{name} is {_json(b[key])} here and unknown there: another version made that run")
        elif key not in b:
            lines.append(f"{name} is {_json(a[key])} there and unknown here: another version made that run")
        elif isinstance(a[key], Mapping) and isinstance(b[key], Mapping):
            lines += differences(a[key], b[key], prefix=f"{name}.")
        elif not _same(a[key], b[key]):
            lines.append(f"{name} is {_json(a[key])} there and {_json(b[key])} here")
    return lines


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, bool) or isinstance(b, bool):  # Python holds True to be 1
        return a is b
    return a == b


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_SETTING = re.compile(r"--?config\.([^=]*)(?:=(.*))?", re.DOTALL)
_NOT_A_VALUE = re.compile(r"-(?!\.?\d|inf\b).*", re.DOTALL)  # a flag; but -1, -.5 and -inf are values


def split_arguments(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Takes the settings out of a command line.

    `--config.KEY=VALUE`, `-config.KEY=VALUE` and `--config.KEY VALUE` set KEY. Where no value follows (the
    line ends, or a flag comes next; a negative number is no flag), it is "true", which `override` takes for
    a bool alone. If a key comes twice, the last one wins. Everything from a word `--` on is left alone.

    Args:
      argv: the words, with or without the program's name.

    Returns:
      (key -> value, the other words in their order, `--` among them).

    Raises:
      UsageError: `--config`, `--config=...`, or an empty key.
    """
    overrides: dict[str, str] = {}
    rest: list[str] = []
    words = list(argv)
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            rest += [word, *words[at:]]
            break
        match = _SETTING.fullmatch(word)
        if re.fullmatch(r"--?config(=.*)?", word, re.DOTALL) or (match and not match[1]):
            raise UsageError(f"{shortened(word)}: settings are given one by one, as --config.KEY=VALUE")
        if not match:
            rest.append(word)
        elif match[2] is not None:
            overrides[match[1]] = match[2]
        elif at < len(words) and not _NOT_A_VALUE.fullmatch(words[at]):
            overrides[match[1]] = words[at]
            at += 1
        else:
            overrides[match[1]] = BareFlag("true")
    return overrides, rest


def parse_integers(text: str, *, name: str, minimum: int = 0, maximum: int | None = None) -> tuple[int, ...]:
    """The integers of a list like `0-63` or `1,5,9-12`, in its order; ranges hold both their ends.

    Args:
      text: integers and ranges, separated by commas.
      name: the flag's, without dashes, for messages.
      minimum: the least that may occur.
      maximum: the greatest that may occur.

    Raises:
      UsageError: something else, an integer out of range, a range downwards, or more than a million.
    """
    shown = shortened(text)
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(-?[0-9]{1,18})(?:-(-?[0-9]{1,18}))?", part.strip())
        if not match:
            raise UsageError(f"--{name}={shown}: expected integers and ranges, like 0-63 or 1,5,9-12")
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if min(first, last) < minimum or (maximum is not None and max(first, last) > maximum):
            limits = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
            raise UsageError(f"--{name}={shown}: expected integers {limits}")
        if last < first:
            raise UsageError(f"--{name}={shown}: a range runs upwards, like {last}-{first}")
        count = len(found) + last - first + 1
        if count > LONGEST_LIST:
            raise UsageError(
                f"--{name}={shown}: {count} integers are too many, at most {LONGEST_LIST} may be"
            )
        found.extend(range(first, last + 1))
    return tuple(found)
