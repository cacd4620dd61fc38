"""Networks that translate images, and that judge them patch by patch: CycleGAN's residual generator (Zhu et
al. 2017, after Johnson et al. 2016) and the PatchGAN of pix2pix (Isola et al. 2017). `ganjax.nets.unet` has
pix2pix's generator.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.layers import BatchNorm, Conv, ConvTranspose, InstanceNorm
from ganjax.nets.conditional import check_image_shape
from ganjax.nets.parts import UpsampleConv, check_choice

normal_kernel = nn.initializers.normal(0.02)

# Pixels of the image that a logit sees -> stages of stride 2; see `receptive_field`.
PATCHES = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}


def _scale_init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


def image_norm(
    x: jax.Array, *, kind: str, train: bool, dtype: jnp.dtype | None = None, axis_name: str | None = None
) -> jax.Array:
    """Within a compact `__call__`: [n, H, W, C] by "batch" or "instance" normalisation with a scale and a
    bias, or as it is by "none". The scales begin around 1, as the papers' do."""
    check_choice("norm", kind, ("batch", "instance", "none"))
    if kind == "batch":
        return BatchNorm(dtype=dtype, axis_name=axis_name, scale_init=_scale_init)(x, train=train)
    if kind == "instance":
        return InstanceNorm(use_scale=True, use_bias=True, dtype=dtype, scale_init=_scale_init)(x)
    return x


class ResidualGenerator(nn.Module):
    """Image -> 7x7 convolution, two of stride 2, `blocks` residual blocks, two upsampling, 7x7 -> tanh.

    In the paper's names c7s1-64, d128, d256, R256 times 6 (128 pixels) or 9 (256), u128, u64, c7s1-3. The 7x7
    convolutions and those of the blocks see the image's reflection beyond its border, the others zeros; every
    one but the last has instance normalisation without parameters, and ReLU.

    Attributes:
      channels: of the output.
      blocks: residual blocks.
      width: channels of the first convolution; twice as many at each halving.
      halvings: how often the size halves before the blocks.
      upsampling: "transposed", as in the paper, 3x3; "nearest": every pixel twice, then a 3x3 convolution,
        which leaves no checkerboard (Odena et al. 2016, "Deconvolution and checkerboard artifacts").
      skip: the last convolution's output is added to the image, and cut off at -1 and 1 (Kupyn et al. 2018,
        "DeblurGAN"), here without their tanh (see `cut_off`). It begins with zeros, that is with the image as
        it is.
      dtype: for compute.
    """

    channels: int
    blocks: int = 9
    width: int = 64
    halvings: int = 2
    upsampling: str = "transposed"
    skip: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """[n, H, W, C] in [-1, 1] -> [n, H, W, channels] float32 in [-1, 1].

        Raises:
          ValueError: sides that are no multiples of 2^halvings, or too small to be reflected: 4 pixels, or
            twice 2^halvings with a block; a skip from other channels than the output's.
        """
        del train  # it is the same in evaluation
        check_residual_shape(images.shape[1:3], self.halvings, self.blocks)
        check_choice("upsampling", self.upsampling, ("transposed", "nearest"))
        if self.skip and images.shape[-1] != self.channels:
            raise ValueError(
                f"skip: expected images of as many channels as the output, got {images.shape[-1]} and "
                f"{self.channels}"
            )
        conv = functools.partial(Conv, use_bias=False, kernel_init=normal_kernel, dtype=self.dtype)

        def normed(x: jax.Array) -> jax.Array:
            return InstanceNorm(dtype=self.dtype)(x)

        x = images.astype(self.dtype or images.dtype)
        x = nn.relu(normed(conv(self.width, (7, 7), padding="REFLECT")(x)))
        for stage in range(1, self.halvings + 1):
            x = nn.relu(normed(conv(self.width << stage, (3, 3), (2, 2), padding=1)(x)))
        for _ in range(self.blocks):
            y = nn.relu(normed(conv(x.shape[-1], (3, 3), padding="REFLECT")(x)))
            x = x + normed(conv(x.shape[-1], (3, 3), padding="REFLECT")(y))
        shared = {"kernel_init": normal_kernel, "use_bias": False, "dtype": self.dtype}
        for stage in reversed(range(self.halvings)):
            up = (
                UpsampleConv(self.width << stage, **shared)
                if self.upsampling == "nearest"
                else ConvTranspose(self.width << stage, (3, 3), (2, 2), padding=((1, 2), (1, 2)), **shared)
            )
            x = nn.relu(normed(up(x)))
        first = nn.initializers.zeros_init() if self.skip else normal_kernel
        last = Conv(self.channels, (7, 7), padding="REFLECT", kernel_init=first, dtype=self.dtype)
        x = last(x).astype(jnp.float32)
        return cut_off(images + x) if self.skip else jnp.tanh(x)


@jax.custom_vjp
def cut_off(x: jax.Array) -> jax.Array:
    """x cut off at -1 and 1, with a gradient beyond them too, where a step against it leads back.

    By a clip's own gradient a pixel that is white, and by however little more than white, would stay so: no
    loss could darken it, and of drawings on white that is half of all pixels.

    Args:
      x: of any shape. It has derivatives in reverse mode only.
    Returns:
      of x's shape, in [-1, 1].
    """
    return jnp.clip(x, -1, 1)


def _cut_off_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return cut_off(x), x


def _cut_off_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    outwards = ((x > 1) & (gradient < 0)) | ((x < -1) & (gradient > 0))
    return (jnp.where(outwards, 0, gradient),)


cut_off.defvjp(_cut_off_forward, _cut_off_backward)


def check_residual_shape(size: tuple[int, ...], halvings: int, blocks: int) -> None:
    """Raises ValueError unless a `ResidualGenerator` takes images of this (height, width)."""
    check_image_shape((*size, 1), 2**halvings)
    least = least_side(halvings, blocks)
    if min(size) < least:
        raise ValueError(
            f"image_size {size[0]}x{size[1]}: this network reflects images at their border, and needs sides "
            f"of at least {least}"
        )


def least_side(halvings: int, blocks: int) -> int:
    """What the sides of a `ResidualGenerator`'s images are at least."""
    return max(4, 2 ** (halvings + 1) if blocks else 0)


class PatchDiscriminator(nn.Module):
    """A logit for each patch of an image: 4x4 convolutions, `stages` of stride 2 and two of stride 1.

    70 pixels are C64-C128-C256-C512 of three stages; a patch of 1 is two 1x1 convolutions before the logit's.
    All but the first and the last are normalised; leaky ReLU 0.2. What each but the last gives is sown, layer
    by layer, as the intermediate "features".

    Attributes:
      patch: pixels on a side of what a logit sees, of `PATCHES`.
      width: channels of the first convolution; twice as many at each following one, up to 8 times.
      norm: "batch", "instance" or "none".
      affine: an instance norm has scales and shifts, as a batch norm always has.
      dtype: for compute, up to the logits.
      axis_name: of an enclosing `pmap` whose devices' batches share their statistics.
    """

    patch: int = 70
    width: int = 64
    norm: str = "batch"
    affine: bool = False
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """[n, H, W, C] in [-1, 1] -> logits [n, H', W', 1], float32.

        Raises:
          ValueError: another patch, or an image that leaves no logit.
        """
        check_patch(self.patch, images.shape[1:3])
        check_choice("norm", self.norm, ("batch", "instance", "none"))

        def normed(x: jax.Array) -> jax.Array:
            if self.norm == "instance" and not self.affine:
                return InstanceNorm(dtype=self.dtype)(x)
            return image_norm(x, kind=self.norm, train=train, dtype=self.dtype, axis_name=self.axis_name)

        x = images.astype(self.dtype or images.dtype)
        stages = PATCHES[self.patch]
        size, pads = ((4, 4), 1) if stages else ((1, 1), 0)
        conv = functools.partial(
            Conv, kernel_size=size, padding=pads, kernel_init=normal_kernel, dtype=self.dtype
        )
        strides = [2] * stages + [1] if stages else [1, 1]
        for stage, stride in enumerate(strides):
            bare = stage == 0
            features = self.width * min(2**stage, 8)
            x = conv(features, strides=(stride, stride), use_bias=bare or self.norm == "none")(x)
            x = nn.leaky_relu(x if bare else normed(x), 0.2)
            self.sow("intermediates", "features", x)
        return conv(1)(x).astype(jnp.float32)


def check_patch(patch: int, size: tuple[int, ...]) -> None:
    """Raises ValueError unless a `PatchDiscriminator` of this patch has logits for images of this (H, W)."""
    if patch not in PATCHES:
        raise ValueError(f"patch={patch}: expected one of {', '.join(map(str, PATCHES))}")
    stages = PATCHES[patch]
    least = 3 * 2**stages if stages else 1
    if min(size) < least:
        raise ValueError(
            f"image_size {size[0]}x{size[1]}: a discriminator of patch={patch} needs sides of at least "
            f"{least}; make the patch smaller"
        )
