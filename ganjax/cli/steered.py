"""How a generator with styles is steered, as the flags say."""

import re
from collections.abc import Sequence

import numpy as np
from absl import flags as absl_flags
from etils import epath

from ganjax import config as settings
from ganjax import projection
from ganjax.errors import UsageError, shortened
from ganjax.gan import Gan, GanState
from ganjax.projection import Projection
from ganjax.report.files import unusable
from ganjax.steering import Directions, Look, Move, NoiseMode, check_layers, load_directions, moved, truncated

# Flags that say how styles are steered; other generators have no use for them.
FLAGS = ("noise", "truncation_cutoff", "mix", "directions", "move")


def check(flags: absl_flags.FlagValues, gan: Gan) -> None:
    """Raises UsageError where a flag steers styles and the model has none."""
    for name in FLAGS:
        if flags[name].present and gan.styles is None:
            raise UsageError(f"--{name}: this model has no such option; its generator has no styles")


def check_mode(mode: str, gan: Gan) -> None:
    """Raises UsageError for a mode that steers styles where the model has none."""
    if gan.styles is None:
        raise UsageError(
            f"--mode={mode}: this model's generator has no styles; those of StyleGAN and StyleGAN2 have"
        )


def look_of(
    flags: absl_flags.FlagValues, gan: Gan, state: GanState, noise: NoiseMode
) -> tuple[Look, Directions | None]:
    """How pictures look, of a model with styles; all of it is checked, before anything is compiled.

    Args:
      flags: of the command.
      gan: has styles.
      state: of the gan.
      noise: which, where the flags don't say.
    Raises:
      UsageError: a flag does not fit the model, or another flag.
      RunError: the file of directions can't be read.
    """
    assert gan.styles is not None
    layers, mean = gan.styles.layers, np.asarray(gan.styles.mean(state))
    if flags.truncation_cutoff is not None and flags.truncation is None:
        raise UsageError("--truncation_cutoff does nothing without --truncation=")
    if bool(flags.move) != bool(flags.directions):
        given, other = ("move", "directions") if flags.move else ("directions", "move")
        raise UsageError(f"--{given} does nothing without --{other}=")
    look = Look(
        mix=tuple(_mix(word, layers) for word in (flags.mix or "").split(",") if word),
        truncation=flags.truncation,
        cutoff=flags.truncation_cutoff,
        moves=tuple(_move(word, layers) for word in (flags.move or "").split(",") if word),
        noise=flags.noise or noise,
    )
    directions = load_directions(flags.directions) if flags.directions else None
    one = np.zeros((1, layers, len(mean)), np.float32)
    try:
        if look.truncation is not None:
            truncated(one, mean, look.truncation, look.cutoff)
        if directions is not None:
            moved(one, directions, look.moves)
    except ValueError as error:
        text = str(error)
        flag = "" if text.startswith("truncation") else f"move={shortened(flags.move)}: "
        raise UsageError(f"--{flag}{text}") from error
    return look, directions


def layers_of(text: str, count: int, flag: str = "layers") -> tuple[int, ...]:
    """A list of layers, as in 0-3 or 0,2,5. Raises UsageError unless the network has them."""
    layers = settings.parse_integers(text, name=flag)
    try:
        check_layers(layers, count)
    except ValueError as error:
        raise UsageError(f"--{flag}={shortened(text)}: {error}") from error
    return layers


def _mix(word: str, count: int) -> tuple[int, tuple[int, ...]]:
    match = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,6}(?:-[0-9]{1,6})?)", word)
    if match is None or int(match[1]) >= 2**32:
        raise UsageError(f"--mix={shortened(word)}: expected SEED:LAYERS, as in 7:4-7")
    return int(match[1]), layers_of(match[2], count, "mix")


def _move(word: str, count: int) -> Move:
    match = re.fullmatch(r"([0-9]{1,6}):([-+.0-9e]{1,30})(?::([0-9]{1,6}(?:-[0-9]{1,6})?))?", word)
    try:
        if match is None:
            raise ValueError
        amount = float(match[2])
    except ValueError:
        raise UsageError(
            f"--move={shortened(word)}: expected COMPONENT:AMOUNT or COMPONENT:AMOUNT:LAYERS, as in 0:2.5 or "
            "3:-1:4-7"
        ) from None
    return Move(int(match[1]), amount, None if match[3] is None else layers_of(match[3], count, "move"))


def read_latents(text: str) -> dict[str, Projection]:
    """The files of `--latent`, by name without ending. Raises UsageError or RunError where one is none."""
    found = {}
    for word in text.split(","):
        path = epath.Path(word).expanduser()
        if unusable(word) or not path.exists():
            raise UsageError(f"--latent={shortened(word)}: no such file")
        if path.stem in found:
            raise UsageError(f"--latent={shortened(text)}: two files are called {path.stem}")
        found[path.stem] = projection.load(path)
    return found


def check_latents(found: dict[str, Projection], gan: Gan, state: GanState, num_classes: int) -> None:
    """Raises UsageError unless all are of this model."""
    for name, each in found.items():
        try:
            projection.check_fits(each, name, gan, state, num_classes)
        except ValueError as error:
            raise UsageError(f"--latent: {error}") from error


def one_label(labels: Sequence[int], given: str | None) -> int | None:
    """The label of a mode that takes one: the first where none is given; None of an unconditional model."""
    if given is not None and len(labels) != 1:
        raise UsageError(f"--labels={shortened(given)}: expected one label")
    return labels[0] if labels else None
