"""docs/tricks.md: every trick, in every experiment that it is said to have, changes what is trained."""

import fnmatch
import functools
import importlib
import pathlib
import pkgutil
import re
from typing import Any

import jax
import numpy as np
import pytest

import experiments
from ganjax import config
from ganjax.checkpoint import flatten
from ganjax.families.recipe import ImageRecipe, Recipe
from ganjax.gan import Experiment, GanState, due_phases
from ganjax.loop import stage_key
from ganjax.parallel import state_at_first
from ganjax.random import stream
from ganjax.step import step_context, train_step

FAST: dict[str, Any] = {"xla_backend_optimization_level": 0}
ROOT = pathlib.Path(__file__).parents[1]
ALL = sorted(m.name for m in pkgutil.iter_modules(experiments.__path__) if not m.name.startswith("_"))
# Those that have the tricks; others, such as translations, have settings of their own.
NAMES = [name for name in ALL if issubclass(importlib.import_module(f"experiments.{name}").Config, Recipe)]
POINTS = {"gan_ring", "gan_grid"}
STEPS = 400  # of the run whose middle is looked at, where schedules are on their way
QUICK = "gan_ring"  # fully connected, of points, so quickly compiled


def rows() -> list[tuple[str, dict[str, str], list[str]]]:
    """Trick, settings and experiments of each row of the table."""
    found = []
    for line in (ROOT / "docs/tricks.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and (match := re.fullmatch(r"`(.+)`", cells[1])):
            settings = dict(word.split("=", 1) for word in match[1].split())
            found.append((cells[0], settings, experiments_of(cells[3])))
    return found


def experiments_of(cell: str) -> list[str]:
    chosen, _, excluded = cell.partition(" but ")
    patterns = {"all": ["*"], "images": ["*"]}.get(chosen, chosen.split(", "))
    for pattern in [*patterns, *excluded.split()]:
        assert fnmatch.filter(NAMES, pattern), f"{pattern}: there is no such experiment"
    names = [name for name in NAMES if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    names = [name for name in names if chosen != "images" or name not in POINTS]
    return [name for name in names if not any(fnmatch.fnmatch(name, p) for p in excluded.split())]


def pairs():
    """Every pair of a trick and an experiment; of each trick one in the default tests, where it is quick."""
    for trick, settings, names in rows():
        for name in names:
            marks = [] if name == QUICK else [pytest.mark.slow]
            yield pytest.param(settings, name, marks=marks, id=f"{trick.replace(' ', '_')}-{name}")


def built(name: str, **overrides: Any) -> Experiment:
    module = importlib.import_module(f"experiments.{name}")
    settings = config.override(module.Config(), module.TINY | {"steps": STEPS} | overrides, experiment=name)
    config.validate(settings)
    return module.build(settings)


@functools.cache
def step_where_all_move(name: str, **overrides: Any) -> int:
    gan = built(name, **overrides).stages[0].gan
    return next(step for step in range(STEPS // 2, STEPS) if len(due_phases(gan, step)) == len(gan.phases))


def after_two_steps(name: str, start: int, **overrides: Any) -> GanState:
    """From step `start` on; the second step has what the first remembers."""
    stage = built(name, **overrides).stages[0]
    key = stage_key(0, 0)
    raw = stage.data.read(stage.data.indices(0, 0, stage.batch_size))

    def create(raw):
        return state_at_first(stage.gan, stage.data.transform, key, raw)

    def move(state, raw, due):
        context = step_context(state, raw, key)
        batch = stage.data.transform(raw, context._replace(key=stream(context.key, "raw batch to batch")))
        return train_step(stage.gan, state, batch, key, due=due)[0]

    if name != QUICK:  # of its few small products, compiling costs more than running them one by one
        create = jax.jit(create, compiler_options=FAST)
        move = jax.jit(move, compiler_options=FAST, static_argnames="due")
    state = create(raw)
    state = state.replace(step=state.step + start)
    for step in (start, start + 1):
        state = move(state, raw, due_phases(stage.gan, step))
    return jax.device_get(state)


plain = functools.cache(after_two_steps)


@pytest.mark.parametrize(("settings", "name"), list(pairs()))
def test_a_trick_changes_the_training(settings, name):
    """That of the weights or their average; a trick that only reports something would not."""
    needed = dict(list(settings.items())[:-1])  # the last is the switch
    start = step_where_all_move(name, **needed)
    states = plain(name, start, **needed), after_two_steps(name, start, **settings)
    without, with_it = (flatten({"params": state.params, "ema": state.ema}) for state in states)
    assert all(np.isfinite(leaf).all() for leaf in with_it.values())
    common = [leaf for leaf in without if leaf in with_it and without[leaf].shape == with_it[leaf].shape]
    assert any(not np.array_equal(with_it[leaf], without[leaf]) for leaf in common)


def test_the_table_names_every_setting_that_is_off():
    """A trick of the shared settings that the table forgets would go untested."""
    named = {key for _, settings, _ in rows() for key in settings}
    plain = {"dataset", "image_size", "channels", "batch_size", "steps", "seeds", "dtype", "latent_size"}
    plain |= {"evaluate_every", "resize", "held_out", "held_out_by"}
    rest = {"generator_learning_rate"}
    assert set(config.to_json(ImageRecipe())) - plain - rest <= named


def test_every_experiment_is_in_the_table():
    assert {name for _, _, names in rows() for name in names} == set(NAMES)
    assert len(list(pairs())) > 300
