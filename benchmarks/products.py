"""What XLA's matrix products alone take, beside PyTorch's whole layer.

    python -m benchmarks.products [--model=NAME] [--batch=32,128] [--json]

A 1x1 convolution is one matrix product, and a convolution from or to a few channels is one beside making the
patches. Here is that product by itself, on matrices that are ready, in the fastest of the forms that XLA
offers, in turns with the whole pass of the same layer in PyTorch. Where this ratio is above the bar of a
layer, no way of writing the layer in XLA can meet it on the machine it is measured on. "ours" is the product.
"""

import statistics
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.layers import LAYERS, Layer, alternate, arrays, peer, run

FEW = 16  # with fewer channels than this on a side a layer is a product of patches
PASSES = ("forward", "weight_gradient")


def is_a_product(layer: Layer) -> bool:
    """Whether no form of the layer multiplies less than the product does."""
    return layer.kind == "conv" and (layer.kernel == 1 or layer.channels[0] < FEW)


def forms(layer: Layer, batch: int) -> dict[str, list[Callable[[], Any]]]:
    """Pass -> the product of the layer's matrices, written in several ways."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    from ganjax.parallel import Program

    out = -(-layer.size // layer.stride)
    rows, depth, features = batch * out**2, layer.kernel**2 * layer.channels[0], layer.channels[1]
    draw = np.random.default_rng(0)
    patches, kernel, cotangent = jax.device_put(
        [
            draw.normal(size=shape).astype(np.float32)
            for shape in ((rows, depth), (depth, features), (rows, features))
        ]
    )

    def over_rows(a, b):
        return lax.dot_general(a, b, (((0,), (0,)), ((), ())))

    def in_parts(parts: int):
        def function(a, b):
            a, b = (x.reshape(parts, rows // parts, -1) for x in (a, b))
            return jnp.sum(lax.dot_general(a, b, (((1,), (1,)), ((0,), (0,)))), 0)

        return function

    def ready(function: Callable, *operands: jax.Array) -> Callable[[], Any]:
        program = Program(jax.jit(function))
        return lambda: program(*operands).block_until_ready()

    transposed = jax.device_put(np.asarray(patches).T.copy())
    return {
        "forward": [
            ready(jnp.matmul, patches, kernel),
            ready(lambda a, b: (b.T @ a.T).T, patches, kernel),
        ],
        "weight_gradient": [
            ready(over_rows, patches, cotangent),
            ready(over_rows, cotangent, patches),
            ready(jnp.matmul, transposed, cotangent),  # as if the transposed patches came for nothing
            *(ready(in_parts(parts), patches, cotangent) for parts in (2, 8, 32)),
        ],
    }


def measure(layer: Layer, batch: int, rounds: int, seconds: float) -> dict[str, Any]:
    """One line of the output."""
    products, theirs = forms(layer, batch), peer(layer, *arrays(layer, batch))
    result: dict[str, Any] = {**layer._asdict(), "batch": batch}
    for name in PASSES:
        *mine, other = alternate([*products[name], theirs[name]], rounds, seconds)
        best = min(mine, key=statistics.median)
        result[name] = {
            "ours_ms": round(1e3 * statistics.median(best), 3),
            "peer_ms": round(1e3 * statistics.median(other), 3),
            "ratio": round(statistics.median(x / y for x, y in zip(best, other, strict=True)), 3),
        }
    return result


def main(arguments: list[str] | None = None) -> int:
    layers = [layer for layer in LAYERS if is_a_product(layer)]
    return run("benchmarks.products", __doc__, arguments, layers=layers, measure=measure, passes=PASSES)


if __name__ == "__main__":
    sys.exit(main())
