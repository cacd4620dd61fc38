"""Last of the fuzz tests, as pytest takes files in the order of their names: how many cases there were."""

import pytest

from tests.fuzz import test_argv, test_config, test_data, test_runs
from tests.fuzz.harness import AT_LEAST, CASES, PLANNED, SPENT

ALL = (test_argv, test_config, test_data, test_runs)


def test_enough_cases_are_planned():
    assert {name.partition(".")[0] for name in PLANNED} == {
        module.__name__.rpartition(".")[2] for module in ALL
    }
    assert sum(PLANNED.values()) >= AT_LEAST


@pytest.mark.slow
def test_enough_cases_were_tried(capsys):
    if missing := set(PLANNED) - set(CASES):
        pytest.skip(f"not run in this process: {', '.join(sorted(missing))}")
    with capsys.disabled():
        print(f"\nfuzz: {CASES.total():,} cases in {sum(SPENT.values()) / 60:.1f} min")
        for name, cases in CASES.items():
            print(f"  {name}: {cases:,} in {SPENT[name]:.0f} s")
    assert CASES.total() >= AT_LEAST
