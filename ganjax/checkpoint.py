"""Checkpoints by orbax: plain arrays by path, a JSON description, and a fingerprint that is verified.

    checkpoints/00000500/state   every leaf of the state, named by its path
    checkpoints/00000500/meta    step, stage, what the run has used so far, and the state's fingerprint

A checkpoint appears under its name only when it is whole. One that was damaged later is found out by its
fingerprint, set aside in `damaged/` beside the folder, and the one before it is used.
"""

import contextlib
import functools
import gc
import hashlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from ganjax.errors import RunError
from ganjax.gan import GanState, Tree

_DIGITS = 8  # of a step in a folder's name


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
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: is made if need be.
      keep: how many of the latest are kept.
      read_only: nothing on disk is changed, and the folder has to exist.
    Raises:
      RunError: the folder can't be made or read.
    """

    def __init__(self, folder: epath.PathLike, keep: int = 3, *, read_only: bool = False):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # we report ourselves what orbax logs
        self.folder = epath.Path(folder)
        if "://" not in os.fspath(self.folder):  # orbax wants it so
            self.folder = self.folder.absolute()
        self._read_only = read_only
        options = ocp.CheckpointManagerOptions(
            # What orbax would overrule in a read-only manager, with a warning each:
            max_to_keep=None if read_only else keep,
            save_interval_steps=0 if read_only else 1,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            enable_async_checkpointing=False,
            step_format_fixed_length=_DIGITS,
        )
        if self.folder.exists() and not self.folder.is_dir():  # orbax would say so only when it saves
            raise RunError(f"{self.folder} can't be used for checkpoints (it is a file)")
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "meta"))
        except OSError as error:
            raise RunError(f"{self.folder} can't be used for checkpoints ({_one_line(error)})") from error

    def steps(self) -> list[int]:
        """The global steps of the checkpoints there are, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: GanState, meta: dict[str, Any]) -> None:
        """Writes a checkpoint, whole or not at all.

        Args:
          step: the global step.
          state: on the host.
          meta: JSON-able.
        Raises:
          RunError: it could not be written; says why, and what there still is.
        """
        if self._read_only:
            raise ValueError(f"{self.folder} was opened to be read only")
        leaves = flatten(state)
        # Orbax refuses arrays of size zero: their form alone is kept.
        empty = {name: [str(x.dtype), list(x.shape)] for name, x in leaves.items() if not x.size}
        meta = {**meta, "fingerprint": fingerprint(state), "empty": empty}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave({name: leaf for name, leaf in leaves.items() if leaf.size}),
            meta=ocp.args.JsonSave({**meta, "sha256": _json_digest(meta)}),
        )
        with _quiet() as failures:
            try:
                self._manager.save(step, args=items, force=True)
                self._manager.wait_until_finished()
            except Exception as error:
                failures.append(_one_line(error))
        if failures:
            kept = [s for s in self.steps() if s != step]
            last = f"the last one is of step {kept[-1]}" if kept else "there is none yet"
            raise RunError(
                f"the checkpoint of step {step} could not be written to {self.folder} "
                f"({failures[0]}); {last}. Mend that and give the same command again to go on."
            )

    def restore(
        self, target: Callable[[dict], GanState], warn: Callable[[str], None]
    ) -> tuple[GanState, dict[str, Any]] | None:
        """The latest checkpoint that is whole; None where there has never been one.

        Args:
          target: from a checkpoint's meta, shapes and types of its state.
          warn: is told of every checkpoint that is damaged.
        Raises:
          RunError: there are checkpoints and every one is damaged, or the latest that is whole is of another
            model.
        """
        steps = self.steps()
        for step in reversed(steps):
            with _quiet() as failures:
                try:
                    leaves, meta = self._read(step)
                except MemoryError:  # says nothing of the checkpoint
                    raise
                except Exception as error:
                    failures.append(_one_line(error))
            if failures:
                fate = "ignored" if self._read_only else f"set aside as {self._set_aside(step)}"
                warn(f"the checkpoint of step {step} is damaged ({failures[0]}); {fate}")
                continue
            try:
                return unflatten(target(meta), leaves), meta
            except (ValueError, LookupError) as error:
                raise RunError(
                    f"the checkpoint of step {step} in {self.folder} is whole but does not fit "
                    f"({_one_line(error)}): the experiment's code has changed since. Go back to "
                    "that code, or train in another folder."
                ) from error
        if steps:
            end = "" if self._read_only else " and set aside; the same command given again starts from step 0"
            raise RunError(f"every checkpoint in {self.folder} was damaged (steps {_listed(steps)}){end}")
        return None

    def _read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """A checkpoint's leaves by path and its meta. Raises where they are not what was saved."""
        items = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        )
        meta = dict(items["meta"])
        if meta.pop("sha256", None) != _json_digest(meta):
            raise ValueError("its meta is not what was saved")
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
        name = f"{step:0{_DIGITS}d}"
        try:
            aside.mkdir(parents=True, exist_ok=True)
            free = next(
                n for n in (name, *(f"{name}-{i}" for i in range(1, 1000))) if not (aside / n).exists()
            )
            (self.folder / name).rename(aside / free)
        except OSError as error:
            raise RunError(
                f"the checkpoint of step {step} in {self.folder} is damaged, and could not be set aside in "
                f"{aside} ({_one_line(error)})"
            ) from error
        self._manager.reload()
        return aside / free


@contextlib.contextmanager
def _quiet() -> Iterator[list[str]]:
    """For a call of orbax whose failure we report ourselves: gives a list for what there is to report.

    Where one of its asyncio tasks fails, orbax abandons the others. Python then prints something for each of
    them: a traceback for a task and a warning for a coroutine when they are collected, and a traceback when
    tensorstore answers one whose loop is closed, which may be a moment later.
    """
    _silence_abandoned_tasks()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        failures: list[str] = []
        yield failures
        if failures:
            gc.collect()


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


def _json_digest(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
