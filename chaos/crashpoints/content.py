"""One file as a crash may find it: what its readers saw, what is certainly on the disk, and what is in between."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

DIGEST_BYTES = 16
Range = tuple[int, int]
"""Bytes [low, high) of a file."""

Missing = Mapping[int, tuple[Range, ...] | None]
"""What a state lacks: the number of each operation that is not on the disk, or only in part. None: nothing of it is;
else the ranges that are not, in order and apart."""


def digest(data: bytes | bytearray) -> bytes:
    """Return the hash of some bytes by which equal contents are recognised (BLAKE2b)."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of a file with their hash. `data` may be the model's own buffer: read it before the model moves on."""

    data: bytes | bytearray
    digest: bytes

    @classmethod
    def of(cls, data: bytes | bytearray) -> Content:
        """Hash some bytes."""
        return cls(data, digest(data))


@dataclass(frozen=True, slots=True)
class Write:
    """Operation `index` put `payload` at `offset`."""

    index: int
    offset: int
    payload: bytes

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.offset + len(self.payload)

    def apply(self, data: bytearray, missing: tuple[Range, ...] = ()) -> None:
        """Put the bytes into `data`, apart from the ranges that are missing."""
        at = self.offset
        for low, high in (*missing, (self.end, self.end)):
            if low > at:
                put(data, at, self.payload[at - self.offset : low - self.offset])
            at = max(at, high)


@dataclass(slots=True)
class Length:
    """Operation `index` made the file `size` bytes long; with `grow_only` it made no file shorter.

    A length is metadata. `journaled`: a sync of any file has come after it, so that a file system with one ordered
    journal has it on the disk, although the file's own data may not be.
    """

    index: int
    size: int
    grow_only: bool = False
    journaled: bool = False

    def apply(self, data: bytearray) -> None:
        """Cut `data` or fill it up with zeros."""
        if len(data) < self.size:
            data.extend(bytes(self.size - len(data)))
        elif not self.grow_only:
            del data[self.size :]


Change = Write | Length


def put(data: bytearray, offset: int, payload: bytes) -> None:
    """Write like pwrite(2): a gap before `offset` becomes zeros."""
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(payload)] = payload


@dataclass(slots=True, eq=False)
class File:
    """A file that operations reach by a handle; names come and go above it.

    data: what readers see. durable: what is on the disk whatever happens. pending: the changes since, in order. A
    failed sync may have dropped pending changes for good; `data` has them still then, and no later sync brings them.
    """

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[Change] = field(default_factory=list)
    dropped: bool = False
    _current: Content | None = None
    _synced: Content | None = None
    _journaled: Content | None = None

    @classmethod
    def on_disk(cls, data: bytes) -> File:
        """Return a file of which everything is on the disk."""
        return cls(bytearray(data), data)

    def change(self, change: Change) -> None:
        """Let readers see a change; the disk has it after a sync."""
        change.apply(self.data)
        self.pending.append(change)
        self._current = None

    def sync(self) -> None:
        """Make all that is pending durable."""
        if not self.pending:
            return
        if self.dropped:
            self.durable = bytes(self._rebuilt(self.pending, {}))
        else:
            self.durable = bytes(self.data)
        self._settle()

    def drop(self) -> None:
        """Forget what is pending: a failed sync marked its pages clean without having written them."""
        if self.pending:
            self.dropped = True
            self._settle()

    def journal(self) -> None:
        """Note that a sync of some file has committed the changes of length so far."""
        for change in self.pending:
            if isinstance(change, Length):
                change.journaled = True
        self._journaled = None

    def current(self) -> Content:
        """Return what readers see."""
        if self._current is None:
            self._current = Content.of(self.data)
        return self._current

    def synced(self, *, journaled: bool) -> Content:
        """Return what is certainly on the disk; with `journaled`, lengths that a journal committed are as well."""
        if journaled and any(isinstance(change, Length) and change.journaled for change in self.pending):
            if self._journaled is None:
                lengths = [change for change in self.pending if isinstance(change, Length) and change.journaled]
                self._journaled = Content.of(self._rebuilt(lengths, {}))
            return self._journaled
        if self._synced is None:
            self._synced = Content.of(self.durable)
        return self._synced

    def without(self, missing: Missing) -> Content:
        """Return the content when the disk has all changes but those of `missing`."""
        if not any(change.index in missing for change in self.pending) and not self.dropped:
            return self.current()
        return Content.of(self._rebuilt(self.pending, missing))

    def _rebuilt(self, changes: Iterable[Change], missing: Missing) -> bytearray:
        data = bytearray(self.durable)
        for change in changes:
            lost = missing.get(change.index, ())
            if lost is None:
                continue
            if isinstance(change, Write):
                change.apply(data, lost)
            else:
                change.apply(data)
        return data

    def _settle(self) -> None:
        self.pending = []
        self._synced = self._journaled = None
