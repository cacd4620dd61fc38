"""What the tests of the command line share."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from ganjax.cli import main

TOY = str(pathlib.Path(__file__).with_name("toy.py"))


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Answer]


class Silent:
    """In the place of capsys, where there is none."""

    @staticmethod
    def readouterr() -> tuple[str, str]:
        return "", ""


def runner(capsys) -> Run:
    """(flags...) -> Answer, in this process, of one device."""

    def run(*argv: str) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in argv], package="experiments")
        return Answer(code, *capsys.readouterr())

    return run


def train(run: Run, workdir: pathlib.Path, *flags: str, experiment: str = TOY) -> Answer:
    """Trains the toy, or another; the answer must be good."""
    answer = run(f"--experiment={experiment}", f"--workdir={workdir}", "--parallel=none", *flags)
    assert answer.code == 0, answer.err
    return answer


def trained_in(experiment: str, folder: pathlib.Path, *flags: str) -> pathlib.Path:
    """The folder of a run that was trained there, for fixtures that have no `capsys`."""
    train(runner(Silent), folder, *flags, experiment=experiment)
    return folder


def listing(folder: pathlib.Path) -> dict[str, bytes | None]:
    """Every path under a folder, files with their bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
