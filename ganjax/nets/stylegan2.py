"""StyleGAN2's networks (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN"): a
generator of modulated convolutions that adds up images of all sizes, and a residual discriminator.
Conditional on labels as in Karras et al. 2020, "Training generative adversarial networks with limited data".

Level 0 is the smallest image, 4x4 say, and each level doubles its sides, which need not be equal.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import (
    Embed,
    EqualizedDense,
    downsample_filtered,
    minibatch_std,
    pixel_norm,
    upsample_filtered,
)
from ganjax.layers.modulated import (
    FILTER,
    FilteredConv,
    ModulatedConv,
    Resample,
    scaled_leaky_relu,
)
from ganjax.nets.parts import check_labels
from ganjax.nets.progressive import base_of, channels_at, rectified
from ganjax.nets.style import Mapping, Noises, drawn_noise, layered_styles, noise_of, sides


def levels_of(height: int, width: int, smallest: int = 4) -> int:
    """How often sides can be halved, both, with none below `smallest`: 3 for 32x32, 2 for 28x28 (7x7)."""
    level = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= smallest:
        height, width, level = height // 2, width // 2, level + 1
    return level


class StyleGAN2Synthesis(nn.Module):
    """From styles, one a layer, to images. See `StyleGAN2Generator` for the attributes."""

    shape: tuple[int, int, int]
    level: int
    channel_base: int = 4096
    channel_max: int = 512
    low_levels: int = 4
    dtype: jnp.dtype | None = None
    clamp: float | None = None

    @nn.compact
    def __call__(self, styles: jax.Array, noise: Noises = None) -> jax.Array:
        """[n, layers, S], noise -> [n, H, W, C] float32, not clipped."""
        height, width = base_of(self.shape, self.level)

        def dtype(level: int) -> Any:
            return low_dtype(self.dtype, level, self.level, self.low_levels)

        def layer(x: jax.Array, name: str, number: int, level: int, resample: Resample = "") -> jax.Array:
            channels = channels_at(level, self.channel_base, self.channel_max)
            conv = ModulatedConv(channels, resample=resample, noise=True, dtype=dtype(level), name=name)
            return clamped(scaled_leaky_relu(conv(x, styles[:, number], noise_of(noise, number))), self.clamp)

        def image_of(x: jax.Array, level: int) -> jax.Array:
            channels, name = self.shape[-1], f"image_{level}"
            conv = ModulatedConv(channels, 1, demodulate=False, dtype=dtype(level), name=name)
            return clamped(conv(x, styles[:, 2 * level + 1]), self.clamp).astype(jnp.float32)

        channels = channels_at(0, self.channel_base, self.channel_max)
        constant = self.param("constant", nn.initializers.normal(1.0), (height, width, channels))
        x = jnp.broadcast_to(constant[None], (styles.shape[0], *constant.shape))
        x = layer(x, "conv", 0, 0)
        image = image_of(x, 0)
        for level in range(1, self.level + 1):
            x = layer(x, f"up_{level}", 2 * level - 1, level, "up")
            x = layer(x, f"conv_{level}", 2 * level, level)
            image = upsample_filtered(image, FILTER) + image_of(x, level)
        return image


class StyleGAN2Generator(nn.Module):
    """StyleGAN2's generator, with skip connections.

    Where it is given `keys`, it draws noise; in training it also mixes: of a share of the examples, the
    layers behind a random one have the style of other latents (Karras et al. 2019, section 3.1). The running
    mean of the styles is in the collection "styles". In training the images are what the sum gives; else
    they are clipped to [-1, 1].

    Attributes:
      shape: (H, W, C) of the images.
      level: how often level 0's sides were doubled.
      num_classes: 0 for an unconditional GAN.
      channel_base: channels at level 0 before the maximum, halved from level to level.
      channel_max: channels at most.
      style_size: S.
      mapping_layers: of `Mapping`.
      mapping_multiplier: of its learning rate.
      mixing: the share of examples that are mixed, in [0, 1].
      mean_decay: of the running mean.
      low_levels: how many of the largest levels compute in `dtype`; those below in float32.
      dtype: for compute; parameters and images are float32.
      clamp: activations, and what a level adds to the image, are cut off at this size, either sign; None: at
        none. With half precision it keeps them in range.
      constant_noise: it has noise of its own beside what is drawn, fixed when it is made: the collection
        "noise" with a map [H', W'] for each convolution, called "0", "1", ... It is for who steers it, who
        may give it as noise.
    """

    shape: tuple[int, int, int]
    level: int
    num_classes: int = 0
    channel_base: int = 4096
    channel_max: int = 512
    style_size: int = 512
    mapping_layers: int = 8
    mapping_multiplier: float = 0.01
    mixing: float = 0.9
    mean_decay: float = 0.995
    low_levels: int = 4
    dtype: jnp.dtype | None = None
    clamp: float | None = None
    constant_noise: bool = False

    @property
    def layers(self) -> int:
        """How many layers have a style: two of the convolutions or images a level."""
        return 2 * (self.level + 1)

    def setup(self) -> None:
        self.mapping = Mapping(
            self.style_size, self.mapping_layers, self.mapping_multiplier, self.num_classes
        )
        self.synthesis = StyleGAN2Synthesis(
            self.shape,
            self.level,
            self.channel_base,
            self.channel_max,
            self.low_levels,
            self.dtype,
            self.clamp,
        )
        self.mean = self.variable("styles", "mean", jnp.zeros, (self.style_size,), jnp.float32)
        if self.constant_noise:
            for i, shape in enumerate(self._noise_shapes()):
                self.variable("noise", str(i), lambda s=shape: jax.random.normal(self.make_rng("params"), s))

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

    def images(self, styles: jax.Array, noise: Noises = None) -> jax.Array:
        """[n, layers, S] -> [n, H, W, C] float32, not clipped; for the noise see `Noises`."""
        return self.synthesis(styles, noise)

    def noise(self, keys: jax.Array) -> tuple[jax.Array, ...]:
        """The noise that PRNG keys [n] stand for: [n, H', W'] for each convolution."""
        return drawn_noise(keys, self._noise_shapes())

    def _noise_shapes(self) -> list[tuple[int, int]]:
        levels = [0, *(level for level in range(1, self.level + 1) for _ in range(2))]
        return [sides(self.shape, self.level, level) for level in levels]

    def __call__(
        self,
        latents: jax.Array,
        labels: jax.Array | None = None,
        *,
        train: bool,
        keys: jax.Array | None = None,
        truncation: float | None = None,
    ) -> jax.Array:
        """[n, Z] -> [n, H, W, C] float32.

        Args:
          latents: [n, Z].
          labels: int [n] or shares of the classes [n, classes], where there are classes.
          train: mixes styles, and moves their running mean.
          keys: PRNG keys [n], for noise and mixing; None: neither.
          truncation: psi, by which styles' distances from their running mean are multiplied.
        Raises:
          ValueError: for a shape that the level cannot have, or labels that do not fit.
        """
        styles = self.styles(latents, labels, train=train, keys=keys, truncation=truncation)
        image = self.images(styles, keys)
        return image if train else jnp.clip(image, -1.0, 1.0)


class StyleGAN2Discriminator(nn.Module):
    """StyleGAN2's discriminator: residual blocks, and `minibatch_std` before its end.

    The last features, flat, are sown as "features". With classes, the logit is the inner product of an
    image's features and of what a mapping network makes of its label (Miyato & Koyama 2018, "cGANs with
    projection discriminator"; Karras et al. 2020).

    Attributes:
      level: how often level 0's sides were doubled.
      num_classes: 0 for an unconditional GAN.
      architecture: "residual"; "plain" without the shortcuts; or "skip", likewise, where each level sees the
        image too, shrunk to its size.
      channel_base, channel_max: as the generator's.
      group: of `minibatch_std`; 0: without.
      mapping_layers: of the network of labels.
      mapping_multiplier: of its learning rate.
      low_levels, dtype, clamp: as of the generator; logits are float32.
      axis_name: see `minibatch_std`.
    """

    level: int
    num_classes: int = 0
    architecture: Literal["residual", "plain", "skip"] = "residual"
    channel_base: int = 4096
    channel_max: int = 512
    group: int = 4
    mapping_layers: int = 8
    mapping_multiplier: float = 0.01
    low_levels: int = 4
    dtype: jnp.dtype | None = None
    axis_name: str | None = None
    clamp: float | None = None

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, H, W, C] -> [n], float32. Raises ValueError for sizes that the level or the group can't
        divide, or labels that do not fit."""
        del train
        check_labels(self.num_classes, labels)
        base_of((images.shape[1], images.shape[2], images.shape[3]), self.level)

        def channels(level: int) -> int:
            return channels_at(level, self.channel_base, self.channel_max)

        def conv(name: str, features: int, level: int, **options: Any) -> Callable[[jax.Array], jax.Array]:
            dtype = low_dtype(self.dtype, level, self.level, self.low_levels)
            return FilteredConv(features, dtype=dtype, name=name, **options)

        def active(x: jax.Array) -> jax.Array:
            return clamped(scaled_leaky_relu(x), self.clamp)

        skips = self.architecture == "skip"
        x = active(conv("image", channels(self.level), self.level, kernel_size=1)(images))
        for level in range(self.level, 0, -1):
            y = active(conv(f"conv_{level}", channels(level), level)(x))
            y = active(conv(f"down_{level}", channels(level - 1), level, resample="down")(y))
            if self.architecture == "residual":
                skip = conv(
                    f"skip_{level}",
                    channels(level - 1),
                    level,
                    kernel_size=1,
                    resample="down",
                    use_bias=False,
                )
                y = (y + skip(x)) * jnp.asarray(math.sqrt(0.5), y.dtype)
            if skips:
                images = downsample_filtered(images, FILTER)
                seen = conv(f"image_{level - 1}", channels(level - 1), level - 1, kernel_size=1)(images)
                # The official one does not clamp what the last level sees.
                y = y.astype(seen.dtype) + (active(seen) if level > 1 else scaled_leaky_relu(seen))
            x = y
        x = x.astype(jnp.float32)
        if self.group:
            # In creating variables there is no axis yet.
            x = minibatch_std(x, self.group, None if self.is_initializing() else self.axis_name)
        x = active(conv("conv", channels(0), 0)(x).astype(jnp.float32))
        x = x.reshape(x.shape[0], -1)
        x = scaled_leaky_relu(EqualizedDense(channels(0), gain=1.0, name="dense")(x))
        self.sow("intermediates", "features", x)
        if labels is None:
            return EqualizedDense(1, gain=1.0, name="logits")(x)[:, 0]
        x = EqualizedDense(channels(0), gain=1.0, name="logits")(x)
        of_label = Embed(self.num_classes, channels(0), nn.initializers.normal(1.0), name="label")(labels)
        of_label = pixel_norm(of_label)
        for i in range(self.mapping_layers):
            dense = EqualizedDense(channels(0), multiplier=self.mapping_multiplier, name=f"label_{i}")
            of_label = rectified(dense(of_label))
        return jnp.sum(x * of_label, axis=-1) / math.sqrt(channels(0))


def clamped(x: jax.Array, size: float | None) -> jax.Array:
    """x within [-size, size]; as it is for None."""
    return x if size is None else jnp.clip(x, -size, size)


def low_dtype(dtype: Any, level: int, top: int, low_levels: int) -> Any:
    """`dtype` for the `low_levels` largest levels up to `top`, float32 for those below."""
    return dtype if level > top - low_levels else jnp.float32
