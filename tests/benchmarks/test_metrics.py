import json

import numpy as np
import pytest

from benchmarks import metrics


def test_figures_agree_with_their_definitions(monkeypatch, capsys):
    monkeypatch.setattr(metrics, "installed", lambda name: None)
    assert metrics.main(["--samples=60", "--features=8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["figure"] for each in found} == {
        *("frechet", "kernel", "precision", "recall", "density", "coverage", "inception_score", "psnr")
    }
    assert max(each["difference"] for each in found) < 1e-6
    assert min(each["ours"] for each in found if each["figure"] in ("precision", "recall")) > 0


def test_a_figure_that_differs_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(metrics, "installed", lambda name: None)
    monkeypatch.setattr(metrics, "frechet_by_definition", lambda fake, real: 7.0)
    draw = np.random.default_rng(0)
    for name in ("real", "fake"):
        np.save(tmp_path / f"{name}.npy", draw.normal(size=(20, 3)).astype(np.float32))
    files = [f"--{name}={tmp_path}/{name}.npy" for name in ("real", "fake")]
    assert metrics.main(files) == 1
    said = capsys.readouterr()
    assert "frechet: " in said.err
    assert "definition has 7" in said.err
    assert "kernel" in said.out
    with pytest.raises(SystemExit):
        metrics.main(files[:1])
    assert "go together" in capsys.readouterr().err
