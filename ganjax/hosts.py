"""Several processes that train one run together, each on devices of its own (`jax.distributed`).

All of them run the same program in step. Process 0 alone reads and writes the run's folder; what it finds
there is shared with the others. Every process knows of every other's end: it would wait for it for ever in
the next sum over devices.

Used alone, without `connected`, everything here is what a single process expects: it is process 0 of 1.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO, TypeVar

import jax
import numpy as np

from ganjax.errors import RunError, UsageError, shortened

Tree = Any
T = TypeVar("T")

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 20.0  # without a beat: the process is gone
START_SECONDS = 300  # to wait for the others at the start
_CHUNK = 2**26  # bytes that are shared at a time
_ALIVE, _DONE = "alive", "done"


def is_first() -> bool:
    """Whether this is process 0, which reads and writes the run's files."""
    return jax.process_index() == 0


def shared(value: Any) -> Any:
    """Process 0's value, which JSON can hold, on every process; the others' own are ignored."""
    if jax.process_count() == 1:
        return value
    return json.loads(_shared_bytes(json.dumps(value).encode() if is_first() else b""))


def shared_arrays(tree: Tree) -> Tree:
    """Process 0's numpy arrays on every process, bit for bit; the others give a tree of the same form."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    leaves = [np.asarray(leaf) for leaf in leaves]
    content = b"".join(leaf.tobytes() for leaf in leaves) if is_first() else b""
    content, taken, received = _shared_bytes(content), 0, []
    for leaf in leaves:
        part = np.frombuffer(content, np.uint8, leaf.nbytes, taken)
        received.append(part.view(leaf.dtype).reshape(leaf.shape).copy())
        taken += leaf.nbytes
    return jax.tree.unflatten(structure, received)


def by_first(function: Callable[[], T]) -> T | None:
    """What `function` gives on process 0; None on the others, which wait for it and fail where it fails.

    Raises:
      UsageError, RunError: what `function` raised, on every process.
    """
    if jax.process_count() == 1:
        return function()
    value, failure = None, None
    if is_first():
        try:
            value = function()
        except (UsageError, RunError) as error:
            failure = error
    outcome = shared(failure and {"usage": isinstance(failure, UsageError), "message": str(failure)})
    if failure is not None:
        raise failure
    if outcome is not None:
        raise (UsageError if outcome["usage"] else RunError)(f"process 0: {outcome['message']}")
    return value


def check_alike(description: dict[str, Any]) -> None:
    """Raises UsageError on every process unless all of them give the same description, a JSON object."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    parts = {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:8]
        for name, value in sorted(description.items())
    }
    mine = np.frombuffer(b"".join(parts.values()), np.int32)
    everyones = np.asarray(multihost_utils.process_allgather(mine)).reshape(jax.process_count(), -1, 2)
    for name, column in zip(parts, everyones.swapaxes(0, 1), strict=True):
        others = [i for i, value in enumerate(column) if (value != column[0]).any()]
        if others:
            raise UsageError(
                f"process {others[0]} was started with another {name} than process 0; "
                "give all processes the same command, but for --process_id"
            )


def together() -> None:
    """Waits until every process is here, however long that takes."""
    shared(None)


def _shared_bytes(content: bytes) -> bytes:
    from jax.experimental import multihost_utils

    def broadcast(words: np.ndarray) -> np.ndarray:
        return np.asarray(multihost_utils.broadcast_one_to_all(words))

    low, high = (int(x) for x in broadcast(np.array(divmod(len(content), 2**30)[::-1], np.int32)))
    length = high * 2**30 + low
    received = []
    for start in range(0, length, _CHUNK):
        size = min(_CHUNK, length - start)
        words = np.zeros(-(-size // 4), np.int32)  # whole numbers, for which a sum with zeros is exact
        if is_first():
            words.view(np.uint8)[:size] = np.frombuffer(content, np.uint8, size, start)
        received.append(broadcast(words).tobytes()[:size])
    return b"".join(received)


def detected() -> bool:
    """Whether the surroundings say that several processes belong together: Slurm, or a TPU pod."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS") or "1"
    if "SLURM_PROCID" in os.environ and "SLURM_STEP_NODELIST" in os.environ and int(tasks) > 1:
        return True
    return len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1


def _on_a_tpu_vm() -> bool:
    """Which may have neighbours: jax asks its metadata server, and is content with none."""
    on_tpu = importlib.util.find_spec("libtpu") is not None and (
        os.path.exists("/dev/accel0") or os.path.exists("/dev/vfio/0")
    )
    return on_tpu and os.environ.get("JAX_PLATFORMS", "tpu").startswith("tpu")


@contextlib.contextmanager
def connected(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    fail: Callable[[str], Any],
) -> Iterator[None]:
    """Joins the processes that train together, and parts from them at the end.

    Does nothing where no argument is given and the surroundings name no other process, or where
    `num_processes` is 1. Has to come before anything that starts a JAX backend.

    Args:
      coordinator_address: of process 0, HOST:PORT, any free port of it.
      num_processes: of all of them.
      process_id: this one's, from 0.
      fail: is told, on a thread of its own, that another process has gone; must end this one.
    Raises:
      UsageError: some of the arguments are missing, or don't fit together.
      RunError: the others were not there in time.
    """
    given = {
        "coordinator_address": coordinator_address,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    alone = len(missing) == 3 and not detected() and not _on_a_tpu_vm()
    if alone or (missing == ["coordinator_address", "process_id"] and num_processes == 1):
        yield
        return
    if missing and len(missing) < 3:
        raise UsageError(
            f"--{missing[0]} is missing: give all of --coordinator_address, --num_processes and --process_id"
        )
    if not missing:
        assert coordinator_address is not None
        assert num_processes is not None
        assert process_id is not None
        _check_address(coordinator_address)
        if process_id >= num_processes:
            raise UsageError(
                f"--process_id={process_id}: expected 0 to {num_processes - 1}, "
                f"for --num_processes={num_processes}"
            )
        if num_processes == 1:
            yield
            return
    try:
        _initialize(given if not missing else {})
    except RunError as error:
        if not missing or detected():
            raise
        print(f"ganjax: training on this host alone ({error})", file=sys.stderr)
    if jax.process_count() == 1:
        yield
        return
    host = (coordinator_address or "").rpartition(":")[0]
    watch = Watch(host, fail)
    try:
        yield
    except BaseException as error:
        watch.leave(f"failed: {' '.join(str(error).split())}"[:500])
        raise
    together()
    watch.leave(_DONE)
    jax.distributed.shutdown()


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
        raise UsageError(f"--coordinator_address={shortened(address)}: expected HOST:PORT")


def _initialize(given: dict[str, Any]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        jax.distributed.initialize(
            **given,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=40,  # in case the watch is of no use; its own silence is shorter
            shutdown_timeout_seconds=15,
        )
        if handler is not None:  # jax puts one of its own in its place, which only takes note
            signal.signal(signal.SIGTERM, handler)
    except (RuntimeError, ValueError) as error:
        where = given.get("coordinator_address")
        raise RunError(
            f"the processes did not find each other within {START_SECONDS} s"
            + (f" at --coordinator_address={where}" if where else "")
            + f" ({' '.join(str(error).split())[:200]}); start all of them within that time"
        ) from error


class Watch:
    """Connections of every process to process 0, over which all say that they live.

    jax's own heartbeat is slower, and ends a process with a dump.

    Args:
      host: a name by which the others may reach process 0, or "".
      fail: is told why this process should end.
    """

    def __init__(self, host: str, fail: Callable[[str], Any]):
        self._fail = fail
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._sockets: dict[int, socket.socket] = {}  # by process
        if is_first():
            self._server = socket.create_server(("", 0), family=socket.AF_INET, backlog=1024)
            token = secrets.token_hex(8)
            offer = {"hosts": _names(host), "port": self._server.getsockname()[1], "token": token}
            shared(offer)
            self._start(self._accept, token)
        else:
            offer = shared(None)
            connection = _connect(offer["hosts"], offer["port"])
            if connection is not None:
                connection.sendall(f"{offer['token']} {jax.process_index()}\n".encode())
                self._add(0, connection, connection.makefile("r", errors="replace"))
        self._start(self._beat)

    def leave(self, why: str) -> None:
        """Says goodbye: "done", or what went wrong, which ends the others."""
        self._left.set()
        self._tell(why)
        if is_first():
            self._server.close()

    def _start(self, function: Callable, *arguments: Any) -> None:
        threading.Thread(target=function, args=arguments, daemon=True).start()

    def _accept(self, token: str) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
                connection.settimeout(SILENCE_SECONDS)
                lines = connection.makefile("r", errors="replace")
                word, _, name = lines.readline(100).partition(" ")
                if secrets.compare_digest(word.encode(), token.encode()):
                    self._add(int(name), connection, lines)
                else:
                    lines.close()
                    connection.close()
            except (OSError, ValueError):
                if self._left.is_set():
                    return

    def _add(self, process: int, connection: socket.socket, lines: TextIO) -> None:
        connection.settimeout(SILENCE_SECONDS)
        with self._lock:
            self._sockets[process] = connection
        self._start(self._listen, process, connection, lines)

    def _beat(self) -> None:
        while not self._left.wait(BEAT_SECONDS):
            self._tell(_ALIVE)

    def _tell(self, line: str) -> None:
        with self._lock:
            for connection in self._sockets.values():
                with contextlib.suppress(OSError):  # who listens to it notices
                    connection.sendall(line.encode() + b"\n")

    def _listen(self, process: int, connection: socket.socket, lines: TextIO) -> None:
        why = _last_word(lines)
        with self._lock:
            del self._sockets[process]
        lines.close()
        connection.close()
        if why == _DONE or self._left.is_set():
            return
        # Process 0 passes on what it heard from another, who is named in it then.
        why = (
            why
            if why.startswith("process ")
            else f"process {process} of {jax.process_count()} is gone ({why})"
        )
        if is_first():
            self._tell(why)
        self._fail(f"{why}; start all of them again with the same command to go on from the last checkpoint")


def _last_word(lines: TextIO) -> str:
    """The first line that is no beat, or why there will be none."""
    try:
        for line in lines:
            if line.strip() != _ALIVE:
                return line.strip()
    except TimeoutError:
        return f"no word from it for {SILENCE_SECONDS:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    return "its connection was closed"


def _names(host: str) -> list[str]:
    names = [host] if host else []
    for find in (socket.getfqdn, lambda: socket.gethostbyname(socket.gethostname())):
        with contextlib.suppress(OSError):
            names.append(find())
    return list(dict.fromkeys(names))


def _connect(hosts: list[str], port: int) -> socket.socket | None:
    for host in hosts:
        try:
            return socket.create_connection((host, port), timeout=5)
        except OSError:
            continue
    print(
        f"ganjax: process 0 can't be reached on port {port} of {', '.join(hosts)}; "
        "that a process is gone will be noticed later",
        file=sys.stderr,
    )
    return None
