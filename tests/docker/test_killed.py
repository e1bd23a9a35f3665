"""A killed harness, and what the guardian makes of its containers."""

from __future__ import annotations

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

import pytest


@pytest.mark.usefixtures("local_images")
def test_a_killed_harness_leaves_no_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill -9 while five faults hold, one of them in the network and one in the freezer: all is gone."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "killed_harness.py"
    spec = importlib.util.spec_from_file_location("killed_harness", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    module.write_experiment(tmp_path / "killed.py", "docker")
    ended = module.run_once(tmp_path, Namespace(backend="docker", proxy="embedded"), 0.1)
    assert ended.left == []
