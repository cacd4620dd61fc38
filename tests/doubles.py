"""A toy to test the system with: dense networks on 4x4 images, which compile in no time.

It has what makes resuming hard: phases that are seldom due, statistics, averaged parameters, and a carry that
draws at random.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganjax import data, parallel, random
from ganjax.gan import Batch, Context, Effects, Experiment, Gan, GanState, Phase, Stage, every

SHAPE = (4, 4, 1)
PIXELS = 16
LATENTS = 3
SECOND = every(2)


def fast_to_compile(deterministic: bool = False) -> dict[str, Any]:
    """In the place of `parallel.compiler_options`."""
    del deterministic
    return {"xla_backend_optimization_level": 0}


@pytest.fixture(scope="module", autouse=True)
def compiled_fast():
    """In a module that imports this, steps compile in half the time; how fast they run is no matter."""
    before, parallel.compiler_options = parallel.compiler_options, fast_to_compile
    yield
    parallel.compiler_options = before


class Images:
    """A source of 4x4 images, labelled or not, that stay in memory and are read by index."""

    def __init__(self, num_examples: int = 24, num_classes: int = 0):
        bits = np.random.default_rng(0).integers(0, 256, (num_examples, *SHAPE))
        self._arrays: dict[str, np.ndarray] = {"image": bits.astype(np.uint8)}
        if num_classes:
            self._arrays["label"] = np.arange(num_examples, dtype=np.int32) % num_classes
        self.num_examples, self.num_classes = num_examples, num_classes
        self.image_shape = SHAPE
        self.read_indices: list[np.ndarray] = []

    def indices(self, seed: int, start: int, count: int) -> np.ndarray:
        return data.batch_indices(self.num_examples, seed, start, count)

    def example(self, count: int) -> dict[str, np.ndarray]:
        return {name: np.zeros((count, *x.shape[1:]), x.dtype) for name, x in self._arrays.items()}

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        self.read_indices.append(indices)
        return {name: x[indices] for name, x in self._arrays.items()}

    def resident(self) -> dict[str, np.ndarray]:
        return self._arrays

    def transform(self, batch: Batch, context: Context) -> Batch:
        del context
        return {**batch, "image": data.to_float(batch["image"])}


def recording_load() -> tuple[Callable[..., data.Dataset], dict[str, Any]]:
    """A `load` for an experiment's `build`, and the descriptions of what it has loaded, as in config.json."""
    specs: dict[str, Any] = {}

    def load(name: str, *, split: str = "train", **options: Any) -> data.Dataset:
        dataset = data.load(name, split=split, **options)
        specs[f"{name}:{split}"] = dataset.spec()
        return dataset

    return load, specs


def dense(params: Mapping[str, Any], x: jax.Array) -> jax.Array:
    hidden = jax.nn.leaky_relu(x @ params["in"] + params["bias"][None])
    return hidden @ params["out"]


def toy_gan(
    *,
    num_classes: int = 0,
    generator_due: Callable[[int], bool] = SECOND,
    spoil: Callable[[jax.Array, jax.Array], jax.Array] = lambda step, value: value,
    spoil_gradient: Callable[[jax.Array, jax.Array], jax.Array] = lambda step, value: value,
    optimizer: optax.GradientTransformation | None = None,
    hidden: int = 5,
    convolves: bool = False,
) -> Gan:
    """Two dense players, a generator that is due every other step, and a pool of old fakes.

    Args:
      num_classes: latents get the label's one-hot vector appended; 0: none.
      generator_due: `Phase.due` of the generator.
      spoil: changes the generator's loss by step, to make it NaN.
      spoil_gradient: changes what the discriminator's loss is differentiated through, and not its value.
      optimizer: of both players.
      hidden: how wide the players are.
      convolves: the discriminator begins with a convolution.
    """
    optimizer = optimizer or optax.adam(1e-2)

    def draw(keys: jax.Array) -> jax.Array:
        return random.uniform(keys, (LATENTS,))

    def conditioned(z: jax.Array, labels: jax.Array | None) -> jax.Array:
        return z if labels is None else jnp.concatenate([z, jax.nn.one_hot(labels, num_classes)], axis=-1)

    def init(key: jax.Array, batch: Batch) -> tuple[dict, dict, Any]:
        del batch
        sizes = {"generator": (LATENTS + num_classes, PIXELS), "discriminator": (PIXELS, 1)}
        params = {
            player: {
                "in": jax.random.normal(random.stream(key, f"{player}/in"), (n_in, hidden)) / n_in**0.5,
                "bias": jnp.zeros(hidden),
                "out": jax.random.normal(random.stream(key, f"{player}/out"), (hidden, n_out)) / hidden**0.5,
            }
            for player, (n_in, n_out) in sizes.items()
        }
        if convolves:
            kernel = jax.random.normal(random.stream(key, "kernel"), (3, 3, 1, 1)) / 3
            params["discriminator"]["kernel"] = kernel
        stats = {"generator": {"mean": jnp.zeros(PIXELS)}}
        return params, stats, {"pool": jnp.zeros((2, *SHAPE)), "filled": jnp.zeros((), jnp.int32)}

    def fakes(params: Any, context: Context) -> jax.Array:
        labels = random.randint(context.example_keys("label"), 0, num_classes) if num_classes else None
        z = conditioned(draw(context.example_keys("z")), labels)
        return jnp.tanh(dense(params, z)).reshape(-1, *SHAPE)

    def logits(params: Any, images: jax.Array) -> jax.Array:
        if convolves:
            layout = ("NHWC", "HWIO", "NHWC")
            images = jax.lax.conv_general_dilated(
                images, params["kernel"], (1, 1), "SAME", dimension_numbers=layout
            )
        return dense(params, images.reshape(-1, PIXELS))[:, 0]

    def discriminator_loss(params: Any, state: GanState, batch: Batch, context: Context):
        fake = fakes(state.params["generator"], context)
        pool, filled = state.carry["pool"], state.carry["filled"]
        old = jnp.mean(logits(params, pool)) * (filled > 0)
        value = jnp.mean(jax.nn.softplus(-logits(params, batch["image"])))
        value += jnp.mean(jax.nn.softplus(logits(params, fake))) + 0.1 * jax.nn.softplus(old)
        anchor = jnp.sum(params["bias"])
        value += spoil_gradient(state.step, anchor) - jax.lax.stop_gradient(anchor)
        place = jax.random.randint(context.stream("pool"), (), 0, 2)
        pool = pool.at[place].set(jax.lax.stop_gradient(context.gather(fake)[0]))
        carry = {"pool": pool, "filled": filled + 1}
        draw = jax.random.uniform(context.stream("draw"))
        metrics = {"discriminator_loss": value, "filled": filled + 1, "draw": draw}
        return value, Effects(carry=carry, metrics=metrics)

    def generator_loss(params: Any, state: GanState, batch: Batch, context: Context):
        del batch
        fake = fakes(params, context)
        value = jnp.mean(jax.nn.softplus(-logits(state.params["discriminator"], fake)))
        value = spoil(state.step, value)
        mean = context.mean(jnp.mean(fake, axis=0).reshape(PIXELS))
        mean = 0.9 * state.stats["generator"]["mean"] + 0.1 * jax.lax.stop_gradient(mean)
        effects = Effects(stats={"generator": {"mean": mean}}, metrics={"generator_loss": value})
        return value, effects

    def sample(state: GanState, keys: jax.Array, labels: jax.Array | None = None, *, latents=None):
        z = draw(keys) if latents is None else latents
        images = jnp.tanh(dense(state.ema["generator"], conditioned(z, labels)))
        return images.reshape(-1, *SHAPE) + 0 * state.stats["generator"]["mean"].reshape(1, *SHAPE)

    return Gan(
        init=init,
        phases=(
            Phase("discriminator", discriminator_loss, stream="latents"),
            Phase("generator", generator_loss, generator_due, stream="latents"),
        ),
        optimizers={"generator": optimizer, "discriminator": optimizer},
        sample=sample,
        latents=draw,
        ema={"generator": lambda step: jnp.minimum(0.9, step / 10)},
    )


def keep_training(new: GanState, old: GanState) -> GanState:
    """A stage that goes on with the parameters, averages and pool before it, and with fresh optimizers."""
    return new.replace(params=old.params, ema=old.ema, stats=old.stats, carry=old.carry)


def toy_experiment(steps: tuple[int, ...] = (5, 4), seeds: int = 1, **options: Any) -> Experiment:
    """Stages of 5 and 4 steps with batches of 8 and 4, the second going on from the first."""
    source = Images(num_classes=options.get("num_classes", 0))
    stages = tuple(
        Stage(toy_gan(**options), source, count, 8 if i == 0 else 4, keep_training if i else None)
        for i, count in enumerate(steps)
    )
    return Experiment(stages, num_classes=options.get("num_classes", 0), seeds=seeds)


class Call(NamedTuple):
    """What an observer was told."""

    name: str
    step: int | None
    content: Any


class Recorder:
    """An `Observer` that remembers."""

    def __init__(self):
        self.calls: list[Call] = []

    def begin(self, step: int, total: int) -> None:
        self.calls.append(Call("begin", step, total))

    def progress(self, step: int, images: int, metrics: Mapping[str, float]) -> None:
        self.calls.append(Call("progress", step, (images, dict(metrics))))

    def log(self, step: int, seconds: float, metrics: Mapping[str, float]) -> None:
        assert seconds > 0
        self.calls.append(Call("log", step, dict(metrics)))

    def preview(self, step: int, samples: np.ndarray, columns: int) -> None:
        self.calls.append(Call("preview", step, (samples, columns)))

    def evaluated(self, step: int, seconds: float, figures: Mapping[str, float]) -> None:
        assert seconds > 0
        self.calls.append(Call("evaluated", step, dict(figures)))

    def message(self, text: str) -> None:
        self.calls.append(Call("message", None, text))

    def of(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]

    def steps(self, name: str) -> list[int | None]:
        return [call.step for call in self.of(name)]
