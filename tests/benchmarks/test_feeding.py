"""The benchmark of feeding runs, on few images, and reads them."""

import json

import pytest

from benchmarks import feeding
from ganjax.data import dataset
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]


@pytest.mark.slow
def test_feeding(monkeypatch, capsys):
    monkeypatch.setattr(dataset, "MEMORY_BUDGET", dataset.MEMORY_BUDGET)  # which is put back afterwards
    words = ["--batch=4", "--images=12", "--rounds=1", "--seconds=0.1", "--workers=2", "--json"]
    assert feeding.main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["fed_ms"] > 0
    assert result["ready_ms"] > 0
    assert result["idle_percent"] < 100
