"""JAX's persistent compilation cache, for the time of a command: the second start compiles nothing.

JAX names an entry for the program, the versions, the compiler's options and the machine (on a CPU its
instruction sets: a home that several machines share is safe), and what it loads computes the same bits. JAX
does not count cores, for which XLA divides up the work: hence a folder for each number of them.
"""

import contextlib
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath
from jax.experimental.compilation_cache import compilation_cache

from ganjax.errors import UsageError, shortened
from ganjax.report.files import is_local, unusable

VARIABLE = "GANJAX_COMPILATION_CACHE"
MAX_BYTES = 2**30
MIN_COMPILE_SECONDS = 0.1  # what compiles faster is hardly worth a file; jax's own default is a second

_WARNING = "Error (reading|writing) persistent compilation cache entry for "
_ERROR = re.compile(_WARNING + "'(.*?)': (.*)", re.DOTALL)
_NEITHER = ("on", "yes", "no", "true", "false", "none", "0", "1")  # meant as a switch, not as a folder


def num_cores() -> int:
    """How many cores this process may use: what XLA divides its work by."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def folder(flag: str | None) -> epath.Path | None:
    """Where compiled programs are kept, or None where they are not.

    Args:
      flag: a folder or "off"; None: the environment's `GANJAX_COMPILATION_CACHE`, or by default `xla` in
        `$GANJAX_CACHE` or `~/.cache/ganjax`.
    Raises:
      UsageError: it is neither a folder's name nor "off".
    """
    name, value = "--compilation_cache", flag
    if flag is None:
        name, value = VARIABLE, os.environ.get(VARIABLE) or None
    if value is None:
        try:
            return epath.Path(os.environ.get("GANJAX_CACHE") or pathlib.Path.home() / ".cache/ganjax") / "xla"
        except RuntimeError:  # a user without a home
            return None
    if value.lower() == "off":
        return None
    if reason := unusable(value):
        raise UsageError(f"{name}={shortened(value, 200)}: {reason}; expected a folder, or off")
    path = epath.Path(os.path.expanduser(value))
    if not value.strip() or value.lower() in _NEITHER or (path.exists() and not path.is_dir()):
        raise UsageError(f"{name}={value}: expected a folder, or off")
    return path


@contextlib.contextmanager
def enabled(flag: str | None) -> Iterator[None]:
    """Turns the cache on, or off, within the block, and leaves jax's configuration as it was.

    A cache that the user gave jax itself (`JAX_COMPILATION_CACHE_DIR`), or took from it
    (`JAX_ENABLE_COMPILATION_CACHE`), is left as it is unless one is named for ganjax.

    Args:
      flag: as for `folder`.
    Raises:
      UsageError: as `folder`.
    """
    root = folder(flag)
    named = flag is not None or os.environ.get(VARIABLE)
    if not named and (_setting("jax_compilation_cache_dir") or not _setting("jax_enable_compilation_cache")):
        yield
        return
    values: dict[str, Any] = {"jax_enable_compilation_cache": root is not None}
    where = None
    if root is not None:
        where = root / f"{num_cores()}-cores"
        values["jax_compilation_cache_dir"] = os.fspath(where)
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            values["jax_persistent_cache_min_compile_time_secs"] = MIN_COMPILE_SECONDS
    before = {name: _setting(name) for name in values}
    try:
        _configure(values)
        with contextlib.nullcontext() if where is None else _errors_in_a_line(where):
            yield
    finally:
        _configure(before)
        if root is not None and is_local(root):
            prune(root, MAX_BYTES)


def _setting(name: str) -> Any:
    return getattr(jax.config, name)


def _configure(values: dict[str, Any]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # jax looks at the folder's name only once


@contextlib.contextmanager
def _errors_in_a_line(where: epath.Path) -> Iterator[None]:
    """Of jax's warnings about the cache, whatever they say and however many, one line. The run goes on.

    A damaged entry is what a process leaves that was killed while it wrote. jax compiles the program again
    but would keep the entry, so that every later start compiled it too: it is removed.
    """
    said = False
    show = warnings.showwarning

    def handle(message, category, filename, lineno, file=None, line=None):
        nonlocal said
        error = _ERROR.fullmatch(str(message))
        if error is None:
            show(message, category, filename, lineno, file, line)
            return
        action, program, reason = error.groups()
        text = f"{where} can't keep compiled programs; --compilation_cache=DIR|off names another, or none"
        if action == "reading" and where.is_dir():
            if reason.startswith("FileNotFoundError"):  # another process removed it meanwhile
                return
            with contextlib.suppress(OSError):
                # jax does not say which of this program's; what is removed needlessly is compiled once more.
                for path in where.glob(f"{program}-*-cache"):
                    path.unlink()
                text = f"a damaged program in {where} was removed, and is compiled again"
        if not said:
            print(f"ganjax: {text} ({' '.join(reason.split())})", file=sys.stderr, flush=True)
        said = True

    with warnings.catch_warnings():
        warnings.filterwarnings("always", _WARNING)
        warnings.showwarning = handle
        yield


def prune(root: os.PathLike, max_bytes: int) -> None:
    """Removes the least recently used entries until those in the folder hold at most `max_bytes`.

    jax's own limit needs the package filelock and a file system with locks, stamps entries that may not be
    writable, and gives up for good after a process was killed between an entry and its stamp. Here a file's
    times say when it was used, as well as the file system keeps them; where another process is about to
    read what is removed, it compiles.
    """
    entries = []
    for path in pathlib.Path(root).glob("*-cores/*-cache"):
        with contextlib.suppress(OSError):
            status = path.stat()
            entries.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= max_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
