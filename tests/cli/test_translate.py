"""--mode=translate and --mode=evaluate of experiments that translate images."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from ganjax.cli import translate
from ganjax.errors import UsageError
from tests.cli.command_line import Run, Silent, runner
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

TINY = ("image_size=16", "batch_size=4", "steps=1", "width=2", "discriminator_width=2", "patch=1", "shown=2")
TINY += ("jitter=0", "flip=false")


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


def opened(path: pathlib.Path) -> Image.Image:
    """A picture whose file is closed."""
    with Image.open(path) as picture:
        picture.load()
        return picture.copy()


def drawings(folder: pathlib.Path, count: int, mode: str, channels: int) -> None:
    folder.mkdir(parents=True)
    draw = np.random.default_rng(channels)
    for i in range(count):
        pixels = draw.integers(0, 256, (16, 16, channels), np.uint8)
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode).save(folder / f"{i}.png")


def trained(folder: pathlib.Path, name: str, *settings: str) -> pathlib.Path:
    drawings(folder / "A", 12, "RGB", 3)
    drawings(folder / "B", 12, "L", 1)
    words = [f"--config.{setting}" for setting in (*TINY, *settings)]
    sets = [f"--config.domain_{side.lower()}={folder / side}" for side in "AB"]
    flags = [f"--experiment={name}", f"--workdir={folder / 'run'}", "--parallel=none", *words, *sets]
    answer = runner(Silent)(*flags, "--config.channels=3,1", "--config.held_out=0.5")
    assert answer.code == 0
    return folder


@pytest.fixture(scope="module")
def paired(tmp_path_factory) -> pathlib.Path:
    settings = ("stages=1", "evaluate_every=1")
    return trained(tmp_path_factory.mktemp("paired"), "pix2pix_emoji", *settings)


def test_pictures_while_it_trains(paired):
    """Of each of two held-out inputs the input, the output and the target."""
    sheet = opened(paired / "run/samples/00000001.png")
    assert sheet.size == (3 * 50 + 2, 2 * 50 + 2)


def test_the_best_checkpoint_is_kept(paired):
    """Without being asked to: by a metric of the judge."""
    meta = json.loads(next((paired / "run/checkpoints").rglob("meta*/metadata")).read_text())
    assert meta["keep_best"] == "l1:min"
    assert "l1" in meta["metrics"]


def test_names_sizes_and_alpha_are_kept(run, paired, tmp_path):
    (tmp_path / "in/sub").mkdir(parents=True)
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (13, 21, 3), np.uint8)).save(tmp_path / "in/photo.jpg")
    alpha = draw.integers(0, 255, (16, 16, 4), np.uint8)
    Image.fromarray(alpha).save(tmp_path / "in/sub/drawn.png")
    out = tmp_path / "out"
    answer = run(
        f"--workdir={paired / 'run'}", "--mode=translate", f"--input={tmp_path / 'in'}", f"--out={out}"
    )
    assert answer.code == 0, answer.err
    assert answer.out == f"2 images, AtoB of step 1: {out}; side by side in comparison.png\n"
    found = {str(path.relative_to(out)) for path in out.rglob("*.png")}
    assert found == {"photo.png", "sub/drawn.png", "comparison.png"}
    assert opened(out / "photo.png").size == (21, 13)
    assert opened(out / "photo.png").mode == "L"
    drawn = np.asarray(opened(out / "sub/drawn.png"))
    np.testing.assert_array_equal(drawn[..., 3], alpha[..., 3])
    again = tmp_path / "again"
    flags = (f"--workdir={paired / 'run'}", "--mode=translate", f"--out={again}")
    assert run(*flags, f"--input={tmp_path / 'in/photo.jpg'}").code == 0
    assert (again / "photo.png").read_bytes() == (out / "photo.png").read_bytes()


def test_a_damaged_image_is_left_out(run, paired, tmp_path):
    draw = np.random.default_rng(0)
    for side in ("in", "truth"):
        (tmp_path / side).mkdir()
        for name in "abc":
            pixels = draw.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / side / f"{name}.png")
    (tmp_path / "in/b.png").write_bytes(b"no image")
    (tmp_path / "truth/c.png").write_bytes(b"no image")
    out = tmp_path / "out"
    flags = (f"--workdir={paired / 'run'}", "--mode=translate", f"--out={out}")
    answer = run(*flags, f"--input={tmp_path / 'in'}", f"--target={tmp_path / 'truth'}")
    assert answer.code == 1
    assert answer.out == f"2 of 3 images, AtoB of step 1: {out}; side by side in comparison.png\n"
    for name in ("in/b.png", "truth/c.png"):
        assert f"{name}: not an image in a known format; remove or replace it" in answer.err
    assert {path.name for path in out.iterdir()} == {"a.png", "c.png", "comparison.png"}
    assert opened(out / "comparison.png").width == 3 * 48 + 8
    alone = run(*flags, f"--input={tmp_path / 'in/b.png'}")
    assert alone.code == 1
    assert "nothing was translated" in alone.err


def test_what_is_transparent_looks_as_the_network_meant_it():
    """Over white, which is what its inputs are laid on."""
    draw = np.random.default_rng(0)
    alpha = draw.integers(1, 256, (8, 8, 1), np.uint8)
    bare = draw.integers(0, 256, (8, 8, 3), np.uint8)
    share = alpha / 255
    meant = np.round(bare * share + 255 * (1 - share)).astype(np.uint8)
    found = translate.with_alpha(meant, alpha)
    np.testing.assert_array_equal(found[..., 3:], alpha)
    again = found[..., :3] * share + 255 * (1 - share)
    assert np.abs(again - meant).max() <= 0.51
    nothing = translate.with_alpha(meant, np.zeros_like(alpha))
    np.testing.assert_array_equal(nothing[..., :3], meant)
    dark = translate.with_alpha(np.zeros((1, 1, 1), np.uint8), np.full((1, 1, 1), 128, np.uint8))
    assert dark.tolist() == [[[0, 0, 0, 128]]]  # no colour of half a share is as dark


def test_evaluate_says_how_far_baselines_are(run, paired):
    answer = run(f"--workdir={paired / 'run'}", "--mode=evaluate")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert set(found) == {"l1", "psnr", "ssim", "pixel_kernel_distance", "verdict"}
    assert found["l1"]["protocol"]["pairs"] == 6
    for baseline in ("identity", "colour_map"):
        beside = found["l1"][f"than_{baseline}"]
        difference = found["l1"]["value"] - found["l1"][baseline]
        assert beside["difference"] == pytest.approx(difference)
        assert beside["low"] <= difference <= beside["high"]
    # After a step: noise is not better than the colours of the input, fitted.
    assert any("l1: it is not better than a change of colours" in x for x in found["verdict"]["against"])
    answer = run(f"--workdir={paired / 'run'}", "--mode=evaluate", "--metrics=fid")
    assert answer.code == 2
    assert "--metrics=fid: it needs the FID Inception" in answer.err
    answer = run(f"--workdir={paired / 'run'}", "--mode=evaluate", "--num_samples=1")
    assert answer.code == 0, answer.err
    assert set(json.loads(answer.out)) == {"l1", "psnr", "ssim", "verdict"}
    assert "pixel_kernel_distance, fid, kid: left out, for a set has at least 2 images" in answer.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mode=translate",), "--input=FILE|FOLDER is missing"),
        (("--mode=translate", "--input=nowhere"), "--input=nowhere: no such file or folder"),
        (
            ("--mode=translate", "--input=A", "--direction=BtoA"),
            "--direction=BtoA: this model has AtoB alone",
        ),
        (("--mode=translate", "--input=A", "--target=none"), "--target=none: no such file or folder"),
        (("--mode=translate", "--input=A", "--out=x.png"), "--out=x.png: expected a folder"),
        (("--mode=translate", "--input=A", "--out=A"), "--out=A: the images lie there themselves"),
        (
            ("--mode=translate", "--input=A", "--out=A/new"),
            "--out=A/new: it lies in --input=A, and would be read",
        ),
        (("--mode=translate", "--input=link/A", "--out=B/../A/new"), "--out=B/../A/new: it lies in --input"),
        (
            ("--mode=translate", "--input=A", "--target=B", "--out=B"),
            "--out=B: translations would take the place of --target",
        ),
        (("--mode=translate", "--input=A", "--target=run/samples"), "--target=run/samples: no image there"),
        (("--mode=translate", "--input=A", "--steps=3"), "--steps does nothing in --mode=translate"),
        (
            ("--mode=evaluate", "--num_samples=1", "--metrics=l1,pixel_kernel_distance"),
            "--metrics=pixel_kernel_distance: a set has at least 2 images, and 1 of those held out",
        ),
        (("--mode=sample",), "--mode=sample: this model draws from what it is given"),
        (("--mode=export",), "--mode=export: this model draws from what it is given"),
    ],
)
def test_mistakes(run, paired, monkeypatch, flags, message):
    monkeypatch.chdir(paired)
    if not (link := paired / "link").exists():
        link.symlink_to(paired)
    answer = run("--workdir=run", *flags)
    assert answer.code == 2, answer.err
    assert message in answer.err


@pytest.mark.slow
def test_cyclegan_goes_both_ways(run, tmp_path):
    folder = trained(tmp_path, "cyclegan_folders", "blocks=1", "identity=0", "pool_size=3")
    for side, direction, mode in (("A", "AtoB", "L"), ("B", "BtoA", "RGB")):
        out = tmp_path / direction
        flags = (f"--input={folder / side}", f"--direction={direction}", f"--out={out}")
        answer = run(f"--workdir={folder / 'run'}", "--mode=translate", *flags, f"--target={folder / 'A'}")
        assert answer.code == 0, answer.err
        assert opened(out / "3.png").mode == mode
        # Input, output, target and what comes back.
        assert opened(out / "comparison.png").width == 4 * 48 + 10
    answer = run(f"--workdir={folder / 'run'}", "--mode=evaluate")
    found = json.loads(answer.out)
    assert {"cycle_l1_AtoB", "cycle_l1_BtoA", "pixel_kernel_distance_AtoB"} <= set(found)
    assert 0 < found["cycle_l1_AtoB"]["value"] < 2


@pytest.mark.parametrize(
    ("size", "multiple", "least", "padded"),
    [((5, 8), 4, 1, (8, 8)), ((8, 8), 8, 8, (8, 8)), ((1, 3), 4, 8, (8, 8)), ((9, 17), 8, 1, (16, 24))],
)
def test_padding_is_cut_off_again(size, multiple, least, padded):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    wide, crop = translate.pad(image, multiple, least)
    assert wide.shape[:2] == padded
    np.testing.assert_array_equal(wide[crop], image)
    below = crop[0].stop
    if below < padded[0] and size[0] > 1:  # its reflection, without the edge
        np.testing.assert_array_equal(wide[below, crop[1]], image[-2])


def test_an_example_without_a_target_leaves_its_place_blank():
    shades = [np.full((8, 8, 3), shade, np.uint8) for shade in (10, 50, 100, 200)]
    sheet = translate.comparison([shades, [*shades[:2], None, shades[3]]])
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 4
    cells = [sheet[height + height // 2, column * width + width // 2, 0] for column in range(4)]
    assert cells == [10, 50, 255, 200]


def test_names_of_inputs(tmp_path):
    for name in ("a.png", "a.bmp", "b/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    tasks = translate.tasks_of(tmp_path)
    assert [task.name for task in tasks] == ["a.bmp", "a.png", "b/c"]
    assert [task.name for task in translate.tasks_of(tmp_path / "a.png")] == ["a"]
    Image.new("L", (2, 2)).save(tmp_path / "a.bmp.png")
    names = [task.name for task in translate.tasks_of(tmp_path)]
    assert names == ["a.bmp", "a.bmp.png", "a.png", "b/c"]
    names = [task.name for task in tasks]
    assert translate.free_name("comparison", names) == "comparison"
    assert translate.free_name("comparison", [*names, "comparison"]) == "comparison_"
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no images found"):
        translate.tasks_of(tmp_path / "none")
