"""Stop, Restart, SlowStart: a server that is asked to end, as an administrator or an upgrade would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from random import Random
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos.errors import Problem
from chaos.faults.base import ContainerLever, Evidence, Injection, Levers
from chaos.faults.container.declared import ContainerFault

GRACE_S_MAX = 60.0
DELAY_S_MIN = 0.05
DELAY_S_MAX = 60.0
_GRACE_S = 5.0
_KILLED = 137
"""Exit status of a container whose server ended by SIGKILL: 128 + 9."""


async def _stop(container: ContainerLever, grace_s: float) -> dict[str, int | float | str]:
    """Stop the server and return what became of it."""
    before = await container.state()
    if not before["Running"]:
        raise ProcessLookupError("the server is down already")
    await container.stop(grace_s)
    state = await container.state()
    return {
        "servers_stopped": int(not state["Running"]),
        "exit_status": int(state["ExitCode"]),
        "killed_after_grace": int(state["ExitCode"] == _KILLED),
    }


@dataclass(frozen=True)
class Stop(ContainerFault):
    """Ask the server of `store` to end (SIGTERM), kill it after `grace`, start it again on the same data when healed.

    Redis saves on SIGTERM what it has to and closes every connection; new ones are refused or closed at once.
    """

    kind: ClassVar[str] = "container.stop"
    bites: ClassVar[tuple[str, ...]] = ("servers_stopped",)
    severs: ClassVar[bool] = True

    _: KW_ONLY
    grace: Duration = "5s"

    def arguments(self) -> dict[str, Any]:
        """Return the store and the grace in seconds."""
        return {"store": self.store, "grace_s": seconds(self.grace)}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a bad store or grace."""
        yield from super().problems()
        yield from self.bad_duration("grace", high_s=GRACE_S_MAX)

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Stop it; the server is down when this returns."""
        return Injection(fault_id, await _stop(self.lever(levers), seconds(self.grace)))

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Start it again and wait until it answers."""
        await self.lever(levers).start()
        return dict(injection.evidence)


@dataclass(frozen=True)
class Restart(ContainerFault):
    """Stop the server of `store` as `Stop` does, and start it again at once."""

    kind: ClassVar[str] = "container.restart"
    bites: ClassVar[tuple[str, ...]] = ("servers_restarted",)
    lasting: ClassVar[bool] = False

    _: KW_ONLY
    grace: Duration = "5s"

    def arguments(self) -> dict[str, Any]:
        """Return the store and the grace in seconds."""
        return {"store": self.store, "grace_s": seconds(self.grace)}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a bad store or grace."""
        yield from super().problems()
        yield from self.bad_duration("grace", high_s=GRACE_S_MAX)

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Restart it; another process answers when this returns."""
        container = self.lever(levers)
        began_ns = time.monotonic_ns()
        pid_before = (await container.state())["Pid"]
        evidence = await _stop(container, seconds(self.grace))
        await container.start()
        state = await container.state()
        evidence["servers_restarted"] = int(state["Running"] and state["Pid"] != pid_before)
        evidence["away_ms"] = (time.monotonic_ns() - began_ns) // 1_000_000
        return Injection(fault_id, evidence)

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """See that it runs, in case the injection was cut short."""
        await self.lever(levers).start()
        return dict(injection.evidence)


@dataclass(frozen=True)
class SlowStart(ContainerFault):
    """Restart the server of `store`, and have it answer only `delay` after its start.

    The container runs meanwhile, and its process is frozen: an orchestrator sees it up, clients wait for answers. A
    rule at a phase keeps that one transaction waiting for as long.
    """

    kind: ClassVar[str] = "container.slow_start"
    bites: ClassVar[tuple[str, ...]] = ("servers_started_slowly",)
    lasting: ClassVar[bool] = False

    delay: Duration

    def arguments(self) -> dict[str, Any]:
        """Return the store and the delay in seconds."""
        return {"store": self.store, "delay_s": seconds(self.delay)}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a bad store or delay."""
        yield from super().problems()
        yield from self.bad_duration("delay", low_s=DELAY_S_MIN, high_s=DELAY_S_MAX)

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Stop it, start it frozen, wait, and let it come up; it answers when this returns."""
        container = self.lever(levers)
        evidence = await _stop(container, _GRACE_S)
        await container.start_frozen()
        frozen_ns = time.monotonic_ns()
        state = await container.state()
        evidence["servers_started_slowly"] = int(state["Running"] and state["Paused"])
        await asyncio.sleep(seconds(self.delay))
        await container.start()
        evidence["silent_ms"] = (time.monotonic_ns() - frozen_ns) // 1_000_000
        return Injection(fault_id, evidence)

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """See that it runs and is not frozen, in case the injection was cut short."""
        await self.lever(levers).start()
        return dict(injection.evidence)
