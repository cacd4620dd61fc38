"""What a checkpoint must survive: every kind of leaf, damage of every kind, a full disk, a killed save."""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganjax import checkpoint, errors
from ganjax.checkpoint import Best, Checkpoints, fingerprint, flatten, unflatten
from ganjax.errors import RunError
from ganjax.gan import GanState
from tests.disks import small_disk


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


@pytest.mark.parametrize("lean", [False, True])
def test_large_zeros_take_no_place(tmp_path, lean):
    """But -0.0 is no zero, and what has one entry that is none is kept whole."""
    zero, negative = np.zeros((600, 500), np.float32), np.full((600, 500), -0.0, np.float32)
    last = zero.copy()
    last[-1, -1] = 1
    leaves = {"zero": zero, "view": np.broadcast_to(np.float32(0), (600, 500)), "negative": negative}
    leaves |= {"last": last, "ones": np.broadcast_to(np.float32(1), (600, 500))}
    state = state_of().replace(carry=leaves)
    with Checkpoints(tmp_path, lean=lean) as checkpoints:
        checkpoints.save(1, state, {"step": 1})
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        found = checkpoints.latest(silent)
    assert found is not None
    assert fingerprint(found[1]) == fingerprint(flatten(state)) == found[2]["fingerprint"]
    assert np.signbit(found[1]["carry/negative"]).all()
    if lean:  # a folder for each array
        stored = {path.name for path in (tmp_path / "00000001" / "state" / "carry").iterdir()}
        assert stored == {"negative", "last", "ones"}


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


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(place: float):
    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[int(len(content) * place)] ^= 4
        return bytes(changed)

    return change


ALTERATIONS = {
    "removed": None,
    "cut short": cut,
    "a bit flipped early": flipped(0.1),
    "a bit flipped late": flipped(0.6),
    "zeroed": lambda content: bytes(len(content)),
}
MORE_ALTERATIONS = {
    "emptied": lambda content: b"",
    "the last bit flipped": flipped(0.9999),
    "lengthened": lambda content: content + b"}",
    **{
        f"a bit flipped at {place}": flipped(place)
        for place in (0.0, 0.05, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9)
    },
}


@pytest.mark.parametrize(
    "alteration",
    [
        *(pytest.param(change, id=name) for name, change in ALTERATIONS.items()),
        *(pytest.param(change, id=name, marks=pytest.mark.slow) for name, change in MORE_ALTERATIONS.items()),
    ],
)
def test_whatever_is_done_to_a_file_no_wrong_state_is_restored(run, alteration):
    """Every file of the checkpoint in turn: what is restored is exact, or the one before it, and is told."""
    files = [path for path in (run / "checkpoints" / "00000006").rglob("*") if path.is_file()]
    assert len(files) >= 5
    found_out = set()
    for path in files:
        content = path.read_bytes()
        if alteration is None:
            path.unlink()
        elif content:
            path.write_bytes(alteration(content))
        told: list[str] = []
        found = Checkpoints(run / "checkpoints", read_only=True).restore(target, told.append)
        path.write_bytes(content)
        assert found is not None
        state, meta = found
        assert meta["step"] == (4 if told else 6), path
        assert_same_bits(state, state_of(meta["step"]))
        assert [text[:31] for text in told] == ["the checkpoint of step 6 is dam"] * len(told)
        assert "\n" not in "".join(told)
        if told:
            found_out.add(str(path.relative_to(run / "checkpoints" / "00000006")))
    # What holds the numbers and what describes them can't be spared.
    assert "meta/metadata" in found_out
    assert any(name.startswith("state/") for name in found_out)


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


# Saving in the background.


@pytest.fixture
def gate(monkeypatch) -> threading.Event:
    """Until it is set, saves wait before they write anything."""
    opened = threading.Event()
    write = Checkpoints._write

    def waiting(self, *args):
        assert opened.wait(60)
        return write(self, *args)

    monkeypatch.setattr(Checkpoints, "_write", waiting)
    return opened


def test_in_the_background_it_saves_what_was_given_while_the_caller_goes_on(tmp_path, gate):
    meta = {"step": 8, "metrics": {"loss": 0.5}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(8, state_of(8), meta, background=True)
        meta["metrics"]["loss"] = 0.25  # training goes on
        assert checkpoints.saving
        assert not list(tmp_path.iterdir())
        checkpoints.check()
        gate.set()
        assert checkpoints.steps() == [8]  # which waits
        assert not checkpoints.saving
        found = checkpoints.restore(target, silent)
    assert found is not None
    assert_same_bits(found[0], state_of(8))
    assert found[1]["metrics"] == {"loss": 0.5}


@pytest.mark.parametrize("wait", [Checkpoints.wait, Checkpoints.close, Checkpoints.steps, Checkpoints.settle])
def test_who_waits_finds_the_checkpoint(tmp_path, wait):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(8, state_of(8), {"step": 8}, background=True)
    wait(checkpoints)
    assert [path.name for path in tmp_path.iterdir()] == ["00000008"]


def test_saves_in_the_background_come_one_after_the_other(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(1, 6):
        checkpoints.save(step, state_of(step), {"step": step}, background=True)
    assert checkpoints.steps() == [4, 5]
    for step in (4, 5):
        assert_same_bits(checkpoints.restore_step(target, step)[0], state_of(step))


def test_closed_it_takes_no_more(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.close()
    checkpoints.close()
    with pytest.raises(ValueError, match="are closed"):
        checkpoints.save(8, state_of(8), {})


def finished(checkpoints: Checkpoints) -> None:
    while checkpoints.saving:
        pass
    checkpoints.check()


NEXT = {
    "check": finished,
    "wait": Checkpoints.wait,
    "close": Checkpoints.close,
    "save": lambda checkpoints: checkpoints.save(9, state_of(9), {}),
    "save in the background": lambda checkpoints: checkpoints.save(9, state_of(9), {}, background=True),
    "restore": lambda checkpoints: checkpoints.restore(target, silent),
}


@pytest.mark.parametrize("call", NEXT.values(), ids=NEXT.keys())
def test_what_fails_in_the_background_is_raised_by_the_next_call_and_only_once(run, monkeypatch, call):
    checkpoints = Checkpoints(run / "checkpoints")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    checkpoints.save(8, state_of(8), {}, background=True)
    with pytest.raises(RunError, match=r"step 8 could not be written .*No space left.*last one is of step 6"):
        call(checkpoints)
    checkpoints.check()
    checkpoints.wait()
    checkpoints.close()
    assert_still_whole(run)


def test_an_error_on_the_way_out_is_not_hidden_by_the_failed_save(run, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    def fail_in_the_background(error: Exception | None) -> None:
        with Checkpoints(run / "checkpoints") as checkpoints:
            monkeypatch.setattr(checkpoints._manager, "save", full)
            checkpoints.save(8, state_of(8), {}, background=True)
            if error is not None:
                raise error

    with pytest.raises(KeyError, match="the first"):
        fail_in_the_background(KeyError("the first"))
    with pytest.raises(RunError, match="step 8"):
        fail_in_the_background(None)


def test_a_sentence_on_the_last_good_one_tells_of_a_failed_save(run, monkeypatch):
    checkpoints = Checkpoints(run / "checkpoints")
    assert checkpoints.last_good() == "The last good checkpoint is of step 6."
    monkeypatch.setattr(checkpoints._manager, "save", lambda *args, **kwargs: 1 / 0)
    checkpoints.save(8, state_of(8), {}, background=True)
    text = checkpoints.last_good()
    assert text.startswith(
        "The last good checkpoint is of step 6. Besides, the checkpoint of step 8 could not"
    )
    checkpoints.wait()  # it has been told


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.complex64])
def test_a_number_that_is_not_finite_is_not_saved(run, background, dtype):
    checkpoints = Checkpoints(run / "checkpoints")
    state = state_of(8).replace(carry={"sum": np.array([1, np.inf]).astype(dtype)})

    def save() -> None:
        checkpoints.save(8, state, {}, background=background)
        checkpoints.wait()

    with pytest.raises(RunError, match=r"^step 8: carry/sum is not finite\. The last good .* of step 6\.$"):
        save()
    assert_still_whole(run)


# The best by a metric.


def saved(folder: pathlib.Path, values: dict[int, float | None], **options) -> Checkpoints:
    checkpoints = Checkpoints(folder, **options)
    for step, value in values.items():
        metrics = {"other": -float(step)} | ({} if value is None else {"fid": value})
        checkpoints.save(step, state_of(step), {"step": step, "metrics": metrics})
    return checkpoints


def test_what_best_is_parsed_from():
    assert Best.parse("fid") == Best.parse("fid:min") == Best("fid", False)
    assert Best.parse("a:b:max") == Best("a:b", True)
    for best in (Best("fid", True), Best("fid", False)):
        assert Best.parse(str(best)) == best
    for text in ("", ":max", "fid:", "fid:low"):
        with pytest.raises(ValueError, match="METRIC"):
            Best.parse(text)


@pytest.mark.parametrize(
    ("highest", "values", "best", "steps"),
    [
        (False, {1: 3.0, 2: 1.0, 3: 2.0, 4: 5.0, 5: 4.0}, 2, [2, 4, 5]),
        (True, {1: 3.0, 2: 9.0, 3: 2.0, 4: 5.0, 5: 4.0}, 2, [2, 4, 5]),
        (False, {1: 3.0, 2: 3.0, 3: 4.0, 4: 5.0}, 2, [2, 3, 4]),  # of equals the later
        (False, {1: 1.0, 2: None, 3: None, 4: 5.0, 5: None}, 1, [1, 4, 5]),
        (False, {1: 3.0, 2: 2.0, 3: 1.0}, 3, [2, 3]),  # the last is the best
        (False, {1: None, 2: None, 3: None}, None, [2, 3]),
    ],
)
def test_the_best_is_kept_besides_the_latest(tmp_path, highest, values, best, steps):
    checkpoints = saved(tmp_path, values, keep=2, best=Best("fid", highest))
    assert checkpoints.steps() == steps
    assert checkpoints.best_step() == best
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{step:08d}" for step in steps]
    assert Checkpoints(tmp_path, read_only=True).best_step() == best


def test_the_best_is_of_the_latest_stage_that_was_measured(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best=Best("fid"))
    for step, stage, value in ((1, 0, 1.0), (2, 0, 2.0), (3, 1, None), (4, 1, 9.0), (5, 1, 8.0), (6, 1, 8.5)):
        metrics = {} if value is None else {"fid": value}
        checkpoints.save(step, state_of(step), {"step": step, "stage": stage, "metrics": metrics})
        assert checkpoints.best_step() == {1: 1, 2: 1, 3: 1, 4: 4, 5: 5, 6: 5}[step]
    assert checkpoints.steps() == [5, 6]
    assert Checkpoints(tmp_path, keep=1, best=Best("fid")).best_step() == 5


def test_the_best_is_found_again_by_the_next_process(tmp_path):
    best = Best("fid", False)
    saved(tmp_path, {1: 5.0, 2: 1.0, 3: 3.0}, keep=1, best=best).close()
    assert Checkpoints(tmp_path, read_only=True).steps() == [2, 3]
    again = saved(tmp_path, {4: 4.0, 5: 2.0}, keep=1, best=best)
    assert again.steps() == [2, 5]
    saved(tmp_path, {6: 0.5, 7: 2.0}, keep=1, best=best)
    assert Checkpoints(tmp_path, read_only=True).steps() == [6, 7]


def test_a_best_one_that_is_damaged_is_no_longer_the_best(tmp_path):
    saved(tmp_path, {1: 5.0, 2: 1.0, 3: 3.0, 4: 4.0}, keep=3, best=Best("fid"))
    cut_meta(tmp_path / "00000002")
    checkpoints = Checkpoints(tmp_path, keep=1, best=Best("fid"))
    assert checkpoints.best_step() == 3
    checkpoints.save(5, state_of(5), {"metrics": {"fid": 9.0}})
    assert checkpoints.steps() == [3, 5]


def test_without_a_best_there_is_none(run):
    assert Checkpoints(run / "checkpoints", read_only=True).best_step() is None


@pytest.mark.parametrize("keep_best", ["loss:low", "", 3, [], None])
@pytest.mark.parametrize("metrics", [{"loss": "low"}, {"loss": 10**400}, [1], "loss", None])
def test_a_meta_that_was_never_saved_is_no_best(tmp_path, keep_best, metrics):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, state_of(2), {"metrics": metrics, "keep_best": keep_best})
    assert checkpoints.best_step() is None
    checkpoints.save(4, state_of(4), {"metrics": metrics, "keep_best": "loss:max"})
    assert checkpoints.best_step() == (4 if metrics == {"loss": 10**400} else None)


# One of several.


def test_one_checkpoint_by_its_step(run):
    checkpoints = Checkpoints(run / "checkpoints", read_only=True)
    for step in (2, 4, 6):
        state, meta = checkpoints.restore_step(target, step)
        assert_same_bits(state, state_of(step))
        assert meta["step"] == step
    with pytest.raises(RunError, match=r"no checkpoint of step 5; there are those of steps 2, 4, 6$"):
        checkpoints.restore_step(target, 5)
    truncate(run / "checkpoints" / "00000004")
    before = listing(run)
    with pytest.raises(RunError, match=r"step 4 in .* is damaged .*; there are those of steps 2, 6$"):
        checkpoints.restore_step(target, 4)
    assert listing(run) == before


def test_one_that_is_removed_while_it_is_read_is_not_damaged(run, monkeypatch):
    """By the run that trains, which has a newer one by then."""
    checkpoints = Checkpoints(run / "checkpoints", read_only=True)
    read = Checkpoints._read

    def removed(self, step):
        for folder in (run / "checkpoints").iterdir():
            if folder.name != "00000008":
                shutil.rmtree(folder)
        (run / "new").rename(run / "checkpoints" / "00000008")
        monkeypatch.setattr(Checkpoints, "_read", read)
        return read(self, step)

    with Checkpoints(run / "other") as other:
        other.save(8, state_of(8), {"step": 8})
    (run / "other" / "00000008").rename(run / "new")
    monkeypatch.setattr(Checkpoints, "_read", removed)
    found = checkpoints.restore(target, silent)
    assert found is not None
    assert found[1]["step"] == 8


def test_what_a_killed_removal_left_is_ignored_and_cleared(run):
    """Old checkpoints lose their name before they are removed."""
    doomed = run / "checkpoints" / ("00000002" + checkpoint._UNFINISHED)
    (run / "checkpoints" / "00000002").rename(doomed)
    data_file(doomed).unlink()
    checkpoints = Checkpoints(run / "checkpoints")
    assert checkpoints.steps() == [4, 6]
    checkpoints.save(8, state_of(8), {})
    assert not doomed.exists()


# Without this package.

READER = """
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("ganjax", "experiments"):
                raise ImportError(f"{name} is blocked")

    sys.meta_path.insert(0, Blocked())
"""


def snippet() -> str:
    """The example of docs/checkpoints.md, which reads a checkpoint."""
    text = (pathlib.Path(__file__).parents[1] / "docs" / "checkpoints.md").read_text()
    return text.split("```python\n", 1)[1].split("```", 1)[0]


def test_a_checkpoint_is_read_without_the_source_tree(three, tmp_path):
    """The example in the docs, by a process that has no ganjax."""
    run = tmp_path / "runs" / "cgan_mnist-seed0"
    shutil.copytree(three, run)
    (run / "checkpoints" / "00000006").rename(run / "checkpoints" / "00003500")
    report = """
for name, x in sorted(arrays.items()):
    print(json.dumps([name, str(x.dtype), list(x.shape), x.tobytes().hex()]))
print(json.dumps(meta))
"""
    code = textwrap.dedent(READER) + snippet() + report
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    *arrays, meta = [json.loads(line) for line in answer.stdout.splitlines()]
    assert arrays == [
        [name, str(x.dtype), list(x.shape), x.tobytes().hex()] for name, x in flatten(state_of(6)).items()
    ]
    assert meta["metrics"] == {"loss": 0.1}
    assert meta["fingerprint"] == fingerprint(state_of(6))


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


def fill(checkpoints: Checkpoints, background: bool) -> None:
    """A save for which there is no room."""

    def save() -> None:
        checkpoints.save(8, large_state(), {}, background=background)
        checkpoints.wait()

    with pytest.raises(RunError, match=r"step 8 could not be written to .*last one is of step 6"):
        save()
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["00000002", "00000004", "00000006"]


@pytest.mark.parametrize("background", [False, True])
def test_a_disk_that_takes_no_more_loses_nothing(run, background):
    """Files may not grow beyond 100 kB: what a full disk does, wherever in the save it strikes."""
    checkpoints = Checkpoints(run / "checkpoints")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        fill(checkpoints, background)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_still_whole(run)


@pytest.fixture
def disk(tmp_path) -> Iterator[pathlib.Path]:
    with small_disk(tmp_path / "disk", megabytes=1) as folder:
        yield folder


@pytest.mark.parametrize("background", [False, True])
def test_a_full_file_system_loses_nothing(three, disk, background):
    """For real. Once there is room, the same process can save."""
    shutil.copytree(three, disk / "run")
    with Checkpoints(disk / "run" / "checkpoints") as checkpoints:
        fill(checkpoints, background)
        assert_still_whole(disk / "run")
        checkpoints.save(8, state_of(8), {}, background=background)
        checkpoints.wait()
        assert_same_bits(checkpoints.restore_step(target, 8)[0], state_of(8))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("background", [False, True])
def test_a_folder_that_may_not_be_written_loses_nothing(run, background):
    checkpoints = Checkpoints(run / "checkpoints")
    (run / "checkpoints").chmod(0o500)
    try:
        fill(checkpoints, background)
    finally:
        (run / "checkpoints").chmod(0o700)
    assert_still_whole(run)


def test_an_old_one_that_cannot_be_removed_is_an_error_of_one_line(run, monkeypatch):
    checkpoints = Checkpoints(run / "checkpoints", keep=3)

    def refuse(step):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoints, "_remove", refuse)
    with pytest.raises(RunError, match=r"not kept any more could not be removed \(.*Permission denied\)"):
        checkpoints.save(8, state_of(8), {})
    assert Checkpoints(run / "checkpoints", read_only=True).steps() == [2, 4, 6, 8]  # nothing is lost


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
    assert errors.one_line(ValueError("a\n  b\nc")) == "a b c"
    assert errors.one_line(ValueError()) == "ValueError"
    assert len(errors.one_line(ValueError("x" * 1000))) < 210
