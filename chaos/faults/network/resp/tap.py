"""The reader of frames of one proxy: it is in every connection while a rule is armed or the journal wants frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from chaos.faults.network.connection import Connection
from chaos.faults.network.journal import Journal
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.resp.framer import Frame
from chaos.faults.network.resp.rule import Filter, OnCommandToxic
from chaos.faults.network.resp.session import Exchange
from chaos.faults.network.resp.wire import Wire
from chaos.faults.network.toxic import Toxic


class _Watcher:
    """Somebody who waits for the nth frame of a kind."""

    def __init__(self, rule: OnCommandToxic, wanted: dict[str, object], then: Callable[[], None]) -> None:
        key, client = wanted.get("key"), wanted.get("client")
        self.rule = rule
        self.then = then
        self.at = wanted.get("at", "request")
        self._filter = Filter(
            str(wanted["command"]),
            None if key is None else str(key),
            None if client is None else str(client),
        )
        self._left = int(str(wanted.get("nth", 1)))

    def meets(self, exchange: Exchange) -> bool:
        """Count a frame; True when it is the one."""
        if self._filter.takes(exchange):
            self._left -= 1
        return self._left == 0


class Tap(Toxic):
    """Holds the rules of one proxy. A toxic of the proxy's own: no fault, and not in its state."""

    kind: ClassVar[str] = "network.tap"

    def __init__(self, spread: Callable[[bool], None]) -> None:
        """`spread` puts this toxic into every open connection (True) or takes it out of them (False)."""
        super().__init__()
        self.journal: Journal | None = None
        self._spread = spread
        self._rules: list[OnCommandToxic] = []
        self._wires: dict[Connection, Wire] = {}
        self._watchers: list[_Watcher] = []
        self._condemned: list[tuple[OnCommandToxic, Connection]] = []

    @property
    def active(self) -> bool:
        """Whether frames are to be read."""
        return bool(self._rules) or (self.journal is not None and self.journal.frames)

    @property
    def read_connections(self) -> int:
        """How many connections it has a hold on."""
        return len(self._wires)

    def keep(self, journal: Journal) -> None:
        """Write to `journal` from now on."""
        before = self.active
        self.journal = journal
        if self.active and not before:
            self._spread(True)

    def arm(self, rule: OnCommandToxic) -> None:
        """Let a rule act on every connection, open and new."""
        before = self.active
        self._rules.append(rule)
        if not before:
            self._spread(True)

    def disarm(self, rule: OnCommandToxic) -> None:
        """Take a rule out and give up what it holds. Idempotent."""
        if rule not in self._rules:
            return
        self._rules.remove(rule)
        self._watchers = [watcher for watcher in self._watchers if watcher.rule is not rule]
        for wire in list(self._wires.values()):
            wire.heal(rule)
        for connection in [connection for owner, connection in self._condemned if owner is rule]:
            rule.counters["connections_reset"] += connection.cut("rst")
        self._condemned = [pair for pair in self._condemned if pair[0] is not rule]
        if not self.active:
            self._spread(False)

    def condemn(self, rule: OnCommandToxic, connection: Connection) -> None:
        """Have a connection that only looks open reset when the rule is healed."""
        self._condemned.append((rule, connection))

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Read both directions; not one that was cut off before, where nobody would say that the stage is gone."""
        if link.severed:
            return None
        if connection not in self._wires:
            self._wires[connection] = Wire(self, connection)
        return self._wires[connection].lane(link)

    def forget(self, wire: Wire) -> None:
        """A connection has ended, or is not read any more."""
        self._wires.pop(wire.connection, None)

    def meet(self, exchange: Exchange) -> list[OnCommandToxic]:
        """Show a request to every rule; return those that hit it, in the order in which they were armed."""
        hitting = [rule for rule in self._rules if rule.meet(exchange)]
        exchange.rules.extend(hitting)
        return hitting

    def armed(self, exchange: Exchange) -> list[OnCommandToxic]:
        """Return the rules that hit this request and are armed still."""
        return [rule for rule in self._rules if rule in exchange.rules]

    def wait(self, rule: OnCommandToxic, then: Callable[[], None]) -> None:
        """Call `then` at the event that a hold waits for; never when it waits for the heal."""
        until = rule.action.get("until")
        if isinstance(until, dict):
            self._watchers.append(_Watcher(rule, until, then))

    def passed(self, point: str, exchange: Exchange) -> None:
        """A request was sent on, or a reply delivered; whoever waits for it goes on in the next turn of the loop."""
        for watcher in [one for one in self._watchers if one.at == point and one.meets(exchange)]:
            self._watchers.remove(watcher)
            asyncio.get_running_loop().call_soon(watcher.then)

    def count_unread(self, size: int) -> None:
        """Bytes passed that nobody understood while rules were armed."""
        for rule in self._rules:
            rule.counters["bytes_unread"] += size

    def lost_track(self, connection: int, reason: str) -> None:
        """A connection cannot be understood any more."""
        for rule in self._rules:
            rule.counters["connections_unread"] += 1
        if self.journal is not None:
            self.journal.unread(connection, reason)

    def saw_request(self, connection: int, exchange: Exchange, frame: Frame) -> None:
        """Write down a request."""
        if self.journal is not None and self.journal.frames:
            self.journal.request(connection, exchange, frame)

    def saw_reply(self, connection: int, exchange: Exchange | None, frame: Frame, what: str) -> None:
        """Write down a frame of the server: a reply, a push, or one that the client must not see."""
        if self.journal is not None and self.journal.frames:
            self.journal.reply(connection, exchange, frame, what)

    def saw_forged(self, connection: int, exchange: Exchange) -> None:
        """Write down a reply that no server gave."""
        if self.journal is not None and self.journal.frames:
            raw = exchange.forged or b""
            self.journal.reply(connection, exchange, Frame(raw, raw[:1]), "forged")

    def rule_hit(self, rule: OnCommandToxic, connection: int, exchange: Exchange) -> None:
        """Write down that a rule acts."""
        if self.journal is not None:
            self.journal.rule(rule.fault_id, connection, exchange, rule.at, rule.word, rule.counters["frames_matched"])

    def cut(self, rule: OnCommandToxic, connection: int, how: str) -> None:
        """Write down a cut."""
        if self.journal is not None:
            self.journal.cut(connection, how, rule.fault_id)
