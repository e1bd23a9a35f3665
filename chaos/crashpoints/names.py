"""The names of files as a crash may find them, under two readings of what makes a name durable.

*posix*: a change of a name is durable after a sync of the folder that holds it, and what is not may be lost in any
combination. That is what the standard promises, and no more. *ext4*: there is one ordered journal, so that a sync of
any file or folder makes all earlier changes durable, and what is lost is always the newest.

A rename is one change in both: file systems that lose half of one are not in use. It counts as synced with either of
its folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from chaos.crashpoints.content import File


class View(StrEnum):
    """What makes a name durable."""

    POSIX = "posix"
    EXT4 = "ext4"


@dataclass(slots=True, eq=False)
class Folder:
    """A folder; `number` is its own for ever, whatever its name."""

    number: int


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


Node = File | Folder | Link
Key = tuple[int, str]
"""A folder's number and a name in it."""

ROOT = 0


@dataclass(frozen=True, slots=True)
class NameChange:
    """Operation `index` made names mean something else, all at once; None: the name is gone."""

    index: int
    entries: tuple[tuple[Key, Node | None], ...]

    @property
    def folders(self) -> frozenset[int]:
        """The numbers of the folders that hold the names."""
        return frozenset(folder for (folder, _), _ in self.entries)


Entries = dict[Key, Node]


@dataclass(slots=True)
class Names:
    """All names: as readers see them, and for each view those on the disk and the changes since, in order."""

    current: Entries = field(default_factory=dict)
    pending: dict[View, list[NameChange]] = field(default_factory=lambda: {view: [] for view in View})
    _durable: dict[View, Entries] = field(default_factory=lambda: {view: {} for view in View})
    _decided: dict[Key, int] = field(default_factory=dict)  # posix: the newest durable change of each name
    version: int = 0

    def settle(self) -> None:
        """Take the current names for durable, as at the beginning."""
        for view in View:
            self._durable[view] = dict(self.current)
            self.pending[view] = []

    def change(self, change: NameChange) -> None:
        """Let readers see a change."""
        _apply(self.current, change)
        for view in View:
            self.pending[view].append(change)
        self.version += 1

    def commit_journal(self) -> None:
        """Make every change durable in the view of one journal."""
        if self.pending[View.EXT4]:
            for change in self.pending[View.EXT4]:
                _apply(self._durable[View.EXT4], change)
            self.pending[View.EXT4] = []
            self.version += 1

    def sync_folder(self, folder: int) -> None:
        """Make the changes in one folder durable in the view of the standard."""
        kept = []
        for change in self.pending[View.POSIX]:
            if folder in change.folders:
                self._apply_newest(self._durable[View.POSIX], change)
                for key, _ in change.entries:
                    self._decided[key] = max(change.index, self._decided.get(key, -1))
            else:
                kept.append(change)
        if len(kept) < len(self.pending[View.POSIX]):
            self.pending[View.POSIX] = kept
            self.version += 1

    def sync_all(self) -> None:
        """Make every change durable in both views."""
        self.commit_journal()
        for change in self.pending[View.POSIX]:
            self._apply_newest(self._durable[View.POSIX], change)
        self.pending[View.POSIX] = []
        self._decided.clear()
        self.version += 1

    def durable(self, view: View, lacks: Callable[[int], bool]) -> Entries:
        """Return the names on the disk when the pending changes are, apart from operations that `lacks` names."""
        entries = dict(self._durable[view])
        for change in self.pending[view]:
            if lacks(change.index):
                continue
            if view is View.POSIX:
                self._apply_newest(entries, change)
            else:
                _apply(entries, change)
        return entries

    def mentioned(self) -> set[int]:
        """Return the ids (of this process) of all nodes that have a name now, on the disk, or in a pending change."""
        found = {id(node) for entries in (self.current, *self._durable.values()) for node in entries.values()}
        for changes in self.pending.values():
            found |= {id(node) for change in changes for _, node in change.entries}
        return found

    def _apply_newest(self, entries: Entries, change: NameChange) -> None:
        """Apply a change except where a newer one of the same name is durable already (renames link folders)."""
        newest = [(key, node) for key, node in change.entries if self._decided.get(key, -1) <= change.index]
        _apply(entries, NameChange(change.index, tuple(newest)))


def walk(entries: Entries) -> Iterator[tuple[str, Node]]:
    """Yield every path that can be reached from the root and what it names, folders before what they hold."""
    children: dict[int, list[tuple[str, Node]]] = {}
    for (folder, name), node in entries.items():
        children.setdefault(folder, []).append((name, node))
    waiting: list[tuple[str, int]] = [("", ROOT)]
    seen = {ROOT}
    while waiting:
        prefix, number = waiting.pop()
        for name, node in children.get(number, ()):
            yield prefix + name, node
            if isinstance(node, Folder) and node.number not in seen:
                seen.add(node.number)
                waiting.append((f"{prefix}{name}/", node.number))


def split(path: str) -> list[str]:
    """Return the parts of a path below the root; empty for the root itself."""
    return [part for part in path.split("/") if part not in ("", ".")]


def find(entries: Entries, parts: Iterable[str]) -> Node | None:
    """Return what a path names, None for nothing. Links are not followed."""
    node: Node = Folder(ROOT)
    for part in parts:
        if not isinstance(node, Folder):
            return None
        below = entries.get((node.number, part))
        if below is None:
            return None
        node = below
    return node


def _apply(entries: Entries, change: NameChange) -> None:
    for key, node in change.entries:
        if node is None:
            entries.pop(key, None)
        else:
            entries[key] = node
