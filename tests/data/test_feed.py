"""Batches that are read ahead: the same bits whatever reads them, an error where there is one, and an end."""

import os
import threading
import time
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from ganjax.data import Feed, Zip, dataset, images, load
from ganjax.data.feed import default_workers
from ganjax.errors import RunError, UsageError

BATCH = 40  # three parts, the last one shorter


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + 10
    while left := _readers() - before:
        assert time.monotonic() < end, left
        time.sleep(0.01)


def _readers():
    return {thread for thread in threading.enumerate() if "grain" in thread.name}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    for i, image in enumerate(pixels):
        path = root / f"class{i % 3}" / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    np.savez(root / "set.npz", image=pixels[:23, :, :, 0], label=np.arange(23) % 4)
    return root


@pytest.fixture(params=["folder", "npz", "zip", "nested"])
def source(request, folder, monkeypatch):
    """A set that is read example by example."""
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 0)
    files, arrays = load(str(folder)), load(str(folder / "set.npz"))
    return {
        "folder": files,
        "npz": arrays,
        "zip": Zip({"a": files, "b": arrays}),
        "nested": Zip({"x": Zip({"a": files, "b": arrays}), "y": arrays}),
    }[request.param]


def _batches(source, **options):
    arguments: dict[str, Any] = {"seed": 5, "first": 70, "batch_size": BATCH, "count": 4} | options
    with Feed(source, **arguments) as feed:
        return list(feed)


def _assert_same(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)
        assert jax.tree.map(lambda x: x.dtype, one) == jax.tree.map(lambda x: x.dtype, other)


def test_batches_are_those_that_the_source_reads(source):
    expected = [source.read(source.indices(5, 70 + BATCH * k, BATCH)) for k in range(4)]
    for workers in (0, 1, 5, None):
        _assert_same(_batches(source, workers=workers), expected)


def test_started_later_it_gives_the_rest(source):
    whole = _batches(source, workers=2)
    _assert_same(_batches(source, first=70 + 2 * BATCH, count=2, workers=3), whole[2:])


def test_the_shares_of_four_hosts_are_the_whole(source):
    whole = _batches(source)
    shares = [_batches(source, rows=slice(10 * i, 10 * i + 10)) for i in range(4)]
    joined = [jax.tree.map(lambda *x: np.concatenate(x), *parts) for parts in zip(*shares, strict=True)]
    _assert_same(joined, whole)


def test_each_host_reads_its_share_alone(source, monkeypatch):
    read = []
    monkeypatch.setattr(source, "read", lambda indices: read.extend(jax.tree.leaves(indices)) or indices)
    for workers in (0, 2):
        read.clear()
        _batches(source, rows=slice(20, 30), workers=workers)
        sources = len(jax.tree.leaves(source.indices(0, 0, 1)))
        assert sum(map(len, read)) == 4 * 10 * sources


def test_a_set_in_memory_is_read_when_it_is_asked_for(folder):
    source = load(str(folder))
    batches = _batches(source, workers=3)
    assert not _readers()
    _assert_same(batches, [source.read(source.indices(5, 70 + BATCH * k, BATCH)) for k in range(4)])
    shares = [_batches(source, rows=slice(20 * i, 20 * i + 20)) for i in range(2)]
    _assert_same([jax.tree.map(lambda *x: np.concatenate(x), *p) for p in zip(*shares, strict=True)], batches)
    batches[0]["image"][:] = 0  # the caller's own
    _assert_same(_batches(source)[1:], batches[1:])


class _Watched(dataset.Dataset):
    """A set that is larger than memory, of which every read counts and may have to wait."""

    def __init__(self, wait=lambda: None, fails_at=None):
        super().__init__("watched", "train", (1, 1, 1), 0, (), 1 << 40)
        self.reading = self.most = self.reads = 0
        self._wait, self._fails_at = wait, fails_at

    def indices(self, seed, start, count):
        return np.arange(start, start + count)

    def resident(self):
        return None

    def read(self, indices):
        with self._lock:
            self.reads += 1
            self.reading += 1
            self.most = max(self.most, self.reading)
        self._wait()
        with self._lock:
            self.reading -= 1
        if self._fails_at is not None and self._fails_at in indices:
            raise RunError(f"example {self._fails_at} is bad")
        return {"image": indices}

    def wait_for(self, reads):
        end = time.monotonic() + 20
        while self.reads < reads:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_so_many_threads_read_at_once():
    together = threading.Barrier(3, timeout=20)  # of the twelve parts, three at a time
    source = _Watched(together.wait)
    batches = _batches(source, first=0, workers=3)
    assert source.most == 3
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches]), np.arange(4 * BATCH))
    for workers in (0, 1):
        source = _Watched(lambda: time.sleep(0.001))
        _batches(source, workers=workers)
        assert source.most == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_no_other_threads_decode(folder, monkeypatch, workers):
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 0)
    monkeypatch.setattr(images, "_threads", lambda: pytest.fail("asked for the pool"))
    assert len(_batches(load(str(folder)), workers=workers)) == 4


def test_no_more_than_a_few_batches_are_ahead():
    source = _Watched()
    with Feed(source, seed=0, first=0, batch_size=BATCH, count=1000, workers=2) as feed:
        source.wait_for(6)  # before it is asked for any: two batches of three parts
        time.sleep(0.05)
        assert source.reads == 6
        next(feed)
        source.wait_for(9)
        time.sleep(0.05)
        assert source.reads == 9


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_error_comes_up_at_its_batch(workers):
    source = _Watched(fails_at=BATCH + 3)
    with Feed(source, seed=0, first=0, batch_size=BATCH, count=100, workers=workers) as feed:
        np.testing.assert_array_equal(next(feed)["image"], np.arange(BATCH))
        with pytest.raises(RunError, match=f"^example {BATCH + 3} is bad$"):
            next(feed)


def test_closed_it_ends_and_waits_for_nothing():
    gate = threading.Event()
    source = _Watched(lambda: gate.wait(20))
    feed = Feed(source, seed=0, first=0, batch_size=BATCH, count=10**6, workers=2)
    source.wait_for(2)
    feed.close()
    feed.close()
    assert list(feed) == []
    gate.set()  # not before: closing waits for no read
    time.sleep(0.1)
    assert source.reads == 2


def test_nothing_to_read(source):
    assert _batches(source, count=0) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": slice(0, 8, 2)}, "contiguous"),
        ({"rows": slice(BATCH, BATCH + 4)}, "contiguous"),
        ({"workers": -1}, "workers=-1"),
    ],
)
def test_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        _batches(_Watched(), **options)


def test_default_workers():
    assert 1 <= default_workers() <= min(16, os.cpu_count() or 1)


def test_an_npz_larger_than_memory_is_read_by_rows(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 0)
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", _only_labels(np.lib.npyio.NpzFile.__getitem__))
    source = load(str(folder / "set.npz"))
    pixels = np.stack([np.asarray(Image.open(folder / f"class{i % 3}" / f"{i:02d}.png")) for i in range(23)])
    for batch in _batches(source):
        assert {image.tobytes() for image in batch["image"]} <= {p.tobytes() for p in pixels[:, :, :, 0]}
    every = source.read(np.arange(23))
    np.testing.assert_array_equal(every["image"][..., 0], pixels[:, :, :, 0])
    np.testing.assert_array_equal(every["label"], np.arange(23) % 4)
    resized = load(str(folder / "set.npz"), image_size=8, channels=3)
    assert resized.read(np.array([3, 3, 1]))["image"].shape == (3, 8, 8, 3)

    content = (folder / "set.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content)
    source = load(str(tmp_path / "cut.npz"))
    source.read(np.array([22]))
    (tmp_path / "cut.npz").write_bytes(content[:200])
    with pytest.raises(RunError, match=r"cut.npz: the archive is damaged \(it is cut off\)"):
        source.read(np.array([22]))
    (tmp_path / "cut.npz").unlink()
    with pytest.raises(RunError, match=r"cut.npz: can't be read \(No such file"):
        source.read(np.array([22]))


def _only_labels(get):
    def guarded(self, key):
        assert key == "label"
        return get(self, key)

    return guarded


@pytest.mark.parametrize(
    "save", [np.savez_compressed, lambda path, **x: np.savez(path, image=np.asfortranarray(x["image"]))]
)
def test_an_npz_that_has_no_rows_is_read_whole(folder, tmp_path, monkeypatch, save):
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 0)
    pixels = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2)
    save(tmp_path / "set.npz", image=pixels)
    source = load(str(tmp_path / "set.npz"))
    assert source.resident() is None
    np.testing.assert_array_equal(source.read(np.array([4, 0]))["image"][..., 0], pixels[[4, 0]])
