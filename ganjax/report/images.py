"""Sample sheets and animations: from a batch of images to one PNG or GIF."""

import io
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from ganjax.report.files import write_atomically

LEGIBLE_CELL = 48  # pixels: below this, `grid` enlarges
LARGEST_SHEET = 1600  # pixels: `grid` does not enlarge a sheet beyond this

PALETTE_SAMPLE = 1 << 18  # pixels that a reduced palette is chosen from


def to_uint8(images: Any) -> np.ndarray:
    """Images as files hold them.

    -1 becomes 0, 0 becomes 128, 1 becomes 255; halves are rounded up and what lies outside is clipped.
    Undoes `pixels / 127.5 - 1` exactly.

    Args:
      images: floats of any shape in [-1, 1], numpy or jax.

    Returns:
      numpy uint8 of the same shape.

    Raises:
      ValueError: the values are not floats, or some are NaN.
    """
    values = np.asarray(images)
    if values.dtype.kind in "biu":
        raise ValueError(f"to_uint8: expected floats in [-1, 1], got {values.dtype}")
    values = values.astype(np.float32)
    if np.isnan(values).any():
        raise ValueError(f"to_uint8: {np.isnan(values).sum()} of {values.size} values are NaN")
    return np.clip(np.floor(values * 127.5 + 128.0), 0, 255).astype(np.uint8)


def _check(caller: str, images: np.ndarray, axes: str) -> None:
    if images.dtype != np.uint8 or images.ndim != len(axes) or images.shape[-1] not in (1, 3, 4):
        shape = ", ".join(axes)
        raise ValueError(
            f"{caller}: expected uint8 [{shape}] with C of 1, 3 or 4, got {images.dtype} {list(images.shape)}"
        )
    if images.size == 0:
        raise ValueError(f"{caller}: there is nothing to draw in {list(images.shape)}")


def _legible_scale(height: int, width: int, rows: int, columns: int, padding: int) -> int:
    scale = -(-LEGIBLE_CELL // min(height, width))
    while scale > 1 and (
        rows * (height * scale + padding) + padding > LARGEST_SHEET
        or columns * (width * scale + padding) + padding > LARGEST_SHEET
    ):
        scale -= 1
    return max(scale, 1)


def grid(
    images: np.ndarray,
    columns: int,
    *,
    padding: int = 2,
    scale: int | None = None,
    background: int = 255,
) -> np.ndarray:
    """One sheet of images, row by row.

    Args:
      images: uint8 [N, H, W, C], C of 1, 3 or 4.
      columns: images to a row; the last row may stay unfinished.
      padding: pixels of the sheet around and between images.
      scale: each pixel becomes a square of `scale` x `scale`. None enlarges small images to cells of
        about 48 pixels, as long as the sheet stays within 1600.
      background: what fills the padding and the missing cells, in every channel.

    Returns:
      uint8 [R * (H * scale + padding) + padding, columns * (W * scale + padding) + padding, C] of
      R = ceil(N / columns) rows.

    Raises:
      ValueError: another type or shape, no images, or columns, padding or scale out of range.
    """
    images = np.asarray(images)
    _check("grid", images, "NHWC")
    if columns < 1:
        raise ValueError(f"grid: columns={columns}: expected at least 1")
    if padding < 0:
        raise ValueError(f"grid: padding={padding}: expected at least 0")
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    if scale is None:
        scale = _legible_scale(height, width, rows, columns, padding)
    if scale < 1:
        raise ValueError(f"grid: scale={scale}: expected at least 1")
    cells = images.repeat(scale, axis=1).repeat(scale, axis=2)
    down, across = height * scale + padding, width * scale + padding
    sheet = np.full((rows * down + padding, columns * across + padding, channels), background, np.uint8)
    for i, cell in enumerate(cells):
        top, left = i // columns * down + padding, i % columns * across + padding
        sheet[top : top + height * scale, left : left + width * scale] = cell
    return sheet


def sheet(images: Any, columns: int) -> np.ndarray:
    """`grid` of images as networks give them, floats [N, H, W, C] in [-1, 1]."""
    return grid(to_uint8(images), columns)


def strip(frames: np.ndarray, *, padding: int = 2, scale: int | None = None) -> np.ndarray:
    """A film strip: `grid` with all of `frames`, uint8 [T, H, W, C], in one row."""
    return grid(frames, columns=max(len(frames), 1), padding=padding, scale=scale)


def encode_png(image: np.ndarray) -> bytes:
    """A PNG file of `image`, uint8 [H, W, C]: grey, RGB or RGBA for C of 1, 3 or 4.

    Raises:
      ValueError: another type or shape.
    """
    image = np.asarray(image)
    _check("encode_png", image, "HWC")
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: epath.PathLike, image: np.ndarray) -> None:
    """Writes a PNG that reads back to the same pixels, whole or not at all.

    Args:
      path: a local path or a bucket's; its folder is made.
      image: uint8 [H, W, C]: grey, RGB or RGBA for C of 1, 3 or 4.

    Raises:
      ValueError: another type or shape.
      RunError: the file can't be written.
    """
    write_atomically(path, encode_png(image))


def save_gif(path: epath.PathLike, frames: np.ndarray, fps: float, loop: bool = True) -> None:
    """Writes an animation, whole or not at all.

    All frames share one palette and nothing is dithered, so what stands still does not flicker. Up to 256
    distinct colours in all (grey images always) are kept exactly; more are reduced by median cut, which
    may show as bands where colours change slowly.
    GIF counts time in hundredths of a second: delays vary by one, so that the whole keeps to `fps`.

    Args:
      path: a local path or a bucket's; its folder is made.
      frames: uint8 [T, H, W, C], C of 1, 3 or 4. Transparency is laid over white.
      fps: frames a second, above 0 and at most 50 (browsers slow down what is faster).
      loop: play for ever; else once.

    Raises:
      ValueError: another type or shape, or `fps` out of range.
      RunError: the file can't be written.
    """
    frames = np.asarray(frames)
    _check("save_gif", frames, "THWC")
    if not 0 < fps <= 50:
        raise ValueError(f"save_gif: fps={fps}: expected above 0 and at most 50")
    indices, palette = _shared_palette(opaque(frames))
    pictures = []
    for index in indices:
        picture = Image.fromarray(index)
        picture.putpalette(palette.tobytes())
        pictures.append(picture)
    ends = [round(100 * (i + 1) / fps) for i in range(len(frames))]
    delays = [10 * (end - start) for start, end in zip([0, *ends], ends, strict=False)]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=delays,
        palette=palette.tobytes(),  # given, Pillow writes it once and no table of their own for the frames
        optimize=False,
        **({"loop": 0} if loop else {}),
    )
    write_atomically(path, buffer.getvalue())


def opaque(frames: np.ndarray) -> np.ndarray:
    """RGB [T, H, W, 3] of grey, RGB or RGBA frames."""
    if frames.shape[-1] == 1:
        return frames.repeat(3, axis=-1)
    if frames.shape[-1] == 3:
        return frames
    alpha = frames[..., 3:].astype(np.float32) / 255
    return np.floor(frames[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


def _shared_palette(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [T, H, W] indices into a uint8 [K, 3] palette of distinct colours, K <= 256."""
    packed = _packed(frames)
    colours = np.unique(packed[0])
    for frame in packed[1:]:
        if len(colours) > 256:
            break
        colours = np.union1d(colours, frame)
    if len(colours) <= 256:
        indices = np.searchsorted(colours, packed)
    else:
        colours, indices = _reduced(frames)
    return indices.astype(np.uint8), _unpacked(colours)


def _packed(colours: np.ndarray) -> np.ndarray:
    """RGB [..., 3] as one number each, uint32 [...]."""
    return colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)


def _unpacked(colours: np.ndarray) -> np.ndarray:
    """uint8 RGB [..., 3] of packed colours."""
    return np.stack([colours >> 16 & 255, colours >> 8 & 255, colours & 255], axis=-1).astype(np.uint8)


def _reduced(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 256 packed colours, and indices [T, H, W] into them."""
    count, height, width, _ = frames.shape
    pixels = frames.reshape(-1, 3)
    sample = pixels
    if len(pixels) > PALETTE_SAMPLE:  # at random, for a fixed stride may keep to a few columns
        sample = pixels[np.random.default_rng(0).integers(len(pixels), size=PALETTE_SAMPLE)]
    reduced = Image.fromarray(sample[None]).quantize(256, method=Image.Quantize.MEDIANCUT)
    colours = np.unique(_packed(np.array(reduced.getpalette()).reshape(-1, 3)))
    palette = Image.new("P", (1, 1))
    # Filled up with its last colour: Pillow may choose from all 256 entries.
    padded = np.pad(colours, (0, 256 - len(colours)), mode="edge")
    palette.putpalette(_unpacked(padded).tobytes())
    tall = Image.fromarray(np.ascontiguousarray(frames).reshape(count * height, width, 3))
    indices = np.asarray(tall.quantize(palette=palette, dither=Image.Dither.NONE))
    indices = np.minimum(indices, len(colours) - 1).reshape(count, height, width)
    # Pillow looks up colours to the nearest four levels; what the palette has can be exact.
    packed = _packed(frames)
    exact = np.minimum(np.searchsorted(colours, packed), len(colours) - 1)
    return colours, np.where(colours[exact] == packed, exact, indices)
