"""What is declared, what is installed and who may import whom, read from the sources. Nothing is built."""

import ast
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

README_COMMANDS = (
    "python3 -m venv .venv && . .venv/bin/activate && pip install -e . "
    "&& python run.py --experiment=cgan_mnist",
    "python3 -m venv .venv && . .venv/bin/activate && pip install -e '.[test]' && python -m pytest",
)

# Modules that are not named after the distribution that brings them.
DISTRIBUTIONS = {"PIL": "pillow", "absl": "absl-py", "orbax": "orbax-checkpoint", "sklearn": "scikit-learn"}

CORE = ("gan", "step", "parallel", "loop", "checkpoint")
# What the core may not import: the families, what they are made of, and what stands above the core.
NOT_FOR_CORE = ("families", "nets", "layers", "losses", "regularizers", "augment", "cli", "experiments")


def sources(*places: str) -> list[Path]:
    """The Python files of these folders and files under the root; what does not exist is left out."""
    found = []
    for place in places:
        path = ROOT / place
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path] * path.is_file()
    return found


def imports(tree: ast.Module, package: str = "") -> Iterator[tuple[str, bool]]:
    """Every module that `tree` imports, and whether that happens as it is imported itself.

    `from a import b` counts as `a.b`; relative imports are resolved against `package`.
    """
    lazy = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            lazy.update(map(id, ast.walk(node)))
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            lazy.update(id(inner) for child in node.body for inner in ast.walk(child))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in lazy
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                yield f"{module}.{alias.name}", id(node) not in lazy


def package_of(path: Path) -> str:
    """The dotted package that relative imports in `path` start from."""
    return ".".join(path.relative_to(ROOT).parent.parts)


def distribution(module: str) -> str:
    top = module.partition(".")[0]
    return DISTRIBUTIONS.get(top, top).lower().replace("_", "-")


def declared(requirements: list[str]) -> set[str]:
    names = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {name[0].lower().replace("_", "-") for name in names if name}


def parse(text: str) -> ast.Module:
    return ast.parse(text)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import a.b", [("a.b", True)]),
        ("from a import b as c", [("a.b", True)]),
        ("def f():\n  import a", [("a", False)]),
        ("if TYPE_CHECKING:\n  import a", [("a", False)]),
        ("from . import b", [("p.q.b", True)]),
        ("from ..r import b", [("p.r.b", True)]),
    ],
)
def test_imports_are_read_from_the_syntax_tree(code, expected):
    assert list(imports(parse(code), "p.q")) == expected


def test_every_import_is_declared():
    required = declared(PROJECT["project"]["dependencies"])
    extras = PROJECT["project"]["optional-dependencies"]
    optional = required.union(*(declared(extras[name]) for name in extras if name != "test"))
    optional |= {"tensorflow"} if "tensorflow-cpu" in optional else set()
    ours = {"ganjax", "experiments", *sys.stdlib_module_names}
    missing = [
        f"{path.relative_to(ROOT)}: {module} ({'as it is imported' if eager else 'lazily'})"
        for path in sources("ganjax", "experiments", "run.py")
        for module, eager in imports(ast.parse(path.read_bytes()), package_of(path))
        if module.partition(".")[0] not in ours
        and distribution(module) not in (required if eager else optional)
    ]
    assert not missing


@pytest.fixture(scope="module")
def installed_packages() -> dict[str, Path]:
    """Package -> its folder, as setup.py gives them to setuptools."""
    setuptools = pytest.importorskip("setuptools")
    arguments = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **keywords: arguments.update(keywords))
        patch.chdir(ROOT)
        runpy.run_path(str(ROOT / "setup.py"))
    moved = arguments["package_dir"]
    folders = {}
    for package in arguments["packages"]:
        prefix = max((p for p in moved if f"{package}.".startswith(f"{p}.")), key=len, default="")
        rest = package.removeprefix(prefix).strip(".").replace(".", "/")
        folders[package] = ROOT / moved.get(prefix, "") / rest
    return folders


def test_every_folder_with_python_files_is_installed(installed_packages):
    assert installed_packages["ganjax.experiments"] == ROOT / "experiments"
    folders = {path.parent for path in sources("ganjax", "experiments")}
    assert set(installed_packages.values()) == folders, "a folder without __init__.py?"


def test_every_other_file_is_installed(installed_packages):
    """Whatever lies in a package besides Python files matches a pattern of package-data."""
    patterns = {
        (installed_packages[package] / pattern).as_posix()
        for package, listed in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in listed
    }
    left_out = [
        path.relative_to(ROOT).as_posix()
        for top in ("ganjax", "experiments")
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
        if not any(fnmatch(path.as_posix(), pattern) for pattern in patterns)
    ]
    assert not left_out


def test_the_embedded_archives_have_their_licence_and_notice():
    archives = sorted((ROOT / "ganjax/data/mnist").glob("*.gz"))
    assert len(archives) == 4
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for archive in archives:
        assert archive.relative_to(ROOT).as_posix() in notice
    for name in PROJECT["project"]["license-files"]:
        assert (ROOT / name).is_file(), name


def test_the_console_script_exists():
    module, _, function = PROJECT["project"]["scripts"]["ganjax"].partition(":")
    path = ROOT / module.replace(".", "/") / "__init__.py"
    names = set()
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
    if not names:
        pytest.skip(f"{module} is still empty")
    assert function in names


@pytest.mark.parametrize("command", README_COMMANDS, ids=["train", "test"])
def test_the_readme_has_the_command(command):
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("README.md is not written yet")
    assert command in [line.strip() for line in readme.read_text(encoding="utf-8").splitlines()]


def test_ganjax_does_not_import_experiments():
    wrong = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in sources("ganjax")
        for module, _ in imports(ast.parse(path.read_bytes()), package_of(path))
        if re.match(r"(ganjax\.)?experiments(\.|$)", module)
    ]
    assert not wrong


def words(tree: ast.Module) -> Iterator[str]:
    """Every name and every string in the code. Comments and docstrings may speak of what they like."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        for field in ("id", "attr", "arg", "name", "module", "asname"):
            if isinstance(value := getattr(node, field, None), str):
                yield value


def mentions(tree: ast.Module, names: set[str]) -> list[str]:
    """The words of `tree` in which one of `names` stands by itself or between underscores."""
    if not names:
        return []
    pattern = re.compile(rf"(?<![a-z0-9])({'|'.join(map(re.escape, sorted(names)))})(?![a-z0-9])", re.I)
    return [word for word in words(tree) if pattern.search(word)]


def test_mentions_are_found_in_code_and_not_in_docstrings():
    names = {"wgan", "cyclegan"}
    assert mentions(parse("if name == 'wgan': pass"), names) == ["wgan"]
    assert mentions(parse("from ganjax.families import x\nx.train_cyclegan()"), names) == ["train_cyclegan"]
    assert mentions(parse("'''WGAN's box.'''\nwgans = 1"), names) == []


@pytest.mark.parametrize("name", CORE)
def test_the_core_knows_no_family(name):
    path = ROOT / "ganjax" / f"{name}.py"
    if not path.exists():
        pytest.skip(f"ganjax/{name}.py is not written yet")
    tree = ast.parse(path.read_bytes())
    families = {p.stem for p in sources("ganjax/families") if not p.stem.startswith("_")}
    assert mentions(tree, families) == []
    forbidden = re.compile(rf"(ganjax\.)?({'|'.join(NOT_FOR_CORE)})(\.|$)")
    assert [module for module, _ in imports(tree, "ganjax") if forbidden.match(module)] == []


def test_importing_ganjax_starts_no_backend():
    code = (
        "import sys, ganjax\n"
        "if 'jax' in sys.modules:\n"
        "    from jax._src import xla_bridge\n"
        "    assert not xla_bridge._backends, xla_bridge._backends\n"
        "print('quiet')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "quiet\n", done.stderr
