"""Calls that fail, and syncs that lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.disk.calls import ERRORS
from chaos.faults.disk.fault import Calls, DiskFault, names_of


@dataclass(frozen=True)
class DiskError(DiskFault):
    """Make file calls fail with `error`; they are not executed.

    `error` is one of `chaos.faults.disk.calls.ERRORS` that the calls can report. The `nth` matching call after
    injection fails (1-based) and the `count` - 1 that follow it; `count=0` means all from there on. `call` names
    families or calls, `path` is a glob on names below the store's folder.
    """

    error: str = "EIO"
    call: Calls = "write"
    path: str = "*"
    nth: int = 1
    count: int = 1

    kind: ClassVar[str] = "disk.error"
    bites: ClassVar[tuple[str, ...]] = ("calls_failed",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self.bad_choice("error", ERRORS, "unknown-error")
        yield from self._bad_calls(self.call, self.error)
        yield from self._bad_turns()

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {
            "action": "errno",
            "error": self.error,
            "calls": list(names_of(self.call)),
            **self.turns(),
        }


@dataclass(frozen=True)
class FsyncFails(DiskFault):
    """Make syncs of files fail with EIO; they are not executed.

    `pages` is what the failure does to the bytes that were not synced: "dropped", as with ext4 and XFS, where they are
    marked clean and never become durable unless they are written again, though reads see them; "reverted", as with
    btrfs, where reads see the old bytes again and the file has its old length; or "kept", so that a later sync may make
    them durable. Between "dropped" and "kept" the difference is one for the operation log and what is built on it; the
    running program sees the same. Reverted are changes made since the fault began.
    """

    pages: str = "dropped"
    path: str = "*"
    nth: int = 1
    count: int = 1

    kind: ClassVar[str] = "disk.fsync_fails"
    bites: ClassVar[tuple[str, ...]] = ("calls_failed",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self.bad_choice("pages", ("dropped", "kept", "reverted"))
        yield from self._bad_turns()

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        calls = ["fsync", "fdatasync"]
        return {"action": "sync_fail", "pages": self.pages, "calls": calls, **self.turns()}


@dataclass(frozen=True)
class FsyncLies(DiskFault):
    """Let syncs return success without being executed, as a disk with a cache that it denies.

    Harmless while the kernel lives: kill the process and nothing is lost. Power loss after it, built from the operation
    log, loses what was not synced by another call.
    """

    path: str = "*"
    nth: int = 1
    count: int = 0

    kind: ClassVar[str] = "disk.fsync_lies"
    bites: ClassVar[tuple[str, ...]] = ("calls_lied_to",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_turns()

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {"action": "lie", "calls": ["sync"], **self.turns()}
