"""Kill: SIGKILL, the crash of a process. The page cache survives it, so it proves nothing about fsync."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers

TARGETS = ("worker", "graph", "redis")
_GONE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Kill(Fault):
    """SIGKILL the process behind `target`: "worker" (the coordinator), "graph" (its child) or "redis".

    The worker and the graph child are supervised and come back by themselves, so for them this is a point in
    time. A Redis server stays down until the fault is healed, which starts it again on the same port and data.
    """

    kind: ClassVar[str] = "process.kill"
    bites: ClassVar[tuple[str, ...]] = ("processes_killed",)
    lasting: ClassVar[bool] = False
    severs: ClassVar[bool] = True

    target: str

    def __post_init__(self) -> None:
        """A killed server stays down: only then the fault lasts."""
        object.__setattr__(self, "lasting", self.target == "redis")

    def arguments(self) -> dict[str, Any]:
        """Return the target."""
        return {"target": self.target}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown target."""
        yield from self.bad_choice("target", TARGETS, "unknown-target")

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Send SIGKILL and wait until the kernel has taken the process away."""
        pid = await levers.signal(self.target, signal.SIGKILL)
        gone = await levers.wait_gone(self.target, pid, _GONE_TIMEOUT_S)
        return Injection(fault_id, {"pid": pid, "processes_killed": int(gone)})

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Start a server again; supervised processes need nothing."""
        await levers.revive(self.target)
        return dict(injection.evidence)
