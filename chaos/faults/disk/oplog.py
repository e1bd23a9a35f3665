"""The operation log: every change that processes under the shim made to files below the root, in one order.

Each process appends whole records to a ring in the control file, and from there to the log, after the call was executed
and before it returns, so the records of a killed process are complete up to the call it died in. Records carry the
number that the operation drew from the shared clock *after* it was executed; sorting by it gives the one order of a
run. Calls that failed changed nothing and are not in the log.

A file is known by its `handle`: the clock of the OPEN or ADOPT that its descriptor came from. Names are relative to
the root and as they were at that moment; a folder's name ends in "/". The reference is docs/reference/operation-log.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from chaos.errors import PlanError, Problem

MAGIC = 0x504F4843  # "CHOP" in memory order
_HEADER = struct.Struct("<IHHQQQIIQqQqIIQ")
HEADER_BYTES = _HEADER.size


class Kind(IntEnum):
    """What was done; shim/oplog.h has the same numbers."""

    OPEN = 1
    WRITE = 2
    TRUNCATE = 3
    ALLOCATE = 4
    SYNC = 5
    SYNC_RANGE = 6
    SYNC_ALL = 7
    RENAME = 8
    LINK = 9
    SYMLINK = 10
    UNLINK = 11
    RMDIR = 12
    MKDIR = 13
    CLOSE = 14
    MARKER = 15
    TAINT = 16
    ADOPT = 17
    ATTACH = 18
    SYNC_FAILED = 19


DATA_ONLY = 1
"""Flag of SYNC: fdatasync, which leaves names and times alone but syncs the length."""

DROPPED = 1
"""Flag of SYNC_FAILED: what was not synced by then never will be, unless it is written again."""

UNNAMED = 1
"""Flag of ADOPT: the file had no name any more; `name` is the last one it had."""

LIED = 1 << 31
"""Flag of any kind: the program was told that it succeeded, and nothing was done."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One record.

    clock: the number drawn from the shared clock. time_ns: CLOCK_MONOTONIC when the record was written.
    name: the file; of MARKER the text, of ATTACH the program. other: the second name of RENAME and LINK, what a
    SYMLINK points to, and why a TAINT is one. flags: those of open(2) for OPEN, the mode of fallocate(2) for ALLOCATE,
    those of renameat2(2) for RENAME, else the constants above. offset: None where there is none. size: the new length
    for TRUNCATE, the bytes asked for elsewhere. result: what the call returned. payload: the bytes that a WRITE put at
    `offset`, as many as the kernel took.
    """

    kind: Kind
    clock: int
    time_ns: int = 0
    pid: int = 0
    flags: int = 0
    handle: int = 0
    name: str = ""
    other: str = ""
    offset: int | None = None
    size: int = 0
    result: int = 0
    payload: bytes = b""


def marker_path(root: Path | str, text: str) -> Path:
    """Return the path that a program under the shim deletes to leave a MARKER with this text, in any language.

    The call succeeds and nothing is deleted. `text` may hold slashes, but no empty part, "." or "..", and has fewer
    than 500 bytes.
    """
    return Path(root, ".chaos-marker", text)


def encode(operation: Operation) -> bytes:
    """Return the record of an operation."""
    name, other = (text.encode("utf-8", "surrogateescape") for text in (operation.name, operation.other))
    total = _HEADER.size + len(name) + len(other) + len(operation.payload)
    header = _HEADER.pack(
        MAGIC,
        operation.kind,
        _HEADER.size,
        total,
        operation.clock,
        operation.time_ns,
        operation.pid,
        operation.flags,
        operation.handle,
        -1 if operation.offset is None else operation.offset,
        operation.size,
        operation.result,
        len(name),
        len(other),
        len(operation.payload),
    )
    return header + name + other + operation.payload


def decode(log: bytes, *, source: str = "operation log") -> list[Operation]:
    """Return the operations of a log in the order of their clocks.

    A last record that is not whole belongs to a call that never returned, and is left out. Raises PlanError, naming
    `source` and the byte, for anything else that is no record.
    """
    return sorted(_records(log, source), key=lambda operation: operation.clock)


def read_log(path: Path) -> list[Operation]:
    """Read a log; see `decode`. Raises PlanError also for a file that cannot be read."""
    try:
        return decode(path.read_bytes(), source=str(path))
    except OSError as error:
        raise PlanError([_problem(str(path), f"cannot be read: {error.strerror or error}")]) from error


def write_log(path: Path, operations: Iterable[Operation]) -> None:
    """Write a log as the shim would."""
    path.write_bytes(b"".join(map(encode, operations)))


def _records(log: bytes, source: str) -> Iterator[Operation]:
    at = 0
    while at + _HEADER.size <= len(log):
        (magic, kind, header_bytes, total, clock, time_ns, pid, flags, handle, offset, size, result, *lengths) = (
            _HEADER.unpack_from(log, at)
        )
        if magic != MAGIC or header_bytes != _HEADER.size or total != header_bytes + sum(lengths):
            raise PlanError([_problem(source, f"holds no record at byte {at}")])
        if at + total > len(log):
            return
        name_at = at + header_bytes
        other_at, payload_at = name_at + lengths[0], name_at + lengths[0] + lengths[1]
        yield Operation(
            Kind(kind),
            clock,
            time_ns,
            pid,
            flags,
            handle,
            log[name_at:other_at].decode("utf-8", "surrogateescape"),
            log[other_at:payload_at].decode("utf-8", "surrogateescape"),
            None if offset < 0 else offset,
            size,
            result,
            log[payload_at : at + total],
        )
        at += total


def _problem(source: str, text: str) -> Problem:
    return Problem(source, 0, text, "record the run again", "malformed-log")
