"""What the fuzz tests share: cases that are counted, limited in time and memory, each in an empty folder.

`fuzzed` makes two tests of a check: a short one for the default run and a long one, marked slow. Both take
the same cases every time. A check gets its case and an empty folder, and nothing that it does may outlast it.
"""

import collections
import contextlib
import faulthandler
import io
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganjax.cli import main
from tests.cli.command_line import TOY, listing

__all__ = ["TOY", "listing"]

# How many cases a check has had in this process, and how many the long test of each is to have.
CASES: collections.Counter[str] = collections.Counter()
PLANNED: dict[str, int] = {}
AT_LEAST = 10_000  # cases in all, in the long tests together
SPENT: collections.defaultdict[str, float] = collections.defaultdict(float)  # seconds

# No case needs a tenth of it; a machine that is busy with other work may be that much slower.
SECONDS = 30
MEMORY = 1 << 30  # bytes that a case may ask for, over what the process holds

_PROFILE = settings(
    database=None,
    deadline=None,  # a hang is what `_in_time` finds
    derandomize=True,
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

Check = Callable[[Any, pathlib.Path], None]


def fuzzed(
    check: Check, cases: st.SearchStrategy, *, few: int, many: int, memory: bool = False
) -> tuple[Callable[..., None], Callable[..., None]]:
    """The short and the long test of a check.

    Args:
      check: raises where a case is answered wrongly.
      cases: what it is called with.
      few: cases of the short test.
      many: cases of the long test, which is marked slow.
      memory: whether a case that asks for more than `MEMORY` fails.
    """
    name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
    PLANNED[name] = many

    def made(examples: int, suffix: str) -> Callable[..., None]:
        def test(case: Any) -> None:
            start = time.monotonic()
            limited = _in_memory() if memory else contextlib.nullcontext()
            with tempfile.TemporaryDirectory(prefix="ganjax-fuzz-") as folder, _in_time(), limited:
                check(case, pathlib.Path(folder))
            CASES[name] += 1
            SPENT[name] += time.monotonic() - start

        test.__name__ = test.__qualname__ = f"test_{check.__name__}{suffix}"
        test.__module__, test.__doc__ = check.__module__, check.__doc__
        return settings(_PROFILE, max_examples=examples)(given(case=cases)(test))

    return made(few, ""), pytest.mark.slow(made(many, "_at_length"))


class _Late(BaseException):
    """No Exception: what is tested must not catch it."""


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def ring(signum: int, frame: object) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    # Compiled code that never returns to Python hears no signal: then the process ends, with every stack.
    faulthandler.dump_traceback_later(10 * SECONDS, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    except _Late:
        raise AssertionError(f"a hang: no answer after {SECONDS} s") from None
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _in_memory() -> Iterator[None]:
    """Within it, who asks for gigabytes gets a MemoryError, where the system says what the process holds."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


# A command in this process.


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def command(words: Sequence[str], folder: pathlib.Path) -> Answer:
    """Runs a command line in a folder, as a process of its own would."""
    with (
        mock.patch.object(sys, "argv", ["ganjax", *words]),
        mock.patch("ganjax.cli.keep_freed_memory"),
        _captured() as streams,
        contextlib.chdir(folder),
    ):
        code = main(package="experiments")
    return Answer(code, *streams)


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """The process's own streams, with what compiled code writes, and as strict as a terminal's."""
    answers: list[str] = []
    before = sys.stdout, sys.stderr
    for stream in before:
        stream.flush()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        saved = os.dup(1), os.dup(2)
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.stdout, sys.stderr = _stream(1), _stream(2)
            yield answers
        finally:
            with contextlib.suppress(ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            sys.stdout, sys.stderr = before
            for number, old in zip((1, 2), saved, strict=True):
                os.dup2(old, number)
                os.close(old)
        for file in (out, err):
            file.seek(0)
            answers.append(file.read().decode("utf-8", "backslashreplace"))


def _stream(number: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(number, "wb", closefd=False), "utf-8", write_through=True)


def said_in_a_line(answer: Answer) -> bool:
    """Whether a command failed; it must have said so in one line, the last, as the only one of its kind."""
    assert answer.code in (0, 1, 2), answer
    assert "Traceback" not in answer.err, answer.err
    assert "Warning" not in answer.err, answer.err
    lines = answer.err.split("\n")
    assert lines.pop() == "", answer.err
    errors = [line for line in lines if line.startswith("ganjax: ")]
    if not answer.code:
        return False
    assert errors == lines[-1:], answer.err
    assert errors[0].isprintable(), answer.err
    assert len(errors[0]) < 2000, answer.err
    return True


def copied(run: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A copy of a run's folder, to be changed."""
    return pathlib.Path(shutil.copytree(run, folder / "run"))


# Damage to bytes.

Edit = tuple[str, float, int]

edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut", "insert", "remove", "repeat", "ones", "zeros"]),
        st.floats(0, 1, width=32),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def edited(content: bytes, changes: Sequence[Edit]) -> bytes:
    """`content` with some changes, each at a share of its length."""
    for kind, share, value in changes:
        at = min(int(share * len(content)), max(len(content) - 1, 0))
        before, after = content[:at], content[at:]
        content = {
            "flip": lambda: before + bytes([after[0] ^ (1 << value % 8)]) + after[1:] if after else content,
            "set": lambda: before + bytes([value]) + after[1:],
            "cut": lambda: before,
            "insert": lambda: before + bytes([value]) * (1 + value % 5) + after,
            "remove": lambda: before + after[1 + value % 9 :],
            "repeat": lambda: before + after[: value + 1] + after,
            "ones": lambda: before + b"\xff\xff\xff\xff" + after[4:],
            "zeros": lambda: before + bytes(4) + after[4:],
        }[kind]()
    return content


# Values that something is likely to trip over.

NASTY_NUMBERS = [
    "0", "-0", "-1", "1", "2", "3", "1e3", "1_0", "0x10", "010", "1.5", ".5", "1e-400", "1e400", "nan",
    "-nan", "inf",
    "-inf", "2147483647", "2147483648", "4294967295", "4294967296", "9223372036854775807",
    "9223372036854775808", "1" + "0" * 30, "1" * 400, "9" * 5000, "1e999999999", "1e99999999999999999999",
    "٣", "²",
    "1,2", "--1", "+1", " 1", "1 ", "sNaN", "Infinity", "0b1", "1j",
]  # fmt: skip
NASTY_TEXTS = [
    "", " ", "\n", "a\nb", "\r", "\t", "\0", "a\0b", "\x1b[31m", "\x85", "\u2028", "\udcff", "\ud800",
    "é", "日本",
    "\U0001f600", "=", "==", "-", "--", "---", "--=", "-=", "none", "None", "null", "true", "false",
    "yes", "no",
    "off", "a" * 300, "a" * 5000, "%s", "{}", "{0}", "$HOME", "`id`", "../..", ".", "..", "/proc/x",
    "/dev/null/x",
    "~", "~nobody-here", "~nobody-here/x.py", "x.py", "x.npz", "x.png", "x.gif", "x.json", "a/b", "a\\b",
    "gs://a/b",
    "s3://a", "http://a/b", "file://a", "://", "a:b", "a:1.0.0", "a/b:c", "()", "[]", "(,)", ",", ",,",
    "1-", "-1-",
    "3-1", "0-99999999", "0,0", "random", "mnist", "mnist/x", "mnist:9.9.9", "cifar10", "train", "sample",
    "list",
    "os", "os.path", "ganjax", "ganjax.nothing", "..x", "x.", "a b", "'", '"', "\\", "*", "?", "#", "--help",
]  # fmt: skip

numbers = st.one_of(
    st.sampled_from(NASTY_NUMBERS),
    st.integers(-5, 40).map(str),
    st.integers().map(str),
    st.floats().map(str),
)
# Without ways out of the folder that a case runs in.
texts = st.one_of(
    st.sampled_from(NASTY_TEXTS),
    st.text(max_size=12).filter(lambda text: not text.startswith(("/", "~")) and ".." not in text),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 20)
    | st.sampled_from(
        [2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 1e308, float("nan"), float("inf"), -1.5, 0.5]
    )
    | st.sampled_from(NASTY_TEXTS)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
