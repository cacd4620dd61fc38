import json
import os
import platform
import subprocess
import sys

import pytest

import ganjax.cli
import ganjax.memory
from ganjax.memory import KEEP_MEMORY

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")

# Faults of the second time that 200 MB are allocated, written and freed. Without large pages, of which there
# are too few to count.
PROGRAM = """
import json, resource, sys
import numpy as np
import ganjax, ganjax.cli
from ganjax.memory import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else None

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = np.full(25_000_000, 1.0)
    del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(json.dumps([kept, faults(), faults()]))
"""


# How many heaps there are once four threads hold memory at the same time.
HEAPS = """
import ctypes, sys, threading
from ganjax.memory import share_one_heap

if sys.argv[1] == "share":
    assert share_one_heap() is True
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
meet = threading.Barrier(4)

def hold():
    assert libc.malloc(1000)
    meet.wait()

threads = [threading.Thread(target=hold) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


def in_a_process(what: str, **environment: str) -> list:
    """Never in the test's own: nothing takes the setting back."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, what],
        env=os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@glibc
def test_memory_that_is_kept_is_not_mapped_again():
    kept, _, again = in_a_process("keep")
    assert kept is True
    # Importing alone leaves the process as it was: it maps each page anew.
    _, first, mapped_again = in_a_process("leave")
    assert mapped_again > 0.9 * first
    assert again < mapped_again / 10


@glibc
def test_the_environment_prevents_it():
    kept, first, again = in_a_process("keep", **{KEEP_MEMORY: "0"})
    assert kept is False
    assert again > 0.9 * first


@glibc
def test_threads_share_one_heap(tmp_path):
    counts = {}
    for what in ("share", "leave"):
        subprocess.run([sys.executable, "-c", HEAPS, what, str(tmp_path / what)], check=True)
        counts[what] = (tmp_path / what).read_text().count("<heap nr=")
    assert counts["share"] == 1
    assert counts["leave"] > 1


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr("ganjax.memory.sys.platform", "darwin")
    monkeypatch.setattr("ganjax.memory.ctypes.CDLL", lambda name: pytest.fail(f"{name} was opened"))
    assert ganjax.memory.keep_freed_memory() is False
    assert ganjax.memory.share_one_heap() is False


def test_only_the_command_keeps_memory_and_not_a_caller(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(ganjax.cli, "keep_freed_memory", lambda: calls.append("kept"))
    monkeypatch.setattr(ganjax.cli, "share_one_heap", lambda: calls.append("shared"))
    assert ganjax.cli.main(["no-such-command"]) == 2
    assert calls == []
    monkeypatch.setattr(sys, "argv", ["ganjax", "no-such-command"])
    assert ganjax.cli.main() == 2
    assert calls == ["kept"]
    assert "no-such-command" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["ganjax", "--mode=import", "no-such-command"])
    assert ganjax.cli.main() == 2
    assert calls == ["kept", "shared"]
