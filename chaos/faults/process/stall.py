"""Stall: the event loop of the worker stands still for a while, and all its timers fire late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers


@dataclass(frozen=True)
class Stall(Fault):
    """Block the worker's event loop for `duration`, as a long computation or a blocking call in a coroutine does.

    Unlike a paused process its other threads go on: what was handed to a store's thread is done meanwhile, and found
    done together with every deadline that has passed. A point in time, which takes `duration`.
    """

    kind: ClassVar[str] = "process.stall"
    bites: ClassVar[tuple[str, ...]] = ("stalled_ms",)
    lasting: ClassVar[bool] = False

    duration: Duration

    def arguments(self) -> dict[str, Any]:
        """Return the duration."""
        return {"duration_s": seconds(self.duration)}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a duration out of range."""
        yield from self.bad_duration("duration", low_s=0.01, high_s=30.0)

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Stall, and return when it is over. Raises ProcessLookupError when no worker runs, or it dies meanwhile."""
        stalled_s = await levers.stall(seconds(self.duration))
        return Injection(fault_id, {"stalled_ms": round(stalled_s * 1000)})

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Return the evidence; it was over when inject returned."""
        return dict(injection.evidence)
