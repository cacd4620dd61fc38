"""--mode=explore: what it draws is what --mode=sample draws. The server itself: tests/explorer."""

import pathlib
import shlex
import types
from typing import Any

import pytest
from PIL import Image

from ganjax.cli import Signals, command, experiments, explore, workdir
from ganjax.cli.command import Command
from ganjax.explorer import app
from ganjax.explorer.app import Explored
from tests.cli.command_line import Run, Silent, runner
from tests.doubles import compiled_fast
from tests.explorer.browser import Page, chromium, served

__all__ = ["compiled_fast"]  # the fixture

pytest.importorskip("flask")
HERE = pathlib.Path(__file__).parent
TOY_STYLE = str(HERE / "toy_style.py")


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("trained") / "a run"
    answer = runner(Silent)(f"--experiment={TOY_STYLE}", f"--workdir={folder}", "--parallel=none")
    assert answer.code == 0, answer.err
    return folder


def explored_of(folder: pathlib.Path, *flags: str) -> Explored:
    """What the mode serves."""
    values = command.read_flags([f"--workdir={folder}", "--mode=explore", *flags])
    name = workdir.read_config(folder)["experiment"]
    module = experiments.find(name, "experiments")
    asked = Command(name, module, {}, values, "experiments", Signals(), 0.0)
    opened = workdir.open_run(asked)
    return explore.explored_of(asked, opened, *workdir.chosen_state(asked, opened))


@pytest.fixture(scope="module")
def explored(trained) -> Explored:
    return explored_of(trained)


QUERIES = (
    {},
    {"seed": "5", "label": "1", "truncation": "0.7", "noise": "none"},
    {"seed": "6", "truncation": "-0.3", "mix_seed": "9", "mix_layers": "1-2", "noise": "const"},
    {"seed": "6", "direction_0": "2.5", "direction_2": "-1"},
)


@pytest.mark.parametrize("query", QUERIES)
def test_the_command_makes_the_picture_that_is_seen(run, explored, tmp_path, monkeypatch, query):
    flags = explored.controls.flags(query.items())
    words = shlex.split(explored.command(flags))
    assert words[:2] == ["python", "run.py"]
    assert words[-1] == "--out=picture.png"
    monkeypatch.chdir(tmp_path)
    answer = run(*words[2:])
    assert answer.code == 0, answer.err
    assert explored.draw(flags) == (tmp_path / "picture.png").read_bytes()


def test_every_control_changes_the_picture(explored):
    pictures = {explored.draw(explored.controls.flags(query.items())) for query in QUERIES}
    for name, value in (("seed", "1"), ("label", "2"), ("truncation", "0.5"), ("noise", "none")):
        pictures.add(explored.draw(explored.controls.flags([(name, value)])))
    for query in ({"mix_seed": "1", "mix_layers": "0-1"}, {"direction_1": "1"}):
        pictures.add(explored.draw(explored.controls.flags(query.items())))
    assert len(pictures) == len(QUERIES) + 6


def test_controls_and_directions_of_a_model_with_styles(explored, trained):
    controls = explored.controls
    assert (controls.truncation, controls.layers, controls.classes) == ("psi", 3, 10)
    assert controls.noise == ("random", "const", "none")
    assert 1 <= len(controls.directions) <= 4
    assert list(controls.directions) == sorted(controls.directions, reverse=True)
    (file,) = (trained / "explore").iterdir()
    assert str(file) == controls.directions_file
    before = file.read_bytes()
    again = explored_of(trained, f"--directions={file}").controls
    assert again.directions == controls.directions
    assert file.read_bytes() == before


def test_directions_of_another_network_are_refused(run, trained, tmp_path):
    import numpy as np

    from ganjax.steering import principal_directions, save_directions

    path = tmp_path / "d.npz"
    save_directions(path, principal_directions(np.random.default_rng(0).normal(size=(9, 6)), 2))
    answer = run(f"--workdir={trained}", "--mode=explore", "--port=0", f"--directions={path}")
    assert answer.code == 2
    assert "they have 6 entries, and this network's styles 4" in answer.err


def test_a_port_that_is_taken_is_one_line(run, trained):
    with app.listening("localhost", 0) as listener:
        port = listener.getsockname()[1]
        answer = run(f"--workdir={trained}", "--mode=explore", f"--port={port}")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert f"port {port}" in answer.err


class Idle:
    """In the place of a server."""

    def serve_forever(self) -> None:
        pass


def test_beyond_localhost_is_warned_of(run, trained, monkeypatch):
    locals_ = []
    create = app.create_app
    monkeypatch.setattr(app, "create_app", lambda shown, local: locals_.append(local) or create(shown, local))
    monkeypatch.setattr(app, "server_of", lambda *_: Idle())
    answer = run(f"--workdir={trained}", "--mode=explore", "--port=0", "--host=0.0.0.0")
    assert (answer.code, locals_) == (0, [False])
    assert answer.err == (
        "ganjax: --host=0.0.0.0: everyone who reaches this machine can use the page, without a password\n"
    )
    answer = run(f"--workdir={trained}", "--mode=explore", "--port=0")
    assert (answer.code, answer.err, locals_[1]) == (0, "", True)
    assert "http://localhost:" in answer.out


@pytest.mark.slow
def test_the_command_on_the_page_makes_the_picture_on_the_page(run, explored, tmp_path, monkeypatch):
    with chromium(tmp_path / "profile") as driver, served(explored) as address:
        from selenium.webdriver.common.keys import Keys

        page = Page(driver, address)
        page.wait("seed=0")
        pictures = [page.pixels()]
        for name, key, part in (
            ("seed", Keys.ARROW_UP, "seed=1"),
            ("label", "4", "label=4"),
            ("truncates", Keys.SPACE, "truncation=0.7"),
            ("mixes", Keys.SPACE, "mix_seed=1"),
            ("mix_seed", Keys.ARROW_UP, "mix_seed=2"),
            ("direction_0", Keys.ARROW_RIGHT, "direction_0=0.1"),
        ):
            page.press(name, key)
            page.wait(part)
            pictures.append(page.pixels())
        page["show"].click()
        command, file = page.text_of("command"), page.file()
        assert page.complaints() == []
    assert len(set(pictures)) >= 6  # the styles of the picture's own seed change nothing
    words = shlex.split(command)
    assert words[:2] == ["python", "run.py"]
    monkeypatch.chdir(tmp_path)
    answer = run(*words[2:])
    assert answer.code == 0, answer.err
    assert (tmp_path / "picture.png").read_bytes() == file
    assert Image.open(tmp_path / "picture.png").convert("RGBA").tobytes() == pictures[-1]


@pytest.mark.parametrize(("kinds", "drawn"), [(("random", "none"), ["random", "none"]), ((), [None])])
def test_every_kind_of_noise_is_drawn_before_the_page_is_there(kinds, drawn):
    asked = []

    def flags(query):
        return [dict(query).get("noise")]

    controls: Any = types.SimpleNamespace(noise=kinds, flags=flags)
    explored: Any = types.SimpleNamespace(controls=controls, draw=asked.extend)
    explore.draw_first(explored)
    assert asked == drawn
