"""Whatever is wrong with a command: one line, the right exit code, no traceback, and nothing is changed."""

import io
import json
import os
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest

from ganjax import checkpoint
from tests.cli.command_line import TOY, Run, Silent, listing, runner, train
from tests.doubles import compiled_fast

__all__ = ["compiled_fast"]  # the fixture

TINY_MNIST = (
    "--experiment=cgan_mnist",
    "--config.dataset=random",
    "--config.image_size=8",
    "--config.width=4",
)


@pytest.fixture
def run(capsys) -> Run:
    return runner(capsys)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory) -> pathlib.Path:
    """A toy that was trained for 2 of 4 steps, to be copied."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(runner(Silent), folder, "--steps=2")
    return folder


@pytest.fixture
def trained(trained_once, tmp_path) -> pathlib.Path:
    shutil.copytree(trained_once, tmp_path / "run")
    return tmp_path / "run"


def assert_refused(run: Run, argv: tuple[str, ...], code: int, message: str, folder: pathlib.Path) -> None:
    """The command is refused with one line, and changes nothing in the folder."""
    before = listing(folder)
    answer = run(*argv)
    assert (answer.code, answer.out) == (code, ""), answer
    assert re.fullmatch(r"ganjax: [^\n]*\n", answer.err), answer.err
    assert re.search(message, answer.err), answer.err
    assert "Traceback" not in answer.err
    assert listing(folder) == before


WRONG = {
    "no experiment": ((), r"--experiment=NAME is missing; choose from: .*cgan_mnist"),
    "unknown experiment": (
        ("--experiment=cgan_mnits",),
        r"no such experiment; did you mean cgan_mnist or .*\?",
    ),
    "no such file": (("--experiment=no/such.py",), r"there is no such file"),
    "no such module": (("--experiment=ganjax.no_such",), r"there is no module ganjax\.no_such"),
    "no experiment in module": (
        ("--experiment=os.path",),
        r"not an experiment, it has no Config, TINY, build",
    ),
    "relative module": (("--experiment=.cgan",), r"neither a \.py file nor a dotted module"),
    "dots": (("--experiment=..",), r"neither a \.py file nor a dotted module"),
    "unknown mode": ((*TINY_MNIST, "--mode=sampel"), r"--mode=sampel: .* did you mean sample"),
    "empty mode": ((*TINY_MNIST, "--mode="), r"no such mode"),
    "unknown key": ((*TINY_MNIST, "--config.batchsize=8"), r"did you mean batch_size"),
    "zero": (
        (*TINY_MNIST, "--config.batch_size=0"),
        r"--config\.batch_size=0: expected an integer from 2 to 1048576",
    ),
    "not an integer": ((*TINY_MNIST, "--config.steps=x"), r"--config\.steps=x: expected an integer"),
    "not a choice": (
        (*TINY_MNIST, "--config.loss=hing"),
        r"expected one of non_saturating, .*least_squares, hinge",
    ),
    "no value": ((*TINY_MNIST, "--config.steps"), r"--config\.steps: the value is missing"),
    "no key": ((*TINY_MNIST, "--config=8"), r"settings are given one by one"),
    "image size": ((*TINY_MNIST, "--config.image_size=10"), r"image_size 10x10: .* multiples of 4"),
    "negative seed": ((*TINY_MNIST, "--seed=-1"), r"-1"),
    "seed too large": ((*TINY_MNIST, "--seed=4294967296"), r"4294967296"),
    "zero steps": ((*TINY_MNIST, "--steps=0"), r"0"),
    "steps no number": ((*TINY_MNIST, "--steps=many"), r"many"),
    "unknown parallel": ((*TINY_MNIST, "--parallel=x"), r"x.*auto"),
    "unknown flag": ((*TINY_MNIST, "--batchsize=8"), r"batchsize"),
    "nearest flag": ((*TINY_MNIST, "--word_dir=x"), r"did you mean.*workdir|workdir"),
    "positional words": ((*TINY_MNIST, "train"), r"train: not a flag"),
    "after dashes": ((*TINY_MNIST, "--", "--steps=3"), r"--steps=3: not a flag"),
    "foreign flag": (
        (*TINY_MNIST, "--seeds=0"),
        r"--seeds does nothing in --mode=train; it belongs to sample",
    ),
    "foreign to sample": (
        (*TINY_MNIST, "--mode=sample", "--steps=3"),
        r"--steps does nothing in --mode=sample",
    ),
    "foreign to list": (("--mode=list", "--seed=1"), r"--seed does nothing in --mode=list"),
    "config for list": (("--mode=list", "--config.steps=1"), r"--config\.steps does nothing in --mode=list"),
    "save_minutes": ((*TINY_MNIST, "--save_minutes=-1"), r"-1"),
    "best of no metric": (
        (*TINY_MNIST, "--keep_best=fid:max"),
        r"--keep_best=fid:max: the run has no metric fid; choose from: .*discriminator_loss, .*generator_l",
    ),
    "best of no form": (
        (*TINY_MNIST, "--keep_best=generator_loss:low"),
        r"--keep_best=generator_loss:low: expected METRIC, METRIC:min or METRIC:max",
    ),
    "best of nothing": ((*TINY_MNIST, "--keep_best="), r"--keep_best=: expected METRIC"),
    "a checkpoint for training": (
        (*TINY_MNIST, "--checkpoint=best"),
        r"--checkpoint does nothing in --mode=train; it belongs to sample, .*attention, .*export",
    ),
    "a line break": (
        (*TINY_MNIST, "--config.steps=a\nb\x1b[2J"),
        r"--config\.steps=a\\nb\\x1b\[2J: expected",
    ),
    "no end": ((*TINY_MNIST, f"--config.steps={'1' * 5000}"), r"--config\.steps=1{57}\.\.\.: expected"),
    "NaN minutes": ((*TINY_MNIST, "--save_minutes=nan"), r"--save_minutes=nan: expected a number"),
    "help that is not": ((*TINY_MNIST, "--nohelp=1"), r"--nohelp=1 does not take an argument"),
    "flags in a file": (
        (*TINY_MNIST, f"--flagfile={TOY}"),
        r"flags are given on the command line, not in a file",
    ),
    "zero byte": ((*TINY_MNIST, "--workdir=a\0b"), r"--workdir=a\\x00b: there is a zero byte in it"),
    "long name": ((*TINY_MNIST, f"--workdir={'a' * 300}"), r"--workdir=a+\.\.\.: File name too long"),
    "unknown bucket": ((*TINY_MNIST, "--out=http://a/b"), r"--out=http://a/b: http:// is not known here"),
    "long name of a cache": (
        (*TINY_MNIST, f"--compilation_cache={'a' * 300}"),
        r"File name too long; expected a folder",
    ),
    "long name of an experiment": ((f"--experiment={'a' * 300}.py",), r"there is no such file"),
    "nobody's experiment": (("--experiment=~nobody-here/x.py",), r"there is no such file"),
    "data with a zero byte": (
        ("--experiment=cgan_mnist", "--config.dataset=./a\0b"),
        r"there is a zero byte in it",
    ),
    "cache of no name": ((*TINY_MNIST, "--compilation_cache="), r"expected a folder, or off"),
    "cache as a switch": ((*TINY_MNIST, "--compilation_cache=no"), r"=no: expected a folder, or off"),
    "cache that is a file": (
        (*TINY_MNIST, f"--compilation_cache={TOY}"),
        r"toy\.py: expected a folder, or off",
    ),
    "cache for list": (("--mode=list", "--compilation_cache=off"), r"does nothing in --mode=list"),
    "unknown dataset": (("--experiment=cgan_mnist", "--config.dataset=./none.npz"), r"no such file"),
    "uneven batch": (
        (*TINY_MNIST, "--config.batch_size=6", "--parallel=pmap"),
        r"--config\.batch_size=6: it does not split evenly over 4 devices",
    ),
    "uneven batch of the default": (
        (*TINY_MNIST, "--config.batch_size=6"),
        r"--config\.batch_size=6: it does not split evenly over 4 devices",
    ),
    "uneven batch of smaller images": (
        (
            "--experiment=pggan_mnist",
            "--config.dataset=random",
            "--config.batch_sizes=6",
            "--config.group=0",
            "--parallel=pmap",
        ),
        r"--config\.batch_sizes=6: it does not split evenly over 4 devices",
    ),
}


@pytest.mark.parametrize(("argv", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_usage(run, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)  # where runs/ would be made
    assert_refused(run, argv, 2, message, tmp_path)


NOT_EXPERIMENTS = {
    "no build": ("class Config: pass\nTINY = {}\n", r"not an experiment, it has no build"),
    "empty": ("", r"it has no Config, TINY, build"),
    "no Python": ("\x00\x01", r"mine\.py: not a Python file"),
    "half a line": ("def build(", r"mine\.py: not a Python file \(.* line 1\)"),
}


@pytest.mark.parametrize(("text", "message"), NOT_EXPERIMENTS.values(), ids=NOT_EXPERIMENTS.keys())
def test_a_file_that_is_no_experiment(run, tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert_refused(run, (f"--experiment={path}",), 2, message, tmp_path)


# The workdir.


def test_a_workdir_that_is_a_file(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    argv = (f"--experiment={TOY}", f"--workdir={tmp_path / 'file'}")
    assert_refused(run, argv, 1, r"file is a file; name a folder", tmp_path)


def test_a_workdir_under_a_file(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    argv = (f"--experiment={TOY}", f"--workdir={tmp_path / 'file' / 'run'}")
    assert_refused(run, argv, 1, r"can't be written: Not a directory", tmp_path)


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="needs a /proc, where nobody can write")
def test_a_workdir_that_cannot_be_made(run, tmp_path):
    argv = (f"--experiment={TOY}", "--workdir=/proc/ganjax-tests/run")
    assert_refused(run, argv, 1, r"--workdir=/proc/ganjax-tests/run can't be written: ", tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_workdir_without_permission(run, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    argv = (f"--experiment={TOY}", f"--workdir={tmp_path / 'closed' / 'run'}")
    assert_refused(run, argv, 1, r"can't be written: Permission denied", tmp_path)


def test_a_workdir_with_other_files(run, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    argv = (f"--experiment={TOY}", f"--workdir={tmp_path}")
    assert_refused(run, argv, 2, r"holds other files and no run", tmp_path)


OTHER_RUNS = {
    "config": (("--config.batch_size=16",), r"config\.batch_size is 8 there and 16 here"),
    "seed": (("--seed=1",), r"seed is 0 there and 1 here"),
    "both": (
        ("--config.steps=5", "--seed=1"),
        r"config\.steps is 4 there and 5 here; seed is 0 there and 1 here",
    ),
    "experiment": (TINY_MNIST[1:], r"experiment is \S+ there and \"cgan_mnist\" here"),
}


@pytest.mark.parametrize(("flags", "message"), OTHER_RUNS.values(), ids=OTHER_RUNS.keys())
def test_a_workdir_with_another_run(run, trained, flags, message):
    experiment = TINY_MNIST[0] if flags == TINY_MNIST[1:] else f"--experiment={TOY}"
    argv = (experiment, f"--workdir={trained}", *flags)
    assert_refused(run, argv, 2, f"holds another run: .*{message}.*--workdir of its own", trained)


def test_a_run_from_before_a_setting_came(run, trained):
    path = trained / "config.json"
    record = json.loads(path.read_text())
    del record["config"]["pause"], record["config"]["seeds"]
    path.write_text(json.dumps(record))
    argv = (f"--experiment={TOY}", f"--workdir={trained}")
    answer = run(*argv, "--config.seeds=1")
    assert answer.code == 0, answer.err
    message = r"config\.pause is 0\.5 here and unknown there: another version"
    for mode in ("sample", "train"):
        assert_refused(run, (*argv, f"--mode={mode}", "--config.pause=0.5"), 2, message, trained)


def test_a_workdir_whose_data_have_changed(run, tmp_path):
    path = tmp_path / "set.npz"
    for count in (10, 12):
        np.savez(path, image=np.zeros((count, 4, 4, 1), np.uint8), label=np.arange(count) % 2)
        argv = (
            f"--experiment={TOY}",
            f"--config.dataset={path}",
            f"--workdir={tmp_path / 'run'}",
            "--steps=1",
        )
        if count == 10:
            assert run(*argv, "--parallel=none").code == 0
        else:
            assert_refused(run, argv, 2, r"num_examples is 10 there and 12 here", tmp_path)


@pytest.mark.parametrize("mode", ["train", "sample"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"experiment": "toy", "con',
        b"[1, 2]",
        b"{}",
        b"\xff\xfe",
        b'{"experiment": 1, "config": 2, "seed": 3}',
    ],
)
def test_a_damaged_config(run, trained, content, mode):
    (trained / "config.json").write_bytes(content)
    argv = (f"--experiment={TOY}", f"--workdir={trained}", f"--mode={mode}")
    assert_refused(run, argv, 1, r"config\.json is damaged", trained)


def test_checkpoints_that_are_a_file(run, trained):
    shutil.rmtree(trained / "checkpoints")
    (trained / "checkpoints").write_text("mine")
    argv = (f"--experiment={TOY}", f"--workdir={trained}")
    assert_refused(run, argv, 1, r"can't be used for checkpoints", trained)


def test_half_a_config_of_a_killed_process_is_no_other_file(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.0123abcd.part").write_text('{"exper')
    train(run, tmp_path / "run", "--steps=1")


# The data.


def archive(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=True, **arrays)
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1)).astype(np.uint8)
LABELS = np.arange(64) % 4
WHOLE = archive(image=NOISE, label=LABELS)
ARCHIVES = {
    "empty": (b"", r""),
    "foreign": (b"\x89PNG\r\n" + bytes(100), r""),
    "truncated": (WHOLE[: len(WHOLE) // 2], r""),
    "its end cut off": (WHOLE[:-10], r""),
    "no images": (archive(pictures=NOISE), r"image"),
    "no labels": (archive(image=NOISE), r"has no labels"),
    "unequal": (archive(image=NOISE, label=LABELS[:-1]), r""),
    "floats": (archive(image=NOISE.astype(np.float32), label=LABELS), r""),
    "pickled": (archive(image=np.array([{}], dtype=object), label=np.zeros(1)), r""),
}


@pytest.mark.parametrize(("content", "message"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_an_archive_that_will_not_do(run, tmp_path, content, message):
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    argv = (
        "--experiment=cgan_mnist",
        f"--config.dataset={path}",
        "--config.image_size=8",
        f"--workdir={tmp_path / 'run'}",
    )
    before = listing(tmp_path)
    answer = run(*argv)
    assert answer.code in (1, 2)
    assert re.fullmatch(r"ganjax: [^\n]*set\.npz[^\n]*\n", answer.err), answer.err
    assert re.search(message, answer.err)
    assert answer.out == ""
    assert listing(tmp_path) == before


# Using what was never trained, or differently.


@pytest.mark.parametrize("mode", ["sample", "interpolate", "evaluate"])
def test_nothing_was_trained(run, tmp_path, monkeypatch, mode):
    monkeypatch.chdir(tmp_path)
    argv = (f"--experiment={TOY}", f"--mode={mode}")
    assert_refused(run, argv, 1, r"runs/toy-seed0: nothing was trained there; train first", tmp_path)
    argv = (f"--workdir={tmp_path}", f"--mode={mode}")
    assert_refused(run, argv, 1, r"holds no run .*train one first", tmp_path)


@pytest.mark.parametrize("mode", ["sample", "interpolate", "evaluate"])
def test_no_checkpoint_yet(run, trained, mode):
    shutil.rmtree(trained / "checkpoints")
    argv = (f"--workdir={trained}", f"--mode={mode}")
    assert_refused(run, argv, 1, r"holds no checkpoint yet; train first", trained)


USES = {
    "downwards": ("sample", ("--seeds=9-3",), r"--seeds=9-3: a range runs upwards"),
    "no number": ("sample", ("--seeds=a",), r" --seeds=a: expected integers"),
    "empty": ("sample", ("--seeds=",), r"--seeds="),
    "seed too large": (
        "sample",
        ("--seeds=4294967296",),
        r"--seeds=4294967296: expected integers from 0 to 4294967295",
    ),
    "label out of range": ("sample", ("--labels=11",), r"--labels=11: this model's classes are 0-9"),
    "label 10": ("interpolate", ("--labels=0-10",), r"--labels=10: this model's classes are 0-9"),
    "label no number": ("sample", ("--labels=cat",), r" --labels=cat: expected integers"),
    "one seed": ("interpolate", ("--seeds=3",), r"it takes two"),
    "too many frames": ("interpolate", ("--seeds=0-99", "--frames=1000"), r"1000000 images are too many"),
    "zero frames": ("interpolate", ("--frames=0",), r"0"),
    "fps": ("interpolate", ("--fps=51",), r"51"),
    "jpeg": ("sample", ("--out=x.jpg",), r"--out=x\.jpg: expected a \.png, an \.npz or a folder"),
    "npz of frames": ("interpolate", ("--out=x.npz",), r"expected a \.png, a \.gif, an \.mp4, or a folder"),
    "large grid": ("sample", ("--seeds=0-1999",), r"20000 images are too many for a grid"),
    "evaluation": ("evaluate", ("--out=x.png",), r"--out=x\.png: expected a \.json"),
    "uneven samples": ("evaluate", ("--num_samples=15",), r"does not divide evenly over the 10 classes"),
    "metric": ("evaluate", ("--metrics=label_agreemnt",), r"did you mean label_agreement\?"),
    "other setting": (
        "sample",
        ("--config.batch_size=16",),
        r"batch_size is 8 there and 16 here\. Leave that out",
    ),
    "no checkpoint's step": ("sample", ("--checkpoint=²",), r"--checkpoint=²: expected last, best or a step"),
    "step without end": (
        "sample",
        (f"--checkpoint={'9' * 5000}",),
        r"--checkpoint=9{57}\.\.\.: expected last",
    ),
    "other seed": ("sample", ("--seed=1",), r"seed is 0 there and 1 here"),
    "unknown setting": ("sample", ("--config.batchsize=16",), r"did you mean batch_size"),
    "mode of nobody": ("coutn", (), r"did you mean count\?"),
}


@pytest.mark.parametrize(("mode", "flags", "message"), USES.values(), ids=USES.keys())
def test_wrong_use_of_a_trained_run(run, trained, monkeypatch, mode, flags, message):
    monkeypatch.chdir(trained)
    argv = (f"--experiment={TOY}", f"--workdir={trained}", f"--mode={mode}", *flags)
    assert_refused(run, argv, 2, message, trained)


def test_a_run_does_not_bring_along_the_program_that_is_run(run, trained, tmp_path):
    (trained / "mine.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'mark')!r})\n")
    record = json.loads((trained / "config.json").read_text())
    for name in (trained / "mine.py", tmp_path / "run" / ".." / "run" / "mine.py"):
        (trained / "config.json").write_text(json.dumps(record | {"experiment": str(name)}))
        argv = (f"--workdir={trained}", "--mode=sample")
        assert_refused(run, argv, 2, r"its config\.json names a program in the folder itself", trained)
    assert not (tmp_path / "mark").exists()


DESCRIPTIONS = {
    "brackets": ("[" * 100_000, 1, r"config\.json is damaged"),
    "no data": ({"data": 3}, 1, r"config\.json is damaged"),
    "no set": ({"data": {"random:train": []}}, 1, r"config\.json is damaged"),
    "no sizes": ("image_shape", 2, r"dataset metadata: image_shape=4: no set has that"),
    "no names": ("class_names", 2, r"dataset metadata: class_names=4: no set has that"),
}


@pytest.mark.parametrize(("change", "code", "message"), DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_a_description_that_describes_nothing(run, trained, change, code, message):
    path = trained / "config.json"
    record = json.loads(path.read_text())
    if isinstance(change, dict):
        path.write_text(json.dumps(record | change))
    elif change in record["data"]["random:train"]:
        record["data"]["random:train"][change] = 4
        path.write_text(json.dumps(record))
    else:
        path.write_text(change)
    assert_refused(run, (f"--workdir={trained}", "--mode=sample"), code, message, trained)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("Unable to allocate 7 TiB"), r"Unable to allocate 7 TiB"),
        (MemoryError(), r"no more is to be had"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 5 bytes"),
            r"RESOURCE.* 5 bytes",
        ),
    ],
)
def test_too_little_memory(run, tmp_path, monkeypatch, error, reason):
    def exhausted(*args, **kwargs):
        raise error

    monkeypatch.setattr("ganjax.cli.command.run", exhausted)
    assert_refused(run, (), 1, rf"ganjax: there is not enough memory \({reason}\); make the model", tmp_path)


def test_other_errors_are_ours_and_keep_their_traceback(run, monkeypatch):
    def wrong(*args, **kwargs):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("ganjax.cli.command.run", wrong)
    with pytest.raises(ZeroDivisionError, match="ours"):
        run()


def test_a_log_that_is_a_folder(run, trained):
    (trained / "metrics.jsonl").unlink()
    (trained / "metrics.jsonl").mkdir()
    answer = run(f"--experiment={TOY}", f"--workdir={trained}", "--parallel=none")
    assert answer.code == 1
    assert re.fullmatch(r"ganjax: can't write [^\n]*metrics\.jsonl: Is a directory\n", answer.err), answer.err


META = {
    "no step": lambda meta: meta.pop("step"),
    "stage": lambda meta: meta.update(stage=-1),
    "no stage": lambda meta: meta.update(stage={}),
    "metrics": lambda meta: meta.update(metrics=[1]),
    "seconds": lambda meta: meta.update(wall_seconds="many"),
}


@pytest.mark.parametrize("change", META.values(), ids=META.keys())
@pytest.mark.parametrize("mode", ["train", "sample"])
def test_a_checkpoint_whose_digest_is_right_and_whose_contents_are_not(run, trained, change, mode):
    path = trained / "checkpoints" / "00000002" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    del meta["sha256"]
    change(meta)
    path.write_text(json.dumps(meta | {"sha256": checkpoint._json_digest(meta)}))
    before = listing(trained / "checkpoints")
    answer = run(f"--experiment={TOY}", f"--workdir={trained}", f"--mode={mode}")
    assert answer.code == 1
    assert re.fullmatch(r"ganjax: the checkpoint of step 2 [^\n]*its meta has no [^\n]*\n", answer.err), (
        answer.err
    )
    assert listing(trained / "checkpoints") == before


def test_labels_for_a_model_without(run, tmp_path):
    train(run, tmp_path / "run", "--steps=1", "--config.conditional=false", "--config.interpolates=false")
    argv = (f"--workdir={tmp_path / 'run'}",)
    assert_refused(
        run, (*argv, "--mode=sample", "--labels=3"), 2, r"--labels: this model takes no labels", tmp_path
    )
    assert_refused(run, (*argv, "--mode=interpolate"), 2, r"no latents to go between", tmp_path)


def test_an_out_that_cannot_be_written(run, trained, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in ("file/x.png", "file/x.npz", "file/folder"):
        argv = (f"--workdir={trained}", "--mode=sample", "--seeds=0", f"--out={tmp_path / out}")
        assert_refused(run, argv, 1, r"can't write \S+: (Not a directory|File exists)", tmp_path)


def test_all_checkpoints_damaged(run, trained):
    """Using the run changes nothing; training sets them aside, and then starts again."""
    for path in (trained / "checkpoints").rglob("metadata"):
        path.write_text("{")
    before = listing(trained)
    answer = run(f"--workdir={trained}", "--mode=sample")
    assert answer.code == 1
    lines = answer.err.splitlines()
    assert len(lines) == 2
    assert re.search(r"step 2 is damaged .*; ignored$", lines[0])
    assert re.search(r"^ganjax: every checkpoint in .* was damaged \(steps 2\)$", lines[1])
    assert listing(trained) == before
    command = (f"--experiment={TOY}", f"--workdir={trained}", "--parallel=none")
    answer = run(*command)
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1
    assert "the same command given again starts from step 0" in answer.err
    assert "set aside as" in answer.out
    assert (trained / "damaged" / "00000002").is_dir()
    answer = run(*command)
    assert answer.code == 0
    assert json.loads((trained / "result.json").read_text())["resumed_from"] == []


def test_a_nan_stops_the_run_and_its_checkpoints_stay(run, tmp_path):
    argv = (f"--experiment={TOY}", f"--workdir={tmp_path / 'run'}", "--config.nan_step=3", "--save_steps=2")
    answer = run(*argv, "--parallel=none", "--log_steps=1")
    assert answer.code == 1
    lines = answer.err.splitlines()
    assert lines[-1] == "ganjax: step 4: generator_loss is nan. The last good checkpoint is of step 2."
    assert "Traceback" not in answer.err
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["00000002"]
    assert not (tmp_path / "run" / "result.json").exists()
    assert run(f"--workdir={tmp_path / 'run'}", "--mode=sample").code == 0
