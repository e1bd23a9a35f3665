"""A disk that fills up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.disk.fault import DiskFault


@dataclass(frozen=True)
class DiskFull(DiskFault):
    """Let `budget_bytes` more bytes be written, then fail writes and allocations with ENOSPC until healed.

    The write at the edge is cut short, as a real full disk does. Overwriting uses up the budget like growing. After
    `freed_after` calls have failed, `freed_bytes` more may be written, once: somebody has tidied up.
    """

    budget_bytes: int = 0
    path: str = "*"
    freed_bytes: int = 0
    freed_after: int = 0

    kind: ClassVar[str] = "disk.full"
    bites: ClassVar[tuple[str, ...]] = ("calls_failed", "calls_shortened")
    stops_work: ClassVar[bool] = True

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        for name in ("budget_bytes", "freed_bytes", "freed_after"):
            yield from self._bad_whole_number(name, 0)
        if bool(self.freed_bytes) != bool(self.freed_after):
            yield self.problem(
                f"freed_bytes={self.freed_bytes!r}, freed_after={self.freed_after!r}) must both be 0 or neither",
                "say how many bytes are freed, and after how many failed calls",
                "out-of-range",
            )

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {
            "action": "full",
            "budget_bytes": self.budget_bytes,
            "freed_bytes": self.freed_bytes,
            "freed_after": self.freed_after,
            "calls": ["write", "allocate"],
            **self.turns(),
        }
