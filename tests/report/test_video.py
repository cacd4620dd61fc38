"""Films: what the encoder is given, and what is said where there is none or it fails."""

import subprocess

import numpy as np
import pytest

from ganjax.errors import RunError
from ganjax.report import video

FRAMES = np.zeros((3, 5, 6, 1), np.uint8)
FRAMES[:, :, :3] = 200


@pytest.mark.skipif(video.encoder() is None, reason=f"no encoder: {video.HOW}")
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_film_that_is_read_back(channels, tmp_path):
    frames = np.broadcast_to(FRAMES.repeat(8, 1).repeat(8, 2), (3, 40, 48, 1))
    frames = np.concatenate([frames] * min(channels, 3), -1)
    if channels == 4:
        frames = np.concatenate([frames, np.full((3, 40, 48, 1), 255, np.uint8)], -1)
    path = tmp_path / "deep" / "film.mp4"
    video.save_mp4(path, frames[:, :39], fps=12)
    assert path.read_bytes()[4:8] == b"ftyp"
    program = video.encoder()
    assert program is not None
    read = [program, "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = np.frombuffer(subprocess.run(read, capture_output=True, check=True).stdout, np.uint8)
    found = pixels.reshape(3, 40, 48, 3).astype(int)  # of even sides
    assert np.abs(found[:, 4:36, 4:20] - 200).max() <= 6
    assert np.abs(found[:, 4:36, 28:44]).max() <= 6


def test_without_an_encoder(monkeypatch, tmp_path):
    monkeypatch.setattr(video, "encoder", lambda: None)
    with pytest.raises(RunError, match=r"film.mp4: there is no encoder .*ganjax\[video\]"):
        video.save_mp4(tmp_path / "film.mp4", FRAMES, 12)


def test_an_encoder_that_fails(monkeypatch, tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho 'first' >&2\necho 'no libx264 here' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(video, "encoder", lambda: str(program))
    with pytest.raises(RunError, match="ffmpeg failed: no libx264 here"):
        video.save_mp4(tmp_path / "film.mp4", FRAMES, 12)
    assert not (tmp_path / "film.mp4").exists()


@pytest.mark.parametrize(
    ("frames", "fps"), [(FRAMES[0], 12), (FRAMES.astype(np.float32), 12), (FRAMES[:0], 12), (FRAMES, 0)]
)
def test_what_is_no_film(frames, fps, tmp_path):
    with pytest.raises(ValueError, match="save_mp4"):
        video.save_mp4(tmp_path / "film.mp4", frames, fps)
