"""The script of the required figures: what is measured for which engine, and when its exit code says missed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from chaos.errors import HarnessError

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "required_figures.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with no group of its own."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("required_figures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.GROUPS.clear()
    module.ONCE.clear()
    return module


def group(script: ModuleType, value: float, seen: list[tuple[str, float]]) -> Callable[..., object]:
    """Return a group of one figure, at most 10, that notes what it was asked for."""

    async def measure(options: object) -> list[object]:
        assert options.folder.is_dir()
        seen.append((options.graph, options.minutes))
        return [script.Figure("figure", value, 10, "ms")]

    return measure


@pytest.mark.parametrize(("value", "code"), [(10.0, 0), (10.1, 1)])
def test_a_missed_figure_is_told_by_the_exit_code(
    script: ModuleType, capsys: pytest.CaptureFixture[str], value: float, code: int
) -> None:
    """At the limit it passes; beyond it, it is missed, in words and as exit code 1."""
    script.GROUPS["one"] = group(script, value, [])
    assert script.main(["--graph", "kuzu"]) == code
    assert ("MISSED" in capsys.readouterr().out) == bool(code)


def test_groups_are_measured_on_each_engine_and_others_once(script: ModuleType) -> None:
    """Both engines by default, and what was asked for is handed on."""
    seen: list[tuple[str, float]] = []
    script.GROUPS["one"] = group(script, 1.0, seen)
    script.GROUPS["other"] = script.ONCE["other"] = group(script, 1.0, seen)
    assert script.main(["--minutes", "3", "--group", "one", "other"]) == 0
    assert seen == [("kuzu", 3.0), ("ladybug", 3.0), ("kuzu", 3.0)]


def test_what_cannot_be_measured_is_missed(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A group that breaks does not stop the others, and is no pass."""

    async def broken(_: object) -> list[object]:
        raise HarnessError("the fault never landed")

    script.GROUPS["broken"] = broken
    script.GROUPS["one"] = group(script, 1.0, [])
    assert script.main(["--graph", "ladybug"]) == 1
    told = capsys.readouterr().out
    assert "could not be measured" in told
    assert told.count("pass") == 1


def test_a_share_has_a_least_value(script: ModuleType) -> None:
    """Success and completion are better when higher."""
    assert not script.Figure("success", 94.9, 95, "%", at_most=False).passed
    assert script.Figure("success", 95.0, 95, "%", at_most=False).passed
