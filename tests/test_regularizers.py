import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import random, regularizers

KEYS = random.from_seeds(np.arange(3))
W = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 1)), jnp.float32)
IMAGES = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 2, 1)), jnp.float32)
NORM = float(np.linalg.norm(W))


def linear(images):
    return jnp.einsum("nhwc,hwc->n", images, W)


def square(images):
    return 0.5 * jnp.sum(jnp.square(images), axis=(1, 2, 3))


def patches(images):
    """Four logits an image, [n, 2, 2, 1], whose gradients do not overlap."""
    images = images * W[None]
    return images.reshape(3, 2, 2, 2, 1).sum(axis=2)


def test_the_gradient_of_a_linear_critic_is_its_weight():
    np.testing.assert_allclose(regularizers.gradient_square(linear, IMAGES), [NORM**2] * 3, rtol=1e-5)
    # Of |x|^2 / 2 it is x; of patches that add up to the linear critic the same as of that one.
    expected = jnp.sum(jnp.square(IMAGES), axis=(1, 2, 3))
    np.testing.assert_allclose(regularizers.gradient_square(square, IMAGES), expected, rtol=1e-5)
    np.testing.assert_allclose(regularizers.gradient_square(patches, IMAGES), [NORM**2] * 3, rtol=1e-5)
    points = jnp.array([[1.0, 2.0], [0.0, -3.0]])
    squares = regularizers.gradient_square(lambda x: x[:, :1] * x[:, 1:], points)
    np.testing.assert_allclose(squares, [5, 9])


@pytest.mark.parametrize("critic", [linear, patches])
def test_gradient_penalty_of_a_linear_critic(critic):
    def penalty(**options):
        return regularizers.gradient_penalty(critic, IMAGES, **options)

    np.testing.assert_allclose(penalty(), [(NORM - 1) ** 2] * 3, rtol=1e-5)
    np.testing.assert_allclose(penalty(target=0.0), [NORM**2] * 3, rtol=1e-5)
    np.testing.assert_allclose(penalty(target=9.0), [(NORM - 9) ** 2] * 3, rtol=1e-5)
    np.testing.assert_array_equal(penalty(target=9.0, one_sided=True), jnp.zeros(3))
    np.testing.assert_allclose(penalty(one_sided=True), [(NORM - 1) ** 2] * 3, rtol=1e-5)


def test_penalties_train_the_critic():
    def penalty(weight, kind):
        return kind(lambda x: jnp.sum(weight[None] * x, axis=(1, 2, 3)), IMAGES)[0]

    # d |w|^2 / dw = 2 w, d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|.
    slope = jax.grad(penalty)(W, regularizers.gradient_square)
    np.testing.assert_allclose(slope, 2 * W, rtol=1e-5)
    slope = jax.grad(penalty)(W, regularizers.gradient_penalty)
    np.testing.assert_allclose(slope, 2 * (NORM - 1) / NORM * W, rtol=1e-4)


@pytest.mark.parametrize("one_sided", [False, True])
def test_a_flat_critic_has_a_finite_penalty_and_gradient(one_sided):
    def penalty(weight):
        def critic(x):
            return jnp.sum(weight[None] * x, axis=(1, 2, 3))

        return jnp.sum(regularizers.gradient_penalty(critic, IMAGES, one_sided=one_sided))

    value, slope = jax.value_and_grad(penalty)(jnp.zeros_like(W))
    assert value == (0 if one_sided else 3)
    np.testing.assert_array_equal(slope, jnp.zeros_like(W))


@pytest.mark.parametrize("shape", [(2,), (4, 2, 1)])
def test_interpolates(shape):
    real, fake = jnp.ones((3, *shape)), jnp.full((3, *shape), -1.0)
    points = regularizers.interpolates(real, fake, jnp.array([0.0, 1.0, 0.75]))
    for point, expected in zip(points, (-1, 1, 0.5), strict=True):
        np.testing.assert_array_equal(point, jnp.full(shape, expected))
    with pytest.raises(AssertionError):
        regularizers.interpolates(real, fake[:1], jnp.zeros(3))
    with pytest.raises(AssertionError):
        regularizers.interpolates(real, fake, jnp.zeros((3, 1)))


def test_dragan_points_lie_within_half_a_standard_deviation_and_depend_on_their_key():
    real = jnp.zeros((3, 32, 16, 2))
    points = jax.jit(regularizers.dragan_points)
    moves = np.asarray(points(real, KEYS, jnp.float32(3))) / 1.5
    assert 0 <= moves.min() < 0.01
    shares = moves.max(axis=(1, 2, 3))  # of each example
    assert len(np.unique(shares)) == 3
    assert shares.max() < 1
    np.testing.assert_allclose(moves.mean(axis=(1, 2, 3)), shares / 2, rtol=0.06)
    assert len(np.unique(moves)) > 3000  # a draw for each number
    turned = points(real, KEYS[::-1], jnp.float32(3))
    np.testing.assert_allclose(turned[::-1], 1.5 * moves, rtol=1e-6)
    assert jax.eval_shape(regularizers.dragan_points, jnp.zeros((3, 2)), KEYS, 1.0).shape == (3, 2)


def test_consistency():
    values = regularizers.consistency(jnp.array([[1.0], [2.0]]), jnp.array([[4.0], [2.0]]))
    np.testing.assert_array_equal(values, [[9], [0]])
    slopes = jax.grad(regularizers.consistency, (0, 1))(jnp.float32(1), jnp.float32(4))
    assert slopes == (-6, 6)
    with pytest.raises(AssertionError, match="shape"):
        regularizers.consistency(jnp.zeros(4), jnp.zeros((4, 1)))


def test_orthogonal_of_a_wide_kernel_is_by_definition():
    matrix = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    products = matrix.T @ matrix
    expected = np.square(products * (1 - np.eye(7))).sum()
    np.testing.assert_allclose(
        regularizers.orthogonal({"dense": {"kernel": jnp.asarray(matrix)}}), expected, rtol=1e-5
    )


def kernels(seed: int = 0):
    draw = np.random.default_rng(seed)
    return {
        "dense": {"kernel": jnp.asarray(draw.normal(size=(5, 3)), jnp.float32), "bias": jnp.ones(3)},
        "deep": {"conv": {"kernel": jnp.asarray(draw.normal(size=(2, 2, 3, 4)), jnp.float32)}},
        "norm": {"scale": jnp.full(4, 7.0)},
    }


def test_orthogonal_by_hand():
    # Columns (1, 0) and (2, 3): their product is 2, and it stands twice off the diagonal.
    params = {"layer": {"kernel": jnp.array([[1.0, 2.0], [0.0, 3.0]]), "bias": jnp.ones(2)}}
    value, slope = jax.value_and_grad(regularizers.orthogonal)(params)
    np.testing.assert_allclose(value, 8)
    # Twice the square of w.v, whose slope in w is 4 (w.v) v.
    np.testing.assert_allclose(slope["layer"]["kernel"], [[16, 8], [24, 0]])
    assert regularizers.orthogonal({"layer": {"kernel": 5 * jnp.eye(3)}}) == 0
    params = kernels()
    matrices = np.asarray(params["dense"]["kernel"]), np.asarray(params["deep"]["conv"]["kernel"])
    sums = []
    for matrix in matrices:
        products = matrix.reshape(-1, matrix.shape[-1]).T @ matrix.reshape(-1, matrix.shape[-1])
        sums.append(np.sum((products * (1 - np.eye(len(products)))) ** 2))
    np.testing.assert_allclose(regularizers.orthogonal(params), sum(sums), rtol=1e-5)
    without = regularizers.orthogonal(params, skip=lambda path: path == ("deep", "conv", "kernel"))
    np.testing.assert_allclose(without, sums[0], rtol=1e-5)
    penalty = regularizers.orthogonal_penalty(skip=lambda path: "dense" in path)
    value, memory = penalty.apply(params, penalty.init(params))
    np.testing.assert_allclose(value, sums[1], rtol=1e-5)
    assert memory == ()


@pytest.mark.parametrize("find", [regularizers.orthogonal, regularizers.spectral_penalty().init])
def test_no_kernel_to_penalise_is_an_error(find):
    for params in ({"layer": {"bias": jnp.ones(3)}}, {"norm": {"kernel": jnp.ones(3)}}):
        with pytest.raises(ValueError, match="found none"):
            find(params)


def test_spectral_penalty_finds_the_largest_singular_values():
    params, penalty = kernels(), regularizers.spectral_penalty()
    sigmas = [
        np.linalg.norm(np.asarray(x).reshape(-1, x.shape[-1]), 2)
        for x in (params["dense"]["kernel"], params["deep"]["conv"]["kernel"])
    ]
    memory, apply = penalty.init(params), jax.jit(penalty.apply)
    values = []
    for _ in range(60):
        value, memory = apply(params, memory)
        values.append(float(value))
    exact = 0.5 * sum(s**2 for s in sigmas)
    assert values[0] < 0.999 * exact
    assert np.all(np.diff(values) > -1e-5)
    np.testing.assert_allclose(values[-1], exact, rtol=1e-4)
    # d sigma^2 / 2 / dW = sigma u v^T.
    slope = jax.jit(jax.grad(lambda p: penalty.apply(p, memory)[0]))(params)
    u, s, v = np.linalg.svd(np.asarray(params["dense"]["kernel"]))
    np.testing.assert_allclose(slope["dense"]["kernel"], s[0] * np.outer(u[:, 0], v[0]), atol=2e-3)
    np.testing.assert_array_equal(slope["norm"]["scale"], jnp.zeros(4))
    again = penalty.init(params)
    np.testing.assert_array_equal(again["dense/kernel"], penalty.init(kernels(1))["dense/kernel"])


def test_spectral_penalty_survives_a_kernel_of_zeros():
    penalty, zeros = regularizers.spectral_penalty(), {"kernel": jnp.zeros((3, 2))}
    memory = penalty.init(zeros)
    (value, after), slope = jax.value_and_grad(penalty.apply, has_aux=True)(zeros, memory)
    assert value == 0
    np.testing.assert_array_equal(slope["kernel"], jnp.zeros((3, 2)))
    np.testing.assert_array_equal(after["kernel"], memory["kernel"])


def test_historical_averaging_compares_with_the_mean_of_the_past():
    penalty = regularizers.historical_averaging()
    thetas = [{"a": jnp.array([1.0, 2.0]), "b": jnp.float32(x)} for x in (3, 5, -2)]
    memory, values = penalty.init(thetas[0]), []
    for theta in thetas:
        slope = jax.grad(lambda p, m=memory: penalty.apply(p, m)[0])(theta)
        value, memory = penalty.apply(theta, memory)
        values.append((float(value), float(slope["b"])))
    # Past means of b: none, 3, 4.
    np.testing.assert_allclose(values, [(0, 0), (4, 4), (36, -12)], rtol=1e-6)
    np.testing.assert_allclose(memory.mean["b"], 2, rtol=1e-6)
    np.testing.assert_allclose(memory.mean["a"], [1, 2], rtol=1e-6)
    assert memory.count == 3


@pytest.mark.parametrize("make", [regularizers.spectral_penalty, regularizers.historical_averaging])
def test_no_gradient_flows_into_a_memory(make):
    penalty, params = make(), kernels()
    _, memory = penalty.apply(kernels(1), penalty.init(params))

    def total(params, memory):
        return sum(jnp.sum(x) for x in jax.tree.leaves(penalty.apply(params, memory)[1]))

    for slope in jax.tree.leaves(jax.grad(total, (0, 1))(params, memory)):
        assert not slope.any()
    back = jax.grad(lambda m: penalty.apply(params, m)[0])(memory)
    assert not any(x.any() for x in jax.tree.leaves(back))


def test_lecam_by_hand():
    memory = regularizers.lecam_init()
    real, fake = jnp.array([1.0, 3.0]), jnp.array([[-1.0], [0.0]])
    assert regularizers.lecam(real, fake, memory) == 0
    memory = regularizers.lecam_update(memory, jnp.float32(2), jnp.float32(-0.5))
    assert (float(memory.real), float(memory.fake)) == (2, -0.5)
    memory = regularizers.lecam_update(memory, jnp.float32(4), jnp.float32(0.5), decay=0.75)
    np.testing.assert_allclose([memory.real, memory.fake], [2.5, -0.25])
    # ((1.25)^2 + (3.25)^2) / 2 + (3.5^2 + 2.5^2) / 2
    np.testing.assert_allclose(
        regularizers.lecam(real, fake, memory), (1.5625 + 10.5625 + 12.25 + 6.25) / 2, rtol=1e-6
    )
    slope = jax.grad(regularizers.lecam)(real, fake, memory)
    np.testing.assert_allclose(slope, [1.25, 3.25], rtol=1e-6)
    by_memory = jax.grad(lambda m: regularizers.lecam(real, fake, m))(memory)
    by_mean = jax.grad(lambda x: regularizers.lecam_update(memory, x, x).real)(jnp.float32(1))
    assert not any(x.any() for x in by_memory)
    assert by_mean == 0
