from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from chaos.transactions.system import Request

from .conftest import Place, both_arms, converged, faults

ROOT = Path(__file__).parents[3]
PHASES = (
    "begin",
    "buffered",
    "queued",
    "sqlite.begun",
    "sqlite.committing",
    "sqlite.committed",
    "redis.applying",
    "redis.applied",
    "graph.applying",
    "graph.applied",
    "applied",
    "acknowledged",
)

pytestmark = pytest.mark.requires("redis")


async def die(place: Place, phase: str, nth: int, requests: list[Request], system: str | None = None) -> dict[str, str]:
    """Run `requests` in a process that kills itself at the phase; return the outcomes it told before.

    system: where the one to run is, in place of the place's own.
    """
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("victim.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    system = system or f"{place.kind.__module__}:{place.kind.__qualname__}"
    given = {"system": system, "config": place.config, "phase": phase, "nth": nth, "requests": requests}
    output, _ = await victim.communicate(msgspec.json.encode(given))
    assert victim.returncode == -signal.SIGKILL, f"it never came to {phase}"
    return dict(json.loads(line) for line in output.decode().splitlines())


@both_arms
@pytest.mark.parametrize("phase", PHASES)
async def test_a_crash_at_a_phase_is_recovered(place: Place, phase: str) -> None:
    """After SIGKILL at a phase under concurrent load, every transaction is everywhere or nowhere, as it was told."""
    await place.set_up()
    requests = [place.request(f"t{n}") for n in range(12)]
    told = await die(place, phase, 5, requests)
    system = await place.open()
    open_tokens = [request.token for request in requests if request.token not in told]
    resolved = await system.recover(open_tokens)
    assert set(resolved) == set(open_tokens)
    images = await system.read_back()
    assert faults(images, requests, {**told, **resolved}) == []


@pytest.mark.parametrize("engine", ["kuzu"], indirect=True)
async def test_crashes_during_recovery_do_no_harm(place: Place) -> None:
    """SIGKILL at the commit, then again while recovery applies what was left, then once more: all is well."""
    await place.set_up()
    requests = [place.request(f"t{n}") for n in range(9)]
    told = await die(place, "sqlite.committed", 4, requests)
    for phase in ("graph.applying", "recovering"):
        await die(place, phase, 1, requests)
    system = await place.open()
    resolved = await system.recover([request.token for request in requests if request.token not in told])
    assert faults(await converged(system), requests, {**told, **resolved}) == []
    assert "committed" in {**told, **resolved}.values()
