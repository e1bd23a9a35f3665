"""Supplant: a leader is paused for so long that another takes its place, and then it goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers


@dataclass(frozen=True)
class Supplant(Fault):
    """SIGSTOP the worker, kill its graph child, start another in its place, and SIGCONT the old one when healed.

    The child goes because it would keep the file locked: whoever puts a leader in the place of a silent one takes away
    what that one holds.

    Both then run on the same stores: what the old one had begun it goes on with, its answers come late, and it has not
    been told that it leads no more. A long pause of a garbage collector or of a virtual machine looks like this. The
    old one lives until the run ends. It landed when the old one was seen to go on.
    """

    kind: ClassVar[str] = "process.supplant"
    bites: ClassVar[tuple[str, ...]] = ("phases_behind",)

    def arguments(self) -> dict[str, Any]:
        """Return nothing; there is nothing to choose."""
        return {}

    def problems(self) -> Iterator[Problem]:
        """Yield nothing."""
        yield from ()

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Stop the worker; the next one is started at once."""
        return Injection(fault_id, {"pid": await levers.supplant()})

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Let the old one go on, and count what it is seen to do."""
        if "pid" in injection.evidence and "phases_behind" not in injection.evidence:
            injection.evidence["phases_behind"] = await levers.resume(int(injection.evidence["pid"]))
        return dict(injection.evidence)
