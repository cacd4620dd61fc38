"""Where a run's figures go: metrics.jsonl and TensorBoard's event files."""

import importlib
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
from etils import epath

from ganjax.errors import RunError
from ganjax.report.files import is_local, write_atomically, writing
from ganjax.report.images import encode_png

BUCKET_SECONDS = 10.0  # a bucket's objects can't be appended to: how often the whole log is written there


def jsonable(value: Any) -> Any:
    """`value` as JSON can hold it: numbers out of arrays, tuples as lists, NaN and infinities as
    "nan", "inf" and "-inf" (JSON has no such numbers, and parsers refuse Python's).

    Raises:
      TypeError: there is something else in it.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and jax, scalars and arrays
        return jsonable(value.tolist())
    raise TypeError(f"{value!r} of type {type(value).__name__} can't be written as JSON")


def read_jsonl(path: epath.PathLike) -> list[dict[str, Any]]:
    """The records of a file that `JsonlLog` writes, "nan" and "inf" as floats again. Half a line is none."""
    floats = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
    return [
        {key: floats.get(value, value) if isinstance(value, str) else value for key, value in record.items()}
        for _, record in _records(epath.Path(path).read_bytes())
    ]


def _records(data: bytes) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines that hold a whole record, with it. A writer that was killed leaves half a line."""
    records = []
    for line in data.split(b"\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # RecursionError: brackets in brackets
            continue
        if isinstance(record, dict):
            records.append((line, record))
    return records


def _cut(path: epath.Path, resume_step: int | None) -> bytes:
    """Rewrites the file without half lines and steps after `resume_step`; returns what it holds then."""
    with writing(path):  # what can't be read can't be gone on with either
        before = path.read_bytes() if path.exists() else None
    kept = b"".join(
        line + b"\n"
        for line, record in _records(before or b"")
        if resume_step is None or not _later(record.get("step"), resume_step)
    )
    if kept != before:
        write_atomically(path, kept)
    return kept


def _later(step: Any, resume_step: int) -> bool:
    return isinstance(step, (int, float)) and step > resume_step


class JsonlLog:
    """Appends one JSON object a line, which another process can follow: every line is flushed.

    In a bucket the whole file is written anew, every ten seconds at most, and by `flush` and `close`.
    """

    def __init__(self, path: epath.PathLike):
        """Goes on after what `path` holds, if it exists; a half-written last line is cut off.

        Args:
          path: the file, local or a bucket's; its folder is made.

        Raises:
          RunError: the file can't be written.
        """
        self._path = epath.Path(path)
        kept = _cut(self._path, None)
        self._file: IO[bytes] | None
        if is_local(self._path):
            with writing(self._path):
                self._file = open(os.fspath(self._path), "ab")  # noqa: SIM115 (`close` closes it)
        else:
            self._file = io.BytesIO()
            self._file.write(kept)
        self._written = time.monotonic()

    @classmethod
    def open(cls, path: epath.PathLike, resume_step: int) -> "JsonlLog":
        """The log of a run that goes on from `resume_step`: what was logged of later steps is cut off.

        Args:
          path: as for the constructor.
          resume_step: lines whose `step` is greater go; lines without a `step` stay.

        Raises:
          RunError: the file can't be written.
        """
        _cut(epath.Path(path), resume_step)
        return cls(path)

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends a line.

        Args:
          record: numbers, strings, None, scalars of numpy or jax, and lists and dicts of these.

        Raises:
          RunError: the file can't be written (a full disk).
          TypeError: a value that JSON can't hold.
          ValueError: the log is closed.
        """
        if self._file is None:
            raise ValueError(f"{os.fspath(self._path)}: the log is closed")
        line = json.dumps(jsonable(record), allow_nan=False, ensure_ascii=False) + "\n"
        with writing(self._path):
            self._file.write(line.encode())
            self._file.flush()
        if time.monotonic() - self._written >= BUCKET_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what a bucket does not have yet. A local file has everything already."""
        if isinstance(self._file, io.BytesIO):
            write_atomically(self._path, self._file.getvalue())
        self._written = time.monotonic()

    def close(self) -> None:
        """Writes what is left. Closing twice is no error."""
        if self._file is not None:
            self.flush()
            with writing(self._path):  # which writes what a full disk did not take
                self._file.close()
            self._file = None

    def __enter__(self) -> "JsonlLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _protocol(name: str) -> Any:
    """tensorboardX's messages of a kind, whose classes exist only at run time."""
    return importlib.import_module(f"tensorboardX.proto.{name}_pb2")


def _writer_class() -> Any:
    """tensorboardX's writer beneath its SummaryWriter.

    Where torch is installed, tensorboardX imports it, seconds long and for nothing but its annotations. So
    torch is out of sight meanwhile, unless it has been imported already.
    """
    modules: dict[str, Any] = sys.modules
    hidden = "torch" not in modules
    if hidden:
        modules["torch"] = None
    try:
        return importlib.import_module("tensorboardX.event_file_writer").EventsWriter
    finally:
        if hidden:
            del modules["torch"]


class TensorBoardLog:
    """Writes event files that TensorBoard shows.

    It uses the writer beneath tensorboardX's SummaryWriter, which queues events for a thread and can't say
    when they have reached the file; here `flush` does.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        resume_step: int | None = None,
        *,
        flush_seconds: float = 10.0,
        clock: Callable[[], float] = time.time,
    ):
        """Starts a new event file.

        Args:
          directory: where event files lie, local or a bucket's; it is made.
          resume_step: the run goes on from here: TensorBoard drops points of later steps in older files.
          flush_seconds: how long a point may wait to be written.
          clock: gives each point's time, in seconds.

        Raises:
          RunError: the file can't be written.
        """
        self._directory = epath.Path(directory)
        self._flush_seconds = flush_seconds
        self._clock = clock
        with writing(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            # The library names files by the second: a run resumed within one would overwrite its own file.
            self._writer: Any = _writer_class()(os.fspath(self._directory / "events"), f".{time.time_ns()}")
        if resume_step is not None:
            event = _protocol("event")
            start = event.SessionLog(status=event.SessionLog.START)
            self._write(event.Event(step=resume_step + 1, wall_time=clock(), session_log=start))
        try:
            self.flush()
        except RunError:
            self._let_go()
            raise

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """One point on each of the curves named.

        Args:
          step: where.
          values: name -> number; NaN and infinities may be.

        Raises:
          RunError: the file can't be written.
        """
        Summary = _protocol("summary").Summary
        points = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._add(step, Summary(value=points))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """An image, losslessly.

        Args:
          step: when.
          name: of the series.
          image: uint8 [H, W, C], C of 1, 3 or 4.

        Raises:
          ValueError: another type or shape.
          RunError: the file can't be written.
        """
        Summary = _protocol("summary").Summary
        image = np.asarray(image)
        encoded = encode_png(image)
        height, width, channels = image.shape
        picture = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=encoded)
        self._add(step, Summary(value=[Summary.Value(tag=name, image=picture)]))

    def _add(self, step: int, summary: Any) -> None:
        event = _protocol("event").Event(step=int(step), wall_time=self._clock(), summary=summary)
        self._write(event)
        if time.monotonic() - self._flushed >= self._flush_seconds:
            self.flush()

    def _write(self, event: Any) -> None:
        if self._writer is None:
            raise ValueError(f"{os.fspath(self._directory)}: the log is closed")
        with writing(self._directory):
            self._writer.write_event(event)

    def flush(self) -> None:
        """Puts everything so far onto the disk."""
        if self._writer is not None:
            with writing(self._directory):
                self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes what is left. Closing twice is no error."""
        if self._writer is not None:
            try:
                self.flush()
                self._writer.close()
            finally:
                self._let_go()

    def _let_go(self) -> None:
        """Closes the file without what it has not written: or Python would try that, and print what fails."""
        file = getattr(getattr(self._writer, "_py_recordio_writer", None), "_writer", None)
        if isinstance(file, io.BufferedWriter):
            file.raw.close()
        self._writer = None

    def __enter__(self) -> "TensorBoardLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
