"""What a transaction touches, and whether that allows it to commit after those that came before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from chaos.errors import ChaosError
from chaos.transactions.granules import Read, Write
from chaos.transactions.window import Window

if TYPE_CHECKING:
    from chaos.transactions.unit import Transaction

BLIND_COMMANDS = frozenset({"DECRBY", "HINCRBY", "INCRBY", "LPUSH", "RPUSH", "SADD", "SREM"})
"""Redis commands that change what is there at the commit, whatever that is: nothing that others wrote is lost."""


class Conflict(ChaosError):
    """Somebody who committed first wrote what this transaction depends on. It may be tried again."""


class Footprint(msgspec.Struct, frozen=True):
    """What was seen and what will change.

    reads: all that was seen, as of `since` (None: nothing). overwrites: those of the writes that replace what is
    there, so that a change of somebody else would be lost.
    """

    since: int | None = None
    reads: frozenset[Read] = frozenset()
    writes: tuple[Write, ...] = ()
    overwrites: tuple[Write, ...] = ()


NOTHING = Footprint()


class Validation:
    """The check of one batch: each against all commits since its snapshot, and against those before it in the batch."""

    def __init__(self, window: Window) -> None:
        """Compare with `window`, which nobody changes until the batch has ended."""
        self._window = window
        self._batch = Window()
        self._accepted: list[tuple[Write, ...]] = []
        self._count = 0

    def anew(self) -> Validation:
        """Return one for the same batch from its beginning."""
        return Validation(self._window)

    def check(self, unit: Transaction) -> Conflict | None:
        """Return why `unit` must not commit now. To be called once for each, in the order of their numbers."""
        foot = unit.footprint
        if foot.since is None or not foot.writes:
            return None  # it has seen nothing, or it is as if it had happened at the moment of its snapshot
        if foot.since < self._window.oldest:
            return Conflict(f"conflict: the snapshot csn={foot.since} is too old to be compared")
        self._note_accepted()
        found: Read | Write | None
        if unit.isolation == "serializable":
            found = self._window.read_meanwhile(foot.reads, foot.since) or self._batch.read_meanwhile(foot.reads, -1)
        else:
            writes = foot.overwrites
            found = self._window.written_meanwhile(writes, foot.since) or self._batch.written_meanwhile(writes, -1)
        return None if found is None else Conflict(f"conflict: {found} was written after csn={foot.since}")

    def accept(self, unit: Transaction) -> None:
        """Count `unit` among those before the next one."""
        self._accepted.append(unit.footprint.writes)

    def _note_accepted(self) -> None:
        """Make what was accepted comparable; in a batch in which nobody has read anything it is never needed."""
        for writes in self._accepted:
            self._count += 1
            self._batch.add(self._count, writes)
        self._accepted.clear()


def footprint(
    *,
    since: int | None,
    reads: frozenset[Read],
    sqlite: Sequence[tuple[tuple[Write, ...], bool]],
    redis: Sequence[tuple[str, tuple[Write, ...]]],
    graph: Sequence[tuple[tuple[Write, ...], bool]],
) -> Footprint:
    """Put one together. sqlite, graph: granules, and whether a statement only adds. redis: command and granules."""
    writes: list[Write] = []
    overwrites: list[Write] = []
    for granules, only_adds in (*sqlite, *graph):
        writes += granules
        overwrites += () if only_adds else granules
    for name, granules in redis:
        writes += granules
        overwrites += () if name in BLIND_COMMANDS else granules
    return Footprint(since, reads, tuple(writes), tuple(overwrites))
