"""What every test stands on: four virtual CPU devices, strict broadcasting, no network, a home of its own.

The environment is set while this file is imported, before any test module: jax reads XLA_FLAGS when its
backend starts, and tensorflow_datasets works out its default folders as it is imported.
"""

import errno
import os
import shutil
import socket
import tempfile

import pytest

DEVICES = int(os.environ.get("GANJAX_TEST_DEVICES", 4))

# The suite is about values and layouts, which virtual CPU devices show on any machine; a JAX_PLATFORMS of
# the caller's own runs it elsewhere (with one accelerator, what needs several devices can't run).
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + f" --xla_force_host_platform_device_count={DEVICES}"
    # On a machine with much else to do, four devices on two cores wait long for each other; after 40 s, by
    # default, XLA ends the process.
    + " --xla_cpu_collective_call_terminate_timeout_seconds=600"
).strip()

_home = tempfile.mkdtemp(prefix="ganjax-tests-")
for _name, _folder in {
    "HOME": "",
    "USERPROFILE": "",
    "XDG_CACHE_HOME": ".cache",
    "GANJAX_CACHE": "cache",
    "TFDS_DATA_DIR": "tensorflow_datasets",
}.items():
    os.environ[_name] = os.path.join(_home, _folder) if _folder else _home

# For the commands that tests start: `network_is_down` reaches only this process. A closed local port
# refuses at once what most libraries would send through a proxy.
for _name in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ[_name] = os.environ[_name.upper()] = "http://127.0.0.1:9"
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = "localhost,127.0.0.1,::1"
os.environ["NO_GCE_CHECK"] = "true"  # or Google's libraries look for a metadata server

# Compiling is what the suite's time goes to, and many tests compile the same programs, some in processes of
# their own: within one run of the suite each is compiled once.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(_home, "compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax  # noqa: E402  (after the environment, on purpose)

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_unconfigure():
    shutil.rmtree(_home, ignore_errors=True)


def _is_local(host) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    return host in (None, "", "localhost", "::1", "0.0.0.0", socket.gethostname()) or host.startswith("127.")


@pytest.fixture(autouse=True)
def network_is_down(monkeypatch):
    """No test leaves the machine: other hosts are unreachable, as with the cable pulled.

    What is tested sees the OSError that it would see offline, so a test of how we behave without a network
    needs nothing more.
    """
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def unreachable(host) -> OSError:
        return OSError(errno.ENETUNREACH, f"tests have no network: {host!r}")

    def guarded_connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise unreachable(address[0])
        return connect(self, address)

    def guarded_connect_ex(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            return errno.ENETUNREACH
        return connect_ex(self, address)

    def guarded_resolve(host, *args, **kwargs):
        if not _is_local(host):
            raise socket.gaierror(socket.EAI_NONAME, f"tests have no network: {host!r}")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_resolve)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of its own for each test (`GANJAX_CACHE`)."""
    folder = tmp_path / "ganjax-cache"
    monkeypatch.setenv("GANJAX_CACHE", str(folder))
    return folder
