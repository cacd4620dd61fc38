"""What the tests of networks share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

KEY = jax.random.key(0)
FAST = {"xla_backend_optimization_level": 0}  # to compile; what is compiled is tiny


def shapes(generator, discriminator, image_shape, *, latent_size=5, labels=None, count=3) -> Any:
    """(output, variables) of generator and discriminator, by shape and type alone: nothing is compiled."""
    latents, images = jnp.zeros((count, latent_size)), jnp.zeros((count, *image_shape))
    return (
        jax.eval_shape(lambda: generator.init_with_output(KEY, latents, labels, train=True)),
        jax.eval_shape(lambda: discriminator.init_with_output(KEY, images, labels, train=True)),
    )


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def random_variables(shapes: Any, seed: int = 0) -> Any:
    """Variables by numpy: to compile their initialisers takes longest."""
    draw = np.random.default_rng(seed)

    def fill(path, x):
        values = np.asarray(0.3 * draw.normal(size=x.shape))
        if path[-1].key in ("var", "scale"):
            values = 1 + np.abs(values)
        if path[-1].key in ("u", "v"):
            values /= np.linalg.norm(values)
        return values.astype(x.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def settled_variables(form: Any) -> Any:
    """Random, of the sizes that training has, the spectral vectors near to where power iterations end."""
    draw = np.random.default_rng(1)

    def fill(path, x):
        if path[-1].key in ("var", "scale"):
            return draw.uniform(0.5, 1.5, x.shape).astype(x.dtype)
        scale = np.sqrt(1 / np.prod(x.shape[:-1])) if path[-1].key == "kernel" else 0.3
        return np.asarray(scale * draw.normal(size=x.shape), x.dtype)

    def vectors(spectral, params):
        if "u" not in spectral:
            return {name: vectors(part, params[name]) for name, part in spectral.items()}
        kernel = params["kernel"] if "kernel" in params else params["embedding"]
        matrix = kernel.reshape(-1, kernel.shape[-1])
        u = draw.normal(size=matrix.shape[1])
        for _ in range(3):
            v = matrix @ u / np.linalg.norm(matrix @ u)
            u = v @ matrix / np.linalg.norm(v @ matrix)
        return {"u": u.astype(np.float32), "v": v.astype(np.float32)}

    variables = jax.tree_util.tree_map_with_path(fill, form)
    if "spectral" in variables:
        variables["spectral"] = vectors(variables["spectral"], variables["params"])
    return variables


def run(network, variables, *args, train=True, **options) -> Any:
    """The output and the other collections afterwards."""
    others = [name for name in variables if name != "params"]

    def apply(variables, *args):
        return network.apply(variables, *args, train=train, mutable=others, **options)

    return jax.jit(apply, compiler_options=FAST)(variables, *args)


def features(network, variables, *args, **options) -> Any:
    """The output and what a discriminator sows as its features, in evaluation."""

    def apply(variables, *args):
        return network.apply(variables, *args, train=False, mutable=["intermediates"], **options)

    output, sown = jax.jit(apply, compiler_options=FAST)(variables, *args)
    (features,) = sown["intermediates"]["features"]
    return output, features


def convolved(x: np.ndarray, layer: Any) -> np.ndarray:
    """A "SAME" convolution of stride 1 with a layer's odd kernel, and its bias, as it is defined."""
    kernel = layer["kernel"]
    rows, columns = kernel.shape[:2]
    height, width = x.shape[1:3]
    x = np.pad(x, ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)))
    taps = [(i, j) for i in range(rows) for j in range(columns)]
    return sum(x[:, i : i + height, j : j + width] @ kernel[i, j] for i, j in taps) + layer["bias"]
