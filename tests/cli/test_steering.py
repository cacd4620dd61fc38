"""Steering a trained run: what --mode=sample, interpolate, style_mix, project and pca do with styles."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.cli.command_line import TOY, Answer, Run, runner, trained_in
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

HERE = str(pathlib.Path(__file__).with_name("toy_style.py"))


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    """Without classes."""
    return trained_in(HERE, tmp_path_factory.mktemp("trained") / "run", "--config.conditional=false")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> pathlib.Path:
    return trained_in(HERE, tmp_path_factory.mktemp("conditional") / "run")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> pathlib.Path:
    """Of a family without styles."""
    return trained_in(TOY, tmp_path_factory.mktemp("plain") / "run", "--steps=1")


def good(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def sampled(run: Run, folder: pathlib.Path, out: pathlib.Path, *flags: str) -> np.ndarray:
    good(run(f"--workdir={folder}", "--mode=sample", f"--out={out}", *flags))
    with np.load(out) as archive:
        return archive["image"]


def cells(path: pathlib.Path, columns: int) -> np.ndarray:
    """uint8 [n, 8, 8], the images of a sheet, of which each pixel is a square."""
    sheet = np.asarray(Image.open(path))
    cell = (sheet.shape[1] - 2) // columns
    rows, scale = (sheet.shape[0] - 2) // cell, (cell - 2) // 8
    tops = [(2 + i * cell, 2 + j * cell) for i in range(rows) for j in range(columns)]
    return np.stack([sheet[y : y + 8 * scale : scale, x : x + 8 * scale : scale] for y, x in tops])


def test_noise_truncation_and_mixtures_of_samples(run, trained, tmp_path):
    out = tmp_path / "x.npz"
    own, const, none, centre, first, mixed = (
        sampled(run, trained, out, "--seeds=0-2", *flags)
        for flags in (
            (),
            ("--noise=const",),
            ("--noise=none",),
            ("--noise=none", "--truncation=0"),
            ("--noise=none", "--truncation=0", "--truncation_cutoff=1"),
            ("--noise=none", "--mix=1:1-2"),
        )
    )
    np.testing.assert_array_equal(own[0], const[0])  # constant is seed 0's
    assert (own[1] != const[1]).any()
    assert (none[0] != const[0]).any()
    added = const.astype(int) - none  # the same for all, but where white and black are reached
    inside = np.all((const > 0) & (const < 255) & (none > 0) & (none < 255), axis=0)
    assert inside.any()
    assert (np.abs(added - added[:1]).max(0)[inside] <= 1).all()
    np.testing.assert_array_equal(centre[0], centre[1])
    assert (first[0] != first[1]).any()
    assert (first[0] != none[0]).any()
    np.testing.assert_array_equal(mixed[1], none[1])
    assert (mixed[0] != none[0]).any()
    assert (mixed[0] != none[1]).any()


@pytest.mark.slow
def test_a_figure_of_mixtures_has_their_sources_at_its_edges(run, conditional, tmp_path):
    out = tmp_path / "mix.png"
    answer = good(
        run(
            f"--workdir={conditional}",
            "--mode=style_mix",
            "--rows=3,5",
            "--columns=7-9",
            "--layers=1,2",
            "--labels=4",
            f"--out={out}",
        )
    )
    assert "2 rows, 3 columns, layers 1,2" in answer.out
    figure = cells(out, 4).reshape(3, 4, 8, 8)
    flags = ("--labels=4", "--noise=const")
    sources = sampled(run, conditional, tmp_path / "x.npz", "--seeds=3,5,7-9", *flags)[..., 0]
    assert (figure[0, 0] == 255).all()
    np.testing.assert_array_equal(figure[1:, 0], sources[:2])
    np.testing.assert_array_equal(figure[0, 1:], sources[2:])
    for column, seed in enumerate((7, 8, 9)):
        mixed = sampled(run, conditional, tmp_path / "x.npz", "--seeds=3", f"--mix={seed}:1-2", *flags)
        np.testing.assert_array_equal(figure[1, 1 + column], mixed[0, ..., 0])


def test_directions_move_seeds(run, trained, tmp_path):
    good(
        run(
            f"--workdir={trained}",
            "--mode=pca",
            "--components=3",
            "--seeds=0,1",
            "--num_samples=500",
            "--amount=2",
            f"--out={tmp_path / 'pca'}",
        )
    )
    names = sorted(path.name for path in (tmp_path / "pca").iterdir())
    assert names == ["component0.png", "component1.png", "component2.png", "directions.npz"]
    strip = cells(tmp_path / "pca" / "component1.png", 7).reshape(2, 7, 8, 8)
    directions = f"--directions={tmp_path / 'pca' / 'directions.npz'}"
    out, flags = tmp_path / "x.npz", ("--seeds=0-1", "--noise=const")
    np.testing.assert_array_equal(strip[:, 3], sampled(run, trained, out, *flags)[..., 0])
    moved = sampled(run, trained, out, *flags, directions, "--move=1:2")[..., 0]
    np.testing.assert_array_equal(strip[:, 6], moved)
    # Of a network that adds its layers up, a step is the same in pixels whatever it is taken from.
    twice = sampled(run, trained, out, *flags, directions, "--move=1:1,1:1:0-2")[..., 0]
    assert np.abs(twice.astype(int) - moved).max() <= 1


@pytest.mark.slow
def test_walks_through_styles(run, trained, conditional, tmp_path):
    common = ("--mode=interpolate", "--frames=2", "--noise=none")
    out = tmp_path / "w.png"
    good(
        run(
            f"--workdir={trained}",
            *common,
            "--seeds=0-3",
            "--paths=2",
            "--space=w",
            "--loop",
            f"--out={out}",
        )
    )
    found = cells(out, 4)  # two rows: there and back
    ends = sampled(run, trained, tmp_path / "x.npz", "--seeds=0-3", "--noise=none")[..., 0]
    np.testing.assert_array_equal(found[[0, 2, 4, 6]], ends)
    np.testing.assert_array_equal(found[1], found[3])
    halves = (ends[0].astype(float) + ends[1]) / 2
    inside = (ends[:2] > 0).all(0) & (ends[:2] < 255).all(0)
    assert np.abs(found[1] - halves)[inside].max() <= 1  # the toy is linear in its styles

    out = tmp_path / "z.gif"
    good(run(f"--workdir={trained}", *common, "--seeds=0-1", "--noloop", f"--out={out}"))
    with Image.open(out) as film:
        assert len(list(ImageSequence.Iterator(film))) == 3
        assert "loop" not in film.info
    out = tmp_path / "labels.png"
    flags = ("--seeds=5", "--labels=1,2", "--between=labels", "--space=w")
    good(run(f"--workdir={conditional}", *common, *flags, f"--out={out}"))
    ends = sampled(run, conditional, tmp_path / "x.npz", "--seeds=5", "--labels=1,2", "--noise=none")
    np.testing.assert_array_equal(cells(out, 3)[[0, 2]], ends[..., 0])


def test_projecting_what_the_generator_made_returns_to_it(run, trained, tmp_path):
    made = tmp_path / "made"
    good(
        run(
            f"--workdir={trained}",
            "--mode=sample",
            "--seeds=70,71",
            "--noise=const",
            f"--out={made}",
        )
    )
    out = tmp_path / "found"
    project = (f"--workdir={trained}", "--mode=project", f"--target={made}", f"--out={out}")
    answer = good(run(*project, "--steps=100", "--draws=20"))
    assert "by squared difference of pixels (--lpips=FILE" in answer.out
    rows = json.loads((out / "projected.json").read_text())
    assert [row["image"] for row in rows] == ["seed000070", "seed000071"]
    for row in rows:
        image = np.asarray(Image.open(made / f"{row['image']}.png")) / 127.5 - 1
        assert row["distance"] == "pixels"
        assert row["pixels"] < 0.15 * image.var()
    assert {path.name for path in out.iterdir()} == {
        "projected.json",
        *(f"seed00007{i}.{kind}" for i in (0, 1) for kind in ("npz", "png", "gif")),
    }
    with Image.open(out / "seed000070.gif") as film:
        assert len(list(ImageSequence.Iterator(film))) > 10
    pair = cells(out / "seed000070.png", 2)
    np.testing.assert_array_equal(pair[0], np.asarray(Image.open(made / "seed000070.png")))
    # The latent is drawn again as it was found, and moved.
    drawn = tmp_path / "drawn"
    latents = f"--latent={out / 'seed000070.npz'},{out / 'seed000071.npz'}"
    good(run(f"--workdir={trained}", "--mode=sample", latents, f"--out={drawn}"))
    np.testing.assert_array_equal(np.asarray(Image.open(drawn / "seed000070.png")), pair[1])
    good(
        run(
            f"--workdir={trained}",
            "--mode=pca",
            "--components=1",
            "--num_samples=50",
            f"--out={tmp_path / 'pca'}",
        )
    )
    move = (f"--directions={tmp_path / 'pca' / 'directions.npz'}", "--move=0:2")
    good(run(f"--workdir={trained}", "--mode=sample", latents, *move, f"--out={drawn}"))
    assert (np.asarray(Image.open(drawn / "seed000070.png")) != pair[1]).any()


@pytest.mark.slow
def test_a_generator_without_styles_is_projected_into_z(run, plain, tmp_path):
    good(run(f"--workdir={plain}", "--mode=sample", "--seeds=2000", "--labels=3", f"--out={tmp_path / 'a'}"))
    target = tmp_path / "a" / "3" / "seed002000.png"
    out = tmp_path / "out"
    good(
        run(
            f"--workdir={plain}",
            "--mode=project",
            f"--target={target}",
            "--labels=3",
            "--steps=60",
            f"--out={out}",
        )
    )
    (row,) = json.loads((out / "projected.json").read_text())
    assert row["space"] == "z"
    assert row["pixels"] < 0.01
    with np.load(out / "seed002000.npz") as archive:
        assert set(archive) == {"space", "latent", "label", "distance", "step"}
    latent = f"--latent={out / 'seed002000.npz'}"
    good(run(f"--workdir={plain}", "--mode=sample", latent, f"--out={tmp_path / 'b'}"))
    drawn = np.asarray(Image.open(tmp_path / "b" / "seed002000.png"))
    assert np.abs(drawn.astype(int) - np.asarray(Image.open(target))).mean() < 8


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--mode=sample", "--noise=loud"), "should be one of"),
        (("--mode=sample", "--truncation_cutoff=1"), "--truncation_cutoff does nothing without"),
        (
            ("--mode=sample", "--truncation=1", "--truncation_cutoff=4"),
            "truncation_cutoff=4: expected 0 to 3",
        ),
        (("--mode=sample", "--mix=1:2-3"), "--mix=2-3: layer 3: this network has the layers 0-2"),
        (("--mode=sample", "--mix=a"), "--mix=a: expected SEED:LAYERS"),
        (("--mode=sample", "--move=0:1"), "--move does nothing without --directions="),
        (("--mode=sample", "--directions=gone.npz", "--move=0:1"), "gone.npz can't be read"),
        (("--mode=sample", "--directions=x", "--move=0"), "--move=0: expected COMPONENT:AMOUNT"),
        (("--mode=sample", "--latent=gone.npz"), "--latent=gone.npz: no such file"),
        (("--mode=sample", "--latent=x.npz", "--seeds=0"), "--seeds does nothing with --latent"),
        (("--mode=interpolate", "--paths=3", "--seeds=0-6"), "--paths=3: 7 seeds do not make"),
        (("--mode=interpolate", "--paths=3", "--seeds=0-4"), "for each of 3 paths"),
        (("--mode=interpolate", "--noise=random"), "it would flicker"),
        (("--mode=interpolate", "--space=w+"), "--space=w+: expected z or w"),
        (("--mode=style_mix",), "--layers=LIST is missing"),
        (("--mode=style_mix", "--layers=0-3"), "layer 3: this network has the layers 0-2"),
        (("--mode=style_mix", "--layers=0", "--labels=1"), "this model takes no labels"),
        (("--mode=pca", "--components=5"), "--components=5: 10000 styles of 4 entries have 4 at most"),
        (("--mode=pca", "--layers=3"), "this network has the layers 0-2"),
        (("--mode=pca", "--amount=nan"), "--amount=nan: expected"),
        (("--mode=project",), "--target=FILE|FOLDER is missing"),
        (("--mode=project", "--target=gone.png"), "--target=gone.png: no such file"),
        (("--mode=project", "--target=.", "--out=a.png"), "--out=a.png: expected a folder"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(run, trained, flags, says):
    answer = run(f"--workdir={trained}", *flags)
    assert answer.code in (1, 2)
    assert says in answer.err
    assert answer.err.count("\n") == 1


def test_targets_and_files_that_do_not_fit_are_refused(run, trained, plain, tmp_path):
    wide, text, other = tmp_path / "wide.png", tmp_path / "text.png", tmp_path / "other.npz"
    Image.new("L", (9, 8)).save(wide)
    text.write_text("no image")
    np.savez(other, space="w", latent=np.zeros(4, np.float32), styles=np.zeros((2, 4), np.float32))
    project = (f"--workdir={trained}", "--mode=project")
    for flags, says in (
        ((*project, f"--target={wide}"), "is 8x9 (height x width), and this model's images are 8x8"),
        ((*project, f"--target={text}"), "text.png"),
        ((f"--workdir={trained}", "--mode=sample", f"--latent={other}"), "it has styles [2, 4]"),
        ((f"--workdir={trained}", "--mode=sample", f"--latent={text}"), "expected a latent that"),
        ((f"--workdir={plain}", "--mode=style_mix", "--layers=0"), "this model's generator has no styles"),
        ((f"--workdir={plain}", "--mode=pca"), "this model's generator has no styles"),
        ((f"--workdir={plain}", "--mode=sample", "--noise=none"), "--noise: this model has no such option"),
        ((f"--workdir={plain}", "--mode=project", f"--target={wide}", "--space=w"), "it has z alone"),
        ((f"--workdir={plain}", "--mode=interpolate", "--space=w"), "has no styles"),
    ):
        answer = run(*flags)
        assert answer.code in (1, 2)
        assert says in answer.err, answer.err
        assert answer.err.count("\n") == 1
