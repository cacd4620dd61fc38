import numpy as np
import pytest
from PIL import Image

from ganjax import data
from ganjax.data.dataset import held_out
from ganjax.errors import NoSplit, RunError, UsageError


def save(path, colour=(1, 2, 3), size=(4, 4)):
    """`size` is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(colour, int) else "RGB", size[::-1], colour).save(path)


def both(root, name, left, right, size=(4, 4)):
    root.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (2 * size[1], size[0]), left)
    image.paste(right, (size[1], 0, 2 * size[1], size[0]))
    image.save(root / name)


def test_side_by_side(tmp_path):
    for i in range(3):
        both(tmp_path / "train", f"{i}.png", (i, 0, 0), (0, i, 0), size=(4, 6))
    both(tmp_path / "test", "x.png", (9, 9, 9), (7, 7, 7), size=(4, 6))
    found = data.load(str(tmp_path), pair=data.Pair(channels=(3, 1)))
    assert (found.num_examples, found.image_shape, list(found.names)) == (3, (4, 6, 4), ["0", "1", "2"])
    images = found.read(np.array([2, 1]))["image"]
    assert images[0, :, :, :3].reshape(-1, 3).tolist() == [[2, 0, 0]] * 24
    assert set(images[0, :, :, 3].ravel()) == {1}  # 0.587 of 2
    small = data.load(str(tmp_path), split="test", pair=data.Pair(), image_size=2)
    assert small.image_shape == (2, 2, 6)
    assert small.read(np.array([0]))["image"][0, 0, 0].tolist() == [9, 9, 9, 7, 7, 7]


def test_two_folders_by_names_whatever_the_endings(tmp_path):
    for name in ("b", "a", "sub/c"):
        save(tmp_path / "A" / f"{name}.png", (ord(name[-1]),) * 3, (4, 8))
        save(tmp_path / "B" / f"{name}.bmp", ord(name[-1]) + 100, (2, 4))
    pair = data.Pair(str(tmp_path / "B"), channels=(3, 1))
    found = data.load(str(tmp_path / "A"), pair=pair, image_size=(2, 4))
    assert list(found.names) == ["a", "b", "sub/c"]
    for image, name in zip(found.read(np.arange(3))["image"], "abc", strict=True):
        assert image[0, 0].tolist() == [ord(name)] * 3 + [ord(name) + 100]
    with pytest.raises(UsageError, match=r"unequal sizes: a side of .*a.png is 4x8 and one of .*is 2x4"):
        data.load(str(tmp_path / "A"), pair=pair)


@pytest.mark.parametrize("side", ["A", "B"])
def test_a_missing_partner(tmp_path, side):
    for name in ("x", "y"):
        save(tmp_path / "A" / f"{name}.png")
        save(tmp_path / "B" / f"{name}.png")
    (tmp_path / side / "y.png").unlink()
    with pytest.raises(UsageError, match=r"y\.png: it has no partner of the name y in .*of 2 images 1 have"):
        data.load(str(tmp_path / "A"), pair=data.Pair(str(tmp_path / "B")))


def test_other_mistakes(tmp_path):
    save(tmp_path / "odd" / "x.png", size=(4, 5))
    with pytest.raises(UsageError, match=r"x\.png: 4x5 .*even width"):
        data.load(str(tmp_path / "odd"), pair=data.Pair())
    for name in ("x.png", "x.bmp"):
        save(tmp_path / "A" / name)
    with pytest.raises(UsageError, match=r"x\.bmp beside it has the name x too"):
        data.load(str(tmp_path / "A"), pair=data.Pair(str(tmp_path / "A")))
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        data.load(str(tmp_path / "A"), pair=data.Pair(str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: no images found"):
        data.load(str(tmp_path / "empty"), pair=data.Pair())
    with pytest.raises(UsageError, match="channels=2"):
        data.load("random", pair=data.Pair(channels=(3, 2)))


def test_sides_of_other_proportions(tmp_path):
    """Of which a crop would leave different places."""
    save(tmp_path / "A/a.png", size=(4, 4))
    save(tmp_path / "B/a.png", size=(4, 8))
    pair = data.Pair(str(tmp_path / "B"))
    for resize in ("crop", "pad"):
        with pytest.raises(UsageError, match=r"4x4 and 4x8 \(height x width\) are no pair, as .*stretch"):
            data.load(str(tmp_path / "A"), pair=pair, image_size=4, resize=resize).read(np.array([0]))
    found = data.load(str(tmp_path / "A"), pair=pair, image_size=4, resize="stretch")
    assert found.read(np.array([0]))["image"].shape == (1, 4, 4, 6)


def test_folders_of_other_splits(tmp_path):
    save(tmp_path / "A/train/a.png")
    save(tmp_path / "A/test/b.png")
    save(tmp_path / "B/train/a.png")
    with pytest.raises(UsageError, match=r"A has test, train and .*B train: expected the same splits"):
        data.load(str(tmp_path / "A"), pair=data.Pair(str(tmp_path / "B")))


def test_a_damaged_side(tmp_path):
    for name in ("x", "y", "z"):
        save(tmp_path / "A" / f"{name}.png", (ord(name),) * 3)
        save(tmp_path / "B" / f"{name}.png")
    (tmp_path / "B" / "y.png").write_bytes(b"no image")
    options = {"pair": data.Pair(str(tmp_path / "B")), "image_size": 4}
    with pytest.raises(RunError, match=r"B/y\.png: not an image"):
        data.load(str(tmp_path / "A"), **options).read(np.arange(3))
    whole = data.load(str(tmp_path / "A"), skip_corrupt=True, **options)
    assert whole.read(np.arange(3))["image"][:, 0, 0, 0].tolist() == [ord(name) for name in "xzz"]
    assert len(whole.skipped) == 1


def test_other_sets(tmp_path):
    image = np.zeros((5, 4, 8, 3), np.uint8)
    image[:, :, 4:] = 200
    np.savez(tmp_path / "pairs.npz", image=image)
    found = data.load(str(tmp_path / "pairs.npz"), pair=data.Pair(channels=(1, 3)), image_size=2)
    assert found.read(np.array([3]))["image"][0, 0, 0].tolist() == [0, 200, 200, 200]
    noise = data.load("random", pair=data.Pair(channels=(1, 3)), image_size=4)
    assert noise.read(np.arange(2))["image"].shape == (2, 4, 4, 4)
    assert noise.num_classes == 0


def test_what_is_held_out(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i // 2}-{i % 2}.png", (i,) * 3)
    options = {"held_out": 0.3, "held_out_by": "-"}
    train, test = (data.load(str(tmp_path), split=split, **options) for split in ("train", "test"))
    assert (train.num_examples, test.num_examples) == (14, 6)
    groups = [{name.partition("-")[0] for name in part.names} for part in (train, test)]
    assert not groups[0] & groups[1]
    pixels = [part.read(np.arange(part.num_examples))["image"][:, 0, 0, 0].tolist() for part in (train, test)]
    assert sorted(pixels[0] + pixels[1]) == list(range(20))
    for found, values in zip((train, test), pixels, strict=True):
        assert [f"{value // 2}-{value % 2}" for value in values] == list(found.names)
    assert train.options() == {"resize": "crop", **options}
    assert data.part(train, np.arange(1), "some").options() == train.options()
    assert data.load(str(tmp_path)).num_examples == 20
    with pytest.raises(NoSplit):
        data.load(str(tmp_path), split="test")


def test_a_set_with_a_test_split_holds_out_nothing_else(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for i in range(count):
            save(tmp_path / split / f"{i}.png")
    sizes = [data.load(str(tmp_path), split=split, held_out=0.5).num_examples for split in ("train", "test")]
    assert sizes == [3, 2]


def test_one_image(tmp_path):
    save(tmp_path / "x.png")
    assert data.load(str(tmp_path)).num_examples == 1
    with pytest.raises(UsageError, match=r"a single image.*--config\.held_out=0"):
        data.load(str(tmp_path), held_out=0.1)


def test_the_choice_is_stated():
    """A change here would be a change of every run's test set."""
    assert np.flatnonzero(held_out(data.load("random"), 0.02)).tolist() == [51, 55, 152, 178, 245]


def test_domains_as_cyclegan_lays_them(tmp_path):
    for domain, count in (("trainA", 4), ("trainB", 3), ("testA", 2)):
        for i in range(count):
            save(tmp_path / domain / f"{i}.png", (count,) * 3)
    found = {
        split: data.load(str(tmp_path), split=split, held_out=0.34).num_examples
        for split in ("trainA", "testA", "trainB", "testB")
    }
    assert found == {"trainA": 4, "testA": 2, "trainB": 2, "testB": 1}
    for domain in ("trainA", "trainB", "valA", "valB"):  # where there is no test, val is one
        save(tmp_path / "other" / domain / "a.png")
        save(tmp_path / "other" / domain / "b.png")
    assert data.load(str(tmp_path / "other"), split="testA").num_examples == 2
    assert data.load(str(tmp_path / "other"), split="trainA").num_examples == 2
    with pytest.raises(NoSplit, match=r"no split 'train', .*trainA"):
        data.load(str(tmp_path))
