"""One process trains in a folder; a second is refused, and a dead one is not in the way."""

import errno
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from ganjax.cli import lock
from ganjax.cli.lock import NAME, locked
from ganjax.errors import RunError
from tests.cli.command_line import TOY, Run, listing, runner, train
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

ROOT = pathlib.Path(__file__).parents[2]
HOLDER = """
import sys, time
from ganjax.cli.lock import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture
def holder(tmp_path):
    """Another process that trains in tmp_path, as far as anybody can see."""
    words = [sys.executable, "-c", HOLDER, str(tmp_path), "100"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def assert_free(folder: pathlib.Path) -> None:
    with locked(folder):
        who = json.loads((folder / NAME).read_text())
        assert who == {"host": socket.gethostname(), "pid": os.getpid()}
    assert not (folder / NAME).exists()


def test_the_second_is_refused_and_told_who_is_the_first(tmp_path, holder):
    before = listing(tmp_path)
    message = (
        f"{tmp_path}: process {holder.pid} on {socket.gethostname()} is training there; wait for its end"
    )
    with pytest.raises(RunError, match="^" + re.escape(message)), locked(tmp_path):
        pass
    assert listing(tmp_path) == before
    assert json.loads(before[NAME] or b"")["pid"] == holder.pid


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_ends_with_its_process(tmp_path, holder, signum):
    holder.send_signal(signum)
    assert holder.wait() == -signum
    assert (tmp_path / NAME).exists()
    assert_free(tmp_path)


def test_it_is_given_back_at_the_end_and_after_an_error(tmp_path):
    assert_free(tmp_path)
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    assert_free(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\xff" * 3000])
def test_whatever_is_in_the_file_it_is_refused_or_taken_over(tmp_path, content):
    with locked(tmp_path):
        (tmp_path / NAME).write_text(content)
        with pytest.raises(RunError, match="another process is training there"), locked(tmp_path):
            pass
    (tmp_path / NAME).write_text(content)
    assert_free(tmp_path)


def test_of_many_at_once_one_has_it(tmp_path):
    """The file is removed and made again all the while."""
    inside, most, times = 0, 0, 0
    count = threading.Lock()

    def work() -> None:
        nonlocal inside, most, times
        mine = 0
        while mine < 50:
            try:
                with locked(tmp_path):
                    with count:
                        inside, times = inside + 1, times + 1
                        most = max(most, inside)
                    mine += 1
                    with count:
                        inside -= 1
            except RunError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert times == 200
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_removed_before_it_was_locked_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    """As by a process that has just ended: a lock on a file without a name keeps nobody out."""
    real = lock.fcntl
    assert real is not None
    calls = []

    class Removing:
        LOCK_EX, LOCK_NB = real.LOCK_EX, real.LOCK_NB

        @staticmethod
        def flock(file: int, how: int) -> None:
            calls.append(file)
            if len(calls) == 1:
                (tmp_path / NAME).unlink()
            real.flock(file, how)

    monkeypatch.setattr(lock, "fcntl", Removing)
    with locked(tmp_path):
        assert len(calls) == 2
        with pytest.raises(RunError, match="is training there"), locked(tmp_path):
            pass


def test_a_forked_child_does_not_keep_it(tmp_path):
    """As a worker that loads data does, and that outlives its parent."""
    code = f"""
import os, sys, time
from ganjax.cli.lock import locked
with locked({str(tmp_path)!r}):
    if not os.fork():
        print(os.getpid(), flush=True)
        time.sleep(100)
        os._exit(0)
    os._exit(0)  # as a process that is killed
"""
    answer = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert answer.stdout is not None
    child = int(answer.stdout.readline())
    answer.wait()
    try:
        assert_free(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        answer.stdout.close()


def test_in_a_bucket_and_without_locks_it_does_nothing(tmp_path, monkeypatch):
    with locked("gs://bucket/run"):  # which nothing is asked of
        pass

    class NoLocks:
        LOCK_EX = LOCK_NB = 0

        @staticmethod
        def flock(file: int, how: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "fcntl", NoLocks)
    with locked(tmp_path), locked(tmp_path):
        pass
    monkeypatch.setattr(lock, "fcntl", None)  # Windows
    with locked(tmp_path), locked(tmp_path):
        pass


def test_a_file_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / NAME).mkdir()
    with (
        pytest.raises(RunError, match=f"--workdir={tmp_path} can't be written: Is a directory"),
        locked(tmp_path),
    ):
        pass


# By the command line.


def test_two_processes_do_not_train_in_one_folder(run, tmp_path):
    """Refused before anything is built; the reading modes are not in its way."""
    folder = tmp_path / "run"
    train(run, folder, "--steps=2")
    assert not (folder / NAME).exists()
    with locked(folder):
        before = listing(folder)
        answer = run(f"--experiment={TOY}", f"--workdir={folder}", "--parallel=none")
        assert (answer.code, answer.out) == (1, "")
        assert answer.err == (
            f"ganjax: {folder}: process {os.getpid()} on {socket.gethostname()} is training there; "
            "wait for its end, or name another --workdir\n"
        )
        answer = run(f"--workdir={folder}", "--mode=sample", f"--out={tmp_path / 'x.npz'}")
        assert answer.code == 0, answer.err
        assert listing(folder) == before
    train(run, folder)
    assert not (folder / NAME).exists()


def test_a_new_folder_is_locked_before_anything_is_in_it(run, tmp_path):
    """Two processes that start at once: the one that comes second finds the lock and no run yet."""
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder):
        answer = run(f"--experiment={TOY}", f"--workdir={folder}", "--parallel=none", "--steps=1")
        assert answer.code == 1
        assert "is training there" in answer.err
        assert [path.name for path in folder.iterdir()] == [NAME]
    (folder / NAME).write_text("")  # left by a process that was killed before it wrote config.json
    train(run, folder, "--steps=1")


def test_the_lock_is_held_while_a_run_is_trained(run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    seen = []
    from ganjax import loop

    original = loop.train

    def spy(*args, **kwargs):
        with pytest.raises(RunError, match="is training there"), locked(folder):
            pass
        seen.append((folder / NAME).exists())
        return original(*args, **kwargs)

    monkeypatch.setattr("ganjax.cli.train.loop.train", spy)
    train(run, folder, "--steps=1")
    assert seen == [True]
    assert not (folder / NAME).exists()
