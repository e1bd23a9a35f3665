"""Reads and writes that move other bytes than they should."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.disk.fault import DiskFault


@dataclass(frozen=True)
class ShortWrite(DiskFault):
    """Write only the first `keep_bytes` bytes and return that number, without an error.

    Writes of at most `keep_bytes` bytes are left alone and not counted. A correct program writes the rest.
    """

    keep_bytes: int
    path: str = "*"
    nth: int = 1
    count: int = 1

    kind: ClassVar[str] = "disk.short_write"
    bites: ClassVar[tuple[str, ...]] = ("calls_shortened",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_whole_number("keep_bytes", 1)
        yield from self._bad_turns()

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {
            "action": "short",
            "keep_bytes": self.keep_bytes,
            "calls": ["write"],
            **self.turns(),
        }


@dataclass(frozen=True)
class ShortRead(DiskFault):
    """Read only the first `keep_bytes` bytes and return that number, without an error.

    Reads of at most `keep_bytes` bytes are left alone and not counted. A correct program reads the rest.
    """

    keep_bytes: int
    path: str = "*"
    nth: int = 1
    count: int = 1

    kind: ClassVar[str] = "disk.short_read"
    bites: ClassVar[tuple[str, ...]] = ("calls_shortened",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_whole_number("keep_bytes", 1)
        yield from self._bad_turns()

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {"action": "short", "keep_bytes": self.keep_bytes, "calls": ["read"], **self.turns()}


@dataclass(frozen=True)
class TornWrite(DiskFault):
    """Put down the first part of the `nth` matching write, then SIGKILL the process.

    The cut is at a multiple of `unit_bytes` in the file, drawn from the seed: 512 for sectors, 4096 for pages. Writes
    that cross no such boundary are left alone and not counted.
    """

    unit_bytes: int = 512
    path: str = "*"
    nth: int = 1

    kind: ClassVar[str] = "disk.torn_write"
    bites: ClassVar[tuple[str, ...]] = ("processes_killed",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_whole_number("unit_bytes", 1)
        yield from self._bad_whole_number("nth", 1)

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {"action": "tear", "unit_bytes": self.unit_bytes, "count": 1, "calls": ["write"], **self.turns()}


@dataclass(frozen=True)
class LostWrite(DiskFault):
    """Return success for writes that put down nothing.

    The position in the file moves on as if they had.
    """

    path: str = "*"
    nth: int = 1
    count: int = 1

    kind: ClassVar[str] = "disk.lost_write"
    bites: ClassVar[tuple[str, ...]] = ("calls_lied_to",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_turns()

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {"action": "lie", "calls": ["write"], **self.turns()}


@dataclass(frozen=True)
class MisdirectedWrite(DiskFault):
    """Put down writes `shift_bytes` bytes behind the place they were meant for, and return success.

    What was at the right place stays. Writes to files opened for appending are left alone.
    """

    shift_bytes: int = 4096
    path: str = "*"
    nth: int = 1
    count: int = 1

    kind: ClassVar[str] = "disk.misdirected_write"
    bites: ClassVar[tuple[str, ...]] = ("writes_misdirected",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_whole_number("shift_bytes", 512)
        if isinstance(self.shift_bytes, int) and self.shift_bytes % 512:
            yield self.problem(
                f"shift_bytes={self.shift_bytes!r}) must be a multiple of 512",
                "disks move whole sectors",
                "out-of-range",
            )
        yield from self._bad_turns()

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {"action": "misdirect", "shift_bytes": self.shift_bytes, "calls": ["write"], **self.turns()}


@dataclass(frozen=True)
class BitRot(DiskFault):
    """Flip one bit in each `every_bytes` bytes of a file, in what reads return; the disk keeps the right ones.

    Which bits is a hash of the seed, the file's name and the place, so that reading again gives the same. Here
    `probability` is that of each place. Maps of files show no rot.
    """

    every_bytes: int = 4096
    path: str = "*"
    nth: int = 1
    count: int = 0

    kind: ClassVar[str] = "disk.bit_rot"
    bites: ClassVar[tuple[str, ...]] = ("reads_changed",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_whole_number("every_bytes", 1)
        yield from self._bad_turns()

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {"action": "rot", "unit_bytes": self.every_bytes, "calls": ["read"], **self.turns()}
