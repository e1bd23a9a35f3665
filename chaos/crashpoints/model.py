"""The disk under a recorded workload: replays the operation log and knows at each operation what a crash may leave.

The start is a folder whose content is all on the disk. A file is what its handles say it is, never its name or its
inode, since file systems give the inode of a file just deleted to the next one. A write that the log says was a lie
changes nothing; a sync that was one makes nothing durable.

What the log cannot explain (a handle that nothing opened, a name that is not there) is a gap in the recording; it
raises LogGap, and nothing is judged, because a guess would make every verdict worthless.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from chaos.crashpoints.content import Content, File, Length, Missing, Range, Write
from chaos.crashpoints.names import ROOT, Folder, Key, Link, NameChange, Names, Node, View, find, split, walk
from chaos.crashpoints.snapshot import Tree
from chaos.errors import ChaosError
from chaos.faults.disk.oplog import DROPPED, LIED, UNNAMED, Kind, Operation

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16  # fallocate(2)
_NOREPLACE, _EXCHANGE = 1, 2  # renameat2(2)
_UNCHANGING = (Kind.CLOSE, Kind.MARKER, Kind.TAINT, Kind.ATTACH, Kind.SYNC_RANGE)


class LogGap(ChaosError):
    """The log does not explain itself; what happened in between was not recorded."""


class Disk:
    """The model. `apply` the operations in order, numbered from 0, and ask between them."""

    def __init__(self, start: Tree) -> None:
        """Begin with `start`, all of it on the disk."""
        self.names = Names()
        self.files: list[File] = []
        self.last: Operation | None = None
        self._overwritten: tuple[File, int, bytes] | None = None  # file, its length, and the bytes under a write
        self._handles: dict[int, Node] = {}
        self._folder_count = ROOT
        self._index = -1
        self._walked: dict[str, tuple[int, list[tuple[str, Node]]]] = {}
        self._shown: set[int] = set()
        self._shown_version = -1
        self._replay: dict[Kind, Callable[[Operation], None]] = {
            Kind.OPEN: self._open,
            Kind.ADOPT: self._open,
            Kind.WRITE: self._write,
            Kind.TRUNCATE: self._truncate,
            Kind.ALLOCATE: self._allocate,
            Kind.SYNC: self._sync,
            Kind.SYNC_FAILED: self._sync_failed,
            Kind.SYNC_ALL: self._sync_all,
            Kind.RENAME: self._rename,
            Kind.LINK: self._link,
            Kind.SYMLINK: self._symlink,
            Kind.UNLINK: self._unlink,
            Kind.RMDIR: self._unlink,
            Kind.MKDIR: self._mkdir,
        }
        for path in sorted(start.folders):
            self.names.current[self._key(path)] = self._new_folder()
        for path, content in start.files.items():
            self.names.current[self._key(path)] = self._new_file(content.data)
        for path, target in start.links.items():
            self.names.current[self._key(path)] = Link(target)
        self.names.settle()

    def apply(self, index: int, operation: Operation) -> None:
        """Replay operation number `index`. Raises LogGap when it does not fit what came before."""
        self._index, self.last, self._overwritten = index, operation, None
        if operation.kind in _UNCHANGING or (operation.flags & LIED and operation.kind is not Kind.OPEN):
            return
        try:
            self._replay[operation.kind](operation)
        except LogGap as error:
            raise LogGap(f"operation {index} (clock {operation.clock}, {operation.kind.name}): {error}") from None

    def now(self) -> Tree:
        """Return what readers see: the state after a process crash. Valid until the next `apply`."""
        return self._tree(self._reachable("current", self.names.current), File.current)

    def synced(self, view: View) -> Tree:
        """Return the state that has nothing but what was synced. Valid until the next `apply`."""
        reachable = self._reachable(view, None)
        return self._tree(reachable, lambda file: file.synced(journaled=view is View.EXT4))

    def without(self, view: View, missing: Missing) -> Tree:
        """Return the state that has everything but `missing`. Valid until the next `apply`."""
        entries = self.names.durable(view, lambda index: index in missing)
        return self._tree(list(walk(entries)), lambda file: file.without(missing))

    def cut(self, at: int) -> Tree:
        """Return what readers see when the kernel had taken only the first `at` bytes of the last write."""
        assert self.last is not None
        low = self.last.offset or 0
        return self.torn((low + at, low + len(self.last.payload)))

    def torn(self, lost: Range) -> Tree:
        """Return what readers see, as if the last write had left out `lost`, a beginning or an end of it."""
        assert self._overwritten is not None
        assert self.last is not None
        offset, end = self.last.offset or 0, (self.last.offset or 0) + len(self.last.payload)
        file, length, under = self._overwritten
        low, high = lost
        before = under[low - offset : high - offset]
        data = file.data.copy()
        data.write(low, before + bytes(high - low - len(before)))
        data.resize(max(length, low if high == end else end))
        partial = Content(data)
        tree = self.now()
        by_path = dict(self._reachable("current", self.names.current))
        files = {path: partial if by_path[path] is file else content for path, content in tree.files.items()}
        return Tree(files, tree.folders, tree.links)

    @property
    def dropped(self) -> bool:
        """Whether a failed sync has thrown away what the readers of some file go on seeing."""
        return any(file.dropped for file in self.files)

    def unsynced(self) -> list[File]:
        """Return the files with pending changes that some state may still show, in the order they were made.

        A file without any name left, on the disk or before readers, is in no state.
        """
        if self._shown_version != self.names.version:
            self._shown = self.names.mentioned()
            self._shown_version = self.names.version
        return [file for file in self.files if file.pending and id(file) in self._shown]

    def _reachable(self, which: str, entries: dict[Key, Node] | None) -> list[tuple[str, Node]]:
        version, found = self._walked.get(which, (-1, []))
        if version != self.names.version:
            if entries is None:
                entries = self.names.durable(View(which), lambda _: True)
            found = list(walk(entries))
            self._walked[which] = (self.names.version, found)
        return found

    @staticmethod
    def _tree(reachable: list[tuple[str, Node]], content: Callable[[File], Content]) -> Tree:
        files = {path: content(node) for path, node in reachable if isinstance(node, File)}
        folders = frozenset(path for path, node in reachable if isinstance(node, Folder))
        links = {path: node.target for path, node in reachable if isinstance(node, Link)}
        return Tree(files, folders, links)

    def _new_file(self, data: bytes = b"") -> File:
        file = File.on_disk(data)
        self.files.append(file)
        return file

    def _new_folder(self) -> Folder:
        self._folder_count += 1
        return Folder(self._folder_count)

    def _key(self, path: str) -> Key:
        parts = split(path)
        if not parts:
            raise LogGap("the root itself is no name in a folder")
        parent = find(self.names.current, parts[:-1])
        if not isinstance(parent, Folder):
            raise LogGap(f"there is no folder for {path!r}")
        return parent.number, parts[-1]

    def _rename_to(self, *entries: tuple[Key, Node | None]) -> None:
        self.names.change(NameChange(self._index, entries))

    def _file(self, operation: Operation) -> File:
        node = self._opened(operation)
        if not isinstance(node, File):
            raise LogGap(f"{operation.name!r} is no file")
        return node

    def _opened(self, operation: Operation) -> Node:
        """Return what a call was about: by its handle, by the name where it has none (truncate)."""
        by_name = not operation.handle
        node = find(self.names.current, split(operation.name)) if by_name else self._handles.get(operation.handle)
        if node is None:
            raise LogGap(f"handle {operation.handle} of {operation.name!r} was never opened")
        return node

    def _open(self, operation: Operation) -> None:
        if operation.flags & os.O_TMPFILE == os.O_TMPFILE:
            raise LogGap("a file without a name (O_TMPFILE) is not modelled")
        if operation.kind is Kind.ADOPT and operation.flags & UNNAMED:
            self._handles[operation.clock] = File()  # deleted before: no state shows it
            return
        node = find(self.names.current, split(operation.name))
        if node is None and operation.name.endswith("/"):
            node = self._make_folder(operation.name)
        elif node is None:
            if operation.kind is Kind.OPEN and not operation.flags & os.O_CREAT:
                raise LogGap(f"there was no {operation.name!r} to open")
            node = self._new_file()
            self._rename_to((self._key(operation.name), node))
        if isinstance(node, File) and operation.flags & os.O_TRUNC and operation.kind is Kind.OPEN and node.data.size:
            node.change(Length(self._index, 0))
        if operation.kind is Kind.ADOPT and isinstance(node, File) and operation.size != node.data.size:
            raise LogGap(f"{operation.name!r} has {operation.size} bytes, and {node.data.size} were written")
        self._handles[operation.clock] = node

    def _write(self, operation: Operation) -> None:
        file = self._file(operation)
        if operation.offset is None:
            raise LogGap("a write without an offset")
        if not operation.payload:
            return
        under = file.data.read(operation.offset, len(operation.payload))
        self._overwritten = (file, file.data.size, under)
        file.change(Write(self._index, operation.offset, operation.payload))

    def _truncate(self, operation: Operation) -> None:
        file = self._file(operation)
        if file.data.size != operation.size:
            file.change(Length(self._index, operation.size))

    def _allocate(self, operation: Operation) -> None:
        file, mode = self._file(operation), operation.flags
        if mode & ~(_KEEP_SIZE | _PUNCH_HOLE | _ZERO_RANGE):
            raise LogGap(f"an allocation of mode {mode} is not modelled")
        low = operation.offset or 0
        if mode & (_PUNCH_HOLE | _ZERO_RANGE):
            zeros = max(0, min(low + operation.size, file.data.size) - low)
            if zeros:
                file.change(Write(self._index, low, bytes(zeros)))
        if not mode & _KEEP_SIZE and low + operation.size > file.data.size:
            file.change(Length(self._index, low + operation.size, grow_only=True))

    def _sync(self, operation: Operation) -> None:
        node = self._opened(operation)
        if isinstance(node, File):
            node.sync()
        elif isinstance(node, Folder):
            self.names.sync_folder(node.number)
        self._commit_journal()

    def _sync_failed(self, operation: Operation) -> None:
        node = self._handles.get(operation.handle)
        if operation.flags & DROPPED and isinstance(node, File):
            node.drop()

    def _sync_all(self, _: Operation) -> None:
        for file in self.files:
            file.sync()
        self.names.sync_all()

    def _commit_journal(self) -> None:
        self.names.commit_journal()
        for file in self.files:
            if file.pending:
                file.journal()

    def _rename(self, operation: Operation) -> None:
        if operation.flags & ~(_NOREPLACE | _EXCHANGE):
            raise LogGap(f"a rename with flags {operation.flags} is not modelled")
        node = self._named(operation.name)
        target = find(self.names.current, split(operation.other))
        if target is node:
            return  # two names of one file, or the same one: rename(2) leaves both
        left = target if operation.flags & _EXCHANGE else None
        self._rename_to((self._key(operation.name), left), (self._key(operation.other), node))

    def _link(self, operation: Operation) -> None:
        node = self._opened(operation) if operation.handle else self._named(operation.name)
        self._rename_to((self._key(operation.other), node))

    def _symlink(self, operation: Operation) -> None:
        self._rename_to((self._key(operation.name), Link(operation.other)))

    def _unlink(self, operation: Operation) -> None:
        self._named(operation.name)
        self._rename_to((self._key(operation.name), None))

    def _mkdir(self, operation: Operation) -> None:
        self._make_folder(operation.name)

    def _make_folder(self, path: str) -> Folder:
        if not split(path):
            return Folder(ROOT)
        folder = self._new_folder()
        self._rename_to((self._key(path), folder))
        return folder

    def _named(self, path: str) -> Node:
        node = find(self.names.current, split(path))
        if node is None:
            raise LogGap(f"there is no {path!r}")
        return node
