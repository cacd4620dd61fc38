import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.errors import RunError, UsageError
from ganjax.metrics import inception
from ganjax.metrics.inception import (
    LAYERS,
    Inception,
    Network,
    average_pool,
    convert,
    load_inception,
    max_pool,
)
from ganjax.weights import Weights, read_weights

FILE = os.environ.get("GANJAX_INCEPTION")
needs_weights = pytest.mark.skipif(
    not FILE, reason="set GANJAX_INCEPTION to a file of the FID Inception's weights"
)


@pytest.fixture(scope="module")
def made_up():
    """layer -> weight, beta, mean, variance, such that no activation dies or explodes."""
    draw = np.random.default_rng(0)
    pool = draw.normal(size=2**16).astype(np.float32)
    layers = {}
    for layer in LAYERS:
        (channels, features), kernel = layer.channels, layer.kernel
        shape = features, channels, *kernel
        weight = np.resize(np.roll(pool, int(draw.integers(len(pool)))), shape)
        weight = weight * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        beta, mean = 0.1 * draw.normal(size=(2, features)).astype(np.float32)
        layers[layer] = weight, beta, mean, draw.uniform(0.5, 1.5, features).astype(np.float32)
    return layers


def archive(layers, prefix="layers."):
    """As in StyleGAN2-ADA's TorchScript."""
    parts = "weight", "beta", "mean", "var"
    return {
        f"{prefix}{layer.other}.{part}": array
        for layer, arrays in layers.items()
        for part, array in zip(parts, arrays, strict=True)
    }


def state_dict(layers, prefix="", scale=None):
    """As in pytorch-fid's and torch-fidelity's file."""
    parts = "conv.weight", "bn.bias", "bn.running_mean", "bn.running_var"
    arrays = {}
    for layer, of_layer in layers.items():
        arrays |= {f"{prefix}{layer.name}.{part}": a for part, a in zip(parts, of_layer, strict=True)}
        arrays[f"{prefix}{layer.name}.bn.num_batches_tracked"] = np.zeros((), np.int64)
        if scale is not None:
            arrays[f"{prefix}{layer.name}.bn.weight"] = np.full(of_layer[1].shape, scale, np.float32)
    return arrays


def file(arrays):
    return Weights("a/file", "npz", "0" * 64, arrays)


@pytest.fixture
def stem(made_up, monkeypatch):
    """The layers up to the first block alone: what is true of names is true of a few."""
    layers = dict(list(made_up.items())[:12])
    monkeypatch.setattr(inception, "LAYERS", tuple(layers))
    return layers


def test_the_layers_are_those_of_inception_v3():
    assert len(LAYERS) == 94
    assert len({layer.name for layer in LAYERS}) == len({layer.other for layer in LAYERS}) == 94
    # torchvision's Inception v3 has 23,834,568 parameters without its auxiliary head, of which 2,049,000 are
    # the head's; the normalisation of each of 17,216 channels has two.
    channels = sum(layer.channels[1] for layer in LAYERS)
    weights = sum(int(np.prod(layer.kernel) * np.prod(layer.channels)) for layer in LAYERS)
    assert (channels, weights + 2 * channels) == (17_216, 23_834_568 - 2_049_000)
    # Its names, block by block.
    blocks = {
        "Mixed_5b Mixed_5c Mixed_5d": "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 "
        "branch3x3dbl_3 branch_pool",
        "Mixed_6a": "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
        "Mixed_6b Mixed_6c Mixed_6d Mixed_6e": "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 "
        "branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5 branch_pool",
        "Mixed_7a": "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
        "Mixed_7b Mixed_7c": "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 "
        "branch3x3dbl_3a branch3x3dbl_3b branch_pool",
    }
    names = [
        f"{b}.{layer}" for some, layers in blocks.items() for b in some.split() for layer in layers.split()
    ]
    first = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    assert [layer.name for layer in LAYERS] == first + names


def test_parameters_fit_the_network(made_up):
    network, x = Network(1008), jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
    params, _ = convert(file(archive(made_up) | {"output.weight": np.zeros((1008, 2048), np.float32)}))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, dict(params)) == jax.tree.map(jnp.shape, shapes["params"])
    traced = jax.jit(network.apply).trace(shapes, x)
    assert [output.shape for output in traced.out_info] == [(2, 2048), (2, 1008)]
    # Accelerators are told to multiply in float32, or a GPU takes TF32 and a TPU bfloat16: another figure.
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    products = [
        line for line in text.splitlines() if "stablehlo.convolution" in line or "dot_general" in line
    ]
    assert len(products) > 60
    assert all("HIGHEST" in line for line in products)


def test_every_form_of_the_names_is_the_same_network(stem):
    params, content = convert(file(archive(stem)))
    for arrays in (
        archive(stem, "net.layers."),
        state_dict(stem),
        state_dict(stem, "model.", scale=1),
    ):
        others, same = convert(file(arrays))
        assert same == content
        jax.tree.map(np.testing.assert_array_equal, dict(others), dict(params))
    scaled, other = convert(file(state_dict(stem, scale=2)))
    assert other != content
    np.testing.assert_allclose(
        scaled["Conv2d_1a_3x3"]["kernel"], 2 * params["Conv2d_1a_3x3"]["kernel"], rtol=1e-6
    )
    # A layer by the definition: (conv(x) - mean) / sqrt(variance + 0.001) + beta, of a constant image.
    weight, beta, mean, variance = stem[LAYERS[0]]
    expected = (3 * weight.sum((1, 2, 3)) - mean) / np.sqrt(variance + 1e-3) + beta
    folded = params["Conv2d_1a_3x3"]
    np.testing.assert_allclose(3 * folded["kernel"].sum((0, 1, 2)) + folded["bias"], expected, atol=1e-4)


def test_the_head(stem):
    head = np.random.default_rng(1).normal(size=(1008, 2048)).astype(np.float32)
    for arrays in (
        archive(stem) | {"output.weight": head},
        state_dict(stem) | {"fc.weight": head, "fc.bias": head[:, 0]},
    ):
        params, _ = convert(file(arrays))
        np.testing.assert_array_equal(params["fc"]["kernel"], head.T)
        assert Inception(file(arrays)).num_classes == 1008
    assert Inception(file(archive(stem))).num_classes == 0


def test_other_weights_are_refused_in_one_line(made_up):
    good = archive(made_up)
    name = "layers.mixed_9.tower_mixed_conv.weight"
    without = {key: value for key, value in good.items() if key != name}
    cases = {
        "no array layers.mixed_9.tower_mixed_conv.weight": without,
        r"has the shape \[384, 384, 3, 1\], expected \[384, 384, 1, 3\]": good
        | {name: good[name].swapaxes(2, 3)},
        "no finite number": good | {name: good[name] * np.float32(np.nan)},
        "var is below 0": good | {"layers.conv.var": -good["layers.conv.var"]},
        "torchvision's Inception": state_dict(made_up) | {"fc.weight": np.zeros((1000, 2048), np.float32)},
        "torchvision's Inception, trained": state_dict(made_up) | {"AuxLogits.fc.bias": np.zeros(1000)},
        r"fc.weight has the shape \[10, 2048\]": state_dict(made_up) | {"fc.weight": np.zeros((10, 2048))},
        r"3 arrays, of other names \(a, b, c, ...\)": dict.fromkeys("abc", np.zeros(1)),
    }
    for message, arrays in cases.items():
        with pytest.raises(RunError, match=f"a/file: .*{message}") as caught:
            convert(file(arrays))
        assert "\n" not in str(caught.value)
        assert "inception-2015-12-05.pt" in str(caught.value)


def test_unknown_weights_are_noted(stem, tmp_path):
    arrays = archive(stem)
    unknown = Inception(file(arrays), "clean")
    assert "not known to be the weights of 2015-12-05" in (unknown.note or "")
    assert unknown.identity == f"inception-{'0' * 64}-clean"
    assert Inception(file(arrays)._replace(sha256="6726825d" + "0" * 56)).note is None
    assert Inception(file(arrays), dtype=jnp.bfloat16).identity == f"inception-{'0' * 64}-tf1-bfloat16"
    np.savez(tmp_path / "x.npz", **arrays)
    loaded = load_inception(tmp_path / "x.npz")
    assert loaded.sha256 == read_weights(tmp_path / "x.npz").sha256
    assert "not known to be" in (loaded.note or "")
    with pytest.raises(
        RunError, match=r"can't be read.*For the FID's Inception, get inception-2015-12-05\.pt"
    ):
        load_inception(tmp_path / "none.pt")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"resize": "bilinear"}, "resize="),
        ({"chunk": 0}, "chunk=0"),
        ({"dtype": np.float64}, "dtype=float64"),
    ]
    for options, message in wrong:
        with pytest.raises(UsageError, match=message):
            Inception(file(arrays), **options)


def test_pools_by_definition():
    x = np.random.default_rng(0).normal(size=(2, 7, 9, 3)).astype(np.float32)
    mean, largest = np.zeros_like(x), np.zeros_like(x)
    for i in range(7):
        for j in range(9):
            window = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            mean[:, i, j], largest[:, i, j] = window.mean((1, 2)), window.max((1, 2))
    np.testing.assert_allclose(average_pool(jnp.asarray(x)), mean, atol=1e-6)
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), 1), largest)
    # Without padding at stride 2: the windows whose middles are at 1, 3, ...
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), 2), largest[:, 1:-1:2, 1:-1:2])


@pytest.fixture
def small(monkeypatch):
    """An Inception whose network is replaced: features that an image is known by, logits that follow."""

    def network(devices, classes, dtype):
        def apply(params, images):
            means = jnp.mean(images.astype(jnp.float32), (1, 2))
            features = jnp.tile(means, (1, 683))[:, :2048]
            return features, features[:, :1008] * 2 if classes else None

        return inception._per_device(
            apply, devices, (jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data"))
        )

    monkeypatch.setattr(inception, "_network", network)
    monkeypatch.setattr(inception, "convert", lambda weights: ({"fc": np.zeros(1)}, "a sha256"))
    return lambda **options: Inception(file({}), **options)


def test_features_are_streamed_in_chunks(small):
    images = np.random.default_rng(0).integers(0, 256, (21, 4, 6, 3), np.uint8)
    done = []
    found = small(chunk=2).evaluate(images, done.append)
    size = 2 * jax.local_device_count()
    assert done == [min(n + size, 21) for n in range(0, 21, size)]
    expected = np.asarray(inception.inception_input(jnp.asarray(images), "tf1")).mean((1, 2))
    np.testing.assert_allclose(found[0][:, :3], expected, atol=1e-5)
    np.testing.assert_allclose(found[1], 2 * found[0][:, :1008])
    # An iterable of any pieces, and other sizes of chunks, change nothing.
    pieces = (images[a:b] for a, b in ((0, 1), (1, 1), (1, 18), (18, 21)))
    for a, b in zip(small(chunk=2).evaluate(pieces), found, strict=True):
        np.testing.assert_array_equal(a, b)
    # Other sizes of chunks are other programs, which round for themselves.
    for a, b in zip(small().evaluate(images), found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_array_equal(small(chunk=2).features(images), found[0])


def test_no_images_and_bad_ones(small):
    features, logits = small().evaluate(np.zeros((0, 4, 4, 3), np.uint8))
    assert (features.shape, logits.shape) == ((0, 2048), (0, 1008))
    assert small().features([]).shape == (0, 2048)
    good = np.zeros((2, 4, 4, 3), np.uint8)
    for bad, message in (
        (good.astype(np.float32), "uint8"),
        (good[0], r"\[N, H, W, C\]"),
        (good[..., :2], "1, 3 or 4 channels"),
        (np.zeros((2, 0, 4, 3), np.uint8), "1, 3 or 4 channels"),
        ([good, good[:, :3]], r"shape \(4, 4, 3\), got \(3, 4, 3\)"),
    ):
        with pytest.raises(UsageError, match=message):
            small().features(bad)


def by_torch(torch, arrays, x):
    """The features as the published description has them, batch normalisation and all, in float64."""
    F = torch.nn.functional
    tensors = {name: torch.from_numpy(np.asarray(array)).double() for name, array in arrays.items()}

    def layer(name, x, stride=1, padding: Any = 0):
        weight, *others = (tensors[f"{name}.{part}"] for part in ("weight", "mean", "var", "beta"))
        mean, variance, beta = others
        return F.relu(
            F.batch_norm(F.conv2d(x, weight, None, stride, padding), mean, variance, None, beta, eps=1e-3)
        )

    def chain(name, x, *paddings, stride=1):
        for i, padding in enumerate(paddings):
            last = i == len(paddings) - 1
            x = layer(f"{name}.conv_{i}" if i else f"{name}.conv", x, stride if last else 1, padding)
        return x

    def mean(x):
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    x = layer("conv", x, 2)
    x = layer("conv_1", x)
    x = F.max_pool2d(layer("conv_2", x, padding=1), 3, 2)
    x = layer("conv_4", layer("conv_3", x))
    x = F.max_pool2d(x, 3, 2)
    for name in ("mixed", "mixed_1", "mixed_2"):
        towers = chain(f"{name}.tower", x, 0, 2), chain(f"{name}.tower_1", x, 0, 1, 1)
        x = torch.cat([layer(f"{name}.conv", x), *towers, chain(f"{name}.tower_2", mean(x), 0)], 1)
    x = torch.cat(
        [layer("mixed_3.conv", x, 2), chain("mixed_3.tower", x, 0, 1, 0, stride=2), F.max_pool2d(x, 3, 2)], 1
    )
    wide, tall = (0, 3), (3, 0)
    for name in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):
        seven = chain(f"{name}.tower", x, 0, wide, tall)
        double = chain(f"{name}.tower_1", x, 0, tall, wide, tall, wide)
        x = torch.cat([layer(f"{name}.conv", x), seven, double, chain(f"{name}.tower_2", mean(x), 0)], 1)
    three = chain("mixed_8.tower", x, 0, 0, stride=2)
    seven = chain("mixed_8.tower_1", x, 0, wide, tall, 0, stride=2)
    x = torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)
    for name in ("mixed_9", "mixed_10"):
        pool = mean(x) if name == "mixed_9" else F.max_pool2d(x, 3, 1, 1)
        a = layer(f"{name}.tower_conv", x)
        b = layer(f"{name}.tower_1_conv_1", layer(f"{name}.tower_1_conv", x), padding=1)
        branches = [layer(f"{name}.conv", x)]
        for y, tower in ((a, "tower_mixed_conv"), (b, "tower_1_mixed_conv")):
            branches += [
                layer(f"{name}.{tower}", y, padding=(0, 1)),
                layer(f"{name}.{tower}_1", y, padding=(1, 0)),
            ]
        x = torch.cat([*branches, layer(f"{name}.tower_2_conv", pool)], 1)
    return x.mean((2, 3)).numpy()


@pytest.mark.slow
def test_the_network_by_its_description(made_up):
    torch = pytest.importorskip("torch", reason="the description is written in PyTorch")
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), np.uint8)
    head = np.random.default_rng(1).normal(size=(1008, 2048)).astype(np.float32)
    found = Inception(file(archive(made_up) | {"output.weight": head}), "clean", chunk=1)
    features, logits = found.evaluate(images)
    x = np.asarray(inception.inception_input(jnp.asarray(images), "clean")).transpose(0, 3, 1, 2)
    assert logits is not None
    expected = by_torch(torch, archive(made_up, ""), torch.from_numpy(x.copy()).double())
    assert expected.std() > 1e-2
    np.testing.assert_allclose(features, expected, atol=1e-4 * expected.std())
    np.testing.assert_allclose(logits, expected @ head.T, atol=1e-3 * np.abs(expected @ head.T).max())
    coarse = Inception(file(archive(made_up)), "clean", chunk=1, dtype=jnp.bfloat16).features(images)
    assert 1e-4 < np.abs(coarse - expected).mean() / expected.std() < 0.1


@needs_weights
def test_the_file_is_known():
    assert FILE is not None
    assert load_inception(FILE).note is None
