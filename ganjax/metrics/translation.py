"""What translated images are judged by: distances from their targets where there are pairs, and from the set
of targets; beside what the input itself and the best change of its colours would give.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ganjax import errors
from ganjax.data.domains import luma
from ganjax.data.sampling import spread
from ganjax.gan import Judge, Tree
from ganjax.metrics import frechet, kernel, pixels, segmentation
from ganjax.metrics.lpips import TRUNKS, over_white
from ganjax.report.images import to_uint8

RESAMPLES = 10_000  # of the bootstrap
THUMBNAIL = 8  # pixels on a side of what `pixel_kernel_distance` compares
FITTED = 512  # training images that the colour maps are fitted on, at most
FITTED_PIXELS = 100_000  # of these, for the least absolute error
REWEIGHTED = 60  # times, likewise
SUBSET = 1000  # images in a subset of a kernel distance, as in the KID; or all there are
RESAMPLED = 1000  # images of a set at most, where sets are resampled, and
SET_RESAMPLES = 1000  # so often
FEWEST_RESAMPLED = 5  # images or groups; of fewer no interval is told
FEWEST = 2  # images of a set
WINDOW = 11  # pixels of SSIM's, on a side
ERRORS = ("squared", "absolute")

OF_PAIRS = ("l1", "psnr", "ssim", "lpips")
OF_PHOTOS = ("segmenter_pixel_accuracy", "segmenter_class_accuracy", "segmenter_class_iou")
OF_MAPS = ("label_pixel_accuracy", "label_class_accuracy", "label_class_iou")
OF_SETS = ("pixel_kernel_distance", "fid", "kid")
# By which the best checkpoint is kept, the first of these that is measured; of all less is better.
BEST_OF_PAIRS = ("lpips", "l1")
BEST_OF_SETS = ("kid", "fid", "pixel_kernel_distance")
NETWORKS = {"lpips": "lpips", "fid": "inception", "kid": "inception"}
LESS_IS_BETTER = {"l1": True, "psnr": False, "ssim": False, "lpips": True}
Images = np.ndarray  # floats [N, H, W, C] in [-1, 1]


def as_channels(images: Images, channels: int) -> Images:
    """Images with 1 or 3 channels: what is transparent is laid over white, as in reading images, grey is
    repeated, colour becomes grey by its luma."""
    colour = over_white(images)
    if channels == 1:
        return colour if colour.shape[-1] == 1 else luma(colour)
    return np.repeat(colour, 3, axis=-1) if colour.shape[-1] == 1 else colour


def fit_colour_map(
    inputs: Images, targets: Images, error: Literal["squared", "absolute"] = "squared"
) -> np.ndarray:
    """The affine map of a pixel's channels to its target's that has the least error: [C + 1, C'].

    The last row is what is added. Where drawings differ in shape, the least squared error draws colours to
    their mean, and the least absolute one does not. The latter is found by least squares whose weights are
    the last residuals' inverses, from 100,000 pixels at most.
    """
    if error == "squared":
        width = inputs.shape[-1] + 1
        square, product = np.zeros((width, width)), np.zeros((width, targets.shape[-1]))
        for a, b in zip(inputs, targets, strict=True):
            x = _with_one(a)
            square += x.T @ x
            product += x.T @ b.reshape(-1, b.shape[-1]).astype(np.float64)
        return np.linalg.lstsq(square, product, rcond=None)[0]
    count = int(np.prod(inputs.shape[:-1]))
    places = np.linspace(0, count - 1, min(count, FITTED_PIXELS)).astype(int)
    x = _with_one(inputs.reshape(count, -1)[places])
    y = targets.reshape(count, -1)[places].astype(np.float64)
    weights = np.ones_like(y)
    found = np.zeros((x.shape[1], y.shape[1]))
    for _ in range(REWEIGHTED):
        for i in range(y.shape[1]):  # each channel has residuals, and so weights, of its own
            weighted = weights[:, i : i + 1] * x
            found[:, i] = np.linalg.lstsq(weighted.T @ x, weighted.T @ y[:, i], rcond=None)[0]
        weights = 1 / np.maximum(np.abs(x @ found - y), 1e-4)
    return found


def mapped(images: Images, colour_map: np.ndarray) -> Images:
    """Images by a colour map, cut off at [-1, 1]."""
    values = np.stack([_with_one(image) @ colour_map for image in images])
    shape = (*images.shape[:3], colour_map.shape[1])
    return np.clip(values, -1, 1).astype(np.float32).reshape(shape)


def _with_one(image: np.ndarray) -> np.ndarray:
    """[..., C] -> float64 [N, C + 1]."""
    flat = image.reshape(-1, image.shape[-1]).astype(np.float64)
    return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)


def bootstrap(
    values: np.ndarray, groups: Sequence[str] | None = None, *, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the mean of values [N], by percentiles of 10,000 resamples (Efron 1979).

    Args:
      values: [N].
      groups: to which group each belongs; values of one are alike, and are drawn together. None: each is on
        its own.
      seed: of the draws.
    """
    draw = np.random.default_rng(seed)
    of = np.arange(len(values)) if groups is None else np.unique(list(groups), return_inverse=True)[1]
    sums, counts = np.bincount(of, values), np.bincount(of)
    drawn = (draw.integers(len(counts), size=len(counts)) for _ in range(RESAMPLES))
    low, high = np.percentile([sums[some].sum() / counts[some].sum() for some in drawn], [2.5, 97.5])
    return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class Held:
    """Held-out images of one direction, and where the colour map comes from.

    Attributes:
      direction: as in "AtoB".
      inputs: what was translated.
      targets: images of the other domain; of pairs, the inputs' partners.
      training: gives inputs and targets of training pairs; None where there are no pairs.
      groups: to which group each of the pairs, or of the inputs, belongs, as variants of one drawing do;
        None: they are independent of each other.
      target_groups: without pairs, to which the targets do. What has the same name as a group of inputs is
        not independent of it.
    """

    direction: str
    inputs: Images
    targets: Images
    training: Callable[[], tuple[Images, Images]] | None = None
    groups: Sequence[str] | None = None
    target_groups: Sequence[str] | None = None

    @property
    def paired(self) -> bool:
        """Whether targets are the inputs' partners."""
        return self.training is not None and len(self.inputs) == len(self.targets)

    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """A number for each input and for each target; those of the same are not independent."""
        names = [f"input {i}" for i in range(len(self.inputs))] if self.groups is None else [*self.groups]
        others = names if self.paired else self.target_groups
        if others is None:
            others = [f"target {i}" for i in range(len(self.targets))]
        numbers = np.unique([*names, *others], return_inverse=True)[1]
        return numbers[: len(names)], numbers[len(names) :]


def _as_seen(held: Held) -> Held:
    """Without alpha channels: all is laid over white, for colours under what is transparent mean nothing."""
    training = held.training

    def seen() -> tuple[Images, Images]:
        assert training is not None
        inputs, targets = training()
        return over_white(inputs), over_white(targets)

    return dataclasses.replace(
        held,
        inputs=over_white(held.inputs),
        targets=over_white(held.targets),
        training=None if training is None else seen,
    )


def of_pairs(
    held: Held, outputs: Images, networks: Mapping[str, Any], names: Sequence[str] = OF_PAIRS
) -> dict[str, dict[str, Any]]:
    """Distances of translations from their targets, by metric, each beside the same of two baselines.

    The baselines are the input itself ("identity") and the input by a colour map ("colour_map"): of the two
    that fit the training pairs best, by squared and by absolute error, the one that is nearer to the held-out
    targets by this very metric. `difference` is the mean over the pairs of ours less the baseline's, with its
    95 % interval; `better_by` is the share of the baseline's value by which ours is better. Of fewer than
    five pairs, or groups of them, none of these is told.
    """
    held, outputs = _as_seen(held), over_white(outputs)
    assert held.training is not None
    channels = held.targets.shape[-1]
    training = held.training()
    candidates = {"value": outputs, "identity": as_channels(held.inputs, channels)} | {
        error: mapped(held.inputs, fit_colour_map(*training, error)) for error in ERRORS
    }
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        if name == "lpips" and "lpips" not in networks:
            continue
        if name == "ssim" and min(held.targets.shape[1:3]) < WINDOW:
            continue
        each = {key: _distances(name, images, held.targets, networks) for key, images in candidates.items()}
        best = (min if LESS_IS_BETTER[name] else max)(ERRORS, key=lambda error: each[error].mean())
        each = {"value": each["value"], "identity": each["identity"], "colour_map": each[best]}
        found[name] = {key: _mean(values) for key, values in each.items()}
        for baseline in ("identity", "colour_map"):
            with np.errstate(invalid="ignore"):
                difference = each["value"] - each[baseline]
            if not np.isfinite(difference).all():  # the PSNR of equal images
                continue
            if len(np.unique(held.units()[0])) < FEWEST_RESAMPLED:
                continue
            low, high = bootstrap(difference, held.groups)
            beside = found[name][baseline]
            gain = beside - found[name]["value"] if LESS_IS_BETTER[name] else found[name]["value"] - beside
            found[name][f"than_{baseline}"] = {
                "difference": float(difference.mean()),
                "low": low,
                "high": high,
                "better_by": gain / beside if beside else None,
            }
        values = "[0, 1]" if name == "ssim" else "[-1, 1]"
        about = {"pairs": len(outputs), "direction": held.direction, "values": values}
        if name == "lpips":
            about["lpips"] = {"network": networks["lpips"].network, "sha256": networks["lpips"].sha256}
        about |= {"colour_map": f"least {best} error", "resamples": RESAMPLES}
        over = "pairs" if held.groups is None else f"{len(set(held.groups))} groups of pairs"
        found[name]["protocol"] = about | {"interval": f"95 %, bootstrap over {over}"}
    return found


def of_label_maps(held: Held, outputs: Images, domain: str) -> dict[str, dict[str, Any]]:
    """Whether translations have what the label maps say, pixel by pixel: `OF_PHOTOS` or `OF_MAPS`.

    Photos drawn from label maps are given classes by a network that is trained on the training pairs
    (`ganjax.metrics.segmentation`); `real` is what it gives the real photos. Label maps drawn from photos are
    compared with the real ones by the nearest of their colours. A set whose maps have no colours in common is
    not measured: None.

    Args:
      held: what is held out.
      outputs: the translations.
      domain: whose images are the label maps.
    """
    held, outputs = _as_seen(held), over_white(outputs)
    assert held.training is not None
    drawn = domain == held.direction[-1]
    inputs, targets = (to_uint8(side) for side in held.training())
    names = OF_MAPS if drawn else OF_PHOTOS
    about = {"pairs": len(outputs), "direction": held.direction, "label_maps": domain}
    try:
        colours = segmentation.palette(targets if drawn else inputs)
    except errors.UsageError as error:
        return {name: {"value": None, "protocol": about | {"not_measured": str(error)}} for name in names}
    about["colours"] = colours.tolist()
    count = len(colours)
    if drawn:
        wanted, predicted = (
            segmentation.classes_of(to_uint8(maps), colours) for maps in (held.targets, outputs)
        )
        sets = {"value": segmentation.scores(predicted, wanted, count)}
        about["classes_by"] = "the nearest colour"
    else:
        photos, classes = (
            segmentation.photos(targets),
            segmentation.classes_of(segmentation.points(inputs), colours),
        )
        network = segmentation.cached_segmenter(photos, classes, count)
        wanted = segmentation.classes_of(segmentation.points(to_uint8(held.inputs)), colours)
        sets = {
            key: segmentation.scores(network.classes(segmentation.photos(to_uint8(images))), wanted, count)
            for key, images in (("value", outputs), ("real", held.targets))
        }
        about |= {
            "classes_by": "a network trained here on real pairs",
            "trained_on": len(photos),
            "network": network.identity,
            "size": list(photos.shape[1:3]),
        }
    return {
        name: {key: found[name.partition("_")[2]] for key, found in sets.items()} | {"protocol": about}
        for name in names
    }


def _mean(values: np.ndarray) -> float | None:
    mean = float(values.mean())
    return mean if np.isfinite(mean) else None


def _distances(name: str, images: Images, targets: Images, networks: Mapping[str, Any]) -> np.ndarray:
    """A metric of each pair: float64 [N]."""
    if name == "l1":
        return np.abs(images.astype(np.float64) - targets).mean(axis=(1, 2, 3))
    if name == "psnr":
        return pixels.psnr(images, targets, data_range=2.0)
    if name == "ssim":
        # From 0 on, as pixels are in a file: its constants are of intensities, and a shift changes it.
        return pixels.ssim((images + 1) / 2, (targets + 1) / 2, data_range=1.0)
    colours = (as_channels(each, 3).astype(np.float32) for each in (images, targets))
    return networks["lpips"].distances(*colours).astype(np.float64)


def of_sets(
    held: Held, outputs: Images, networks: Mapping[str, Any], names: Sequence[str] = OF_SETS
) -> dict[str, dict[str, Any]]:
    """Distances of the set of translations from the set of targets, beside the same of the inputs.

    `pixel_kernel_distance` needs no network: it is the kernel distance of `ganjax.metrics.kernel` over images
    reduced to 8x8 pixels, and no KID. `fid` and `kid` are over Inception's features, the latter with subsets
    of as many as there are, at most 1,000.

    Of both kernel distances `than_inputs` has the `difference` of ours from the inputs' and its 95 %
    interval, by a bootstrap over images, at most 1,000 of them: an input goes with its translation and, of
    pairs, with its target, and what belongs together is not compared with itself: a translation that was made
    for a target is more like it than like another of its kind, which would count as a likeness of the sets
    (so the difference is not that of the two values, which are as is usual). Their `std` is that over
    subsets; where a subset is a whole set, so that all are alike, it is the bootstrap's standard error, which
    is too large rather than too small where two sets are hardly apart. Of fewer than five images, or groups
    of pairs, neither is told.
    """
    held, outputs = _as_seen(held), over_white(outputs)
    sets = {"value": outputs, "inputs": as_channels(held.inputs, held.targets.shape[-1])}
    found: dict[str, dict[str, Any]] = {}
    thumbnails = {key: _thumbnails(images) for key, images in sets.items()}
    features: dict[str, dict[str, np.ndarray]] = {"pixel_kernel_distance": thumbnails}
    features["pixel_kernel_distance"]["targets"] = _thumbnails(held.targets)
    if "inception" in networks:
        network = networks["inception"]
        all_sets = {**sets, "targets": held.targets}
        answers = {
            key: network.evaluate(to_uint8(as_channels(images, 3))).features
            for key, images in all_sets.items()
        }
        features |= {"fid": answers, "kid": answers}
    for name in names:
        if name not in features:
            continue
        few = min(map(len, features[name].values()))
        if few < FEWEST:
            raise errors.UsageError(f"{name}: {few} held-out images, and at least {FEWEST} are needed")
        found[name] = {}
        targets = features[name]["targets"]
        for key in sets:
            if name == "fid":
                moments = (frechet.gaussian_statistics(x) for x in (features[name][key], targets))
                (mean, cov), (mean2, cov2) = moments
                found[name][key] = frechet.frechet_distance(mean, cov, mean2, cov2)
            else:
                distance = kernel.kernel_distance(features[name][key], targets, subset_size=SUBSET)
                found[name] |= {key: distance.value, f"{key}_std": distance.std}
        about: dict[str, Any] = {
            "direction": held.direction,
            "samples": len(outputs),
            "real_count": len(held.targets),
        }
        if name == "pixel_kernel_distance":
            about["features"] = f"{THUMBNAIL}x{THUMBNAIL} pixels, no network"
        else:
            about |= networks["inception"].about
        if name != "fid":
            about |= {"subsets": 100, "subset_size": min(SUBSET, few)}
            ours, inputs = (features[name][key] for key in sets)
            again = _resampled(held, ours, inputs, targets)
            if few <= SUBSET:
                found[name] |= {f"{key}_std": None if again is None else again.std[key] for key in sets}
                about["std"] = "of the bootstrap"
            if again is not None:
                found[name]["than_inputs"] = again.than_inputs
                about |= again.about
        found[name]["protocol"] = about
    return found


class _Resampled(NamedTuple):
    """What a bootstrap says of kernel distances."""

    than_inputs: dict[str, float]
    std: dict[str, float]
    about: dict[str, Any]


def _resampled(held: Held, ours: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> _Resampled | None:
    """How sure the kernel distances of translations and of inputs from the targets are, and their difference.

    Args:
      held: what they are of.
      ours, inputs, targets: features; those of the first two are of the same images.
    Returns:
      None where there are too few to be drawn from.
    """
    draw = np.random.default_rng(0)
    here, there = (spread(len(rows), RESAMPLED) for rows in (ours, targets))
    of, of_targets = (units[some] for units, some in zip(held.units(), (here, there), strict=True))
    units = len(np.unique(of))
    if min(units, len(np.unique(of_targets))) < FEWEST_RESAMPLED:
        return None
    counts = np.zeros((1 + SET_RESAMPLES, max(of.max(), of_targets.max()) + 1), int)  # the first: each once
    counts[0] = 1
    # What is in both sets is drawn for both at once.
    shared = np.intersect1d(of, of_targets)
    for some in (shared, np.setdiff1d(of, shared), np.setdiff1d(of_targets, shared)):
        for row in counts[1:] if len(some) else ():
            row[some] = np.bincount(draw.integers(len(some), size=len(some)), minlength=len(some))
    again = {
        key: kernel.resampled_distances(
            rows[here], targets[there], counts[:, of], counts[:, of_targets], of, of_targets
        )
        for key, rows in (("value", ours), ("inputs", inputs))
    }
    difference = again["value"] - again["inputs"]
    low, high = np.nanpercentile(difference[1:], [2.5, 97.5]).tolist()
    over = "pairs" if held.paired else "images"
    over = over if units == len(here) else f"{units} groups of {over}"
    return _Resampled(
        {"difference": float(difference[0]), "low": low, "high": high},
        {key: float(np.nanstd(values[1:])) for key, values in again.items()},
        {
            "interval": f"95 %, bootstrap over {over}",
            "resamples": SET_RESAMPLES,
            "resampled": len(here),
            "difference": "without what belongs together",
        },
    )


def _thumbnails(images: Images) -> np.ndarray:
    """float64 [N, F]: means over blocks, so that there are at most 8x8 pixels."""
    rows, columns = (min(THUMBNAIL, side) for side in images.shape[1:3])
    edges = [
        np.linspace(0, size, count + 1).astype(int)[:-1]
        for size, count in zip(images.shape[1:3], (rows, columns), strict=True)
    ]
    total = np.add.reduceat(np.add.reduceat(images.astype(np.float64), edges[0], axis=1), edges[1], axis=2)
    sizes = [np.diff([*edge, size]) for edge, size in zip(edges, images.shape[1:3], strict=True)]
    area = (sizes[0][:, None] * sizes[1][None]).reshape(1, rows, columns, 1)
    return (total / area).reshape(len(images), -1)


def _of_direction(
    held: Held,
    samples: Mapping[str, np.ndarray],
    networks: Mapping[str, Any],
    kinds: Sequence[str],
    label_maps: str,
) -> dict[str, dict[str, Any]]:
    """What was asked for, and can be measured, of one direction's translations."""
    outputs, direction = samples[held.direction], held.direction
    pairs, sets = ([kind for kind in some if kind in kinds] for some in (OF_PAIRS, OF_SETS))
    results = of_pairs(held, outputs, networks, pairs) if pairs else {}
    if "cycle_l1" in kinds:
        again, given = (over_white(x) for x in (samples[f"{direction}to{direction[0]}"], held.inputs))
        results["cycle_l1"] = {
            "value": float(np.abs(again.astype(np.float64) - given).mean()),
            "protocol": {"samples": len(again), "direction": direction, "values": "[-1, 1]"},
        }
    if min(len(outputs), len(held.targets)) >= FEWEST:
        results |= of_sets(held, outputs, networks, sets) if sets else {}
    if set(kinds) & {*OF_MAPS, *OF_PHOTOS}:
        of_maps = of_label_maps(held, outputs, label_maps)
        results |= {kind: result for kind, result in of_maps.items() if kind in kinds}
    return results


def _mean_over(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The mean of a metric over directions, by which a model that has several is told from another."""
    values = {direction: result["value"] for direction, result in results.items()}
    each = {direction: result["protocol"] for direction, result in results.items()}
    return {
        "value": float(np.mean(list(values.values()))),
        "by_direction": values,
        "protocol": {"mean_over": list(results), "by_direction": each},
    }


def judge(
    held: Callable[[int], Mapping[str, Held]],
    conditions: Callable[[int], Tree],
    directions: Sequence[str],
    *,
    paired: bool,
    cycle: bool,
    label_maps: str = "",
    counts: Callable[[], Mapping[str, int]] | None = None,
    size: tuple[int, ...] | None = None,
) -> Judge:
    """The `Judge` of an experiment that translates.

    Args:
      held: (how many at most) -> direction -> what is held out. Of a direction that has fewer inputs than
        there are samples, the first samples are theirs.
      conditions: (likewise) -> the images to translate, as `Gan.sample` takes them.
      directions: as in "AtoB". Where there are two, a result's name has its direction behind it, "fid_AtoB",
        and of sets the mean over both is there too, "fid".
      paired: the held-out images are pairs: their distances from the targets are measured.
      label_maps: of pairs, the domain whose images are label maps; none: no domain's are.
      cycle: samples have what comes back, whose distance from the input is measured: "cycle_l1".
      counts: gives how many images are held out, by domain, without reading them; None: that is not known.
      size: (H, W) of the images; likewise.
    """
    kinds = [*(OF_PAIRS if paired else ()), *(["cycle_l1"] if cycle else []), *OF_SETS]
    if label_maps:
        kinds += OF_MAPS if directions[0][-1] == label_maps else OF_PHOTOS
    several = len(directions) > 1

    def named(kind: str, direction: str) -> str:
        return f"{kind}_{direction}" if several else kind

    kind_of = {named(kind, direction): kind for direction in directions for kind in kinds}
    means = OF_SETS if several else ()
    kind_of |= {kind: kind for kind in means}

    def results_of(names: Sequence[str]) -> Callable[..., dict[str, dict[str, Any]]]:
        def results(
            samples: Mapping[str, np.ndarray], labels: None, networks: Mapping[str, Any]
        ) -> dict[str, dict[str, Any]]:
            del labels
            if not all(np.isfinite(images).all() for images in samples.values()):
                raise errors.RunError("the model answers with NaN; choose an earlier one with --checkpoint=")
            found: dict[str, dict[str, Any]] = {}
            for direction, each in held(len(next(iter(samples.values())))).items():
                count = len(each.inputs)
                wanted = [
                    kind
                    for kind in kinds
                    if named(kind, direction) in names or (kind in means and kind in names)
                ]
                theirs = {name: images[:count] for name, images in samples.items()}
                some = _of_direction(each, theirs, networks, wanted, label_maps)
                found |= {named(kind, direction): result for kind, result in some.items()}
            for kind in means:
                each = {
                    direction: found[name]
                    for direction in directions
                    if (name := f"{kind}_{direction}") in found
                }
                if len(each) == len(directions):
                    found[kind] = _mean_over(each)
            return {name: result for name, result in found.items() if name in names}

        return results

    def of(names: Sequence[str], most: int, say: Callable[[str], None]) -> Judge:
        few = min([most, *(() if counts is None else counts().values())])
        cannot: dict[str, str] = {}
        if few < FEWEST:
            why = f"a set has at least {FEWEST} images, and {few} of those held out would be measured"
            cannot |= dict.fromkeys(OF_SETS, why)
        if paired and size is not None and min(size[:2]) < WINDOW:
            cannot["ssim"] = f"its window has {WINDOW}x{WINDOW} pixels, and images have {size[0]}x{size[1]}"
        least = min(trunk.smallest for trunk in TRUNKS.values())
        if paired and size is not None and min(size[:2]) < least:
            cannot["lpips"] = f"its networks take images of {least}x{least} and more"
        for name in names:
            if kind_of[name] in cannot:
                raise errors.UsageError(f"--metrics={name}: {cannot[kind_of[name]]}")
        if not names:
            for why in dict.fromkeys(cannot.values()):
                left_out = [kind for kind, reason in cannot.items() if reason == why]
                say(f"{', '.join(left_out)}: left out, for {why}")
            names = [name for name, kind in kind_of.items() if kind not in cannot]
        return made._replace(metrics=tuple(names), results=results_of(names))

    def verdict(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
        against = []
        for name, result in results.items():
            for baseline, what in (("identity", "the input itself"), ("colour_map", "a change of colours")):
                if result.get(baseline) is None or result["value"] is None:  # as the PSNR of equal images
                    continue
                beside, less = result.get(f"than_{baseline}"), LESS_IS_BETTER[name.partition("_")[0]]
                if beside is None:  # too few for an interval
                    ours, other = result["value"], result[baseline]
                    if ours >= other if less else ours <= other:
                        against.append(f"{name}: it is not better than {what}")
                elif beside["high"] >= 0 if less else beside["low"] <= 0:
                    against.append(f"{name}: it is not better than {what}, at 95 %")
            beside = result.get("than_inputs")
            further = "inputs" in result and result["value"] >= result["inputs"]
            if further if beside is None else beside["high"] >= 0:
                sure = "" if beside is None else ", at 95 %"
                against.append(
                    f"{name}: the translations are no nearer to the targets than their inputs are{sure}"
                )
        return against

    made = Judge(
        tuple(kind_of),
        results_of(tuple(kind_of)),
        verdict,
        conditions,
        {name: NETWORKS[kind] for name, kind in kind_of.items() if kind in NETWORKS},
        of,
        dict.fromkeys(BEST_OF_PAIRS if paired else BEST_OF_SETS, "min"),
    )
    return made
