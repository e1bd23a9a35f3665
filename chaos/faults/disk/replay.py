"""Replaying an operation log: what a folder holds after all that was recorded has happened to it.

No crash is modelled here. A replay of the whole log over the folder as it was when recording began gives the folder
as it is, byte for byte, or the log misses something; the tests hold every engine to that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from chaos.faults.disk.oplog import LIED, UNNAMED, Kind, Operation

_KEEP_SIZE, _PUNCH_HOLE, _COLLAPSE_RANGE, _ZERO_RANGE, _INSERT_RANGE = 1, 2, 8, 16, 32
_RENAME_EXCHANGE = 2
_UNNAMED_OPEN = getattr(os, "O_TMPFILE", 0)


@dataclass(eq=False)
class File:
    """A regular file: it may have several names, or none while it is open."""

    data: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


Entry = File | Link | None
"""What a name stands for; None is a folder."""


@dataclass
class FolderState:
    """What a folder holds: entries by name relative to it, and the open files by their handles."""

    entries: dict[str, Entry] = field(default_factory=dict)
    handles: dict[int, Entry] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> FolderState:
        """Return what `folder` holds now; names of one file share one `File`."""
        state, known = cls(), dict[tuple[int, int], File]()
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_symlink():
                state.entries[name] = Link(str(path.readlink()))
            elif path.is_dir():
                state.entries[name] = None
            elif path.is_file():
                status = path.stat()
                place = (status.st_dev, status.st_ino)
                if place not in known:
                    known[place] = File(bytearray(path.read_bytes()))
                state.entries[name] = known[place]
        return state

    def contents(self) -> dict[str, bytes | str | None]:
        """Return what can be compared: bytes of files, targets of links, None for folders."""
        return {
            name: bytes(entry.data) if isinstance(entry, File) else entry.target if entry else None
            for name, entry in sorted(self.entries.items())
        }


def apply(operations: Iterable[Operation], state: FolderState) -> FolderState:
    """Let `operations`, in the order of their clocks, happen to `state`, and return it. It is changed in place."""
    for operation in operations:
        if not operation.flags & LIED:
            _apply(operation, state)
    return state


def _apply(operation: Operation, state: FolderState) -> None:
    name = operation.name.rstrip("/")
    match operation.kind:
        case Kind.OPEN:
            _open(operation, name, state)
        case Kind.ADOPT:
            state.handles[operation.clock] = _adopted(operation, name, state)
        case Kind.WRITE | Kind.TRUNCATE | Kind.ALLOCATE:
            entry = state.handles[operation.handle] if operation.handle else _resolve(name, state)
            if isinstance(entry, File):
                _change(operation, entry.data)
        case Kind.RENAME:
            _rename(name, operation.other.rstrip("/"), operation.flags, state)
        case Kind.LINK:
            source = state.handles[operation.handle] if operation.handle else state.entries[name]
            state.entries[operation.other] = source
        case Kind.SYMLINK:
            state.entries[name] = Link(operation.other)
        case Kind.UNLINK | Kind.RMDIR:
            state.entries.pop(name, None)
        case Kind.MKDIR:
            state.entries[name] = None
        case _:
            pass  # syncs, markers and the like change no content


def _adopted(operation: Operation, name: str, state: FolderState) -> Entry:
    if operation.name.endswith("/"):
        return None
    return File() if operation.flags & UNNAMED else state.entries.setdefault(name, File())


def _open(operation: Operation, name: str, state: FolderState) -> None:
    if operation.flags & _UNNAMED_OPEN == _UNNAMED_OPEN:
        state.handles[operation.clock] = File()
        return
    if name and name not in state.entries:
        state.entries[name] = File()
    entry = state.entries.get(name)
    state.handles[operation.clock] = entry
    if operation.flags & os.O_TRUNC and isinstance(entry, File):
        del entry.data[:]


def _resolve(name: str, state: FolderState) -> Entry:
    """Follow links from `name` to the file that it means, as far as they are relative and stay within the folder."""
    entry = state.entries.get(name)
    seen = 0
    while isinstance(entry, Link) and seen < len(state.entries):
        name = os.path.normpath(Path(name).parent / entry.target)
        entry = state.entries.get(name)
        seen += 1
    return entry


def _change(operation: Operation, data: bytearray) -> None:
    offset = operation.offset or 0
    if operation.kind is Kind.WRITE:
        _grow(data, offset)
        data[offset : offset + len(operation.payload)] = operation.payload
    elif operation.kind is Kind.TRUNCATE:
        _grow(data, operation.size)
        del data[operation.size :]
    else:
        _allocate(data, operation.flags, offset, operation.size)


def _allocate(data: bytearray, mode: int, offset: int, size: int) -> None:
    """What fallocate(2) does to the bytes of a file."""
    end = offset + size
    if mode & _COLLAPSE_RANGE:
        del data[offset:end]
    elif mode & _INSERT_RANGE:
        data[offset:offset] = bytes(size)
    else:
        if not mode & _KEEP_SIZE:
            _grow(data, end)
        if mode & (_PUNCH_HOLE | _ZERO_RANGE):
            covered = max(0, min(end, len(data)) - offset)
            data[offset : offset + covered] = bytes(covered)


def _grow(data: bytearray, size: int) -> None:
    if len(data) < size:
        data.extend(bytes(size - len(data)))


def _below(name: str, state: FolderState) -> dict[str, Entry]:
    """Take `name`, and everything below it, out of the state; the keys are what follows `name`."""
    names = [each for each in state.entries if each == name or each.startswith(f"{name}/")]
    return {each[len(name) :]: state.entries.pop(each) for each in names}


def _rename(old: str, new: str, flags: int, state: FolderState) -> None:
    if state.entries.get(old) is not None and state.entries.get(old) is state.entries.get(new):
        return  # two names of one file: rename(2) does nothing
    moved = _below(old, state)
    replaced = _below(new, state)
    state.entries.update({new + rest: entry for rest, entry in moved.items()})
    if flags & _RENAME_EXCHANGE:
        state.entries.update({old + rest: entry for rest, entry in replaced.items()})
