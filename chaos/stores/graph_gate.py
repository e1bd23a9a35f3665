"""Keeps readers and the checkpoint apart inside the graph child.

kuzu's checkpoint waits for every open transaction, for seconds, and then fails; while it waits nobody can begin
one. So it is only tried when no transaction is open: a short reading may be waited for, a snapshot may not, since
how long it stays open is its owner's affair.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 0.2
"""How long a checkpoint that is due holds new readings back while those under way end."""


class CheckpointGate:
    """Counts the readings under way and the snapshots that are open. All methods are for any thread."""

    def __init__(self) -> None:
        """Nobody reads."""
        self._changed = threading.Condition()
        self._reading_count = 0
        self._snapshot_count = 0
        self._shut = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold checkpoints off for the length of one statement; waits while one is made."""
        self._enter(snapshot=False)
        try:
            yield
        finally:
            self._leave(snapshot=False)

    def snapshot_begins(self) -> None:
        """Hold checkpoints off until `snapshot_ends`; waits while one is made."""
        self._enter(snapshot=True)

    def snapshot_ends(self) -> None:
        """Undo one `snapshot_begins`."""
        self._leave(snapshot=True)

    @contextmanager
    def checkpointing(self, *, alone: bool) -> Iterator[bool]:
        """Yield whether a checkpoint may be made now; nobody begins to read until the block is left.

        alone: whether the engine needs that no reader has a transaction. Then a snapshot means no at once, and
        readings are waited for `PATIENCE_S` at most.
        """
        if not alone:
            yield True
            return
        with self._changed:
            self._shut = True
            self._changed.wait_for(lambda: self._snapshot_count or not self._reading_count, PATIENCE_S)
            free = not self._snapshot_count and not self._reading_count
        try:
            yield free
        finally:
            with self._changed:
                self._shut = False
                self._changed.notify_all()

    def _enter(self, *, snapshot: bool) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._shut)
            self._reading_count += not snapshot
            self._snapshot_count += snapshot

    def _leave(self, *, snapshot: bool) -> None:
        with self._changed:
            self._reading_count -= not snapshot
            self._snapshot_count -= snapshot
            self._changed.notify_all()
