"""An independent reading of what a crash may leave: every history is replayed from scratch for every choice.

It shares nothing with the model but the log. Each operation is split into atoms (a sector of a write, a length, a
change of names); an atom is certain when a later sync covers it; a state is any lawful choice among the others.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from chaos.faults.disk.oplog import Kind, Operation

SECTOR = 512
NAMES = ("a", "b", "d/a", "d/b")
FOLDERS = ("", "d")


@dataclass(frozen=True)
class Atom:
    """kind: data, length or name. what: the piece, the size, or the names with the files they then mean."""

    kind: str
    index: int
    file: int
    what: tuple


class Program:
    """A small program over four names in two folders: written down as a log, and run for real."""

    def __init__(self) -> None:
        """Begin with an empty root that holds an empty folder `d`."""
        self.log: list[Operation] = []
        self.names: dict[str, int] = {}
        self.lengths: dict[int, int] = {}
        self.handles: dict[int, int] = {}

    def _note(self, kind: Kind, **fields) -> int:
        clock = len(self.log) + 1
        self.log.append(Operation(kind, clock, **fields))
        return clock

    def step(self, verb: str, name: str, other: str, at: int, size: int) -> None:
        """Do one thing, or nothing where it makes no sense now."""
        match verb:
            case "open":
                clock = self._note(Kind.OPEN, name=name, flags=os.O_RDWR | os.O_CREAT)
                if name not in self.names:
                    self.names[name] = clock
                    self.lengths[clock] = 0
                self.handles[self.names[name]] = clock
            case "sync folder":
                folder = FOLDERS[at % 2]
                clock = self._note(Kind.OPEN, name=f"{folder}/", flags=os.O_RDONLY)
                self._note(Kind.SYNC, name=f"{folder}/", handle=clock)
            case _ if name in self.names and self.names[name] in self.handles:
                self._step_file(verb, name, other, at, size)

    def _step_file(self, verb: str, name: str, other: str, at: int, size: int) -> None:
        file = self.names[name]
        handle = self.handles[file]
        match verb:
            case "write":
                payload = bytes([65 + len(self.log) % 26]) * size
                self._note(Kind.WRITE, name=name, handle=handle, offset=at, size=size, result=size, payload=payload)
                self.lengths[file] = max(self.lengths[file], at + size)
            case "truncate":
                self._note(Kind.TRUNCATE, name=name, handle=handle, size=size)
                self.lengths[file] = size
            case "sync":
                self._note(Kind.SYNC, name=name, handle=handle)
            case "rename" if name != other:
                self._note(Kind.RENAME, name=name, other=other)
                self.names[other] = self.names.pop(name)
            case "unlink":
                self._note(Kind.UNLINK, name=name)
                del self.names[name]


def execute(log: list[Operation], folder: Path) -> None:
    """Do for real what a log says, in a folder that holds an empty `d`."""
    open_files: dict[int, int] = {}
    for operation in log:
        path = folder / operation.name
        match operation.kind:
            case Kind.OPEN if not operation.name.endswith("/"):
                open_files[operation.clock] = os.open(path, operation.flags)
            case Kind.WRITE:
                os.pwrite(open_files[operation.handle], operation.payload, operation.offset)
            case Kind.TRUNCATE:
                os.ftruncate(open_files[operation.handle], operation.size)
            case Kind.RENAME:
                path.rename(folder / operation.other)
            case Kind.UNLINK:
                path.unlink()
    for descriptor in open_files.values():
        os.close(descriptor)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "write", "write", "truncate", "sync", "rename", "unlink", "sync folder"]),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.sampled_from([0, 300, 512, 700]),
        st.sampled_from([0, 100, 512, 600, 1100]).filter(bool),
    ),
    min_size=1,
    max_size=9,
)


def program(steps) -> list[Operation]:
    """Return the log of a program."""
    made = Program()
    made.step("open", "a", "", 0, 0)
    for step in steps:
        made.step(*step)
    return made.log


def atoms(log: list[Operation]) -> list[Atom]:
    """Split a log into atoms, in order."""
    found: list[Atom] = []
    names: dict[str, int] = {}
    of_handle: dict[int, int] = {}
    lengths: dict[int, int] = {}
    for index, op in enumerate(log):
        file = of_handle.get(op.handle, 0)
        match op.kind:
            case Kind.OPEN if not op.name.endswith("/"):
                if op.name not in names:
                    names[op.name] = op.clock
                    lengths[op.clock] = 0
                    found.append(Atom("name", index, 0, ((op.name, op.clock),)))
                of_handle[op.clock] = names[op.name]
            case Kind.WRITE:
                low, end = op.offset, op.offset + len(op.payload)
                lengths[file] = max(lengths[file], end)
                while low < end:
                    high = min((low // SECTOR + 1) * SECTOR, end)
                    found.append(Atom("data", index, file, (low, op.payload[low - op.offset : high - op.offset])))
                    low = high
            case Kind.TRUNCATE if lengths[file] != op.size:
                lengths[file] = op.size
                found.append(Atom("length", index, file, (op.size,)))
            case Kind.RENAME:
                names[op.other] = names.pop(op.name)
                found.append(Atom("name", index, 0, ((op.name, None), (op.other, names[op.other]))))
            case Kind.UNLINK:
                del names[op.name]
                found.append(Atom("name", index, 0, ((op.name, None),)))
    return found


def certain(atom: Atom, log: list[Operation], view: str) -> bool:
    """Tell whether a sync after `atom` keeps it on the disk."""
    of_handle: dict[int, int | str] = {}
    names: dict[str, int] = {}
    for index, op in enumerate(log):
        if op.kind is Kind.OPEN:
            if op.name.endswith("/"):
                of_handle[op.clock] = op.name.strip("/")
            else:
                of_handle[op.clock] = names.setdefault(op.name, op.clock)
        elif op.kind is Kind.RENAME:
            names[op.other] = names.pop(op.name)
        elif op.kind is Kind.UNLINK:
            del names[op.name]
        if op.kind is not Kind.SYNC or index < atom.index:
            continue
        target = of_handle[op.handle]
        if atom.kind in ("data", "length") and target == atom.file:
            return True
        if atom.kind == "name" and view == "posix":
            if target in {name.rpartition("/")[0] for name, _ in atom.what}:
                return True
        elif atom.kind != "data" and view == "ext4":
            return True
    return False


def replay(kept: list[Atom]) -> dict[str, bytes]:
    """Return the files of a disk that has these atoms."""
    files: dict[int, bytearray] = {}
    names: dict[str, int] = {}
    for atom in kept:
        data = files.setdefault(atom.file, bytearray())
        if atom.kind == "data":
            low, payload = atom.what
            if len(data) < low:
                data.extend(bytes(low - len(data)))
            data[low : low + len(payload)] = payload
        elif atom.kind == "length":
            (size,) = atom.what
            del data[size:]
            data.extend(bytes(size - len(data)))
        else:
            for name, file in atom.what:
                names.pop(name, None)
                if file is not None:
                    names[name] = file
    return {name: bytes(files.get(file, b"")) for name, file in names.items()}


def lawful(log: list[Operation], view: str) -> Iterator[dict[str, bytes]]:
    """Yield every state that a crash after the last operation may leave on a disk under `view`."""
    everything = atoms(log)
    open_questions = [atom for atom in everything if not certain(atom, log, view)]
    for choice in itertools.product((True, False), repeat=len(open_questions)):
        lost = {id(atom) for atom, kept in zip(open_questions, choice, strict=True) if not kept}
        if view == "ext4" and not _ordered(everything, open_questions, lost):
            continue
        yield replay([atom for atom in everything if id(atom) not in lost])


def _ordered(everything: list[Atom], open_questions: list[Atom], lost: set[int]) -> bool:
    metadata = [id(atom) in lost for atom in open_questions if atom.kind != "data"]
    if metadata != sorted(metadata):
        return False
    for atom in everything:
        if atom.kind == "length" and id(atom) in lost:
            later = [one for one in everything if one.kind == "data" and one.file == atom.file]
            if any(one.index > atom.index and id(one) not in lost for one in later):
                return False
    return True
