import io
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from ganjax.data import images
from ganjax.errors import RunError, UsageError


def encode(array_or_image, kind="PNG", **options):
    image = array_or_image
    if not isinstance(image, Image.Image):
        image = Image.fromarray(np.asarray(array_or_image))
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
RGB = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)


def test_decodes_exactly():
    np.testing.assert_array_equal(images.decode(encode(GREY), "x"), GREY[..., None])
    np.testing.assert_array_equal(images.decode(encode(RGB), "x"), RGB)
    assert images.probe(encode(RGB), "x") == (3, 4, 3)
    assert images.probe(encode(GREY), "x") == (3, 4, 1)


def test_channels():
    np.testing.assert_array_equal(images.decode(encode(GREY), "x", 3), np.stack([GREY] * 3, -1))
    rgba = images.decode(encode(RGB), "x", 4)
    np.testing.assert_array_equal(rgba[..., :3], RGB)
    assert (rgba[..., 3] == 255).all()
    red = np.zeros((1, 1, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    assert images.decode(encode(red), "x", 1).item() == 76  # 0.299 * 255, ITU-R 601


def test_transparent_becomes_white_without_alpha():
    rgba = np.zeros((1, 2, 4), np.uint8)
    rgba[0, 0] = [9, 8, 7, 255]
    content = encode(rgba)
    np.testing.assert_array_equal(images.decode(content, "x"), rgba)
    np.testing.assert_array_equal(images.decode(content, "x", 3), [[[9, 8, 7], [255, 255, 255]]])
    assert images.decode(content, "x", 1)[0, 1, 0] == 255


def test_palette():
    palette = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(images.decode(encode(palette), "x"), np.asarray(palette.convert("RGB")))
    holes = Image.new("P", (1, 1), 0)
    holes.putpalette([10, 20, 30])
    content = encode(holes, transparency=0)
    np.testing.assert_array_equal(images.decode(content, "x"), [[[255, 255, 255]]])
    assert images.decode(content, "x", 4)[0, 0, 3] == 0


def test_a_transparent_colour():
    content = encode(np.array([[0, 50]], np.uint8), transparency=0)
    np.testing.assert_array_equal(images.decode(content, "x")[0, :, 0], [255, 50])
    np.testing.assert_array_equal(images.decode(content, "x", 4)[0, :, 3], [0, 255])


def test_sixteen_bits_are_scaled():
    deep = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    np.testing.assert_array_equal(images.decode(encode(deep), "x")[0, :, 0], [0, 0, 1, 1, 128, 255])


def test_cmyk_and_floats():
    cmyk = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    assert images.decode(encode(cmyk, "TIFF"), "x").tolist()[0][0] == [255, 0, 0]
    with pytest.raises(RunError, match=r"x.tif: floating-point"):
        images.decode(encode(np.zeros((2, 2), np.float32), "TIFF"), "x.tif")


@pytest.mark.parametrize(
    ("image", "kind", "channels", "expected"),
    [
        (Image.new("LA", (1, 1), (40, 255)), "PNG", None, [40]),
        (Image.new("LA", (1, 1), (40, 0)), "PNG", None, [255]),  # transparent: laid on white
        (Image.new("LA", (1, 1), (40, 0)), "PNG", 4, [40, 40, 40, 0]),
        (Image.new("1", (1, 1), 1), "PNG", None, [255]),
        (Image.new("1", (1, 1), 0), "PNG", 3, [0, 0, 0]),
        (Image.new("I", (1, 1), 32896), "TIFF", 3, [128, 128, 128]),
        (Image.new("I;16", (1, 1), 32896), "TIFF", None, [128]),
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF", 1, [76]),
        (Image.new("YCbCr", (1, 1), (255, 128, 128)), "TIFF", None, [255, 255, 255]),
        (Image.new("RGBA", (1, 1), (9, 8, 7, 255)), "WEBP", 3, [9, 8, 7]),
    ],
    ids=lambda x: x if isinstance(x, str) else getattr(x, "mode", None),
)
def test_modes(image, kind, channels, expected):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert images.decode(encode(image, kind, **options), "x", channels)[0, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(kind):
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(content)) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert images.decode(content, "x", 3)[0, 0].tolist() == [255, 0, 0]


def test_values_without_a_known_range():
    deep = Image.fromarray(np.array([[70_000]], np.int32))
    with pytest.raises(RunError, match=r"x.tif: pixels outside 0 to 65535; save the image with 8 bits"):
        images.decode(encode(deep, "TIFF"), "x.tif")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_whatever_is_wrong_the_error_names_the_file(kind):
    """Bytes are changed and cut off at random: an image comes out, or an error of one line."""
    draw = np.random.default_rng(0)
    content = np.frombuffer(encode(np.kron(RGB, np.ones((5, 5, 1), np.uint8)), kind), np.uint8)
    errors = []
    for _ in range(60):
        changed = content[: draw.integers(len(content) // 2, len(content) + 1)].copy()
        places = draw.integers(0, len(changed), 3)
        changed[places] = draw.integers(0, 256, 3)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, of tags that it doesn't understand
                images.decode(changed.tobytes(), "cat.png", 3, (4, 4), oriented=True)
        except RunError as error:
            errors.append(str(error))
    assert len(errors) > 5
    for text in errors:
        assert text.startswith("cat.png: ")
        assert text.isprintable()


def test_exif_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    content = encode(GREY, exif=exif)
    np.testing.assert_array_equal(images.decode(content, "x", oriented=True)[..., 0], np.rot90(GREY, -1))
    assert images.probe(content, "x", oriented=True) == (4, 3, 1)
    np.testing.assert_array_equal(images.decode(content, "x")[..., 0], GREY)


def test_resizing():
    steps = np.kron(np.array([[0, 200], [100, 40]], np.uint8), np.ones((8, 8), np.uint8))
    small = images.decode(encode(steps), "x", size=(4, 4))[..., 0]
    assert small.shape == (4, 4)
    # antialiased: the finest checkers become their mean and not a pick of them
    checkers = np.indices((16, 16)).sum(0).astype(np.uint8) % 2 * 200
    np.testing.assert_allclose(images.decode(encode(checkers), "x", size=(4, 4)), 100, atol=12)
    assert images.decode(encode(GREY), "x", size=(7, 9)).shape == (7, 9, 1)


def test_crops_the_centre_rather_than_stretch():
    wide = np.repeat(np.array([[0, 0, 50, 100, 0, 0]], np.uint8), 2, 0)
    np.testing.assert_array_equal(images.decode(encode(wide), "x", size=(2, 2))[..., 0], [[50, 100]] * 2)
    tall = wide.T.copy()
    np.testing.assert_array_equal(images.decode(encode(tall), "x", size=(2, 2))[..., 0].T, [[50, 100]] * 2)


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", encode(RGB)[:50], encode(RGB, "JPEG")[:-200]],
    ids=["empty", "foreign", "cut png", "cut jpeg"],
)
def test_bad_images_are_named(content):
    with pytest.raises(RunError, match=r"^cat.png: .*remove or replace it$"):
        images.decode(content, "cat.png")


@pytest.mark.parametrize("size", [0, -3, (4,), (4, 0), (1, 2, 3), (2.5, 2)])
def test_bad_sizes(size):
    with pytest.raises(UsageError, match="image_size="):
        images.check_size(size)


def test_good_sizes_and_channels():
    assert images.check_size(None) is None
    assert images.check_size(8) == (8, 8)
    assert images.check_size([8, 4]) == (8, 4)
    with pytest.raises(UsageError, match="channels=2"):
        images.check_channels(2)


def test_stack_in_this_thread():
    used = set()

    def make(place):
        used.add(threading.current_thread())
        return np.full((1, 1, 1), place, np.uint8)

    with images.in_this_thread(), images.in_this_thread():
        pass
    images.stack(make, 200, (1, 1, 1))
    assert threading.current_thread() not in used
    used.clear()
    with images.in_this_thread():
        stacked = images.stack(make, 200, (1, 1, 1))
    assert used == {threading.current_thread()}
    np.testing.assert_array_equal(stacked.ravel(), np.arange(200))


def test_stack_keeps_the_order():
    stacked = images.stack(lambda i: np.full((1, 1, 1), i, np.uint8), 200, (1, 1, 1))
    np.testing.assert_array_equal(stacked.ravel(), np.arange(200))
    assert images.stack(lambda i: np.zeros((1, 1, 1), np.uint8), 0, (1, 1, 1)).shape == (0, 1, 1, 1)


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("crop", [[1, 2], [1, 2]]),  # the middle of 0 1 2 3
        ("pad", [[0, 0, 0, 0], [9, 1, 2, 3], [9, 1, 2, 3], [0, 0, 0, 0]]),
        ("stretch", [[9, 1, 2, 3], [9, 1, 2, 3], [9, 1, 2, 3], [9, 1, 2, 3]]),
    ],
)
def test_ways_to_another_size(resize, expected):
    """A strip of 2x4: a part of it, or as it is with black around it, or its rows twice as high."""
    strip = np.array([[9, 1, 2, 3]] * 2, np.uint8) * 20
    size = np.shape(expected)
    np.testing.assert_array_equal(
        images.decode(encode(strip), "x", 1, size, resize=resize)[..., 0], np.multiply(expected, 20)
    )
    upright = images.fit_array(strip.T[..., None], 1, size[::-1], resize)[..., 0]
    np.testing.assert_array_equal(upright, np.multiply(expected, 20).T)


def test_padding_is_transparent_where_there_is_alpha():
    padded = images.decode(encode(RGB), "x", 4, (8, 8), resize="pad")
    assert padded[:, :, 3].tolist() == [[0] * 8, *[[255] * 8] * 6, [0] * 8]
    one = images.decode(encode(np.full((1, 40), 7, np.uint8)), "x", 1, (3, 3), resize="pad")
    assert one[..., 0].tolist() == [[0] * 3, [7] * 3, [0] * 3]
    with pytest.raises(UsageError, match="resize=fill: expected crop, pad, stretch"):
        images.check_resize("fill")
