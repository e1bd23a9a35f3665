"""One direction of a connection: the end it reads, a chain of stages, the end it writes.

A stage is one fault's hold on one link. Items (bytes, FIN, RST) enter the chain in the order of arrival and no
stage may reorder them, because TCP never does (RFC 9293 section 2.2).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from chaos.errors import HarnessError
from chaos.faults.network.end import End, Item, Signal

if TYPE_CHECKING:
    from chaos.faults.network.toxic import Toxic

Side = Literal["request", "reply"]
"""A direction: request runs from the client to the upstream, reply runs back."""

HELD_BYTES_HIGH = 1024 * 1024
"""Bytes that the stages of one link may hold before its source is no longer read; one chunk may exceed it.

It bounds memory, and by it the throughput of a delayed link: at most this many bytes per delay.
"""

_HELD = "stages hold enough"
_FULL = "the destination takes no more"


class Stage:
    """Base of stages: passes everything on. A kind of fault overrides what it wants to change.

    `hold` and `let_go` account for bytes that a stage keeps, so that memory stays bounded. No method may raise.
    """

    def __init__(self, toxic: Toxic, link: Link) -> None:
        """`toxic` made this stage for `link`; `Link.add` puts it to work."""
        self.toxic = toxic
        self.link = link

    def begin(self) -> None:
        """Start to act; called once, when the stage is in the chain."""

    def feed(self, item: Item) -> None:
        """Take the next item from the stage before."""
        self.forward(item)

    def expedite(self) -> None:
        """Pass on what is only late, now and in order: the proxy is about to end this direction with FIN."""

    def release(self) -> None:
        """Heal: pass on or give up what is held, in order. Still in the chain; nothing is fed afterwards."""

    def drop(self) -> None:
        """The connection ends: count what is lost, cancel timers, forward nothing."""

    def forward(self, item: Item) -> None:
        """Give an item to the stage behind, or to the destination."""
        self.link.pass_on(self, item)


class Link:
    """One direction of one connection."""

    def __init__(self, side: Side, source: End, destination: End, finished: Callable[[Link, Signal], None]) -> None:
        """Tie the ends together; `finished` hears of the FIN or RST that has crossed the whole chain."""
        self.side = side
        self.source = source
        self.destination = destination
        self.passed_bytes = 0
        self.held_bytes = 0
        self._finished = finished
        self._stages: list[Stage] = []
        self._severed = False
        source.receive = self.feed
        destination.throttle = self._throttle

    def add(self, stage: Stage) -> None:
        """Put a stage at the end of the chain, nearest to the destination."""
        self._stages.append(stage)
        stage.begin()

    def remove(self, toxic: Toxic) -> None:
        """Heal the stage of `toxic`, if there is one, and take it out."""
        for stage in [stage for stage in self._stages if stage.toxic is toxic]:
            stage.release()
            with contextlib.suppress(ValueError):  # the release may have ended the connection, and the chain
                self._stages.remove(stage)

    def feed(self, item: Item) -> None:
        """Take an item that arrived at the source."""
        if self._severed:
            if isinstance(item, Signal):
                self._finished(self, item)
        elif self._stages:
            self._stages[0].feed(item)
        else:
            self._deliver(item)

    def pass_on(self, stage: Stage, item: Item) -> None:
        """Move an item past `stage`; called by the stage."""
        if self._severed:
            return
        behind = self._stages.index(stage) + 1
        if behind < len(self._stages):
            self._stages[behind].feed(item)
        else:
            self._deliver(item)

    def hold(self, size_bytes: int) -> None:
        """Note that a stage keeps this many bytes more; the source may be paused."""
        self.held_bytes += size_bytes
        if self.held_bytes >= HELD_BYTES_HIGH:
            self.source.pause(_HELD)

    def let_go(self, size_bytes: int) -> None:
        """Note that a stage keeps this many bytes less; the source may go on. Nothing once severed."""
        if self._severed:
            return
        self.held_bytes -= size_bytes
        if self.held_bytes < 0:
            raise HarnessError(f"a stage let go of more bytes than it held: held_bytes={self.held_bytes}")
        if self.held_bytes < HELD_BYTES_HIGH // 2:
            self.source.resume(_HELD)

    def expedite(self) -> None:
        """Pass on, in order, everything that is only late."""
        for stage in list(self._stages):
            stage.expedite()

    def sever(self) -> None:
        """End this direction: stages are dropped, and whatever arrives from now on is thrown away. Idempotent."""
        self._severed = True
        for stage in self._stages:
            stage.drop()
        self._stages.clear()
        self.held_bytes = 0

    def _throttle(self, full: bool) -> None:
        if full:
            self.source.pause(_FULL)
        else:
            self.source.resume(_FULL)

    def _deliver(self, item: Item) -> None:
        if isinstance(item, Signal):
            if item is Signal.FIN:
                self.destination.finish()
            self._finished(self, item)
        elif self.destination.write(item):
            self.passed_bytes += len(item)
