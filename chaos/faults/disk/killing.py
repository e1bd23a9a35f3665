"""A process that dies at an exact call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.disk.fault import Calls, DiskFault, names_of


@dataclass(frozen=True)
class KillAtCall(DiskFault):
    """SIGKILL the process that makes the `nth` matching call, once: before the call, or with `after` behind it.

    With `group` all processes of the run that have the shim die at that moment, whatever store they serve. It is armed
    until healed, and kills once however long that is.
    """

    call: Calls
    path: str = "*"
    nth: int = 1
    after: bool = False
    group: bool = False

    kind: ClassVar[str] = "disk.kill"
    bites: ClassVar[tuple[str, ...]] = ("processes_killed",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_calls(self.call)
        yield from self._bad_whole_number("nth", 1)
        for name in ("after", "group"):
            if not isinstance(getattr(self, name), bool):
                yield self.problem(
                    f"{name}={getattr(self, name)!r}) must be True or False", f"change {name}", "not-a-choice"
                )

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {
            "action": ("kill_all" if self.group else "kill") + ("_after" if self.after else ""),
            "calls": list(names_of(self.call)),
            "path": self.path,
            "nth": self.nth,
            "count": 1,
        }
