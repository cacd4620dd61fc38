"""Which metrics a command wants of an experiment's models, and what they need: for evaluate and train."""

import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags as absl_flags

from ganjax import data, sampling
from ganjax.cli import drawing
from ganjax.data.shrunk import shrunk
from ganjax.errors import NoSplit, TooEarly, UsageError, nearest
from ganjax.gan import Experiment, Gan, GanState, Judge
from ganjax.metrics import sets, suite
from ganjax.metrics.classifier import Classifier, cached_classifier
from ganjax.metrics.judge import METRICS as OF_JUDGE
from ganjax.metrics.judge import NEAREST, judge, nearest_training_image, verdict
from ganjax.metrics.lpips import LPIPS
from ganjax.metrics.nearest import neighbours_sheet
from ganjax.parallel import Program
from ganjax.sampling import Sampler
from ganjax.steering import Look, Steering, layered

# Pairs of images that are compared without being asked to: for MNIST and 10,000 samples it takes a third.
NEAREST_PAIRS = 1 << 32
KEPT = 1 << 30  # bytes of samples that are drawn once and kept; more are drawn for each pass
CHUNK = 200  # samples that are drawn at a time
GIVEN_CHUNK = 8  # of those that are drawn from something that is given, such as images
PATH_BATCH = 32  # steps of a path that are drawn at a time
CRITIC_BATCH = 64  # images that a discriminator is shown at a time

# What can say which checkpoint is the best, and whether more is better; the first that a run has is the
# default of --keep_best.
BETTER: Mapping[str, str] = {
    "fid": "min",
    "kid": "min",
    "classifier_frechet_distance": "min",
    "good_samples": "max",
    "swd": "min",
}

# Which file a metric needs, by the flag that names it.
WEIGHTS: Mapping[str, str] = {
    "inception": "the FID Inception's weights (inception-2015-12-05.pt, or pytorch-fid's "
    "pt_inception-2015-12-05-6726825d.pth; docs/metrics.md says where they are)",
    "lpips": "LPIPS's weights and those of its network (docs/metrics.md says where they are)",
}

Results = dict[str, dict[str, Any]]


class Measurer:
    """Measures the models of an experiment.

    Args:
      experiment: whose models.
      flags: of the command.
      say: is told what a user should read.
      tell: is told how far a pass over images is.
      announce: say when samples are drawn, and make the picture of `neighbours`.

    Attributes:
      count: how many samples the latest measurement drew: those that were asked for, or, of an experiment
        that draws from something given, as many as its judge has.
      neighbours: a picture of the samples nearest to training images, with these beside them: uint8
        [H, W, C], once they were searched for.

    Raises:
      UsageError: a metric that there is not, one that lacks what it needs, or too few samples.
    """

    def __init__(
        self,
        experiment: Experiment,
        flags: absl_flags.FlagValues,
        say: Callable[[str], None],
        tell: suite.Tell = lambda what, done, total: None,
        announce: bool = True,
    ):
        self._experiment, self._flags, self._say, self._tell = experiment, flags, say, tell
        self._announce = announce
        self._made: dict[Any, Any] = {}
        self.neighbours: np.ndarray | None = None
        self._facts: dict[str, Any] = {}  # what protocols say of the latest measurement's state and latents
        self._wanted: int = flags.num_samples  # of each measurement, however many the last one drew
        self.count = self._wanted
        classes = experiment.num_classes
        if classes and self.count % classes:
            raise UsageError(
                f"--num_samples={self.count}: it does not divide evenly over the {classes} classes"
            )
        self.asked = tuple(flags.metrics.split(",")) if flags.metrics else ()
        own = experiment.judge
        for name in self.asked:
            check_metric(name, own.metrics if own is not None else (*OF_JUDGE, *suite.METRICS))
        if own is None:
            check_files(flags, self.asked)
            of_files = suite.INCEPTION_DEFAULT if flags.inception else ()
            of_files += suite.LPIPS_DEFAULT if flags.lpips else ()
            for name in self.asked or of_files:
                if name in suite.METRICS:
                    suite.check_count(name, self.count)
        elif own.networks:
            check_files(flags, self.asked, own.networks)
        elif flags.inception:
            raise UsageError("--inception does nothing here: this experiment's samples are no images")

    def names(self) -> tuple[str, ...]:
        """What `measure` can answer with, in any stage; finds out which real sets there are."""
        if self.asked:
            return self.asked
        own = self._experiment.judge
        if own is not None:
            given = own.networks
            return tuple(name for name in own.metrics if name not in given or self._flags[given[name]].value)
        found = [name for stage in self._experiment.stages for name in self._default(_dataset(stage.data))]
        return tuple(dict.fromkeys(found))

    def drawn(self, state: GanState, step: int) -> dict[str, Any]:
        """What every protocol says of how samples were drawn, those that were measured last."""
        weights = "averaged" if state.ema else "last"
        chosen = {"checkpoint": "best"} if self._flags.checkpoint == "best" else {}  # by what was measured
        return {"seeds": f"0-{self.count - 1}", "step": step, **chosen, "weights": weights, **self._facts}

    def measure(self, index: int, state: GanState, step: int) -> Results:
        """What the metrics say of a stage's state, of one member, after `step` steps of the run."""
        stage, classes = self._experiment.stages[index], self._experiment.num_classes
        labels = np.repeat(np.arange(classes), self.count // classes) if classes else None
        sampler = self._once(("sampler", index), lambda: self._sampler(index))
        options = drawing.options_of(self._flags, stage.gan)
        own = self._experiment.judge
        if own is not None:
            networks = self._networks(own)  # what is missing shall show before samples are drawn
            conditions = None if own.conditions is None else own.conditions(self._wanted)
            if conditions is not None:
                self.count = len(jax.tree.leaves(conditions)[0])
            state = self._prepared(stage.gan, state, options)
            self._say_drawing(step)
            samples = sampler(state, np.arange(self.count), labels, conditions=conditions, options=options)
            found = dict(own.results(samples, labels, *([networks] if own.networks else [])))
            wanted = self.asked
        else:
            dataset = _dataset(stage.data)
            self._make_ready(dataset)
            state = self._prepared(stage.gan, state, options)
            self._say_drawing(step)
            generated = sets.of_model(
                sampler, state, self.count, dataset.image_shape, labels, classes, options=options
            )
            critic = self._critic(index, state, dataset)
            found = self._of_images(dataset, generated, self._generator(index, state, options), critic)
            wanted = self._names_of(dataset) if self.asked else ()
        for name in wanted:
            check_metric(name, found)
        drawn = self.drawn(state, step)
        return {
            name: {**found[name], "protocol": {**drawn, **found[name]["protocol"]}}
            for name in wanted or found
        }

    def _prepared(self, gan: Gan, state: GanState, options: dict[str, Any]) -> GanState:
        """The state that is sampled from, which protocols are told of."""
        state, facts = drawing.prepared(self._flags, gan, state)
        mode = {"truncation_mode": "resample"} if drawing.takes(gan.sample, "truncation_mode") else {}
        whole = {"truncation": None} if drawing.takes(gan.sample, "truncation") else {}
        self._facts = {**(mode | options if options else whole), **facts}
        return state

    def _say_drawing(self, step: int) -> None:
        if self._announce:
            self._say(f"drawing {self.count} samples of step {step}")

    def _make_ready(self, dataset: data.Dataset) -> None:
        """Loads or trains what the metrics need: what is missing shall show before samples are drawn."""
        names = self._names_of(dataset)
        judged = set(names) & set(OF_JUDGE) and not _nearest_alone(dataset, names)
        if judged or _of_network("classifier", names):
            self._classifier(dataset)
        if _of_network("inception", names):
            self._inception()
        if _of_network("lpips", names):
            self._lpips()

    def _networks(self, own: Judge) -> dict[str, Any]:
        """Those that the judge's metrics need, as far as their weights were given."""
        load = {"inception": self._inception, "lpips": self._lpips}
        needed = {own.networks[name] for name in self.names() if name in own.networks}
        return {network: load[network]() for network in sorted(needed)}

    def _inception(self) -> suite.Network:
        return self._once("inception", lambda: inception_of(self._flags, self._say))

    def _lpips(self) -> LPIPS:
        return self._once("lpips", lambda: lpips_of(self._flags))

    def verdict(self, results: Results) -> list[str] | None:
        """What speaks against the model; None where nothing is said, as of some figures alone."""
        own = self._experiment.judge
        if self.asked:
            return None
        if own is not None:
            return own.verdict(results) if own.verdict is not None else None
        return verdict(results) if set(results) & set(OF_JUDGE) else None

    def _of_images(
        self,
        dataset: data.Dataset,
        generated: sets.Images,
        generator: suite.Generator | None,
        critic: suite.Critic | None,
    ) -> Results:
        names = self._names_of(dataset)
        pixels = generated.count * int(np.prod(generated.image_shape, dtype=np.int64))
        if pixels <= KEPT or set(names) & set(OF_JUDGE):
            generated = generated.kept(CHUNK, lambda done, total: self._tell("samples", done, total))
        found: Results = {}
        if _nearest_alone(dataset, names):
            found |= self._near(dataset, generated)
        elif set(names) & set(OF_JUDGE):
            found |= self._judged(dataset, generated)
        for result in found.values():
            result["protocol"] = {"real_set": dataset.name, **result["protocol"]}
        for network, split in suite.REAL_SPLITS.items():
            some = _of_network(network, names)
            if not some:
                continue
            if any("real" in suite.METRICS[name].sides for name in some):
                real = self._real_images(dataset, self._flags.real_split or split)
            else:  # what was imported may have no data
                real = sets.none(dataset.image_shape)
            found |= suite.measure(self._subject(dataset, real, generated, generator, critic), some)
        return found

    def _near(self, dataset: data.Dataset, generated: sets.Images) -> Results:
        """The samples' nearest training images, of a set without labels."""
        train = self._images(dataset, "train")["image"]
        try:
            test = self._images(dataset, "test")["image"]
        except NoSplit as error:
            self._say(f"{NEAREST}: no images that were not trained on to compare with ({error})")
            test = None
        samples = generated.read(0, generated.count)
        if self._announce:
            self.neighbours = neighbours_sheet(samples, train, nearest_first=True)
        return {NEAREST: nearest_training_image(samples, train, test)}

    def _names_of(self, dataset: data.Dataset) -> list[str]:
        """What is measured of a stage's images: where other stages have larger ones, what is not for those
        alone. Raises TooEarly where nothing that was asked for is."""
        size = dataset.image_shape[:2]
        others = [_dataset(stage.data).image_shape[:2] for stage in self._experiment.stages]

        def for_others(name: str) -> bool:
            if name not in suite.METRICS or not suite.too_small(name, size, self._lpips):
                return False
            if all(suite.too_small(name, other, self._lpips) for other in others):
                return False  # for no stage: the metric's own error says so
            shown = "x".join(map(str, size))
            self._once(("too small", name, size), lambda: self._say(f"{name}: not of images of {shown}"))
            return True

        names = [name for name in self.asked or self._default(dataset) if not for_others(name)]
        if self.asked and not names:
            raise TooEarly(f"of images of {'x'.join(map(str, size))}, too small for {', '.join(self.asked)}")
        return names

    def _default(self, dataset: data.Dataset) -> list[str]:
        """What is measured where nothing is asked for: all that the set and the files given allow."""
        return self._once(("default", dataset.name, dataset.image_shape), lambda: self._allowed(dataset))

    def _allowed(self, dataset: data.Dataset) -> list[str]:
        names: list[str] = []
        if dataset.num_classes:
            try:
                self._real(dataset, "test")
                names += OF_JUDGE
            except UsageError as error:
                self._say(f"no metrics of a classifier: {error}")
        names += suite.INCEPTION_DEFAULT if self._flags.inception else ()
        names += suite.LPIPS_DEFAULT if self._flags.lpips else ()
        return names or list(suite.PIXELS_DEFAULT)

    def _judged(self, dataset: data.Dataset, generated: sets.Images) -> Results:
        """What `ganjax.metrics.judge` says.

        Nearest training images are searched for where they were asked for by name, or everything is and the
        sets are not too large.
        """
        train, test = (self._arrays(dataset, split) for split in ("train", "test"))
        search = "nearest_training_image" in self.asked
        if not self.asked:
            search = (generated.count + len(test["image"])) * len(train["image"]) <= NEAREST_PAIRS
            if not search:
                self._say("nearest training images: left out, they take long; name them with --metrics")
        samples = generated.read(0, generated.count)
        if search and self._announce:
            self.neighbours = neighbours_sheet(samples, train["image"], nearest_first=True)
        return judge(
            samples,
            generated.labels,
            train=train,
            test=test,
            classifier=self._classifier(dataset),
            nearest=search,
        )

    def _subject(
        self,
        dataset: data.Dataset,
        real: sets.Images,
        generated: sets.Images,
        generator: suite.Generator | None,
        critic: suite.Critic | None,
    ) -> suite.Subject:
        networks: dict[str, Callable[[], suite.Network]] = {
            "classifier": lambda: suite.OfClassifier(self._classifier(dataset)),
            "inception": self._inception,
        }
        return suite.Subject(
            generated,
            real,
            networks,
            cache=cache_folder(),
            tell=self._tell,
            say=self._say,
            generator=generator,
            lpips=self._lpips,
            critic=critic,
        )

    def _critic(self, index: int, state: GanState, dataset: data.Dataset) -> suite.Critic | None:
        logits = self._experiment.stages[index].gan.logits
        if logits is None or not _of_network("discriminator", self.asked):
            return None
        program = self._once(("logits", index), lambda: Program(jax.jit(logits)))

        def of(images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
            inputs = {"images": images} | ({} if labels is None else {"labels": labels})

            def answer(part: dict[str, np.ndarray]) -> Any:
                pixels = np.asarray(data.to_float(jnp.asarray(part["images"])))
                return program(state, pixels, part.get("labels"))

            return sampling.in_chunks(answer, inputs, CRITIC_BATCH)

        return suite.Critic(of, self._real_images(dataset, "train"))

    def _generator(self, index: int, state: GanState, options: Mapping[str, Any]) -> suite.Generator | None:
        gan = self._experiment.stages[index].gan
        if gan.latents is None:
            return None
        sampler = self._once(("small sampler", index), lambda: Sampler(gan, chunk=PATH_BATCH))

        of_latents = drawing.of_latents(gan, options)
        others = {name: value for name, value in options.items() if name not in of_latents}

        def draw(latents: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
            return sampler(state, np.arange(len(latents)), labels, latents=latents, options=others)

        found = suite.Generator(lambda seeds: sampling.latents(gan, seeds, of_latents), draw, PATH_BATCH)
        if gan.styles is None:
            return found
        steering = Steering(gan, state, PATH_BATCH)
        look = Look(truncation=options.get("truncation"))

        def draw_styles(styles: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
            del labels  # they are in the styles
            looked = steering.looked(layered(styles, steering.layers), look)
            return steering.images(looked, "random", np.arange(len(styles)))

        return found._replace(mapped=steering.mapped, draw_styles=draw_styles)

    def _classifier(self, dataset: data.Dataset) -> Classifier:
        def make() -> Classifier:
            train, test = (self._arrays(dataset, split) for split in ("train", "test"))
            self._say("classifier: trained once for a dataset, then kept")
            classifier = cached_classifier(train, test, dataset.num_classes)
            self._say(f"classifier: {classifier.test_accuracy:.2%} of the test images right")
            return classifier

        return self._once(("classifier", dataset.name, dataset.image_shape), make)

    def _arrays(self, dataset: data.Dataset, split: str) -> dict[str, np.ndarray]:
        if not self._real(dataset, split).num_classes:
            raise UsageError(f"{dataset.name} has no labels to train a classifier by")
        return self._images(dataset, split)

    def _images(self, dataset: data.Dataset, split: str) -> dict[str, np.ndarray]:
        def make() -> dict[str, np.ndarray]:
            real = self._real(dataset, split)
            arrays = real.read(np.arange(real.num_examples))
            for line in real.skipped:
                self._say(line)
            return arrays

        return self._once(("arrays", dataset.name, dataset.image_shape, split), make)

    def _real_images(self, dataset: data.Dataset, split: str) -> sets.Images:
        """`_real`, to be measured; what is found out about its content is found once."""
        real = self._real(dataset, split)
        return self._once(("real images", id(real)), lambda: sets.of_dataset(real))

    def _real(self, dataset: data.Dataset, split: str) -> data.Dataset:
        """A split of the set that the run was trained on, of the form that it was trained on."""

        def make() -> data.Dataset:
            height, width, channels = dataset.image_shape
            whole = data.load(
                dataset.name,
                split=split,
                data_dir=self._flags.data_dir,
                image_size=(height * dataset.shrink, width * dataset.shrink),
                channels=channels,
                **dataset.options(),
                skip_corrupt=self._flags.skip_corrupt,
            )
            return shrunk(whole, dataset.shrink)

        options = (*dataset.options().values(), dataset.shrink)
        return self._once(("real", dataset.name, dataset.image_shape, options, split), make)

    def _sampler(self, index: int) -> Sampler:
        devices, own = jax.local_devices(), self._experiment.judge
        chunk = CHUNK if own is None or own.conditions is None else GIVEN_CHUNK
        devices = devices if chunk % len(devices) == 0 else devices[:1]
        return Sampler(self._experiment.stages[index].gan, chunk=chunk, devices=devices)

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _nearest_alone(dataset: data.Dataset, names: Iterable[str]) -> bool:
    """Whether all that is asked of a judge needs no classifier, and there is none to train."""
    return not dataset.num_classes and set(names) & set(OF_JUDGE) == {NEAREST}


def sets_measured(flags: absl_flags.FlagValues, say: Callable[[str], None], tell: suite.Tell) -> Results:
    """What the metrics say of the images of `--fake` beside those of `--real`.

    Raises:
      UsageError, RunError: of the sets, the files of weights, or the metrics.
    """
    asked = tuple(flags.metrics.split(",")) if flags.metrics else ()
    known = {name: metric for name, metric in suite.METRICS.items() if metric.network != "classifier"}
    for name in asked:
        check_metric(name, known)
    check_files(flags, asked)
    names = asked or (
        *(suite.INCEPTION_DEFAULT if flags.inception else ()),
        *(suite.LPIPS_DEFAULT if flags.lpips else ()),
    )
    names = names or suite.PIXELS_DEFAULT
    there = [_of_flag(flags, "fake")]
    statistics = None
    if sets.is_statistics(flags.real):
        if flags.real_split:
            raise UsageError(f"--real_split does nothing: {flags.real} holds statistics")
        real, statistics = sets.of_statistics(flags.real)
        names = asked or ("fid",)
        check_files(flags, names)
    else:
        there.append(_of_flag(flags, "real"))
        real = sets.of_dataset(there[1])
    generated = sets.of_dataset(there[0])
    subject = suite.Subject(
        generated,
        real,
        {"inception": lambda: inception_of(flags, say)},
        cache=cache_folder(),
        tell=tell,
        say=say,
        real_statistics=statistics,
        lpips=lambda: lpips_of(flags),
    )
    results = suite.measure(subject, names)
    for dataset in there:
        for line in dataset.skipped:
            say(line)
    return results


def _of_flag(flags: absl_flags.FlagValues, name: str) -> data.Dataset:
    """The set of `--real` or `--fake`."""
    path: Any = flags[name].value
    split = flags.real_split or "train" if name == "real" else "train"
    try:
        return data.load(path, split=split, data_dir=flags.data_dir, skip_corrupt=flags.skip_corrupt)
    except UsageError as error:
        raise UsageError(f"--{name}: {error}") from error


def _dataset(source: data.Source) -> data.Dataset:
    if not isinstance(source, data.Dataset):
        raise UsageError("metrics of images: they judge runs on one data set by name, which this run is not")
    return source


def numbers(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The value of every result that has one number."""
    values = {name: result.get("value") for name, result in results.items()}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def check_metric(name: str, known: Iterable[str]) -> None:
    """Raises UsageError unless there is a metric of this name."""
    if name not in known:
        raise UsageError(f"--metrics={name}: there is no such metric; {nearest(name, known)}")


def _of_network(network: str | None, names: Iterable[str]) -> list[str]:
    """Those of the suite's metrics that are over this network's features."""
    return [name for name in names if name in suite.METRICS and suite.METRICS[name].network == network]


def check_files(
    flags: absl_flags.FlagValues, asked: Sequence[str], networks: Mapping[str, str] | None = None
) -> None:
    """Raises UsageError where a metric lacks weights, or weights are given that nothing needs.

    Args:
      networks: metric -> the network that it needs; default: those of the suite's.
    """
    for network, where in WEIGHTS.items():
        if networks is None:
            some = _of_network(network, asked)
        else:
            some = [name for name in asked if networks.get(name) == network]
        given = flags[network].value
        if some and not given:
            raise UsageError(f"--metrics={some[0]}: it needs {where}; name the file with --{network}=")
        if given and asked and not some:
            raise UsageError(f"--{network} does nothing: no metric that was asked for needs it")
    if flags["resize"].present and not flags.inception:
        raise UsageError("--resize does nothing without --inception=")


def inception_of(flags: absl_flags.FlagValues, say: Callable[[str], None]) -> suite.Network:
    """The FID Inception with the weights of `--inception`."""
    from ganjax.metrics.inception import load_inception

    return suite.OfInception(load_inception(flags.inception, flags.resize), say)


def lpips_of(flags: absl_flags.FlagValues) -> LPIPS:
    """LPIPS with the weights of `--lpips`: one file, or two with a comma between."""
    from ganjax.metrics.lpips import load_lpips

    return load_lpips(*flags.lpips.split(","))


def cache_folder() -> pathlib.Path:
    """Where what takes long is kept from one command to the next."""
    return pathlib.Path(os.environ.get("GANJAX_CACHE") or pathlib.Path.home() / ".cache/ganjax")
