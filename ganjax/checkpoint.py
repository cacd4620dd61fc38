"""Checkpoints by orbax: plain arrays by path, a JSON description, and a fingerprint that is verified.

    checkpoints/00000500/state   every leaf of the state, named by its path
    checkpoints/00000500/meta    step, stage, what the run has used so far, and the state's fingerprint

A checkpoint appears under its name only when it is whole. One that was damaged later is found out by its
fingerprint, set aside under `damaged/`, and the one before it is used.
"""

import hashlib
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from ganjax.errors import RunError
from ganjax.gan import GanState, Tree


def flatten(tree: Tree) -> dict[str, np.ndarray]:
    """The leaves of a tree by path, as in `params/generator/Dense_0/kernel`, sorted."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return dict(
        sorted((jax.tree_util.keystr(path, simple=True, separator="/"), np.asarray(x)) for path, x in leaves)
    )


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
    """

    def __init__(self, folder: epath.PathLike, keep: int = 3):
        logging.getLogger("absl").setLevel(logging.WARNING)  # orbax reports every file at INFO
        self.folder = epath.Path(folder)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
            step_format_fixed_length=8,
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "meta"))

    def steps(self) -> list[int]:
        """The global steps of the checkpoints there are, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: GanState, meta: dict[str, Any]) -> None:
        """Writes a checkpoint, whole or not at all.

        Args:
          step: the global step.
          state: on the host.
          meta: JSON-able; the fingerprint is added.
        Raises:
          RunError: it could not be written; says why, and what there still is.
        """
        leaves = {
            name: leaf for name, leaf in flatten(state).items() if leaf.size
        }  # orbax refuses empty ones
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(leaves),
            meta=ocp.args.JsonSave({**meta, "fingerprint": fingerprint(state)}),
        )
        try:
            self._manager.save(step, args=items, force=True)
            self._manager.wait_until_finished()
        except Exception as error:
            kept = [s for s in self.steps() if s != step]
            last = f"the last one is of step {kept[-1]}" if kept else "there is none yet"
            raise RunError(
                f"the checkpoint of step {step} could not be written to {self.folder} "
                f"({_one_line(error)}); {last}. Mend that and give the same command again to go on."
            ) from error

    def restore(
        self, target: Callable[[dict], GanState], warn: Callable[[str], None]
    ) -> tuple[GanState, dict[str, Any]] | None:
        """The latest checkpoint that is whole; None where there has never been one.

        Args:
          target: from a checkpoint's meta, shapes and types of its state.
          warn: is told of every checkpoint that had to be set aside.
        Raises:
          RunError: there are checkpoints and every one is damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self._read(step, target)
            except Exception as error:
                aside = self._set_aside(step)
                warn(f"the checkpoint of step {step} is damaged ({_one_line(error)}); set aside as {aside}")
        if steps:
            raise RunError(
                f"every checkpoint in {self.folder} is damaged (steps {steps}); they were set aside. "
                "Give the same command again to start from step 0."
            )
        return None

    def _read(self, step: int, target: Callable[[dict], GanState]) -> tuple[GanState, dict[str, Any]]:
        items = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        )
        meta = items["meta"]
        leaves = {name: np.asarray(leaf) for name, leaf in items["state"].items()}
        want = target(meta)
        leaves |= {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in _empty(want).items()}
        state = unflatten(want, leaves)
        if fingerprint(state) != meta["fingerprint"]:
            raise ValueError("its contents do not match its fingerprint")
        return state, meta

    def _set_aside(self, step: int) -> epath.Path:
        aside = self.folder.parent / "damaged"
        aside.mkdir(parents=True, exist_ok=True)
        name = f"{step:08d}"
        free = next(n for n in (name, *(f"{name}-{i}" for i in range(1, 1000))) if not (aside / n).exists())
        (self.folder / name).rename(aside / free)
        self._manager.reload()
        return aside / free


def _empty(tree: Tree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves if 0 in x.shape}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
