"""The README's examples, as they stand."""

import pathlib
import re
import shlex

import pytest

from ganjax import cli

README = pathlib.Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def namespace():
    """What the first two examples leave behind: they go together."""
    names: dict = {}
    for code in blocks("python")[:2]:
        exec(compile(code, "README.md", "exec"), names)
    return names


def test_train_step_inside_jit(namespace):
    assert int(namespace["state"].step) == 1


def test_train_step_inside_pmap(namespace):
    import jax

    assert namespace["replicated"].step.tolist() == [2] * jax.local_device_count()
    assert set(namespace["metrics"]) >= {"generator_loss", "discriminator_loss"}


def test_examples_are_short():
    assert len(blocks("python")) == 3
    for code in blocks("python"):
        lines = [line for line in code.splitlines() if line.strip()]
        assert len(lines) < 20, code


def test_experiment_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("my_gan.py").write_text(blocks("python")[2])
    command = next(line for block in blocks("sh") for line in block.splitlines() if "my_gan.py" in line)
    words = shlex.split(command)
    assert words[:2] == ["python", "run.py"]
    words = [word if not word.startswith("--steps") else "--steps=1" for word in words[2:]]
    assert cli.main([*words, "--config.dataset=random", "--parallel=none"], package="experiments") == 0
    assert (tmp_path / "runs/my_gan-seed0/result.json").exists()


def test_modes_of_the_table_exist():
    from ganjax.cli import command

    table = re.findall(r"^\| `(\w+)` \|", README.read_text(), re.MULTILINE)
    assert set(table) & {*command.MODES, "list"} == {*command.MODES, "list"}
