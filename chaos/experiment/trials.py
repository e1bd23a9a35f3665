"""What a finding's steps are put through: nothing, a crash at every operation of a phase, or one failing file call.

A *phase* is what the steps name with `tell.phase(...)`; it lasts until the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos._declare import Declared
from chaos.errors import Problem
from chaos.faults.disk.fault import DiskFault


@dataclass(frozen=True, kw_only=True)
class Trial(Declared):
    """Base of the trials. Class attributes: `kind`, its name in files, and `needs_shim`."""

    kind: ClassVar[str]
    needs_shim: ClassVar[bool] = True

    def arguments(self) -> dict[str, Any]:
        """Return the declared parameters as plain JSON values."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Undisturbed(Trial):
    """The steps alone show it, in a plain process, without the file shim; an assertion in them tells what is wrong."""

    kind: ClassVar[str] = "undisturbed"
    needs_shim: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class _EveryState(Trial):
    """Look at the states that a crash within the phase `during` may leave.

    after: only those from the phase's first operation on whose words this glob fits, such as "sync *.wal"; the words
    are those of an exploration's operations.txt. At most `looks` states are opened, chosen by the seed. With `again`,
    what is judged are the states that a second crash leaves, during the recovery from `first` of those that recover by
    themselves, the earliest where `after` says where to begin; the two together are a power loss when one of them is.
    draws: random states per boundary.
    """

    during: str
    after: str = "*"
    again: bool = False
    looks: int = 400
    first: int = 3
    draws: int = 2
    crash: ClassVar[str]

    def arguments(self) -> dict[str, Any]:
        """Return the declared parameters."""
        return {name: getattr(self, name) for name in ("during", "after", "again", "looks", "first", "draws")}

    def problems(self) -> Iterator[Problem]:
        """Yield the mistakes in the phase's name and the counts."""
        yield from _bad_text(self, "during", "name a phase that the steps tell")
        yield from _bad_text(self, "after", 'write a glob such as "sync *.wal"')
        yield from self.bad_flag("again")
        yield from self.bad_count("looks", 1, 100_000)
        yield from self.bad_count("first", 1, 100)
        yield from self.bad_count("draws", 0, 100)


@dataclass(frozen=True, kw_only=True)
class Crash(_EveryState):
    """The process ends at any moment of the phase, by SIGKILL or by itself; what it had written is all there."""

    kind: ClassVar[str] = "crash"
    crash: ClassVar[str] = "process crash"


@dataclass(frozen=True, kw_only=True)
class PowerLoss(_EveryState):
    """The machine loses power at any moment of the phase; what is not synced may be missing.

    States that a mere end of the process leaves as well are not among those that are judged.
    """

    kind: ClassVar[str] = "power_loss"
    crash: ClassVar[str] = "power loss"


@dataclass(frozen=True, kw_only=True)
class Faulted(Trial):
    """The file fault holds from the beginning of the phase `during` to its end; then the data are opened again.

    The fault's store is the finding's subject, and its path is taken relative to the steps' folder.
    """

    fault: DiskFault
    during: str
    kind: ClassVar[str] = "faulted"

    def arguments(self) -> dict[str, Any]:
        """Return the fault with its parameters."""
        return {"during": self.during, "fault": {"kind": self.fault.kind, "arguments": self.fault.arguments()}}

    def problems(self) -> Iterator[Problem]:
        """Yield the mistakes in the phase's name and in the fault."""
        yield from _bad_text(self, "during", "name a phase that the steps tell")
        if isinstance(self.fault, DiskFault):
            yield from self.fault.problems()
        else:
            yield self.problem(f"fault={self.fault!r}) must be a file fault", "use faults.DiskError(...)", "wrong-kind")


def _bad_text(trial: Trial, name: str, remedy: str) -> Iterator[Problem]:
    value = getattr(trial, name)
    if not isinstance(value, str) or not value.strip():
        yield trial.problem(f"{name}={value!r}) must be text", remedy, "no-name")
