"""Writing files so that whoever reads them never meets half of one."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator

from etils import epath

from ganjax.errors import RunError, one_line


def is_local(path: epath.PathLike) -> bool:
    """Whether `path` lies in the machine's own file system, and not in a bucket."""
    return "://" not in os.fspath(epath.Path(path))


def unusable(path: str) -> str | None:
    """Why a file or a folder can't be called or reached so; None where it can, whether it exists or not."""
    try:
        if b"\0" in os.fsencode(path):
            return "there is a zero byte in it"
        if "://" in path:  # a bucket's client may not be installed, the bucket not within reach
            epath.Path(path).exists()
        else:
            os.stat(os.path.expanduser(path))
    except UnicodeEncodeError:
        return "it can't be written as a file's name"
    except OSError as error:
        return error.strerror if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else None
    except KeyError:  # of etils, for a scheme that it doesn't know
        return f"{path.partition('://')[0]}:// is not known here"
    except Exception as error:
        return one_line(error)
    return None


@contextlib.contextmanager
def writing(path: epath.PathLike) -> Iterator[None]:
    """Within it, an `OSError` (no space, no permission) becomes a `RunError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise RunError(f"can't write {os.fspath(epath.Path(path))}: {error.strerror or error}") from error


def write_atomically(path: epath.PathLike, data: bytes) -> None:
    """Writes `data` to `path`, making its folder: readers see the old file or the whole new one.

    The bytes go to a file of another name beside it, which is then renamed.

    Args:
      path: a local path or a bucket's.
      data: the whole file.

    Raises:
      RunError: the file can't be written (no space, no permission, a file where a folder should be).
    """
    path = epath.Path(path)
    part = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.part"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        except BaseException:  # Ctrl-C too must leave no stray file
            part.unlink(missing_ok=True)
            raise
