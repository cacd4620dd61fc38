"""Damaged images among whole ones: an error that names the file, or, if asked for, the next one instead."""

import os
import pathlib
import sys
from typing import Any

import numpy as np
import pytest
from etils import epath
from PIL import Image

from ganjax.data import Feed, Pair, Zip, dataset, load
from ganjax.errors import RunError, UsageError
from tests.data.test_folder import values, write


def cut(path: pathlib.Path, size: int) -> None:
    """Leaves the first bytes of a file: below 8 no image, at 45 one whose pixels are missing."""
    path.write_bytes(path.read_bytes()[:size])


@pytest.fixture
def folder(tmp_path):
    """Images of the values 0, 10, ..., 60, of which 20, 30 and 60 are damaged, in two classes."""
    for i in range(7):
        write(tmp_path / f"class{i // 4}" / f"{i}.png", 10 * i)
    cut(tmp_path / "class0" / "2.png", 0)
    cut(tmp_path / "class0" / "3.png", 45)
    cut(tmp_path / "class1" / "6.png", 45)
    return tmp_path


def test_by_default_it_is_an_error(folder):
    # of the seven all are looked at as the folder is opened, and one has no head
    with pytest.raises(RunError, match=r"class0/2.png: not an image in a known format; remove or replace it"):
        load(str(folder))
    os.remove(folder / "class0" / "2.png")
    with pytest.raises(RunError, match=r"class0/3.png: the image can't be decoded \(.*remove or replace it"):
        load(str(folder)).resident()


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_skipped_the_next_one_comes_instead_with_its_label(folder, monkeypatch, budget):
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", budget)
    data = load(str(folder), skip_corrupt=True)
    assert data.num_examples == 7
    every = np.arange(7)
    for _ in range(2):
        assert values(data) == [0, 10, 40, 40, 40, 50, 0]
        assert data.read(every)["label"].tolist() == [0, 0, 1, 1, 1, 1, 0]
    assert len(data.skipped) == 3
    for name in ("class0/2.png: not an image", "class0/3.png: the image can't", "class1/6.png: the image"):
        assert sum(f"skipped {folder}/{name}" in line for line in data.skipped) == 1


def test_a_batch_does_not_depend_on_what_was_met_before(folder, monkeypatch):
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 0)
    arguments: dict[str, Any] = {"seed": 0, "batch_size": 5}
    with Feed(load(str(folder), skip_corrupt=True), first=0, count=9, **arguments) as feed:
        whole = list(feed)
    with Feed(load(str(folder), skip_corrupt=True), first=30, count=3, workers=4, **arguments) as feed:
        rest = list(feed)
    for one, other in zip(whole[6:], rest, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_in_a_zip(folder):
    joined = Zip({"a": load(str(folder), skip_corrupt=True), "b": load("random")})
    assert len(joined.skipped) == 1  # met as the folder was opened
    joined.sources["a"].read(np.arange(7))
    assert len(joined.skipped) == 3


@pytest.mark.parametrize("paired", [False, True])
def test_what_stands_in_is_of_the_same_part(tmp_path, paired):
    """Or held-out images would be trained on, and training images measured."""
    for i in range(20):
        for side in "ab":
            write(tmp_path / side / f"{i:02}.png", 10 * i)
    options: dict[str, Any] = {"held_out": 0.25, "skip_corrupt": True}
    options |= {"pair": Pair(str(tmp_path / "b"), (1, 1))} if paired else {}
    names = {split: load(str(tmp_path / "a"), split=split, **options).names for split in ("train", "test")}
    for some in names.values():  # the first of each, and those before one of the other part
        for i in {0} | {k for k, name in enumerate(some) if f"{int(name) + 1:02}" not in some}:
            if len(some) > 2 and i < len(some) - 1:
                cut(tmp_path / "a" / f"{some[i]}.png", 45)
    for split, some in names.items():
        data = load(str(tmp_path / "a"), split=split, **options)
        found = data.read(np.arange(data.num_examples))["image"][:, 0, 0, 0] // 10
        assert {f"{value:02}" for value in found} <= set(some)
        assert len(set(found)) < len(found)
        assert data.skipped


def test_none_is_whole(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.png")
        cut(tmp_path / f"{name}.png", 45)
    data = load(str(tmp_path), skip_corrupt=True)
    with pytest.raises(RunError, match=r"none of 2 images can be read. .*/a.png: the image can't be decoded"):
        data.read(np.array([0]))
    for name in "ab":
        cut(tmp_path / f"{name}.png", 0)
    with pytest.raises(RunError, match=r"none of 2 images can be read. .*/a.png: not an image"):
        load(str(tmp_path), skip_corrupt=True)


def test_the_first_readable_image_says_what_the_set_is_like(tmp_path):
    write(tmp_path / "a.png", mode="RGB")
    cut(tmp_path / "a.png", 5)
    write(tmp_path / "b.png", 7, size=(2, 3), mode="L")
    write(tmp_path / "c.png", 8, size=(2, 3), mode="L")
    data = load(str(tmp_path), skip_corrupt=True)
    assert data.image_shape == (2, 3, 1)
    assert values(data) == [7, 7, 8]


@pytest.mark.parametrize("skip", [True, False])
def test_a_file_that_is_gone_is_an_error_in_any_case(tmp_path, monkeypatch, skip):
    """The set is another one then: what stood in for it would not be what the run saw before."""
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", 0)
    for i in range(3):
        write(tmp_path / f"{i}.png", i)
    data = load(str(tmp_path), skip_corrupt=skip)
    os.remove(tmp_path / "1.png")
    data.read(np.array([0, 2]))
    with pytest.raises(RunError, match=r"1.png: the file is gone since its folder was listed.*put it back"):
        data.read(np.array([0, 1]))
    with (
        Feed(data, seed=0, first=0, batch_size=3, count=9, workers=2) as feed,
        pytest.raises(RunError, match=r"1.png: the file is gone"),
    ):
        next(feed)
    assert list(data.skipped) == []


@pytest.mark.parametrize("skip", [True, False])
def test_another_size_is_an_error_in_any_case(tmp_path, monkeypatch, skip):
    monkeypatch.setattr("ganjax.data.folder.PROBED", 2)
    for name, size in [("a", (4, 6)), ("b", (4, 7)), ("c", (4, 6))]:
        write(tmp_path / f"{name}.png", size=size)
    with pytest.raises(UsageError, match=r"a.png is 4x6 and .*b.png is 4x7 .*--config.image_size="):
        load(str(tmp_path), skip_corrupt=skip).read(np.array([1]))


def test_a_folder_named_like_an_image(tmp_path):
    write(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(RunError, match=r"b.png: a folder, and named like an image; rename it"):
        load(str(tmp_path))
    with pytest.raises(RunError, match=r"b.png: a folder"):
        load(str(tmp_path), skip_corrupt=True).resident()


def test_a_link_to_nothing_and_one_to_itself(tmp_path):
    write(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(RunError, match=r"b.png: the file is gone .*, or is a link to nothing"):
        load(str(tmp_path))
    os.remove(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "b.png")
    with pytest.raises(RunError, match=r"b.png: can't be read \(.*symbolic links\)"):
        load(str(tmp_path))


def test_folders_that_link_in_a_circle(tmp_path):
    write(tmp_path / "cat" / "0.png")
    (tmp_path / "cat" / "one").symlink_to(tmp_path)
    with pytest.raises(RunError, match=r"cat/one: a link to a folder that it lies in; remove the link"):
        load(str(tmp_path))
    os.remove(tmp_path / "cat" / "one")
    write(tmp_path / "else" / "0.png")
    (tmp_path / "cat" / "two").symlink_to(tmp_path / "else")  # not a circle: the images are in both classes
    assert load(str(tmp_path)).num_examples == 3


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    write(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(RunError, match=r"a.png: can't be read \(Permission denied\)"):
        load(str(tmp_path), skip_corrupt=True)


def test_a_refused_file_is_no_damaged_one(tmp_path, monkeypatch):
    write(tmp_path / "a.png")
    write(tmp_path / "b.png")
    data = load(str(tmp_path), skip_corrupt=True)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(epath.Path()), "read_bytes", refuse)
    with pytest.raises(RunError, match=r"a.png: can't be read \(Permission denied\)"):
        data.read(np.array([0]))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8_or_hold_a_new_line(tmp_path):
    odd = os.fsdecode(b"caf\xe9\n")
    write(tmp_path / odd / "0.png", 5)
    write(tmp_path / odd / "1.png", 5)
    cut(tmp_path / odd / "1.png", 45)
    data = load(str(tmp_path), skip_corrupt=True)
    assert values(data) == [5, 5]
    (line,) = data.skipped
    assert line.isprintable()
    assert r"caf\udce9\n/1.png: the image can't be decoded" in line


def test_bombs(tmp_path, monkeypatch):
    write(tmp_path / "a.png", 3)
    write(tmp_path / "b.png", size=(20, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # twice that is refused
    with pytest.raises(RunError, match=r"b.png: the image can't be decoded \(Image size \(600 pixels\)"):
        load(str(tmp_path), image_size=4).resident()
    data = load(str(tmp_path), image_size=4, skip_corrupt=True)
    assert values(data) == [3, 3]
