"""The metrics of features and pixels beside their plain definitions and other packages, on the same numbers.

    python -m benchmarks.metrics [--samples=3000] [--features=512] [--real=FILE.npy --fake=FILE.npy] [--json]

Features are random ones, or those of two .npy files [N, F], for example the FID Inception's. The definitions
are written out in numpy and scipy; pytorch-fid, torch-fidelity, prdc and scikit-image are asked too where
they are installed (none of them is needed, and ganjax uses none). The exit code is 1 where a figure differs
from another's by more than 0.1 %.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.spatial.distance

from benchmarks.command_line import Parser, positive
from ganjax.metrics import frechet, kernel, manifold, pixels, scores

TOLERANCE = 1e-3


class Comparison(NamedTuple):
    """One figure, ours and another's.

    Attributes:
      figure: its name.
      peer: whose the other is: "definition", or a package.
      ours, theirs: the values.
      seconds: of wall time, ours and theirs.
    """

    figure: str
    peer: str
    ours: float
    theirs: float
    seconds: tuple[float, float]

    @property
    def difference(self) -> float:
        """Relative to the other's; absolute where that is below 1e-3."""
        return abs(self.ours - self.theirs) / max(abs(self.theirs), 1e-3)


def frechet_by_definition(fake: np.ndarray, real: np.ndarray) -> float:
    (mean1, cov1), (mean2, cov2) = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (fake, real))
    root: Any = scipy.linalg.sqrtm(cov1 @ cov2)
    return float(np.sum((mean1 - mean2) ** 2) + np.trace(cov1 + cov2 - 2 * root.real))


def kernel_by_definition(fake: np.ndarray, real: np.ndarray) -> float:
    """Of whole sets of one size."""
    n, features = fake.shape

    def k(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / features + 1) ** 3

    off = ~np.eye(n, dtype=bool)
    return float(k(fake, fake)[off].mean() + k(real, real)[off].mean() - 2 * k(fake, real).mean())


def overlap_by_definition(fake: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Precision and recall of 3 neighbours, density and coverage of 5, from whole matrices of distances."""

    distances = scipy.spatial.distance.cdist  # of differences, not by products
    between = distances(real, fake)
    real_ranked, fake_ranked = (np.sort(distances(x, x), axis=1) for x in (real, fake))
    return {
        "precision": float((between <= real_ranked[:, 3:4]).any(axis=0).mean()),
        "recall": float((between <= fake_ranked[:, 3]).any(axis=1).mean()),
        "density": float((between < real_ranked[:, 5:6]).sum() / (5 * len(fake))),
        "coverage": float((between.min(axis=1) < real_ranked[:, 5]).mean()),
    }


def comparisons(fake: np.ndarray, real: np.ndarray) -> Iterator[Comparison]:
    """All that can be made here.

    Args:
      fake, real: [N, F] and [M, F].
    """
    size = min(len(fake), len(real), 1000)
    some_fake, some_real = fake[:size], real[:size]
    peers: dict[str, dict[str, Callable[[], Any]]] = {
        "frechet": {"definition": lambda: frechet_by_definition(fake, real), **frechet_peers(fake, real)},
        "kernel": {
            "definition": lambda: kernel_by_definition(some_fake, some_real),
            **kernel_peers(some_fake, some_real),
        },
        "overlap": {"definition": lambda: overlap_by_definition(fake, real), **overlap_peers(fake, real)},
    }
    ours: dict[str, Callable[[], Any]] = {
        "frechet": lambda: frechet.frechet_distance(
            *frechet.gaussian_statistics(fake), *frechet.gaussian_statistics(real)
        ),
        "kernel": lambda: (
            kernel.kernel_distance(some_fake, some_real, subsets=1, subset_size=size, strict=True).value
        ),
        "overlap": lambda: {
            **manifold.precision_recall(real, fake)._asdict(),
            **manifold.density_coverage(real, fake)._asdict(),
        },
    }
    logits = np.random.default_rng(1).normal(size=(500, 10)) * 3
    ours["inception_score"] = lambda: scores.inception_score(logits, seed=None).value
    peers["inception_score"] = {"definition": lambda: score_by_definition(logits)}
    a, b = image_pair()
    ours["ssim"] = lambda: float(pixels.ssim(a[None], b[None])[0])
    ours["psnr"] = lambda: float(pixels.psnr(a[None], b[None])[0])
    peers["ssim"], peers["psnr"] = picture_peers(a, b)
    for name, function in ours.items():
        value, seconds = timed(function)
        for peer, peer_function in peers[name].items():
            their_value, their_seconds = timed(peer_function)
            figures = value if isinstance(value, dict) else {name: value}
            their_figures = their_value if isinstance(their_value, dict) else {name: their_value}
            for figure, theirs in their_figures.items():
                yield Comparison(figure, peer, figures[figure], float(theirs), (seconds, their_seconds))


def score_by_definition(logits: np.ndarray) -> float:
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    parts = p.reshape(10, -1, p.shape[1])
    return float(np.mean([np.exp(np.mean(np.sum(q * np.log(q / q.mean(axis=0)), axis=1))) for q in parts]))


def image_pair() -> tuple[np.ndarray, np.ndarray]:
    """An image of waves and the same with noise, uint8 [48, 64, 1]."""
    rows, columns = np.indices((48, 64))
    image = 127 + 90 * np.sin(rows / 5) * np.cos(columns / 7)
    noisy = image + np.random.default_rng(2).normal(0, 15, image.shape)
    a, b = (np.clip(np.round(x), 0, 255).astype(np.uint8)[..., None] for x in (image, noisy))
    return a, b


def installed(name: str) -> Any:
    """The module, or None where it can't be imported, for whatever reason it has."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        print(f"without {name}: {type(error).__name__}", file=sys.stderr)
        return None


def frechet_peers(fake: np.ndarray, real: np.ndarray) -> dict[str, Callable[[], Any]]:
    theirs = installed("pytorch_fid.fid_score")
    if theirs is None:
        return {}

    def distance() -> float:
        statistics = [x for each in (fake, real) for x in (each.mean(axis=0), np.cov(each, rowvar=False))]
        return theirs.calculate_frechet_distance(*statistics)

    return {"pytorch-fid": distance}


def kernel_peers(fake: np.ndarray, real: np.ndarray) -> dict[str, Callable[[], Any]]:
    theirs = installed("torch_fidelity.metric_kid")
    if theirs is None:
        return {}
    torch: Any = importlib.import_module("torch")

    def distance() -> float:
        found = theirs.kid_features_to_metric(
            torch.tensor(fake), torch.tensor(real), kid_subsets=1, kid_subset_size=len(fake), verbose=False
        )
        return found["kernel_inception_distance_mean"]

    return {"torch-fidelity": distance}


def overlap_peers(fake: np.ndarray, real: np.ndarray) -> dict[str, Callable[[], Any]]:
    theirs = installed("prdc")
    if theirs is None:
        return {}

    def overlap() -> dict[str, float]:
        of_3, of_5 = (theirs.compute_prdc(real, fake, nearest_k=k) for k in (3, 5))
        return {
            "precision": of_3["precision"],
            "recall": of_3["recall"],
            "density": of_5["density"],
            "coverage": of_5["coverage"],
        }

    return {"prdc": overlap}


def picture_peers(a: np.ndarray, b: np.ndarray) -> tuple[dict[str, Callable], dict[str, Callable]]:
    """Of SSIM and of PSNR."""
    plain = {"definition": lambda: 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))}
    theirs = installed("skimage.metrics")
    if theirs is None:
        return {}, plain
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    structural = lambda: theirs.structural_similarity(a[..., 0], b[..., 0], **options)  # noqa: E731
    return {"scikit-image": structural}, {
        **plain,
        "scikit-image": lambda: theirs.peak_signal_noise_ratio(a, b),
    }


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def random_features(samples: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Rectified, correlated ones of two distributions that overlap: float64 [N, F], a tenth fewer real."""
    draw = np.random.default_rng(0)
    scales = np.exp(-np.linspace(0, 4, features)) / np.sqrt(features)
    mixing = draw.normal(size=(features, features)) * scales
    fake = np.maximum((0.9 * draw.normal(size=(samples, features)) + 0.1) @ mixing, 0)
    real = np.maximum(draw.normal(size=(max(samples * 9 // 10, 8), features)) @ mixing, 0)
    return fake, real


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--samples", type=positive(int), default=3000)
    parser.add_argument("--features", type=positive(int), default=512)
    parser.add_argument("--real", help="an .npy file of features [M, F]")
    parser.add_argument("--fake", help="an .npy file of features [N, F]")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    if (chosen.real is None) != (chosen.fake is None):
        parser.error("--real and --fake go together")
    if chosen.real is None:
        fake, real = random_features(max(chosen.samples, 10), chosen.features)
    else:
        fake, real = (np.load(path).astype(np.float64) for path in (chosen.fake, chosen.real))
    found = list(comparisons(fake, real))
    wrong = [c for c in found if not c.difference <= TOLERANCE]
    if chosen.json:
        print(json.dumps([{**c._asdict(), "difference": c.difference} for c in found]))
    else:
        print(f"{'figure':16} {'beside':15} {'ours':>14} {'theirs':>14} {'difference':>11}  seconds")
        for c in found:
            seconds = f"{c.seconds[0]:.2f} {c.seconds[1]:.2f}"
            print(
                f"{c.figure:16} {c.peer:15} {c.ours:14.8g} {c.theirs:14.8g} {c.difference:11.1e}  {seconds}"
            )
    for c in wrong:
        print(f"{c.figure}: {c.ours:.6g}, {c.peer} has {c.theirs:.6g}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
