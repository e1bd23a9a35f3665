"""Pause: SIGSTOP and later SIGCONT, a process that is there and does not answer."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers
from chaos.faults.process.kill import TARGETS


@dataclass(frozen=True)
class Pause(Fault):
    """SIGSTOP the process behind `target` ("worker", "graph" or "redis") until healed by SIGCONT.

    A paused server accepts connections (the kernel does) and answers nothing; what was sent meanwhile is
    executed after the heal, however long ago its sender gave up. In a container the freezer holds it.
    """

    kind: ClassVar[str] = "process.pause"
    bites: ClassVar[tuple[str, ...]] = ("processes_stopped",)
    severs: ClassVar[bool] = True

    target: str

    def __post_init__(self) -> None:
        """While the worker is paused nothing can be acknowledged."""
        object.__setattr__(self, "stops_work", self.target == "worker")

    def arguments(self) -> dict[str, Any]:
        """Return the target."""
        return {"target": self.target}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown target."""
        yield from self.bad_choice("target", TARGETS, "unknown-target")

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Send SIGSTOP."""
        pid = await levers.signal(self.target, signal.SIGSTOP)
        return Injection(fault_id, {"pid": pid}, {"target": self.target})

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Look whether it was really stopped, then send SIGCONT; one that a watchdog killed meanwhile is gone."""
        if "pid" not in injection.evidence:
            return dict(injection.evidence)  # inject found no process, so nothing was ever stopped
        pid = int(injection.evidence["pid"])
        if "processes_stopped" not in injection.evidence:
            gone = await levers.wait_gone(self.target, pid, 0)
            injection.evidence["processes_stopped"] = int(gone or await levers.stopped(self.target, pid))
            injection.evidence["gone_meanwhile"] = int(gone)
        if not injection.evidence["gone_meanwhile"]:
            with contextlib.suppress(ProcessLookupError):
                await levers.signal(self.target, signal.SIGCONT)
        return dict(injection.evidence)
