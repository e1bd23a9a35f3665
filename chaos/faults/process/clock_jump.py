"""ClockJump: the wall clock of the worker jumps, and jumps back when healed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers

_JUMP_MAX_S = 10 * 365 * 86400


@dataclass(frozen=True)
class ClockJump(Fault):
    """Add `by_s` seconds, which may be negative, to the wall clock that Python code in the worker reads, until healed.

    That is what `time.time()` and `time.time_ns()` return. Monotonic clocks are true, as they are when somebody sets
    the clock of a machine. It reaches neither code in C (`datetime.now()`, the engines), nor the servers, nor whoever
    has taken the functions out of their module before; a worker that is started meanwhile has the true clock.
    """

    kind: ClassVar[str] = "process.clock_jump"
    bites: ClassVar[tuple[str, ...]] = ("clocks_shifted",)

    by_s: float

    def arguments(self) -> dict[str, Any]:
        """Return the jump."""
        return {"by_s": self.by_s}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a jump that is none, or too far."""
        yield from self.bad_number("by_s", -_JUMP_MAX_S, _JUMP_MAX_S)
        if self.by_s == 0:
            yield self.problem("by_s=0) must not be 0", "write how far the clock jumps", "out-of-range")

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Shift the clock. Raises ProcessLookupError when no worker runs."""
        return Injection(fault_id, {"clocks_shifted": await levers.shift_clock(self.by_s)})

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Let it tell the time again; a worker that is gone has taken its clock along."""
        try:
            await levers.shift_clock(0.0)
        except ProcessLookupError:
            injection.evidence["gone_meanwhile"] = 1
        return dict(injection.evidence)
