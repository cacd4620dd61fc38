"""--mode=evaluate: what a separately trained classifier and pixel distances, or an experiment's own judge,
say of a run's samples."""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from ganjax import data, members
from ganjax.cli import workdir
from ganjax.cli.command import Command
from ganjax.errors import UsageError, nearest
from ganjax.gan import Judge
from ganjax.metrics.classifier import cached_classifier
from ganjax.metrics.judge import METRICS, judge, verdict
from ganjax.report import images as pictures
from ganjax.report.files import write_atomically
from ganjax.sampling import Sampler

# Pairs of images that are compared without being asked to: for MNIST and 10,000 samples it takes a third.
NEAREST_PAIRS = 1 << 32


def run(command: Command) -> int:
    """Evaluates; prints one JSON object; returns the exit code."""
    run = workdir.open_run(command)
    out = epath.Path(command.flags.out or run.folder / "evaluation.json").expanduser()
    if out.suffix != ".json":
        raise UsageError(f"--out={out}: expected a .json")
    state, meta = workdir.last_state(run, _say, command.flags.checkpoint, member=None)
    stage = run.experiment.stages[meta["stage"]]
    num_classes, count = run.experiment.num_classes, command.flags.num_samples
    if num_classes and count % num_classes:
        raise UsageError(f"--num_samples={count}: it does not divide evenly over the {num_classes} classes")
    own = run.experiment.judge
    wanted = command.flags.metrics.split(",") if command.flags.metrics else []
    for name in wanted:
        _check_metric(name, METRICS if own is None else own.metrics)
    judged_by = _image_judge(command, stage.data, wanted) if own is None else own
    _say(f"drawing {count} samples")
    start = time.monotonic()
    labels = np.repeat(np.arange(num_classes), count // num_classes) if num_classes else None
    seeds = np.arange(count)
    sampler, each = Sampler(stage.gan, chunk=200), []
    for member in range(run.experiment.seeds):
        samples = sampler(members.of(state, member, run.experiment.seeds), seeds, labels)
        each.append(dict(judged_by.results(samples, labels)))
    first = run.record["seed"]
    results = over_members(each, first)
    whole = not wanted
    wanted = wanted or list(results)
    for name in wanted:
        _check_metric(name, results)
    drawn = {"seeds": f"0-{count - 1}", "step": meta["step"], "weights": "averaged" if state.ema else "last"}
    answer = {name: {**results[name], "protocol": {**results[name]["protocol"], **drawn}} for name in wanted}
    against = None
    if whole and judged_by.verdict is not None:  # of some figures alone it would be taken for one of all
        protocol = {"metrics": wanted, "samples": count, **drawn}
        answer["verdict"] = verdict_over_members([judged_by.verdict(one) for one in each], first)
        answer["verdict"] |= {"protocol": protocol}
        against = answer["verdict"]["against"]
    print(json.dumps(answer), flush=True)  # before the file, which may fail after all this work
    write_atomically(out, json.dumps(answer, indent=2).encode() + b"\n")
    for line in against or ():
        _say(f"verdict: {line}")
    if against == []:
        _say("verdict: it passes")
    _say(f"{out}: {time.monotonic() - start:.0f} s for samples and metrics")
    return 0


def over_members(each: Sequence[Mapping[str, dict[str, Any]]], seed: int) -> dict[str, dict[str, Any]]:
    """What a judge said of every member of a run of several seeds, from `seed` on, as one answer.

    Of each metric `value` is the mean over the members and `std` the standard deviation (of a sample), where
    every member has a number; `members` are the results one by one, each with its `seed`. `protocol`, which
    is the same of all, is said once. Of one member, its results as they are.
    """
    if len(each) == 1:
        return dict(each[0])
    answer: dict[str, dict[str, Any]] = {}
    for name, first in each[0].items():
        values = [results[name].get("value") for results in each]
        numbers = [value for value in values if isinstance(value, int | float)]
        found: dict[str, Any] = {}
        if len(numbers) == len(values):
            found = {"value": float(np.mean(numbers)), "std": float(np.std(numbers, ddof=1))}
        found["members"] = [
            {"seed": seed + i, **{key: x for key, x in results[name].items() if key != "protocol"}}
            for i, results in enumerate(each)
        ]
        answer[name] = found | {"protocol": first["protocol"]}
    return answer


def verdict_over_members(each: Sequence[list[str]], seed: int) -> dict[str, Any]:
    """Of what speaks against every member, from `seed` on, one verdict: `value` is whether nothing does.

    `against` has a line each, with its seed where there are several; `members` are the verdicts one by one.
    """
    if len(each) == 1:
        return {"value": not each[0], "against": each[0]}
    by_seed = list(enumerate(each, seed))
    return {
        "value": not any(each),
        "against": [f"seed {member}: {line}" for member, lines in by_seed for line in lines],
        "members": [{"seed": member, "value": not lines, "against": lines} for member, lines in by_seed],
    }


def _check_metric(name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise UsageError(f"--metrics={name}: there is no such metric; {nearest(name, known)}")


def _image_judge(command: Command, dataset: data.Source, wanted: Sequence[str]) -> Judge:
    """The judge of images, with its classifier trained on the run's data.

    Nearest training images are searched for where they are `wanted` by name, or everything is and the sets
    are not too large.
    """
    train, test = _real(command, dataset)
    assert isinstance(dataset, data.Dataset)
    _say("classifier: trained once for a dataset, then kept")
    classifier = cached_classifier(train, test, dataset.num_classes)
    _say(f"classifier: {classifier.test_accuracy:.2%} of the test images right")

    def results(samples: np.ndarray, labels: np.ndarray | None) -> Mapping[str, dict[str, Any]]:
        search = "nearest_training_image" in wanted
        if not wanted:
            search = (len(samples) + len(test["image"])) * len(train["image"]) <= NEAREST_PAIRS
            if not search:
                _say("nearest training images: left out, they take long; name them with --metrics")
        images = pictures.to_uint8(samples)
        return judge(images, labels, train=train, test=test, classifier=classifier, nearest=search)

    return Judge(METRICS, results, verdict)


def _real(command: Command, dataset: data.Source) -> tuple[dict, dict]:
    """The real training and test images, of the form that the run was trained on."""
    if not isinstance(dataset, data.Dataset):
        raise UsageError("--mode=evaluate: it judges runs on one data set by name, which this run is not")
    height, width, channels = dataset.image_shape
    splits = []
    for split in ("train", "test"):
        real = data.load(
            dataset.name,
            split=split,
            data_dir=command.flags.data_dir,
            image_size=(height, width),
            channels=channels,
            skip_corrupt=command.flags.skip_corrupt,
        )
        if not real.num_classes:
            raise UsageError(f"{dataset.name} has no labels to train a classifier by")
        splits.append(real.read(np.arange(real.num_examples)))
        for line in real.skipped:
            _say(line)
    return splits[0], splits[1]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
