"""One file as a crash may find it: what its readers saw, what is certainly on the disk, and what is in between."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from chaos.crashpoints.blocks import Blocks

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
    """What a file holds. `blocks` may be the model's own: read it, or take a copy, before the model moves on."""

    blocks: Blocks

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Hold some bytes."""
        return cls(Blocks(data))

    @property
    def data(self) -> bytes:
        """All bytes."""
        return self.blocks.to_bytes()

    @property
    def digest(self) -> bytes:
        """The hash by which equal contents are recognised."""
        return self.blocks.digest

    def kept(self) -> Content:
        """Return the same content with blocks of its own."""
        return Content(self.blocks.copy())


@dataclass(frozen=True, slots=True)
class Write:
    """Operation `index` put `payload` at `offset`."""

    index: int
    offset: int
    payload: bytes
    end: int = field(init=False)
    """Offset behind the last byte."""

    def __post_init__(self) -> None:
        """Compute the end once: it is asked for very often."""
        object.__setattr__(self, "end", self.offset + len(self.payload))

    def apply(self, data: Blocks, missing: tuple[Range, ...] = ()) -> None:
        """Put the bytes into `data`, apart from the ranges that are missing."""
        at = self.offset
        if not missing:
            data.write(at, self.payload)
            return
        for low, high in (*missing, (self.end, self.end)):
            if low > at:
                data.write(at, self.payload[at - self.offset : low - self.offset])
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

    def apply(self, data: Blocks) -> None:
        """Cut `data` or fill it up with zeros."""
        if data.size < self.size or not self.grow_only:
            data.resize(self.size)


Change = Write | Length


@dataclass(slots=True, eq=False)
class File:
    """A file that operations reach by a handle; names come and go above it.

    data: what readers see. durable: what is on the disk whatever happens. pending: the changes since, in order. A
    failed sync may have dropped pending changes for good; `data` has them still then, and no later sync brings them.
    """

    data: Blocks = field(default_factory=Blocks)
    durable: Blocks = field(default_factory=Blocks)
    pending: list[Change] = field(default_factory=list)
    dropped: bool = False
    _journaled: Content | None = None

    @classmethod
    def on_disk(cls, data: bytes) -> File:
        """Return a file of which everything is on the disk."""
        blocks = Blocks(data)
        return cls(blocks, blocks.copy())

    def change(self, change: Change) -> None:
        """Let readers see a change; the disk has it after a sync."""
        change.apply(self.data)
        self.pending.append(change)

    def sync(self) -> None:
        """Make all that is pending durable."""
        if not self.pending:
            return
        if self.dropped:
            self.durable = self._rebuilt(self.pending, {})
        else:
            self.durable = self.data.copy()
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
        return Content(self.data)

    def synced(self, *, journaled: bool) -> Content:
        """Return what is certainly on the disk; with `journaled`, lengths that a journal committed are as well."""
        if journaled and any(isinstance(change, Length) and change.journaled for change in self.pending):
            if self._journaled is None:
                lengths = [change for change in self.pending if isinstance(change, Length) and change.journaled]
                self._journaled = Content(self._rebuilt(lengths, {}))
            return self._journaled
        return Content(self.durable)

    def without(self, missing: Missing) -> Content:
        """Return the content when the disk has all changes but those of `missing`."""
        if not any(change.index in missing for change in self.pending) and not self.dropped:
            return self.current()
        return Content(self._rebuilt(self.pending, missing))

    def _rebuilt(self, changes: Iterable[Change], missing: Missing) -> Blocks:
        data = self.durable.copy()
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
        self._journaled = None
