"""HoldLock: another process has the same database, and takes its time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers

TARGETS = ("sqlite", "graph")
_DESCRIPTOR = "descriptor"


@dataclass(frozen=True)
class HoldLock(Fault):
    """Hold the lock of `target` ("sqlite" or "graph") that whoever writes needs, until healed.

    It is taken from outside, and only when nobody else has it. Nothing is written.

    sqlite: the lock of a second writer within BEGIN IMMEDIATE and COMMIT; SQLITE_BUSY to everybody else, and readers
    are not disturbed. A phase within a transaction of SQLite is no moment for it, since that transaction stands still
    with the lock.

    graph: the lock of whoever serves the graph's database, for as long as it is open. The system's own child has it
    while it lives, so this goes with a fault that ends the child, written before it: `.do(Kill("graph"),
    HoldLock("graph"))`. No other child opens the database then.
    """

    kind: ClassVar[str] = "process.hold_lock"
    bites: ClassVar[tuple[str, ...]] = ("locks_held",)
    stops_work: ClassVar[bool] = True

    target: str

    def __post_init__(self) -> None:
        """Nothing is committed without SQLite; without the graph, something may be."""
        object.__setattr__(self, "stops_work", self.target == "sqlite")
        object.__setattr__(self, "severs", self.target == "graph")

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
