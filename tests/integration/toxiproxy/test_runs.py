"""Whole runs with a real Toxiproxy in front of our own Redis."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests_support import gone, wait_until

ROOT = Path(__file__).resolve().parents[3]


def test_the_partition_experiment_passes(chaos_command: Any) -> None:
    """The same file as with our own proxy: all four faults land, with evidence, and every check holds."""
    done = chaos_command("run", ROOT / "experiments" / "partition.py", "--proxy", "toxiproxy", "--seed", "5")
    assert done.code == 0, done.out + done.err
    run = done.json("run.json")
    assert run["proxy"] == "toxiproxy"
    assert run["stores"]["toxiproxy"]["version"] == "2.12.0"
    ends = [entry["value"] for entry in done.history() if entry["kind"] == "fault_end"]
    assert [end["landed"] for end in ends] == [True] * 4
    assert not (done.folder / "live").exists()


def test_a_proxy_that_ends_by_itself_is_the_harness_s_failure(chaos_command: Any, trivial: Callable[..., str]) -> None:
    """No fault aims at the Toxiproxy; without it a run says nothing about the stores."""
    path = chaos_command.write(trivial().replace("seconds=1", "seconds=20"))
    command = chaos_command.arguments("run", path, "--seed", "1", "--proxy", "toxiproxy")
    with subprocess.Popen(
        command,
        cwd=chaos_command.folder,
        env=chaos_command.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as harness:
        assert wait_until(
            lambda: (
                b"load_started" in b"".join(one.read_bytes() for one in chaos_command.runs.glob("*/*/history.jsonl"))
            ),
            60,
        )
        children = Path(f"/proc/{harness.pid}/task/{harness.pid}/children").read_text().split()
        proxies = [int(pid) for pid in children if b"-proxy-metrics" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(proxies) == 1
        os.kill(proxies[0], 9)
        harness.wait(60)
    assert harness.returncode == 70
    run = json.loads(next(chaos_command.runs.glob("*/*/run.json")).read_text())
    assert "the proxy process ended by itself" in run["message"]
    assert all(gone(int(pid)) for pid in children)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("killed_harness", ROOT / "benchmarks" / "killed_harness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("proxy", ["embedded", "toxiproxy"])
def test_a_killed_harness_leaves_nothing(tmp_path: Path, benchmark: ModuleType, proxy: str) -> None:
    """Kill -9 while five faults hold: no process, no live data, and the record says what happened."""
    benchmark.write_experiment(tmp_path / "killed.py", "embedded")
    ended = benchmark.run_once(tmp_path, Namespace(backend="embedded", proxy=proxy), 0.1)
    assert ended.left == []
