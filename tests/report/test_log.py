import io
import json
import math
import os
import struct
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from ganjax.errors import RunError
from ganjax.report import log
from ganjax.report.log import JsonlLog, TensorBoardLog, read_jsonl


def lines(path) -> list:
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


# metrics.jsonl


def test_a_line_is_in_the_file_when_write_returns(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    writer = JsonlLog(path)
    writer.write({"step": 1, "loss": 0.5})
    assert path.read_text() == '{"step": 1, "loss": 0.5}\n'
    writer.write({"step": 2})
    assert lines(path) == [{"step": 1, "loss": 0.5}, {"step": 2}]
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write({"step": 3})


def test_every_kind_of_number_becomes_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    record = {
        "step": np.int64(3),
        "nan": math.nan,
        "up": jnp.inf,
        "down": np.float32(-np.inf),
        "jax": jnp.float32(0.25),
        "half": jnp.asarray(0.5, jnp.bfloat16),
        "flag": np.bool_(True),
        "none": None,
        "text": "ü\n",
        "list": (1, np.array([1.5, np.nan])),
        "exact": 0.1 + 0.2,
    }
    with JsonlLog(path) as writer:
        writer.write(record)
    expected = {
        "step": 3,
        "nan": "nan",
        "up": "inf",
        "down": "-inf",
        "jax": 0.25,
        "half": 0.5,
        "flag": True,
        "none": None,
        "text": "ü\n",
        "list": [1, [1.5, "nan"]],
        "exact": 0.1 + 0.2,
    }
    assert lines(path) == [expected]
    (back,) = read_jsonl(path)
    assert math.isnan(back["nan"])
    assert (back["up"], back["down"]) == (math.inf, -math.inf)


def test_what_is_no_json_is_refused_and_writes_nothing(tmp_path):
    with JsonlLog(tmp_path / "m.jsonl") as writer, pytest.raises(TypeError, match="object"):
        writer.write({"step": 1, "x": object()})
    assert (tmp_path / "m.jsonl").read_bytes() == b""


def test_open_cuts_later_steps_and_half_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"note": "kept"}\n{"step": 20}\n{"step": 30, "loss": 1}\n{"step": 40, "lo')
    with JsonlLog.open(path, resume_step=20) as writer:
        assert lines(path) == [{"step": 10}, {"note": "kept"}, {"step": 20}]
        writer.write({"step": 21})
    assert lines(path)[-2:] == [{"step": 20}, {"step": 21}]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"step": 20}')
    with JsonlLog.open(path, resume_step=20) as writer:
        writer.write({"step": 30})
    assert path.read_text() == '{"step": 10}\n{"step": 20}\n{"step": 30}\n'


def test_the_constructor_appends_and_cuts_only_half_a_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"st')
    with JsonlLog(path) as writer:
        writer.write({"step": 5})
    assert path.read_text() == '{"step": 10}\n{"step": 5}\n'


def test_resuming_at_zero_and_without_a_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    JsonlLog.open(path, resume_step=0).close()
    assert path.read_text() == ""
    path.write_text('{"step": 1}\n')
    JsonlLog.open(path, resume_step=0).close()
    assert path.read_text() == ""


def test_a_bucket_is_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 9}\n')
    monkeypatch.setattr(log, "is_local", lambda path: False)
    writer = JsonlLog.open(path, resume_step=1)
    writer.write({"step": 2})
    assert lines(path) == [{"step": 1}]
    writer.flush()
    assert lines(path) == [{"step": 1}, {"step": 2}]
    monkeypatch.setattr(log, "BUCKET_SECONDS", 0.0)
    writer.write({"step": 3})
    assert lines(path) == [{"step": 1}, {"step": 2}, {"step": 3}]
    monkeypatch.setattr(log, "BUCKET_SECONDS", 1e9)
    writer.write({"step": 4})
    writer.close()
    assert lines(path)[-1] == {"step": 4}


def test_read_jsonl_skips_half_a_line(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 10}\n{"st')
    assert read_jsonl(tmp_path / "m.jsonl") == [{"step": 10}]


def test_a_file_that_can_t_be_written_is_a_run_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="can't write"):
        JsonlLog(tmp_path / "taken" / "m.jsonl")
    with pytest.raises(RunError, match="can't write"):
        TensorBoardLog(tmp_path / "taken")


# TensorBoard


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit (RFC 3720, appendix B.4), apart from tensorboardX's table."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path) -> list:
    """The events of a file of TFRecords: length, its masked CRC, data, its masked CRC."""
    stream = io.BytesIO(path.read_bytes())
    found = []
    while header := stream.read(8):
        (length,) = struct.unpack("<Q", header)
        assert struct.unpack("<I", stream.read(4)) == (masked(header),)
        data = stream.read(length)
        assert len(data) == length
        assert struct.unpack("<I", stream.read(4)) == (masked(data),)
        found.append(event_pb2.Event.FromString(data))  # pyright: ignore[reportAttributeAccessIssue]
    return found


def test_the_crc_of_this_test_is_crc32c():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the catalogue of CRCs
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4


def test_scalars_and_images_read_back(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (3, 5, 1), np.uint8)
    colour = np.random.default_rng(0).integers(0, 256, (4, 2, 3), np.uint8)
    with TensorBoardLog(tmp_path / "run", clock=lambda: 1234.5) as writer:
        writer.scalars(7, {"loss/generator": 0.25, "nan": math.nan, "jax": jnp.float32(3)})
        writer.image(8, "samples", grey)
        writer.image(9, "samples", colour)
    writer.close()
    (path,) = (tmp_path / "run").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    head, scalars, *pictures = events(path)
    assert head.file_version == "brain.Event:2"
    assert (scalars.step, scalars.wall_time) == (7, 1234.5)
    values = {value.tag: value.simple_value for value in scalars.summary.value}
    assert math.isnan(values.pop("nan"))
    assert values == {"loss/generator": 0.25, "jax": 3.0}
    assert [picture.step for picture in pictures] == [8, 9]
    for picture, image in zip(pictures, (grey, colour), strict=True):
        (value,) = picture.summary.value
        assert value.tag == "samples"
        assert (value.image.height, value.image.width, value.image.colorspace) == image.shape
        back = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
        assert np.array_equal(back.reshape(image.shape), image)
    with pytest.raises(ValueError, match="closed"):
        writer.scalars(10, {"x": 1})


def test_torch_is_not_imported(tmp_path):
    (tmp_path / "torch.py").write_text("print('imported')")
    code = f"""
from ganjax.report.log import TensorBoardLog
with TensorBoardLog({str(tmp_path / "run")!r}, 0) as log:
    log.scalars(1, {{"loss": 0.5}})
print("logged")
import torch
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["logged", "imported"]  # for whoever asks, it is there


def test_flush_puts_every_point_into_the_file(tmp_path):
    writer = TensorBoardLog(tmp_path)
    (path,) = tmp_path.iterdir()
    for step in range(20):
        writer.scalars(step, {"x": step})
    assert len(events(path)) == 1  # the version alone: points wait
    writer.flush()
    assert [event.step for event in events(path)[1:]] == list(range(20))
    writer.close()


def test_points_are_flushed_after_flush_seconds(tmp_path):
    writer = TensorBoardLog(tmp_path, flush_seconds=0)
    (path,) = tmp_path.iterdir()
    writer.scalars(1, {"x": 1})
    assert len(events(path)) == 2
    writer.close()


def test_resuming_keeps_the_older_file_and_drops_its_later_points(tmp_path):
    with TensorBoardLog(tmp_path) as writer:
        for step in (10, 20, 30):
            writer.scalars(step, {"x": 1.0})
    with TensorBoardLog(tmp_path, resume_step=20) as writer:
        writer.scalars(30, {"x": 2.0})
    older, newer = sorted(tmp_path.iterdir())  # within a second, and still two files
    assert len(events(older)) == 4
    _, start, point = events(newer)
    assert start.session_log.status == start.session_log.START
    assert point.step == 30
    # TensorBoard drops older points whose step is at least the start's: 30 goes, 20 stays.
    assert start.step == 21
