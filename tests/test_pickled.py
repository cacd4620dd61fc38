import contextlib
import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from ganjax import pickled


def read(content):
    return pickled.load(io.BytesIO(content))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_as_pickle_writes_them(protocol):
    shared = ["text", 3.5]
    value = {
        "a": [1, -300, 2**40, 2**80],
        "b": (None, True, False),
        "c": shared,
        "d": [shared, ()],
        7: b"\x00\xff",
    }
    assert read(pickle.dumps(value, protocol)) == value
    # One pickle's end is the next one's beginning.
    file = io.BytesIO(pickle.dumps("first", protocol) + pickle.dumps("second", protocol))
    assert [pickled.load(file), pickled.load(file)] == ["first", "second"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_as_numpy_writes_them(protocol):
    draw = np.random.default_rng(0)
    arrays = {
        "row": draw.normal(size=(2, 3)).astype(np.float32),
        "column": np.asfortranarray(draw.normal(size=(2, 3))),
        "big": np.arange(6, dtype=">i4").reshape(3, 2),
        "none": np.zeros((0, 2), np.uint8),
        "scalar": np.float16(1.5),
    }
    found = pickled.leaves(read(pickle.dumps({"deep": [arrays]}, protocol)))
    assert set(found) == {f"deep.0.{name}" for name in arrays}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[f"deep.0.{name}"], array)


class Evil:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "what",
    [
        Evil(os.system, "true"),
        Evil(eval, "1"),
        Evil(getattr, "x", "upper"),
        Evil(exec, "raise SystemExit"),
        Evil(subprocess.Popen, ["true"]),
        Evil(__import__, "antigravity"),
        {"state_dict": [Evil(os.remove, "x")]},
    ],
)
@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_pickle_that_calls_is_refused(what, protocol, monkeypatch):
    content = pickle.dumps(what, protocol)
    for module, name in ((os, "system"), (os, "remove"), (subprocess, "Popen")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("it was called"))
    with pytest.raises(pickled.NotPlain, match=r"names|instruction"):
        read(content)


def test_what_a_pickle_names_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "a_trap.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(pickled.NotPlain, match=r"names a_trap\.go"):
        read(b"\x80\x02ca_trap\ngo\n)R.")
    # A class of TorchScript's is a stand-in, whatever its module: it may not be called.
    with pytest.raises(pickled.NotPlain, match=r"calls __torch__\.a_trap\.go"):
        read(b"\x80\x02c__torch__.a_trap\ngo\n)R.")
    thing = read(b"\x80\x02c__torch__.a_trap\ngo\n)\x81}X\x01\x00\x00\x00aK\x01sb.")
    assert str(thing.kind) == "__torch__.a_trap.go"
    assert thing.state == {"a": 1}
    assert "a_trap" not in sys.modules


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02\x82\x01.", "instruction EXT1"),  # a callable by number
        (b"(ios\nsystem\n.", "instruction INST"),
        (b"(cos\nsystem\no.", "names os.system"),
        (b"\x80\x02ccollections\nOrderedDict\n(lK\x01ab.", "no list|attributes"),
        (b"\x80\x02ccollections\nOrderedDict\n}b.", "attributes"),  # nor may ours be altered
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.", "no plain numbers"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "calls numpy.ndarray"),
        (b"\x80\x02}((K\x01tK\x01u.", "neither text nor a number"),
        (b"\x80\x02X\x01\x00\x00\x00xQ.", "not a tensor's memory"),
        (b"\x80\x02K\x01)R.", "calls int"),
    ],
)
def test_programs_by_hand_that_are_refused(content, message):
    with pytest.raises(pickled.NotPlain, match=message):
        read(content)


def test_a_damaged_one_ends_with_an_error():
    content = pickle.dumps({"a": np.arange(50), "b": ["text"] * 3, "c": (1, 2.5)}, 2)
    for end in range(len(content) - 1):
        with pytest.raises((ValueError, IndexError, KeyError, TypeError)):
            read(content[:end])
    draw = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[draw.integers(len(content))] = draw.integers(256)
        # Which of them is the chance of the byte; what must not happen is that memory or the stack runs out.
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
            pickled.leaves(read(bytes(damaged)))


def test_a_claim_asks_for_no_memory():
    with pytest.raises(ValueError, match="bytes"):
        read(b"\x80\x04B\xff\xff\xff\x7fabc.")
    with pytest.raises(ValueError, match=r"bytes|expected"):
        read(b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"abc.")


def test_trees_without_end_are_refused():
    cycle = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="no end"):
        pickled.leaves(read(pickle.dumps(cycle)))
    level = [np.ones(1)]
    for _ in range(40):  # 2^40 paths to one array, in some hundred bytes
        level = [level, level]
    with pytest.raises(ValueError, match="no end"):
        pickled.leaves(read(pickle.dumps(level)))
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    with pytest.raises(ValueError, match="no end"):
        pickled.leaves(read(deep))
    with pytest.raises(ValueError, match=r"two arrays have the name a\.b"):
        pickled.leaves({"a.b": np.ones(1), "a": {"b": np.ones(1)}})


@pytest.mark.parametrize(
    "again",
    [
        b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R",  # of a text that is kept
        b"cnumpy.core.numeric\n_frombuffer\n(h\x01h\x02K\x00\x85X\x01\x00\x00\x00CtR",
        b"ccollections\nOrderedDict\nh\x03\x85R",
    ],
)
def test_the_same_again_and_again_is_refused(again):
    """A few bytes that make as much as all that came before."""
    size = 2**18
    text = b"X" + size.to_bytes(4, "little") + b"x" * size + b"q\x00"
    content = b"B" + size.to_bytes(4, "little") + bytes(size) + b"q\x01"
    kind = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85Rq\x02"
    pairs = b"](" + b"".join(b"J" + i.to_bytes(4, "little") + b"K\x00\x86" for i in range(30_000)) + b"eq\x03"
    length = b"K\x00\x85"
    again = again.replace(length, b"J" + size.to_bytes(4, "little") + b"\x85")
    start = b"\x80\x03(" + text + content + kind + pairs
    assert len(read(start + again + b"t.")) == 5
    with pytest.raises(ValueError, match="more than there is in the file"):
        read(start + again * 60 + b"t.")


def test_instructions_are_counted():
    assert len(pickled.load(io.BytesIO(b"\x80\x03(" + b"}" * 20 + b"t."), instructions=30)) == 20
    with pytest.raises(ValueError, match="too many instructions"):
        pickled.load(io.BytesIO(b"\x80\x03(" + b"}" * 40 + b"t."), instructions=30)


def test_long_bytes_stay_in_the_file(monkeypatch):
    monkeypatch.setattr(pickled.Skimmed, "LONG", 40)
    content = (
        b"front" + pickle.dumps({"long": bytes(range(100)), "short": b"x" * 10, "set": {1}}, 4) + b"back"
    )
    whole = pickled.Span(io.BytesIO(content), 0, len(content))
    found = pickled.load(pickled.Skimmed(whole.part(5, len(content) - 9)))
    assert isinstance(found["long"], pickled.Span)
    assert found["long"].read() == bytes(range(100))
    assert found["long"].part(3, 2).read() == b"\x03\x04"
    assert (found["short"], found["set"]) == (b"x" * 10, [1])
    for start, size in ((99, 2), (-1, 2), (0, -1)):
        with pytest.raises(ValueError, match="cut off"):
            found["long"].part(start, size)
    with pytest.raises(ValueError, match="too many instructions"):
        pickled.load(pickled.Skimmed(whole.part(5, len(content) - 9), 30))


def test_a_reader_that_knows_more_names():
    content = b"\x80\x02cours\nMade\n)\x81}X\x01\x00\x00\x00aK\x01sb."
    with pytest.raises(pickled.NotPlain, match=r"names ours\.Made") as caught:
        read(content)
    assert caught.value.name == pickled.Name("ours", "Made")
    known = {pickled.Name("ours", "Made"): lambda *values: dict.fromkeys(values)}
    assert pickled.load(io.BytesIO(content), known) == {}
    assert pickled.load(io.BytesIO(b"\x80\x02cours\nMade\nK\x01\x85R."), known) == {1: None}
    with pytest.raises(pickled.NotPlain, match=r"makes a ours\.Made"):  # arguments are for calls
        pickled.load(io.BytesIO(b"\x80\x02cours\nMade\nK\x01\x85\x81."), known)
