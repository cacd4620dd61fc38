"""Finds experiments: by name, dotted module or file."""

import importlib
import importlib.machinery
import importlib.util
import os
import pathlib
import pkgutil
import sys
from types import ModuleType
from typing import Any

from ganjax.errors import UsageError, nearest, one_line, shortened


def names(package: str) -> list[str]:
    """The names of the experiments in a package."""
    folder = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))


def find(name: str, package: str) -> ModuleType:
    """The experiment's module.

    Args:
      name: of a module in `package`, a dotted module's, or a path that ends in `.py`.
      package: the experiments that come along.
    Raises:
      UsageError: there is none of that name (the nearest are named), or it is not an experiment.
    """
    if name.endswith(".py"):
        module = _from_file(pathlib.Path(os.path.expanduser(name)))
    elif "." in name:
        if not all(part.isidentifier() for part in name.split(".")):
            raise UsageError(f"--experiment={name}: neither a .py file nor a dotted module")
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name + ".").startswith(error.name + "."):
                raise
            raise UsageError(f"--experiment={name}: there is no module {error.name}") from error
    else:
        known = names(package)
        if name not in known:
            raise UsageError(
                f"--experiment={shortened(name)}: there is no such experiment; {nearest(name, known)}"
            )
        module = importlib.import_module(f"{package}.{name}")
    missing = [part for part in ("Config", "TINY", "build") if not hasattr(module, part)]
    if missing:
        raise UsageError(f"--experiment={name}: not an experiment, it has no {', '.join(missing)}")
    return module


def summary(module: ModuleType) -> str:
    """The first line of an experiment's docstring."""
    return (module.__doc__ or "").strip().split("\n")[0]


class _Loader(importlib.machinery.SourceFileLoader):
    """Leaves no compiled file beside the user's."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        del path, data, _mode


def _from_file(path: pathlib.Path) -> ModuleType:
    if not os.path.isfile(path):  # not path.is_file(), which raises where the name is too long
        raise UsageError(f"--experiment={shortened(str(path), 200)}: there is no such file")
    name = f"ganjax_experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, UnicodeDecodeError) as error:  # of this file, or of one that it imports
        raise UsageError(f"--experiment={path}: not a Python file ({one_line(error)})") from error
    return module
