"""How smoothly images follow latents: perceptual path length."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ganjax import errors


class PathLength(NamedTuple):
    """The mean over the steps that were kept, their standard error, and how many these are."""

    value: float
    std_error: float
    kept: int


def perceptual_path_length(
    generate: Callable[..., Any],
    distance: Callable[[Any, Any], Any],
    starts: np.ndarray,
    ends: np.ndarray,
    *,
    space: str = "z",
    sampling: str = "full",
    labels: np.ndarray | None = None,
    epsilon: float = 1e-4,
    reject: float = 0.01,
    batch: int = 32,
    seed: int = 0,
    tell: Callable[[int, int], None] | None = None,
) -> PathLength:
    """The mean of distance(image at t, image at t + epsilon) / epsilon^2 along paths between latents.

    It is short where small steps change images little, which entangled or abrupt generators don't do; one
    that always draws the same image has length 0. The least and the greatest `reject` of the steps are left
    out. The generator's noise must be the same at both ends of a step, and `distance` is one that grows with
    the square of a difference, as LPIPS does.

    Args:
      generate: latents float32 [n, Z] (and labels [n], where there are any) -> images, as `distance` takes
        them; n is `batch` at every call. Of `space` "w" the latents are the mapping's outputs.
      distance: two batches of images -> [n], finite, at least 0.
      starts, ends: the latents of the paths' ends, [N, Z], independent draws; N >= 2, 100,000 in the paper.
      space: "z" goes along great circles (spherical interpolation), "w" along straight lines.
      sampling: "full" draws t from [0, 1], "end" is t = 0, where the latents themselves are.
      labels: [N], the same at both ends of a path.
      epsilon: the step, above 0.
      reject: which share is left out at either end, in [0, 0.5).
      batch: paths at a time.
      seed: of the ts.
      tell: is given how many paths are done, and of how many.
    Raises:
      UsageError: shapes or values that do not fit.
      RunError: a distance is NaN or infinite.

    References:
      Karras, Laine and Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks",
      2019, section 4.1. Of faces the paper compares a crop; cropping is `distance`'s.
    """
    starts, ends = np.asarray(starts, np.float64), np.asarray(ends, np.float64)
    if starts.ndim != 2 or starts.shape != ends.shape or len(starts) < 2:
        raise errors.UsageError(
            f"latents: expected starts and ends [N, Z] with N >= 2, got {starts.shape} and {ends.shape}"
        )
    for name, value, choices in (("space", space, ("z", "w")), ("sampling", sampling, ("full", "end"))):
        if value not in choices:
            raise errors.UsageError(f"{name}={value!r}: expected {' or '.join(choices)}")
    if not 0 < epsilon < 1 or not 0 <= reject < 0.5 or batch < 1:
        raise errors.UsageError(
            f"epsilon={epsilon}, reject={reject}, batch={batch}: "
            "expected in (0, 1), in [0, 0.5) and at least 1"
        )
    count = len(starts)
    if labels is not None and np.shape(labels) != (count,):
        raise errors.UsageError(f"labels: expected the shape ({count},), got {np.shape(labels)}")
    t = np.random.default_rng(seed).uniform(size=count) if sampling == "full" else np.zeros(count)
    between = spherical if space == "z" else straight
    lengths = []
    for start in range(0, count, batch):
        # Filled up with the last path: one shape is one compilation.
        rows = np.minimum(np.arange(start, start + batch), count - 1)
        further = () if labels is None else (np.asarray(labels)[rows],)
        images = [
            generate(between(starts[rows], ends[rows], at).astype(np.float32), *further)
            for at in (t[rows], t[rows] + epsilon)
        ]
        step = np.asarray(distance(*images), np.float64)
        if step.shape != (batch,):
            raise errors.UsageError(f"distance: expected one value a pair, ({batch},), got {step.shape}")
        lengths.append(step[: count - start] / epsilon**2)
        if tell is not None:
            tell(min(start + batch, count), count)
    lengths = np.concatenate(lengths)
    if not np.isfinite(lengths).all():
        raise errors.RunError("perceptual path length: a distance is NaN or infinite")
    least = np.quantile(lengths, reject, method="lower")
    greatest = np.quantile(lengths, 1 - reject, method="higher")
    kept = lengths[(least <= lengths) & (lengths <= greatest)]
    error = kept.std(ddof=1) / np.sqrt(len(kept)) if len(kept) > 1 else np.nan
    return PathLength(float(kept.mean()), float(error), len(kept))


def straight(starts: np.ndarray, ends: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points on straight lines: starts and ends [N, Z], t [N] -> float64 [N, Z]."""
    starts, ends, t = (np.asarray(x, np.float64) for x in (starts, ends, t))
    return starts + (ends - starts) * t[:, None]


def spherical(starts: np.ndarray, ends: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points on great circles (Shoemake 1985), path by path: starts and ends [N, Z], t [N] -> float64 [N, Z].

    As `ganjax.sampling.slerp`: lengths pass from one to the other, and between parallel, opposite and zero
    vectors the way is straight.
    """
    starts, ends, t = (np.asarray(x, np.float64) for x in (starts, ends, t))
    lengths = np.linalg.norm(starts, axis=1) * np.linalg.norm(ends, axis=1)
    cosines = np.einsum("nz,nz->n", starts, ends) / np.where(lengths > 0, lengths, 1)
    omega = np.arccos(np.clip(cosines, -1, 1))
    circle = (np.sin(omega) >= 1e-6) & (lengths > 0)
    sines = np.where(circle, np.sin(omega), 1)
    first = np.where(circle, np.sin((1 - t) * omega) / sines, 1 - t)
    second = np.where(circle, np.sin(t * omega) / sines, t)
    return first[:, None] * starts + second[:, None] * ends
