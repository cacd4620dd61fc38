"""--mode=import: a run's folder from NVIDIA's networks, or from our own weights, and what it is good for."""

import json
import pathlib
import re

import numpy as np
import pytest
import safetensors.numpy

from benchmarks.official_files import Call, Global, contents, dumps, file_of
from ganjax import load_generator, transfer
from ganjax.checkpoint import Checkpoints
from ganjax.official import read_official
from ganjax.weights import is_safetensors, read_weights
from tests.cli.command_line import Run, listing, runner
from tests.cli.test_usage import assert_refused
from tests.metrics.test_lpips import made_up
from tests.test_official import calls, others


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture
def network(tmp_path) -> pathlib.Path:
    path = tmp_path / "network.pkl"
    path.write_bytes(file_of(contents(channels=(4, 4), classes=3), cur_nimg=6400))
    return path


@pytest.fixture
def imported(run, tmp_path, network) -> pathlib.Path:
    answer = run("--mode=import", f"--source={network}", f"--out={tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    assert "generator, average, discriminator of 8x8x3, 3 classes, step 200" in answer.out
    return tmp_path / "run"


def test_a_run_of_official_networks(imported, network):
    """All that a run has, the optimizers as at first."""
    with Checkpoints(imported / "checkpoints", read_only=True) as checkpoints:
        found = checkpoints.latest(pytest.fail)
    assert found is not None
    step, leaves, meta = found
    assert (step, meta["images_seen"]) == (200, 6400)
    official = read_official(network)
    assert official.discriminator is not None
    for name, array in (
        ("ema/generator/synthesis/conv/kernel", official.average["synthesis"]["conv"]["kernel"]),
        ("params/discriminator/logits/kernel", official.discriminator["logits"]["kernel"]),
        ("stats/generator/noise/0", official.generator_stats["noise"]["0"]),
        ("stats/generator/styles/mean", official.generator_stats["styles"]["mean"]),
    ):
        assert np.array_equal(leaves[name], array)
    assert not any(leaf.any() for name, leaf in leaves.items() if name.startswith("opt_state"))
    record = json.loads((imported / "config.json").read_text())
    assert record["experiment"] == "stylegan2_folder"
    assert record["config"]["label_layers"] == 3
    assert record["imported"]["source"] == "network.pkl"


def test_what_is_refused(run, tmp_path, network):
    """In a line, and nothing is written."""
    out = f"--out={tmp_path / 'run'}"
    bad = tmp_path / "bad.pkl"
    left = tmp_path / "left"
    bad.write_bytes(dumps({"G_ema": Call(Global("os", "system"), f"touch {left}")}))
    full = tmp_path.parent / f"{tmp_path.name}-full"
    full.mkdir()
    (full / "file").write_text("x")
    source = f"--source={network}"
    for code, argv, message in (
        (1, (f"--source={bad}", out), "names os.system"),
        (2, (f"--source={tmp_path / 'none'}", out), "expected a file"),
        (2, (source,), "--out=FOLDER is missing"),
        (2, (out,), "--source=FILE is missing"),
        (2, (source, f"--out={full}"), "not empty"),
        (2, (source, out, "--config.style_size=7"), "the networks in the file decide that"),
        (2, (source, out, "--config.augment=ada"), "does nothing in --mode=import"),
        (2, (source, out, "--experiment=stylegan2_folder"), "--experiment does nothing"),
        (2, (source, out, "--seeds=3"), "--seeds does nothing"),
        (2, (source, out, "--config.dataset=random"), "classes"),
    ):
        assert_refused(run, ("--mode=import", *argv), code, message, tmp_path)
    assert listing(full) == {"file": b"x"}
    assert not left.exists()


def test_what_would_run_something_writes_nothing(run, tmp_path):
    left, bad = tmp_path / "left", tmp_path / "bad.pkl"
    hostile = {name: dumps(value) for name, value in calls(left).items()}
    hostile |= {name: content for name, (content, _) in others(left).items()}
    for content in hostile.values():
        bad.write_bytes(content)
        command = ("--mode=import", f"--source={bad}", f"--out={tmp_path / 'run'}")
        assert_refused(run, command, 1, "bad.pkl", tmp_path)
    assert not left.exists()


def test_our_weights_are_known_whatever_their_header_is_long(tmp_path):
    """The first byte of a pickle may be that of a length."""
    for length in range(300):
        content = safetensors.numpy.save({"a": np.ones(3, np.float32)}, {"about": "x" * length})
        assert is_safetensors(content[:9], len(content))
        if content[:1] == b"\x80":
            path = tmp_path / "weights"
            path.write_bytes(content)
            assert read_weights(path).format == "safetensors"
            break
    else:
        pytest.fail("no header of such a length")
    assert not is_safetensors(file_of(contents(channels=(2, 2)))[:9], 10**6)


@pytest.mark.slow
def test_it_serves_as_a_run(run, tmp_path, imported, network):
    """It samples, exports and goes out as one file, which comes back the same; a new run begins with it."""

    def samples(folder: pathlib.Path, name: str) -> np.ndarray:
        out = tmp_path / name
        answer = run(f"--workdir={folder}", "--mode=sample", f"--out={out}", "--seeds=0-3", "--labels=0,2")
        assert answer.code == 0, answer.err
        with np.load(out) as archive:
            return archive["image"]

    first = samples(imported, "first.npz")
    assert first.std() > 1
    weights = tmp_path / "weights.safetensors"
    answer = run(f"--workdir={imported}", "--mode=export", f"--out={weights}")
    assert answer.code == 0, answer.err
    again = tmp_path / "again"
    answer = run("--mode=import", f"--source={weights}", f"--out={again}")
    assert answer.code == 0, answer.err
    assert np.array_equal(samples(again, "again.npz"), first)
    both = [transfer.read(folder, pytest.fail) for folder in (imported, again)]
    for part in ("params", "ema", "stats"):
        names = [name for name in both[0] if name.startswith(part)]
        assert names == [name for name in both[1] if name.startswith(part)]
        assert all(np.array_equal(both[0][name], both[1][name]) for name in names)
    exported = tmp_path / "exported"
    assert run(f"--workdir={imported}", "--mode=export", f"--out={exported}").code == 0
    images = load_generator(exported)([0, 1], labels=[0, 2])
    assert images.shape == (2, 8, 8, 3)
    sizes = ["channel_base=8", "channel_max=4", "style_size=5", "latent_size=5", "image_size=8", "clamp=256"]
    more = [
        "channels=3",
        "steps=2",
        "batch_size=4",
        "r1_every=2",
        "path_length_every=2",
        "constant_noise=true",
    ]
    settings = [f"--config.{each}" for each in [*sizes, *more, "label_layers=3", "conditional=true"]]
    answer = run(
        "--experiment=stylegan2_folder",
        f"--workdir={tmp_path / 'new'}",
        "--config.dataset=random",
        f"--init_from={imported}",
        "--parallel=none",
        *settings,
    )
    # The noise that stands for data has ten classes, and the networks three: these tables alone are new.
    assert answer.code == 0, answer.err
    told = re.search(r"discriminator (\d+) of (\d+), generator (\d+) of (\d+)", answer.out + answer.err)
    assert told is not None, answer
    discriminator, of_discriminator, generator, of_generator = map(int, told.groups())
    assert (of_discriminator - discriminator, of_generator - generator) == (1, 1)


@pytest.mark.slow
def test_it_is_steered_and_measured(run, tmp_path):
    """It interpolates, is projected on, and has a path length, though nobody named its data."""
    network, folder = tmp_path / "network.pkl", tmp_path / "run"
    network.write_bytes(file_of(contents(channels=(4, 4, 4, 4))))  # 32x32
    lpips = tmp_path / "lpips.npz"
    trunk, heads = made_up("alexnet")
    np.savez(lpips, allow_pickle=False, **trunk, **heads)

    def good(*words: str) -> str:
        answer = run(f"--workdir={folder}", *words)
        assert answer.code == 0, answer.err
        return answer.out

    assert run("--mode=import", f"--source={network}", f"--out={folder}").code == 0
    good("--mode=interpolate", "--seeds=0,1", "--frames=3", f"--out={tmp_path / 'film.gif'}")
    good("--mode=sample", "--seeds=0,1", f"--out={tmp_path / 'made'}")
    words = ("--mode=project", f"--target={tmp_path / 'made'}", f"--lpips={lpips}")
    good(*words, "--steps=3", "--draws=4", f"--out={tmp_path / 'found'}")
    projected = json.loads((tmp_path / "found/projected.json").read_text())
    assert len(projected) == 2
    measured = ("--mode=evaluate", f"--lpips={lpips}", "--num_samples=8")
    found = json.loads(good(*measured, "--metrics=perceptual_path_length,perceptual_path_length_w"))
    assert all(np.isfinite(result["value"]) for result in found.values())
    source = ("--mode=import", f"--source={network}", "--config.dataset=random")
    folder = tmp_path / "again"
    assert run(*source, f"--out={folder}").code == 0
    found = json.loads(good(*measured, "--metrics=lpips_diversity"))
    assert found["lpips_diversity"]["protocol"]["real_set"] == "random"


@pytest.mark.slow
def test_weights_without_a_discriminator_get_a_new_one(run, tmp_path):
    path = tmp_path / "network.pkl"
    path.write_bytes(file_of({"G_ema": contents(channels=(4, 4))["G_ema"]}))
    answer = run("--mode=import", f"--source={path}", f"--out={tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    leaves = transfer.read(tmp_path / "run", pytest.fail)
    assert leaves["params/discriminator/conv/kernel"].std() > 0.5
    assert np.array_equal(
        leaves["ema/generator/mapping/dense_0/bias"], leaves["params/generator/mapping/dense_0/bias"]
    )
