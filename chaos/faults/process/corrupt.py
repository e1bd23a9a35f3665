"""Corrupt: bytes of a store's file are overwritten by somebody else, under the living system."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers

TARGETS = ("sqlite", "graph")
_OFFSET_MAX = 2**40


@dataclass(frozen=True)
class Corrupt(Fault):
    """Turn `length` bytes from `offset` of each file of `target` that `path` matches into their complement.

    target: "sqlite" or "graph". path: a glob below the store's folder. It is done from outside, by no process of the
    store, and stays: nothing takes it back, and no store can. What a living process has in memory it may go on with, or
    write over the damage, so it goes with a kill: `.do(Corrupt(...), Kill("worker"))`. A point in time.
    """

    kind: ClassVar[str] = "process.corrupt"
    bites: ClassVar[tuple[str, ...]] = ("bytes_changed",)
    lasting: ClassVar[bool] = False
    severs: ClassVar[bool] = True

    target: str
    path: str = "*"
    offset: int = 0
    length: int = 16

    def arguments(self) -> dict[str, Any]:
        """Return what is changed, and where."""
        return {"target": self.target, "path": self.path, "offset": self.offset, "length": self.length}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown target, a glob that is none, and numbers out of range."""
        yield from self.bad_choice("target", TARGETS, "unknown-target")
        yield from self.bad_count("offset", 0, _OFFSET_MAX)
        yield from self.bad_count("length", 1, _OFFSET_MAX)
        if not isinstance(self.path, str) or not self.path or self.path.startswith("/") or ".." in self.path:
            yield self.problem(f"path={self.path!r}) must be a glob", 'write for example "*-wal"', "bad-glob")

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Change the bytes. Raises ProcessLookupError while no file matches."""
        return Injection(fault_id, dict(levers.corrupt(self.target, self.path, self.offset, self.length)))

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Return the evidence; what is damaged stays so."""
        return dict(injection.evidence)
