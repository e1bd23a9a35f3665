"""The build hook: what it asks for, and what it puts into a wheel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hatchling", reason="needs hatchling: pip install 'chaos-harness[dev]'")

from hatchling.bridge.app import Application
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from chaos.faults.disk import build

ROOT = Path(__file__).parents[3]


def make_hook() -> Any:
    """Load hatch_build.py as hatchling does: by path, without importing the package."""
    namespace: dict[str, Any] = {"__name__": "hatch_build", "__file__": str(ROOT / "hatch_build.py")}
    exec(compile((ROOT / "hatch_build.py").read_text(), "hatch_build.py", "exec"), namespace)
    metadata: Any = ProjectMetadata(str(ROOT), PluginManager())
    hook = namespace["ShimBuildHook"](str(ROOT), {}, None, metadata, "", "wheel")
    hook._BuildHookInterface__app = Application()
    return hook


@pytest.mark.requires("compiler")
def test_hook_ships_the_library() -> None:
    """Both wheel kinds get the library beside the package, from a folder that is gone afterwards; the tag is per platform."""
    hook = make_hook()
    assert hook.dependencies() == []
    data: dict[str, Any] = {"force_include": {}}
    hook.initialize("standard", data)
    ((source, target),) = data["force_include"].items()
    assert target == "_chaosfs/chaosfs.so"
    assert data["force_include_editable"] == {source: target}
    assert data["tag"].startswith("py3-none-linux_")
    assert data["pure_python"] is False
    assert build.source_hash().encode() in Path(source).read_bytes()
    assert ROOT not in Path(source).parents
    hook.finalize("standard", data, "")
    assert not Path(source).exists()


@pytest.mark.skipif(not build.supported()[0], reason=build.supported()[1])
def test_hook_asks_for_ziglang_only_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no compiler works the build environment gets one from the package index."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert make_hook().dependencies() == ["ziglang"]


@pytest.mark.skipif(not build.supported()[0], reason=build.supported()[1])
def test_failed_compile_stops_the_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A compiler that passes the probe but fails on the shim stops the build with what it said."""
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *probe.c*) exit 0;; esac\necho "no room at the inn" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(RuntimeError, match="no room at the inn"):
        make_hook().initialize("standard", {"force_include": {}})


def test_other_systems_get_a_wheel_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere nothing is compiled, asked for or shipped."""
    monkeypatch.setattr(sys, "platform", "darwin")
    data: dict[str, Any] = {"force_include": {}}
    hook = make_hook()
    assert hook.dependencies() == []
    hook.initialize("standard", data)
    assert data == {"force_include": {}}
