"""Steering a trained generator by its styles (Karras et al. 2019, "A style-based generator architecture for
generative adversarial networks").

Latents z [n, Z] are mapped to styles w [n, S], and each of the L layers of an image has one: w+ [n, L, S].
What is done to styles is plain arithmetic on the host. Only the mapping and the synthesis are compiled, each
once and for batches of one size: a picture has the same bytes whichever way one came to it.

    steering = Steering(gan, state)
    directions = principal_directions(steering.mapped(steering.latents(range(10_000))), 10)
    look = Look(truncation=0.7, moves=(Move(0, 2.0),))
    images = steering.draw([3, 4], look=look, directions=directions)
"""

import io
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ganjax import random
from ganjax.errors import RunError, one_line
from ganjax.gan import Array, Gan, GanState
from ganjax.parallel import Program
from ganjax.report.files import write_atomically
from ganjax.sampling import at_once, checked_seeds, in_chunks, latents

MAPPED = 64  # latents at a time

NoiseMode = Literal["random", "const", "none"]
NOISE_MODES: tuple[str, ...] = get_args(NoiseMode)

Maps = Sequence[np.ndarray]  # noise, [n, H', W'] or [H', W'] for all, a layer each


# Arithmetic of styles, on the host.


def layered(styles: np.ndarray, layers: int) -> np.ndarray:
    """w [n, S] -> w+ [n, layers, S], the same style for all."""
    return np.repeat(np.asarray(styles, np.float32)[:, None], layers, axis=1)


def truncated(styles: np.ndarray, mean: np.ndarray, psi: float, cutoff: int | None = None) -> np.ndarray:
    """Styles whose distance from their mean is multiplied (appendix B of the paper).

    Args:
      styles: [n, L, S].
      mean: [S].
      psi: what with: 1 changes nothing, 0 gives the mean.
      cutoff: how many of the first layers; None: all.
    Raises:
      ValueError: psi is no finite number, or there are not so many layers.
    """
    if not np.isfinite(psi):
        raise ValueError(f"truncation={psi}: expected a number")
    if cutoff is not None and not 0 <= cutoff <= styles.shape[1]:
        raise ValueError(f"truncation_cutoff={cutoff}: expected 0 to {styles.shape[1]}, the number of layers")
    styles, centre = np.array(styles, np.float32), np.asarray(mean, np.float32)[None, None]
    first = slice(None, cutoff)
    styles[:, first] = centre + np.float32(psi) * (styles[:, first] - centre)
    return styles


def mixed(rows: np.ndarray, columns: np.ndarray, layers: Sequence[int]) -> np.ndarray:
    """Every row's styles with those of every column in the place of some (section 3.1 of the paper).

    Args:
      rows: [n, L, S].
      columns: [m, L, S].
      layers: where styles are the column's.
    Returns:
      [n, m, L, S].
    Raises:
      ValueError: there are no such layers.
    """
    check_layers(layers, rows.shape[1])
    shape = (len(rows), len(columns), *rows.shape[1:])
    styles = np.broadcast_to(rows[:, None], shape).copy()
    styles[:, :, list(layers)] = columns[None][:, :, list(layers)]
    return styles


def check_layers(layers: Sequence[int], count: int) -> None:
    """Raises ValueError unless all are layers of a network that has `count`."""
    for layer in layers:
        if not 0 <= layer < count:
            raise ValueError(f"layer {layer}: this network has the layers 0-{count - 1}")


class Directions(NamedTuple):
    """Directions in the space of styles.

    Attributes:
      mean: float32 [S], of the styles that they were found from.
      vectors: float32 [k, S], orthogonal, of length 1.
      deviations: float32 [k], the standard deviation of those styles along each, descending.
      shares: float32 [k], of their whole variance.
    """

    mean: np.ndarray
    vectors: np.ndarray
    deviations: np.ndarray
    shares: np.ndarray


def principal_directions(styles: np.ndarray, count: int | None = None) -> Directions:
    """The principal components of mapped latents (Härkönen et al. 2020, "GANSpace").

    A component's sign, which the analysis leaves open, is that with which its largest entry is positive.

    Args:
      styles: w [n, S], n >= 2.
      count: how many components; None: 10, or all where they are less.
    Raises:
      ValueError: there are less than two styles, or not so many components.
    """
    styles = np.asarray(styles, np.float64)
    n, size = styles.shape
    if n < 2:
        raise ValueError(f"principal directions of {n} styles: expected at least two")
    centred = styles - styles.mean(0)
    variances, vectors = np.linalg.eigh(centred.T @ centred / (n - 1))
    variances, vectors = np.maximum(variances[::-1], 0), vectors.T[::-1]
    some = variances > 1e-12 * max(variances[0], 1e-300)
    most = min(int(some.sum()), n - 1)
    count = max(min(10, most), 1) if count is None else count
    if not 1 <= count <= most:
        raise ValueError(f"components={count}: {n} styles of {size} entries have 1 to {most}")
    vectors = vectors[:count]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], axis=1)
    return Directions(
        *(
            np.asarray(x, np.float32)
            for x in (
                styles.mean(0),
                vectors * np.sign(largest),
                np.sqrt(variances[:count]),
                variances[:count] / variances.sum(),
            )
        )
    )


class Move(NamedTuple):
    """A step along a direction.

    Attributes:
      component: which, from 0.
      amount: in standard deviations.
      layers: whose styles are moved; None: all.
    """

    component: int
    amount: float
    layers: tuple[int, ...] | None = None


def moved(styles: np.ndarray, directions: Directions, moves: Sequence[Move]) -> np.ndarray:
    """Styles [n, L, S] after some steps along directions.

    Raises:
      ValueError: directions are of styles of another size, or a move is of a component or of layers that are
        not there, or by no finite number.
    """
    size = directions.vectors.shape[1]
    if styles.shape[2] != size:
        raise ValueError(f"directions of {size} entries: this network's styles have {styles.shape[2]}")
    styles = np.array(styles, np.float32)
    for component, amount, layers in moves:
        if not 0 <= component < len(directions.vectors):
            raise ValueError(f"component {component}: there are 0-{len(directions.vectors) - 1}")
        if not np.isfinite(amount):
            raise ValueError(f"amount {amount}: expected a number")
        chosen = list(range(styles.shape[1]) if layers is None else layers)
        check_layers(chosen, styles.shape[1])
        step = np.float32(amount) * directions.deviations[component] * directions.vectors[component]
        styles[:, chosen] += step[None, None]
    return styles


def save_directions(path: epath.PathLike, directions: Directions) -> None:
    """Writes an .npz with an array for each attribute."""
    file = io.BytesIO()
    np.savez(file, **directions._asdict())
    write_atomically(path, file.getvalue())


def load_directions(path: epath.PathLike) -> Directions:
    """What `save_directions` wrote. Raises RunError unless it is that."""
    arrays = load_arrays(path, "directions that --mode=pca wrote", Directions._fields)
    found = Directions(*(np.asarray(arrays[name], np.float32) for name in Directions._fields))
    count, size = found.vectors.shape if found.vectors.ndim == 2 else (0, 0)
    shapes = ((size,), (count, size), (count,), (count,))
    if not count or any(x.shape != shape for x, shape in zip(found, shapes, strict=True)):
        raise RunError(f"{path} is damaged: the shapes in it do not fit each other")
    if not all(np.isfinite(x).all() for x in found):
        raise RunError(f"{path} is damaged: it holds NaN or infinity")
    return found


def load_arrays(path: epath.PathLike, what: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The numeric arrays in an .npz. Raises RunError if it can't be read, or one of `names` is not there."""
    path = epath.Path(path).expanduser()
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is no .npz")
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror or error}") from error
    except Exception as error:  # zip and numpy raise what they like
        raise RunError(f"{path}: expected {what} ({one_line(error)})") from error
    for name in names:
        if name not in arrays or arrays[name].dtype.kind not in "fiu":
            raise RunError(f"{path}: expected {what}; it has no numbers named {name}")
    return arrays


# Drawing.


class Look(NamedTuple):
    """What the pictures of seeds are made with besides seeds and labels. It is applied in this order.

    Attributes:
      mix: (a seed, layers): in these layers styles are that seed's, of the picture's own label.
      truncation: psi; None: 1.
      cutoff: how many of the first layers are truncated; None: all.
      moves: steps along directions.
      noise: "random", each seed's own; "const", for every picture the network's constant noise, or where it
        has none that of seed 0; or "none".
    """

    mix: tuple[tuple[int, tuple[int, ...]], ...] = ()
    truncation: float | None = None
    cutoff: int | None = None
    moves: tuple[Move, ...] = ()
    noise: NoiseMode = "random"


PLAIN = Look()


class Steering:
    """Draws from one trained generator that has styles.

    Args:
      gan: has `styles`.
      state: of the gan, on the host or one device.
      chunk: images at a time; None: `ganjax.sampling.at_once()`. Between two sizes the last bits may differ.
    Attributes:
      layers: L.
      mean: [S], the styles' running mean.
    Raises:
      ValueError: the generator has no styles.
    """

    def __init__(self, gan: Gan, state: GanState, chunk: int | None = None):
        if gan.styles is None:
            raise ValueError("this model's generator has no styles")
        styles = gan.styles
        self._gan, self._chunk = gan, at_once() if chunk is None else chunk
        self._state = jax.device_put(state.replace(opt_state={}))
        self.layers = styles.layers
        self.mean = np.asarray(styles.mean(state), np.float32)
        self._mapping = Program(jax.jit(lambda state, z: styles.mapping(state, z)))
        self._labelled = Program(jax.jit(styles.mapping))
        self._noise = Program(jax.jit(lambda state, seeds: styles.noise(state, random.from_seeds(seeds))))
        self._synthesis = Program(jax.jit(self.synthesis))
        self._fixed: dict[str, tuple[Array, ...]] = {}

    def synthesis(self, state: GanState, styles: Array, maps: tuple[Array, ...]) -> Array:
        """Images [n, H, W, C] in [-1, 1], of styles [n, L, S] and maps of noise [n, H', W']; to be traced."""
        assert self._gan.styles is not None
        return jnp.clip(self._gan.styles.synthesis(state, styles, maps).astype(jnp.float32), -1.0, 1.0)

    def latents(self, seeds: Sequence[int] | np.ndarray) -> np.ndarray:
        """z, float32 [n, Z], of n seeds. Raises ValueError for a seed that is out of range."""
        return latents(self._gan, np.asarray(seeds))

    def mapped(self, latents: np.ndarray, labels: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """w, float32 [n, S].

        Args:
          latents: [n, Z].
          labels: n labels, or shares of the classes [n, classes], of a conditional model.
        Raises:
          ValueError: labels are missing, or of no use.
        """
        inputs: dict[str, Any] = {"latents": np.asarray(latents, np.float32)}
        if labels is None:
            return in_chunks(lambda part: self._mapping(self._state, part["latents"]), inputs, MAPPED)
        labels = np.asarray(labels)
        inputs["labels"] = labels.astype(np.float32 if labels.ndim > 1 else np.int32)
        return in_chunks(
            lambda part: self._labelled(self._state, part["latents"], part["labels"]), inputs, MAPPED
        )

    def styles(
        self,
        seeds: Sequence[int] | np.ndarray,
        labels: Sequence[int] | np.ndarray | None = None,
        *,
        look: Look = PLAIN,
        directions: Directions | None = None,
    ) -> np.ndarray:
        """w+, float32 [n, L, S], of n seeds with n labels. Raises ValueError for what does not fit."""
        styles = layered(self.mapped(self.latents(seeds), labels), self.layers)
        for seed, layers in look.mix:
            check_layers(layers, self.layers)
            others = self.mapped(np.repeat(self.latents([seed]), len(styles), axis=0), labels)
            styles[:, list(layers)] = others[:, None]
        return self.looked(styles, look, directions)

    def looked(self, styles: np.ndarray, look: Look, directions: Directions | None = None) -> np.ndarray:
        """Styles [n, L, S] after truncation and moves. Raises ValueError for what does not fit."""
        if look.truncation is not None:
            styles = truncated(styles, self.mean, look.truncation, look.cutoff)
        if look.moves:
            if directions is None:
                raise ValueError("there are no directions to move along")
            styles = moved(styles, directions, look.moves)
        return styles

    def images(
        self,
        styles: np.ndarray,
        noise: NoiseMode | Maps = "const",
        seeds: Sequence[int] | np.ndarray | None = None,
    ) -> np.ndarray:
        """Images, float32 [n, H, W, C] in [-1, 1], on the host.

        Args:
          styles: [n, L, S].
          noise: see `Look`; or its maps.
          seeds: whose noise "random" is, n of them.
        Raises:
          ValueError: another kind of noise; or "random" without seeds.
        """
        inputs: dict[str, Any] = {"styles": np.asarray(styles, np.float32)}
        n = len(inputs["styles"])
        fixed: tuple[Array, ...] = ()
        if not isinstance(noise, str):
            inputs["maps"] = tuple(
                np.broadcast_to(np.asarray(x, np.float32), (n, *np.shape(x)[-2:])) for x in noise
            )
        elif noise == "random":
            if seeds is None:
                raise ValueError("noise=random: it takes seeds")
            inputs["seeds"] = checked_seeds(seeds)
        else:
            fixed = self._fixed_noise(noise)

        def draw(part: dict[str, Any]) -> Array:
            maps = part.get("maps", fixed)
            if "seeds" in part:
                maps = self._noise(self._state, part["seeds"])
            return self._synthesis(self._state, part["styles"], maps)

        return in_chunks(draw, inputs, self._chunk)

    def draw(
        self,
        seeds: Sequence[int] | np.ndarray,
        labels: Sequence[int] | np.ndarray | None = None,
        *,
        look: Look = PLAIN,
        directions: Directions | None = None,
    ) -> np.ndarray:
        """Images, float32 [n, H, W, C] in [-1, 1], of n seeds with n labels: what --mode=sample draws.

        Raises:
          ValueError: for what does not fit.
        """
        styles = self.styles(seeds, labels, look=look, directions=directions)
        return self.images(styles, look.noise, seeds)

    def noise_maps(self, seed: int = 0) -> tuple[np.ndarray, ...]:
        """The noise of a seed: [H', W'] a layer."""
        maps = self._noise(self._state, np.full(self._chunk, seed, np.uint32))
        return tuple(np.asarray(x[0]) for x in maps)

    def constant_maps(self) -> tuple[np.ndarray, ...]:
        """The noise of "const": [H', W'] a layer."""
        assert self._gan.styles is not None
        maps = self._gan.styles.constant_noise(self._state)
        return self.noise_maps() if maps is None else tuple(np.asarray(x, np.float32) for x in maps)

    def _fixed_noise(self, mode: str) -> tuple[Array, ...]:
        """Noise that is the same for all of a chunk, on the device."""
        if mode not in NOISE_MODES:
            raise ValueError(f"noise={mode}: expected {', '.join(NOISE_MODES)}")
        if mode not in self._fixed:
            scale = 1.0 if mode == "const" else 0.0
            self._fixed[mode] = tuple(
                jnp.asarray(np.repeat(scale * x[None], self._chunk, axis=0)) for x in self.constant_maps()
            )
        return self._fixed[mode]
