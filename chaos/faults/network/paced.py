"""A stage that lets things go at moments of its own: the common part of everything that makes a connection slow."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import NamedTuple

from chaos.faults.network.end import Item
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.toxic import Toxic

CHUNKS_HIGH = 16_384
"""Chunks that one stage may hold before its source is no longer read: tiny ones cost more than their bytes."""

PIECES_AT_ONCE = 256
"""Pieces that leave one stage in one turn of the loop; the other connections have theirs in between."""


class Departure(NamedTuple):
    """When the next piece may leave, on the loop's clock (infinity: not before something changes), and its size.

    `size_bytes` None stands for the whole rest of the chunk; it means nothing for a FIN or an RST.
    """

    due_s: float
    size_bytes: int | None = None


class PacedStage(Stage):
    """A queue in order of arrival; a kind of fault says of the piece in front when it leaves, by `plan`.

    Pieces are cut off as they leave, so a chunk in a thousand pieces takes no more memory than the chunk. What is
    due on arrival passes without waiting. Released by a heal, everything leaves at once and nothing is lost.

    What is due waits all the same while a stage behind or the destination has enough: pieces of a byte each would
    take a hundred times their size there.
    """

    def __init__(self, toxic: Toxic, link: Link) -> None:
        """Start with an empty queue. Needs a running event loop."""
        super().__init__(toxic, link)
        self.loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, Item]] = deque()
        self._head_bytes = 0  # of the first chunk, this much has left
        self._next: Departure | None = None
        self._timer: asyncio.Handle | None = None

    def plan(self, arrived_s: float, item: Item, left_bytes: int) -> Departure:
        """Decide on the piece in front, once for each, in order; `left_bytes` of its chunk have not left."""
        raise NotImplementedError

    def moved(self, arrived_s: float, item: Item, size_bytes: int) -> None:
        """Hear that a piece has left or, when the connection ends, that it never will."""

    def feed(self, item: Item) -> None:
        """Queue an item; it leaves in its turn."""
        self._queue.append((self.loop.time(), item))
        if isinstance(item, bytes):
            self.link.hold(len(item))
        if len(self._queue) == 1:
            self._pass_due()
        elif len(self._queue) == CHUNKS_HIGH:
            self.crowded = True
            self.link.source.pause(self)

    def nudge(self) -> None:
        """Go on, in the next turn of the loop."""
        if self._queue:
            self._stop_timer()
            self._timer = self.loop.call_soon(self._pass_due)

    def refresh(self) -> None:
        """Plan the piece in front anew."""
        self._next = None
        self._pass_due()

    def expedite(self) -> None:
        """Pass everything on now."""
        while self._queue:
            self._pass_one(None)
        self._stop_timer()
        self._thin_out()

    def release(self) -> None:
        """Pass everything on now; nothing is dropped by a heal."""
        self.expedite()

    def drop(self) -> None:
        """Forget what is queued."""
        taken = self._head_bytes
        for arrived_s, item in self._queue:
            self.moved(arrived_s, item, len(item) - taken if isinstance(item, bytes) else 0)
            taken = 0
        self._queue.clear()
        self._head_bytes = 0
        self._stop_timer()
        self._thin_out()

    def _pass_due(self) -> None:
        """Pass on what is due and can be taken; wait for the rest."""
        self._stop_timer()
        pieces = 0
        while self._queue and not self.link.crowded_behind(self):
            if pieces == PIECES_AT_ONCE:
                self.nudge()
                return
            pieces += 1
            if self._next is None:
                arrived_s, item = self._queue[0]
                left_bytes = len(item) - self._head_bytes if isinstance(item, bytes) else 0
                self._next = self.plan(arrived_s, item, left_bytes)
            departure = self._next
            if departure.due_s > self.loop.time():
                if departure.due_s < math.inf:
                    self._timer = self.loop.call_at(departure.due_s, self._pass_due)
                return
            self._pass_one(departure.size_bytes)
            if len(self._queue) <= CHUNKS_HIGH // 2:
                self._thin_out()

    def _pass_one(self, size_bytes: int | None) -> None:
        """Pass on the piece in front; None for all that is left of its chunk."""
        self._next = None
        arrived_s, item = self._queue[0]
        if not isinstance(item, bytes):
            self._queue.popleft()
            self.moved(arrived_s, item, 0)
            self.forward(item)
            return
        start = self._head_bytes
        end = len(item) if size_bytes is None else min(len(item), start + size_bytes)
        if end == len(item):
            self._queue.popleft()
            self._head_bytes = 0
        else:
            self._head_bytes = end
        self.link.let_go(end - start)
        self.moved(arrived_s, item, end - start)
        self.forward(item[start:end] if end - start < len(item) else item)

    def _thin_out(self) -> None:
        """The queue is short again."""
        if self.crowded:
            self.crowded = False
            self.link.source.resume(self)
            self.link.nudge(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
