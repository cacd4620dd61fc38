"""A run that the fuzz tests work on, trained once a process, and what a case looks at of it."""

import atexit
import contextlib
import functools
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from unittest import mock

import numpy as np

from ganjax.checkpoint import Checkpoints, fingerprint
from ganjax.cli import workdir
from ganjax.gan import GanState
from ganjax.sampling import Sampler
from tests.fuzz.harness import TOY, command

STEPS = 4  # the toy's
SAVED = 3  # where the run stopped


@functools.cache
def trained() -> pathlib.Path:
    """The toy's run, stopped at step 3 of 4, with the checkpoints 1, 2 and 3."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ganjax-fuzz-run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = [f"--experiment={TOY}", "--workdir=run", "--parallel=none", "--save_steps=1", "--log_steps=1"]
    answer = command([*words, f"--steps={SAVED}"], folder)
    assert answer.code == 0, answer.err
    return folder / "run"


@functools.cache
def fingerprints() -> dict[int, str]:
    """Step -> the fingerprint that the state has then, of a run that was never damaged."""
    checkpoints = Checkpoints(trained() / "checkpoints", read_only=True)
    found = {step: checkpoints._read(step)[1]["fingerprint"] for step in checkpoints.steps()}
    assert sorted(found) == [1, 2, 3]
    with tempfile.TemporaryDirectory() as folder:
        words = [f"--experiment={TOY}", "--workdir=run", "--parallel=none"]
        answer = command(words, pathlib.Path(folder))
        assert answer.code == 0, answer.err
        found[STEPS] = json.loads((pathlib.Path(folder) / "run" / "result.json").read_text())["fingerprint"]
    return found


@contextlib.contextmanager
def without_drawing() -> Iterator[list[tuple[int, str]]]:
    """Samples are black, which compiles nothing. Gives (step, fingerprint) of what is restored."""
    restored: list[tuple[int, str]] = []
    last_state = workdir.last_state

    def watched(*args, **kwargs) -> tuple[GanState, dict]:
        state, meta = last_state(*args, **kwargs)
        restored.append((meta["step"], fingerprint(state)))
        return state, meta

    def black(self, state, seeds, labels=None, *, latents=None, conditions=None, options=None) -> np.ndarray:
        assert len(seeds) <= 200_000
        return np.full((len(seeds), 4, 4, 1), -1, np.float32)

    with mock.patch.object(workdir, "last_state", watched), mock.patch.object(Sampler, "__call__", black):
        yield restored
