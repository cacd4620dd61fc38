import numpy as np
import pytest
from PIL import Image

from ganjax.data import load
from ganjax.errors import RunError, UsageError


def write(path, value=0, size=(4, 6), mode="RGB"):
    """A plain image of one value, (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size[::-1], value if mode == "L" else (value,) * len(mode)).save(path)


def values(dataset):
    """The grey value of every image, which is all that `write` puts into them."""
    return dataset.read(np.arange(dataset.num_examples))["image"][:, 0, 0, 0].tolist()


def test_class_folders(tmp_path):
    for value, name in [(10, "dog/b.png"), (20, "cat/z.png"), (30, "dog/A.PNG"), (40, "dog/more/c.png")]:
        write(tmp_path / name, value)
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    write(tmp_path / "cat" / ".hidden.png")
    data = load(str(tmp_path))
    assert (data.num_examples, data.image_shape, data.num_classes) == (4, (4, 6, 3), 2)
    assert data.class_names == ("cat", "dog")
    assert values(data) == [20, 30, 10, 40]
    np.testing.assert_array_equal(data.read(np.arange(4))["label"], [0, 1, 1, 1])


def test_unlabelled(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.png", i, mode="L")
    data = load(f"{tmp_path}/", image_size=2)
    assert (data.num_classes, data.class_names, data.image_shape) == (0, (), (2, 2, 1))
    assert data.read(np.array([2])).keys() == {"image"}
    assert values(data) == [0, 1, 2]


def test_resident_and_random_access_read_the_same(tmp_path, monkeypatch):
    for i in range(5):
        write(tmp_path / f"class{i % 2}" / f"{i}.png", 40 * i)
    kept = load(str(tmp_path))
    assert kept.resident() is not None
    monkeypatch.setattr("ganjax.data.dataset.MEMORY_BUDGET", 0)
    accessed = load(str(tmp_path))
    indices = accessed.indices(0, 0, 12)
    assert accessed.resident() is None
    for key, array in accessed.read(indices).items():
        np.testing.assert_array_equal(array, kept.read(indices)[key])


def test_splits_share_their_classes(tmp_path):
    write(tmp_path / "train" / "a" / "0.png", 1)
    write(tmp_path / "train" / "c" / "0.png", 2)
    write(tmp_path / "val" / "b" / "0.png", 3)
    write(tmp_path / "val" / "c" / "0.png", 4)
    train, test = load(str(tmp_path)), load(str(tmp_path), split="test")
    assert train.class_names == test.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(train.read([0, 1])["label"], [0, 2])
    np.testing.assert_array_equal(test.read([0, 1])["label"], [1, 2])
    assert values(load(str(tmp_path), split="validation")) == values(test) == [3, 4]


def test_no_such_split(tmp_path):
    write(tmp_path / "cat" / "0.png")
    with pytest.raises(UsageError, match=r"no split 'test', choose from: train \(a split is a folder"):
        load(str(tmp_path), split="test")


def test_unequal_sizes(tmp_path):
    write(tmp_path / "a.png", 7, size=(4, 6))
    write(tmp_path / "b.png", 7, size=(5, 6))
    with pytest.raises(UsageError, match=r"a.png is 4x6 and .*b.png is 5x6 .*--config.image_size="):
        load(str(tmp_path))
    assert load(str(tmp_path), image_size=4).read([0, 1])["image"].shape == (2, 4, 4, 3)
    padded = load(str(tmp_path), image_size=6, resize="pad")
    assert padded.resize == "pad"
    rows = padded.read([0, 1])["image"].any(axis=(2, 3))  # 4 and 5 of 6 are image
    assert rows.tolist() == [[False, *[True] * 4, False], [*[True] * 5, False]]


def test_unequal_sizes_past_those_looked_at_first(tmp_path, monkeypatch):
    monkeypatch.setattr("ganjax.data.folder.PROBED", 2)
    for name, size in [("a", (4, 6)), ("b", (5, 6)), ("c", (4, 6))]:
        write(tmp_path / f"{name}.png", size=size)
    data = load(str(tmp_path))
    with pytest.raises(UsageError, match=r"a.png is 4x6 and .*b.png is 5x6"):
        data.resident()


def test_channels_of_the_first_image(tmp_path):
    write(tmp_path / "a.png", 7, mode="L")
    write(tmp_path / "b.png", 8, mode="RGB")
    assert load(str(tmp_path)).read([0, 1])["image"].shape == (2, 4, 6, 1)
    assert load(str(tmp_path), channels=4).read([0, 1])["image"][1, 0, 0].tolist() == [8, 8, 8, 255]


def test_opening_reads_no_pixels(tmp_path):
    write(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:45])  # the head is whole
    data = load(str(tmp_path))
    with pytest.raises(RunError, match=r"a.png: the image can't be decoded"):
        data.read([0])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no images found"),
        (["a.png", "cat/b.png"], r"holds images \(a.png\) beside class folders \(cat\)"),
        (["train/a.png", "test/cat/a.png"], r"beside a labelled split \(class cat\)"),
        (["train/a.png", "test/notes.txt"], None),
    ],
)
def test_layouts(tmp_path, names, message):
    for name in names:
        if name.endswith(".txt"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text("")
        else:
            write(tmp_path / name)
    if message:
        with pytest.raises(UsageError, match=message):
            load(str(tmp_path))
    else:
        with pytest.raises(UsageError, match="test: no images found"):
            load(str(tmp_path), split="test")


def test_not_an_image(tmp_path):
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(RunError, match=r"a.png: not an image"):
        load(str(tmp_path))
