"""The benchmark of saving: what it prints, and that in the background the caller is not held up."""

import re

import pytest

from benchmarks import saving


@pytest.mark.slow
def test_what_it_prints(tmp_path, capsys):
    assert saving.main(["--megabytes=30", "--rounds=3", f"--workdir={tmp_path}"]) == 0
    own, background = capsys.readouterr().out.splitlines()
    figures = r"copy ([\d.]+) s, stall ([\d.]+) s, whole after ([\d.]+) s"
    first, second = re.fullmatch(f"by its own thread: {figures}", own), re.search(figures, background)
    assert first is not None
    assert second is not None
    assert re.search(r"products at \d+% of their rate meanwhile$", background)
    assert float(second[2]) < float(first[2]) / 5
    assert not list(tmp_path.iterdir())
