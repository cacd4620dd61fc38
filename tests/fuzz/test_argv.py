"""Whatever the words of a command are: done, or one line that says why not, and nothing else has changed."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from experiments import cgan_mnist
from ganjax import loop
from ganjax.cli import command as reading
from ganjax.errors import RunError
from tests.cli import toy
from tests.doubles import compiled_fast
from tests.fuzz.harness import TOY, command, copied, fuzzed, listing, numbers, said_in_a_line, texts
from tests.fuzz.runs import trained, without_drawing

__all__ = ["compiled_fast"]  # the fixture

MODES = ["train", "sample", "interpolate", "attention", "evaluate", "plot", "list", "count", "help"]
TINY = {"dataset": "random", "image_size": "8", "width": "4", "latent_size": "4"}
EXPERIMENTS = {"toy": (TOY, toy.Config, {}), "cgan_mnist": ("cgan_mnist", cgan_mnist.Config, TINY)}
NEAR_MISSES = [
    "", "x", "Seed", "seeds ", "stesp", "work_dir", "config", "nohelp", "é", "flagfile", "undefok",
    "batchsize",
    "config.", "config.x.y", "config.stesp", "config.\0", "\0", "=",
]  # fmt: skip
NASTY_PATHS = [
    "", ".", "..", "../..", "/proc/x", "/dev/null/x", "~", "~nobody-here", "a\0b", "a\nb", "\udcff",
    "\ud800", "é",
    "a" * 300, "a/" * 3000, "a/b", "a\\b", "gs://a/b", "s3://a", "http://a/b", "file://a", "://", "off",
    "x", "-x",
    "{run}", "{run}/config.json", "{run}/checkpoints", "{run}/config.json/x", "{here}", "{here}/x",
]  # fmt: skip
PATHS = {"experiment", "workdir", "data_dir", "compilation_cache", "out", "config.dataset"}
LISTS = {"seeds", "labels", "metrics", "config.sizes"}
WORDS = {"mode", "parallel", "config.loss", "config.dtype"}
endings = st.sampled_from(["", "", ".png", ".npz", ".gif", ".json", ".py"])
paths = st.builds("{}{}".format, st.sampled_from(NASTY_PATHS), endings)
spans = st.builds("{}-{}".format, st.integers(-1, 12), st.integers(0, 14))
lists = st.lists(st.one_of(spans, st.integers(0, 12).map(str), numbers, texts), max_size=3).map(",".join)


def values_of(name: str) -> st.SearchStrategy[str]:
    """Values of the kind that a flag takes, and now and then of another."""
    if name in PATHS:
        fitting = paths
    elif name in LISTS:
        fitting = lists
    else:
        fitting = texts if name in WORDS else numbers
    return st.integers(0, 9).flatmap(lambda choice: fitting if choice else st.one_of(numbers, texts))


@st.composite
def words_of_a_flag(draw: st.DrawFn, names: list[str]) -> list[str]:
    """A flag in one of the forms in which it may be given, mostly one of those that are named."""
    name = draw(st.sampled_from(names if draw(st.integers(0, 14)) else [*reading._BELONGS_TO, *NEAR_MISSES]))
    value = draw(values_of(name))
    form = draw(st.integers(0, 24))
    dashes = draw(st.sampled_from(["-", "---", ""])) if form == 0 else "--"
    if form == 1:
        return [f"{dashes}no{name}"]
    if form == 2:
        return [f"{dashes}no{name}={value}"]
    if form == 3:
        return [f"{dashes}{name}"]
    if form < 6:
        return [f"{dashes}{name}", value]
    return [f"{dashes}{name}={value}"]


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """The words of a command: one that is right, and a flag or two more, which may come twice."""
    mode = draw(st.sampled_from(["train", *MODES]))
    name, kind, tiny = EXPERIMENTS[draw(st.sampled_from(["toy", "toy", "cgan_mnist"]))]
    words = [f"--config.{key}={value}" for key, value in tiny.items()]
    names = ["experiment", "mode", *(f"config.{field.name}" for field in dataclasses.fields(kind))]
    if mode == "list":
        words = ["--mode=list"]
    elif mode == "help":
        words = ["--help", f"--experiment={name}"]
    elif mode == "train":
        words += [f"--experiment={name}", "--parallel=none"]
        words += draw(st.sampled_from([[], ["--workdir={run}"]]))
    else:
        words = [f"--mode={mode}", "--workdir={run}", *draw(st.sampled_from([[], [f"--experiment={TOY}"]]))]
    known = [flag for flag, modes in reading._BELONGS_TO.items() if mode in modes]
    flags = draw(st.lists(words_of_a_flag([*known, *known, *names]), min_size=1, max_size=2))
    words += [word for flag in flags for word in flag]
    odd = draw(st.integers(0, 19))
    if odd == 0:
        words.append(draw(texts))
    return draw(st.permutations(words)) if odd == 1 else words


@contextlib.contextmanager
def without_training() -> Iterator[None]:
    """Commands that would train, or would need a classifier, get as far as that and end."""

    def train(
        experiment: Any, *, schedule: loop.Schedule, observer: loop.Observer, **rest: Any
    ) -> loop.Result:
        total = sum(stage.steps for stage in experiment.stages)
        stop = total if schedule.stop is None else min(schedule.stop, total)
        observer.begin(0, total)
        return loop.Result(stop, 0, 1.0, 1.0, None, 1.0, [], "none", {}, False)

    def classifier(*args: Any) -> None:
        raise RunError("there is no classifier in this test")

    with (
        mock.patch.object(loop, "train", train),
        mock.patch("ganjax.cli.measuring.cached_classifier", classifier),
        without_drawing(),
    ):
        yield


def a_command_line(words: list[str], folder: pathlib.Path) -> None:
    """Done, or refused in one line with nothing changed. Compiles nothing."""
    run = copied(trained(), folder) if any("{run}" in word for word in words) else None
    here = folder / "in" / "here"  # so that a "../.." is still ours
    here.mkdir(parents=True)
    before = listing(folder)
    answered = [word.replace("{run}", str(run)).replace("{here}", str(here)) for word in words]
    with without_training():
        answer = command(answered, here)
    if said_in_a_line(answer):
        said = [line for line in answer.err.splitlines() if not line.startswith("classifier: ")]
        assert len(said) == 1, answer.err
        assert answer.out == ""
        assert listing(folder) == before
    if run is not None:
        kept = {name: content for name, content in before.items() if "checkpoints" in name}
        now = listing(folder)
        assert {name: now.get(name) for name in kept} == kept


test_a_command_line, test_a_command_line_at_length = fuzzed(a_command_line, lines(), few=40, many=2000)
