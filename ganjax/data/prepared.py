"""Sets of TensorFlow Datasets: a prepared copy is read without TensorFlow; preparing one needs it.

TFDS retries an unreachable host for minutes. Here everything that can be known without it is found out
first: whether the name exists, whether TensorFlow is there, whether the archives or their host are.
"""

import contextlib
import difflib
import functools
import hashlib
import importlib.util
import os
import queue
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np
from etils import epath

from ganjax.data import images
from ganjax.data.damage import StandIns
from ganjax.data.dataset import Dataset, numbered, with_labels
from ganjax.data.folder import unequal
from ganjax.errors import NoSplit, RunError, UsageError, nearest

# Seconds after which a host that has not answered counts as unreachable.
PROBE_SECONDS = 6.0
_CATALOG = "https://www.tensorflow.org/datasets/catalog/overview"
# Where to ask whether there is a network, for the few sets that don't register what they download.
_ANY_HOST = "https://storage.googleapis.com/"
# What a proxy answers for a host that it can't or won't reach.
_PROXY_REFUSES = frozenset({407, 502, 503, 504})


def data_root(data_dir: epath.PathLike | None) -> epath.Path:
    """The folder of prepared sets: `data_dir`, else the variable TFDS_DATA_DIR, else TFDS's default."""
    return epath.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name: str, root: epath.Path) -> Any | None:
    """The TFDS builder of a prepared copy of `name` under `root`; None if there is none.

    Raises:
      RunError: there is a copy that can't be read.
    """
    if not (root / _base(name)).exists():
        return None
    from tensorflow_datasets.core import read_only_builder, registered

    try:
        return read_only_builder.builder_from_files(name, data_dir=os.fspath(root))
    except registered.DatasetNotFoundError:
        return None
    except Exception as error:
        raise _unreadable(root / _base(name), error) from error


def from_folder(
    path: epath.Path,
    name: str,
    split: str,
    size: tuple[int, int] | None,
    channels: int | None,
    skip_corrupt: bool = False,
    resize: str = "crop",
) -> Dataset:
    """The prepared copy in a folder that holds a `dataset_info.json`.

    Raises:
      UsageError: as `from_builder`.
      RunError: the copy can't be read.
    """
    from tensorflow_datasets.core import read_only_builder

    try:
        builder = read_only_builder.builder_from_directory(os.fspath(path))
    except Exception as error:
        raise _unreadable(path, error) from error
    return from_builder(builder, name, split, size, channels, skip_corrupt, resize)


def from_builder(
    builder: Any,
    name: str,
    split: str,
    size: tuple[int, int] | None,
    channels: int | None,
    skip_corrupt: bool = False,
    resize: str = "crop",
) -> Dataset:
    """A prepared set: its image feature and, where there is one, its class label.

    Args:
      builder: a TFDS builder whose data are prepared.
      name: as the user gave it.
      split: one of the builder's, or a slice of one ("train[:10%]").
      size: (H, W) to bring images to; None keeps their own.
      channels: 1, 3, 4 or None for the set's own.
      skip_corrupt, resize: as `ganjax.data.load` has them.
    Raises:
      UsageError: no such split, no 8-bit image feature, or images of several sizes and no `size`.
      RunError: the copy can't be read.
    """
    from tensorflow_datasets import features as kinds

    info = builder.info
    try:
        num_examples = info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise NoSplit(f"{name}: no split '{split}', {nearest(split, info.splits)}") from error
    if not num_examples:
        raise UsageError(f"{name}: the split '{split}' is empty; {nearest(split, info.splits)}")
    image_key = _feature(info.features, "image", kinds.Image)
    if image_key is None or info.features[image_key].np_dtype not in (np.uint8, np.uint16):
        raise UsageError(f"{name}: no image feature of 8 or 16 bits among {', '.join(info.features)}")
    label_key = _feature(info.features, "label", kinds.ClassLabel)
    num_classes = (info.features[label_key].num_classes or 0) if label_key else 0
    class_names = (
        tuple(info.features[label_key].names or numbered(num_classes)) if label_key and num_classes else ()
    )

    records = _records(builder, split)
    stand_ins = StandIns(num_examples, skip_corrupt)
    shape, first = info.features[image_key].shape, 0
    if size is None and None in shape:

        def look(place: int) -> tuple[int, tuple[int, int, int]]:
            (record,) = records([place])
            return place, images.probe(_value(record, image_key), _example(name, split, place))

        with _reading(builder):
            first, (height, width, _) = stand_ins.read(look, 0)
        shape = (height, width, shape[2])
    height, width = size or shape[:2]
    image_shape = (height, width, channels or shape[2])
    if image_shape[2] not in (1, 3, 4):
        raise UsageError(f"{name}: images of {image_shape[2]} channels; expected 1, 3 or 4")

    def fetch(stand_ins: StandIns, indices: np.ndarray) -> dict[str, np.ndarray]:
        places = indices.tolist()
        label = np.zeros(len(places), np.int32)
        with _reading(builder):
            examples = dict(zip(places, records(places), strict=True))

            def decode(place: int) -> tuple[np.ndarray, int]:
                record = examples[place] if place in examples else records([place])[0]
                where = _example(name, split, place)
                image = images.decode(_value(record, image_key), where, image_shape[2], size, resize=resize)
                if image.shape != image_shape:
                    raise unequal(_example(name, split, first), image_shape, where, image.shape)
                return image, _value(record, label_key) if label_key and num_classes else 0

            def make(number: int) -> np.ndarray:
                image, label[number] = stand_ins.read(decode, places[number])
                return image

            picked = images.stack(make, len(places), image_shape)
            return with_labels(picked, label if num_classes else None)

    return Dataset(
        name,
        split,
        image_shape,
        num_classes,
        class_names,
        num_examples,
        functools.partial(fetch, stand_ins),
        skipped=stand_ins.skipped,
        fetch_among=lambda places: functools.partial(fetch, stand_ins.among(places)),
    )


def prepare(name: str, root: epath.Path) -> Any:
    """Downloads and prepares a set under `root` as array_record, and gives its builder.

    Archives in `root/downloads/manual` are used instead of the network.

    Raises:
      UsageError: TFDS doesn't know the name.
      RunError: TensorFlow, the archives' host or the archives are missing, found out within seconds; or
        TFDS failed.
    """
    builder = _new_builder(name, root)
    manual = root / "downloads" / "manual"
    archives = _archives(builder)
    ways = (
        f"or set --data_dir= to where a prepared copy is; or put {_listing(archives) or 'its archives'} into "
        f"{manual}, from where TFDS prepares it without a network"
    )
    if not _has_tensorflow():
        raise RunError(
            f"dataset {name}: not prepared under {root}, and preparing it needs TensorFlow: "
            f"pip install 'ganjax[tfds]' and try again with network access; {ways}"
        )
    if not _in_hand(name, archives, manual):
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not manual.exists():
            raise RunError(
                f"dataset {name}: not prepared under {root}, and its archives must be fetched by hand into "
                f"{manual} (what to fetch: {_CATALOG}); or set --data_dir= to where a prepared copy is"
            )
        if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS or archives:
            hosts = sorted({_root_url(url) for url, _, _ in archives}) or [_ANY_HOST]
            if not any_reachable(hosts):
                named = ", ".join(urllib.parse.urlsplit(host).netloc for host in hosts)
                raise RunError(
                    f"dataset {name}: not prepared under {root}, and {named} can't be reached from here; "
                    f"try again with network access; {ways}"
                )
    return _download_and_prepare(builder, name, manual)


def any_reachable(urls: Iterable[str], seconds: float | None = None) -> bool:
    """Whether any of these hosts answers, through a proxy where one is set, before the deadline.

    Args:
      urls: roots of hosts, "https://host/".
      seconds: the deadline; default: `PROBE_SECONDS`.
    """
    answers: queue.Queue[bool] = queue.Queue()
    seconds = PROBE_SECONDS if seconds is None else seconds
    deadline = time.monotonic() + seconds

    def ask(url: str) -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=seconds):
                answers.put(True)
        except urllib.error.HTTPError as error:
            answers.put(error.code not in _PROXY_REFUSES)
            error.close()
        except Exception:  # whatever goes wrong, there was no answer
            answers.put(False)

    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in urls]
    for thread in threads:  # daemons, and never joined: looking a name up knows no time-out
        thread.start()
    with contextlib.suppress(queue.Empty):
        return any(answers.get(timeout=max(0.0, deadline - time.monotonic())) for _ in threads)
    return False


def check_name(name: str) -> None:
    """Raises UsageError, with the nearest names, unless the TFDS in this installation knows the name."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    base = _base(name)
    if base in known:
        return
    choices = {*known, "mnist", "random"}
    # `nearest` lists all choices where none is near: here hundreds
    close = difflib.get_close_matches(base.lower(), choices, n=1, cutoff=0.5)
    hint = nearest(base.lower(), choices) if close else f"for names see {_CATALOG}"
    nor = ", nor is it a file or folder" if "/" in name else ""
    raise UsageError(f"dataset '{name}': TFDS knows no '{base}'{nor}; {hint}")


def _base(name: str) -> str:
    """The set's name without config and version."""
    return name.partition("/")[0].partition(":")[0]


def _new_builder(name: str, root: epath.Path) -> Any:
    check_name(name)
    import tensorflow_datasets as tfds

    try:
        # Of TFDS's formats the one that is read at random places without TensorFlow
        return tfds.builder(name, data_dir=os.fspath(root), file_format="array_record")
    except Exception as error:
        configs = tfds.builder_cls(_base(name)).builder_configs
        config = name.partition("/")[2].partition(":")[0]
        if config and config not in configs:
            hint = nearest(config, configs) if configs else "it has none"
            raise UsageError(f"dataset {name}: no configuration '{config}', {hint}") from error
        raise UsageError(f"dataset {name}: {_first_line(error)}") from error


def _archives(builder: Any) -> list[tuple[str, str, str]]:
    """(url, file name, sha256) of what TFDS downloads for the set, as far as it is registered."""
    infos = [(url, info.filename or "", info.checksum) for url, info in (builder.url_infos or {}).items()]
    config = builder.builder_config.name if builder.builder_config else None
    # The sets of one builder register their archives together, mostly named after the configuration
    return [info for info in infos if config and config in info[0]] or infos


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _in_hand(name: str, archives: Sequence[tuple[str, str, str]], manual: epath.Path) -> bool:
    """Whether all archives lie in the manual folder.

    Raises:
      RunError: one that lies there isn't what TFDS expects. TFDS takes it as it is, and MNIST's and
        Fashion-MNIST's have the same names.
    """
    present = [archive for archive in archives if archive[1] and (manual / archive[1]).exists()]
    for _, filename, checksum in present:
        digest = hashlib.sha256()
        with (manual / filename).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        if checksum and digest.hexdigest() != checksum:
            raise RunError(
                f"{manual / filename}: not the archive that dataset {name} needs (its sha256 is "
                f"{digest.hexdigest()[:12]}..., expected {checksum[:12]}...); replace or remove it"
            )
    return bool(archives) and len(present) == len(archives)


def _listing(archives: Sequence[tuple[str, str, str]]) -> str:
    names = [filename for _, filename, _ in archives if filename]
    return ", ".join(names) if 0 < len(names) <= 4 else ""


def _root_url(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def _download_and_prepare(builder: Any, name: str, manual: epath.Path) -> Any:
    import tensorflow_datasets as tfds

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf  # pyright: ignore[reportMissingImports, reportMissingModuleSource]

        tf.config.set_visible_devices([], "GPU")  # else it takes the memory that JAX is to have
        config = tfds.download.DownloadConfig(
            manual_dir=os.fspath(manual) if manual.exists() else None, try_download_gcs=False
        )
        builder.download_and_prepare(download_config=config)
    except Exception as error:
        raise RunError(
            f"dataset {name}: TFDS could not prepare it ({_first_line(error)}); "
            "mend that, or set --data_dir= to where a prepared copy is"
        ) from error
    return builder


def _feature(features: Any, preferred: str, kind: type) -> str | None:
    """The key of the preferred feature if it is of that kind, else of the only feature of that kind."""
    keys = [key for key, feature in features.items() if isinstance(feature, kind)]
    if preferred in keys:
        return preferred
    return keys[0] if len(keys) == 1 else None


def _records(builder: Any, split: str) -> Callable[[Sequence[int]], list[bytes]]:
    """Reads the serialized examples at given places of a split.

    Raises:
      RunError: the copy is in a format that has no random access.
    """
    from tensorflow_datasets.core import decode

    info = builder.info
    formats = {form.value for form in (info.file_format, *info.alternative_file_formats) if form is not None}
    if "array_record" in formats:
        source = builder.as_data_source(
            split=split,
            # TFDS would decode all features, at several times the cost
            deserialize_method=decode.DeserializeMethod.RAW_BYTES,
            file_format="array_record",
        )
        return lambda places: source.__getitems__(list(places))
    if "tfrecord" in formats:
        return _tfrecords(info.splits[split].file_instructions)
    raise RunError(
        f"{builder.data_path}: prepared as {', '.join(sorted(formats))}, expected array_record or tfrecord; "
        "prepare it again with file_format='array_record' (BUILD.md has the lines)"
    )


def _tfrecords(instructions: Sequence[Any]) -> Callable[[Sequence[int]], list[bytes]]:
    """Reads the records at given places of TFRecord shards, of which each may be used in part.

    A record is its length (8 bytes, little-endian), a checksum (4), the content and a checksum (4). The
    places of records are found once, by going from length to length, and the checksums aren't compared:
    what is read is compressed images, whose decoder notices damage.

    Args:
      instructions: TFDS's, with filename, skip and take.
    """

    lock = threading.Lock()  # of several threads that come first, one makes the index

    @functools.cache
    def index() -> list[tuple[str, int, int]]:
        places = []
        for part in instructions:
            shard, offset = [], 0
            with epath.Path(part.filename).open("rb") as file:
                while head := file.read(12):
                    (length,) = struct.unpack_from("<Q", head)
                    shard.append((os.fspath(part.filename), offset + 12, length))
                    offset = file.seek(length + 4, os.SEEK_CUR)
            end = None if part.take == -1 else part.skip + part.take
            places += shard[part.skip : end]
        return places

    def read(wanted: Sequence[int]) -> list[bytes]:
        records: dict[int, bytes] = {}
        with lock:
            known = index()
        with contextlib.ExitStack() as stack:
            files: dict[str, IO[bytes]] = {}
            for place in sorted(set(wanted)):
                filename, offset, length = known[place]
                if filename not in files:
                    files[filename] = stack.enter_context(epath.Path(filename).open("rb"))
                files[filename].seek(offset)
                records[place] = files[filename].read(length)
        return [records[place] for place in wanted]

    return read


def _value(record: bytes, key: str) -> Any:
    """The single value of a feature in a serialized tf.train.Example."""
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example.FromString(record)  # pyright: ignore[reportAttributeAccessIssue]
    feature = example.features.feature[key]
    return (feature.bytes_list.value or feature.int64_list.value)[0]


@contextlib.contextmanager
def _reading(builder: Any) -> Iterator[None]:
    """Turns whatever goes wrong in reading a copy into a RunError that names it."""
    try:
        yield
    except (RunError, UsageError):
        raise
    except Exception as error:  # the readers of TFDS and array_record promise no particular ones
        raise _unreadable(builder.data_path, error) from error


def _unreadable(path: epath.PathLike, error: Exception) -> RunError:
    return RunError(
        f"{path}: the prepared copy can't be read ({_first_line(error)}); remove it and prepare it again"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def _example(name: str, split: str, place: int) -> str:
    return f"{name}, example {place} of {split}"
