"""The main job for real: `python run.py --experiment=cgan_mnist`, and what its digits are worth."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_main_job(tmp_path, cache):
    """Takes five to ten minutes on two cores. The speed bars assume that nothing else is running."""
    import os

    # As a user has it: one device, caches of its own.
    environment = {
        key: value for key, value in os.environ.items() if key != "XLA_FLAGS" and not key.startswith("JAX_")
    }
    workdir = tmp_path / "run"
    command = [sys.executable, ROOT / "run.py", "--experiment=cgan_mnist", f"--workdir={workdir}"]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, timeout=1800)
    result = json.loads((workdir / "result.json").read_text())
    assert result["complete"]
    assert result["wall_seconds"] <= 360
    assert result["first_step_seconds"] <= 20
    assert result["peak_memory_mb"] <= 2000
    assert result["images_per_second"] >= 500

    again = [*command[:-1], f"--workdir={tmp_path / 'again'}", "--steps=2"]
    subprocess.run(again, check=True, cwd=tmp_path, env=environment, timeout=100)
    warm = json.loads((tmp_path / "again/result.json").read_text())
    assert warm["first_step_seconds"] <= 8
    assert warm["compile_seconds"] < result["compile_seconds"]

    subprocess.run([*command, "--mode=evaluate"], check=True, cwd=tmp_path, env=environment, timeout=900)
    metrics = json.loads((workdir / "evaluation.json").read_text())
    protocol = metrics["label_agreement"]["protocol"]
    assert protocol["classifier"]["test_accuracy"] >= 0.985
    assert metrics["label_agreement"]["value"] >= 0.98
    assert metrics["within_class_diversity_ratio"]["minimum"] >= 0.8
    assert metrics["classifier_frechet_distance"]["value"] < 30
