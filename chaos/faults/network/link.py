"""One direction of a connection: the end it reads, a chain of stages, the end it writes.

A stage is one fault's hold on one link. Items (bytes, FIN, RST) enter the chain in the order of arrival and no
stage may reorder them, because TCP never does (RFC 9293 section 2.2).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Set as AbstractSet
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
        self.crowded = False
        """Whether it holds so many items that the stages in front should wait, if they can."""

    def begin(self) -> None:
        """Start to act; called once, when the stage is in the chain."""

    def feed(self, item: Item) -> None:
        """Take the next item from the stage before."""
        self.forward(item)

    def refresh(self) -> None:
        """The toxic was changed; act as it says now."""

    def nudge(self) -> None:
        """What was crowded behind this stage is no longer; a stage that waited goes on, soon."""

    def expedite(self) -> None:
        """Pass on what is only late, now and in order: the proxy is about to end this direction behind it."""

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
        self.held_bytes = 0
        self._relayed_bytes = 0
        self._fed_bytes = 0
        self._delivered_bytes = 0
        self._finished = finished
        self._stages: list[Stage] = []
        self._severed = False
        self._full = False
        source.receive = self.feed
        source.relay = self._relay
        destination.throttle = self._throttle

    @property
    def severed(self) -> bool:
        """Whether this direction has ended: no stage can act on it any more."""
        return self._severed

    @property
    def received_bytes(self) -> int:
        """Bytes that were read from the source, whatever became of them."""
        return self._relayed_bytes + self._fed_bytes

    @property
    def passed_bytes(self) -> int:
        """Bytes that were given to the destination."""
        return self._relayed_bytes + self._delivered_bytes

    def add(self, stage: Stage, before: AbstractSet[Toxic] = frozenset()) -> None:
        """Put a stage into the chain: in front of those of the toxics `before`, or else nearest to the destination.

        Nothing once severed: there is nothing left to act on.
        """
        if self._severed:
            return
        last = len(self._stages)
        place = (
            next((index for index, other in enumerate(self._stages) if other.toxic in before), last) if before else last
        )
        self._stages.insert(place, stage)
        self.source.relay = None
        stage.begin()

    def stage_of(self, toxic: Toxic) -> Stage | None:
        """Return the stage of `toxic`; None when it leaves this link alone."""
        return next((stage for stage in self._stages if stage.toxic is toxic), None)

    def remove(self, toxic: Toxic) -> None:
        """Heal the stage of `toxic`, if there is one, and take it out."""
        for stage in [stage for stage in self._stages if stage.toxic is toxic]:
            stage.release()
            with contextlib.suppress(ValueError):  # the release may have ended the connection, and the chain
                self._stages.remove(stage)
        if not self._stages and not self._severed:
            self.source.relay = self._relay

    def feed(self, item: Item) -> None:
        """Take an item that arrived at the source."""
        if not isinstance(item, Signal):
            self._fed_bytes += len(item)
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

    def crowded_behind(self, stage: Stage) -> bool:
        """Tell whether the destination or a stage between it and `stage` has enough for now."""
        return self._full or any(other.crowded for other in self._stages[self._stages.index(stage) + 1 :])

    def nudge(self, behind: Stage | None = None) -> None:
        """Tell the stages in front of `behind`, or all, that there is room again."""
        for stage in self._stages:
            if stage is behind:
                return
            stage.nudge()

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

    def expedite(self, behind: Stage | None = None) -> None:
        """Pass on, in order, everything that is only late; with `behind`, only what that stage has passed on."""
        first = self._stages.index(behind) + 1 if behind in self._stages else 0
        for stage in self._stages[first:]:
            stage.expedite()

    def sever(self) -> None:
        """End this direction: stages are dropped, and whatever arrives from now on is thrown away. Idempotent."""
        self._severed = True
        self._full = False
        self.source.relay = None
        for stage in self._stages:
            stage.drop()
        self._stages.clear()
        self.held_bytes = 0
        for reason in (_HELD, _FULL):  # neither will ever be withdrawn, and what arrives is thrown away
            self.source.resume(reason)

    def _throttle(self, full: bool) -> None:
        self._full = full and not self._severed
        if full:
            self.source.pause(_FULL)
        else:
            self.source.resume(_FULL)
            self.nudge()

    def _relay(self, data: memoryview) -> None:
        """Carry bytes across while there is no stage; the view is only valid now."""
        if self.destination.write(data):
            self._relayed_bytes += len(data)

    def _deliver(self, item: Item) -> None:
        if isinstance(item, Signal):
            if item is Signal.FIN:
                self.destination.finish()
            self._finished(self, item)
        elif self.destination.write(item):
            self._delivered_bytes += len(item)
