"""Where compiled programs are kept, that they compute the same bits, and what goes wrong with them."""

import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from ganjax.cli import compilation_cache
from ganjax.errors import UsageError
from tests.cli.command_line import TOY, Run, runner, train

ROOT = pathlib.Path(__file__).parents[2]
CORES = f"{compilation_cache.num_cores()}-cores"
SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)


def settings() -> list:
    """jax's, as they are now."""
    return [getattr(jax.config, name) for name in SETTINGS]


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """jax as a user has it, without the cache that the suite gives it. Quick compilations are kept too."""
    monkeypatch.delenv("GANJAX_COMPILATION_CACHE", raising=False)
    before = settings()[0]
    jax.config.update("jax_compilation_cache_dir", None)
    jax_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    jax_cache.reset_cache()


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


def compiles(value: float = 3.0) -> float:
    """Compiles a program, or loads it: in a process's memory is none of it, for it is another function."""

    def program(x):
        return jnp.sin(x) * 2

    return float(jax.jit(program)(value))


def entries(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(f"{CORES}/*-cache")}


# Where.


def test_the_default_is_in_the_toolkit_s_cache(cache, monkeypatch, tmp_path):
    assert compilation_cache.folder(None) == cache / "xla"
    monkeypatch.delenv("GANJAX_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compilation_cache.folder(None) == tmp_path / ".cache/ganjax/xla"


def test_without_a_home_there_is_none(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("GANJAX_CACHE")
    monkeypatch.setattr(pathlib.Path, "home", homeless)
    assert compilation_cache.folder(None) is None


def test_a_flag_beats_the_environment(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("GANJAX_COMPILATION_CACHE", str(tmp_path / "variable"))
    assert compilation_cache.folder(None) == tmp_path / "variable"
    assert compilation_cache.folder(str(tmp_path / "flag")) == tmp_path / "flag"
    assert compilation_cache.folder("off") is None
    monkeypatch.setenv("GANJAX_COMPILATION_CACHE", "OFF")
    assert compilation_cache.folder(None) is None
    assert compilation_cache.folder(str(tmp_path / "flag")) == tmp_path / "flag"
    monkeypatch.setenv("GANJAX_COMPILATION_CACHE", "")
    assert compilation_cache.folder(None) == cache / "xla"


def test_a_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compilation_cache.folder("~/xla") == tmp_path / "xla"


@pytest.mark.parametrize("value", ["", " ", "on", "True", "0", "file"])
def test_what_is_no_folder_is_refused(monkeypatch, tmp_path, value):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("file").touch()
    with pytest.raises(UsageError, match=f"^--compilation_cache={value}: expected a folder, or off$"):
        compilation_cache.folder(value)
    if value:
        monkeypatch.setenv("GANJAX_COMPILATION_CACHE", value)
        with pytest.raises(UsageError, match=f"^GANJAX_COMPILATION_CACHE={value}: expected"):
            compilation_cache.folder(None)


# On and off.


def test_it_is_on_within_the_block_only(cache):
    before = settings()
    compiles()
    with compilation_cache.enabled(None):
        assert settings()[0] == str(cache / "xla" / CORES)
        assert not entries(cache / "xla")
        compiles()
        kept = entries(cache / "xla")
        assert kept
    assert settings() == before
    jax.jit(lambda x: jnp.cos(x) + 5)(1.0)
    assert entries(cache / "xla") == kept


def test_what_compiles_quickly_is_not_kept_unless_jax_was_told_so(cache, monkeypatch):
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    monkeypatch.setattr(compilation_cache, "MIN_COMPILE_SECONDS", 100.0)
    with compilation_cache.enabled(None):
        compiles()
    assert not entries(cache / "xla")


def test_jax_s_own_cache_is_left_alone(cache, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    before = settings()
    with compilation_cache.enabled(None):
        assert settings() == before
        compiles()
    assert list((tmp_path / "jax").iterdir())
    assert not cache.exists()


def test_a_flag_beats_jax_s_own_cache(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    before = settings()
    with compilation_cache.enabled(str(tmp_path / "flag")):
        compiles()
    assert entries(tmp_path / "flag")
    with compilation_cache.enabled("off"):
        compiles()
    assert not (tmp_path / "jax").exists()
    assert settings() == before


def test_where_jax_was_told_to_do_without_it_does(cache, tmp_path):
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        with compilation_cache.enabled(None):
            compiles()
        assert not cache.exists()
        with compilation_cache.enabled(str(tmp_path / "flag")):
            compiles()
        assert entries(tmp_path / "flag")
    finally:
        jax.config.update("jax_enable_compilation_cache", True)


# What goes wrong.


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-40] + b"?" * 40])
def test_a_damaged_entry_is_said_once_and_replaced(tmp_path, capsys, damage):
    with compilation_cache.enabled(str(tmp_path)):
        expected = compiles()
    for path in (tmp_path / CORES).iterdir():
        path.write_bytes(damage(path.read_bytes()))
    damaged = entries(tmp_path)
    with compilation_cache.enabled(str(tmp_path)):
        assert compiles() == expected
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"ganjax: a damaged program in {tmp_path / CORES} was removed")
    assert err.count("\n") == 1
    assert {name for name, content in entries(tmp_path).items() if content != damaged[name]}
    with compilation_cache.enabled(str(tmp_path)):
        assert compiles() == expected
    assert capsys.readouterr() == ("", "")


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path, capsys):
    (tmp_path / "file").touch()
    with compilation_cache.enabled(str(tmp_path / "file" / "xla")):
        compiles()
        jax.jit(lambda x: jnp.cos(x) + 6)(1.0)
    err = capsys.readouterr().err
    assert err.startswith(f"ganjax: {tmp_path / 'file' / 'xla' / CORES} can't keep compiled programs; ")
    assert err.count("\n") == 1


def test_entries_that_cannot_be_written_are_said_once(tmp_path, capsys):
    with compilation_cache.enabled(str(tmp_path / "xla")):
        compiles()
        shutil.rmtree(tmp_path / "xla")
        for shift in (7, 8):
            jax.jit(lambda x, shift=shift: jnp.cos(x) + shift)(1.0)
    err = capsys.readouterr().err
    assert err.startswith(f"ganjax: {tmp_path / 'xla' / CORES} can't keep compiled programs; ")
    assert err.count("\n") == 1


def test_other_warnings_are_shown_as_ever(tmp_path):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with compilation_cache.enabled(str(tmp_path)):
            warnings.warn("something else", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["something else"]


def test_the_least_recently_used_entries_go(tmp_path):
    folder = tmp_path / "2-cores"
    folder.mkdir()
    (tmp_path / "4-cores").mkdir()
    (tmp_path / "notes").write_bytes(b"x" * 100)
    for age, path in enumerate(
        [folder / "new-cache", tmp_path / "4-cores/middle-cache", folder / "old-cache"]
    ):
        path.write_bytes(b"x" * 100)
        os.utime(path, (1e9 - age, 1e8))
    compilation_cache.prune(tmp_path, 300)
    assert len(list(tmp_path.rglob("*-cache"))) == 3
    compilation_cache.prune(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.rglob("*-cache")) == ["middle-cache", "new-cache"]
    compilation_cache.prune(tmp_path, 0)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["notes"]
    compilation_cache.prune(tmp_path / "absent", 0)


# Runs.


def fingerprint(folder: pathlib.Path) -> str:
    return json.loads((folder / "result.json").read_text())["fingerprint"]


def test_a_run_has_the_same_bits_without_a_cache_and_with_an_empty_and_a_filled_one(
    run, cache, tmp_path, caplog
):
    train(run, tmp_path / "off", "--compilation_cache=off")
    assert not cache.exists()
    train(run, tmp_path / "cold")
    kept = entries(cache / "xla")
    steps = [name for name in kept if name.startswith("jit__one-")]
    assert steps
    with caplog.at_level(logging.DEBUG, "jax._src.compiler"):
        train(run, tmp_path / "warm")
    loaded = [record for record in caplog.records if "cache hit for 'jit__one'" in record.getMessage()]
    assert len(loaded) == len(steps)
    assert entries(cache / "xla") == kept
    assert len({fingerprint(tmp_path / name) for name in ("off", "cold", "warm")}) == 1


@pytest.mark.slow
def test_two_runs_at_once_share_an_empty_cache(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"GANJAX_COMPILATION_CACHE": str(tmp_path / "shared")}
    command = [sys.executable, str(ROOT / "run.py"), f"--experiment={TOY}", "--parallel=none"]
    runs = [
        subprocess.Popen(
            [*command, f"--workdir={tmp_path / name}"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for process in runs:
        err = process.communicate(timeout=120)[1]
        assert process.returncode == 0, err
        assert all(line.startswith("step ") for line in err.splitlines()), err  # no warnings of anybody's
    assert entries(tmp_path / "shared")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
