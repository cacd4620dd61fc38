"""The table of a metric against images seen, from files as runs and evaluations write them."""

import json
import pathlib

import pytest

from benchmarks import curve

PROTOCOL = {"samples": 1000, "real_split": "test", "weights": "averaged"}


def result(value, step: int, **more) -> dict:
    return {"kid": {"value": value, "protocol": PROTOCOL | {"step": step, **more}}}


def run(folder: pathlib.Path, found: dict[int, float], *, seed: int = 0, more=(), **config) -> str:
    folder.mkdir()
    settings = {"batch_size": 10, "augment": "none"} | config
    record = {"experiment": "stylegan2_emoji", "seed": seed, "config": settings}
    (folder / "config.json").write_text(json.dumps(record))
    results = {str(step): result(value, step, **dict(more)) for step, value in found.items()}
    (folder / "evaluation.json").write_text(json.dumps(results))
    (folder / "metrics.jsonl").write_text("")
    return str(folder)


def test_seeds_share_a_column_and_settings_do_not(tmp_path, capsys):
    runs = [
        run(tmp_path / "a", {100: 0.5, 200: 0.25}),
        run(tmp_path / "b", {100: 0.5, 200: 0.75}, seed=1),
        run(tmp_path / "c", {200: 0.125}, augment="ada"),
    ]
    lines = [
        {"step": 50, "augment_p": 0.0},
        {"step": 150, "augment_p": 0.5, "loss": 1},
        {"step": 200, "loss": 1},
    ]
    (tmp_path / "c" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert curve.main(["kid", *runs, "--with=augment_p"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| images | augment=none | augment=ada |",
        "| ---: | ---: | ---: |",
        "| 1,000 | 0.5 ± 0 (2 seeds) |  |",
        "| 2,000 | 0.5 ± 0.35 (2 seeds) | 0.125 [0.5] |",
    ]


def test_what_was_measured_in_training_counts_too(tmp_path, capsys):
    name = run(tmp_path / "a", {})
    folder = tmp_path / "a"
    members = [{"seed": 0, "value": 1.0}, {"seed": 1, "value": 3.0}]
    lines = [{"step": 1} | result(4.0, 1), {"step": 2, "kid": {"members": members, "protocol": PROTOCOL}}]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # One checkpoint's, which is not by steps; the newer of two results of one step.
    (folder / "evaluation.json").write_text(json.dumps(result(5.0, 1)))
    assert curve.main(["kid", name]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| images | stylegan2_emoji |",
        "| ---: | ---: |",
        "| 10 | 5 |",
        "| 20 | 2 ± 1.4 (2 seeds) |",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "evaluation.json").unlink(), "kid was not measured; run: python run.py"),
        (lambda folder: (folder / "evaluation.json").write_text('{"kid": 1}'), "evaluation.json is damaged"),
        (lambda folder: (folder / "evaluation.json").write_text("[]"), "evaluation.json is damaged"),
        (
            lambda folder: (folder / "evaluation.json").write_text(json.dumps(result([1], 3))),
            "kid is no number: [1]",
        ),
        (
            lambda folder: (folder / "evaluation.json").write_text(
                json.dumps({"3": result(1, 3), "4": result(1, 4, samples=50)})
            ),
            "kid was measured in two ways: samples 1000 and 50",
        ),
        (
            lambda folder: (folder / "config.json").write_text(
                '{"experiment": "x", "seed": 0, "config": {}}'
            ),
            "expected batches of one size",
        ),
    ],
)
def test_what_has_no_curve_is_refused(change, said, tmp_path, capsys):
    name = run(tmp_path / "a", {3: 0.5})
    change(tmp_path / "a")
    assert curve.main(["kid", name]) == 1
    assert said in capsys.readouterr().err


def test_protocols_that_differ_do_not_compare(tmp_path, capsys):
    runs = [
        run(tmp_path / "a", {3: 0.5}),
        run(tmp_path / "b", {3: 0.5}, seed=1, more={"real_split": "train"}),
    ]
    assert curve.main(["kid", *runs]) == 1
    assert 'do not compare: real_split "test" and "train"' in capsys.readouterr().err
