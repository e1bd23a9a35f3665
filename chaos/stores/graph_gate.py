"""Keeps readers and the checkpoint apart inside the graph child.

kuzu's checkpoint waits for every open transaction, for seconds, and then fails; while it waits nobody can begin
one. So it is only tried when no transaction is open: new readings are held back for a moment while those under way
end, and when one does not the checkpoint is put off, since how long a snapshot stays open is its owner's affair.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 0.5
"""How long a checkpoint that is due holds new readings back while those under way end; well below any watchdog's."""


class CheckpointGate:
    """Counts the transactions of readers that are open. All methods are for any thread."""

    def __init__(self) -> None:
        """Nobody reads."""
        self._changed = threading.Condition()
        self._open_count = 0
        self._shut = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold checkpoints off for the length of one statement; waits while one is made."""
        self.begins()
        try:
            yield
        finally:
            self.ends()

    def begins(self) -> None:
        """Hold checkpoints off until `ends`; waits while one is made."""
        with self._changed:
            self._changed.wait_for(lambda: not self._shut)
            self._open_count += 1

    def ends(self) -> None:
        """Undo one `begins`."""
        with self._changed:
            self._open_count -= 1
            self._changed.notify_all()

    @contextmanager
    def checkpointing(self, *, alone: bool) -> Iterator[bool]:
        """Yield whether a checkpoint may be made now; nobody begins to read until the block is left.

        alone: whether the engine needs that no reader has a transaction; then they are waited for `PATIENCE_S` at most.
        """
        if not alone:
            yield True
            return
        with self._changed:
            self._shut = True
            free = self._changed.wait_for(lambda: not self._open_count, PATIENCE_S)
        try:
            yield free
        finally:
            with self._changed:
                self._shut = False
                self._changed.notify_all()
