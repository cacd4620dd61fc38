"""What a generator can be steered by, and the flags of --mode=sample for what a page asks."""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

from ganjax.errors import UsageError, nearest, shortened

MAX_SEED = 2**32 - 1
FARTHEST = 100.0  # what truncations and steps along a direction may be at most, either way

Query = Iterable[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Controls:
    """What can be set; what a generator has no means for is 0, empty or None.

    Attributes:
      seeds: how many make one picture: it is of these from the one on that is asked for.
      classes: of a conditional model.
      truncation: whether latents have a "bound", or styles are drawn to their mean by "psi".
      truncation_modes: how latents beyond the bound are brought within, the first without being asked for.
      noise: the kinds of it, the first without being asked for.
      layers: how many layers have a style of their own, which can be another seed's.
      directions: the share of the styles' variance along each direction that they can be moved along.
      directions_file: where these are kept.
      transparent: whether pictures are.
    """

    seeds: int = 1
    classes: int = 0
    truncation: Literal["bound", "psi"] | None = None
    truncation_modes: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    layers: int = 0
    directions: tuple[float, ...] = ()
    directions_file: str = ""
    transparent: bool = False

    def json(self) -> dict[str, Any]:
        """As the page is told."""
        told = dataclasses.asdict(self) | {"max_seed": MAX_SEED - self.seeds + 1}
        del told["directions_file"]
        return told

    def flags(self, query: Query) -> list[str]:
        """The flags of --mode=sample for a query: names and values, each name once.

        Raises:
          UsageError: there is no such control, or it has no such value; or one is missing that goes with
            another.
        """
        readers = self._readers()
        values: dict[str, Any] = {}
        for name, text in query:
            if name not in readers:
                raise UsageError(
                    f"{shortened(name)}: this model has no such control; {nearest(name, readers)}"
                )
            if name in values:
                raise UsageError(f"{name}: it was given twice")
            values[name] = readers[name](name, text)
        seed = values.get("seed", 0)
        flags = [f"--seeds={seed}" if self.seeds == 1 else f"--seeds={seed}-{seed + self.seeds - 1}"]
        if self.classes:
            flags.append(f"--labels={values.get('label', 0)}")
        if "truncation" in values:
            flags.append(f"--truncation={values['truncation']}")
        if "truncation_mode" in values:
            if "truncation" not in values:
                raise UsageError("truncation_mode: it does nothing without truncation")
            flags.append(f"--truncation_mode={values['truncation_mode']}")
        if "noise" in values:
            flags.append(f"--noise={values['noise']}")
        for name, other in (("mix_seed", "mix_layers"), ("mix_layers", "mix_seed")):
            if name in values and other not in values:
                raise UsageError(f"{name}: it goes with {other}, which is missing")
        if "mix_seed" in values:
            flags.append(f"--mix={values['mix_seed']}:{values['mix_layers']}")
        amounts = [(i, values.get(f"direction_{i}", 0.0)) for i in range(len(self.directions))]
        if moves := ",".join(f"{i}:{amount}" for i, amount in amounts if amount):
            flags += [f"--directions={self.directions_file}", f"--move={moves}"]
        return flags

    def _readers(self) -> dict[str, Callable[[str, str], Any]]:
        """Name -> what reads its value."""
        readers: dict[str, Callable[[str, str], Any]] = {"seed": _integer(MAX_SEED - self.seeds + 1)}
        if self.classes:
            readers["label"] = _integer(self.classes - 1)
        if self.truncation == "bound":
            readers["truncation"] = _number(0.0, above=True)
        elif self.truncation == "psi":
            readers["truncation"] = _number(-FARTHEST)
        if self.truncation_modes:
            readers["truncation_mode"] = _choice(self.truncation_modes)
        if self.noise:
            readers["noise"] = _choice(self.noise)
        if self.layers > 1:
            readers["mix_seed"] = _integer(MAX_SEED)
            readers["mix_layers"] = _range(self.layers)
        for i in range(len(self.directions)):
            readers[f"direction_{i}"] = _number(-FARTHEST)
        return readers


def _integer(maximum: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        if not re.fullmatch("[0-9]{1,10}", text) or int(text) > maximum:
            raise UsageError(f"{name}={shortened(text)}: expected an integer from 0 to {maximum}")
        return int(text)

    return read


def _number(minimum: float, *, above: bool = False) -> Callable[[str, str], float]:
    def read(name: str, text: str) -> float:
        value = float(text) if re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,20})?", text) else float("nan")
        if not minimum <= value <= FARTHEST or (above and value == minimum):
            least = f"above {minimum:g}, to" if above else f"from {minimum:g} to"
            raise UsageError(f"{name}={shortened(text)}: expected a number {least} {FARTHEST:g}")
        return value

    return read


def _range(count: int) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        match = re.fullmatch("([0-9]{1,6})-([0-9]{1,6})", text)
        if match is None or not int(match[1]) <= int(match[2]) < count:
            raise UsageError(f"{name}={shortened(text)}: expected FIRST-LAST, of the layers 0-{count - 1}")
        return text

    return read


def _choice(choices: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if text not in choices:
            raise UsageError(f"{name}={shortened(text)}: expected {', '.join(choices)}")
        return text

    return read
