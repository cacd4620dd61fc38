"""Whatever becomes of a run's folder: what is restored was saved bit for bit, or one line says why not."""

import json
import pathlib
import shutil
from typing import Any

from hypothesis import strategies as st

from ganjax import checkpoint
from ganjax.report.log import read_jsonl
from tests.doubles import compiled_fast
from tests.fuzz.harness import (
    TOY,
    command,
    copied,
    edited,
    edits,
    fuzzed,
    json_values,
    listing,
    said_in_a_line,
)
from tests.fuzz.runs import SAVED, STEPS, fingerprints, trained, without_drawing

__all__ = ["compiled_fast"]  # the fixture

STEPS_SAVED = ["00000001", "00000002", "00000003"]


def sampled(run: pathlib.Path, folder: pathlib.Path, which: str = "last") -> bool:
    """Draws from the run, which must not change it; whether that worked."""
    before = listing(run)
    with without_drawing() as restored:
        words = [f"--workdir={run}", "--mode=sample", "--seeds=0", "--labels=0", f"--out={folder / 'x.png'}"]
        answer = command([*words, f"--checkpoint={which}"], folder)
    assert listing(run) == before
    if said_in_a_line(answer):
        return False
    ((step, print_),) = restored
    assert fingerprints()[step] == print_
    assert not which.isdecimal() or step == int(which)
    return True


def went_on(run: pathlib.Path, folder: pathlib.Path, *flags: str) -> bool:
    """Trains the run to its end, which must be that of a run that was never damaged; whether that worked."""
    whole = {path.name: listing(path) for path in (run / "checkpoints").glob("0*") if path.is_dir()}
    words = [f"--experiment={TOY}", f"--workdir={run}", "--parallel=none", "--log_steps=1", *flags]
    answer = command(words, folder)
    if said_in_a_line(answer):
        for name, content in whole.items():  # nothing that was there is lost
            places = [run / "checkpoints" / name, *(run / "damaged").glob(f"{name}*")]
            assert any(listing(place) == content for place in places), name
        return False
    result = json.loads((run / "result.json").read_text())
    assert (result["step"], result["complete"]) == (STEPS, True)
    assert result["fingerprint"] == fingerprints()[STEPS]
    lines = [line for line in read_jsonl(run / "metrics.jsonl") if line.get("step") == STEPS]
    assert len(lines) <= 1
    return True


# Checkpoints.

DEEP = "[" * 100_000  # brackets in brackets: "deep" in a case

places = st.floats(0, 1, width=32)  # which of the files, as a share of their number
names = st.sampled_from([
    *STEPS_SAVED, "00000004", "00000009", "00000000", "3", "03", "99999999", "123456789", "-0000001",
    "00000003.tmp",
    "00000009.orbax-checkpoint-tmp", "00000009.orbax-checkpoint-tmp-1", "notes", "x_00000009",
    "00000009_x", "é",
    ".hidden", "state", "meta", "_CHECKPOINT_METADATA", "descriptor", "commit_success.txt",
])  # fmt: skip
metrics = st.dictionaries(st.sampled_from(["generator_loss", "x"]), json_values, max_size=2)
bests = st.sampled_from(["generator_loss", "generator_loss:max", "x:min", "x:low", ":", ""])
values_of_meta = st.one_of(
    st.tuples(st.just("metrics"), metrics),
    st.tuples(st.just("keep_best"), bests),
    st.tuples(
        st.sampled_from([
            "step", "stage", "images_seen", "wall_seconds", "resumed_from", "metrics", "fingerprint", "empty",
            "more", "sha256", "keep_best", "",
        ]),
        json_values,
    ),
)  # fmt: skip
saved = st.sampled_from(STEPS_SAVED)
damages = st.one_of(
    st.tuples(st.just("edit"), saved, places, edits),
    st.tuples(st.just("remove file"), saved, places),
    st.tuples(st.just("remove folder"), saved, places),
    st.tuples(st.just("swap files"), saved, saved, places),
    st.tuples(st.just("move"), saved, names),
    st.tuples(st.just("copy"), saved, names),
    st.tuples(st.just("exchange"), saved, saved),
    st.tuples(st.just("add file"), names, st.binary(max_size=10)),
    st.tuples(st.just("add folder"), names),
    st.tuples(st.just("add inside"), saved, names, st.booleans()),
    st.tuples(st.just("meta"), saved, st.lists(values_of_meta, min_size=1, max_size=2)),
    st.tuples(st.just("meta"), saved, st.lists(values_of_meta, min_size=1, max_size=2)),
    st.tuples(st.just("meta"), saved, st.lists(values_of_meta, min_size=1, max_size=2)),
    st.tuples(st.just("meta without"), saved, st.sampled_from(["step", "stage", "metrics", "fingerprint",
    "empty"])),
    st.tuples(st.just("meta text"), saved, st.one_of(json_values.map(json.dumps), st.just("deep"))),
    st.tuples(st.just("remove"), saved),
)  # fmt: skip


def damage(checkpoints: pathlib.Path, change: tuple) -> None:
    """One change of a folder of checkpoints; none where what is to be changed is gone."""
    kind, name, *rest = change
    one = checkpoints / name
    files = sorted(path for path in one.rglob("*") if path.is_file()) if one.is_dir() else []

    def chosen(share: float) -> pathlib.Path:
        return files[min(int(share * len(files)), len(files) - 1)]

    if kind == "add file" and not one.exists():
        one.write_bytes(rest[0])
    elif kind == "add folder":
        if not one.exists():
            one.mkdir()
    elif not files:
        return
    elif kind == "edit":
        path = chosen(rest[0])
        path.write_bytes(edited(path.read_bytes(), rest[1]))
    elif kind == "remove file":
        chosen(rest[0]).unlink()
    elif kind == "remove folder":
        shutil.rmtree(chosen(rest[0]).parent)
    elif kind == "swap files":
        path = chosen(rest[1])
        other = checkpoints / rest[0] / path.relative_to(one)
        if other.is_file():
            mine, theirs = path.read_bytes(), other.read_bytes()
            path.write_bytes(theirs)
            other.write_bytes(mine)
    elif kind == "move" and not (checkpoints / rest[0]).exists():
        one.rename(checkpoints / rest[0])
    elif kind == "copy" and not (checkpoints / rest[0]).exists():
        shutil.copytree(one, checkpoints / rest[0])
    elif kind == "exchange" and (checkpoints / rest[0]).is_dir() and rest[0] != name:
        one.rename(checkpoints / "aside")
        (checkpoints / rest[0]).rename(one)
        (checkpoints / "aside").rename(checkpoints / rest[0])
    elif kind == "add inside" and not (one / rest[0]).exists():
        (one / rest[0]).mkdir() if rest[1] else (one / rest[0]).write_bytes(b"mine")
    elif kind in ("meta", "meta without") and (one / "meta" / "metadata").exists():
        path = one / "meta" / "metadata"
        try:
            meta = json.loads(path.read_text())
        except (ValueError, RecursionError):  # of a change before this one
            return
        if not isinstance(meta, dict):
            return
        meta.pop("sha256", None)
        if kind == "meta":
            meta |= dict(rest[0])
        else:
            meta.pop(rest[0], None)
        if "sha256" not in meta:
            meta["sha256"] = checkpoint._json_digest(meta)
        path.write_text(json.dumps(meta))
    elif kind == "meta text" and (one / "meta").is_dir():
        (one / "meta" / "metadata").write_text(DEEP if rest[0] == "deep" else rest[0])
    elif kind == "remove":
        shutil.rmtree(one)


def damaged_checkpoints_to_draw_from(case: tuple[list[tuple], str], folder: pathlib.Path) -> None:
    """`--mode=sample`: changes nothing, and uses a state that was saved, for what it says it is."""
    changes, which = case
    run = copied(trained(), folder)
    for change in changes:
        damage(run / "checkpoints", change)
    sampled(run, folder, which)


def damaged_checkpoints_to_go_on_from(case: tuple[list[tuple], list[str]], folder: pathlib.Path) -> None:
    """`--mode=train`: comes to the same end, or says why not; what is damaged is kept."""
    changes, flags = case
    run = copied(trained(), folder)
    for change in changes:
        damage(run / "checkpoints", change)
    if not went_on(run, folder, *flags) and (run / "checkpoints").is_dir():
        sampled(run, folder)


# Records.

paths = st.integers(0, 3).flatmap(lambda depth: st.lists(st.integers(0, 12), min_size=depth, max_size=depth))
changes_of_json = st.one_of(
    st.tuples(st.just("set"), paths, json_values),
    st.tuples(st.just("set"), paths, json_values),
    st.tuples(st.just("remove"), paths, st.none()),
    st.tuples(st.just("add"), paths, json_values),
)
records = st.dictionaries(
    st.sampled_from(["config.json", "config.json", "metrics.jsonl", "result.json"]),
    st.one_of(
        edits,
        st.lists(changes_of_json, min_size=1, max_size=2),
        st.lists(changes_of_json, min_size=1, max_size=2),
        st.lists(changes_of_json, min_size=1, max_size=2),
        st.sampled_from([b"", b"{}", b"[]", b"null", b"\xff\xfe", "deep", b"1" * 5000, b"\n\n{}\n",
        None, "folder"]),
        st.binary(max_size=20),
    ),
    min_size=1,
    max_size=2,
)  # fmt: skip


def changed(value: Any, change: tuple[str, list[int], Any]) -> Any:
    """JSON with something in it set, removed or added: a path goes by the places of keys."""
    kind, path, new = change
    if not isinstance(value, (dict, list)) or not value or not path:
        return new if kind == "set" else value
    keys = sorted(value) if isinstance(value, dict) else range(len(value))
    key = keys[path[0] % len(keys)]
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    if kind == "remove" and len(path) == 1:
        del copy[key]
    elif kind == "add" and len(path) == 1:
        if isinstance(copy, dict):
            copy["more"] = new
        else:
            copy.append(new)
    else:
        copy[key] = changed(value[key], (kind, path[1:], new))
    return copy


def change_record(path: pathlib.Path, how: Any) -> None:
    content = path.read_bytes()
    if how is None:
        path.unlink()
    elif how == "deep":
        path.write_text(DEEP)
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif isinstance(how, bytes):
        path.write_bytes(how)
    elif isinstance(how[0][0], str) and len(how[0]) == 3 and isinstance(how[0][1], list):
        lines = content.decode().splitlines() if path.suffix == ".jsonl" else [content.decode()]
        value = json.loads(lines[0])
        for change in how:
            value = changed(value, change)
        path.write_text("\n".join([json.dumps(value), *lines[1:]]) + "\n")
    else:
        path.write_bytes(edited(content, how))


def changed_records(case: dict[str, Any], folder: pathlib.Path) -> None:
    """config.json, metrics.jsonl and result.json with anything in them."""
    run = copied(trained(), folder)
    for name, how in case.items():
        change_record(run / name, how)
    before = listing(run)
    sampled(run, folder)
    # To the step that it is at already: nothing is compiled.
    with without_drawing():
        answer = command(
            [f"--experiment={TOY}", f"--workdir={run}", "--parallel=none", f"--steps={SAVED}"], folder
        )
    kept = {name: content for name, content in before.items() if "checkpoints" in name}
    assert {name: content for name, content in listing(run).items() if "checkpoints" in name} == kept
    if said_in_a_line(answer):
        if "config.json" in case:
            assert json.dumps(sorted(before)) == json.dumps(sorted(listing(run)))
    else:
        assert json.loads((run / "result.json").read_text())["fingerprint"] == fingerprints()[SAVED]
        read_jsonl(run / "metrics.jsonl")


several = st.lists(damages, min_size=1, max_size=3)
choices = st.sampled_from(["last", "last", "best", "1", "2", "3", "9"])
keeping = st.sampled_from([[], [], ["--keep_best=generator_loss"], ["--keep_best=generator_loss:max"]])
test_damaged_checkpoints_to_draw_from, test_damaged_checkpoints_to_draw_from_at_length = fuzzed(
    damaged_checkpoints_to_draw_from, st.tuples(several, choices), few=5, many=1200
)
test_damaged_checkpoints_to_go_on_from, test_damaged_checkpoints_to_go_on_from_at_length = fuzzed(
    damaged_checkpoints_to_go_on_from, st.tuples(several, keeping), few=3, many=200
)
test_changed_records, test_changed_records_at_length = fuzzed(changed_records, records, few=4, many=400)
