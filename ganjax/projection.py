"""Projection: the latent whose image is nearest to a given one (Karras et al. 2020, "Analyzing and improving
the image quality of StyleGAN", appendix D; of all layers, w+, Abdal et al. 2019, "Image2StyleGAN").

The latent is optimised in units of its own deviation, with a rate that rises and falls and with noise added
to it that falls, and so are the noise maps of a generator that has them. These are kept from taking up the
image: what correlates in them is penalised at all scales, and they are normalised after every step. Where
the paper starts from the mean style, this starts from the nearest of that and of some draws.
"""

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jax import lax

from ganjax import random
from ganjax.errors import RunError
from ganjax.gan import Array, Gan, GanState, Tree
from ganjax.metrics.lpips import LPIPS, check_size, lpips, over_white, reduced
from ganjax.parallel import Program
from ganjax.report.files import write_atomically
from ganjax.sampling import Sampler, in_chunks, latents
from ganjax.steering import Steering, layered, load_arrays

Space = Literal["z", "w", "w+"]
SPACES: tuple[str, ...] = get_args(Space)

STEPS = 500
CHUNK = 4  # images that are projected at a time
RATE = 0.1  # of Adam, at most, in deviations of the latent
RISES, FALLS = 0.05, 0.25  # shares of the steps over which the rate rises from 0, and falls to 0
WANDER, WANDERS = 0.05, 0.75  # noise on the latent, in lengths of its deviation; the share that it is there
NOISE_WEIGHT = 1e5
SHORTLIST = 16  # draws that are compared by `Distance`, those nearest by pixels
DRAWN_PIXELS = 1 << 22  # of all draws together, by default
MEASURED = 4096  # latents by which the deviation of styles is measured


class Distance(NamedTuple):
    """How far images are apart.

    Attributes:
      name: "lpips" or "pixels".
      function: (params, images [n, H, W, C], as many) -> float32 [n]; pure, differentiable.
      params: what it takes first.
    """

    name: str
    function: Callable[[Tree, Array, Array], Array]
    params: Tree = ()


def of_pixels() -> Distance:
    """The mean squared difference of pixels in [-1, 1]."""
    return Distance("pixels", lambda _, x, y: jnp.mean(jnp.square(x - y), axis=tuple(range(1, x.ndim))))


def of_lpips(network: LPIPS, shape: tuple[int, ...]) -> Distance:
    """LPIPS of images [H, W, C], transparent ones over white; from 512 pixels on shrunk by a whole number.

    Raises:
      UsageError: they are too small for the network.
    """
    check_size(network.network, shape[:2])

    def seen(x: Array) -> Array:
        return reduced(over_white(x))

    return Distance("lpips", lambda params, x, y: lpips(params, seen(x), seen(y)), network.params)


def roughness(maps: Sequence[Array]) -> Array:
    """How much neighbours correlate in noise maps, [n]: the squares of the mean products of every value and
    its neighbour, across and down, of each map [n, H, W] and of its halves down to 8 pixels a side."""
    total = jnp.zeros(maps[0].shape[0]) if maps else jnp.zeros(())
    for x in maps:
        while True:
            for axis in (1, 2):
                total += jnp.square(jnp.mean(x * jnp.roll(x, 1, axis), axis=(1, 2)))
            n, height, width = x.shape
            if min(height, width) <= 8 or height % 2 or width % 2:
                break
            # Twice the mean of four independent values has their variance.
            x = 2 * x.reshape(n, height // 2, 2, width // 2, 2).mean((2, 4))
    return total


def normalised(x: Array) -> Array:
    """Each map of [n, H, W] with mean 0 and variance 1."""
    x = x - jnp.mean(x, axis=(1, 2), keepdims=True)
    return x * lax.rsqrt(jnp.mean(jnp.square(x), axis=(1, 2), keepdims=True) + 1e-12)


def rate_at(share: Array) -> Array:
    """The rate at a share of the steps in [0, 1]: up on a line, down on a cosine."""
    falling = jnp.minimum(1.0, (1.0 - share) / FALLS)
    return RATE * (0.5 - 0.5 * jnp.cos(jnp.pi * falling)) * jnp.minimum(1.0, share / RISES)


class Projection(NamedTuple):
    """An image, projected.

    Attributes:
      space: "z", "w" or "w+".
      latent: [Z], [S] or [L, S] of that space.
      styles: w+ [L, S]; None for a generator without styles.
      maps: noise, [H', W'] a layer; () for a generator without styles.
      label: of a conditional model; None of others.
    """

    space: str
    latent: np.ndarray
    styles: np.ndarray | None = None
    maps: tuple[np.ndarray, ...] = ()
    label: int | None = None


class Projector:
    """Projects images into the latents of one trained generator.

    Args:
      gan: has latents.
      state: of the gan, on the host or one device.
      distance: that is minimised.
      space: "z"; or of a generator with styles "w" or "w+".
      num_classes: 0 for an unconditional model.
      draws: of how many seeds the nearest is where it may start; None: as many as have 2^22 pixels together,
        1000 at most.
      chunk: images at a time.
    Raises:
      ValueError: the model has no latents, or no such space; a number is too small.
    """

    def __init__(
        self,
        gan: Gan,
        state: GanState,
        distance: Distance,
        *,
        space: str,
        num_classes: int = 0,
        draws: int | None = None,
        chunk: int = CHUNK,
    ):
        check_space(gan, space)
        self._gan, self._distance, self._space, self._classes = gan, distance, space, num_classes
        self._draws, self._chunk = draws, chunk
        self._state = jax.device_put(state.replace(opt_state={}))
        self._steering = None if gan.styles is None else Steering(gan, state)
        self._sampler = Sampler(gan, chunk)
        self._params = jax.device_put(distance.params)
        self._measure = Program(jax.jit(distance.function))
        self._adam = optax.scale_by_adam()
        self._step = Program(jax.jit(self._stepped, donate_argnums=(0, 1)))
        self._centre, self._unit, self._spread = self._scales()

    def __call__(
        self,
        targets: np.ndarray,
        *,
        label: int | None = None,
        steps: int = STEPS,
        seen: Callable[[int, Array], None] | None = None,
    ) -> list[Projection]:
        """Projects images, all at once.

        Args:
          targets: float32 [n, H, W, C] in [-1, 1], n at most `chunk`.
          label: of all of them, of a conditional model; None: that of the nearest draw, for each.
          steps: at least 1.
          seen: is given the number of steps done and images [chunk, H, W, C] as they were seen at the last,
            the first n of which count.
        """
        n = len(targets)
        place = [min(i, n - 1) for i in range(self._chunk)]  # one shape is one compilation
        targets = np.asarray(targets, np.float32)[place]
        starts, labels = self._nearest(targets, label)
        free = {"latent": jnp.array(starts), "maps": self._first_maps()}
        adam = self._adam.init(free)
        given = None if labels is None else jnp.asarray(labels)
        on_device = jax.device_put(targets)
        for i in range(steps):
            scalars = np.int32(i), np.float32(i / steps)
            free, adam, images = self._step(free, adam, self._state, self._params, on_device, given, *scalars)
            images.block_until_ready()  # or the host would run far ahead
            if seen is not None:
                seen(i + 1, images)
        latent = self._centre + self._unit * np.asarray(free["latent"])
        maps = [np.asarray(x) for x in free["maps"]]
        styles = self._styles_of(latent, labels)
        return [
            Projection(
                self._space,
                latent[i],
                None if styles is None else styles[i],
                tuple(x[i] for x in maps),
                None if labels is None else int(labels[i]),
            )
            for i in range(n)
        ]

    def images(self, projections: Sequence[Projection]) -> np.ndarray:
        """Their images, float32 [n, H, W, C] in [-1, 1]."""
        return draw(projections, self._steering, self._sampler, self._state)

    def distances(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float32 [n], of images and targets [n, H, W, C]."""
        pairs = {"images": np.asarray(images, np.float32), "targets": np.asarray(targets, np.float32)}
        return in_chunks(
            lambda part: self._measure(self._params, part["images"], part["targets"]), pairs, self._chunk
        )

    # The latent is centre + unit * what is optimised.

    def _scales(self) -> tuple[np.ndarray, np.float32, np.float32]:
        """Where the space's middle is, its deviation an entry, and the length of that over all entries."""
        assert self._gan.latents is not None
        if self._space == "z":
            size = latents(self._gan, np.zeros(1, np.uint32)).shape[1]
            return np.zeros(size, np.float32), np.float32(1), np.float32(np.sqrt(size))
        assert self._steering is not None
        seeds = np.arange(MEASURED)
        styles = self._steering.mapped(self._steering.latents(seeds), self._labels(seeds, None))
        deviation = np.sqrt(np.mean(np.square(styles - styles.mean(0, keepdims=True))))
        size = np.float32(np.sqrt(styles.shape[1]))
        return styles.mean(0), np.float32(max(deviation, 1e-8)), size

    def _labels(self, seeds: np.ndarray, label: int | None) -> np.ndarray | None:
        """One for each seed: the given one, or all in turn."""
        if not self._classes:
            return None
        return (seeds % self._classes if label is None else np.full(len(seeds), label)).astype(np.int32)

    def _nearest(self, targets: np.ndarray, label: int | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Where each starts, in units, and its label."""
        count = self._draws
        if count is None:
            count = min(max(DRAWN_PIXELS // int(np.prod(targets.shape[1:3])), 1), 1000)
        seeds = np.arange(max(count, 1))
        z, labels = latents(self._gan, seeds), self._labels(seeds, label)
        places = z
        if self._steering is not None:
            styles = self._steering.mapped(z, labels)
            if self._space != "z":
                # First the middle; with no draws it alone.
                styles = np.concatenate([self._centre[None], styles[:count]])
                places = styles
                labels = None if labels is None else np.concatenate([labels[:1], labels[:count]])
            images = self._steering.images(layered(styles, self._steering.layers), "const")
        else:
            images = self._sampler(self._state, np.zeros(len(z), np.uint32), labels, latents=z)
        chosen = [self._of_candidates(target, images) for target in targets]
        units = (places[chosen] - self._centre) / self._unit
        if self._space == "w+":
            assert self._steering is not None
            units = layered(units, self._steering.layers)
        return units.astype(np.float32), None if labels is None else labels[chosen]

    def _of_candidates(self, target: np.ndarray, images: np.ndarray) -> int:
        """The place of the image that is nearest to a target: by pixels, and of the first of these by the
        distance."""
        axes = tuple(range(1, images.ndim))
        few = np.argsort(np.mean(np.square(images - target[None]), axis=axes), kind="stable")[:SHORTLIST]
        far = self.distances(images[few], np.broadcast_to(target, images[few].shape))
        return int(few[far.argmin()])

    def _first_maps(self) -> tuple[Array, ...]:
        if self._steering is None:
            return ()
        # Copies, for what is stepped is given away.
        return tuple(
            jnp.array(np.repeat(x[None], self._chunk, axis=0)) for x in self._steering.constant_maps()
        )

    def _styles_of(self, latent: Any, labels: Any) -> Any:
        """w+ of latents in the space, on the host."""
        if self._steering is None:
            return None
        if self._space == "z":
            latent = self._steering.mapped(latent, labels)
        return latent if self._space == "w+" else layered(latent, self._steering.layers)

    # What is compiled.

    def _images(self, state: GanState, latent: Array, labels: Array | None, maps: tuple[Array, ...]) -> Array:
        styles = self._gan.styles
        if styles is None:
            keys = random.from_seeds(jnp.zeros(latent.shape[0], jnp.uint32))
            return self._gan.sample(state, keys, labels, latents=latent).astype(jnp.float32)
        if self._space == "z":
            latent = styles.mapping(state, latent, labels)
        if self._space != "w+":
            latent = jnp.repeat(latent[:, None], styles.layers, axis=1)
        # Not clipped: a pixel far on the wrong side finds back, and one that is right there stays, where the
        # derivative of clipped images would be 0, or that of the others would push it on without end.
        return styles.synthesis(state, latent, maps).astype(jnp.float32)

    def _stepped(
        self,
        free: dict[str, Any],
        adam: Any,
        state: GanState,
        params: Tree,
        targets: Array,
        labels: Array | None,
        step: Array,
        share: Array,
    ) -> tuple[dict[str, Any], Any, Array]:
        """One step: what is optimised afterwards, Adam's memory, the images that were seen."""
        # The same for all images: how one is projected does not depend on its companions.
        key = random.per_example(jax.random.key(0, impl="threefry2x32"), step[None])
        noise = random.normal(key, free["latent"].shape[1:])
        wander = WANDER * self._spread * jnp.square(jnp.maximum(0.0, 1.0 - share / WANDERS))

        def loss(free: dict[str, Any]) -> tuple[Array, Array]:
            units = free["latent"] + wander * noise
            centre = jnp.asarray(self._centre).reshape((1,) * (units.ndim - 1) + (-1,))
            images = self._images(state, centre + self._unit * units, labels, free["maps"])
            value = jnp.sum(self._distance.function(params, images, targets))
            return value + NOISE_WEIGHT * jnp.sum(roughness(free["maps"])), images

        gradient, images = jax.grad(loss, has_aux=True)(free)
        updates, adam = self._adam.update(gradient, adam)
        free = jax.tree.map(lambda x, u: x - rate_at(share) * u, free, updates)
        return free | {"maps": tuple(normalised(x) for x in free["maps"])}, adam, images


def check_space(gan: Gan, space: str) -> None:
    """Raises ValueError unless the model has latents, and such a space."""
    if gan.latents is None:
        raise ValueError("this model has no latents to project into")
    if space not in SPACES:
        raise ValueError(f"space={space}: expected {', '.join(SPACES)}")
    if space != "z" and gan.styles is None:
        raise ValueError(f"space={space}: this model's generator has no styles; it has z alone")


def draw(
    projections: Sequence[Projection], steering: Steering | None, sampler: Sampler, state: GanState
) -> np.ndarray:
    """Images of projections, float32 [n, H, W, C] in [-1, 1], by the steering of a generator with styles."""
    if steering is not None:
        styles = np.stack([p.styles for p in projections if p.styles is not None])
        maps = tuple(np.stack(x) for x in zip(*(p.maps for p in projections), strict=True))
        return steering.images(styles, maps)
    labels = [p.label for p in projections]
    given = None if labels[0] is None else np.asarray(labels, np.int32)
    z = np.stack([p.latent for p in projections])
    return sampler(state, np.zeros(len(z), np.uint32), given, latents=z)


# Files.


def save(path: epath.PathLike, projection: Projection, **figures: Any) -> None:
    """Writes an .npz: `space`, `latent`, and where there are any `styles`, `noise_0`, ..., `label`; besides
    what `figures` has."""
    arrays: dict[str, Any] = {"space": projection.space, "latent": projection.latent, **figures}
    if projection.styles is not None:
        arrays["styles"] = projection.styles
        arrays |= {f"noise_{i}": x for i, x in enumerate(projection.maps)}
    if projection.label is not None:
        arrays["label"] = projection.label
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    write_atomically(path, file.getvalue())


def load(path: epath.PathLike) -> Projection:
    """What `save` wrote. Raises RunError unless it is that."""
    what = "a latent that --mode=project wrote"
    arrays = load_arrays(path, what, ["latent"])
    styles = arrays.get("styles")
    names = [f"noise_{i}" for i in range(sum(name.startswith("noise_") for name in arrays))]
    if any(name not in arrays for name in names):
        raise RunError(f"{path}: expected {what}; a map of noise is missing")
    numbers = [arrays["latent"], *([] if styles is None else [styles]), *(arrays[name] for name in names)]
    if not all(x.dtype.kind == "f" and np.isfinite(x).all() for x in numbers):
        raise RunError(f"{path} is damaged: it holds what is no finite number")
    label = arrays.get("label")
    if label is not None and (label.shape != () or label.dtype.kind not in "iu"):
        raise RunError(f"{path} is damaged: its label is no integer")
    return Projection(
        str(arrays.get("space", "")),
        np.asarray(arrays["latent"], np.float32),
        None if styles is None else np.asarray(styles, np.float32),
        tuple(np.asarray(arrays[name], np.float32) for name in names),
        None if label is None else int(label),
    )


def check_fits(projection: Projection, name: str, gan: Gan, state: GanState, num_classes: int) -> None:
    """Raises ValueError unless a projection is of a model of this form."""
    label = projection.label
    if (label is not None) != bool(num_classes) or (label is not None and not 0 <= label < num_classes):
        raise ValueError(f"{name}: its label {label} is none of this model's {num_classes} classes")
    if gan.styles is None:
        if gan.latents is None or projection.styles is not None:
            raise ValueError(f"{name}: it has styles, and this model's generator has none")
        expected = latents(gan, np.zeros(1, np.uint32)).shape[1:]
        if projection.latent.shape != expected:
            raise ValueError(
                f"{name}: a latent {list(projection.latent.shape)}; this model's are {list(expected)}"
            )
        return
    styles = projection.styles
    shape = (gan.styles.layers, *gan.styles.mean(state).shape)
    if styles is None or styles.shape != shape:
        has = "no styles" if styles is None else f"styles {list(styles.shape)}"
        raise ValueError(f"{name}: it has {has}; this model's are {list(shape)}")
    keys = jax.eval_shape(random.from_seeds, np.zeros(1, np.uint32))
    maps = jax.eval_shape(functools.partial(gan.styles.noise), state, keys)
    if [x.shape[1:] for x in maps] != [x.shape for x in projection.maps]:
        raise ValueError(f"{name}: its noise is of another network than this model's")
