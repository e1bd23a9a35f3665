"""The experiments of this repository, once each on both engines, and the mutants that some of them must catch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaos.experiment.loader import load_file

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted(path.name for path in (ROOT / "experiments").glob("*.py") if not path.name.startswith("_"))
DEEP = {
    "aof_everysec.py",
    "bit_rot.py",
    "cache_aside.py",
    "cache_staleness.py",
    "crash_mid_commit.py",
    "disk_full.py",
    "epoxy.py",
    "exec_reply_lost.py",
    "flapping.py",
    "fsync_fails.py",
    "fsync_lies.py",
    "graph_killed.py",
    "kill_every_call.py",
    "latency.py",
    "mid_frame_cut.py",
    "naive_coordinator.py",
    "partition_one_way.py",
    "pool_exhaustion.py",
    "pool_poisoning.py",
    "pool_stress.py",
    "paused_leader.py",
    "power_loss.py",
    "query_patterns.py",
    "redis_client_retries.py",
    "recovery_interrupted.py",
    "redis_data_loss.py",
    "redis_killed.py",
    "registration.py",
    "slow_disk.py",
    "slow_redis.py",
    "torn_write.py",
    "write_skew.py",
    "zombie_write.py",
}
"""Those that other tests run, or whose faults quicker tests inject; the nightly runs them all, and the gate runs them on ladybug."""

IN_CONTAINERS = {"redis_paused.py", "redis_restarted.py"}
"""Those that only containers can do; `tests/docker/test_environment.py` runs them there."""

pytestmark = [pytest.mark.requires("redis", "kuzu", "shim"), pytest.mark.slow, pytest.mark.timeout(180)]


def test_only_faults_on_containers_need_containers() -> None:
    """Every other experiment runs with nothing installed; these are refused, and not passed over in silence."""
    refused = {
        name
        for name in EXPERIMENTS
        if any(loaded.refused_by("embedded") for loaded in load_file(ROOT / "experiments" / name))
    }
    assert refused == IN_CONTAINERS


def _cases() -> list[Any]:
    names = [name for name in EXPERIMENTS if name not in IN_CONTAINERS]
    return [pytest.param(name, marks=pytest.mark.deep if name in DEEP else ()) for name in names]


@pytest.mark.parametrize("name", _cases())
def test_an_experiment_ends_as_declared(chaos_command, name: str) -> None:
    """Exit 0: passed, or failed exactly as its expectation says."""
    done = chaos_command("run", ROOT / "experiments" / name, "--seed", "0", patience_s=170)
    assert done.code == 0, done.out + done.err


@pytest.mark.deep
@pytest.mark.requires("ladybug")
@pytest.mark.parametrize("name", ["partition.py", "naive_coordinator.py", "graph_killed.py", "power_loss.py"])
def test_an_experiment_ends_as_declared_on_ladybug(chaos_command, name: str) -> None:
    """The living fork of the graph engine takes kuzu's place by name."""
    done = chaos_command("run", ROOT / "experiments" / name, "--seed", "0", "--graph", "ladybug", patience_s=170)
    assert done.code == 0, done.out + done.err
    assert done.json("run.json")["stores"]["graph"]["engine"] == "ladybug"


def test_the_naive_coordinator_is_caught_with_a_table(chaos_command) -> None:
    """The check names the torn transactions and which store kept what."""
    done = chaos_command("run", ROOT / "experiments" / "naive_coordinator.py", "--seed", "1")
    assert done.code == 0, done.out + done.err
    verdict = json.loads((done.folder / "checks" / "atomic.json").read_text())
    assert verdict["valid"] == "invalid"
    torn = [row for row in verdict["details"]["table"] if row["verdict"] == "torn"]
    assert torn
    assert all({"sqlite", "redis", "graph"} <= row.keys() for row in torn)
    assert "torn" in done.out
