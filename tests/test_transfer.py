"""A new run with the weights of another: what is taken, from where, and what is refused."""

import json

import flax.linen as nn
import numpy as np
import optax
import pytest
import safetensors.numpy

from ganjax import data, optim
from ganjax.errors import RunError, UsageError
from ganjax.families.recipe import layers_of
from ganjax.gan import GanState
from ganjax.nets.stylegan2 import StyleGAN2Discriminator
from ganjax.transfer import read, with_weights
from tests.cli.command_line import TOY, runner, train


def state_of(value: float, ema: bool = True) -> GanState:
    params = {"generator": {"a": np.full(2, value, np.float32), "b": np.full(3, value, np.float32)}}
    return GanState(
        step=np.int32(value),  # pyright: ignore[reportArgumentType]
        params=params,
        stats={"generator": {"mean": np.full(1, value, np.float32)}},
        opt_state={"generator": np.full(1, value, np.float32)},
        ema=params if ema else {},
        carry=np.full(1, value, np.float32),
    )


def taken(leaves: dict[str, np.ndarray]) -> tuple[GanState, str]:
    return with_weights(state_of(0.0), leaves, "there")


def test_what_is_taken():
    leaves = {
        "params/generator/a": np.full(2, 1, np.float32),
        "params/generator/b": np.full(4, 1, np.float32),  # of another shape
        "ema/generator/a": np.full(2, 2, np.float32),
        "stats/generator/mean": np.full(1, 3, np.float32),
        "opt_state/generator": np.full(1, 4, np.float32),
        "carry": np.full(1, 4, np.float32),
    }
    state, message = taken(leaves)
    assert state.params["generator"]["a"].tolist() == [1, 1]
    assert state.ema["generator"]["a"].tolist() == [2, 2]
    assert state.params["generator"]["b"].tolist() == state.ema["generator"]["b"].tolist() == [0, 0, 0]
    assert state.stats["generator"]["mean"].tolist() == [3]
    assert int(state.step) == state.opt_state["generator"] == state.carry == 0
    assert message == "arrays from there: generator 1 of 2; optimizers afresh"


@pytest.mark.parametrize(("there", "instead"), [("ema", "params"), ("params", "ema")])
def test_one_stands_for_the_other(there, instead):
    """An exported generator has its averages alone."""
    state, _ = taken({f"{there}/generator/b": np.full(3, 5, np.float32)})
    for part in (there, instead):
        assert getattr(state, part)["generator"]["b"].tolist() == [5, 5, 5]


def test_nothing_fits():
    with pytest.raises(UsageError, match="--init_from=there: none of its weights fits"):
        taken({"params/generator/a": np.full(2, 1, np.float16), "stats/generator/mean": np.zeros(1)})


def test_a_layer_that_is_not_to_move_is_taken_whole():
    there = {"params/generator/a": np.full(2, 1, np.float32)}
    state, _ = with_weights(state_of(0.0), there, "there", ["generator/a"])
    assert state.params["generator"]["a"].tolist() == [1, 1]
    with pytest.raises(UsageError, match=r"--init_from=there: generator/b of 3 is not there.*freeze_d"):
        with_weights(state_of(0.0), there, "there", ["generator/a", "generator/b"])
    other = {**there, "params/generator/b": np.full(4, 1, np.float32)}
    with pytest.raises(UsageError, match="generator/b of 3"):
        with_weights(state_of(0.0), other, "there", ["generator/b"])


def test_layers_that_do_not_move_are_of_another_run(capsys, tmp_path):
    run = runner(capsys)
    words = ["--experiment=stylegan2_mnist", "--config.freeze_d=1", "--config.dataset=random"]
    answer = run(*words, f"--workdir={tmp_path / 'new'}")
    assert answer.code == 2
    assert "discriminator/image: layers that do not move would keep random weights" in answer.err
    assert not (tmp_path / "new").exists()


def test_what_does_not_fit_leaves_no_folder(capsys, tmp_path):
    """In which the mended command would find another run."""
    run = runner(capsys)
    words = [f"--experiment={TOY}", f"--workdir={tmp_path / 'new'}"]
    answer = run(*words, f"--init_from={tmp_path / 'none'}")
    assert answer.code == 2
    assert "expected the folder of a run" in answer.err
    file = tmp_path / "other.safetensors"
    file.write_bytes(safetensors.numpy.save({"params/generator/none": np.zeros(1, np.float32)}))
    answer = run(*words, f"--init_from={file}")
    assert answer.code == 2
    assert "none of its weights fits this model's" in answer.err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_command(capsys, tmp_path):
    run = runner(capsys)
    train(run, tmp_path / "old", "--steps=1")
    old = read(tmp_path / "old", pytest.fail)
    answer = train(run, tmp_path / "new", "--seed=5", "--steps=1", f"--init_from={tmp_path / 'old'}")
    assert f"arrays from {tmp_path / 'old'}: " in answer.out + answer.err
    assert json.loads((tmp_path / "new/config.json").read_text())["init_from"] == str(tmp_path / "old")
    train(run, tmp_path / "plain", "--seed=5", "--steps=1")
    new, plain = (read(tmp_path / name, pytest.fail) for name in ("new", "plain"))
    name = next(name for name in old if name.startswith("params/") and old[name].ndim > 1)
    assert np.abs(new[name] - old[name]).max() < np.abs(plain[name] - old[name]).max()
    assert int(new["step"]) == 1
    # Going on, nothing is taken again; and without the flag it is another run.
    again = train(run, tmp_path / "new", "--seed=5", "--steps=2", f"--init_from={tmp_path / 'old'}")
    assert "arrays from" not in again.out + again.err
    answer = run(f"--experiment={TOY}", f"--workdir={tmp_path / 'new'}", "--mode=sample", "--init_from=x")
    assert answer.code == 2
    assert "--init_from" in answer.err


def test_where_there_is_nothing(tmp_path):
    with pytest.raises(UsageError, match="expected the folder of a run"):
        read(tmp_path, pytest.fail)
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(RunError, match="damaged"):
        read(tmp_path / "weights.safetensors", pytest.fail)


def test_frozen_layers():
    params = {"first": np.ones(2, np.float32), "second": np.ones(2, np.float32)}
    optimizer = optim.frozen(optax.sgd(1.0), ["first"])
    updates, _ = optimizer.update(params, optimizer.init(params), params, step=0)
    assert np.asarray(updates["first"]).tolist() == [0, 0]  # pyright: ignore
    assert np.asarray(updates["second"]).tolist() == [-1, -1]  # pyright: ignore


def test_layers_are_in_the_order_in_which_an_image_meets_them():
    discriminator = StyleGAN2Discriminator(1, channel_base=4, channel_max=4)
    layers = layers_of(discriminator, data.load("random", image_size=8), False)
    assert layers == ["image", "conv_1", "down_1", "skip_1", "conv", "dense", "logits"]

    class Labelled(nn.Module):
        @nn.compact
        def __call__(self, images, labels, *, train):
            return nn.Dense(1, name="z")(images[:, 0, 0]) + nn.Embed(10, 1, name="a")(labels)

    assert layers_of(Labelled(), data.load("random", image_size=8), True) == ["z", "a"]
