import time

import pytest

from ganjax import gan
from ganjax.families.alternation import generator_due


def simulate(steps: int, n_critic: int, warmup_moves: int, warmup_batches: int, every: int) -> list[int]:
    """The steps at which the generator moves: Arjovsky's loop, written down."""
    moves, since, due = 0, 0, []
    for step in range(steps):
        since += 1
        long = moves < warmup_moves or (every > 0 and moves % every == 0)
        if since == (warmup_batches if long else n_critic):
            due.append(step)
            moves, since = moves + 1, 0
    return due


@pytest.mark.parametrize(
    ("n_critic", "warmup_moves", "warmup_batches", "every"),
    [
        (5, 25, 100, 500),  # the defaults, past the move number 500 and 1000
        (5, 25, 100, 7),
        (5, 25, 100, 25),
        (5, 24, 100, 12),
        (3, 0, 10, 4),
        (3, 4, 10, 0),
        (1, 1, 1, 1),
        (6, 3, 2, 5),  # a warm-up of fewer batches
        (4, 0, 9, 1),
        (2, 1, 5, 10),
    ],
)
def test_the_generator_moves_when_a_simulation_says_so(n_critic, warmup_moves, warmup_batches, every):
    due = generator_due(
        n_critic, warmup_generator_steps=warmup_moves, warmup_critic_steps=warmup_batches, every=every
    )
    steps = 9000
    expected = simulate(steps, n_critic, warmup_moves, warmup_batches, every)
    assert [step for step in range(steps) if due(step)] == expected
    assert len(expected) > 10


def test_the_defaults_are_those_of_the_published_code():
    due = generator_due()
    # 25 moves of 100 batches, 475 of 5, one of 100, then 5 again.
    assert [step for step in range(4990) if due(step)][-4:] == [4974, 4979, 4984, 4989]
    assert not any(due(step) for step in range(4875, 4974))
    assert due(99)
    assert not due(4)
    assert due(2499)
    assert due(2504)


def test_without_a_warm_up_it_is_every():
    due = generator_due(5, warmup_generator_steps=0, every=0)
    assert [due(step) for step in range(100)] == [gan.every(5)(step) for step in range(100)]


def test_late_steps_are_answered_at_once():
    due = generator_due()
    begin = time.perf_counter()
    asked = [step for step in range(10**6, 10**6 + 1000) if due(step)]
    assert time.perf_counter() - begin < 2.0  # a loop over a million steps would take minutes
    assert 180 <= len(asked) <= 200
    # In any order, with the same answers.
    assert [step for step in reversed(range(10**6, 10**6 + 1000)) if due(step)] == asked[::-1]


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_critic": 0},
        {"warmup_critic_steps": 0},
        {"warmup_generator_steps": -1},
        {"every": -1},
    ],
)
def test_numbers_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError, match="at least"):
        generator_due(**arguments)
