"""HoldLock: another process writes to the same database, and takes its time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers

TARGETS = ("sqlite",)
_DESCRIPTOR = "descriptor"


@dataclass(frozen=True)
class HoldLock(Fault):
    """Hold the lock of `target` ("sqlite") that whoever writes needs, until healed: SQLITE_BUSY to everybody else.

    It is taken from outside, as a second writer has it within BEGIN IMMEDIATE and COMMIT, and only when nobody else has
    it: a phase within a transaction of SQLite is no moment for it, since that transaction stands still with the lock.
    Readers are not disturbed. Nothing is written.
    """

    kind: ClassVar[str] = "process.hold_lock"
    bites: ClassVar[tuple[str, ...]] = ("locks_held",)
    stops_work: ClassVar[bool] = True

    target: str

    def arguments(self) -> dict[str, Any]:
        """Return the target."""
        return {"target": self.target}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown target."""
        yield from self.bad_choice("target", TARGETS, "unknown-target")

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Take the lock. Raises ProcessLookupError while another process has it, or the database is not open."""
        return Injection(fault_id, {"locks_held": 1}, {_DESCRIPTOR: levers.lock(self.target)})

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Give it back."""
        descriptor = injection.state.pop(_DESCRIPTOR, None)
        if descriptor is not None:
            os.close(descriptor)
        return dict(injection.evidence)
