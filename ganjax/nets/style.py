"""A generator that is steered by style (Karras et al. 2019, "A style-based generator architecture for
generative adversarial networks"). Its discriminator is `ProgressiveDiscriminator` with `blurred`."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import random
from ganjax.layers import AdaIN, EqualizedConv, EqualizedDense, Noise, add_bias, blur
from ganjax.nets.progressive import BLUR, base_of, channels_at, normalised_inputs, rectified, to_image

# Noise for all layers: PRNG keys [n] that it is drawn by, or itself, [n, H', W'] a layer; None for none.
Noises = jax.Array | Sequence[jax.Array] | None


def noise_of(noise: Noises, number: int) -> jax.Array | None:
    """What the layer of this number is given of it."""
    if noise is None:
        return None
    return random.streams(noise, f"noise {number}") if isinstance(noise, jax.Array) else noise[number]


def drawn_noise(keys: jax.Array, shapes: Sequence[tuple[int, int]]) -> tuple[jax.Array, ...]:
    """What layers with images of these heights and widths draw by PRNG keys [n]: [n, H', W'] each."""
    layers = enumerate(shapes)
    return tuple(random.normal(random.streams(keys, f"noise {i}"), shape) for i, shape in layers)


def sides(shape: tuple[int, int, int], top: int, level: int) -> tuple[int, int]:
    """Height and width of the images at a level, of those that have `shape` at level `top`."""
    height, width = base_of(shape, top)
    return height << level, width << level


class Mapping(nn.Module):
    """From latents and labels to styles: dense layers whose learning rate is a hundredth.

    Attributes:
      features: S.
      layers: at least 1.
      multiplier: of the learning rate.
      num_classes: 0 for an unconditional GAN.
    """

    features: int = 512
    layers: int = 8
    multiplier: float = 0.01
    num_classes: int = 0

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """[n, Z] and labels int [n], or shares of the classes [n, classes] -> [n, features] float32."""
        x = normalised_inputs(latents, labels, self.num_classes)
        for i in range(self.layers):
            x = rectified(EqualizedDense(self.features, multiplier=self.multiplier, name=f"dense_{i}")(x))
        return x


def layered_styles(
    generator: Any,
    latents: jax.Array,
    labels: jax.Array | None,
    *,
    train: bool,
    keys: jax.Array | None,
    truncation: float | None,
) -> jax.Array:
    """The styles [n, layers, S] of a generator that has a `mapping`, their running `mean`, `mean_decay`,
    `layers` and `mixing`. In training the mean moves, and with `keys` a share of the examples is mixed."""
    style = generator.mapping(latents, labels)
    mean = generator.mean
    if train and not generator.is_initializing():
        mean.value = generator.mean_decay * mean.value + (1 - generator.mean_decay) * jnp.mean(style, axis=0)
    if truncation is not None:
        centre = mean.value[None]
        style = centre + truncation * (style - centre)
    styles = jnp.repeat(style[:, None], generator.layers, axis=1)
    if train and generator.mixing and keys is not None:
        drawn = random.normal(random.streams(keys, "mixed latents"), latents.shape[1:])
        others = generator.mapping(drawn, labels)
        first = random.randint(random.streams(keys, "mixed from"), 1, generator.layers)
        does = random.uniform(random.streams(keys, "mixed"), ()) < generator.mixing
        first = jnp.where(does, first, generator.layers)
        own = jnp.arange(generator.layers)[None] < first[:, None]
        styles = jnp.where(own[..., None], styles, others[:, None])
    return styles


class StyleGenerator(nn.Module):
    """StyleGAN's generator: a learned constant, and in every layer noise and a style by `AdaIN`.

    Images are clipped as `ProgressiveGenerator`'s are. Where it is given `keys`, it draws noise; in training
    it also mixes: of a share of the examples, the layers behind a random one have the style of other latents
    (section 3.1). The running mean of the styles is in the collection "styles".

    Attributes:
      shape, level, blended, channel_base, channel_max, dtype: as of `ProgressiveGenerator`.
      num_classes: 0 for an unconditional GAN.
      style_size: S.
      mapping_layers: of `Mapping`.
      mapping_multiplier: of its learning rate.
      mixing: the share of examples that are mixed, in [0, 1].
      mean_decay: of the running mean.
    """

    shape: tuple[int, int, int]
    level: int
    blended: bool = False
    num_classes: int = 0
    channel_base: int = 4096
    channel_max: int = 512
    style_size: int = 512
    mapping_layers: int = 8
    mapping_multiplier: float = 0.01
    mixing: float = 0.9
    mean_decay: float = 0.995
    dtype: jnp.dtype | None = None

    @property
    def layers(self) -> int:
        """How many layers have a style: two a level."""
        return 2 * (self.level + 1)

    def setup(self) -> None:
        self.mapping = Mapping(
            self.style_size, self.mapping_layers, self.mapping_multiplier, self.num_classes
        )
        self.mean = self.variable("styles", "mean", jnp.zeros, (self.style_size,), jnp.float32)

    def styles(
        self,
        latents: jax.Array,
        labels: jax.Array | None = None,
        *,
        train: bool,
        keys: jax.Array | None = None,
        truncation: float | None = None,
    ) -> jax.Array:
        """[n, Z] -> [n, layers, S] float32. For the arguments see `__call__`."""
        return layered_styles(self, latents, labels, train=train, keys=keys, truncation=truncation)

    def noise(self, keys: jax.Array) -> tuple[jax.Array, ...]:
        """The noise that PRNG keys [n] stand for: [n, H', W'] for each layer."""
        levels = [level for level in range(self.level + 1) for _ in range(2)]
        return drawn_noise(keys, [sides(self.shape, self.level, level) for level in levels])

    @nn.compact
    def images(self, styles: jax.Array, noise: Noises = None, *, alpha: jax.Array | float = 1.0) -> jax.Array:
        """[n, layers, S] -> [n, H, W, C] float32, not clipped. For the noise see `Noises`, for `alpha` the
        module `progressive`."""

        def conv(name: str, features: int, **options: Any) -> EqualizedConv:
            return EqualizedConv(features, use_bias=False, dtype=self.dtype, name=name, **options)

        def after(x: jax.Array, number: int) -> jax.Array:
            bias = self.param(f"bias_{number}", nn.initializers.zeros_init(), x.shape[-1:])
            x = Noise(name=f"noise_{number}")(x, noise_of(noise, number))
            x = rectified(add_bias(x, bias.astype(x.dtype)))
            return AdaIN(dtype=self.dtype, name=f"adain_{number}")(x, styles[:, number])

        height, width = base_of(self.shape, self.level)
        channels = channels_at(0, self.channel_base, self.channel_max)
        constant = self.param("constant", nn.initializers.ones_init(), (height, width, channels))
        constant = constant.astype(self.dtype or jnp.float32)
        x = after(jnp.broadcast_to(constant[None], (styles.shape[0], *constant.shape)), 0)
        x = after(conv("conv", channels)(x), 1)
        before = x
        for level in range(1, self.level + 1):
            before, channels = x, channels_at(level, self.channel_base, self.channel_max)
            x = after(blur(conv(f"up_{level}", channels, resample="up")(x), BLUR), 2 * level)
            x = after(conv(f"conv_{level}", channels)(x), 2 * level + 1)
        return to_image(before, x, self.shape[-1], self.level, self.blended, alpha, self.dtype)

    def __call__(
        self,
        latents: jax.Array,
        labels: jax.Array | None = None,
        *,
        train: bool,
        keys: jax.Array | None = None,
        alpha: jax.Array | float = 1.0,
        truncation: float | None = None,
    ) -> jax.Array:
        """[n, Z] -> [n, H, W, C] float32.

        Args:
          latents: [n, Z].
          labels: int [n] or shares of the classes [n, classes], where there are classes.
          train: mixes styles, and moves their running mean.
          keys: PRNG keys [n], for noise and mixing; None: neither.
          alpha: see the module `progressive`.
          truncation: psi, by which styles' distances from their running mean are multiplied (appendix B).
        Raises:
          ValueError: for a shape that the level cannot have, or labels that do not fit.
        """
        styles = self.styles(latents, labels, train=train, keys=keys, truncation=truncation)
        image = self.images(styles, keys, alpha=alpha)
        return image if train else jnp.clip(image, -1.0, 1.0)
