"""Checkpoints by orbax: plain arrays by path, a JSON description, and a fingerprint that is verified.

    checkpoints/00000500/state   every leaf of the state, named by its path
    checkpoints/00000500/meta    step, stage, what the run has used so far, and the state's fingerprint

A checkpoint appears under its name only when it is whole, and disappears from it at once. One that was
damaged later is found out by its fingerprint, set aside in `damaged/` beside the folder, and the one before
it is used.
docs/checkpoints.md tells a user what there is to know.
"""

import contextlib
import functools
import gc
import hashlib
import json
import logging
import math
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from ganjax.errors import RunError, one_line
from ganjax.gan import GanState, Tree

_DIGITS = 8  # of a step in a folder's name
# What orbax takes for an unfinished save, and clears when the folder is opened again.
_UNFINISHED = ".orbax-checkpoint-tmp"


class Best(NamedTuple):
    """What makes a checkpoint the best: the lowest value of a metric, or the highest.

    Of equals the later is the better one. Figures of two stages can't be compared, as of images of two sizes:
    the best is one of the latest stage that has any.
    """

    metric: str
    highest: bool = False

    @classmethod
    def parse(cls, text: str) -> "Best":
        """From `METRIC` or `METRIC:min`, the lowest, or `METRIC:max`, the highest.

        Raises:
          ValueError: the text is neither.
        """
        metric, colon, end = text.rpartition(":")
        if not colon:
            metric, end = text, "min"
        if not metric or end not in ("min", "max"):
            raise ValueError(f"{text!r} is not METRIC, METRIC:min or METRIC:max")
        return cls(metric, end == "max")

    def __str__(self) -> str:
        return f"{self.metric}:{'max' if self.highest else 'min'}"

    def of(self, values: Mapping[int, tuple[int, float]]) -> int | None:
        """The step with the best (stage, value); None where there is none."""
        sign = 1 if self.highest else -1

        def rank(step: int) -> tuple[int, float, int]:
            stage, value = values[step]
            return stage, sign * value, step

        return max(values, key=rank, default=None)


def flatten(tree: Tree) -> dict[str, np.ndarray]:
    """The leaves of a tree by path, as in `params/generator/Dense_0/kernel`, sorted.

    Raises:
      ValueError: two leaves have one path, as those of `{"a/b": x, "a": {"b": y}}`.
    """
    leaves: dict[str, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in leaves:
            raise ValueError(f"two leaves are named {name}; rename one, for a checkpoint could hold only one")
        leaves[name] = np.asarray(leaf)
    return dict(sorted(leaves.items()))


def unflatten(target: Tree, leaves: dict[str, np.ndarray]) -> Tree:
    """The tree of `target`'s form (shapes and types suffice) from its leaves by path.

    Raises:
      ValueError: names the paths that are missing, left over or of another shape or type.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(target)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    wrong = [f"{name} is missing" for name in names if name not in leaves]
    wrong += [f"{name} is unknown" for name in leaves if name not in set(names)]
    for name, (_, want) in zip(names, paths, strict=True):
        have = leaves.get(name)
        if have is not None and (have.shape != want.shape or have.dtype != want.dtype):
            wrong.append(f"{name} is {have.dtype}{list(have.shape)}, not {want.dtype}{list(want.shape)}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError("; ".join(wrong[:3]) + more)
    return jax.tree_util.tree_unflatten(structure, [leaves[name] for name in names])


def fingerprint(tree: Tree) -> str:
    """sha256 over every leaf's path, type, shape and bytes: equal if and only if the trees are."""
    digest = hashlib.sha256()
    for name, leaf in flatten(tree).items():
        digest.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        # No copy of what may be large.
        for part in leaf if leaf.ndim and not leaf.flags.c_contiguous else (leaf,):
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one run.

    One process at a time may open a folder to write in it; of several hosts one (`ganjax.cli.lock` sees to it
    on the command line). As a context manager it is closed at the end.

    Args:
      folder: is made if need be.
      keep: how many of the latest are kept.
      best: besides them, the best by this is kept. A checkpoint whose meta's `metrics` lack that metric does
        not count.
      read_only: nothing on disk is changed, and the folder has to exist.
      lean: what is saved is not copied in memory nor compressed, and goes to a folder of its own for each
        array. Such a checkpoint is read like every other.
    Raises:
      RunError: the folder can't be made or read.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        keep: int = 3,
        *,
        best: Best | None = None,
        read_only: bool = False,
        lean: bool = False,
    ):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # we report ourselves what orbax logs
        self.folder = epath.Path(folder)
        self._is_local = "://" not in os.fspath(self.folder)
        if self._is_local:  # orbax wants it so
            self.folder = self.folder.absolute()
        self._read_only = read_only
        self._save_args = ocp.args.PyTreeSave if lean else ocp.args.StandardSave
        self._keep, self._best = keep, best
        self._saving: threading.Thread | None = None
        self._failure: Exception | None = None  # a RunError, unless it is a mistake of ours
        self._closed = False
        this = jax.process_index()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None,  # old ones are removed here, for the best of them stays
            # What orbax would overrule in a read-only manager, with a warning each:
            save_interval_steps=0 if read_only else 1,
            cleanup_tmp_directories=not read_only and not self._is_local,
            read_only=read_only,
            create=False,  # which orbax can't together with active_processes
            # A thread of ours saves. Orbax's own leaves the fingerprint and the check of every number to the
            # caller, and tells of a failure in several places.
            enable_async_checkpointing=False,
            # Of several hosts, the others are not waited for.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=this, active_processes={this}
            ),
            step_format_fixed_length=_DIGITS,
        )
        if self.folder.exists() and not self.folder.is_dir():  # orbax would say so only when it saves
            raise RunError(f"{self.folder} can't be used for checkpoints (it is a file)")
        try:
            if not read_only:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._clear_unfinished()
            self._manager = ocp.CheckpointManager(
                self.folder,
                options=options,
                item_names=("state", "meta"),
                item_handlers={"state": _lean_handler()} if lean else None,
            )
        except OSError as error:
            raise RunError(f"{self.folder} can't be used for checkpoints ({one_line(error)})") from error
        self._values = {} if best is None or read_only else self._values_of(best)

    def steps(self) -> list[int]:
        """The global steps of the checkpoints there are, ascending; waits for one that is being written."""
        self.settle()
        return self._steps()

    def last_good(self) -> str:
        """A sentence on the last checkpoint, for the end of an error message; waits as `steps` does.

        That a save in the background failed is told with it, and not again.
        """
        self.settle()
        failure, self._failure = self._failure, None
        return self._last_good() + ("" if failure is None else f" Besides, {failure}")

    def save(self, step: int, state: GanState, meta: dict[str, Any], *, background: bool = False) -> None:
        """Writes a checkpoint, whole or not at all, and then removes old ones.

        Args:
          step: the global step.
          state: on the host. Saved in the background, its arrays must not be changed any more.
          meta: JSON-able; is copied.
          background: a thread does the work. What fails is raised by the next `check`, `save`, `wait` or
            `close`.
        Raises:
          RunError: it could not be written, or a number in it is not finite; says why, and what there still
            is. Or a save before this one, in the background, failed; then nothing was begun.
        """
        if self._read_only:
            raise ValueError(f"{self.folder} was opened to be read only")
        if self._closed:
            raise ValueError(f"{self.folder}: the checkpoints are closed")
        self.wait()
        leaves, meta = flatten(state), json.loads(json.dumps(meta))
        _silence_abandoned()  # here: warnings' filters are not to be changed in a thread
        if not background:
            return self._write(step, leaves, meta)

        def work() -> None:
            try:
                self._write(step, leaves, meta)
            except Exception as error:
                self._failure = error

        self._saving = threading.Thread(target=work, name=f"ganjax-save-{step}")
        self._saving.start()

    @property
    def saving(self) -> bool:
        """Whether a save goes on in the background."""
        return self._saving is not None and self._saving.is_alive()

    def check(self) -> None:
        """Raises RunError if a save in the background has failed, once; waits for nothing."""
        if not self.saving:
            self.wait()

    def settle(self) -> None:
        """Waits for a save in the background, and leaves it to others to raise what failed."""
        if self._saving is not None:
            self._saving.join()
            self._saving = None

    def wait(self) -> None:
        """Waits for a save in the background. Raises RunError if it failed, once."""
        self.settle()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Waits, and lets go of what orbax holds. Closing twice is no error.

        Raises:
          RunError: a save in the background failed, and nobody has been told.
        """
        self.settle()
        if not self._closed:
            self._closed = True
            self._manager.close()
        self.wait()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self.close()
        except RunError:  # where something failed before, that says more
            if error is None:
                raise

    def restore(
        self, target: Callable[[dict], GanState], warn: Callable[[str], None]
    ) -> tuple[GanState, dict[str, Any]] | None:
        """The latest checkpoint that is whole; None where there has never been one.

        Args:
          target: from a checkpoint's meta, shapes and types of its state.
          warn: is told of every checkpoint that is damaged.
        Raises:
          RunError: there are checkpoints and every one is damaged, or the latest that is whole is of another
            model, or a save in the background failed.
        """
        found = self.latest(warn)
        if found is None:
            return None
        step, leaves, meta = found
        return self._fit(step, target, leaves, meta), meta

    def latest(self, warn: Callable[[str], None]) -> tuple[int, dict[str, np.ndarray], dict[str, Any]] | None:
        """The same of whatever model: its step, the leaves of its state by path (see `flatten`), its meta."""
        self.wait()
        steps = self._steps()
        for step in reversed(steps):
            leaves, meta, damage = self._try_to_read(step)
            if damage is None:
                return step, leaves, meta
            if self._read_only and not self._path(step).exists():  # the run that trains removed it meanwhile
                self._manager.reload()
                return self.latest(warn)
            fate = "ignored" if self._read_only else f"set aside as {self._set_aside(step)}"
            warn(f"the checkpoint of step {step} is damaged ({damage}); {fate}")
        if steps:
            end = "" if self._read_only else " and set aside; the same command given again starts from step 0"
            raise RunError(f"every checkpoint in {self.folder} was damaged (steps {_listed(steps)}){end}")
        return None

    def restore_step(self, target: Callable[[dict], GanState], step: int) -> tuple[GanState, dict[str, Any]]:
        """The checkpoint of one step, and no other; changes nothing on disk.

        Args:
          target: from the checkpoint's meta, shapes and types of its state.
          step: the global step.
        Raises:
          RunError: there is none of this step, or it is damaged, which names those that there are; or it is
            of another model.
        """
        self.wait()
        others = [other for other in self._steps() if other != step]
        there_are = f"there are those of steps {_listed(others)}" if others else "there is no other"
        if step not in self._steps():
            raise RunError(f"{self.folder} has no checkpoint of step {step}; {there_are}")
        leaves, meta, damage = self._try_to_read(step)
        if damage is not None:
            raise RunError(
                f"the checkpoint of step {step} in {self.folder} is damaged ({damage}); {there_are}"
            )
        return self._fit(step, target, leaves, meta), meta

    def best_step(self) -> int | None:
        """The step of the best checkpoint, by what the latest one was saved with as the run's `best`.

        None where no run has kept a best one.
        """
        self.wait()
        for step in reversed(self._steps()):
            text = self._meta(step).get("keep_best")
            if isinstance(text, str):
                try:
                    best = Best.parse(text)
                except ValueError:  # never saved by us: as if there were none
                    continue
                return best.of(self._values_of(best))
        return None

    def _clear_unfinished(self) -> bool:
        """Removes what killed processes left, and says whether there was any.

        Orbax would do it in the background, beside the first steps.
        """
        left = [path for path in self.folder.iterdir() if _UNFINISHED in path.name] if self._is_local else []
        for path in left:
            shutil.rmtree(path, ignore_errors=True)  # what stays is overwritten, or tried again
        return bool(left)

    def _clear_failed(self) -> None:
        """Removes what a save of this process left that failed, and so gives its room back.

        Writes that orbax has abandoned are still on their way in tensorstore, and make folders anew: again
        and again, until for a while none has come, or for five seconds.
        """
        quiet, end = 0, time.monotonic() + 5
        while quiet < 5 and time.monotonic() < end:
            with contextlib.suppress(OSError):  # the failure that led here says more
                quiet = 0 if self._clear_unfinished() else quiet + 1
            time.sleep(0.05)

    def _path(self, step: int) -> epath.Path:
        return self.folder / f"{step:0{_DIGITS}d}"

    def _steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def _last_good(self) -> str:
        steps = self._steps()
        return f"The last good checkpoint is of step {steps[-1]}." if steps else "There is no checkpoint yet."

    def _write(self, step: int, leaves: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Checks and writes a checkpoint, then removes old ones."""
        for name, leaf in leaves.items():
            # jax's issubdtype: numpy's does not count bfloat16 among the floats
            if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(leaf).all():
                whose = _first_not_finite(leaf, meta.get("members", []))
                raise RunError(f"step {step}: {name} is not finite{whose}. {self._last_good()}")
        reason = ""
        try:
            # Orbax refuses arrays of size zero, and large ones of zeros, as optimizers begin with, need no
            # place: their form alone is kept.
            empty = {name: [str(x.dtype), list(x.shape)] for name, x in leaves.items() if _is_formal(x)}
            meta = {**meta, "fingerprint": fingerprint(leaves), "empty": empty}
            if self._best is not None:
                meta["keep_best"] = str(self._best)
            items = ocp.args.Composite(
                state=self._save_args({name: leaf for name, leaf in leaves.items() if name not in empty}),
                meta=ocp.args.JsonSave({**meta, "sha256": _json_digest(meta)}),
            )
            self._manager.save(step, args=items, force=True)
            self._manager.wait_until_finished()
        except Exception as error:
            reason = one_line(error)
        if reason:
            gc.collect()  # what orbax abandoned, while what Python says of it is filtered
            self._clear_failed()
            kept = [s for s in self._steps() if s != step]
            last = f"the last one is of step {kept[-1]}" if kept else "there is none yet"
            raise RunError(
                f"the checkpoint of step {step} could not be written to {self.folder} "
                f"({reason}); {last}. Mend that and give the same command again to go on."
            )
        self._remove_old(step, meta)

    def _remove_old(self, step: int, meta: dict[str, Any]) -> None:
        """Removes what is neither among the latest nor the best, once the checkpoint of `step` is whole."""
        if self._best is not None:
            self._values |= _value(self._best, step, meta)
        steps = self._steps()
        self._values = {s: value for s, value in self._values.items() if s in steps}
        kept = {*steps[-self._keep :], self._best and self._best.of(self._values)}
        try:
            for old in steps:
                if old not in kept:
                    self._remove(old)
            if set(steps) - kept:
                self._manager.reload()
        except OSError as error:
            raise RunError(
                f"a checkpoint in {self.folder} that is not kept any more could not be removed "
                f"({one_line(error)}). Mend that and give the same command again to go on."
            ) from error

    def _remove(self, step: int) -> None:
        folder = self._path(step)
        if not self._is_local:  # a bucket can't rename
            self._manager.delete(step)
        else:  # a process that is killed leaves no half of it under its name
            doomed = folder.with_name(folder.name + _UNFINISHED)
            doomed.rmtree(missing_ok=True)
            folder.rename(doomed)
            doomed.rmtree()
        self._values.pop(step, None)

    def _values_of(self, best: Best) -> dict[int, tuple[int, float]]:
        """Stage and metric of every checkpoint that has it, by step."""
        values: dict[int, tuple[int, float]] = {}
        for step in self._steps():
            values |= _value(best, step, self._meta(step))
        return values

    def _meta(self, step: int) -> dict[str, Any]:
        """A checkpoint's meta; empty where that is damaged."""
        _silence_abandoned()
        try:
            items = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
            return _verified(items["meta"])
        except Exception:
            return {}

    def _try_to_read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any], str | None]:
        """A checkpoint's leaves, its meta, and None; or nothing, nothing, and how it is damaged."""
        _silence_abandoned()
        try:
            return *self._read(step), None
        except MemoryError:  # says nothing of the checkpoint
            raise
        except Exception as error:
            damage = one_line(error)
        gc.collect()  # as after a save that failed
        return {}, {}, damage

    def _fit(self, step: int, target: Callable[[dict], GanState], leaves: dict, meta: dict) -> GanState:
        try:
            return unflatten(target(meta), leaves)
        except (ValueError, LookupError) as error:
            raise RunError(
                f"the checkpoint of step {step} in {self.folder} is whole but does not fit "
                f"({one_line(error)}): the experiment's code has changed since. Go back to "
                "that code, or train in another folder."
            ) from error

    def _read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """A checkpoint's leaves by path and its meta. Raises where they are not what was saved."""
        items = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        )
        meta = _verified(items["meta"])
        if meta.get("step", step) != step:
            raise ValueError(f"it is that of step {meta['step']}")
        leaves = {name: np.asarray(leaf) for name, leaf in items["state"].items()}
        empty = meta.pop("empty")
        leaves |= {name: np.zeros(shape, jnp.dtype(dtype)) for name, (dtype, shape) in empty.items()}
        if fingerprint(leaves) != meta["fingerprint"]:
            raise ValueError("its arrays are not what was saved")
        return leaves, meta

    def _set_aside(self, step: int) -> epath.Path:
        aside = self.folder.parent / "damaged"
        name = self._path(step).name
        try:
            aside.mkdir(parents=True, exist_ok=True)
            free = next(
                n for n in (name, *(f"{name}-{i}" for i in range(1, 1000))) if not (aside / n).exists()
            )
            self._path(step).rename(aside / free)
        except OSError as error:
            raise RunError(
                f"the checkpoint of step {step} in {self.folder} is damaged, and could not be set aside in "
                f"{aside} ({one_line(error)})"
            ) from error
        self._manager.reload()
        self._values.pop(step, None)
        return aside / free


def _lean_handler() -> ocp.PyTreeCheckpointHandler:
    """Orbax's, without what holds all that is saved in memory a second time: a copy, compressed arrays that
    wait to be written, and files in which arrays are gathered."""
    arrays = ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)
    registry = ocp.type_handlers.create_type_handler_registry((np.ndarray, arrays))
    return ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False, type_handler_registry=registry)


_LARGE = 2**20  # bytes


def _is_formal(leaf: np.ndarray) -> bool:
    """Whether its form says it all: it is empty, or large and all of its bytes are zero (-0.0's are not)."""
    if not leaf.size or leaf.nbytes < _LARGE:
        return not leaf.size
    if not any(leaf.strides):  # one entry, repeated
        leaf = leaf.reshape(-1)[:1]
    content = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    return not content[:_LARGE].any() and not content.any()


def _silence_abandoned() -> None:
    """For calls of orbax whose failure we report ourselves; to be called on the main thread, before them.

    Where one of its asyncio tasks fails, orbax abandons the others. Python then prints something for each of
    them: a traceback for a task and a warning for a coroutine when they are collected, and a traceback when
    tensorstore answers one whose loop is closed, which may be a moment later, and on any thread. So what
    silences them stays. Python's warning names no module by which orbax's could be told from others.
    """
    _silence_abandoned_tasks()
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


@functools.cache  # once a process
def _silence_abandoned_tasks() -> None:
    def is_ours(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return "exception was never retrieved" in text and ("orbax" in text or "tensorstore" in text)

    logging.getLogger("asyncio").addFilter(lambda record: not is_ours(record))
    hook = sys.unraisablehook

    def other_than_closed_loop(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = other_than_closed_loop


def _verified(meta: dict[str, Any]) -> dict[str, Any]:
    """A meta as it was saved, without its digest. Raises ValueError where it is not what was saved."""
    meta = dict(meta)
    if meta.pop("sha256", None) != _json_digest(meta):
        raise ValueError("its meta is not what was saved")
    return meta


def _value(best: Best, step: int, meta: dict[str, Any]) -> dict[int, tuple[int, float]]:
    """The step with its stage and its value of the metric; empty where there is none that can be compared."""
    figures = (meta.get("evaluation"), meta.get("metrics"))
    values = [x[best.metric] for x in figures if isinstance(x, dict) and best.metric in x]
    value = values[0] if values else None
    if not isinstance(value, int | float) or not abs(value) < math.inf:
        return {}
    stage = meta.get("stage")
    return {step: (stage if isinstance(stage, int) else 0, value)}


def _first_not_finite(leaf: np.ndarray, members: list[dict[str, Any]]) -> str:
    """Of a leaf of several members (`ganjax.members`), the seed of the first whose part is not finite."""
    for part, member in zip(leaf, members, strict=False) if members else ():
        if not np.isfinite(part).all():
            return f" with seed {member['seed']}"
    return ""


def _json_digest(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))
