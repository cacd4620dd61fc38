"""What needs neither files nor a network: MNIST as the package carries it, and random images."""

import hashlib

import numpy as np
from etils import epath

from ganjax.data import idx
from ganjax.data.dataset import Dataset, fetch_arrays, numbered
from ganjax.errors import RunError

FOLDER = epath.Path(__file__).parent / "mnist"
# Of the original archives, the same that TFDS expects.
SHA256 = {
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
}
MNIST_EXAMPLES = {"train": 60_000, "test": 10_000}
RANDOM_EXAMPLES = {"train": 256, "test": 64}
_CLASSES = 10


def has_mnist() -> bool:
    """Whether this installation carries the archives."""
    return all((FOLDER / name).exists() for name in SHA256)


def mnist(split: str, size: tuple[int, int] | None, channels: int | None, resize: str = "crop") -> Dataset:
    """MNIST from the archives in the package, checked against their sha256 when they are read."""
    height, width = size or (28, 28)
    shape = (height, width, channels or 1)

    def load() -> tuple[np.ndarray, np.ndarray]:
        images, labels = idx.FILES[split]
        return _read(images, 3), _read(labels, 1)

    fetch = fetch_arrays(load, shape, resize)
    return Dataset("mnist", split, shape, _CLASSES, numbered(_CLASSES), MNIST_EXAMPLES[split], fetch)


def random(split: str, size: tuple[int, int] | None, channels: int | None) -> Dataset:
    """Noise with labels, the same everywhere: to try a program out, not to learn from."""
    height, width = size or (28, 28)
    shape, count = (height, width, channels or 1), RANDOM_EXAMPLES[split]

    def load() -> tuple[np.ndarray, np.ndarray]:
        pixels = count * height * width * shape[2]
        # Raw bits in a stated byte order: the same images on every platform and with every numpy
        bits = np.random.Philox(list(RANDOM_EXAMPLES).index(split)).random_raw(-(-pixels // 8))
        images = bits.astype("<u8").view(np.uint8)[:pixels].reshape(count, *shape)
        return images, np.arange(count) % _CLASSES

    return Dataset("random", split, shape, _CLASSES, numbered(_CLASSES), count, fetch_arrays(load, shape))


def _read(name: str, rank: int) -> np.ndarray:
    path = FOLDER / f"{name}.gz"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: can't be read ({error.strerror or error}); reinstall ganjax") from error
    if hashlib.sha256(content).hexdigest() != SHA256[path.name]:
        raise RunError(f"{path}: the file is damaged (its sha256 is not that of MNIST's); reinstall ganjax")
    return idx.parse(idx.unpack(content, str(path)), str(path), rank)
