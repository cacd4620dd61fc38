"""Metrics by name, of generated images beside real ones: what `--mode=evaluate` measures.

A `Subject` is what is measured. Whatever several metrics need of it, features, their statistics or logits, is
computed once, in one pass over each set, in chunks: of 50,000 images what FID needs is a mean and a
covariance. What was found of the real images is kept in the cache by their content. Each metric answers with
its value and its protocol.
"""

import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from absl import logging

from ganjax import errors
from ganjax.metrics import diversity, frechet, kernel, manifold, path_length, pixels, scores
from ganjax.metrics.classifier import Classifier
from ganjax.metrics.inception import DIM, Inception
from ganjax.metrics.lpips import LPIPS, check_size, reduced, reduction
from ganjax.metrics.sets import CHUNK, Images
from ganjax.report.files import write_atomically

SIDES = ("generated", "real")
KID_SUBSET = 1000
RECALL_NEIGHBOURS = 3
COVERAGE_NEIGHBOURS = 5
SCORE_SPLITS = 10
SWD_IMAGES = 16_384  # at most
MS_SSIM_PAIRS = 10_000  # at most
LPIPS_PAIRS = 2000  # at most
PATHS = 100_000  # at most, as in the paper
PIXELS_READ = 1 << 32  # bytes of images that are in memory at most, of either side, where pixels are compared
CRITIC_IMAGES = 10_000  # at most
FEATURES_CACHED = 1 << 30  # bytes of real features that are kept in the cache at most; statistics always are

Say = Callable[[str], None]
Tell = Callable[[str, int, int], None]  # what is being read, how many are done, of how many


class Answers(NamedTuple):
    """What a network says of N images: features float32 [N, F] and, where it has classes, logits [N, K]."""

    features: np.ndarray
    logits: np.ndarray | None


class Network(Protocol):
    """Features of images by a network that is given.

    Attributes:
      about: what a protocol says of it.
      identity: two networks with the same answer alike.
      batch: how many images it would best be given at a time.
    """

    @property
    def about(self) -> Mapping[str, Any]: ...

    @property
    def identity(self) -> str: ...

    @property
    def batch(self) -> int: ...

    def evaluate(self, images: np.ndarray) -> Answers: ...


class Generator(NamedTuple):
    """What draws images from latents.

    Attributes:
      latents: seeds [n] -> latents [n, Z].
      draw: (latents float32 [n, Z], labels [n] or None) -> images, floats [n, H, W, C] in [-1, 1]; the noise
        that is not in the latents is the same at each call.
      batch: n.
      mapped: (latents [m, Z], labels [m] or None) -> styles [m, S]; None for a generator without.
      draw_styles: as `draw`, from styles [n, S].
    """

    latents: Callable[[np.ndarray], np.ndarray]
    draw: Callable[..., np.ndarray]
    batch: int
    mapped: Callable[..., np.ndarray] | None = None
    draw_styles: Callable[..., np.ndarray] | None = None


class Critic(NamedTuple):
    """The discriminator, and what it was trained on.

    Attributes:
      logits: (images uint8 [n, H, W, C], labels [n] or None) -> what it says of them [n].
      train: the training images.
    """

    logits: Callable[..., np.ndarray]
    train: Images


class Need(NamedTuple):
    """What a metric asks for: of which side, by which network, "features", "statistics" or "logits"."""

    side: str
    network: str
    what: str


@dataclasses.dataclass
class Subject:
    """Generated images beside real ones, and the networks that see them.

    Attributes:
      generated: the images to judge.
      real: what they are compared with.
      networks: name -> what makes or loads the network; each is asked once, when it is needed.
      seed: of everything that a metric draws.
      cache: a folder for what was found of the real images; None: nothing is kept.
      tell: is told how far a pass is.
      say: is told what a user should read.
      real_statistics: of the real images, where there is nothing else of them.
      generator: what drew the generated images, from latents of the seeds 0, 1, ...; None: it is not known.
      lpips: what loads LPIPS; is asked once, when it is needed.
      critic: the discriminator; None: there is none, or none that is asked about images alone.
    """

    generated: Images
    real: Images
    networks: Mapping[str, Callable[[], Network]]
    seed: int = 0
    cache: pathlib.Path | None = None
    tell: Tell = lambda what, done, total: None
    say: Say = lambda text: None
    real_statistics: frechet.SavedStatistics | None = None
    generator: Generator | None = None
    lpips: Callable[[], LPIPS] | None = None
    critic: Critic | None = None

    def __post_init__(self) -> None:
        self._built: dict[str, Network] = {}
        self._found: dict[Need, Any] = {}
        self._computed: dict[Any, Any] = {}

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """What `compute` gives, computed when it is first asked for."""
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]

    def perceptual(self) -> LPIPS:
        """LPIPS, loaded once."""
        assert self.lpips is not None
        return self.once("lpips", self.lpips)

    def side(self, name: str) -> Images:
        """The images of "generated" or "real"."""
        return self.generated if name == "generated" else self.real

    def labels(self, side: str) -> np.ndarray:
        """The classes of a side that has them."""
        labels = self.once(("labels", side), lambda: self.side(side).labels)
        assert labels is not None
        return labels

    def network(self, name: str) -> Network:
        """The network of this name, made or loaded once."""
        if name not in self._built:
            self._built[name] = self.networks[name]()
        return self._built[name]

    def features(self, side: str, network: str) -> np.ndarray:
        """float32 [N, F], once they were prepared."""
        return self._found[Need(side, network, "features")]

    def logits(self, side: str, network: str) -> np.ndarray:
        """float32 [N, K], once they were prepared."""
        return self._found[Need(side, network, "logits")]

    def statistics(self, side: str, network: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the features, once they were prepared."""
        need = Need(side, network, "statistics")
        if side == "real" and self.real_statistics is not None:
            return self.real_statistics.mean, self.real_statistics.cov
        if need not in self._found:
            self._found[need] = frechet.gaussian_statistics(self.features(side, network))
        return self._found[need]

    def prepare(self, needs: Iterable[Need]) -> None:
        """Computes what is needed and not there, in one pass over each side.

        Raises:
          UsageError: a network has no logits.
          RunError: an answer is not finite.
        """
        for side in SIDES:
            if side == "real" and self.real_statistics is not None:
                break
            missing = {need for need in needs if need.side == side and need not in self._found}
            # Statistics come from features where both are wanted.
            missing = {
                need
                for need in missing
                if need.what != "statistics" or need._replace(what="features") not in missing | {*self._found}
            }
            if missing and side == "real":
                missing -= self._from_cache(missing)
            if missing:
                self._pass(side, missing)

    def _pass(self, side: str, missing: set[Need]) -> None:
        images = self.side(side)
        networks = sorted({need.network for need in missing})
        kept: dict[Need, list[np.ndarray]] = {need: [] for need in missing if need.what != "statistics"}
        running = {need: frechet.GaussianStatistics() for need in missing if need.what == "statistics"}
        size = max(self.network(name).batch for name in networks)
        for start, chunk in images.chunks(size):
            for name in networks:
                outputs = self.network(name).evaluate(chunk)
                _check_finite(outputs, name, side, start)
                for need in missing:
                    if need.network != name:
                        continue
                    if need.what == "statistics":
                        running[need].update(outputs.features)
                    elif need.what == "features":
                        kept[need].append(outputs.features)
                    elif outputs.logits is None:
                        raise errors.UsageError(
                            f"{name}: these weights have no class head, so there is no score by its classes"
                        )
                    else:
                        kept[need].append(outputs.logits)
            self.tell(f"{side} images", min(start + len(chunk), images.count), images.count)
        self._found |= {need: np.concatenate(parts) for need, parts in kept.items()}
        self._found |= {need: statistics.result() for need, statistics in running.items()}
        if side == "real":
            self._to_cache(missing)

    # What was found of the real images, in files by content.

    def _path(self, need: Need) -> pathlib.Path | None:
        if self.cache is None or need.network == "classifier":  # which answers in seconds
            return None
        about = json.dumps([self.real.digest, self.network(need.network).identity, need.what])
        return self.cache / f"real-{hashlib.sha256(about.encode()).hexdigest()[:32]}.npz"

    def _from_cache(self, missing: set[Need]) -> set[Need]:
        found = set()
        for need in missing:
            path = self._path(need)
            value = None if path is None else _read(path, need.what, self.real.count)
            if value is not None:
                self._found[need] = value
                found.add(need)
        return found

    def _to_cache(self, needs: set[Need]) -> None:
        for need in needs:
            value, path = self._found[need], self._path(need)
            if path is None or (need.what != "statistics" and value.nbytes > FEATURES_CACHED):
                continue
            try:
                if need.what == "statistics":
                    mean, cov = value
                    about = {"images": self.real.digest, "network": self.network(need.network).identity}
                    frechet.save_statistics(path, mean, cov, self.real.count, about)
                else:
                    _write(path, need.what, value)
            except (
                errors.RunError
            ) as error:  # the work is done: losing it because a disk is full would help nobody
                logging.warning("%s could not be cached as %s: %s", need.what, path, error)


def _check_finite(outputs: Answers, network: str, side: str, start: int) -> None:
    for answers in (outputs.features, outputs.logits):
        if answers is not None and not np.isfinite(answers).all():
            raise errors.RunError(
                f"{network} answers NaN or infinity for {side} images from number {start} on; "
                "are its weights damaged?"
            )


def _read(path: pathlib.Path, what: str, count: int) -> Any:
    """What `_write` wrote; None where there is none, or it is damaged."""
    if not path.exists():
        return None
    try:
        if what == "statistics":
            saved = frechet.load_statistics(path)
            return (saved.mean, saved.cov) if saved.count == count else None
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            value = file[what]
            return value if len(value) == count and np.isfinite(value).all() else None
    except Exception as error:  # zipfile answers changed bytes with a dozen kinds of errors
        logging.warning("%s is damaged (%s)", path, error)
        return None


def _write(path: pathlib.Path, what: str, values: np.ndarray) -> None:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **{what: values})
    write_atomically(path, file.getvalue())


# The metrics.

Check = Callable[[Subject, str], None]


def _nothing(subject: Subject, name: str) -> None:
    del subject, name


def _at_least(count: int, sides: Sequence[str] = SIDES) -> Check:
    """Each of the sides has so many images."""

    def check(subject: Subject, name: str) -> None:
        for side in sides:
            there = subject.side(side).count
            if side == "real" and subject.real_statistics is not None:
                continue
            if there < count:
                more = "; draw more samples, or name a larger set"
                raise errors.UsageError(f"{name}: {there} {side} images, at least {count} are needed{more}")

    return check


def _labelled(subject: Subject, name: str) -> None:
    for side, what in (("generated", "the samples have no labels"), ("real", "the real set has no labels")):
        if subject.side(side).read_labels is None:
            raise errors.UsageError(f"{name}: it is by class, and {what}")
    ours, theirs = subject.generated, subject.real
    if ours.num_classes != theirs.num_classes or (
        ours.class_names and theirs.class_names and ours.class_names != theirs.class_names
    ):
        raise errors.UsageError(
            f"{name}: it is by class, and the classes differ: {ours.num_classes} of the samples, "
            f"{theirs.num_classes} of the real set, or their names do"
        )


def _each_class(subject: Subject, name: str) -> None:
    _labelled(subject, name)
    for side in SIDES:
        scores.check_each_class(subject.labels(side), f"{side} images", subject.real.num_classes)


class Metric(NamedTuple):
    """A metric.

    Attributes:
      name: as it is asked for.
      compute: subject -> figures, `value` among them, without a protocol.
      needs: what must be prepared for it.
      check: (subject, name), before anything is computed; raises UsageError for what it can't judge.
      sides: of which it speaks.
      protocol: what else the protocol says.
      network: whose features it is over; None: pixels.
      fewest: generated images that `check` wants at least: known before there are any.
      smallest: pixels on a side that images have at least.
    """

    name: str
    compute: Callable[[Subject], dict[str, Any]]
    needs: tuple[Need, ...] = ()
    check: Check = _nothing
    sides: tuple[str, ...] = SIDES
    protocol: Mapping[str, Any] = {}
    network: str | None = None
    fewest: int = 1
    smallest: int = 1


def too_small(name: str, size: Sequence[int], perceptual: Callable[[], LPIPS]) -> bool:
    """Whether a metric of `METRICS` takes only larger images than those of this (height, width).

    Args:
      name: the metric.
      size: of the images.
      perceptual: gives LPIPS, asked only if the metric is of that.
    """
    metric = METRICS[name]
    if metric.network != "lpips":
        return min(size) < metric.smallest
    try:
        check_size(perceptual().network, tuple(size))
    except errors.UsageError:
        return True
    return False


def check_count(name: str, count: int) -> None:
    """Raises UsageError where a metric of `METRICS` wants more generated images than `count`."""
    if count < METRICS[name].fewest:
        raise errors.UsageError(
            f"--num_samples={count}: {name} needs at least {METRICS[name].fewest} generated images"
        )


def _of_network(network: str, names: Mapping[str, str]) -> list[Metric]:
    """Metrics over a network's features, by the names that they have where it is this network."""
    generated, real = Need("generated", network, "features"), Need("real", network, "features")
    statistics = tuple(need._replace(what="statistics") for need in (generated, real))

    def frechet_distance(subject: Subject) -> dict[str, Any]:
        mean, cov = subject.statistics("generated", network)
        for side in SIDES:
            known = side == "generated" or subject.real_statistics is None
            if known and subject.side(side).count <= mean.size:
                subject.say(
                    f"warning: {names['frechet']} of {subject.side(side).count} {side} images, not more than "
                    f"its {mean.size} features, is much too large"
                )
        value = frechet.frechet_distance(mean, cov, *subject.statistics("real", network))
        return {"value": value, "features": mean.size}

    def frechet_distance_infinity(subject: Subject) -> dict[str, Any]:
        features = subject.features("generated", network)
        found = frechet.frechet_distance_infinity(
            features,
            *subject.statistics("real", network),
            least=max(len(features) // 10, features.shape[1] + 1),
            seed=subject.seed,
        )
        points = {"counts": found.counts.tolist(), "distances": found.distances.tolist()}
        return {"value": found.value, "std": found.std_error, **points}

    def kernel_distance(subject: Subject) -> dict[str, Any]:
        sets = (subject.features(side, network) for side in SIDES)
        return kernel.kernel_distance(*sets, subset_size=KID_SUBSET, seed=subject.seed, strict=True)._asdict()

    def neighbours(which: str, function: Callable, k: int) -> Callable[[Subject], dict[str, Any]]:
        # Two figures come from one computation.
        def compute(subject: Subject) -> dict[str, Any]:
            key = network, function.__name__
            found = subject.once(key, lambda: function(*_as_many(subject, network), k=k))
            images = min(subject.side(side).count for side in SIDES)
            return {"value": getattr(found, which), "images": images}

        return compute

    def class_score(subject: Subject) -> dict[str, Any]:
        logits = subject.logits("generated", network)
        return scores.inception_score(logits, SCORE_SPLITS, subject.seed)._asdict()

    def frechet_distance_by_class(subject: Subject) -> dict[str, Any]:
        generated, real = ((subject.features(side, network), subject.labels(side)) for side in SIDES)
        fewest = min(np.bincount(labels).min() for _, labels in (generated, real))
        if fewest <= generated[0].shape[1]:
            subject.say(
                f"warning: {names['frechet_by_class']} of {fewest} images of a class, not more than its "
                f"{generated[0].shape[1]} features, is much too large"
            )
        found = scores.frechet_distance_by_class(*generated, *real, subject.real.num_classes)
        return {"value": found.value, "per_class": found.per_class.tolist()}

    kinds = {
        "frechet": Metric("", frechet_distance, statistics, _at_least(2), fewest=2),
        # A line over 1/N through subsets, the smallest of which has more samples than features: the largest
        # has twice as many, or there is no line to speak of. Inception alone has it.
        "frechet_infinity": Metric(
            "",
            frechet_distance_infinity,
            (generated, statistics[1]),
            _at_least(2 * DIM, ("generated",)),
            fewest=2 * DIM,
        ),
        "kernel": Metric(
            "",
            kernel_distance,
            (generated, real),
            _at_least(KID_SUBSET),
            protocol={"subsets": 100, "subset_size": KID_SUBSET},
            fewest=KID_SUBSET,
        ),
        "score": Metric(
            "",
            class_score,
            (generated._replace(what="logits"),),
            _at_least(SCORE_SPLITS, ("generated",)),
            ("generated",),
            {"splits": SCORE_SPLITS},
            fewest=SCORE_SPLITS,
        ),
        "frechet_by_class": Metric("", frechet_distance_by_class, (generated, real), _each_class),
    }
    for which, function, k in (
        ("precision", manifold.precision_recall, RECALL_NEIGHBOURS),
        ("recall", manifold.precision_recall, RECALL_NEIGHBOURS),
        ("density", manifold.density_coverage, COVERAGE_NEIGHBOURS),
        ("coverage", manifold.density_coverage, COVERAGE_NEIGHBOURS),
    ):
        kinds[which] = Metric(
            "",
            neighbours(which, function, k),
            (generated, real),
            _at_least(k + 1),
            protocol={"neighbours": k},
            fewest=k + 1,
        )
    return [kinds[kind]._replace(name=name, network=network) for kind, name in names.items()]


def _as_many(subject: Subject, network: str) -> tuple[np.ndarray, np.ndarray]:
    """Real and generated features, as many of each: of the larger set some are drawn."""
    sets = [subject.features(side, network) for side in ("real", "generated")]
    count = min(map(len, sets))
    draw = np.random.default_rng([subject.seed, count])
    real, generated = (x if len(x) == count else x[draw.permutation(len(x))[:count]] for x in sets)
    return real, generated


def _classification_accuracy(subject: Subject) -> dict[str, Any]:
    test = {"image": subject.real.read(0, subject.real.count), "label": subject.labels("real")}
    samples = subject.generated.read(0, subject.generated.count)
    labels = subject.labels("generated")
    found = scores.classification_accuracy_score(
        samples, labels, test, subject.real.num_classes, subject.seed
    )
    return {"value": found.value, "per_class": found.per_class.tolist()}


INCEPTION = _of_network(
    "inception",
    {
        "frechet": "fid",
        "frechet_infinity": "fid_infinity",
        "kernel": "kid",
        "precision": "precision",
        "recall": "recall",
        "density": "density",
        "coverage": "coverage",
        "score": "inception_score",
        "frechet_by_class": "intra_fid",
    },
)
CLASSIFIER = _of_network(
    "classifier",
    {
        "precision": "classifier_precision",
        "recall": "classifier_recall",
        "density": "classifier_density",
        "coverage": "classifier_coverage",
        "score": "classifier_score",
        "frechet_by_class": "classifier_intra_frechet_distance",
    },
)


def _discriminator_overfitting(subject: Subject) -> dict[str, Any]:
    """ADA's heuristic r_v: 0 where images that were not trained on are as real as those that were, 1 where
    they are as fake as generated ones."""
    critic = subject.critic
    assert critic is not None
    sides = {"train": critic.train, "held_out": subject.real, "generated": subject.generated}
    count = min(CRITIC_IMAGES, *(images.count for images in sides.values()))
    means = {}
    for name, images in sides.items():
        draw = np.random.default_rng([subject.seed, count])
        chosen = _chosen(images, count, draw)
        labels = images.labels[chosen] if images.labels is not None and images.num_classes else None
        # Shuffled, as a logit may depend on the images beside it: of one class, if the set is sorted.
        order = draw.permutation(count)
        logits = critic.logits(_at(images, chosen)[order], None if labels is None else labels[order])
        means[name] = float(np.mean(logits, dtype=np.float64))
    apart = means["train"] - means["generated"]
    value = (means["train"] - means["held_out"]) / apart if apart else 0.0
    return {"value": value, **means, "images": count}


def _has_critic(subject: Subject, name: str) -> None:
    if subject.critic is None:
        raise errors.UsageError(f"{name}: it is of a discriminator of images, and there is none")
    if subject.real.about.get("split") == "train":
        raise errors.UsageError(f"{name}: it compares with what was not trained on: --real_split=test")


def _some_of_each(subject: Subject, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Generated and real images, as many of each and at most so many: of the larger set some are drawn."""
    wanted = min(most, *(subject.side(side).count for side in SIDES))
    size = max(int(np.prod(subject.side(side).image_shape, dtype=np.int64)) for side in SIDES)
    count = min(wanted, max(PIXELS_READ // size, 2))
    if count < wanted:
        subject.say(f"pixels of {count} images of {wanted} are compared: more do not fit memory")
    draw = np.random.default_rng([subject.seed, count])
    generated, real = (_at(side, _chosen(side, count, draw)) for side in map(subject.side, SIDES))
    return generated, real


def _chosen(images: Images, count: int, draw: np.random.Generator) -> np.ndarray:
    """Places of so many of the images: all, or some that are drawn, in order."""
    if count == images.count:
        return np.arange(count)
    return np.sort(draw.permutation(images.count)[:count])


def _at(images: Images, chosen: np.ndarray) -> np.ndarray:
    """The images at these places, which are in order."""
    if len(chosen) == images.count:
        return images.read(0, images.count)
    parts = []
    for start, chunk in images.chunks():
        parts.append(chunk[chosen[(chosen >= start) & (chosen < start + len(chunk))] - start])
    return np.concatenate(parts)


def _same_shape(subject: Subject, name: str) -> None:
    shapes = [subject.side(side).image_shape for side in SIDES]
    if shapes[0] != shapes[1]:
        sizes = ["x".join(map(str, shape)) for shape in shapes]
        raise errors.UsageError(
            f"{name}: it compares pixels, and the generated images are {sizes[0]}, the real ones {sizes[1]}"
        )


def _sliced_wasserstein(subject: Subject) -> dict[str, Any]:
    generated, real = _some_of_each(subject, SWD_IMAGES)
    found = pixels.laplacian_swd(generated, real, seed=subject.seed)
    return {"value": found.value, "per_level": found.per_level, "images": len(real)}


def _ms_ssim(subject: Subject) -> dict[str, Any]:
    generated, real = _some_of_each(subject, 2 * MS_SSIM_PAIRS)
    pairs = min(MS_SSIM_PAIRS, len(generated) * (len(generated) - 1) // 2)
    found = {}
    for side, images in zip(SIDES, (generated, real), strict=True):
        tell = _telling(subject, f"MS-SSIM of {side} pairs")
        found[side] = pixels.ms_ssim_diversity(images, pairs, seed=subject.seed, tell=tell).value
    return {"value": found["generated"], "real": found["real"], "pairs": pairs}


def _telling(subject: Subject, what: str) -> Callable[[int, int], None]:
    return lambda done, total: subject.tell(what, done, total)


def _lpips_diversity(subject: Subject) -> dict[str, Any]:
    """The mean over pairs of images, whatever their classes, beside the same of real ones."""
    compare = subject.perceptual().distances
    found: dict[str, Any] = {}
    for side, images in zip(SIDES, _some_of_each(subject, 2 * LPIPS_PAIRS), strict=True):
        pairs = min(LPIPS_PAIRS, len(images) * (len(images) - 1) // 2)
        mean = diversity.mean_over_pairs(
            images, compare, pairs, seed=subject.seed, tell=_telling(subject, f"LPIPS of {side} pairs")
        )
        key = "value" if side == "generated" else "real"
        found |= {key: mean.value, ("std" if key == "value" else "real_std"): mean.std_error, "pairs": pairs}
    return found


def _perceptual_path_length(subject: Subject, space: str = "z") -> dict[str, Any]:
    generator = subject.generator
    assert generator is not None
    count = min(PATHS, subject.generated.count)
    ends = [generator.latents(np.arange(start, start + count)) for start in (0, count)]
    labels = subject.generated.labels
    labels = None if labels is None else _drawn_labels(labels, count, subject.seed)
    draw = generator.draw
    if space == "w":
        assert generator.mapped is not None
        assert generator.draw_styles is not None
        ends, draw = [generator.mapped(end, labels) for end in ends], generator.draw_styles
    measure = subject.perceptual().distances
    found = path_length.perceptual_path_length(
        draw,
        lambda x, y: measure(reduced(x), reduced(y)),
        *ends,
        space=space,
        labels=labels,
        batch=generator.batch,
        seed=subject.seed,
        tell=_telling(subject, f"paths in {space}"),
    )
    return {
        "value": found.value,
        "std": found.std_error,
        "paths": count,
        "kept": found.kept,
        "shrunk_by": reduction(subject.generated.image_shape[:2]),
    }


def _drawn_labels(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """So many of the labels, drawn: they are sorted by class."""
    return labels[np.random.default_rng([seed, count]).permutation(len(labels))[:count]]


def _has_latents(subject: Subject, name: str) -> None:
    if subject.generator is None:
        raise errors.UsageError(
            f"{name}: it goes from latent to latent, and there is no generator with latents"
        )
    _at_least(2, ("generated",))(subject, name)
    _seen_by_lpips(subject, name, ("generated",))


def _has_styles(subject: Subject, name: str) -> None:
    _has_latents(subject, name)
    assert subject.generator is not None
    if subject.generator.mapped is None:
        raise errors.UsageError(f"{name}: it goes from style to style, and this model's generator has none")


def _has_pairs(subject: Subject, name: str) -> None:
    _at_least(2)(subject, name)
    _seen_by_lpips(subject, name, SIDES)


def _seen_by_lpips(subject: Subject, name: str, sides: Sequence[str]) -> None:
    for side in sides:
        try:
            check_size(subject.perceptual().network, subject.side(side).image_shape[:2])
        except errors.UsageError as error:
            raise errors.UsageError(f"{name}: {side} {error}") from error


OF_LPIPS = (
    Metric("lpips_diversity", _lpips_diversity, check=_has_pairs, network="lpips", fewest=2),
    Metric(
        "perceptual_path_length",
        _perceptual_path_length,
        check=_has_latents,
        sides=("generated",),
        protocol={"space": "z", "sampling": "full", "epsilon": 1e-4},
        network="lpips",
    ),
    Metric(
        "perceptual_path_length_w",
        lambda subject: _perceptual_path_length(subject, "w"),
        check=_has_styles,
        sides=("generated",),
        protocol={"space": "w", "sampling": "full", "epsilon": 1e-4},
        network="lpips",
    ),
)
OVERFITTING = Metric(
    "discriminator_overfitting",
    _discriminator_overfitting,
    check=_has_critic,
    network="discriminator",
)
PIXELS = (
    Metric("swd", _sliced_wasserstein, check=_same_shape, smallest=pixels.SWD_NEIGHBOURHOOD),
    Metric("ms_ssim", _ms_ssim, check=_at_least(2), fewest=2),
)
ACCURACY = Metric(
    "classification_accuracy_score", _classification_accuracy, check=_labelled, network="classifier"
)
METRICS: Mapping[str, Metric] = {
    metric.name: metric for metric in (*INCEPTION, *CLASSIFIER, ACCURACY, *OF_LPIPS, OVERFITTING, *PIXELS)
}
LPIPS_DEFAULT = ("lpips_diversity",)
PIXELS_DEFAULT = ("swd", "ms_ssim")
INCEPTION_DEFAULT = ("fid", "kid", "precision", "recall", "density", "coverage")


def _by_statistics(metric: Metric) -> bool:
    """Whether all that it asks of the real images is their features' statistics."""
    of_real = [need.what for need in metric.needs if need.side == "real"]
    return "real" not in metric.sides or (bool(of_real) and set(of_real) == {"statistics"})


# Which real images each network's features are compared with, unless a command says otherwise: in the
# literature FID is over the training set; a classifier has seen that.
REAL_SPLITS: Mapping[str | None, str] = {
    "classifier": "test",
    "discriminator": "test",
    "inception": "train",
    "lpips": "train",
    None: "train",
}


class OfClassifier:
    """A classifier as a `Network`."""

    batch = CHUNK

    def __init__(self, classifier: Classifier):
        self._classifier = classifier
        self.identity = classifier.identity
        self.about = {
            "classifier": {"identity": classifier.identity, "test_accuracy": classifier.test_accuracy}
        }

    def evaluate(self, images: np.ndarray) -> Answers:
        """Features and logits of uint8 images [N, H, W, C]."""
        return Answers(*self._classifier.evaluate(images))


class OfInception:
    """The FID Inception as a `Network`; says where its weights are not the known ones."""

    def __init__(self, inception: Inception, say: Say = lambda text: None):
        self._inception = inception
        self.identity = inception.identity
        self.batch = -(-CHUNK // inception.batch) * inception.batch
        self.about = {
            "inception": {
                "sha256": inception.sha256,
                "resize": inception.resize,
                "known": inception.note is None,
            }
        }
        if inception.note is not None:
            say(f"warning: {inception.note}")

    def evaluate(self, images: np.ndarray) -> Answers:
        """Features of uint8 images [N, H, W, C], and logits where the weights have a head."""
        return Answers(*self._inception.evaluate(images))


def measure(subject: Subject, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The metrics of these names: of each its figures, with `value`, and its `protocol`.

    A protocol says which real images it compared with and how many (`real_set`, `real_split`, `real_count`),
    how many samples, by what network, and the seed of what was drawn.

    Raises:
      UsageError: a metric can't judge these images; nothing was computed then.
      RunError: images can't be read, or an answer is not finite.
    """
    wanted = [METRICS[name] for name in names]
    for metric in wanted:
        if subject.real_statistics is not None and not _by_statistics(metric):
            raise errors.UsageError(
                f"{metric.name}: it takes the real images themselves; their statistics give fid alone"
            )
        metric.check(subject, metric.name)
    _check_network(subject, wanted)
    subject.prepare({need for metric in wanted for need in metric.needs})
    results = {}
    for metric in wanted:
        named = {f"generated_{key}": value for key, value in subject.generated.about.items() if key == "set"}
        protocol: dict[str, Any] = {"samples": subject.generated.count, **named, "seed": subject.seed}
        if "real" in metric.sides:
            about = {f"real_{key}": value for key, value in subject.real.about.items()}
            protocol |= about | {"real_count": subject.real.count or None}  # a file may not tell
        for network in dict.fromkeys(need.network for need in metric.needs):
            protocol |= subject.network(network).about
        if metric.network == "lpips":
            lpips = subject.perceptual()
            protocol["lpips"] = {"network": lpips.network, "sha256": lpips.sha256}
        results[metric.name] = metric.compute(subject) | {"protocol": {**protocol, **metric.protocol}}
    return results


def _check_network(subject: Subject, wanted: Iterable[Metric]) -> None:
    """Raises UsageError where statistics of real images are known to be another network's."""
    saved = subject.real_statistics
    theirs = None if saved is None else saved.about.get("network")
    if theirs is None:
        return
    for network in dict.fromkeys(need.network for metric in wanted for need in metric.needs):
        ours = subject.network(network).identity
        if ours != theirs:
            raise errors.UsageError(
                f"the statistics of real images are those of {theirs}, the samples would be seen by {ours}; "
                "give the weights and the resizing that the statistics were made with"
            )
