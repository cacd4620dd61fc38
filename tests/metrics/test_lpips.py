import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.errors import RunError
from ganjax.metrics.lpips import LPIPS, SCALE, SHIFT, TRUNKS, convert, load_lpips, lpips, reduced, reduction
from ganjax.weights import Weights

FILES = os.environ.get("GANJAX_LPIPS")
needs_weights = pytest.mark.skipif(
    not FILES, reason=f"set GANJAX_LPIPS to files of LPIPS weights, joined by {os.pathsep!r}"
)
FAST = {"xla_backend_optimization_level": 0}
fast = jax.jit(lpips, compiler_options=FAST)
slope = jax.jit(jax.value_and_grad(lambda params, x, y: lpips(params, x, y).sum(), 1), compiler_options=FAST)


def made_up(kind):
    """torchvision's names -> weights, and the heads' names -> heads; OIHW."""
    draw, trunk = np.random.default_rng(0), TRUNKS[kind]
    pool = draw.normal(size=2**16).astype(np.float32)
    network, channels = {}, 3
    for place, size, features in zip(trunk.places, trunk.kernels, trunk.features, strict=True):
        shape = features, channels, size, size
        weight = np.resize(np.roll(pool, int(draw.integers(len(pool)))), shape)
        network[f"features.{place}.weight"] = weight * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        network[f"features.{place}.bias"] = 0.1 * draw.normal(size=features).astype(np.float32)
        channels = features
    widths = [trunk.features[i] for i in trunk.compared]
    heads = {
        f"lin{i}.model.1.weight": draw.uniform(0, 1, (1, n, 1, 1)).astype(np.float32)
        for i, n in enumerate(widths)
    }
    return network, heads


def file(arrays, sha256="0" * 64):
    return Weights("a/file", "torch", sha256, arrays)


def convolved(x, weight, bias, stride, padding):
    """[N, C, H, W] by its definition."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,fcij->nfhw", windows, weight, optimize=True) + bias[:, None, None]


def pooled(x, size):
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::2, ::2].max((4, 5))


def by_definition(kind, network, heads, x, y):
    """Zhang et al. 2018, equation 1, float64."""
    layers = {
        "vgg16": [(1, 1, 0), (1, 1, 0), *[(1, 1, 2), (1, 1, 0)], *[(1, 1, 2), (1, 1, 0), (1, 1, 0)] * 3],
        "alexnet": [(4, 2, 0), (1, 2, 3), (1, 1, 3), (1, 1, 0), (1, 1, 0)],
    }[kind]
    ends = {"vgg16": [1, 3, 6, 9, 12], "alexnet": [0, 1, 2, 3, 4]}[kind]
    names = [name.removesuffix(".weight") for name in network if name.endswith(".weight")]
    outputs = []
    for images in (x, y):
        z = ((images.astype(np.float64) - SHIFT) / SCALE).transpose(0, 3, 1, 2)
        kept = []
        for i, (name, (stride, padding, pool)) in enumerate(zip(names, layers, strict=True)):
            z = pooled(z, pool) if pool else z
            weight, bias = (network[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias"))
            z = np.maximum(convolved(z, weight, bias, stride, padding), 0)
            if i in ends:
                kept.append(z / (np.sqrt((z**2).sum(1, keepdims=True)) + 1e-10))
        outputs.append(kept)
    total = np.zeros(len(x))
    for head, a, b in zip(heads.values(), *outputs, strict=True):
        total += (head.reshape(1, -1, 1, 1) * (a - b) ** 2).sum(1).mean((1, 2))
    return total


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(("kind", "size"), [("vgg16", (16, 19)), ("alexnet", (31, 40))])
def test_by_definition(kind, size):
    network, heads = made_up(kind)
    metric = LPIPS(file(network | heads | {"classifier.0.weight": np.zeros((2, 2), np.float32)}))
    assert metric.network == kind
    x, y = images(3, *size, 3), images(3, *size, 3, seed=1)
    y[2] = x[2]
    found = np.asarray(fast(metric.params, x, y))
    expected = by_definition(kind, network, heads, x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)
    assert found[2] == 0
    assert found[:2].min() > 0.01


@pytest.fixture(scope="module")
def alexnet():
    network, heads = made_up("alexnet")
    return LPIPS(file(network), file(heads, "1" * 64))


def test_every_form_of_the_names_is_the_same_network():
    for kind, tree in (("vgg16", "VGG16_0"), ("alexnet", "AlexNet_0")):
        network, heads = made_up(kind)
        expected = convert(file(network | heads))
        module = {name.replace("features", "net.slice2"): array for name, array in network.items()}
        module |= {name.replace("lin", "lins."): array for name, array in heads.items()} | heads
        numpy = {}
        for i, place in enumerate(TRUNKS[kind].places):
            numpy[f"{tree}.Conv_{i}.kernel"] = network[f"features.{place}.weight"].transpose(2, 3, 1, 0)
            numpy[f"{tree}.Conv_{i}.bias"] = network[f"features.{place}.bias"]
        numpy |= {
            f"NetLinLayer_{i}.Conv_0.kernel": h.reshape(1, 1, -1, 1) for i, h in enumerate(heads.values())
        }
        forms = [(file(network), file(heads)), (file(module),), (file(numpy),)]
        for files in forms if kind == "alexnet" else forms[2:]:
            found = convert(*files)
            assert found[0] == expected[0] == kind
            jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])


def test_types_channels_and_chunks(alexnet, monkeypatch):
    monkeypatch.setattr("ganjax.metrics.lpips._compiled", lambda: fast)
    assert alexnet.identity == f"lpips-alexnet-{'0' * 64}+{'1' * 64}"
    x, y = np.random.default_rng(0).integers(0, 256, (2, 5, 32, 32, 1), np.uint8)
    done = []
    found = alexnet.distances(x, y, chunk=2, progress=done.append)
    assert done == [2, 4, 5]
    colours = (np.repeat(z, 3, -1) / 127.5 - 1 for z in (x, y))
    np.testing.assert_allclose(found, by_definition("alexnet", *made_up("alexnet"), *colours), rtol=1e-4)
    assert alexnet.distances(x[:0], y[:0]).shape == (0,)


def test_gradients_in_the_images(alexnet):
    x, y = images(1, 32, 32, 3), images(1, 32, 32, 3, seed=1)
    _, gradient = slope(alexnet.params, x, y)
    # Along the gradient and not far: the network is a polyhedron, and its distances are rounded to 1e-7.
    step = 0.01 * gradient / np.linalg.norm(gradient)
    above, below = (slope(alexnet.params, image, y)[0] for image in (x + step, x - step))
    np.testing.assert_allclose(np.sum(gradient * step), (above - below) / 2, rtol=0.02)
    # Where images agree the distance is least, and flat; nothing is divided by zero there.
    np.testing.assert_array_equal(slope(alexnet.params, y, y)[1], 0)


def test_no_activation_has_no_direction():
    network, heads = made_up("alexnet")
    dead = {name: array - 1e3 if name.endswith("bias") else array for name, array in network.items()}
    metric = LPIPS(file(dead | heads))
    value, gradient = slope(metric.params, images(1, 32, 32, 3), images(1, 32, 32, 3, seed=1))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_bad_images_are_refused(alexnet):
    good = np.zeros((2, 32, 32, 3), np.float32)
    for x, y, message in (
        (good, good[:1], "one shape"),
        (good[..., :2], good[..., :2], "one shape"),
        (good[:, :30], good[:, :30], "at least 31 pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            alexnet(x, y)
    with pytest.raises(ValueError, match="one shape and type"):
        alexnet.distances(good, good.astype(np.uint8))
    with pytest.raises(ValueError, match="chunk=0"):
        alexnet.distances(good, good, chunk=0)


def test_transparent_images_are_laid_over_white(alexnet):
    colours, other = images(2, 32, 32, 3), images(2, 32, 32, 3, seed=1)
    alpha = np.ones((2, 32, 32, 1), np.float32)
    alpha[:, :10] = -1  # not there
    seen = np.where(alpha > 0, colours, 1.0).astype(np.float32)
    expected = alexnet.distances(seen, other, chunk=2)
    found = alexnet.distances(
        np.concatenate([colours, alpha], -1), np.concatenate([other, np.ones_like(alpha)], -1), chunk=2
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_other_weights_are_refused_in_one_line(tmp_path):
    network, heads = made_up("alexnet")
    name, head = "features.3.weight", "lin2.model.1.weight"
    cases = {
        "no weights of VGG16 or AlexNet": heads,
        "head 0 of LPIPS for alexnet is missing": network,
        "the kernel of alexnet's convolution 1 is missing": {k: v for k, v in network.items() if k != name}
        | heads,
        r"convolution 1 has the shape \[5, 5, 64, 191\]": network | heads | {name: network[name][:191]},
        "head 2 of LPIPS for alexnet holds what is no finite": network | heads | {head: heads[head] * np.nan},
        "head 2 of LPIPS for alexnet has values below 0": network | heads | {head: -heads[head]},
        r"head 2 .* has the shape \[1, 383, 1, 1\]": network | heads | {head: heads[head][:, :383]},
    }
    for message, arrays in cases.items():
        with pytest.raises(RunError, match=f"a/file: .*{message}") as caught:
            LPIPS(file(arrays))
        assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="can't be read"):
        load_lpips(tmp_path / "none")


@needs_weights
@pytest.mark.slow
def test_the_files_say_what_people_say():
    assert FILES is not None
    draw = np.random.default_rng(0)
    image = np.kron(draw.uniform(-1, 1, (1, 8, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.float32)
    noisy = image + draw.normal(size=image.shape).astype(np.float32) * 0.05
    shuffled = image[:, draw.permutation(64)]
    for path in FILES.split(os.pathsep):
        metric = load_lpips(path)
        slight, large = (float(metric.distances(image, other, chunk=1)[0]) for other in (noisy, shuffled))
        assert 0 < slight < large < 2


def test_jit_takes_parameters_as_an_argument(alexnet):
    shapes = jax.eval_shape(lpips, alexnet.params, jnp.zeros((2, 40, 40, 3)), jnp.zeros((2, 40, 40, 3)))
    assert shapes.shape == (2,)


def test_large_images_are_shrunk_by_whole_blocks():
    images = np.arange(2 * 515 * 520 * 1, dtype=np.float64).reshape(2, 515, 520, 1)
    assert (reduction((515, 520)), reduction((511, 1024)), reduction((64, 64))) == (2, 1, 1)
    small = reduced(images)
    assert small.shape == (2, 257, 260, 1)
    assert small[1, 3, 5, 0] == images[1, 6:8, 10:12, 0].mean()
    np.testing.assert_array_equal(reduced(images[:, :300]), images[:, :300])
