"""A generator that is steered by style (Karras et al. 2019, "A style-based generator architecture for
generative adversarial networks"). Its discriminator is `ProgressiveDiscriminator` with `blurred`."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import random
from ganjax.layers import AdaIN, EqualizedConv, EqualizedDense, Noise, add_bias, blur
from ganjax.nets.progressive import BLUR, base_of, channels_at, normalised_inputs, rectified, to_image


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

    @nn.compact
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
        mapping = Mapping(
            self.style_size, self.mapping_layers, self.mapping_multiplier, self.num_classes, name="mapping"
        )
        style = mapping(latents, labels)
        mean = self.variable("styles", "mean", jnp.zeros, (self.style_size,), jnp.float32)
        if train and not self.is_initializing():
            mean.value = self.mean_decay * mean.value + (1 - self.mean_decay) * jnp.mean(style, axis=0)
        if truncation is not None:
            centre = mean.value[None]
            style = centre + truncation * (style - centre)
        layers = 2 * (self.level + 1)
        styles = [style] * layers
        if train and self.mixing and keys is not None:
            others = mapping(random.normal(random.streams(keys, "mixed latents"), latents.shape[1:]), labels)
            first = random.randint(random.streams(keys, "mixed from"), 1, layers)
            does = random.uniform(random.streams(keys, "mixed"), ()) < self.mixing
            first = jnp.where(does, first, layers)
            styles = [jnp.where((i < first)[:, None], style, others) for i in range(layers)]

        def conv(name: str, features: int, **options: Any) -> EqualizedConv:
            return EqualizedConv(features, use_bias=False, dtype=self.dtype, name=name, **options)

        def after(x: jax.Array, number: int) -> jax.Array:
            of_layer = None if keys is None else random.streams(keys, f"noise {number}")
            bias = self.param(f"bias_{number}", nn.initializers.zeros_init(), x.shape[-1:])
            x = rectified(add_bias(Noise(name=f"noise_{number}")(x, of_layer), bias.astype(x.dtype)))
            return AdaIN(dtype=self.dtype, name=f"adain_{number}")(x, styles[number])

        height, width = base_of(self.shape, self.level)
        channels = channels_at(0, self.channel_base, self.channel_max)
        constant = self.param("constant", nn.initializers.ones_init(), (height, width, channels))
        constant = constant.astype(self.dtype or jnp.float32)
        x = after(jnp.broadcast_to(constant[None], (latents.shape[0], *constant.shape)), 0)
        x = after(conv("conv", channels)(x), 1)
        before = x
        for level in range(1, self.level + 1):
            before, channels = x, channels_at(level, self.channel_base, self.channel_max)
            x = after(blur(conv(f"up_{level}", channels, resample="up")(x), BLUR), 2 * level)
            x = after(conv(f"conv_{level}", channels)(x), 2 * level + 1)
        image = to_image(before, x, self.shape[-1], self.level, self.blended, alpha, self.dtype)
        return image if train else jnp.clip(image, -1.0, 1.0)
