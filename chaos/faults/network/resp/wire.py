"""A connection whose frames are read: which reply answers what, and what the rules make of it.

A connection that was open before anybody read its frames is joined in the middle: its bytes pass untouched and are
counted as unread until one whole exchange was seen and everything is answered. Only then does a request begin at
a known place.
"""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial
from typing import TYPE_CHECKING, cast

from chaos.faults.base import STRUCK
from chaos.faults.network.resp.actions import forged
from chaos.faults.network.resp.framer import Frame, Framer
from chaos.faults.network.resp.lane import Lane, Ticket
from chaos.faults.network.resp.session import Exchange, Session

if TYPE_CHECKING:
    from chaos.faults.network.connection import Connection, Cut
    from chaos.faults.network.link import Link
    from chaos.faults.network.resp.rule import OnCommandToxic
    from chaos.faults.network.resp.tap import Tap

_BEGINS = re.compile(rb"\*[1-9]\d{0,6}\r\n\$\d{1,9}\r\n")
_FINAL = ("rst", "fin")
_DELIVERED_LOOK_S = 0.001
_DISCARD = b"*1\r\n$7\r\nDISCARD\r\n"


class _Probe:
    """A guess at where frames begin in a connection that was joined in the middle."""

    def __init__(self) -> None:
        self.session = Session()
        self._request = Framer(requests=True)
        self._reply = Framer(requests=False)
        self._answered = 0

    @property
    def settled(self) -> bool:
        """Whether the guess has proved right, and the next request begins a frame."""
        quiet = self._request.between_frames and self._reply.between_frames
        return quiet and self._answered > 0 and not self.session.outstanding

    def watch(self, data: bytes, *, request: bool) -> bool:
        """Follow what passes; False when the guess was wrong."""
        framer = self._request if request else self._reply
        for frame in framer.feed(data):
            if request:
                self.session.request(frame)
            elif not self.session.is_push(frame):
                if self.session.answer() is None:
                    return False
                self._answered += 1
        return framer.reason is None and not self.session.streaming


class Wire:
    """The hold of a `Tap` on one connection. `session` is None while its frames cannot be told apart."""

    def __init__(self, tap: Tap, connection: Connection) -> None:
        """Read frames from now on, from the start if the connection has carried nothing yet."""
        self.connection = connection
        self.session: Session | None = None
        self._tap = tap
        self._lanes: dict[str, Lane] = {}
        self._cuts: set[OnCommandToxic] = set()  # rules whose cut waits for what was sent before its point
        self._probe: _Probe | None = None
        self._gave_up = False
        if not any(link.passed_bytes or link.held_bytes for link in connection.links):
            self.session = Session()

    def lane(self, link: Link) -> Lane:
        """Return a new stage for one of the two links."""
        lane = self._lanes[link.side] = Lane(self._tap, link, self)
        return lane

    def left(self, lane: Lane) -> None:
        """A stage was taken out of its link."""
        if self._lanes.get(lane.link.side) is lane:
            del self._lanes[lane.link.side]
        if not self._lanes:
            self._tap.forget(self)

    def reads(self, lane: Lane, data: bytes) -> bool:
        """Tell whether the bytes that arrive on a lane are to be framed."""
        probe = self._probe
        if self.session is None and probe is not None and lane.link.side == "request":
            idle = probe.settled and all(one.idle for one in self._lanes.values())
            if idle and _BEGINS.match(data):
                self.session, self._probe = probe.session, None
        return self.session is not None

    def unread(self, lane: Lane, data: bytes) -> None:
        """Note bytes that pass without being understood, and look whether a frame begins there."""
        if self.session is not None:
            return  # part of a frame that is too large to keep
        self._tap.count_unread(len(data))
        if self._gave_up:
            return
        request = lane.link.side == "request"
        if self._probe is None and request and _BEGINS.match(data):
            self._probe = _Probe()
        if self._probe is not None and not self._probe.watch(data, request=request):
            self._probe = None

    def lose_track(self, reason: str, *, for_good: bool = False) -> None:
        """Stop to understand this connection: what is left passes untouched."""
        if self.session is None:
            self._probe = None
            return
        self.session = self._probe = None
        self._gave_up = for_good
        self._tap.lost_track(self.connection.ordinal, reason)
        for lane in list(self._lanes.values()):
            lane.flush_pending()
            lane.drain()

    def frame(self, lane: Lane, frame: Frame) -> None:
        """Handle the next frame of a direction."""
        if self.session is None:
            self._tap.count_unread(len(frame.raw))
            lane.forward(frame.raw)
        elif lane.link.side == "request":
            self._request(self.session, lane, frame)
        else:
            self._reply(self.session, lane, frame)

    def heal(self, rule: OnCommandToxic) -> None:
        """Deliver, late, what a rule holds here; carry out its cut if that has been waiting."""
        self._end(rule)
        for lane in list(self._lanes.values()):
            lane.unblock_rule(rule)

    # Requests

    def _request(self, session: Session, lane: Lane, frame: Frame) -> None:
        exchange = session.request(frame)
        if exchange is None:
            lane.forward(frame.raw)
            return
        self._tap.saw_request(self.connection.ordinal, exchange, frame)
        rule = next((rule for rule in self._tap.meet(exchange) if not rule.on_reply), None)
        at = None if rule is None else self._hit(rule, lane, exchange, frame)
        if rule is None or at is None:
            self._send(lane, exchange, frame.raw)
        elif rule.word == "drop":
            rule.counters["frames_dropped"] += 1
            session.forget(exchange)
            self._settle()
        elif rule.word == "forge":
            self._forge_request(session, lane, rule, exchange)
        elif rule.word == "duplicate":
            rule.counters["frames_duplicated"] += 1
            session.ghost(exchange.arguments)
            self._send(lane, exchange, frame.raw + frame.raw)
        else:
            self._stop_or_wait(rule, lane, frame.raw, at, partial(self._send, lane, exchange))

    def _forge_request(self, session: Session, lane: Lane, rule: OnCommandToxic, exchange: Exchange) -> None:
        rule.counters["frames_forged"] += 1
        reply = str(rule.action["reply"])
        exchange.forged = forged(reply, command=exchange.name, protocol=session.protocol)
        if exchange.name == "EXEC":
            session.ghost((b"DISCARD",))
            lane.forward(_DISCARD)
        self._settle()

    def _send(self, lane: Lane, exchange: Exchange, data: bytes) -> None:
        """Pass on a request, or what is left of it."""
        if data:
            lane.forward(data)
        self._tap.passed("request", exchange)
        if self.session is not None and self.session.streaming and not lane.ended:
            self.lose_track(f"{exchange.name} makes the server send at will", for_good=True)

    # Replies

    def _reply(self, session: Session, lane: Lane, frame: Frame) -> None:
        if session.is_push(frame):
            self._tap.saw_reply(self.connection.ordinal, None, frame, "push")
            lane.forward(frame.raw)
            self._settle()
            return
        exchange = session.head
        if exchange is None:
            self._tap.saw_reply(self.connection.ordinal, None, frame, "reply")
            if frame.kind != b"-":  # an error that nobody asked for tells why the server hangs up
                self.lose_track("reply: one that no request waits for")
            lane.forward(frame.raw)
            return
        if exchange.ghost:
            self._tap.saw_reply(self.connection.ordinal, None, frame, "swallowed")
            lane.acted = True
            session.answer()
            self._settle()
            return
        self._tap.saw_reply(self.connection.ordinal, exchange, frame, "reply")
        rule = next((rule for rule in self._tap.armed(exchange) if rule.on_reply), None)
        at = None if rule is None else self._hit(rule, lane, exchange, frame)
        if rule is None or at is None:
            self._deliver(lane, exchange, frame.raw)
        elif rule.word == "drop":
            rule.counters["frames_dropped"] += 1
            session.answer()
            self._settle()
        elif rule.word == "forge":
            rule.counters["frames_forged"] += 1
            told = forged(str(rule.action["reply"]), command=exchange.name, protocol=session.spoken)
            self._deliver(lane, exchange, told)
        else:
            self._stop_or_wait(rule, lane, frame.raw, at, partial(self._deliver, lane, exchange))

    def _deliver(self, lane: Lane, exchange: Exchange, data: bytes) -> None:
        """Pass on a reply, or what is left of it."""
        lane.forward(data)
        if self.session is not None:
            self.session.answer()
        self._tap.passed("reply", exchange)
        self._settle()

    def _settle(self) -> None:
        """Give out forged replies whose turn has come."""
        lane = self._lanes.get("reply")
        session = self.session
        if lane is None or session is None:
            return
        while (head := session.head) is not None and head.forged is not None:
            if lane.blocked:
                lane.put_first(self._settle)
                return
            session.answer()
            lane.forward(head.forged)
            self._tap.saw_forged(self.connection.ordinal, head)
            self._tap.passed("reply", head)

    # What a rule does at its point

    def _hit(self, rule: OnCommandToxic, lane: Lane, exchange: Exchange, frame: Frame) -> int | None:
        """Return how much of the frame lies before the rule's point; None when it cannot be hit there."""
        if frame.passed_bytes:
            rule.counters["frames_oversize"] += 1
            return None
        at = rule.cut_at(frame.size)
        if at is None:
            rule.counters["frames_too_short"] += 1
            return None
        lane.acted = True
        rule.counters["frames_hit"] += 1
        rule.counters[STRUCK] = time.monotonic_ns()
        self._tap.rule_hit(rule, self.connection.ordinal, exchange)
        return at

    def _stop_or_wait(self, rule: OnCommandToxic, lane: Lane, raw: bytes, at: int, go_on: partial[None]) -> None:
        """Pass on what lies before the point, then cut there, or wait and go on with the rest."""
        if at:
            lane.forward(raw[:at])
        rest = partial(go_on, raw[at:])
        if rule.word == "cut":
            self._cut(rule, lane, rest)
            return
        ticket = Ticket(rule)
        lane.put_first(rest)
        lane.block(ticket)
        if rule.word == "delay":
            rule.counters["frames_delayed"] += 1
            delay_s = float(rule.action["time_s"])
            ticket.timer = asyncio.get_running_loop().call_later(delay_s, lane.unblock, ticket)
        else:
            rule.counters["frames_held"] += 1
            self._tap.wait(rule, partial(self._released, rule, lane, ticket))

    def _released(self, rule: OnCommandToxic, lane: Lane, ticket: Ticket) -> None:
        rule.counters["frames_released"] += 1
        lane.unblock(ticket)

    def _cut(self, rule: OnCommandToxic, lane: Lane, rest: partial[None]) -> None:
        how = str(rule.action["how"])
        rule.counters["connections_cut"] += 1
        self._tap.cut(rule, self.connection.ordinal, how)
        if how not in _FINAL:
            self._tap.condemn(rule, self.connection)
        if how == "half_close" and lane.link.side == "request":
            self.connection.cut("half_close")
            rest()
            return
        self._cuts.add(rule)
        others = [] if how == "half_close" else [one for one in self._lanes.values() if one is not lane]
        for other in others:
            if how == "fin":
                other.expedite()
            other.end()
        lane.end()
        if rule.at == "after_request":
            rest()  # nothing is left of it, and whoever waits for it to be sent on hears that it was
        lane.link.expedite(behind=lane)
        self._end_when_delivered(rule, lane)

    def _end_when_delivered(self, rule: OnCommandToxic, lane: Lane) -> None:
        """Cut once everything in front of the point is where the cut cannot reach it; the heal waits for nothing."""
        if lane.dead:
            self._cuts.discard(rule)
        elif lane.delivered(acknowledged=rule.action["how"] == "rst"):
            self._end(rule)
        elif rule in self._cuts:
            asyncio.get_running_loop().call_later(_DELIVERED_LOOK_S, self._end_when_delivered, rule, lane)

    def _end(self, rule: OnCommandToxic) -> None:
        """Carry out the cut of a rule, unless there is none or it was carried out."""
        if rule not in self._cuts:
            return
        self._cuts.discard(rule)
        how = cast("Cut", rule.action["how"])
        # A server that finds a reset behind a request may throw both away, and "after" means that it got the request.
        if how == "rst" and rule.at == "after_request":
            self.connection.reset_client()
        else:
            self.connection.cut(how)
