import io
import struct

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageSequence

from ganjax.report import images


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


# to_uint8


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_to_uint8_golden(array):
    # (x + 1) * 127.5: 0.5/127.5 above -1 is the half between 0 and 1
    values = array([-1.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.0, 0.5, 1.0, -3.0, 7.0])
    out = images.to_uint8(values)
    assert type(out) is np.ndarray
    assert out.dtype == np.uint8
    assert out.tolist() == [0, 0, 1, 128, 191, 255, 0, 255]


def test_to_uint8_undoes_normalization_of_all_256_values():
    pixels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(images.to_uint8(pixels.astype(np.float32) / 127.5 - 1), pixels)
    assert np.array_equal(images.to_uint8(jnp.asarray(pixels, jnp.float32) / 127.5 - 1), pixels)


def test_to_uint8_takes_bfloat16_and_infinities():
    assert images.to_uint8(jnp.asarray([-1, 0, 1], jnp.bfloat16)).tolist() == [0, 128, 255]
    assert images.to_uint8(np.array([-np.inf, np.inf])).tolist() == [0, 255]


def test_to_uint8_refuses():
    with pytest.raises(ValueError, match="1 of 2 values are NaN"):
        images.to_uint8(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="got uint8"):
        images.to_uint8(np.zeros(2, np.uint8))


# grid and strip


def test_grid_golden():
    a, b, c = (np.full((1, 2, 1), value, np.uint8) for value in (10, 20, 30))
    sheet = images.grid(np.stack([a, b, c]), 2, padding=1, scale=1, background=0)
    assert sheet[..., 0].tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 10, 10, 0, 20, 20, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 30, 30, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grid_enlarges_by_nearest_neighbour(channels):
    image = random_images(1, 2, 3, channels)
    sheet = images.grid(image, 1, padding=2, scale=4)
    assert sheet.shape == (2 * 4 + 4, 3 * 4 + 4, channels)
    inside = sheet[2:-2, 2:-2]
    assert np.array_equal(inside, np.kron(image[0], np.ones((4, 4, 1), np.uint8)))
    sheet[2:-2, 2:-2] = 255
    assert (sheet == 255).all()


@pytest.mark.parametrize(
    ("count", "size", "columns", "scale"),
    [
        (16, 28, 4, 2),  # 56 a cell
        (16, 8, 4, 6),  # exactly 48
        (16, 64, 4, 1),
        (4, 1, 2, 48),
        (27 * 27, 28, 27, 2),  # 27 * 58 + 2 = 1568
        (28 * 28, 28, 28, 1),  # 28 * 58 + 2 = 1626 would be too large
        (54, 28, 27, 2),
        (64, 1024, 8, 1),  # large anyway: not enlarged, not refused
    ],
)
def test_grid_picks_a_scale(count, size, columns, scale, monkeypatch):
    chosen = images._legible_scale(size, size, -(-count // columns), columns, 2)
    assert chosen == scale
    if count <= 16:
        small = np.zeros((count, size, size, 1), np.uint8)
        assert np.array_equal(images.grid(small, columns), images.grid(small, columns, scale=scale))


def test_grid_keeps_the_asked_columns_for_few_images():
    assert images.grid(random_images(2, 4, 4, 3), 5, scale=1).shape == (8, 5 * 6 + 2, 3)


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "message"),
    [
        ((2, 4, 4, 3), np.float32, {}, r"expected uint8 \[N, H, W, C\].*float32"),
        ((2, 4, 4, 2), np.uint8, {}, r"C of 1, 3 or 4"),
        ((4, 4, 3), np.uint8, {}, r"\[4, 4, 3\]"),
        ((0, 4, 4, 3), np.uint8, {}, "nothing to draw"),
        ((2, 4, 4, 3), np.uint8, {"columns": 0}, "columns=0"),
        ((2, 4, 4, 3), np.uint8, {"padding": -1}, "padding=-1"),
        ((2, 4, 4, 3), np.uint8, {"scale": 0}, "scale=0"),
    ],
)
def test_grid_refuses(shape, dtype, options, message):
    with pytest.raises(ValueError, match=message):
        images.grid(np.zeros(shape, dtype), **{"columns": 2, **options})


def test_strip_is_one_row():
    frames = random_images(3, 4, 5, 3)
    assert np.array_equal(images.strip(frames, scale=1), images.grid(frames, 3, scale=1))
    with pytest.raises(ValueError, match="nothing to draw"):
        images.strip(frames[:0])


# PNG


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_reads_back_exactly(tmp_path, channels):
    image = random_images(5, 7, channels)
    path = tmp_path / "samples" / "00001000.png"
    images.save_png(path, image)
    back = np.asarray(Image.open(path))
    assert np.array_equal(back if back.ndim == 3 else back[..., None], image)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["00001000.png"]


def test_png_refuses_floats(tmp_path):
    with pytest.raises(ValueError, match="float64"):
        images.save_png(tmp_path / "x.png", np.zeros((4, 4, 3)))
    assert list(tmp_path.iterdir()) == []


# GIF


def frames_of(path) -> np.ndarray:
    with Image.open(path) as gif:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)])


def delays_of(path) -> list[int]:
    with Image.open(path) as gif:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]


def local_tables(data: bytes) -> list[bool]:
    """Whether each image block has a colour table of its own (GIF89a, sections 18, 20, 22, 24-26)."""
    stream = io.BytesIO(data)
    flags = struct.unpack("<6sHHBBB", stream.read(13))[3]
    assert flags & 0x80, "no global colour table"
    stream.read(3 << (flags & 7) + 1)
    tables = []
    while (kind := stream.read(1)) != b";":
        if kind == b"!":
            stream.read(1)
        else:
            assert kind == b","
            flags = struct.unpack("<HHHHB", stream.read(9))[4]
            tables.append(bool(flags & 0x80))
            stream.read((3 << (flags & 7) + 1) * tables[-1] + 1)
        while length := stream.read(1)[0]:
            stream.read(length)
    return tables


def test_gif_keeps_all_256_greys(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    frames = np.stack([ramp, ramp[::-1], ramp.transpose(1, 0, 2)])
    images.save_gif(tmp_path / "x.gif", frames, 10)
    assert np.array_equal(frames_of(tmp_path / "x.gif"), frames.repeat(3, -1))
    assert local_tables((tmp_path / "x.gif").read_bytes()) == [False] * 3


def test_gif_keeps_few_colours_exactly_even_if_alike(tmp_path):
    palette = np.array([[200, 10 + i, 30] for i in range(100)], np.uint8)
    frames = palette[np.random.default_rng(1).integers(0, 100, (4, 9, 8))]
    images.save_gif(tmp_path / "x.gif", frames, 10)
    assert np.array_equal(frames_of(tmp_path / "x.gif"), frames)


def test_gif_of_many_colours_is_close_and_does_not_flicker(tmp_path):
    y, x = np.mgrid[:32, :32]
    still = np.stack([x * 8, y * 8, (x + y) * 4], -1).astype(np.uint8)
    frames = np.stack([still] * 4)
    for t, frame in enumerate(frames):
        frame[:8, 8 * t : 8 * t + 8] = [[0, 255, 0], [255, 0, 255], [1, 2, 3], [90, 200, 240]][t]
    images.save_gif(tmp_path / "x.gif", frames, 10)
    back = frames_of(tmp_path / "x.gif")
    assert local_tables((tmp_path / "x.gif").read_bytes()) == [False] * 4
    assert (back[:, 8:] == back[0, 8:]).all()
    assert np.abs(back.astype(int) - frames).mean() < 6
    assert len(np.unique(back.reshape(-1, 3), axis=0)) <= 256


def test_gif_keeps_few_colours_even_if_rare(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "PALETTE_SAMPLE", 4)
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[1, 3, 5] = [10, 200, 30]
    images.save_gif(tmp_path / "x.gif", frames, 10)
    assert np.array_equal(frames_of(tmp_path / "x.gif"), frames)


def test_gif_of_a_palette_chosen_from_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "PALETTE_SAMPLE", 200)
    y, x = np.mgrid[:40, :40]
    frames = np.stack([np.stack([x * 6, y * 6, (x + y + t) * 3], -1) for t in range(4)]).astype(np.uint8)
    images.save_gif(tmp_path / "x.gif", frames, 10)
    error = np.abs(frames_of(tmp_path / "x.gif").astype(int) - frames)
    assert error.mean() < 8
    assert error.max() < 50  # no corner was forgotten, none took a wrong colour


def test_gif_leaves_a_plain_background_plain(tmp_path):
    y, x = np.mgrid[:40, :40]
    light = [np.stack([255 - x // 2, 255 - y // 2, 255 - (x + y + t) // 4], -1) for t in range(2)]
    frames = np.stack(light).astype(np.uint8)
    frames[:, :, 20:] = 255
    images.save_gif(tmp_path / "x.gif", frames, 10)
    assert (frames_of(tmp_path / "x.gif")[:, :, 20:] == 255).all()


@pytest.mark.parametrize(
    ("fps", "delays"), [(10, [100, 100, 100]), (30, [30, 40, 30]), (50, [20] * 3), (0.5, [2000] * 3)]
)
def test_gif_delays_keep_to_fps(tmp_path, fps, delays):
    images.save_gif(tmp_path / "x.gif", random_images(3, 4, 4, 1), fps)
    assert delays_of(tmp_path / "x.gif") == delays


def test_gif_loops_or_not(tmp_path):
    images.save_gif(tmp_path / "x.gif", random_images(2, 4, 4, 3), 10)
    images.save_gif(tmp_path / "y.gif", random_images(2, 4, 4, 3), 10, loop=False)
    with Image.open(tmp_path / "x.gif") as x, Image.open(tmp_path / "y.gif") as y:
        assert x.info["loop"] == 0
        assert "loop" not in y.info


def test_gif_lays_transparency_over_white(tmp_path):
    frames = np.zeros((2, 2, 2, 4), np.uint8)
    frames[0, ..., 3] = 51  # a fifth of black: 255 * 0.8 = 204
    images.save_gif(tmp_path / "x.gif", frames, 10)
    back = frames_of(tmp_path / "x.gif")
    assert (back[0] == 204).all()
    assert (back[1] == 255).all()


def test_gif_of_one_frame_and_of_frames_that_are_equal(tmp_path):
    frame = random_images(1, 4, 4, 3)
    images.save_gif(tmp_path / "x.gif", frame, 10)
    images.save_gif(tmp_path / "y.gif", frame.repeat(3, 0), 10)
    assert np.array_equal(frames_of(tmp_path / "x.gif"), frame)
    assert np.array_equal(frames_of(tmp_path / "y.gif"), frame)
    assert delays_of(tmp_path / "y.gif") == [300]  # the same moment, three times as long


@pytest.mark.parametrize("fps", [0, -1, 51, float("nan")])
def test_gif_refuses_fps(tmp_path, fps):
    with pytest.raises(ValueError, match="fps="):
        images.save_gif(tmp_path / "x.gif", random_images(2, 4, 4, 3), fps)
