"""The package as users get it: a wheel, installed somewhere else, runs an experiment from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.requires("redis", "kuzu"), pytest.mark.slow, pytest.mark.timeout(300)]


def _clean() -> dict[str, str]:
    """The environment without what could lead back to the source tree."""
    hidden = ("PYTHONPATH", "CHAOS_SHIM_LIBRARY", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def _call(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=_clean(), capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the tree, in an environment of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    _call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("chaos_harness-*.whl")
    return built


def test_the_wheel_holds_everything(wheel: Path) -> None:
    """Every module, the type marker and the shim are in it; no test and no experiment is."""
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "chaos").rglob("*.py")}
    assert modules <= names
    assert "chaos/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "experiments/"))]
    if sys.platform == "linux":
        assert "_chaosfs/chaosfs.so" in names
        assert "py3-none-linux" in wheel.name


def test_building_leaves_the_tree_as_it_was(wheel: Path) -> None:
    """The build writes nothing into the source tree."""
    assert wheel.exists()
    assert not list((ROOT / "chaos").rglob("*.so")) + list(ROOT.glob("*.egg-info")) + list(ROOT.glob("build"))


def test_an_installed_wheel_runs_an_experiment(wheel: Path, tmp_path: Path, trivial: Callable[..., str]) -> None:
    """In a new environment, far from the source tree, doctor is content and an experiment passes."""
    import textwrap

    _call(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    _call(tmp_path / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=tmp_path)
    (tmp_path / "sample.py").write_text(textwrap.dedent(trivial()))
    told = _call(tmp_path / "venv/bin/chaos", "doctor", cwd=tmp_path)
    assert "the embedded default can run" in told
    shown = _call(tmp_path / "venv/bin/chaos-harness", "run", "sample.py", "--seed", "1", cwd=tmp_path)
    assert "pass" in shown
    where = _call(tmp_path / "venv/bin/python", "-c", "import chaos; print(chaos.__file__)", cwd=tmp_path)
    assert str(tmp_path / "venv") in where
