"""Images of the user's, and where the pictures of them may lie."""

import numpy as np
import pytest
from etils import epath
from PIL import Image

from ganjax.cli.given import Given
from ganjax.cli.translate import free_name
from ganjax.errors import UsageError

BLACK = np.zeros((4, 4), np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name in ("in/a.png", "in/sub/b.png", "beside/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(BLACK).save(tmp_path / name)
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/a.png").symlink_to("../in/a.png")
    (tmp_path / "linked/c.png").symlink_to("../in/sub/b.png")
    Image.fromarray(BLACK).save(tmp_path / "beside/highest.png")
    (tmp_path / "sheet").mkdir()
    (tmp_path / "sheet/d.png").symlink_to("../beside/highest.png")  # where the sheet would come to lie
    return tmp_path


def given(path) -> Given:
    return Given(str(path), (4, 4, 1), False)


@pytest.mark.parametrize(
    ("images", "out", "message"),
    [
        ("in", "in", "the images lie there themselves"),
        ("in", "link", "the images lie there themselves"),
        ("link", "in", "the images lie there themselves"),
        ("linked", "in", "the images lie there themselves"),  # links to the images of another folder
        ("sheet", "beside", "the images lie there themselves"),
        ("in", "linked", "the images lie there themselves"),
        ("in/a.png", "in", "the images lie there themselves"),
        ("in", "in/new", "it lies in --input="),
        ("in", "link/new", "it lies in --input="),
        ("in", "in/sub", "it lies in --input="),
    ],
)
def test_pictures_do_not_take_the_place_of_images(folder, images, out, message):
    with pytest.raises(UsageError, match=message):
        given(folder / images).check_apart(epath.Path(folder / out), "highest")


@pytest.mark.parametrize(("images", "out"), [("in", "input"), ("in/sub", "in"), ("in/a.png", "in/new")])
def test_pictures_elsewhere(folder, images, out):
    given(folder / images).check_apart(epath.Path(folder / out), "highest")


def test_pictures_beside_an_npz(folder):
    np.savez(folder / "two.npz", image=np.zeros((2, 4, 4, 1), np.uint8))
    two = given(folder / "two.npz")
    assert two.names == ["0", "1"]
    two.check_apart(epath.Path(folder), "highest")


def test_a_name_that_no_image_has(folder):
    assert free_name("highest", given(folder / "in").names) == "highest"
    assert free_name("c", given(folder / "beside").names) == "c_"
