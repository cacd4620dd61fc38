"""Prepared copies: TFDS writes array_record without TensorFlow, so that these tests can make their own."""

import contextlib
import http.server
import io
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from ganjax.data import Feed, load, prepared
from ganjax.errors import RunError, UsageError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
LABELS = [1, 0, 1, 1, 0, 1]


def _prepare(
    root,
    *,
    images: Sequence[np.ndarray] | np.ndarray = IMAGES,
    label=True,
    shape=(4, 5, 3),
    damaged: Sequence[int] = (),
):
    """A set `tiny_shapes` of PNGs under `root`, in array_record, with a feature that no GAN reads.

    Those whose number is in `damaged` are cut off.
    """
    import tensorflow_datasets as tfds

    class TinyShapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "tiny_shapes"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(shape=shape), "note": tfds.features.Text()}
            if label:
                features["label"] = tfds.features.ClassLabel(names=["round", "square"])
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(len(images)), "trainB": self._generate_examples(2)}

        def _generate_examples(self, count):
            for i in range(count):
                buffer = io.BytesIO()
                Image.fromarray(images[i]).save(buffer, "PNG")
                if i in damaged:
                    buffer.truncate(45)
                buffer.seek(0)
                example = {"image": buffer, "note": f"number {i}"}
                yield i, {**example, "label": LABELS[i]} if label else example

    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        builder = TinyShapes(data_dir=root, file_format="array_record")
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return _prepare(tmp_path_factory.mktemp("prepared"))


def _by_image(batch):
    """image -> label: TFDS shuffles as it prepares."""
    return {image.tobytes(): label for image, label in zip(batch["image"], batch["label"], strict=True)}


def _to_tfrecord(root):
    """Rewrites the copy as TFRecord, which TFDS itself only writes with TensorFlow."""
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    folder = root / "tiny_shapes" / "1.0.0"
    for path in folder.glob("*.array_record-*"):
        reader = array_record_module.ArrayRecordReader(str(path))
        records = reader.read_all()
        reader.close()
        with open(str(path).replace("array_record", "tfrecord"), "wb") as file:
            for record in records:
                file.write(struct.pack("<QI", len(record), 0) + record + bytes(4))
        path.unlink()
    info = folder / "dataset_info.json"
    content = json.loads(info.read_text().replace("array_record", "tfrecord"))
    info.write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module", params=["array_record", "tfrecord"])
def copy(request, tmp_path_factory):
    """A prepared copy, in each format that can be read."""
    root = _prepare(tmp_path_factory.mktemp(request.param))
    return root if request.param == "array_record" else _to_tfrecord(root)


def test_reads_a_prepared_copy(copy):
    data = load("tiny_shapes", data_dir=copy)
    assert (data.num_examples, data.image_shape, data.num_classes) == (6, (4, 5, 3), 2)
    assert data.class_names == ("round", "square")
    batch = data.read(np.arange(6))
    expected = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    assert _by_image(batch) == expected
    assert batch["label"].dtype == np.int32


def test_resident_and_random_access_read_the_same(copy, monkeypatch):
    kept = load("tiny_shapes", data_dir=copy, image_size=(8, 10))
    indices = kept.indices(0, 0, 9)  # an epoch and a half
    expected = kept.read(indices)
    monkeypatch.setattr("ganjax.data.dataset.MEMORY_BUDGET", 0)
    accessed = load("tiny_shapes", data_dir=copy, image_size=(8, 10))
    assert accessed.resident() is None
    got = accessed.read(indices)
    assert got["image"].shape == (9, 8, 10, 3)
    for key in expected:
        np.testing.assert_array_equal(got[key], expected[key])


def test_read_ahead_from_any_place_by_any_number_of_threads(copy, monkeypatch):
    monkeypatch.setattr("ganjax.data.dataset.MEMORY_BUDGET", 0)
    data = load("tiny_shapes", data_dir=copy)
    expected = [data.read(data.indices(3, 20 * k, 20)) for k in range(5)]
    for workers in (0, 1, 3):
        data = load("tiny_shapes", data_dir=copy)
        with Feed(data, seed=3, first=40, batch_size=20, count=3, workers=workers) as feed:
            for got, batch in zip(feed, expected[2:], strict=True):
                np.testing.assert_array_equal(got["image"], batch["image"])
                np.testing.assert_array_equal(got["label"], batch["label"])


@pytest.mark.parametrize("known", [True, False])
def test_damaged_images_in_a_copy(tmp_path, known):
    """In a set whose declaration has the size, and in one of which an image is looked at for it."""
    _prepare(tmp_path, shape=(4, 5, 3) if known else (None, None, 3), damaged=(1, 2, 5))
    with pytest.raises(RunError, match=r"tiny_shapes, example \d of train: the image can't be decoded"):
        load("tiny_shapes", data_dir=tmp_path).resident()
    data = load("tiny_shapes", data_dir=tmp_path, skip_corrupt=True)
    batch = data.read(np.arange(6))
    assert len(data.skipped) == 3
    whole = {IMAGES[i].tobytes(): LABELS[i] for i in (0, 3, 4)}
    places = [whole.get(image.tobytes()) for image in batch["image"]]
    assert places == batch["label"].tolist()  # each with its own label
    damaged = {int(line.split("example ")[1].split(" ")[0]) for line in data.skipped}
    for place in damaged:
        successor = next(p % 6 for p in range(place, place + 6) if p % 6 not in damaged)
        np.testing.assert_array_equal(batch["image"][place], batch["image"][successor])


def test_slices_and_other_splits(copy):
    whole = load("tiny_shapes", data_dir=copy).read(np.arange(6))
    part = load("tiny_shapes", split="train[2:4]", data_dir=copy)
    assert part.num_examples == 2
    np.testing.assert_array_equal(part.read(np.arange(2))["image"], whole["image"][2:4])
    assert load("tiny_shapes", split="trainB", data_dir=copy).num_examples == 2


def test_unknown_split(root):
    with pytest.raises(UsageError, match="no split 'trainA', did you mean train or trainB"):
        load("tiny_shapes", split="trainA", data_dir=root)


def test_the_folder_itself_as_a_path(root):
    data = load(str(root / "tiny_shapes" / "1.0.0"))
    assert data.num_examples == 6


def test_the_environment_names_the_data_dir(root, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert load("tiny_shapes:1.0.0").num_examples == 6


def test_unlabelled_and_of_unknown_size(tmp_path):
    images = [IMAGES[0], IMAGES[1], IMAGES[2, :3]]
    data = load("tiny_shapes", data_dir=_prepare(tmp_path, images=images, label=False, shape=(None, None, 3)))
    assert data.num_classes == 0
    with pytest.raises(UsageError, match=r"images of unequal sizes: .*example \d.*--config.image_size="):
        data.resident()
    resized = load("tiny_shapes", data_dir=tmp_path, image_size=2)
    assert resized.read(np.arange(3)).keys() == {"image"}
    assert resized.read(np.arange(3))["image"].shape == (3, 2, 2, 3)


def test_damaged_copies(tmp_path):
    _to_tfrecord(_prepare(tmp_path))
    folder = tmp_path / "tiny_shapes" / "1.0.0"
    (shard,) = folder.glob("*-train.tfrecord-*")
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(RunError, match="prepared copy can't be read"):
        load("tiny_shapes", data_dir=tmp_path).resident()
    (folder / "features.json").write_text("{")
    with pytest.raises(RunError, match="prepared copy can't be read"):
        load("tiny_shapes", data_dir=tmp_path)


def test_a_prepared_mnist_goes_before_the_embedded_one(tmp_path, monkeypatch):
    root = _prepare(tmp_path)
    (root / "tiny_shapes").rename(root / "mnist")
    for path in (root / "mnist" / "1.0.0").iterdir():
        if path.suffix == ".json":
            path.write_text(path.read_text().replace("tiny_shapes", "mnist"))
        path.rename(path.with_name(path.name.replace("tiny_shapes", "mnist")))
    data = load("mnist", data_dir=root)
    assert data.num_examples == 6
    assert len(_by_image(data.read(np.arange(6)))) == 6
    assert load("mnist", data_dir=tmp_path / "elsewhere").num_examples == 60_000


# ---- what can't be prepared


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar11", "TFDS knows no 'cifar11'; did you mean cifar10"),
        ("CIFAR10", "did you mean cifar10"),
        ("mnst", "did you mean mnist"),
        ("data/faces", "knows no 'data', nor is it a file or folder"),
        ("qqqqqq", "for names see https"),
        ("cycle_gan/horse2zebr", "no configuration 'horse2zebr', did you mean horse2zebra"),
        ("mnist/big", "no configuration 'big', it has none"),
        ("huggingface:mnist", "knows no 'huggingface'"),
        ("cifar10:9.9.9", "9.9.9"),
    ],
)
def test_unknown_names(tmp_path, name, message):
    with pytest.raises(UsageError, match=message) as caught:
        load(name, data_dir=tmp_path)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_has_tensorflow", lambda: False)
    with pytest.raises(RunError, match="needs TensorFlow") as caught:
        load("cifar10", data_dir=tmp_path)
    for what in ("pip install 'ganjax[tfds]'", "--data_dir=", f"cifar-10-binary.tar.gz into {tmp_path}"):
        assert what in str(caught.value)


def test_without_a_network(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(prepared, "_has_tensorflow", lambda: True)
    monkeypatch.setattr(prepared, "any_reachable", lambda urls: asked.extend(urls))
    with pytest.raises(RunError, match=r"efrosgans.eecs.berkeley.edu can't be reached.*put horse2zebra.zip"):
        load("cycle_gan/horse2zebra", data_dir=tmp_path)
    assert asked == ["https://efrosgans.eecs.berkeley.edu/"]


def test_archives_in_the_manual_folder_need_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_has_tensorflow", lambda: True)
    monkeypatch.setattr(prepared, "any_reachable", lambda urls: pytest.fail("asked the network"))
    monkeypatch.setattr(
        prepared, "_download_and_prepare", lambda builder, name, manual: (builder.name, manual)
    )
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    for path in prepared.epath.Path(prepared.__file__).parent.joinpath("mnist").glob("*.gz"):
        path.copy(manual / path.name)
    root = prepared.epath.Path(tmp_path)
    assert prepared.prepare("mnist", root) == ("mnist", root / "downloads" / "manual")
    # the same names, and TFDS would take them as they are
    with pytest.raises(RunError, match="not the archive that dataset fashion_mnist needs"):
        prepared.prepare("fashion_mnist", root)


def test_archives_to_be_fetched_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_has_tensorflow", lambda: True)
    with pytest.raises(RunError, match=r"fetched by hand into .*downloads/manual"):
        load("imagenet2012", data_dir=tmp_path)


class _Answer(http.server.BaseHTTPRequestHandler):
    status = 404

    def do_HEAD(self):
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format, *args):
        pass


@pytest.fixture
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def _serve(status):
    handler = type("Answer", (_Answer,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "reachable"), [(200, True), (404, True), (403, True), (503, False)])
def test_any_answer_counts_but_a_proxys_refusal(no_proxy, status, reachable):
    with _serve(status) as url:
        assert prepared.any_reachable([url], seconds=10) is reachable


def test_silent_and_closed_ports(no_proxy):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        start = time.monotonic()
        assert prepared.any_reachable([url], seconds=0.3) is False
        assert time.monotonic() - start < 2
        with _serve(200) as other:
            assert prepared.any_reachable([url, other], seconds=10) is True
    assert prepared.any_reachable([url], seconds=10) is False  # closed: known at once
    assert time.monotonic() - start < 5


def test_a_name_look_up_that_hangs(no_proxy, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(20) and [])
    start = time.monotonic()
    assert prepared.any_reachable(["http://example.invalid/"], seconds=0.2) is False
    assert time.monotonic() - start < 2
    release.set()


def test_imports_stay_light(root):
    """TensorFlow is never imported to read, nor TFDS or Pillow before they are needed."""
    program = f"""
import sys, numpy as np, ganjax.data
from jax._src import xla_bridge
heavy = {{"PIL", "tensorflow", "tensorflow_datasets", "array_record"}}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
ganjax.data.load("mnist", split="test", data_dir="nowhere").read(np.arange(3))
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
ganjax.data.load("tiny_shapes", data_dir={str(root)!r}).read(np.arange(3))
assert "tensorflow" not in sys.modules
assert not xla_bridge._backends
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
