"""Every convolution of the measured models, ours against PyTorch's, in alternation.

    python -m benchmarks.layers [--model=NAME] [--batch=32,128] [--json]

Of each: the forward pass, the gradient with respect to the input alone, and that with respect to the weight
alone, each with the point of linearisation and the cotangent given. Medians over rounds of medians; the
ratio is ours / PyTorch's, below 1 where ours is faster.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.command_line import Parser, one_of, positive, require_torch
from ganjax.memory import keep_freed_memory

PASSES = ("forward", "input_gradient", "weight_gradient")


class Layer(NamedTuple):
    """One convolution of a model.

    Attributes:
      models: where it occurs.
      kind: "conv", "conv_transpose" (both padded "SAME"), "upsample_conv" (nearest by 2, then the
        convolution) or "conv_pool" (the convolution, then the mean over 2x2).
      size: height and width of its input.
      channels: of its input, and of its output.
      kernel: height and width of the kernel.
      stride: over height and width.
    """

    models: tuple[str, ...]
    kind: str
    size: int
    channels: tuple[int, int]
    kernel: int
    stride: int = 1


BOOK, MNIST, DCGAN, SNGAN = ("cgan_book",), ("cgan_mnist",), ("dcgan64",), ("sngan_resnet32",)
LAYERS = (
    # cgan_book: generator, then discriminator
    Layer(BOOK, "conv_transpose", 7, (129, 128), 4, 2),
    Layer(BOOK, "conv_transpose", 14, (128, 128), 4, 2),
    Layer(BOOK, "conv", 28, (128, 1), 7),
    Layer(BOOK, "conv", 28, (2, 128), 3, 2),
    Layer(BOOK, "conv", 14, (128, 128), 3, 2),
    # cgan_mnist
    Layer(MNIST, "conv_transpose", 7, (96, 48), 4, 2),
    Layer(MNIST, "conv_transpose", 14, (48, 1), 4, 2),
    Layer(MNIST, "conv", 28, (1, 48), 4, 2),
    Layer(MNIST, "conv", 14, (48, 96), 4, 2),
    # dcgan64
    Layer(DCGAN, "conv_transpose", 4, (512, 256), 4, 2),
    Layer(DCGAN, "conv_transpose", 8, (256, 128), 4, 2),
    Layer(DCGAN, "conv_transpose", 16, (128, 64), 4, 2),
    Layer(DCGAN, "conv_transpose", 32, (64, 3), 4, 2),
    Layer(DCGAN, "conv", 64, (3, 64), 4, 2),
    Layer(DCGAN, "conv", 32, (64, 128), 4, 2),
    Layer(DCGAN, "conv", 16, (128, 256), 4, 2),
    Layer(DCGAN, "conv", 8, (256, 512), 4, 2),
    # sngan_resnet32
    Layer(SNGAN, "upsample_conv", 4, (256, 256), 3),
    Layer(SNGAN, "upsample_conv", 8, (256, 256), 3),
    Layer(SNGAN, "upsample_conv", 16, (256, 256), 3),
    Layer(SNGAN, "conv", 8, (256, 256), 3),
    Layer(SNGAN, "conv", 16, (256, 256), 3),
    Layer(SNGAN, "conv", 32, (256, 256), 3),
    Layer(SNGAN, "conv", 4, (256, 256), 1),
    Layer(SNGAN, "conv", 8, (256, 256), 1),
    Layer(SNGAN, "conv", 16, (256, 256), 1),
    Layer(SNGAN, "conv", 32, (256, 3), 3),
    Layer(SNGAN, "conv", 32, (3, 128), 3),
    Layer(SNGAN, "conv_pool", 32, (128, 128), 3),
    Layer(SNGAN, "conv", 16, (3, 128), 1),
    Layer(SNGAN, "conv", 16, (128, 128), 3),
    Layer(SNGAN, "conv_pool", 16, (128, 128), 3),
    Layer(SNGAN, "conv", 8, (128, 128), 1),
    Layer(SNGAN, "conv", 8, (128, 128), 3),
)


def arrays(layer: Layer, batch: int) -> tuple[Any, Any, Any]:
    """float32 input [n, H, W, C], kernel [KH, KW, C, F] and cotangent of the output, as numpy arrays."""
    import numpy as np

    draw = np.random.default_rng(0)
    size, (channels, features) = layer.size, layer.channels
    out = {
        "conv": -(-size // layer.stride),
        "conv_transpose": size * layer.stride,
        "upsample_conv": 2 * size,
        "conv_pool": size // 2,
    }[layer.kind]
    shapes = (
        (batch, size, size, channels),
        (layer.kernel, layer.kernel, channels, features),
        (batch, out, out, features),
    )
    x, kernel, cotangent = (draw.normal(size=shape).astype(np.float32) for shape in shapes)
    return x, kernel / np.float32(np.sqrt(np.prod(kernel.shape[:3]))), cotangent


def ours(layer: Layer, x, kernel, cotangent) -> dict[str, Callable[[], Any]]:
    """Pass -> a function that runs it and returns its result as an array on the device."""
    import jax

    from ganjax import layers
    from ganjax.parallel import Program

    strides = (layer.stride, layer.stride)
    operation: Callable = {
        "conv": functools.partial(layers.conv, strides=strides),
        "conv_transpose": functools.partial(layers.conv_transpose, strides=strides),
        "upsample_conv": layers.upsample_conv,
        "conv_pool": layers.conv_pool,
    }[layer.kind]

    def input_gradient(x, kernel, cotangent):
        return jax.vjp(lambda x: operation(x, kernel), x)[1](cotangent)[0]

    def weight_gradient(x, kernel, cotangent):
        return jax.vjp(lambda kernel: operation(x, kernel), kernel)[1](cotangent)[0]

    x, kernel, cotangent = jax.device_put((x, kernel, cotangent))
    forward = Program(jax.jit(operation))
    programs = [Program(jax.jit(f)) for f in (input_gradient, weight_gradient)]
    return {
        "forward": lambda: forward(x, kernel).block_until_ready(),
        "input_gradient": lambda: programs[0](x, kernel, cotangent).block_until_ready(),
        "weight_gradient": lambda: programs[1](x, kernel, cotangent).block_until_ready(),
    }


def peer(layer: Layer, x, kernel, cotangent) -> dict[str, Callable[[], Any]]:
    """The same in PyTorch, channels-last, results as tensors on the device."""
    import torch
    import torch.nn.functional as F

    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(os.cpu_count() or 1)
    k, stride = layer.kernel, layer.stride
    if layer.kind == "conv_transpose":  # the taps run the other way there
        kernel = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
    else:
        kernel = kernel.transpose(3, 2, 0, 1)

    def tensor(array):
        return torch.from_numpy(array.copy()).to(device).contiguous(memory_format=torch.channels_last)

    def images(array):
        return torch.from_numpy(array).permute(0, 3, 1, 2).to(device)

    total = k - stride if layer.size % stride == 0 else k - 1  # "SAME"
    before, after = total // 2, total - total // 2

    def operation(x, w):
        if layer.kind == "conv_transpose":
            return F.conv_transpose2d(x, w, stride=stride, padding=(k - stride) // 2)
        if layer.kind == "upsample_conv":
            return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), w, padding=k // 2)
        if layer.kind == "conv_pool":
            return F.avg_pool2d(F.conv2d(x, w, padding=k // 2), 2)
        if before != after:
            return F.conv2d(F.pad(x, (before, after, before, after)), w, stride=stride)
        return F.conv2d(x, w, stride=stride, padding=before)

    x, w, cotangent = images(x).requires_grad_(), tensor(kernel).requires_grad_(), images(cotangent)
    graph = operation(x, w)

    def done(result):
        if cuda:
            torch.cuda.synchronize()
        return result

    def forward():
        with torch.no_grad():
            return done(operation(x, w))

    # autograd computes what is asked for and no other gradient.
    return {
        "forward": forward,
        "input_gradient": lambda: done(torch.autograd.grad(graph, x, cotangent, retain_graph=True)[0]),
        "weight_gradient": lambda: done(torch.autograd.grad(graph, w, cotangent, retain_graph=True)[0]),
    }


def alternate(functions: list[Callable[[], Any]], rounds: int, seconds: float) -> list[list[float]]:
    """Medians of each round, in seconds a call, of each function; they take turns, each `seconds` a round."""
    medians: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()  # compiles, or chooses an algorithm
    for i in range(rounds):
        for j in range(len(functions)) if i % 2 == 0 else reversed(range(len(functions))):
            times: list[float] = []
            functions[j]()  # fills the cache with this one's data
            start = time.perf_counter()
            while len(times) < 3 or time.perf_counter() - start < seconds:
                before = time.perf_counter()
                functions[j]()
                times.append(time.perf_counter() - before)
            medians[j].append(statistics.median(times))
    return medians


def measure(layer: Layer, batch: int, rounds: int, seconds: float) -> dict[str, Any]:
    """One line of the output."""
    values = arrays(layer, batch)
    mine, theirs = ours(layer, *values), peer(layer, *values)
    result: dict[str, Any] = {**layer._asdict(), "batch": batch}
    for name in PASSES:
        a, b = alternate([mine[name], theirs[name]], rounds, seconds)
        result[name] = {
            "ours_ms": round(1e3 * statistics.median(a), 3),
            "peer_ms": round(1e3 * statistics.median(b), 3),
            "ratio": round(statistics.median(x / y for x, y in zip(a, b, strict=True)), 3),
        }
    return result


def line(result: dict[str, Any], passes: Sequence[str] = PASSES) -> str:
    """For people."""
    channels = "->".join(map(str, result["channels"]))
    kernel = f"{result['kernel']}x{result['kernel']}/{result['stride']}"
    head = f"{result['models'][0]:<15}{result['kind']:<15}{result['size']:>3} {channels:<9}{kernel:<6}"
    cells = (result[name] for name in passes)
    return (
        head
        + f"{result['batch']:>4}  "
        + "  ".join(f"{cell['ours_ms']:>8.2f}{cell['peer_ms']:>9.2f}{cell['ratio']:>6.2f}" for cell in cells)
    )


def run(
    program: str,
    description: str | None,
    arguments: list[str] | None,
    *,
    layers: Sequence[Layer] = LAYERS,
    measure: Callable[[Layer, int, int, float], dict[str, Any]] = measure,
    passes: Sequence[str] = PASSES,
) -> int:
    """A benchmark's command line: a line for each layer and batch.

    Args:
      program: the module's name.
      description: its docstring.
      arguments: words; None: the process's own.
      layers: what is measured, unless --model chooses of them.
      measure: as the one above.
      passes: the keys of its result that are shown.
    """
    parser = Parser(
        prog=f"python -m {program}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models = tuple(dict.fromkeys(model for layer in layers for model in layer.models))
    parser.add_argument("--model", type=one_of(models), help="only its layers: " + ", ".join(models))
    batches = lambda text: [positive(int)(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--batch", type=batches, default=[32, 128], help="several with commas (32,128)")
    parser.add_argument("--rounds", type=positive(int), default=5, help="rounds (5)")
    parser.add_argument("--seconds", type=positive(float), default=0.2, help="of each round (0.2)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each layer")
    options = parser.parse_args(arguments)
    require_torch(parser)
    if arguments is None:  # the process is ours: as our command line does, for both
        keep_freed_memory()
    if not options.json:
        print(f"{'':<54}" + "".join(f"{name:<25}" for name in passes))
        print(f"{'':<54}" + f"{'ours ms':>8}{'torch':>8}{'ratio':>7}  " * len(passes))
    for layer in layers:
        if options.model and options.model not in layer.models:
            continue
        for batch in options.batch:
            result = measure(layer, batch, options.rounds, options.seconds)
            print(json.dumps(result) if options.json else line(result, passes), flush=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    return run("benchmarks.layers", __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
