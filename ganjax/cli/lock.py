"""One process at a time trains in a folder."""

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator

from etils import epath

from ganjax.errors import RunError
from ganjax.report.files import is_local

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = "train.lock"  # in the run's folder, while a process trains there

_held: set[int] = set()  # file descriptors


@contextlib.contextmanager
def locked(folder: epath.PathLike) -> Iterator[None]:
    """Keeps every other process that asks for the same out of `folder`, which exists, while it lasts.

    The lock is the operating system's (`flock`) on the file `train.lock`, so it ends with its process, also
    with one that is killed; the file says whose it is and is removed at the end. One that a killed process
    left is taken over.

    Nothing is locked, and two processes are not kept apart, where there are no such locks: in a bucket
    (`gs://`), on Windows, and on a file system without them. On NFS the lock holds between hosts where
    the server's locks do.

    Raises:
      RunError: another process is at work there, or the file can't be made.
    """
    if fcntl is None or not is_local(folder):
        yield
        return
    path = epath.Path(folder) / NAME
    file = _open_locked(path)
    if file is None:
        yield
        return
    _held.add(file)
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(file, 0)
            os.write(file, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # while it is locked: whoever waits for it finds another file
        _held.discard(file)
        os.close(file)


def _open_locked(path: epath.Path) -> int | None:
    """The file's descriptor, locked; None where the file system has no locks."""
    assert fcntl is not None
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(f"--workdir={path.parent} can't be written: {error.strerror or error}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                return file
            os.close(file)  # the one before has just removed it: there is a new one, or none
        except OSError as error:
            holder = _holder(file)
            os.close(file)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise RunError(
                    f"{path.parent}: {holder} is training there; wait for its end, or name another --workdir"
                ) from error
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                return None
            raise RunError(f"{path} can't be locked: {error.strerror or error}") from error


def _is_at(file: int, path: epath.Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(file)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _holder(file: int) -> str:
    """Who has locked the file, in words."""
    try:
        who = json.loads(os.pread(file, 1000, 0))
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has not written it yet
        return "another process"


def _let_go() -> None:
    """A forked child would keep its parent's locks beyond the parent's death."""
    for file in _held:
        with contextlib.suppress(OSError):
            os.close(file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
