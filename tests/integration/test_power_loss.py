"""Power loss in ordinary runs: what each policy takes, what it leaves alone, and when it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.requires("redis", "kuzu", "shim"), pytest.mark.slow, pytest.mark.timeout(150)]

WHOLE = """
    from chaos import Experiment, Recovery, faults, stores, when, workload

    EXPERIMENT = Experiment(
        id="whole",
        hypothesis="The coordinator loses nothing.",
        stores=(stores.SQLite(), stores.Redis(appendfsync="everysec"), stores.Graph()),
        workload=workload.Transfers(accounts=8, clients=3, rate=60, seconds=6, deadline="1s"),
        recovery=Recovery(budget="20s", hold="200ms"),
        schedule=(
            when.phase("sqlite.committed", nth=20).do(faults.PowerLoss({policy!r})),
            when.phase("acknowledged", nth=40).do(faults.PowerLoss({policy!r})),
        ),
    )
"""

ALONE = """
    from chaos import Experiment, Recovery, checks, faults, stores, systems, when, workload

    EXPERIMENT = Experiment(
        id="alone",
        hypothesis="SQLite alone loses nothing.",
        system=systems.Own({system!r}),
        stores=(stores.SQLite(synchronous={synchronous!r}), stores.Redis(), stores.Graph()),
        workload=workload.Transfers(accounts=8, clients=3, rate=80, seconds=6, deadline="1s"),
        recovery=Recovery(budget="20s", hold="200ms"),
        checks=(checks.Durable(), checks.Landed()),
        schedule=(
            when.phase("inserted", nth=40).do(faults.PowerLoss({policy!r})),
            when.phase("inserting", nth=70).do(faults.PowerLoss({policy!r})),
        ),
    )
"""


def _alone(system: str, synchronous: str, policy: str) -> str:
    path = f"{ROOT / 'tests/planted/sqlite_alone.py'}:{system}"
    return ALONE.format(system=path, synchronous=synchronous, policy=policy)


def _verdict(done: Any, check: str) -> dict[str, Any]:
    verdict: dict[str, Any] = json.loads((done.folder / "checks" / f"{check}.json").read_text())
    return verdict


def _evidence(done: Any) -> list[dict[str, Any]]:
    """Return the evidence of each loss, in order."""
    return [entry["value"]["evidence"] for entry in done.history() if entry["kind"] == "fault_end"]


@pytest.mark.parametrize(
    "policy", ["posix", *(pytest.param(policy, marks=pytest.mark.deep) for policy in ("ordered", "random", "applied"))]
)
def test_the_coordinator_loses_nothing(chaos_command, policy: str) -> None:
    """Twice in one run every process ends, the folders are rebuilt, and the commit log brings all stores together."""
    done = chaos_command("run", chaos_command.write(WHOLE.format(policy=policy)), "--seed", "1")
    assert done.code == 0, done.out + done.err
    first, second = _evidence(done)
    for evidence in (first, second):
        assert evidence["processes_killed"] >= 3
        assert evidence["folders_rebuilt"] == 3
        assert all(evidence[f"{store}_operations"] > 0 for store in ("sqlite", "redis", "graph"))
    assert 0 < first["clock"] < second["clock"]
    crash = "process crash" if policy == "applied" else f"power loss ({policy})"
    for check in ("durable", "atomic"):
        assert _verdict(done, check)["details"]["crash"] == crash
    assert f"against {crash}" in " ".join(done.out.split())
    lost = sum(int(evidence["bytes_lost"]) for evidence in (first, second))
    assert (lost == 0) == (policy == "applied"), "the server was between two syncs"
    assert "Ends that no fault explains".upper() not in done.out


@pytest.mark.parametrize(("synchronous", "valid"), [("FULL", "valid"), ("OFF", "invalid")])
def test_syncs_alone_decide_what_sqlite_keeps(chaos_command, synchronous: str, valid: str) -> None:
    """The positive control and its twin: without syncs the loss of power takes acknowledged rows, with them none."""
    done = chaos_command("run", chaos_command.write(_alone("SQLiteAlone", synchronous, "posix")), "--seed", "2")
    durable = _verdict(done, "durable")
    assert durable["valid"] == valid, done.out
    assert _verdict(done, "landed")["valid"] == "valid", done.out
    assert done.code == (0 if valid == "valid" else 1)
    assert (durable["details"]["lost"]["sqlite"] > 20) == (valid == "invalid")


@pytest.mark.deep
def test_a_crash_of_processes_does_not_tell_the_two_apart(chaos_command) -> None:
    """With everything applied the same missing syncs stay unseen, and the verdict says so little."""
    done = chaos_command("run", chaos_command.write(_alone("SQLiteAlone", "OFF", "applied")), "--seed", "2")
    assert done.code == 0, done.out + done.err
    assert _verdict(done, "durable")["details"]["crash"] == "process crash"


def test_what_the_log_cannot_tell_makes_the_run_inconclusive(chaos_command) -> None:
    """A store that writes through a shared map taints the log: the loss has not landed, and the reason is told."""
    done = chaos_command("run", chaos_command.write(_alone("SQLiteAndMap", "FULL", "posix")), "--seed", "2")
    assert done.code == 3, done.out + done.err
    assert all("sqlite/page" in evidence["refused"] for evidence in _evidence(done))
    assert all("folders_rebuilt" not in evidence for evidence in _evidence(done))
    assert _verdict(done, "durable")["details"]["crash"] is None


def test_containers_are_refused(chaos_command) -> None:
    """Containers are refused before anything starts, with the place that can do it."""
    experiment = chaos_command.write(WHOLE.format(policy="posix"))
    done = chaos_command("validate", experiment, "--backend", "docker")
    assert done.code == 2
    assert "provider-cannot" in done.out + done.err
    assert "file shim" in done.out + done.err
