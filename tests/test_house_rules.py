"""Rules of the house that a script can hold: sizes, docstrings, exports, the architecture page, no addresses."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import chaos
import chaos.faults

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "chaos"
MODULES = sorted(PACKAGE.rglob("*.py"))
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
C_LINES_MAX = 300


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _public_definitions(scope: ast.AST) -> list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the public classes and functions below `scope`, not those inside functions."""
    found: list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef] = []
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += _public_definitions(node)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    """No module and no function grows past the ceiling."""
    assert len(path.read_text().splitlines()) <= MODULE_LINES_MAX
    for function in _functions(path):
        assert (function.end_lineno or 0) - function.lineno < FUNCTION_LINES_MAX, function.name


@pytest.mark.parametrize("path", sorted((PACKAGE / "faults/disk/shim").glob("*.[ch]")), ids=lambda path: path.name)
def test_c_files_are_small(path: Path) -> None:
    """A C file has one role and stays small."""
    assert len(path.read_text().splitlines()) <= C_LINES_MAX


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings(path: Path) -> None:
    """Every module, public class and public function says what it does."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "module"
    bare = [node.name for node in _public_definitions(tree) if not ast.get_docstring(node)]
    assert not bare


def test_exports() -> None:
    """`__all__` is sorted, and everything in it is there."""
    assert list(chaos.__all__) == sorted(chaos.__all__)
    missing = [name for name in chaos.__all__ if not hasattr(chaos, name)]
    assert not missing


@pytest.mark.parametrize("package", [chaos, chaos.faults], ids=["chaos", "chaos.faults"])
def test_lazy_names_are_those_that_a_type_checker_sees(package: ModuleType) -> None:
    """What is loaded on first use, what is imported below TYPE_CHECKING and `__all__` are the same names."""
    tree = ast.parse(Path(package.__file__ or "").read_text(encoding="utf-8"))
    [guarded] = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    seen = {name.asname or name.name: f"{node.module}:{name.name}" for node in imports for name in node.names}
    assert sorted(seen) == sorted(package.__all__)
    for name, place in seen.items():
        module, _, attribute = place.partition(":")
        try:
            checked = getattr(import_module(module), attribute)
        except AttributeError:
            checked = import_module(f"{module}.{attribute}")
        assert getattr(package, name) is checked
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018  # looking is the test
    assert set(package.__all__) <= set(dir(package))


def test_architecture_page_names_every_package() -> None:
    """The map is not allowed to drift: every package is on it, and it stays one page."""
    page = (ROOT / "docs/architecture.md").read_text()
    assert len(page.splitlines()) < 200
    packages = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    assert packages
    missing = [name for name in packages if f"chaos/{name}" not in page]
    assert not missing


def test_no_addresses_of_registries() -> None:
    """No file names the host of a package registry."""
    hosts = re.compile(
        "|".join(("py" + "pi.org", "python" + "hosted", "npm" + "js.org", "crates" + ".io", "proxy.gol" + "ang"))
    )
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    files = [ROOT / name for name in tracked if name] or MODULES
    found = [str(path) for path in files if path.is_file() and hosts.search(path.read_text(errors="ignore"))]
    assert not found


def test_import_contracts() -> None:
    """Imports point one way."""
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("needs import-linter: pip install 'chaos-harness[dev]'")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
