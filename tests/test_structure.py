"""The house stays easy to see: imports run one way, files stay small, the surface is held."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import llm_relabel

PACKAGE = Path(llm_relabel.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Data flows down this list. A module imports from its own line and the lines above, never below.
LAYERS = [
    ["errors", "images", "units", "registry", "progress", "provenance", "spellings"],
    ["records", "measure"],
    ["files"],
    ["config"],
    ["data"],
    ["models"],
    ["tasks"],
    ["prompts", "agreement"],
    ["run_folder"],
    ["prepared"],
    ["evidence"],
    ["people"],
    ["judge"],
    ["review"],
    ["audit"],
    ["report"],
    ["rounds"],
    ["engine"],
    ["evaluation"],
    ["tune"],
    ["demo", "api"],
    ["manual"],
    ["commands"],
    ["cli", "__main__", ""],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def part_of(module: str) -> str:
    """The top part of a module inside the package; the package itself is the empty name."""
    return [*module.split("."), ""][1]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("llm_relabel")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llm_relabel"):
            if node.module == "llm_relabel":
                found |= {f"llm_relabel.{alias.name}" for alias in node.names
                          if (PACKAGE / alias.name).exists()
                          or (PACKAGE / f"{alias.name}.py").exists()}  # fmt: skip
            else:
                found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    own = parts[0] if parts[0] != "__init__" else ""
    if parts[-1] == "__main__":  # a program of its own, which nothing imports
        own = "__main__"
    assert own in LEVEL, f"{own!r} has no place in LAYERS: say where it belongs"
    for module in imports_of(path):
        other = part_of(module)
        assert LEVEL[other] <= LEVEL[own], f"{own} imports {other}, which stands below it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_grows_past_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_public_names_are_the_whole_surface() -> None:
    assert llm_relabel.__all__ == sorted(llm_relabel.__all__)
    for name in llm_relabel.__all__:
        assert getattr(llm_relabel, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = llm_relabel.nothing


def test_every_error_says_when_it_is_raised() -> None:
    errors = importlib.import_module("llm_relabel.errors")
    for name, thing in vars(errors).items():
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert name in errors.__doc__, f"{name} is missing from the tree"
            if thing is not errors.RelabelError:  # the root, which is only caught
                said = thing.__doc__ or ""
                assert said.startswith("Raised "), f"{name} does not say when it is raised"


def test_version_is_the_project_s() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert llm_relabel.__version__ == project["version"]


def test_help_and_import_load_nothing_heavy() -> None:
    heavy = ("torch", "litellm", "openai", "anthropic", "sklearn", "pyarrow", "numpy", "pydantic")
    code = (
        "import sys; sys.argv = ['llm-relabel', '--help']\n"
        "import llm_relabel, llm_relabel.cli as c\n"
        "try: c.main()\nexcept SystemExit: pass\n"
        f"print([n for n in {heavy!r} if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_no_test_module_imports_another() -> None:
    """What two of them need stands in `tests/support/`."""
    for path in Path(__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            shared = [name for name in names if name.startswith("test_")]
            assert not shared, f"{path.name} imports {shared[0]}: move what it needs to support/"
