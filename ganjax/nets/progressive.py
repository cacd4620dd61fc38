"""Networks that grow (Karras et al. 2018, "Progressive growing of GANs for improved quality, stability, and
variation"): a generator, and a discriminator that is its mirror image.

At level 0 images are as small as they begin, 4x4 say, and each level doubles their sides. A network of a
level has the layers of the level before under the same names, so that trained ones can be put in their place.
Where it is `blended`, images of the two levels are mixed: at alpha = 0 it is what the smaller network was, on
images that are enlarged or shrunk; at alpha = 1 the larger network alone.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import (
    Embed,
    EqualizedConv,
    EqualizedDense,
    blur,
    crossfaded,
    downsample,
    fir_filter,
    minibatch_std,
    pixel_norm,
    upsample,
)
from ganjax.layers.equalized import SQRT2
from ganjax.nets.parts import check_labels

BLUR = fir_filter([1, 2, 1])


def channels_at(level: int, base: int, maximum: int) -> int:
    """Channels of a level: half as many from level to level, and no more than the maximum."""
    return max(min(base >> level, maximum), 1)


def base_of(shape: tuple[int, int, int], level: int) -> tuple[int, int]:
    """Height and width at level 0 of images of this shape at `level`. Raises ValueError if none can be."""
    height, width, _ = shape
    if level < 0 or height % 2**level or width % 2**level:
        raise ValueError(f"images of {height}x{width} are no base doubled {level} times")
    return height >> level, width >> level


def rectified(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, 0.2)


def normalised_inputs(latents: jax.Array, labels: jax.Array | None, num_classes: int) -> jax.Array:
    """Latents [n, Z] over their second moment, float32; where there are labels, int [n] or shares of the
    classes [n, num_classes], their embedding of Z entries, normalised likewise, beside them: [n, 2 * Z].

    For use inside a compact `__call__`: the layer is called "label". Raises ValueError for labels that do not
    fit.
    """
    check_labels(num_classes, labels)
    x = pixel_norm(latents.astype(jnp.float32))
    if labels is None:
        return x
    embed = Embed(num_classes, latents.shape[-1], nn.initializers.normal(1.0), name="label")
    return jnp.concatenate([x, pixel_norm(embed(labels))], axis=-1)


class ProgressiveGenerator(nn.Module):
    """PGGAN's generator: latents and pixels normalised, nearest upsampling, linear images.

    In training the images are what the last layer gives; else they are clipped to [-1, 1].

    Attributes:
      shape: (H, W, C) of the images.
      level: how often level 0's sides were doubled.
      blended: the level before is mixed in, by `alpha`.
      channel_base: channels at level 0 before the maximum, halved from level to level.
      channel_max: channels at most.
      num_classes: 0 for an unconditional GAN.
      dtype: for compute; parameters and images are float32.
    """

    shape: tuple[int, int, int]
    level: int
    blended: bool = False
    channel_base: int = 4096
    channel_max: int = 512
    num_classes: int = 0
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self,
        latents: jax.Array,
        labels: jax.Array | None = None,
        *,
        train: bool,
        alpha: jax.Array | float = 1.0,
    ) -> jax.Array:
        """[n, Z] and labels as of `normalised_inputs` -> [n, H, W, C] float32.

        Raises:
          ValueError: for labels or a shape that do not fit.
        """
        height, width = base_of(self.shape, self.level)

        def after(x: jax.Array) -> jax.Array:
            return pixel_norm(rectified(x))

        channels = channels_at(0, self.channel_base, self.channel_max)
        x = normalised_inputs(latents, labels, self.num_classes)
        # A quarter of He's gain, as in the paper's code: the step of this wide layer is to be smaller.
        dense = EqualizedDense(height * width * channels, gain=SQRT2 / 4, dtype=self.dtype, name="dense")
        x = after(dense(x).reshape(-1, height, width, channels))
        x = after(EqualizedConv(channels, dtype=self.dtype, name="conv")(x))
        before = x
        for level in range(1, self.level + 1):
            before, channels = x, channels_at(level, self.channel_base, self.channel_max)
            up = EqualizedConv(channels, resample="up", dtype=self.dtype, name=f"up_{level}")
            x = after(up(x))
            x = after(EqualizedConv(channels, dtype=self.dtype, name=f"conv_{level}")(x))
        image = to_image(before, x, self.shape[-1], self.level, self.blended, alpha, self.dtype)
        return image if train else jnp.clip(image, -1.0, 1.0)


def to_image(
    before: jax.Array,
    x: jax.Array,
    channels: int,
    level: int,
    blended: bool,
    alpha: jax.Array | float,
    dtype: jnp.dtype | None,
) -> jax.Array:
    """The image of a generator's features `x`, blended with that of those of the level `before`; float32.

    For use inside a compact `__call__`: the layers are called image_LEVEL.
    """

    def image(features: jax.Array, level: int) -> jax.Array:
        layer = EqualizedConv(channels, 1, gain=1.0, dtype=dtype, name=f"image_{level}")
        return layer(features).astype(jnp.float32)

    if not (blended and level):
        return image(x, level)
    return crossfaded(upsample(image(before, level - 1)), image(x, level), alpha)


class ProgressiveDiscriminator(nn.Module):
    """PGGAN's discriminator: the generator's mirror image, and `minibatch_std` before its end.

    The second convolution of a level and the mean over 2x2 pixels are one, so the rectifier comes behind
    both. The last features, flat, are sown as "features".

    Attributes:
      level: how often level 0's sides were doubled.
      blended: the level before is mixed in, by `alpha`.
      num_classes: 0 for an unconditional GAN; else there is a logit for each class, and the label's counts
        (Mescheder et al. 2018).
      channel_base, channel_max: as the generator's.
      group: of `minibatch_std`; 0: without.
      blurred: features are blurred before they shrink (Karras et al. 2019; Zhang 2019).
      axis_name: see `minibatch_std`.
      dtype: for compute; parameters and logits are float32.
    """

    level: int
    blended: bool = False
    num_classes: int = 0
    channel_base: int = 4096
    channel_max: int = 512
    group: int = 4
    blurred: bool = False
    axis_name: str | None = None
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        labels: jax.Array | None = None,
        *,
        train: bool,
        alpha: jax.Array | float = 1.0,
    ) -> jax.Array:
        """[n, H, W, C] -> [n], float32. Raises ValueError for sizes that the level or the group can't
        divide."""
        del train
        check_labels(self.num_classes, labels)
        base_of((images.shape[1], images.shape[2], images.shape[3]), self.level)

        def channels(level: int) -> int:
            return channels_at(level, self.channel_base, self.channel_max)

        def conv(name: str, features: int, **options) -> Callable[[jax.Array], jax.Array]:
            return EqualizedConv(features, dtype=self.dtype, name=name, **options)

        def features_of(images: jax.Array, level: int) -> jax.Array:
            return rectified(conv(f"image_{level}", channels(level), kernel_size=1)(images))

        x = features_of(images, self.level)
        for level in range(self.level, 0, -1):
            x = rectified(conv(f"conv_{level}", channels(level))(x))
            x = blur(x, BLUR) if self.blurred else x
            x = rectified(conv(f"down_{level}", channels(level - 1), resample="down")(x))
            if level == self.level and self.blended:
                x = crossfaded(features_of(downsample(images), level - 1), x, alpha)
        if self.group:
            # In creating variables there is no axis yet.
            x = minibatch_std(x, self.group, None if self.is_initializing() else self.axis_name)
        x = rectified(conv("conv", channels(0))(x))
        x = x.reshape(x.shape[0], -1)
        x = rectified(EqualizedDense(channels(0), dtype=self.dtype, name="dense")(x)).astype(jnp.float32)
        self.sow("intermediates", "features", x)
        logits = EqualizedDense(max(self.num_classes, 1), gain=1.0, name="logits")(x)
        if labels is None:
            return logits[:, 0]
        shares = labels if labels.ndim > 1 else jax.nn.one_hot(labels, self.num_classes)
        return jnp.sum(logits * shares, axis=-1)
