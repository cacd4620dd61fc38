"""One image: decoded, turned to the wanted channels, cropped and resized to the wanted size."""

import concurrent.futures
import contextlib
import functools
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ganjax.errors import RunError, UsageError, one_line

if TYPE_CHECKING:  # Pillow itself is imported where it is used: `import ganjax.data` stays light
    from PIL import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
# Pillow goes by a file's content, not by its name, and would have Ghostscript run what looks like PostScript.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_WORKERS = min(32, os.cpu_count() or 1)
# How an image comes to another size: its largest centred part of these proportions, all of it with black
# around it (transparent, where there is alpha), or all of it out of its own proportions.
RESIZES = ("crop", "pad", "stretch")
_here = threading.local()  # `alone`: this thread decodes by itself
_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})


class Damaged(RunError):
    """The content of an image can't be decoded; other images of the set may be whole."""


def check_size(image_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(H, W) from what a user gave: one number for a square, or two.

    Raises:
      UsageError: not one or two positive integers.
    """
    if image_size is None:
        return None
    sizes = (image_size, image_size) if isinstance(image_size, int | np.integer) else tuple(image_size)
    if len(sizes) != 2 or not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        raise UsageError(f"image_size={image_size}: expected a positive integer or a pair (height, width)")
    return int(sizes[0]), int(sizes[1])


def check_channels(channels: int | None) -> int | None:
    """The number of channels that a user gave: 1 (grey), 3 (RGB), 4 (RGBA) or None.

    Raises:
      UsageError: any other number.
    """
    if channels is not None and channels not in _MODES:
        raise UsageError(f"channels={channels}: expected 1 (grey), 3 (RGB) or 4 (RGBA)")
    return channels


def check_resize(resize: str) -> str:
    """Raises UsageError unless it is one of `RESIZES`."""
    if resize not in RESIZES:
        raise UsageError(f"resize={resize}: expected {', '.join(RESIZES)}")
    return resize


def native_channels(mode: str) -> int:
    """The channels in which an image of this Pillow mode is kept if nothing else is asked for."""
    if mode in _GREY:
        return 1
    return 4 if mode in ("RGBA", "RGBa") else 3


def probe(content: bytes, name: str, *, oriented: bool = False) -> tuple[int, int, int]:
    """(H, W, C) of an encoded image, without decoding its pixels.

    Args:
      content: the file's bytes.
      name: how errors call it.
      oriented: whether the EXIF orientation is to be obeyed.
    Raises:
      RunError: this is no image, or not in one of the formats of `SUFFIXES`.
    """
    from PIL import Image

    with _reading(name), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        width, height = image.size
        # 5 to 8 are the orientations that exchange the axes. PNG's own getexif would decode the pixels
        if oriented and Image.Image.getexif(image).get(0x0112, 1) in (5, 6, 7, 8):
            width, height = height, width
        return height, width, native_channels(image.mode)


def decode(
    content: bytes,
    name: str,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    *,
    oriented: bool = False,
    resize: str = "crop",
) -> np.ndarray:
    """An encoded image as uint8 [H, W, C].

    Args:
      content: the file's bytes, in one of the formats of `SUFFIXES`.
      name: how errors call it.
      channels: 1, 3 or 4; None keeps the image's own.
      size: (H, W) to bring it to; None keeps the image's own.
      oriented: whether the EXIF orientation is to be obeyed.
      resize: how, one of `RESIZES`.
    Raises:
      RunError: the image can't be decoded, or holds values without a known range.
    """
    from PIL import Image, ImageOps

    with _reading(name), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        image.load()
        upright = ImageOps.exif_transpose(image) if oriented else image
        return fit(upright, channels or native_channels(image.mode), size, name, resize)


def fit(
    image: "Image.Image",
    channels: int,
    size: tuple[int, int] | None,
    name: str = "image",
    resize: str = "crop",
) -> np.ndarray:
    """A Pillow image as uint8 [H, W, C], brought to the size as `resize` says, one of `RESIZES`.

    Shrinking is antialiased (Lanczos), growing bicubic.
    """
    image = _convert(image, channels, name)
    if size is not None and (image.height, image.width) != size:
        image = _resized(image, size, resize)
    array = np.asarray(image, np.uint8)
    return array[..., None] if array.ndim == 2 else array


def _resized(image: "Image.Image", size: tuple[int, int], resize: str) -> "Image.Image":
    from PIL import Image

    height, width = size
    scales = image.width / width, image.height / height
    scale = min(scales) if resize == "crop" else max(scales)
    resample = Image.Resampling.LANCZOS if scale > 1 else Image.Resampling.BICUBIC
    if resize == "stretch":
        return image.resize((width, height), resample)
    if resize == "crop":
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        box = (left, top, left + scale * width, top + scale * height)
        return image.resize((width, height), resample, box=box)
    across, down = max(round(image.width / scale), 1), max(round(image.height / scale), 1)
    sheet = Image.new(image.mode, (width, height))
    sheet.paste(image.resize((across, down), resample), ((width - across) // 2, (height - down) // 2))
    return sheet


def fit_array(
    array: np.ndarray, channels: int, size: tuple[int, int] | None, resize: str = "crop"
) -> np.ndarray:
    """A decoded image, uint8 [H, W, C], as `fit` makes it."""
    if array.shape[-1] == channels and (size is None or array.shape[:2] == size):
        return array
    from PIL import Image

    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    return fit(image, channels, size, resize=resize)


@contextlib.contextmanager
def in_this_thread() -> Iterator[None]:
    """Within it, `stack` makes images in the calling thread: for one that is itself one of several."""
    before, _here.alone = getattr(_here, "alone", False), True
    try:
        yield
    finally:
        _here.alone = before


def stack(make: Callable[[int], np.ndarray], count: int, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 [count, *shape] of the images `make(0)` to `make(count - 1)`, made by several threads."""
    result = np.empty((count, *shape), np.uint8)
    if getattr(_here, "alone", False):
        for place in range(count):
            result[place] = make(place)
        return result
    chunk = min(64, -(-count // _WORKERS))  # a task an image would cost more than a small image

    def fill(start: int) -> None:
        for place in range(start, min(start + chunk, count)):
            result[place] = make(place)

    for _ in _threads().map(fill, range(0, count, chunk or 1)):  # Pillow works outside Python's lock
        pass
    return result


def _convert(image: "Image.Image", channels: int, name: str) -> "Image.Image":
    """The image in the Pillow mode of 1, 3 or 4 channels with 8 bits each."""
    from PIL import Image

    target = _MODES[channels]
    if image.mode == "F":
        raise RunError(f"{name}: floating-point pixels have no known range; save the image with 8 bits")
    if image.mode.startswith("I"):  # convert("L") would clip at 255 instead of scaling
        values = np.asarray(image)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise RunError(f"{name}: pixels outside 0 to 65535; save the image with 8 bits")
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        # Colours under transparent pixels are arbitrary: without an alpha channel they'd come to light
        image = image.convert("RGBA")
    if image.mode == "RGBA" and channels != 4:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == target else image.convert(target)


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turns whatever Pillow raises on a bad image into a `Damaged` that names the image."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except (RunError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise Damaged(f"{name}: not an image in a known format; remove or replace it") from error
    except Exception as error:  # each of Pillow's decoders has its own
        raise Damaged(
            f"{name}: the image can't be decoded ({one_line(error)}); remove or replace it"
        ) from error


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(_WORKERS, thread_name_prefix="ganjax-images")
