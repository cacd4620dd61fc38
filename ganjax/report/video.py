"""Films as MP4, by an encoder that is not ours: ffmpeg, of the system or of the package imageio-ffmpeg."""

import os
import shutil
import subprocess
import tempfile

import numpy as np
from etils import epath

from ganjax.errors import RunError, one_line
from ganjax.report.files import write_atomically
from ganjax.report.images import opaque

HOW = "install ffmpeg, or pip install 'ganjax[video]', which has one"


def encoder() -> str | None:
    """The path of an ffmpeg: the system's, or else that of the package imageio-ffmpeg; None without any."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg  # pyright: ignore[reportMissingImports] - an optional extra
    except ImportError:
        return None
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:  # a package without a program for this system
        return None


def save_mp4(path: epath.PathLike, frames: np.ndarray, fps: float) -> None:
    """Writes a film, H.264 in MP4, whole or not at all.

    It plays everywhere (4:2:0), so that sides are even: a white row or column is added where they are not.

    Args:
      path: a local path or a bucket's; its folder is made.
      frames: uint8 [T, H, W, C], C of 1, 3 or 4. Transparency is laid over white.
      fps: frames a second, above 0.
    Raises:
      ValueError: another type or shape, or `fps` out of range.
      RunError: there is no encoder, it fails, or the file can't be written.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3, 4) or not frames.size:
        raise ValueError(
            f"save_mp4: expected uint8 [T, H, W, C] with C of 1, 3 or 4, got {frames.dtype} {frames.shape}"
        )
    if not fps > 0:
        raise ValueError(f"save_mp4: fps={fps}: expected above 0")
    program = encoder()
    if program is None:
        raise RunError(f"{path}: there is no encoder for it here; {HOW}")
    height, width = frames.shape[1:3]
    even = np.pad(
        opaque(frames), ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=np.uint8(255)
    )
    size = f"{even.shape[2]}x{even.shape[1]}"
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(fps), "-i", "-"]
    made = ["-an", "-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    with tempfile.TemporaryDirectory() as folder:
        film = os.path.join(folder, "film.mp4")
        command = [program, "-v", "error", "-y", *given, *made, film]
        done = subprocess.run(command, input=even.tobytes(), capture_output=True, check=False)
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise RunError(f"{path}: {program} failed: {one_line(RuntimeError(lines[-1]))}")
        with open(film, "rb") as file:
            write_atomically(path, file.read())
