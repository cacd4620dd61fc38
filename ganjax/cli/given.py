"""Images of the user's that a model is asked about, all of the size that it knows."""

from collections.abc import Iterator

import numpy as np
from etils import epath

from ganjax import data
from ganjax.cli.translate import check_apart, tasks_of
from ganjax.data import folder, images
from ganjax.errors import UsageError

CHUNK = 64  # images that are in memory at a time


class Given:
    """The images of `--input`: a file's, a folder's (and of the folders in it), or an .npz's.

    Attributes:
      count: how many there are.
      names: what they are called: their places, of an .npz.
      place: the file or the folder.
    """

    def __init__(self, path: str | None, shape: tuple[int, int, int], resized: bool):
        """Args:
          path: as it was given.
          shape: (H, W, C) that the model knows.
          resized: images of another size are brought to this one, as those were that the model learned from.

        Raises:
          UsageError: there is nothing there, or, unless `resized`, an .npz of another size.
        """
        if not path:
            raise UsageError("--input=FILE|FOLDER|NPZ is missing: the images that are asked about")
        self.place = epath.Path(path).expanduser()
        self._shape, self._resized, self._arrays, self._tasks = shape, resized, None, []
        if self.place.suffix == ".npz":
            size = shape[:2] if resized else None
            self._arrays = data.load(str(self.place), image_size=size, channels=shape[2])
            self._check(self._arrays.image_shape, str(self.place))
            self.count = self._arrays.num_examples
            self.names = [str(place) for place in range(self.count)]
        else:
            self._tasks = tasks_of(self.place)
            self.count = len(self._tasks)
            self.names = [task.name for task in self._tasks]

    def check_apart(self, out: epath.Path, sheet: str) -> None:
        """Raises UsageError where pictures in the folder `out`, one an image and one of this name, could take
        the place of the images, or be taken for some of them next time."""
        check_apart(out, self.place, self._tasks, [sheet, *self.names])

    def chunks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """Names and images, uint8 [n, H, W, C], n of at most `CHUNK`.

        Raises:
          UsageError: an image has another size, unless `resized`.
          RunError: one can't be read.
        """
        for start in range(0, self.count, CHUNK):
            places = range(start, min(start + CHUNK, self.count))
            if self._arrays is not None:
                yield self.names[start : places.stop], self._arrays.read(np.array(places))["image"]
                continue
            some = [self._tasks[place] for place in places]
            yield self.names[start : places.stop], np.stack([self._read(task.path) for task in some])

    def _read(self, path: epath.Path) -> np.ndarray:
        name = folder.shown(path)
        image = images.decode(folder.read_bytes(path), name, self._shape[2], oriented=True)
        if self._resized:
            return images.fit_array(image, self._shape[2], self._shape[:2])
        self._check(image.shape, name)
        return image

    def _check(self, shape: tuple[int, ...], name: str) -> None:
        if shape[:2] != self._shape[:2]:
            raise UsageError(
                f"--input: {name} is {shape[0]}x{shape[1]} (height x width), and this model was trained on "
                f"images of {self._shape[0]}x{self._shape[1]}; bring it to that size"
            )
