import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.nets.wasserstein import WassersteinCritic, WassersteinGenerator
from tests.nets.networks import FAST, KEY, features, random_variables, run, shapes, size


def both(image_shape=(8, 8, 1), width=3, norm="batch", dtype=None):
    generator = WassersteinGenerator(image_shape, width=width, dtype=dtype)
    return generator, WassersteinCritic(width=width, norm=norm, dtype=dtype)


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (8, 12, 3), (4, 4, 4)])
def test_shapes(image_shape):
    (images, _), (scores, _) = shapes(*both(image_shape), image_shape)
    assert (images.shape, images.dtype) == ((3, *image_shape), jnp.float32)
    assert (scores.shape, scores.dtype) == ((3,), jnp.float32)


def test_parameter_counts_of_the_book():
    (_, of_generator), (_, of_critic) = shapes(
        WassersteinGenerator((28, 28, 1)), WassersteinCritic(), (28, 28, 1), latent_size=100
    )
    # By hand: dense, two 4x4 kernels with biases, their norms with statistics, a 7x7 kernel.
    up = 2 * (16 * 128 * 128 + 128 + 4 * 128)
    assert size(of_generator) == 100 * 6272 + 6272 + up + 49 * 128 + 1
    assert size(of_critic) == 70_337
    assert size(of_critic["batch_stats"]) == 4 * 64
    for norm, norms in (("layer", 4 * 64), ("none", 0)):
        _, (_, of_critic) = shapes(
            WassersteinGenerator((28, 28, 1)), WassersteinCritic(norm=norm), (28, 28, 1)
        )
        assert set(of_critic) == {"params"}
        assert size(of_critic) == 70_337 - 8 * 64 + norms


@pytest.mark.slow
def test_weights_begin_at_a_standard_deviation_of_one_fiftieth():
    generator, critic = both((4, 4, 3), width=16)
    init = lambda network: jax.jit(  # noqa: E731
        lambda example: network.init(KEY, example, None, train=True)["params"], compiler_options=FAST
    )
    params = init(generator)(jnp.zeros((2, 8))), init(critic)(jnp.zeros((2, 4, 4, 3)))
    kernels = [layer["kernel"] for network in params for layer in network.values() if "kernel" in layer]
    assert len(kernels) == 7
    for kernel in kernels:
        np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.6 if kernel.size < 100 else 0.25)


@pytest.mark.parametrize(("norm", "alone"), [("batch", False), ("layer", True)])
def test_a_score_is_the_examples_own_without_batch_norm(norm, alone):
    """Which a penalty on each example's gradient needs."""
    _, critic = both(norm=norm)
    _, (_, variables) = shapes(*both(norm=norm), (8, 8, 1))
    variables = random_variables(variables)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 1)), jnp.float32)

    def first(images):
        return critic.apply(variables, images, None, train=True, mutable=["batch_stats"])[0][0]

    gradient = np.asarray(jax.jit(jax.grad(first), compiler_options=FAST)(images))
    assert np.abs(gradient[0]).max() > 1e-4
    assert (np.abs(gradient[1:]).max() < 1e-9) == alone


def test_features_are_flat_and_the_score_is_linear_in_them():
    _, critic = both()
    _, (_, variables) = shapes(*both(), (8, 8, 1))
    variables = random_variables(variables)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 1)), jnp.float32)
    scores, found = features(critic, variables, images, None)
    assert found.shape == (3, 2 * 2 * 3)
    last = variables["params"]["Dense_0"]
    np.testing.assert_allclose(
        scores, (np.asarray(found) @ last["kernel"] + last["bias"])[:, 0], rtol=1e-4, atol=1e-5
    )


def test_bfloat16_is_for_compute_only():
    outputs = shapes(*both(norm="layer", dtype=jnp.dtype("bfloat16")), (8, 8, 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {np.dtype("float32")}


@pytest.mark.slow
def test_bfloat16_is_near_float32():
    (_, of_generator), (_, of_critic) = shapes(*both(norm="layer"), (8, 8, 1))
    of_generator, of_critic = random_variables((of_generator, of_critic))
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)), jnp.float32)
    results = []
    for dtype in (None, jnp.dtype("bfloat16")):
        generator, critic = both(norm="layer", dtype=dtype)
        images, _ = run(generator, of_generator, latents, None)
        scores, _ = run(critic, of_critic, results[0][0] if results else images, None)
        results.append((images, scores))
    exact, rough = results
    assert 0.1 < np.abs(exact[0]).max() <= 1
    np.testing.assert_allclose(rough[0], exact[0], atol=0.1)
    np.testing.assert_allclose(rough[1], exact[1], atol=0.1)
    assert (rough[0] != exact[0]).any()
    assert (rough[1] != rough[1].astype(jnp.bfloat16).astype(jnp.float32)).any()


@pytest.mark.parametrize("shape", [(30, 28, 1), (28, 30, 1), (2, 28, 1)])
def test_image_sizes_that_do_not_fit_are_refused(shape):
    message = rf"image_size {shape[0]}x{shape[1]}.* multiples of 4"
    with pytest.raises(ValueError, match=message):
        WassersteinGenerator(shape).init(KEY, jnp.zeros((3, 4)), None, train=True)
    with pytest.raises(ValueError, match=message):
        WassersteinCritic().init(KEY, jnp.zeros((3, *shape)), None, train=True)


def test_what_does_not_fit_is_refused():
    labels = jnp.zeros(2, jnp.int32)
    generator, critic = both()
    with pytest.raises(ValueError, match="takes no labels"):
        jax.eval_shape(lambda: generator.init(KEY, jnp.zeros((2, 4)), labels, train=True))
    with pytest.raises(ValueError, match="takes no labels"):
        jax.eval_shape(lambda: critic.init(KEY, jnp.zeros((2, 8, 8, 1)), labels, train=True))
    with pytest.raises(ValueError, match="norm='virtual': expected one of batch, layer, none"):
        WassersteinCritic(norm="virtual").init(KEY, jnp.zeros((2, 8, 8, 1)), None, train=True)
