"""What a checkpoint must survive: every kind of leaf, damage of every kind, a full disk, a killed save."""

import json
import os
import pathlib
import resource
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganjax import checkpoint
from ganjax.checkpoint import Checkpoints, fingerprint, flatten, unflatten
from ganjax.errors import RunError
from ganjax.gan import GanState


def state_of(number: float = 0.0) -> GanState:
    """A state with every kind of leaf that a family may have."""
    params = {
        "generator": {
            "Dense_0": {"kernel": np.linspace(number, 1, 12, dtype=np.float32).reshape(3, 4)},
            "name/with/slashes": np.full((2,), number, np.float64),
            "half": np.asarray(jnp.arange(5, dtype=jnp.bfloat16) / 3),
            "float16": np.arange(3, dtype=np.float16),
        },
        "discriminator": {"nothing": np.zeros((0, 4), np.float32), "scalar": np.float32(number)},
    }
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3, mu_dtype=jnp.bfloat16))
    kernels = {"kernel": jnp.ones((3, 4)), "empty": jnp.zeros((4, 0))}
    return GanState(
        step=jnp.asarray(7, jnp.int32),
        params=params,
        stats={"generator": {}, "discriminator": {"mask": np.array([True, False, True])}},
        opt_state={"generator": jax.tree.map(np.asarray, adam.init(kernels)), "discriminator": ()},
        ema={"generator": {"kernel": np.full((2, 2), -0.0, np.float32)}},
        carry={
            "pool": np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1),
            "key": np.array([1, 2**32 - 1], np.uint32),
            "count": np.asarray(-3, np.int8),
            "tuple": (np.asarray(2**40, np.int64), [np.zeros((0,), np.int32)]),
            "large": np.array([np.finfo(np.float32).max, np.finfo(np.float32).tiny], np.float32),
        },
    )


def target(meta: dict) -> GanState:
    del meta
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), state_of())


def silent(text: str) -> None:
    raise AssertionError(f"nothing should be told: {text}")


def listing(folder: pathlib.Path) -> dict[str, bytes | None]:
    """Every path under a folder, files with their bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> pathlib.Path:
    """A run's folder with the checkpoints 2, 4 and 6, to be copied."""
    run = tmp_path_factory.mktemp("three")
    checkpoints = Checkpoints(run / "checkpoints")
    for step in (2, 4, 6):
        checkpoints.save(step, state_of(step), {"step": step, "stage": 0, "metrics": {"loss": 0.1}})
    return run


@pytest.fixture
def run(three, tmp_path) -> pathlib.Path:
    shutil.copytree(three, tmp_path / "run")
    return tmp_path / "run"


def assert_same_bits(a: GanState, b: GanState) -> None:
    a_leaves, b_leaves = jax.tree.leaves(a), jax.tree.leaves(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(a_leaves, b_leaves, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


# Leaves by path, and the fingerprint.


def test_flatten_names_leaves_by_their_path_in_order():
    tree = {"b": (np.ones(2), [np.zeros(())]), "a": {"c/d": np.ones(1)}}
    assert list(flatten(tree)) == ["a/c/d", "b/0", "b/1/0"]


def test_two_leaves_of_one_path_are_refused_rather_than_merged():
    with pytest.raises(ValueError, match="two leaves are named a/b"):
        flatten({"a/b": np.ones(1), "a": {"b": np.zeros(1)}})


def test_unflatten_undoes_flatten():
    state = state_of(3)
    assert_same_bits(unflatten(target({}), flatten(state)), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda leaves: leaves.pop("carry/count"), "^carry/count is missing$"),
        (lambda leaves: leaves.update(other=np.ones(1)), "^other is unknown$"),
        (
            lambda leaves: leaves.update({"carry/key": np.zeros((3,), np.uint32)}),
            r"^carry/key is uint32\[3\], not uint32\[2\]$",
        ),
        (
            lambda leaves: leaves.update({"carry/key": np.zeros((2,), np.int32)}),
            r"^carry/key is int32\[2\], not uint32\[2\]$",
        ),
        (lambda leaves: leaves.clear(), "is missing; .* is missing; .* is missing and [0-9]+ more$"),
    ],
)
def test_unflatten_says_what_does_not_fit(change, message):
    leaves = flatten(state_of())
    change(leaves)
    with pytest.raises(ValueError, match=message):
        unflatten(target({}), leaves)


def test_fingerprint_depends_on_every_bit_path_type_and_shape():
    base = {"a": np.zeros((2, 3), np.float32), "b": np.zeros((0,), np.float32)}
    flipped = np.zeros((2, 3), np.float32)
    flipped.view(np.uint32)[1, 2] = 1  # the lowest bit of one number
    others = [
        base | {"a": flipped},
        base | {"a": np.full((2, 3), -0.0, np.float32)},
        base | {"a": np.zeros((3, 2), np.float32)},
        base | {"a": np.zeros((6,), np.float32)},
        base | {"a": np.zeros((2, 3), np.int32)},
        base | {"b": np.zeros((0, 1), np.float32)},
        {"a": base["a"]},
        {"a": base["a"], "c": base["b"]},
        {"x": base},
    ]
    prints = [fingerprint(tree) for tree in [base, *others]]
    assert len(set(prints)) == len(prints)


def test_fingerprint_is_of_values_not_of_who_holds_them():
    tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    assert fingerprint(tree) == fingerprint({"a": jnp.asarray(tree["a"])})
    assert fingerprint(tree) == fingerprint({"a": np.asfortranarray(tree["a"])})


# A round trip.


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path):
    state, meta = state_of(0.1), {"step": 7, "stage": 1, "metrics": {"loss": 0.1 + 0.2}, "resumed_from": [3]}
    Checkpoints(tmp_path / "checkpoints").save(7, state, meta)
    found = Checkpoints(tmp_path / "checkpoints").restore(target, silent)
    assert found is not None
    assert_same_bits(found[0], state)
    assert found[1] == meta | {"fingerprint": fingerprint(state)}


def test_a_folder_without_checkpoints_restores_nothing(tmp_path):
    assert Checkpoints(tmp_path / "checkpoints").restore(target, silent) is None


def test_the_target_is_told_the_meta(run):
    seen = []
    Checkpoints(run / "checkpoints").restore(lambda meta: seen.append(meta["step"]) or target(meta), silent)
    assert seen == [6]


def test_only_the_latest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 30, 400):
        checkpoints.save(step, state_of(step), {})
    assert checkpoints.steps() == Checkpoints(tmp_path).steps() == [30, 400]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000030", "00000400"]


def test_a_checkpoint_of_another_model_is_neither_damaged_nor_touched(run):
    before = listing(run)
    with pytest.raises(RunError, match=r"step 6 .*whole but does not fit \(carry/more is missing.*changed"):
        Checkpoints(run / "checkpoints").restore(
            lambda meta: target(meta).replace(carry={"more": np.zeros(3)}), silent
        )
    assert listing(run) == before


# Damage.


def data_file(folder: pathlib.Path) -> pathlib.Path:
    """The largest file of a checkpoint, which holds arrays."""
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(folder: pathlib.Path) -> None:
    path = data_file(folder)
    os.truncate(path, path.stat().st_size // 2)


def flip(folder: pathlib.Path) -> None:
    path = data_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_meta(folder: pathlib.Path) -> None:
    os.truncate(folder / "meta" / "metadata", 20)


def swap_state(folder: pathlib.Path) -> None:
    """Arrays that are whole, but another checkpoint's."""
    shutil.rmtree(folder / "state")
    shutil.copytree(folder.with_name("00000002") / "state", folder / "state")


def change_meta(folder: pathlib.Path) -> None:
    path = folder / "meta" / "metadata"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"stage": 1}))


def exchange(folder: pathlib.Path) -> None:
    """A checkpoint that is whole, but another step's."""
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("00000002"), folder)


def empty(folder: pathlib.Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES = {
    "data truncated": truncate,
    "a bit flipped": flip,
    "data removed": lambda folder: data_file(folder).unlink(),
    "meta cut short": cut_meta,
    "meta changed": change_meta,
    "meta removed": lambda folder: shutil.rmtree(folder / "meta"),
    "another's state": swap_state,
    "another's all": exchange,
    "state removed": lambda folder: shutil.rmtree(folder / "state"),
    "an empty folder": empty,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_kept_aside_and_the_one_before_it_used(run, damage):
    damage(run / "checkpoints" / "00000006")
    damaged = listing(run / "checkpoints" / "00000006")
    told: list[str] = []
    checkpoints = Checkpoints(run / "checkpoints")
    found = checkpoints.restore(target, told.append)
    assert found is not None
    assert_same_bits(found[0], state_of(4))
    assert found[1]["step"] == 4
    assert checkpoints.steps() == [2, 4]
    assert listing(run / "damaged" / "00000006") == damaged
    assert len(told) == 1
    assert "step 6 is damaged" in told[0]
    assert str(run / "damaged" / "00000006") in told[0]
    assert "\n" not in told[0]
    checkpoints.save(6, state_of(6), {"step": 6})  # the run comes to step 6 again
    again = Checkpoints(run / "checkpoints").restore(target, silent)
    assert again is not None
    assert_same_bits(again[0], state_of(6))


def test_a_step_that_is_damaged_twice_is_kept_twice(run):
    for _ in range(2):
        truncate(run / "checkpoints" / "00000006")
        checkpoints = Checkpoints(run / "checkpoints")
        checkpoints.restore(target, lambda text: None)
        checkpoints.save(6, state_of(6), {})
    assert sorted(path.name for path in (run / "damaged").iterdir()) == ["00000006", "00000006-1"]


def test_whatever_byte_is_flipped_no_wrong_state_is_restored(run):
    """Every file of the checkpoint in turn: what is restored is right, or an earlier one."""
    found_out = 0
    files = [path for path in (run / "checkpoints" / "00000006").rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        for place in (0.1, 0.6):
            shutil.rmtree(run / "damaged", ignore_errors=True)
            content = bytearray(path.read_bytes())
            if not content:
                continue
            content[int(len(content) * place)] ^= 4
            whole = path.read_bytes()
            path.write_bytes(content)
            found = Checkpoints(run / "checkpoints", read_only=True).restore(target, lambda text: None)
            path.write_bytes(whole)
            assert found is not None
            assert_same_bits(found[0], state_of(found[1]["step"]))
            found_out += found[1]["step"] == 4
    assert found_out >= 4


def test_where_all_are_damaged_the_run_can_start_again(run):
    for folder in (run / "checkpoints").iterdir():
        cut_meta(folder)
    told: list[str] = []
    with pytest.raises(RunError, match=r"every checkpoint in .* was damaged \(steps 2, 4, 6\) and set aside"):
        Checkpoints(run / "checkpoints").restore(target, told.append)
    assert len(told) == 3
    assert Checkpoints(run / "checkpoints").restore(target, silent) is None


def test_other_things_in_the_folder_are_left_alone(run):
    (run / "checkpoints" / "notes").mkdir()
    (run / "checkpoints" / "readme.txt").write_text("mine")
    checkpoints = Checkpoints(run / "checkpoints", keep=2)
    assert checkpoints.steps() == [2, 4, 6]
    checkpoints.save(8, state_of(8), {})
    assert checkpoints.steps() == [6, 8]
    assert (run / "checkpoints" / "readme.txt").read_text() == "mine"


# Reading only.


@pytest.mark.parametrize("damaged", [(), (6,), (2, 4, 6)])
def test_read_only_changes_nothing_on_disk(run, damaged):
    for step in damaged:
        truncate(run / "checkpoints" / f"{step:08d}")
    (run / "checkpoints" / "00000008.orbax-checkpoint-tmp-3" / "state").mkdir(parents=True)
    before = listing(run)
    told: list[str] = []
    checkpoints = Checkpoints(run / "checkpoints", read_only=True)
    if len(damaged) == 3:
        with pytest.raises(RunError, match=r"was damaged \(steps 2, 4, 6\)$"):
            checkpoints.restore(target, told.append)
    else:
        found = checkpoints.restore(target, told.append)
        assert found is not None
        assert found[1]["step"] == (4 if damaged else 6)
    assert [text.endswith("; ignored") for text in told] == [True] * len(damaged)
    assert listing(run) == before
    with pytest.raises(ValueError, match="read only"):
        checkpoints.save(10, state_of(10), {})
    assert listing(run) == before


# Saves that fail.


def assert_still_whole(run: pathlib.Path) -> None:
    told: list[str] = []
    checkpoints = Checkpoints(run / "checkpoints")
    found = checkpoints.restore(target, told.append)
    assert found is not None
    assert not told
    assert_same_bits(found[0], state_of(6))
    assert checkpoints.steps() == [2, 4, 6]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "00000002",
        "00000004",
        "00000006",
    ]


def test_a_save_that_fails_says_where_and_what_is_left(run, monkeypatch):
    checkpoints = Checkpoints(run / "checkpoints")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(
        RunError, match=r"step 8 could not be written to .*No space left.*last one is of step 6"
    ):
        checkpoints.save(8, state_of(8), {})
    assert_still_whole(run)


def test_a_first_save_that_fails_says_that_there_is_none(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(checkpoints._manager, "save", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(RunError, match="there is none yet"):
        checkpoints.save(8, state_of(8), {})


def large_state() -> GanState:
    noise = np.random.default_rng(0).integers(0, 256, (1 << 20,), np.uint8)  # does not compress
    return state_of(8).replace(carry=noise)


def test_a_disk_that_takes_no_more_loses_nothing(run):
    """Files may not grow beyond 100 kB: what a full disk does, wherever in the save it strikes."""
    checkpoints = Checkpoints(run / "checkpoints")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(RunError, match=r"step 8 could not be written to .*last one is of step 6"):
            checkpoints.save(8, large_state(), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_still_whole(run)


def test_a_full_file_system_loses_nothing(three, tmp_path):
    """For real, on a file system of 1 MB; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    try:
        shutil.copytree(three, disk / "run")
        checkpoints = Checkpoints(disk / "run" / "checkpoints")
        with pytest.raises(RunError, match=r"step 8 could not be written to .*last one is of step 6"):
            checkpoints.save(8, large_state(), {})
        assert_still_whole(disk / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_a_killed_save_left_is_ignored_and_cleared(run):
    left = run / "checkpoints" / "00000008.orbax-checkpoint-tmp"
    shutil.copytree(run / "checkpoints" / "00000006", left)
    (left / "meta" / "metadata").unlink()
    assert_still_whole(run)
    assert not left.exists()


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/deeper"])
def test_a_file_in_the_folders_place_is_an_error_of_one_line(tmp_path, name):
    (tmp_path / "checkpoints").write_text("mine")
    with pytest.raises(RunError, match="can't be used for checkpoints"):
        Checkpoints(tmp_path / name)
    assert (tmp_path / "checkpoints").read_text() == "mine"


def test_messages_are_one_short_line():
    assert checkpoint._one_line(ValueError("a\n  b\nc")) == "a b c"
    assert checkpoint._one_line(ValueError()) == "ValueError"
    assert len(checkpoint._one_line(ValueError("x" * 1000))) < 210
