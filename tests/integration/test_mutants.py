"""Our coordinator with one promise taken out must turn an experiment of this repository red."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.requires("redis", "kuzu", "shim"), pytest.mark.slow, pytest.mark.timeout(180)]

MUTANT = """
    import dataclasses
    import runpy

    from chaos import systems

    found = runpy.run_path({experiment!r})
    base = found["EXPERIMENT"] if "EXPERIMENT" in found else found["EXPERIMENTS"][{index}]
    EXPERIMENT = dataclasses.replace(base, id="mutant", system=systems.Own({system!r}))
"""

DEEP = pytest.mark.deep

CASES = [
    # The experiment's file, and where that has several, the number of the one; the mutant; the check that catches it.
    pytest.param("latency.py", "NoFsync", "synced", id="NoFsync"),
    pytest.param("crash_mid_commit.py", "NoRecovery", "atomic", id="NoRecovery"),
    pytest.param("partition.py", "NoIdempotence", "exactly_once", id="NoIdempotence"),
    pytest.param("registration.py::0", "Fickle", "completed", id="Fickle"),
    pytest.param("redis_data_loss.py::0", "EagerPurge", "recovered", marks=DEEP, id="EagerPurge-redis_data_loss"),
    pytest.param("power_loss.py::1", "LazyFsync", "durable", marks=DEEP, id="LazyFsync"),
    pytest.param("power_loss.py::1", "EagerPurge", "recovered", marks=DEEP, id="EagerPurge"),
    pytest.param("fsync_lies.py::0", "EagerPurge", "recovered", marks=DEEP, id="EagerPurge-fsync_lies"),
    pytest.param("disk_full.py::0", "Optimist", "durable", marks=DEEP, id="Optimist"),
    pytest.param("slow_disk.py", "Hasty", "no_zombie", marks=DEEP, id="Hasty"),
    pytest.param("kill_every_call.py", "NoRecovery", "atomic", marks=DEEP, id="NoRecovery-kill_every_call"),
]


@pytest.mark.parametrize(("experiment", "mutant", "check"), CASES)
def test_a_mutant_is_caught(chaos_command, experiment: str, mutant: str, check: str) -> None:
    """Exit 1, and the check that watches over that promise is invalid, with witnesses."""
    system = f"{ROOT / 'tests/planted/systems.py'}:{mutant}"
    file, _, index = experiment.partition("::")
    text = MUTANT.format(experiment=str(ROOT / "experiments" / file), index=index or 0, system=system)
    done = chaos_command("run", chaos_command.write(text), "--seed", "0")
    assert done.code == 1, done.out + done.err
    verdict = json.loads((done.folder / "checks" / f"{check}.json").read_text())
    assert verdict["valid"] == "invalid", done.out
    assert verdict["witnesses"]
    assert f"{check}" in done.out
    assert (done.folder / "stores" / "sqlite" / "main.db").exists(), "evidence is kept"
