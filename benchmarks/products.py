"""What XLA's matrix products alone take, beside PyTorch's whole layer.

    python -m benchmarks.products [--batch=32,128] [--json]

A 1x1 convolution is one matrix product, and a convolution from or to a few channels is one beside making the
patches. Here is that product by itself, on matrices that are ready, in the fastest of the forms that XLA
offers, in turns with the whole pass of the same layer in PyTorch. Where this ratio is above the bar of a
layer, no way of writing the layer in XLA can meet it on the machine it is measured on.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.command_line import Parser, positive, require_torch
from benchmarks.layers import LAYERS, Layer, alternate, arrays, peer
from ganjax.memory import keep_freed_memory

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
            "product_ms": round(1e3 * statistics.median(best), 3),
            "peer_ms": round(1e3 * statistics.median(other), 3),
            "ratio": round(statistics.median(x / y for x, y in zip(best, other, strict=True)), 3),
        }
    return result


def line(result: dict[str, Any]) -> str:
    """For people."""
    channels = "->".join(map(str, result["channels"]))
    kernel = f"{result['kernel']}x{result['kernel']}/{result['stride']}"
    cells = (result[name] for name in PASSES)
    return (
        f"{result['models'][0]:<15}{result['size']:>3} {channels:<9}{kernel:<6}{result['batch']:>4}  "
        + "  ".join(
            f"{cell['product_ms']:>10.2f}{cell['peer_ms']:>9.2f}{cell['ratio']:>6.2f}" for cell in cells
        )
    )


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m benchmarks.products",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    batches = lambda text: [positive(int)(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--batch", type=batches, default=[32, 128], help="several with commas (32,128)")
    parser.add_argument("--rounds", type=positive(int), default=5, help="rounds (5)")
    parser.add_argument("--seconds", type=positive(float), default=0.1, help="of each round (0.1)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each layer")
    options = parser.parse_args(arguments)
    require_torch(parser)
    if arguments is None:  # the process is ours
        keep_freed_memory()
    if not options.json:
        print(f"{'':<39}" + "".join(f"{name:<27}" for name in PASSES))
        print(f"{'':<39}" + f"{'product ms':>10}{'torch':>9}{'ratio':>6}  " * 2)
    for layer in filter(is_a_product, LAYERS):
        for batch in options.batch:
            result = measure(layer, batch, options.rounds, options.seconds)
            print(json.dumps(result) if options.json else line(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
