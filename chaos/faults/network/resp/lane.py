"""One direction of a connection whose frames are read: what is framed, what waits, what is passed on."""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.faults.network.end import Item, Signal
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.resp.framer import PART_BYTES_MAX, Frame, Framer

if TYPE_CHECKING:
    from chaos.faults.network.resp.rule import OnCommandToxic
    from chaos.faults.network.resp.tap import Tap
    from chaos.faults.network.resp.wire import Wire


@dataclass(frozen=True)
class Broken:
    """The point in a stream from which on it cannot be understood; `rest` was not passed on yet."""

    reason: str
    rest: bytes


@dataclass(eq=False)
class Ticket:
    """A reason why a lane stands still. `timer` ends it by itself; None when an event or the heal does."""

    rule: OnCommandToxic
    timer: asyncio.TimerHandle | None = None


Waiting = Frame | Broken | bytes | Signal | Callable[[], None]
"""What stands in a lane's inbox: what arrived, or work that was put off."""


class Lane(Stage):
    """The stage of a `Wire` on one link. Frames are made as bytes arrive, and handled in order when nothing blocks."""

    def __init__(self, tap: Tap, link: Link, wire: Wire) -> None:
        """Handled items go to `wire`."""
        super().__init__(tap, link)
        self.framer = Framer(requests=link.side == "request")
        self._wire = wire
        self._inbox: deque[Waiting] = deque()
        self._tickets: set[Ticket] = set()
        self._busy = False
        self.dead = False
        """Whether this direction of the connection has ended."""
        self.ended = False
        """Whether a cut has come: nothing enters any more, and what was passed on before may be under way still."""
        self.acted = False
        """Whether anything was done about the frame at hand: passed on, swallowed, kept or answered."""

    @property
    def idle(self) -> bool:
        """Whether nothing waits here."""
        return not self._inbox and not self._tickets

    @property
    def blocked(self) -> bool:
        """Whether something keeps this lane still."""
        return self.ended or bool(self._tickets)

    def feed(self, item: Item) -> None:
        """Take what arrived; as much as may be is handled at once. Behind a cut it is thrown away."""
        if self.ended:
            return
        if isinstance(item, Signal):
            self.flush_pending()
            self._put(item)
        elif self._wire.reads(self, item):
            self._frame(item)
        else:
            self._put(item)
        self.drain()

    def flush_pending(self) -> None:
        """Let the beginning of a frame that will not be finished go as it is."""
        rest = self.framer.rest()
        if rest:
            self._put(rest)

    def drain(self) -> None:
        """Handle what waits, until something blocks."""
        if self._busy:
            return
        self._busy = True
        try:
            while self._inbox and not self.blocked and not self.dead:
                item = self._inbox.popleft()
                size = _size(item)
                if size:
                    self.link.let_go(size)
                self._handle(item)
        finally:
            self._busy = False

    def put_first(self, work: Callable[[], None]) -> None:
        """Do `work` before anything else that waits, once nothing blocks; never behind a cut."""
        if not self.ended:
            self._inbox.appendleft(work)

    def block(self, ticket: Ticket) -> None:
        """Stand still until `unblock`."""
        self._tickets.add(ticket)

    def unblock(self, ticket: Ticket) -> None:
        """Withdraw one reason; go on when it was the last. Nothing for one that is gone."""
        if ticket in self._tickets:
            self._tickets.discard(ticket)
            if ticket.timer is not None:
                ticket.timer.cancel()
            self.drain()

    def unblock_rule(self, rule: OnCommandToxic) -> None:
        """Withdraw every reason that a rule has."""
        for ticket in [ticket for ticket in self._tickets if ticket.rule is rule]:
            self.unblock(ticket)

    def end(self) -> None:
        """Let nothing more enter, for good: what waits here is thrown away."""
        self.ended = True
        self._forget_tickets()
        for item in self._inbox:
            if size := _size(item):
                self.link.let_go(size)
        self._inbox.clear()
        self.framer.rest()

    def delivered(self, *, acknowledged: bool) -> bool:
        """Tell, of a lane that was ended, whether the kernel has all that was passed on; the peer's, `acknowledged`."""
        destination = self.link.destination
        if self.link.held_bytes or destination.unsent_bytes:
            return False
        return not (acknowledged and destination.unacknowledged_bytes)

    def forward(self, item: Item) -> None:
        """Pass an item on."""
        self.acted = True
        super().forward(item)

    def expedite(self) -> None:
        """Pass on what is only late; what waits for an event is lost with the connection."""
        for ticket in [ticket for ticket in self._tickets if ticket.timer is not None]:
            self.unblock(ticket)

    def release(self) -> None:
        """Nobody reads frames any more: pass on everything that is here."""
        for ticket in list(self._tickets):
            self.unblock(ticket)
        rest = self.framer.rest()
        if rest:
            self.forward(rest)
        self._wire.left(self)

    def drop(self) -> None:
        """The connection ends."""
        self.dead = True
        self._forget_tickets()
        self._inbox.clear()
        self._wire.left(self)

    def _forget_tickets(self) -> None:
        for ticket in self._tickets:
            if ticket.timer is not None:
                ticket.timer.cancel()
        self._tickets.clear()

    def _frame(self, data: bytes) -> None:
        for frame in self.framer.feed(data):
            self._put(frame)
        if self.framer.reason is not None:
            reason = self.framer.reason
            self._put(Broken(reason, self.framer.rest()))
        elif self.framer.pending_bytes > PART_BYTES_MAX:
            self._put(self.framer.part())

    def _put(self, item: Waiting) -> None:
        self._inbox.append(item)
        if size := _size(item):
            self.link.hold(size)

    def _handle(self, item: Waiting) -> None:
        if isinstance(item, Frame | bytes):
            self._understand(item)
        elif isinstance(item, Broken):
            self._wire.lose_track(f"{self.link.side}: {item.reason}")
            self.forward(item.rest)
        elif isinstance(item, Signal):
            self.forward(item)
        else:
            item()

    def _understand(self, item: Frame | bytes) -> None:
        """Handle what arrived; what we fail to make sense of passes untouched, as all that is not understood does."""
        self.acted = False
        try:
            if isinstance(item, Frame):
                self._wire.frame(self, item)
            else:
                self._wire.unread(self, item)
        except Exception as error:
            if self.acted:
                raise
            self._wire.lose_track(f"{self.link.side}: a defect of the proxy, {_place(error)}")
            self.forward(item.raw if isinstance(item, Frame) else item)
        else:
            if isinstance(item, bytes):
                self.forward(item)


def _place(error: Exception) -> str:
    """Return the kind and the line of an error; its text may tell a value, which must not get into a journal."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {last.name}, line {last.lineno}"


def _size(item: Waiting) -> int:
    match item:
        case Frame():
            return len(item.raw)
        case Broken():
            return len(item.rest)
        case bytes():
            return len(item)
    return 0
