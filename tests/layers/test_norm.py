import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.layers import (
    BatchNorm,
    ConditionalBatchNorm,
    EmbeddedBatchNorm,
    InstanceNorm,
    LayerNorm,
    VirtualBatchNorm,
)
from tests.layers.arrays import fast


def activations(seed: int = 0, shape=(4, 3, 3, 2)) -> jax.Array:
    draw = np.random.default_rng(seed)
    return jnp.asarray(draw.normal([1.5, -3.0], [2.0, 0.5], size=shape), jnp.float32)


def apply(layer: nn.Module, *args, **kwargs) -> Any:
    return layer.apply(*args, **kwargs)


@pytest.fixture(scope="module")
def variables() -> Any:
    return {
        "params": {"scale": jnp.array([1.3, 0.7]), "bias": jnp.array([-0.2, 0.4])},
        "batch_stats": {"mean": jnp.array([0.5, -2.0]), "var": jnp.array([2.0, 0.3])},
    }


def flax_norm(train: bool, **arguments) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, **arguments)


def test_variables_are_those_of_flax():
    x = activations()
    ours = BatchNorm().init(jax.random.key(0), x, train=True)
    jax.tree.map(np.testing.assert_array_equal, ours, flax_norm(True).init(jax.random.key(0), x))
    bare = BatchNorm(use_scale=False, use_bias=False).init(jax.random.key(0), x, train=True)
    assert set(bare) == {"batch_stats"}


@pytest.mark.parametrize("shape", [(4, 3, 3, 2), (6, 2)])
def test_output_is_that_of_flax(variables, shape):
    x = activations(shape=shape)
    ours, changes = apply(BatchNorm(), variables, x, train=True, mutable=["batch_stats"])
    theirs, their_changes = apply(flax_norm(True), variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        apply(BatchNorm(), variables, x, train=False),
        apply(flax_norm(False), variables, x),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        changes["batch_stats"]["mean"], their_changes["batch_stats"]["mean"], rtol=1e-5, atol=1e-6
    )


def test_gradients_are_those_of_flax(variables):
    def total(function, variables, x):
        return jnp.sum(jnp.sin(function(variables, x)[0]))

    def ours(variables, x):
        return apply(BatchNorm(), variables, x, train=True, mutable=["batch_stats"])

    def theirs(variables, x):
        return apply(flax_norm(True), variables, x, mutable=["batch_stats"])

    left, right = (
        jax.jit(jax.grad(lambda v, x, f=f: total(f, v, x), (0, 1)))(variables, activations())
        for f in (ours, theirs)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        (left[0]["params"], left[1]),
        (right[0]["params"], right[1]),
    )


def test_running_statistics_by_hand(variables):
    """0.9 old + 0.1 new, the new variance unbiased (n / (n - 1) times the batch's) as PyTorch keeps it."""
    x = np.asarray(activations(), np.float64).reshape(-1, 2)
    _, changes = apply(BatchNorm(), variables, activations(), train=True, mutable=["batch_stats"])
    expected_mean = 0.9 * np.array([0.5, -2.0]) + 0.1 * x.mean(0)
    expected_var = 0.9 * np.array([2.0, 0.3]) + 0.1 * x.var(0, ddof=1)
    np.testing.assert_allclose(changes["batch_stats"]["mean"], expected_mean, rtol=1e-5)
    np.testing.assert_allclose(changes["batch_stats"]["var"], expected_var, rtol=1e-5)
    # flax keeps the biased one: 36 values, so theirs moves by 35/36 of the batch's share of ours.
    _, theirs = apply(flax_norm(True), variables, activations(), mutable=["batch_stats"])
    np.testing.assert_allclose(
        theirs["batch_stats"]["var"], 0.9 * np.array([2.0, 0.3]) + 0.1 * x.var(0), rtol=1e-5
    )


def test_initialising_and_evaluating_move_no_statistics(variables):
    fresh: Any = BatchNorm().init(jax.random.key(0), activations(), train=True)
    np.testing.assert_array_equal(fresh["batch_stats"]["mean"], [0, 0])
    np.testing.assert_array_equal(fresh["batch_stats"]["var"], [1, 1])
    _, changes = apply(BatchNorm(), variables, activations(), train=False, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, changes["batch_stats"], variables["batch_stats"])


def test_momentum_is_the_share_that_is_kept(variables):
    _, changes = apply(BatchNorm(momentum=0.0), variables, activations(), train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(
        changes["batch_stats"]["mean"], np.asarray(activations()).reshape(-1, 2).mean(0), rtol=1e-5
    )


def test_bfloat16_keeps_float32_statistics(variables):
    x = activations().astype(jnp.bfloat16)
    layer = BatchNorm(dtype=jnp.dtype("bfloat16"))
    output, changes = apply(layer, variables, x, train=True, mutable=["batch_stats"])
    assert output.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(changes)} == {np.dtype("float32")}
    # The statistics are of the rounded input, computed in float32: no second rounding.
    exact = np.asarray(x.astype(jnp.float32), np.float64).reshape(-1, 2)
    np.testing.assert_allclose(
        changes["batch_stats"]["mean"], 0.9 * np.array([0.5, -2.0]) + 0.1 * exact.mean(0), rtol=1e-5
    )
    # Without a dtype the result has the input's; with one, that.
    assert apply(BatchNorm(), variables, x, train=False).dtype == jnp.bfloat16
    assert apply(BatchNorm(dtype=jnp.dtype("float32")), variables, x, train=False).dtype == jnp.float32


def test_a_large_mean_costs_no_precision(variables):
    """Deviations of 1 around 10,000: mean and variance in one pass of float32, or x * s - m * s,
    lose them."""
    x = activations() + 1e4
    ours, _ = apply(BatchNorm(), variables, x, train=True, mutable=["batch_stats"])
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-5)
    exact = exact * np.asarray(variables["params"]["scale"]) + np.asarray(variables["params"]["bias"])
    np.testing.assert_allclose(ours, exact, atol=1e-3)


def test_one_value_has_no_variance(variables):
    output, changes = apply(
        BatchNorm(), variables, jnp.array([[3.0, -1.0]]), train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(output, [[-0.2, 0.4]], atol=1e-5)  # the bias
    np.testing.assert_allclose(changes["batch_stats"]["var"], [1.8, 0.27], rtol=1e-5)


def test_conditional_norm_begins_as_one_without_affine():
    x, labels = activations(), jnp.array([0, 2, 1, 2])
    layer = ConditionalBatchNorm(3)
    variables: Any = layer.init(jax.random.key(0), x, labels, train=True)
    assert {name: tree["embedding"].shape for name, tree in variables["params"].items()} == {
        "gamma": (3, 2),
        "shift": (3, 2),
    }
    plain = BatchNorm(use_scale=False, use_bias=False)
    stats = {"batch_stats": variables["batch_stats"]["BatchNorm_0"]}
    for train in (True, False):
        ours, changes = apply(layer, variables, x, labels, train=train, mutable=["batch_stats"])
        expected, expected_changes = apply(plain, stats, x, train=train, mutable=["batch_stats"])
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
        jax.tree.map(
            np.testing.assert_array_equal,
            changes["batch_stats"]["BatchNorm_0"],
            expected_changes["batch_stats"],
        )


@pytest.mark.parametrize("shape", [(4, 3, 3, 2), (4, 2)])
def test_conditional_norm_scales_and_shifts_by_class(shape):
    x, labels = activations(shape=shape), jnp.array([0, 2, 1, 2])
    gamma = np.array([[0.5, -1.0], [0.0, 0.25], [2.0, 0.0]], np.float32)
    shift = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    layer = ConditionalBatchNorm(3)
    stats = layer.init(jax.random.key(0), x, labels, train=True)["batch_stats"]
    params = {"gamma": {"embedding": gamma}, "shift": {"embedding": shift}}
    ours = apply(layer, {"params": params, "batch_stats": stats}, x, labels, train=False)
    normed = np.asarray(x) / np.sqrt(1 + 1e-5)  # running mean 0, variance 1
    for i, label in enumerate(labels):
        np.testing.assert_allclose(ours[i], normed[i] * (1 + gamma[label]) + shift[label], rtol=1e-5)


def test_conditional_norm_of_a_mixture_of_classes():
    x = activations(shape=(2, 2))
    shares = jnp.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    gamma, shift = np.arange(6.0).reshape(3, 2), np.arange(6.0, 12.0).reshape(3, 2)
    layer = ConditionalBatchNorm(3)
    variables = layer.init(jax.random.key(0), x, jnp.zeros(2, jnp.int32), train=True)
    params = {"gamma": {"embedding": gamma}, "shift": {"embedding": shift}}
    ours = apply(layer, {**variables, "params": params}, x, shares, train=False)
    mixed = [(gamma[1], shift[1]), ((gamma[0] + gamma[2]) / 2, (shift[0] + shift[2]) / 2)]
    for i, (scale, offset) in enumerate(mixed):
        expected = np.asarray(x[i]) / np.sqrt(1 + 1e-5) * (1 + scale) + offset
        np.testing.assert_allclose(ours[i], expected, rtol=1e-5)


@pytest.mark.parametrize("spectral", [False, True])
def test_embedded_norm_scales_and_shifts_by_a_vector(spectral):
    x = activations()
    vector = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), jnp.float32)
    layer = EmbeddedBatchNorm(spectral)
    variables: Any = layer.init(jax.random.key(0), x, vector, train=True)
    maps = {name: np.asarray(tree["kernel"]) for name, tree in variables["params"].items()}
    assert {name: kernel.shape for name, kernel in maps.items()} == {"gamma": (3, 2), "shift": (3, 2)}
    if spectral:
        of = variables["spectral"]
        maps = {name: k / (of[name]["v"] @ k @ of[name]["u"]) for name, k in maps.items()}
    ours = apply(layer, variables, x, vector, train=False)
    wide = (4, *(1,) * (x.ndim - 2), 2)
    gamma, shift = ((np.asarray(vector) @ maps[name]).reshape(wide) for name in ("gamma", "shift"))
    np.testing.assert_allclose(ours, np.asarray(x) / np.sqrt(1 + 1e-5) * (1 + gamma) + shift, rtol=1e-4)


def test_a_batchs_own_moments_are_sown_where_asked_for():
    x = activations(shape=(8, 2))
    layer = BatchNorm()
    variables: Any = layer.init(jax.random.key(0), x, train=True)
    assert set(variables) == {"params", "batch_stats"}
    _, after = apply(layer, variables, x, train=True, mutable=["batch_stats", "moments"])
    np.testing.assert_allclose(after["moments"]["mean"][0], np.mean(x, axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after["moments"]["var"][0], np.var(x, axis=0), rtol=1e-4)
    _, after = apply(layer, variables, x, train=True, mutable=["batch_stats"])
    assert set(after) == {"batch_stats"}


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
@pytest.mark.parametrize("layer", [BatchNorm(), ConditionalBatchNorm(3)])
def test_statistics_over_devices_are_those_of_the_whole_batch(layer):
    """Outputs, running statistics and gradients of four devices with an axis and of one without."""
    x = activations(shape=(8, 3, 3, 2))
    labels = [] if isinstance(layer, BatchNorm) else [jnp.arange(8) % 3]
    variables = layer.init(jax.random.key(0), x, *labels, train=True)

    def loss(x, *labels, layer):
        y, stats = layer.apply(variables, x, *labels, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(3 * y)), (y, stats)

    def both(layer):
        return jax.value_and_grad(functools.partial(loss, layer=layer), has_aux=True)

    (_, (y, stats)), gradient = both(layer)(x, *labels)
    over = layer.clone(axis_name="data")
    split = [leaf.reshape(4, 2, *leaf.shape[1:]) for leaf in (x, *labels)]
    (_, (of_each, stats_of_each)), gradients = jax.pmap(both(over), "data", devices=jax.devices()[:4])(*split)
    np.testing.assert_allclose(np.asarray(of_each).reshape(y.shape), y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.asarray(gradients).reshape(x.shape), gradient, rtol=1e-3, atol=1e-5)
    for mine, expected in zip(jax.tree.leaves(stats_of_each), jax.tree.leaves(stats), strict=True):
        for device in np.asarray(mine):
            np.testing.assert_allclose(device, expected, rtol=1e-5)
            np.testing.assert_array_equal(device, np.asarray(mine)[0])


AFFINE = {"scale": jnp.array([1.3, 0.7]), "bias": jnp.array([-0.2, 0.4])}


def affine(layer: nn.Module, x: jax.Array) -> Any:
    return fast(lambda x: layer.apply({"params": AFFINE}, x))(x)


@pytest.mark.parametrize("shape", [(4, 3, 3, 2), (4, 2)])
def test_layer_norm_is_each_examples_own(shape):
    x = activations(shape=shape)
    exact = np.asarray(x, np.float64)
    axes = tuple(range(1, x.ndim))
    exact = (exact - exact.mean(axes, keepdims=True)) / np.sqrt(exact.var(axes, keepdims=True) + 1e-5)
    exact = exact * np.asarray(AFFINE["scale"]) + np.asarray(AFFINE["bias"])
    ours = affine(LayerNorm(), x)
    np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(affine(LayerNorm(), x[1:2]), ours[1:2], rtol=1e-6)
    fresh: Any = LayerNorm().init(jax.random.key(0), x)
    assert {name: leaf.shape for name, leaf in fresh["params"].items()} == {"scale": (2,), "bias": (2,)}
    assert apply(LayerNorm(), fresh, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert apply(LayerNorm(dtype=jnp.dtype("bfloat16")), fresh, x).dtype == jnp.bfloat16


@pytest.mark.parametrize("shape", [(5, 3, 3, 2), (5, 2)])
@pytest.mark.parametrize("mean", [0.0, 1e3])
def test_virtual_norm_by_batches_of_the_reference_and_one_example(shape, mean):
    x = activations(shape=shape) + mean
    exact = np.asarray(x, np.float64)

    def normalised(rows: np.ndarray) -> np.ndarray:
        axes = tuple(range(rows.ndim - 1))
        return (rows - rows.mean(axes)) / np.sqrt(rows.var(axes) + 1e-5)

    # Three reference examples; each of the other two in a batch of four, of which it is the last.
    parts = [normalised(exact[:3])] + [normalised(exact[[0, 1, 2, i]])[-1:] for i in (3, 4)]
    expected = np.concatenate(parts) * np.asarray(AFFINE["scale"]) + np.asarray(AFFINE["bias"])
    ours = affine(VirtualBatchNorm(3), x)
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3 if mean else 1e-5)


def test_virtual_norm_does_not_depend_on_companions():
    x = activations(shape=(5, 3, 3, 2))
    ours = affine(VirtualBatchNorm(3), x)
    alone = affine(VirtualBatchNorm(3), x[jnp.array([0, 1, 2, 4])])
    np.testing.assert_allclose(alone[3], ours[4], rtol=1e-6)
    # With no example behind the reference it is batch normalisation.
    plain = {"params": AFFINE, "batch_stats": {"mean": jnp.zeros(2), "var": jnp.ones(2)}}
    batch, _ = apply(BatchNorm(), plain, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(affine(VirtualBatchNorm(5), x), batch, rtol=1e-5, atol=1e-5)


def test_virtual_norms_types_and_sizes():
    x = activations(shape=(5, 2))
    fresh: Any = VirtualBatchNorm(3).init(jax.random.key(0), x)
    assert {name: leaf.shape for name, leaf in fresh["params"].items()} == {"scale": (2,), "bias": (2,)}
    assert set(fresh) == {"params"}
    assert apply(VirtualBatchNorm(3), fresh, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    for reference in (0, 6):
        with pytest.raises(ValueError, match=rf"by {reference} reference examples of \(5, 2\)"):
            VirtualBatchNorm(reference).init(jax.random.key(0), x)


@pytest.mark.parametrize("learned", [False, True])
def test_instance_norm_is_each_images_own(learned, variables):
    x = np.asarray(activations())
    layer = InstanceNorm(use_scale=learned, use_bias=learned)
    params = {"params": variables["params"]} if learned else {}
    y = np.asarray(fast(lambda x: layer.apply(params, x))(x))
    mean, var = x.mean(axis=(1, 2), keepdims=True), x.var(axis=(1, 2), keepdims=True)
    expected = (x - mean) / np.sqrt(var + 1e-5)
    if learned:
        expected = expected * np.asarray(params["params"]["scale"]) + np.asarray(params["params"]["bias"])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_instance_norm_of_one_image_is_batch_norm():
    x = activations(shape=(1, 3, 3, 2))
    ours = InstanceNorm(use_scale=True, use_bias=True)
    params = {"scale": jnp.array([1.3, 0.7]), "bias": jnp.array([-0.2, 0.4])}
    stats = {"mean": jnp.zeros(2), "var": jnp.ones(2)}
    theirs, _ = BatchNorm().apply(
        {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(apply(ours, {"params": params}, x), theirs, rtol=1e-4, atol=1e-5)
