"""The FID's Inception, ours against the original run by PyTorch: features, figures made of them, and speed.

    python -m benchmarks.inception --weights=inception-2015-12-05.pt [--images=PATH.npz] [--count=600]
        [--resize=tf1,pytorch,clean] [--block=48] [--json]

For each resizer the same images go through both, in blocks and in turns, each with every core: ours as
`ganjax.metrics.inception` has it; the TorchScript archive behind a resizer that is written here anew, in
PyTorch (`tf1`, `pytorch`) or by Pillow (`clean`). Compared are the features, in units of the standard
deviation of all the reference's features, and, between the first half of the images and the second half
turned to negatives, the FID, the KID, precision and recall: by ganjax on our features, and by their
definitions, with scipy's matrix square root, on the reference's. The bars stand in `BARS`; it exits with 1
where one is missed.

PyTorch runs the archive's code: give it a file that you trust. Without --images they are made up: blots of
colour.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np

from benchmarks.command_line import Parser, positive, require_torch

RESIZERS = ("tf1", "pytorch", "clean")
# At most, but for the speed.
BARS = {
    "largest_difference": 1e-2,  # in standard deviations of the features
    "mean_difference": 1e-4,
    "fid_relative": 1e-3,
    "kid_relative": 1e-3,
    "precision_difference": 1e-3,
    "recall_difference": 1e-3,
}
SPEED = 1.0  # ours over PyTorch's, at least


def blots(count: int, size: int = 32) -> np.ndarray:
    """uint8 [count, size, size, 3]: noise of few frequencies, the same every time."""
    draw = np.random.default_rng(0)
    waves = np.exp(2j * np.pi * np.outer(np.arange(size), np.arange(-3, 4)) / size)
    amplitudes = draw.normal(size=(count, 7, 7, 3)) + 1j * draw.normal(size=(count, 7, 7, 3))
    images = np.einsum("ya,nabc,xb->nyxc", waves, amplitudes, waves, optimize=True).real
    return np.clip(128 + 12 * images, 0, 255).astype(np.uint8)


def reference_input(images: np.ndarray, resizer: str) -> Any:
    """A float32 tensor [N, 3, 299, 299], from uint8 [N, H, W, 1 or 3]; resized by other means than ours."""
    import torch
    import torch.nn.functional as F
    from PIL import Image

    images = np.broadcast_to(images, (*images.shape[:3], 3))
    if resizer == "clean":
        planes = [
            Image.fromarray(plane.astype(np.float32), mode="F").resize((299, 299), Image.Resampling.BICUBIC)
            for image in images
            for plane in np.moveaxis(image, 2, 0)
        ]
        resized = np.stack([np.asarray(plane) for plane in planes]).reshape(-1, 3, 299, 299)
        return (torch.from_numpy(resized.clip(0, 255)) - 128) / 128
    x = torch.from_numpy(np.array(np.moveaxis(images, 3, 1), np.float32, order="C"))
    if resizer == "pytorch":
        return 2 * F.interpolate(x / 255, (299, 299), mode="bilinear", align_corners=False) - 1
    for axis in (2, 3):  # pixel o of 299 lies at o * length / 299
        length = x.shape[axis]
        place = torch.arange(299) * torch.tensor(length / 299)
        below = place.long().clamp(max=length - 1)
        above = (below + 1).clamp(max=length - 1)
        part = (place - below).reshape([-1 if i == axis else 1 for i in range(4)])
        x = torch.lerp(x.index_select(axis, below), x.index_select(axis, above), part)
    return (x - 128) / 128


class Reference:
    """The TorchScript archive, run by PyTorch in the memory layout that is the faster on this machine."""

    def __init__(self, path: str):
        import torch

        torch.set_num_threads(os.cpu_count() or 1)
        self._torch = torch
        module: Any = torch.jit.load(path, map_location="cpu").eval()
        # The whole archive of StyleGAN2-ADA resizes by itself; its layers are what the bare one is.
        self._network = module.layers if hasattr(module, "layers") else module
        self.layout = torch.contiguous_format

    def choose_layout(self, images: np.ndarray, resizer: str) -> None:
        """Tries both on some images, after a call that PyTorch compiles in."""
        times = {}
        for layout in (self._torch.contiguous_format, self._torch.channels_last):
            self.layout = layout
            for _ in range(2):
                start = time.perf_counter()
                self(images, resizer)
                times[layout] = time.perf_counter() - start
        self.layout = min(times, key=lambda layout: times[layout])

    def __call__(self, images: np.ndarray, resizer: str) -> np.ndarray:
        with self._torch.no_grad():
            x = reference_input(images, resizer).contiguous(memory_format=self.layout)
            return self._network(x).reshape(-1, 2048).numpy()


def fid_by_definition(a: np.ndarray, b: np.ndarray) -> float:
    """|m - n|^2 + tr(C + D - 2 (C D)^(1/2)), with scipy's square root.

    In the space that the features span: a rotation changes none of the terms, and it has at most as many
    dimensions as there are features, so that the root takes seconds and not minutes.
    """
    import scipy.linalg

    a, b = a.astype(np.float64), b.astype(np.float64)
    origin = a.mean(0)
    basis = np.linalg.svd(np.concatenate([a, b]) - origin, full_matrices=False)[2]
    a, b = (a - origin) @ basis.T, (b - origin) @ basis.T
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    difference = a.mean(0) - b.mean(0)
    return float(difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root).real)


def kid_by_definition(a: np.ndarray, b: np.ndarray) -> float:
    """The unbiased estimate of the squared MMD with the kernel (x . y / F + 1)^3, over all pairs."""
    a, b = a.astype(np.float64), b.astype(np.float64)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(a, a), kernel(b, b))]
    return float(sum(within) - 2 * kernel(a, b).mean())


def precision_recall_by_definition(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """The share of fakes within a ball of a real feature to its k-th neighbour, and the other way round."""
    from scipy.spatial.distance import cdist

    real, fake = real.astype(np.float64), fake.astype(np.float64)
    between = cdist(real, fake)
    # In a row's order the feature itself comes first.
    reach = [np.sort(cdist(x, x), axis=1)[:, k] for x in (real, fake)]
    precise = (between <= reach[0][:, None]).any(0)
    recalled = (between <= reach[1][None]).any(1)
    return float(precise.mean()), float(recalled.mean())


def figures(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """The distances between two sets, by ganjax on our features and by definition on the reference's.

    Args:
      ours, theirs: the features [N, 2048] of the first set and of the second.
    """
    from ganjax.metrics.frechet import frechet_distance, gaussian_statistics
    from ganjax.metrics.kernel import kernel_distance

    fid = frechet_distance(*gaussian_statistics(ours[0]), *gaussian_statistics(ours[1]))
    kid = kernel_distance(ours[1], ours[0], subsets=1, subset_size=min(map(len, ours))).value
    result = {
        "fid": (fid, fid_by_definition(*theirs)),
        "kid": (kid, kid_by_definition(*theirs)),
    }
    from ganjax.metrics.manifold import precision_recall

    found, expected = precision_recall(*ours, k=3), precision_recall_by_definition(*theirs)
    result |= {"precision": (found[0], expected[0]), "recall": (found[1], expected[1])}
    return result


def compare(
    weights: str, images: np.ndarray, resizer: str, reference: Reference, block: int
) -> dict[str, Any]:
    """One resizer's row.

    Args:
      weights: the archive's path.
      images: uint8 [N, H, W, 1 or 3], N even.
      resizer: its name.
      reference: the archive, loaded.
      block: images between turns.
    """
    from ganjax.metrics.inception import load_inception

    inception = load_inception(weights, resizer)
    start = time.perf_counter()
    inception.features(images[:1])
    compile_s = time.perf_counter() - start
    reference.choose_layout(images[: min(block, 16)], resizer)
    half = len(images) // 2
    images = np.concatenate([images[:half], 255 - images[half : 2 * half]])
    features: tuple[list, list] = [], []
    seconds = [0.0, 0.0]
    contestants = (inception.features, lambda images: reference(images, resizer))
    for i, first in enumerate(range(0, len(images), block)):
        part = images[first : first + block]
        for j in (0, 1) if i % 2 == 0 else (1, 0):
            start = time.perf_counter()
            features[j].append(contestants[j](part))
            seconds[j] += time.perf_counter() - start
    ours, theirs = (np.concatenate(parts) for parts in features)
    deviation = float(theirs.std())
    difference = np.abs(ours - theirs) / deviation
    found = figures((ours[:half], ours[half:]), (theirs[:half], theirs[half:]))
    row: dict[str, Any] = {
        "resize": resizer,
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "images_per_second": [len(images) / s for s in seconds],
        "speed_ratio": seconds[1] / seconds[0],
        "compile_seconds": compile_s,
        "layout": str(reference.layout),
        **{name: list(pair) for name, pair in found.items()},
    }
    for name in ("fid", "kid"):
        row[f"{name}_relative"] = abs(found[name][0] - found[name][1]) / abs(found[name][1])
    for name in ("precision", "recall"):
        row[f"{name}_difference"] = abs(found[name][0] - found[name][1])
    return row


def missed(row: dict[str, Any]) -> list[str]:
    """A line for every bar that a row misses."""
    lines = [
        f"{row['resize']}: {name} {row[name]:.3g} above {bar}"
        for name, bar in BARS.items()
        if row[name] > bar
    ]
    if row["speed_ratio"] < SPEED:
        lines.append(f"{row['resize']}: {row['speed_ratio']:.2f} times PyTorch's images a second")
    return lines


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m benchmarks.inception", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--weights", required=True, help="the TorchScript archive")
    parser.add_argument("--images", help="an .npz with `image`, uint8 [N, H, W, C]")
    parser.add_argument("--count", type=positive(int), default=600, help="how many images; default 600")
    parser.add_argument("--resize", default=",".join(RESIZERS), help="which resizers, by commas")
    parser.add_argument("--block", type=positive(int), default=48, help="images between turns")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args(argv)
    require_torch(parser)
    names = arguments.resize.split(",")
    if unknown := [name for name in names if name not in RESIZERS]:
        parser.error(f"--resize={unknown[0]}: expected some of {', '.join(RESIZERS)}")
    if arguments.count < 10:
        parser.error(f"--count={arguments.count}: expected at least 10")

    from ganjax.errors import RunError, UsageError
    from ganjax.memory import keep_freed_memory
    from ganjax.weights import read_weights

    keep_freed_memory()
    try:
        if arguments.images:
            with np.load(arguments.images, allow_pickle=False) as archive:
                images = archive["image"][: arguments.count]
        else:
            images = blots(arguments.count)
        form = read_weights(arguments.weights).format
        if form != "torchscript":
            parser.error(
                f"--weights={arguments.weights}: PyTorch runs a TorchScript archive; this one is {form}"
            )
        reference = Reference(arguments.weights)
        rows = []
        for name in names:
            rows.append(compare(arguments.weights, images, name, reference, arguments.block))
            if not arguments.json:
                print(_line(rows[-1], len(images)), flush=True)
    except (OSError, KeyError, ValueError, RunError, UsageError) as error:
        print(f"benchmarks.inception: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(rows, indent=2))
    lines = [line for row in rows for line in missed(row)]
    for line in lines:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if lines else 0


def _line(row: dict[str, Any], count: int) -> str:
    ours, theirs = row["images_per_second"]
    pairs = "  ".join(
        f"{name} {row[name][0]:.6g} | {row[name][1]:.6g}" for name in ("fid", "kid", "precision", "recall")
    )
    return (
        f"{row['resize']:8} {count} images  difference: largest {row['largest_difference']:.2e}, mean "
        f"{row['mean_difference']:.2e} standard deviations  ours | reference: {pairs}  images/s {ours:.2f} | "
        f"{theirs:.2f}, ratio {row['speed_ratio']:.2f} ({row['layout']})"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
