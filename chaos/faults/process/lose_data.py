"""LoseData: a server ends, and comes back with nothing, as one does whose disk was replaced or was never durable."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers

TARGETS = ("redis",)
_GONE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class LoseData(Fault):
    """SIGKILL the server behind `target` ("redis"), and remove every file of its store.

    It stays down until the fault is healed, which starts an empty one on the same port. So whoever relied on what the
    server had acknowledged has lost it, whatever it had synced.
    """

    kind: ClassVar[str] = "process.lose_data"
    bites: ClassVar[tuple[str, ...]] = ("files_removed",)
    severs: ClassVar[bool] = True

    target: str

    def arguments(self) -> dict[str, Any]:
        """Return the target."""
        return {"target": self.target}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown target."""
        yield from self.bad_choice("target", TARGETS, "unknown-target")

    def refused_by(self, provider: str) -> str | None:
        """Refuse a server in a container: its files are in there."""
        return "the files of a server in a container are out of reach" if provider == "docker" else None

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Send SIGKILL, wait until the kernel has taken the process away, and remove what it leaves."""
        pid = await levers.signal(self.target, signal.SIGKILL)
        injection = Injection(fault_id, {"pid": pid, "processes_killed": 0, "files_removed": 0})
        if await levers.wait_gone(self.target, pid, _GONE_TIMEOUT_S):
            injection.evidence.update(processes_killed=1, **await levers.empty(self.target))
        return injection

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Start the server again."""
        await levers.revive(self.target)
        return dict(injection.evidence)
