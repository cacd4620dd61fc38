"""Residual networks with labels, by a plan for each image size: those of conditional SNGAN (Miyato & Koyama
2018, "cGANs with projection discriminator"), SAGAN (Zhang et al. 2019, "Self-attention generative adversarial
networks"), BigGAN and BigGAN-deep (Brock et al. 2019, "Large scale GAN training for high fidelity natural
image synthesis", appendix B).

As in `ganjax.nets.resnet`, shortcuts run their 1x1 convolution on the smaller of the two sizes, with which it
commutes, and a convolution that batch normalisation follows has no bias.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from ganjax.layers import (
    BatchNorm,
    ConditionalBatchNorm,
    Embed,
    EmbeddedBatchNorm,
    SelfAttention,
    SpectralDense,
    add_bias,
    conv,
    conv_pool,
    downsample,
    spectrally_normalised,
    upsample,
    upsample_conv,
)
from ganjax.nets.parts import check_choice, check_labels

CONDITIONING = ("projection", "auxiliary", "concatenation")

_glorot = nn.initializers.glorot_uniform()


class Plan(NamedTuple):
    """The networks for one image size.

    Attributes:
      base: side of the generator's smallest maps.
      generator: channels, in multiples of the width: of the smallest maps, and after each doubling of the
        side.
      discriminator: channels after each block.
      halvings: how many of these blocks halve the side, the first ones.
    """

    base: int
    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    halvings: int


# By side. 28 is ours, for MNIST; 32 is SNGAN's; the others are BigGAN's, and SAGAN's at 128.
PLANS = {
    28: Plan(7, (2, 2, 1), (1, 2, 2), 2),
    32: Plan(4, (4, 4, 4, 4), (4, 4, 4, 4), 2),
    64: Plan(4, (16, 16, 8, 4, 2), (1, 2, 4, 8, 16), 4),
    128: Plan(4, (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),
    256: Plan(4, (16, 16, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 16, 16), 6),
}


def plan_of(image_shape: Sequence[int]) -> Plan:
    """The plan for images (H, W, C). Raises ValueError where there is none."""
    if len(image_shape) != 3:
        raise ValueError(f"image shape {tuple(image_shape)}: expected (height, width, channels)")
    height, width, _ = image_shape
    if height != width or height not in PLANS:
        sizes = ", ".join(map(str, PLANS))
        raise ValueError(f"image_size {height}x{width}: these networks have plans for squares of {sizes}")
    return PLANS[height]


def attention_sides(image_shape: Sequence[int]) -> tuple[int, ...]:
    """The sides of maps that both networks have, where attention can be put. ValueError as `plan_of`."""
    plan, side = plan_of(image_shape), image_shape[0]
    return tuple(side >> i for i in range(plan.halvings, 0, -1) if (side >> i) > plan.base)


def _check_attention(attention: int, image_shape: Sequence[int]) -> None:
    sides = attention_sides(image_shape)
    if attention and attention not in sides:
        raise ValueError(
            f"attention={attention}: at image_size {image_shape[0]} expected 0 or one of "
            f"{', '.join(map(str, sides))}"
        )


def latent_parts(image_shape: Sequence[int]) -> int:
    """Into how many parts BigGAN splits its latents: one for the smallest maps and one for each block."""
    return len(plan_of(image_shape).generator)


class Style(NamedTuple):
    """What all layers of a network have alike.

    Attributes:
      spectral: kernels are spectrally normalised.
      kernel_init: of kernels.
      dtype: for compute.
      axis_name: see `BatchNorm`.
      num_classes: of labels that norms are given; 0: they are given a vector, or nothing.
      block_init: of kernels in blocks but for shortcuts, where it is another; not of bottlenecks.
    """

    spectral: bool
    kernel_init: nn.initializers.Initializer
    dtype: jnp.dtype | None
    axis_name: str | None = None
    num_classes: int = 0
    block_init: nn.initializers.Initializer | None = None

    @property
    def in_block(self) -> "Style":
        """That of what is in a block."""
        return self._replace(kernel_init=self.block_init or self.kernel_init)


class Convolution(nn.Module):
    """A "SAME" convolution of stride 1 with a resampling.

    Attributes:
      features: output channels F.
      style: of the network.
      size: of the kernel, odd.
      resample: "none"; "up": after nearest upsampling by 2; "down": before a mean over 2x2 pixels.
      use_bias: adds a bias [F].
    """

    features: int
    style: Style
    size: int = 3
    resample: str = "none"
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[n, H, W, C] -> [n, H', W', features]."""
        shape = self.size, self.size, x.shape[-1], self.features
        kernel = self.param("kernel", self.style.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        if self.style.spectral:
            kernel = spectrally_normalised(self, kernel, train=train)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.style.dtype)
        convolved = {"none": conv, "up": upsample_conv, "down": conv_pool}[self.resample]
        return add_bias(convolved(x, kernel), bias)


def _dense(style: Style, features: int, x: jax.Array, *, train: bool, name: str) -> jax.Array:
    options: Any = {"kernel_init": style.kernel_init, "dtype": style.dtype, "name": name}
    if style.spectral:
        return SpectralDense(features, **options)(x, train=train)
    return nn.Dense(features, **options)(x)


def _activated(
    style: Style, x: jax.Array, condition: jax.Array | None, *, train: bool, name: str
) -> jax.Array:
    """ReLU after batch normalisation by the condition: none, labels, or a vector."""
    options: Any = {"dtype": style.dtype, "axis_name": style.axis_name, "name": name}
    if condition is None:
        y = BatchNorm(**options)(x, train=train)
    elif style.num_classes:
        y = ConditionalBatchNorm(style.num_classes, **options)(x, condition, train=train)
    else:
        norm = EmbeddedBatchNorm(style.spectral, style.kernel_init, **options)
        y = norm(x, condition, train=train)
    return nn.relu(y)


class UpBlock(nn.Module):
    """Norm, ReLU, upsample, 3x3 conv, norm, ReLU, 3x3 conv; the shortcut upsamples and has a 1x1 conv."""

    features: int
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None, *, train: bool) -> jax.Array:
        style, inner = self.style, self.style.in_block
        y = _activated(style, x, condition, train=train, name="norm_0")
        y = Convolution(self.features, inner, resample="up", use_bias=False, name="conv_0")(y, train=train)
        y = _activated(style, y, condition, train=train, name="norm_1")
        y = Convolution(self.features, inner, name="conv_1")(y, train=train)
        shortcut = Convolution(self.features, style, 1, name="shortcut")(x, train=train)
        return y + upsample(shortcut)


class DownBlock(nn.Module):
    """ReLU, 3x3 conv, ReLU, 3x3 conv, mean pool; the shortcut has a 1x1 conv and pools.

    The first block of a network leaves out the first ReLU, which would cut off half of the image. A block
    that keeps size and channels has a plain shortcut.
    """

    features: int
    style: Style
    first: bool = False
    down: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y, inner = x if self.first else nn.relu(x), self.style.in_block
        y = nn.relu(Convolution(self.features, inner, name="conv_0")(y, train=train))
        resample = "down" if self.down else "none"
        y = Convolution(self.features, inner, resample=resample, name="conv_1")(y, train=train)
        x = downsample(x) if self.down else x
        if self.down or x.shape[-1] != self.features:
            x = Convolution(self.features, self.style, 1, name="shortcut")(x, train=train)
        return y + x


class DeepUpBlock(nn.Module):
    """BigGAN-deep's: a bottleneck of a quarter of the channels, 1x1, 3x3, 3x3, 1x1, each after norm and ReLU.

    The shortcut keeps the first of the channels, where they become fewer.
    """

    features: int
    style: Style
    up: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None, *, train: bool) -> jax.Array:
        hidden = max(x.shape[-1] // 4, 1)
        y = x
        for i, (features, size) in enumerate(((hidden, 1), (hidden, 3), (hidden, 3), (self.features, 1))):
            y = _activated(self.style, y, condition, train=train, name=f"norm_{i}")
            resample = "up" if self.up and i == 1 else "none"
            last = i == 3
            layer = Convolution(features, self.style, size, resample, use_bias=last, name=f"conv_{i}")
            y = layer(y, train=train)
        x = x[..., : self.features]
        return y + (upsample(x) if self.up else x)


class DeepDownBlock(nn.Module):
    """BigGAN-deep's: a bottleneck of a quarter of the channels, 1x1, 3x3, 3x3, 1x1, each after ReLU; where it
    halves the side, the mean is taken before the last.

    Where the channels become more, a 1x1 convolution of the shortcut gives those that are missing.
    """

    features: int
    style: Style
    down: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        hidden = max(self.features // 4, 1)
        y = x
        for i, (features, size) in enumerate(((hidden, 1), (hidden, 3), (hidden, 3), (self.features, 1))):
            y = nn.relu(y)
            if i == 3 and self.down:
                x, y = downsample(x), downsample(y)
            y = Convolution(features, self.style, size, name=f"conv_{i}")(y, train=train)
        if (more := self.features - x.shape[-1]) > 0:
            extra = Convolution(more, self.style, 1, name="shortcut")(x, train=train)
            x = jnp.concatenate([x, extra], axis=-1)
        return y + x


class ResidualGenerator(nn.Module):
    """Latents and label -> dense -> a residual block for each doubling of the side -> BN, ReLU, conv -> tanh.

    How the label enters:
    - embedding=0: each norm has a scale and a shift for each class (SNGAN, SAGAN);
    - embedding=E: one embedding of E numbers is shared by all norms, each with linear maps of its own. The
      latents are split into `latent_parts`: the first makes the smallest maps, the others go beside the
      embedding to a block each (BigGAN). With `deep` they go there whole, and with the embedding to the
      smallest maps too (BigGAN-deep).

    Attributes:
      image_shape: (H, W, C), for which there is a plan.
      num_classes: 0 for a generator without labels.
      width: channels, by the plan's multiples.
      embedding: see above.
      attention: side of the maps after which self-attention is put; 0: none.
      deep: two bottleneck blocks in the place of one.
      spectral: kernels are spectrally normalised.
      kernel_init: of kernels and the shared embedding.
      dtype: for compute.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
      block_init: see `Style`.
    """

    image_shape: tuple[int, int, int]
    num_classes: int = 0
    width: int = 64
    embedding: int = 0
    attention: int = 0
    deep: bool = False
    spectral: bool = True
    kernel_init: nn.initializers.Initializer = _glorot
    dtype: jnp.dtype | None = None
    axis_name: str | None = None
    block_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, latents: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, Z], int [n] or shares [n, num_classes] or None -> [n, H, W, C] float32 in [-1, 1].

        Raises:
          ValueError: there is no plan, or an attribute, the labels or the latents' size do not fit.
        """
        plan = plan_of(self.image_shape)
        _check_attention(self.attention, self.image_shape)
        check_labels(self.num_classes, labels)
        if self.embedding and not self.num_classes:
            raise ValueError(f"embedding={self.embedding}: it is of labels, and num_classes is 0")
        of_tables = 0 if self.embedding else self.num_classes
        style = Style(self.spectral, self.kernel_init, self.dtype, self.axis_name, of_tables, self.block_init)
        first, conditions = self._conditions(latents, labels, len(plan.generator))
        channels = [multiple * self.width for multiple in plan.generator]
        x = _dense(style, plan.base**2 * channels[0], first, train=train, name="dense")
        x = x.reshape(-1, plan.base, plan.base, channels[0])
        for i, (features, condition) in enumerate(zip(channels[1:], conditions, strict=True)):
            if self.deep:
                x = DeepUpBlock(x.shape[-1], style, name=f"flat_{i}")(x, condition, train=train)
                x = DeepUpBlock(features, style, up=True, name=f"up_{i}")(x, condition, train=train)
            else:
                x = UpBlock(features, style, name=f"up_{i}")(x, condition, train=train)
            if x.shape[1] == self.attention:
                layer = SelfAttention(self.spectral, self.kernel_init, self.dtype, name="attention")
                x = layer(x, train=train)
        x = _activated(style, x, None, train=train, name="norm")
        x = Convolution(self.image_shape[2], style, name="output")(x, train=train)
        return jnp.tanh(x.astype(jnp.float32))

    def _conditions(
        self, latents: jax.Array, labels: jax.Array | None, parts: int
    ) -> tuple[jax.Array, Sequence[jax.Array | None]]:
        """What the smallest maps are made of, and what each block's norms are given."""
        if not self.embedding or labels is None:
            return latents, [labels] * (parts - 1)
        embed = Embed(
            self.num_classes, self.embedding, self.kernel_init, dtype=self.dtype, name="label_embedding"
        )
        vector = embed(labels)
        latents = latents.astype(vector.dtype)
        if self.deep:
            whole = jnp.concatenate([latents, vector], axis=-1)
            return whole, [whole] * (parts - 1)
        if latents.shape[-1] % parts:
            raise ValueError(
                f"latent_size={latents.shape[-1]}: at image_size {self.image_shape[0]} it is split into "
                f"{parts} equal parts"
            )
        first, *rest = jnp.split(latents, parts, axis=-1)
        return first, [jnp.concatenate([part, vector], axis=-1) for part in rest]


class ResidualDiscriminator(nn.Module):
    """Image -> residual blocks that halve the side, and some that keep it -> ReLU, sum over pixels -> logit.

    How the label enters, where there are classes:
    - conditioning="projection": the logit has the inner product of the label's embedding with the features
      besides (Miyato & Koyama 2018);
    - "auxiliary": not at all; the features also give logits of the classes, sown into "intermediates" as
      "class_logits", for the loss of AC-GAN (Odena et al. 2017);
    - "concatenation": an embedding of it is a channel beside the image's (Mirza & Osindero 2014).

    Attributes:
      num_classes: 0 for a discriminator without labels.
      width: channels, by the plan's multiples.
      conditioning: see above.
      attention: side of the maps after which self-attention is put; 0: none.
      deep: BigGAN-deep's: a 3x3 convolution first, and two bottleneck blocks in the place of one.
      spectral: kernels are spectrally normalised, and the label's embedding that is projected.
      kernel_init: of kernels and that embedding.
      dtype: for compute, up to the features.
      block_init: see `Style`.
    """

    num_classes: int = 0
    width: int = 64
    conditioning: str = "projection"
    attention: int = 0
    deep: bool = False
    spectral: bool = True
    kernel_init: nn.initializers.Initializer = _glorot
    dtype: jnp.dtype | None = None
    block_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array | None = None, *, train: bool) -> jax.Array:
        """[n, H, W, C] in [-1, 1], int [n] or None -> logits [n], float32.

        Raises:
          ValueError: there is no plan, or an attribute or the labels do not fit.
        """
        plan = plan_of(images.shape[1:])
        check_choice("conditioning", self.conditioning, CONDITIONING)
        _check_attention(self.attention, images.shape[1:])
        check_labels(self.num_classes, labels)
        style = Style(self.spectral, self.kernel_init, self.dtype, block_init=self.block_init)
        x = images.astype(self.dtype or images.dtype)
        if labels is not None and self.conditioning == "concatenation":
            height, width = x.shape[1:3]
            normal = nn.initializers.normal(1.0)  # as large as pixels
            embed = Embed(self.num_classes, height * width, normal, dtype=self.dtype, name="label_channel")
            x = jnp.concatenate([x, embed(labels).reshape(-1, height, width, 1)], axis=-1)
        channels = [multiple * self.width for multiple in plan.discriminator]
        if self.deep:
            x = Convolution(channels.pop(0), style, name="input")(x, train=train)
        for i, features in enumerate(channels):
            down = i < plan.halvings
            if self.deep:
                x = DeepDownBlock(features, style, down=down, name=f"down_{i}")(x, train=train)
            else:
                x = DownBlock(features, style, first=i == 0, down=down, name=f"down_{i}")(x, train=train)
            if down and x.shape[1] == self.attention:
                layer = SelfAttention(self.spectral, self.kernel_init, self.dtype, name="attention")
                x = layer(x, train=train)
            if self.deep:
                x = DeepDownBlock(features, style, name=f"flat_{i}")(x, train=train)
        # Sum and logits in float32 in any dtype: bfloat16 has 8 bits.
        x = jnp.sum(nn.relu(x).astype(jnp.float32), axis=(1, 2))
        self.sow("intermediates", "features", x)
        style = style._replace(dtype=None)
        logits = _dense(style, 1, x, train=train, name="logit").squeeze(-1)
        if labels is not None and self.conditioning == "projection":
            options: Any = {"spectral": self.spectral, "name": "label_features"}
            embed = Embed(self.num_classes, x.shape[-1], self.kernel_init, **options)
            logits = logits + jnp.sum(embed(labels, train=train) * x, axis=-1)
        if labels is not None and self.conditioning == "auxiliary":
            class_logits = _dense(style, self.num_classes, x, train=train, name="classes")
            self.sow("intermediates", "class_logits", class_logits)
        return logits
