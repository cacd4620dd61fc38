"""How samples are drawn: truncation, standing statistics, paths between classes, pictures of attention."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.cli.command_line import TOY, Run, runner, trained_in
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

HERE = str(pathlib.Path(__file__).with_name("toy_attention.py"))


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    return trained_in(HERE, tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> pathlib.Path:
    """Of a family without these options."""
    return trained_in(TOY, tmp_path_factory.mktemp("plain") / "run", "--steps=1")


def drawn(run: Run, folder: pathlib.Path, out: pathlib.Path, *flags: str) -> np.ndarray:
    answer = run(f"--workdir={folder}", "--mode=sample", "--seeds=0-7", "--labels=3", f"--out={out}", *flags)
    assert answer.code == 0, answer.err
    with np.load(out) as archive:
        return archive["image"]


def test_truncated_samples(run, trained, tmp_path):
    out = tmp_path / "x.npz"
    free = drawn(run, trained, out)
    wide = drawn(run, trained, out, "--truncation=100")
    np.testing.assert_array_equal(wide, free)
    again, clamped = (
        drawn(run, trained, out, "--truncation=0.01", f"--truncation_mode={mode}")
        for mode in ("resample", "clamp")
    )
    np.testing.assert_array_equal(drawn(run, trained, out, "--truncation=0.01"), again)
    for cut in (again, clamped):  # almost all latents alike
        assert cut.astype(int).std(axis=0).max() < 4 < free.astype(int).std(axis=0).max()
    assert (again != clamped).any()


def test_standing_statistics(run, trained, tmp_path):
    out = tmp_path / "x.npz"
    running, standing = drawn(run, trained, out), drawn(run, trained, out, "--standing_statistics=3")
    assert (running != standing).any()
    np.testing.assert_array_equal(drawn(run, trained, out, "--standing_statistics=3"), standing)
    np.testing.assert_array_equal(drawn(run, trained, out, "--standing_statistics=0"), running)


def test_protocols_say_how_samples_were_drawn(run, trained, tmp_path):
    words = (f"--workdir={trained}", "--mode=evaluate", "--num_samples=20", "--metrics=swd")
    drawing = ("--truncation=0.5", "--standing_statistics=2")
    protocols = []
    for flags in ((), drawing):
        out = tmp_path / "x.json"
        answer = run(*words, *flags, f"--out={out}")
        assert answer.code == 0, answer.err
        protocols.append(json.loads(out.read_text())["swd"]["protocol"])
    own = {"truncation": 0.5, "truncation_mode": "resample", "standing_statistics": "2 batches of 64"}
    assert [protocols[0].get(name) for name in own] == [None] * len(own)
    assert protocols[1] == protocols[0] | own


def test_from_class_to_class(run, trained, tmp_path):
    words = (f"--workdir={trained}", "--mode=interpolate", "--between=labels", "--seeds=0-1", "--labels=2,5")
    answer = run(*words, "--frames=4", f"--out={tmp_path}/")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("2 labels, 2 rows, step 1: ")
    strip = np.asarray(Image.open(tmp_path / "interpolation.png"))
    with Image.open(tmp_path / "interpolation.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 8
    cell = (strip.shape[1] - 2) // 5
    assert strip.shape == (2 * cell + 2, 5 * cell + 2)
    out = tmp_path / "ends.png"
    answer = run(f"--workdir={trained}", "--mode=sample", "--seeds=0-1", "--labels=2,5", f"--out={out}")
    assert answer.code == 0, answer.err
    ends = np.asarray(Image.open(out))

    def at(sheet, row, column):
        top, left = row * cell + 2, column * cell + 2
        return sheet[top : top + cell - 2, left : left + cell - 2].astype(int)

    for seed in (0, 1):
        for label, column in ((0, 0), (1, 4)):
            np.testing.assert_allclose(at(strip, seed, column), at(ends, label, seed), atol=1)
        assert (at(strip, seed, 2) != at(strip, seed, 0)).any()


def test_attention(run, trained, tmp_path):
    out = tmp_path / "attention.png"
    answer = run(
        f"--workdir={trained}",
        "--mode=attention",
        "--seeds=0-1",
        "--labels=0-2",
        "--queries=0x0,3x1",
        f"--out={out}",
    )
    assert answer.code == 0, answer.err
    assert answer.out == f"6 images, 2 queries, step 1: {out}\n"
    sheet = np.asarray(Image.open(out))
    cell = (sheet.shape[1] - 2) // 3
    assert sheet.shape == (6 * cell + 2, 3 * cell + 2, 3)
    assert sheet[2, 2].tolist() == [60, 220, 60]
    assert run(f"--workdir={trained}", "--mode=attention").code == 0
    assert (trained / "attention.png").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("sample --truncation=0", "--truncation=0.0: expected a number above 0"),
        ("sample --truncation=nan", "--truncation=nan: expected a number above 0"),
        ("sample --truncation_mode=clamp", "--truncation_mode does nothing without --truncation="),
        ("interpolate --between=labels --labels=3", "--labels=3: it takes two to go from one to the other"),
        ("attention --queries=8x0", "--queries=8x0: expected pixels of 8x8, as in 0x0,7x7"),
        ("attention --queries=a", "--queries=a: expected pixels of 8x8, as in 0x0,7x7"),
        ("attention --seeds=0-99", "1000 images are more than 64"),
        ("attention --out=x.gif", "--out=x.gif: expected a .png"),
        ("sample --queries=0x0", "--queries does nothing in --mode=sample; it belongs to attention"),
    ],
)
def test_bad_usage(run, trained, flags, message):
    mode, *rest = flags.split()
    rest += ["--labels=0-9"] if "--seeds=0-99" in rest else []
    answer = run(f"--workdir={trained}", f"--mode={mode}", *rest)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("sample --truncation=0.5", "--truncation: this model has no such option"),
        ("evaluate --num_samples=10 --truncation=0.5", "--truncation: this model has no such option"),
        ("sample --standing_statistics=2", "--standing_statistics: this model has no such option"),
        ("attention", "--mode=attention: this model's generator has no self-attention"),
    ],
)
def test_a_family_without_it(run, plain, flags, message):
    mode, *rest = flags.split()
    answer = run(f"--workdir={plain}", f"--mode={mode}", *rest)
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.slow
def test_networks_without_it(run, tmp_path):
    folder = trained_in(HERE, tmp_path / "run", "--config.attention=false", "--config.one_hot=true")
    answer = run(f"--workdir={folder}", "--mode=attention")
    assert (answer.code, "generator has no self-attention" in answer.err) == (2, True)
    answer = run(f"--workdir={folder}", "--mode=interpolate", "--between=labels")
    assert (answer.code, "take one class, and no mixtures" in answer.err) == (2, True)


def test_micro_batches_that_do_not_divide_the_batch(run, tmp_path):
    """Over the devices that there are: refused before anything is compiled, and no folder is made."""
    answer = run(
        f"--experiment={HERE}", f"--workdir={tmp_path / 'x'}", "--parallel=none", "--config.accumulate=3"
    )
    assert answer.code == 2
    assert (
        "--config.batch_size=8: it does not split evenly over 1 devices times 3 micro-batches" in answer.err
    )
    assert not (tmp_path / "x").exists()
