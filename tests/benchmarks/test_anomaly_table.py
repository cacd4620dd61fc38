"""The table of runs that find anomalies, from files as the evaluation writes them."""

import json
import pathlib

import pytest

from benchmarks import anomaly


def run(folder: pathlib.Path, normal: str, roc: dict, precision: dict) -> str:
    folder.mkdir()
    record = {"experiment": "anomaly_mnist", "seed": 0, "config": {"normal": normal}}
    (folder / "config.json").write_text(json.dumps(record))
    protocol = {"test_images": 10_000}
    results = {
        "roc_area": {**roc, "protocol": protocol},
        "average_precision": {**precision, "protocol": protocol},
        "detection": {"value": None, "protocol": protocol},
    }
    (folder / "evaluation.json").write_text(json.dumps(results))
    return str(folder)


def test_a_row_for_each_run_and_their_means(tmp_path, capsys):
    runs = [
        run(tmp_path / "a", "0-8", {"value": 0.5, "pca": 0.75}, {"value": 0.25, "pca": 0.125}),
        run(tmp_path / "b", "1-9", {"value": 1.0, "pca": 0.25, "isolation_forest": 0.5}, {"value": 0.75}),
    ]
    assert anomaly.main(runs) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| normal | `roc_area` ours | `roc_area` pca | `average_precision` ours |",
        "| --- | --- | --- | --- |",
        "| 0-8 | 0.5000 | 0.7500 | 0.2500 |",
        "| 1-9 | 1.0000 | 0.2500 | 0.7500 |",
        "| **mean** | 0.7500 | 0.5000 | 0.5000 |",
    ]


def test_several_seeds_are_one_row(tmp_path, capsys):
    """As `ganjax.cli.evaluate.over_members` writes them."""
    forest = {"isolation_forest": 0.5}
    members = [{"seed": 0, "value": 0.5, "pca": 0.75}, {"seed": 1, "value": 1.0, "pca": 0.75}]
    roc = {"value": 0.75, "std": 0.25 * 2**0.5, "members": [member | forest for member in members]}
    runs = [
        run(tmp_path / "a", "0-8", roc, {"value": 0.75, "std": 0.25 * 2**0.5, "members": members}),
        run(tmp_path / "b", "1-9", {"value": 0.25, "pca": 0.25}, {"value": 0.25, "pca": 0.25}),
    ]
    assert anomaly.main(runs) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| normal | `roc_area` ours | `roc_area` pca | `average_precision` ours | `average_precision` pca |",
        "| --- | --- | --- | --- | --- |",
        "| 0-8 | 0.7500 ± 0.3536 | 0.7500 | 0.7500 ± 0.3536 | 0.7500 |",
        "| 1-9 | 0.2500 | 0.2500 | 0.2500 | 0.2500 |",
        "| **mean** | 0.5000 | 0.5000 | 0.5000 | 0.5000 |",
    ]
    assert anomaly.main(runs[:1]) == 0
    assert "`roc_area` isolation forest" in capsys.readouterr().out


def test_one_run_has_no_mean(tmp_path, capsys):
    assert anomaly.main([run(tmp_path / "a", "3", {"value": 0.5}, {"value": 0.25})]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["| 3 | 0.5000 | 0.2500 |"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "evaluation.json").unlink(), "is not evaluated; run: python run.py"),
        (lambda folder: (folder / "evaluation.json").write_text("[]"), "evaluation.json is damaged"),
        (lambda folder: (folder / "evaluation.json").write_text("{}"), "lacks roc_area, average_precision"),
        (
            lambda folder: (folder / "config.json").write_text(
                '{"experiment": "x", "seed": 0, "config": {}}'
            ),
            "expected a run of an experiment that finds anomalies",
        ),
        (lambda folder: (folder / "config.json").unlink(), "holds no run"),
    ],
)
def test_what_has_no_figures_is_refused(change, said, tmp_path, capsys):
    name = run(tmp_path / "a", "3", {"value": 0.5}, {"value": 0.25})
    change(tmp_path / "a")
    assert anomaly.main([name]) == 1
    assert said in capsys.readouterr().err
