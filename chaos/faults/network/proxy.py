"""One TCP proxy: a listening port, an upstream, the connections between them and the toxics that act on them.

It runs in one asyncio loop and is driven by calls; it knows nothing of the channel that brings them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Literal

from chaos.backends.ports import Reservation
from chaos.errors import HarnessError
from chaos.faults.network.connection import Connection, Cut
from chaos.faults.network.journal import Journal
from chaos.faults.network.link import Side
from chaos.faults.network.proxy_state import ProxyState
from chaos.faults.network.resp.tap import Tap
from chaos.faults.network.sockets import close_resets, family_of, joined, listening, reset
from chaos.faults.network.toxic import Toxic

DIAL_TIMEOUT_S = 5.0
"""How long the upstream may take to accept; after that the client's connection is reset."""

_PROBE_TIMEOUT_S = 1.0
_ACCEPT_PAUSE_S = 0.1
_ACCEPTS_PER_TURN = 64

log = logging.getLogger(__name__)


class Proxy:
    """A proxy in front of one upstream. `listen` starts it; `close` ends it."""

    def __init__(
        self,
        name: str,
        upstream: tuple[str, int],
        host: str | None = "127.0.0.1",
        port: int = 0,
        *,
        unreachable: Literal["rst", "fin"] = "rst",
    ) -> None:
        """Reserve `port` on the IPv4 or IPv6 address `host` (0: a free port). Raises OSError when it is taken.

        With None as `host` nothing is reserved before `bind`. `unreachable` says how the client of an upstream
        that cannot be reached is cut off.
        """
        self.name = name
        self.upstream = upstream
        self._unreachable = unreachable
        self._host = ""
        self.port = 0
        self._reservation: Reservation | None = None
        if host is not None:
            self.bind(host, port)
        self._listener: socket.socket | None = None
        self._closed_by: set[object] = {self}
        self._connections: dict[int, Connection] = {}
        self._opening: dict[int, tuple[asyncio.Task[None], socket.socket]] = {}
        self._toxics: dict[str, Toxic] = {}
        self.tap = Tap(self._read_frames)
        """What reads the frames of Redis' protocol, in no connection while nobody wants them."""
        self._journal: Journal | None = None
        self._ordinal = 0
        self._failed_dials = 0
        self._received_bytes: dict[Side, int] = {"request": 0, "reply": 0}
        self._passed_bytes: dict[Side, int] = {"request": 0, "reply": 0}

    async def inject(self, fault_id: str, toxic: Toxic) -> Mapping[str, int]:
        """Put a toxic to work on every connection, open and new; return its evidence so far.

        Everything but a toxic's own waiting happens before the first await, so a heal that is asked for next
        finds the fault. Raises HarnessError for an id in use.
        """
        if fault_id in self._toxics:
            raise HarnessError(f"proxy {self.name}: fault_id={fault_id!r} is in use")
        self._toxics[fault_id] = toxic
        toxic.fault_id = fault_id
        if self._journal is not None:
            self._journal.injected(fault_id, toxic.kind)
        for connection in self.connections():
            self._attach(toxic, connection)
        await toxic.start(self)
        return toxic.evidence()

    async def heal(self, fault_id: str) -> Mapping[str, int]:
        """Take a toxic out and return its evidence; {} for an unknown id.

        Raises what the toxic raises when it cannot be taken back (a port that was stolen); call it again then.
        """
        toxic = self._toxics.get(fault_id)
        if toxic is None:
            return {}
        for connection in self.connections():
            self._detach(toxic, connection)
        await toxic.stop(self)
        if self._toxics.pop(fault_id, None) is not None and self._journal is not None:
            self._journal.healed(fault_id)
        return toxic.evidence()

    def keep_journal(self, journal: Journal) -> None:
        """Write down from now on what happens to connections, and their frames if the journal wants them."""
        self._journal = journal
        for connection in self.connections():
            journal.opened(connection.ordinal)
        self.tap.keep(journal)

    def state(self) -> ProxyState:
        """Describe the proxy now."""
        links = [link for connection in self._connections.values() for link in connection.links]
        ends = [end for connection in self._connections.values() for end in connection.ends]
        traffic = self.traffic()
        return ProxyState(
            upstream=joined(*self.upstream),
            port=self.port,
            is_listening=self._listener is not None,
            connections=len(self._connections),
            opening=len(self._opening),
            connections_total=self._ordinal,
            failed_dials=self._failed_dials,
            request_bytes=traffic["request"][1],
            reply_bytes=traffic["reply"][1],
            buffered_bytes=sum(link.held_bytes for link in links) + sum(end.unsent_bytes for end in ends),
            paused_links=sum(end.paused for end in ends),
            faults={fault_id: toxic.evidence() for fault_id, toxic in self._toxics.items() if toxic.lasting},
        )

    def traffic(self) -> dict[Side, tuple[int, int]]:
        """Return the bytes received and passed on since the proxy was made, per direction."""
        received, passed = dict(self._received_bytes), dict(self._passed_bytes)
        for connection in self._connections.values():
            for link in connection.links:
                received[link.side] += link.received_bytes
                passed[link.side] += link.passed_bytes
        return {side: (received[side], passed[side]) for side in passed}

    def bind(self, host: str, port: int) -> None:
        """Reserve another address in place of the one there was; only while this proxy does not listen.

        Raises OSError when it is taken; then none is reserved.
        """
        self._unbind()
        self._reservation = Reservation(host, port)
        self._host, self.port = host, self._reservation.port

    def close(self) -> None:
        """Stop listening, reset every connection and give the port back; faults are forgotten. Idempotent."""
        self.stop_listening(self)
        self.cut_all("rst")
        self.drop_all()  # what was cut before and is not quite closed
        for toxic in self._toxics.values():
            toxic.abandon()
        self._toxics.clear()
        self._unbind()

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and the port that clients connect to; ("", 0) while none is reserved."""
        return self._host, self.port

    def connections(self) -> tuple[Connection, ...]:
        """Return the open connections, in order of ordinal."""
        return tuple(self._connections[ordinal] for ordinal in sorted(self._connections))

    def refresh(self, toxic: Toxic) -> None:
        """Have a toxic that was changed act on every open connection as it says now."""
        order = list(self._toxics.values())
        later = frozenset(order[order.index(toxic) + 1 :])
        for connection in self.connections():
            if not toxic.touches(connection.ordinal):
                self._detach(toxic, connection)
                continue
            stages = [stage for link in connection.links if (stage := link.stage_of(toxic))]
            for stage in stages:
                stage.refresh()
            if not stages:
                self._attach(toxic, connection, before=later)

    def cut_all(self, how: Cut) -> int:
        """Cut every connection; return how many there were. RST and FIN also end those that are being made."""
        cut = [connection.ordinal for connection in self.connections() if connection.cut(how)]
        if self._journal is not None:
            for ordinal in cut:
                self._journal.cut(ordinal, how, None)
        count = len(cut)
        if how not in ("rst", "fin"):
            return count
        return count + self._cancel_opening(how)

    def drop_all(self) -> None:
        """Close every connection at once, open or being made; what toxics hold back is lost."""
        for connection in self.connections():
            connection.drop()
        self._cancel_opening("fin")

    def _cancel_opening(self, how: Cut) -> int:
        opening, self._opening = self._opening, {}
        for task, client in opening.values():
            if how == "rst":
                close_resets(client)
            task.cancel()
        return len(opening)

    def stop_listening(self, owner: object) -> None:
        """Close the listening socket until every owner has called `listen`; the port stays reserved.

        Connections that the kernel had made and nobody had accepted are reset by it.
        """
        self._closed_by.add(owner)
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def listen(self, owner: object | None = None) -> None:
        """Withdraw one owner's wish (None: the wish of a proxy that was just made); listen if it was the last."""
        owner = self if owner is None else owner
        if not self._closed_by - {owner} and self._listener is None and self._reservation is not None:
            listener = listening(self._host, self.port)
            try:
                asyncio.get_running_loop().add_reader(listener, self._accept)
            except BaseException:  # a listener that nobody accepts from is worse than none
                listener.close()
                raise
            self._listener = listener
        self._closed_by.discard(owner)

    async def refuses(self) -> bool:
        """Connect to this proxy's own port and tell whether the kernel refused."""
        with socket.socket(family_of(self._host), socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                async with asyncio.timeout(_PROBE_TIMEOUT_S):
                    await asyncio.get_running_loop().sock_connect(probe, (self._host, self.port))
            except ConnectionRefusedError:
                return True
            except (OSError, TimeoutError):
                return False
            return False

    def _unbind(self) -> None:
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None
        self._host, self.port = "", 0

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("proxy %s cannot accept: %s", self.name, error)
                self._pause_accepting()
                return
            client.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._open(client, self._ordinal))
            task.add_done_callback(partial(self._opened, client))
            self._opening[self._ordinal] = task, client
            self._ordinal += 1

    def _pause_accepting(self) -> None:
        """Look away for a moment: out of descriptors, the listening socket would stay readable and spin."""
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        loop.call_later(_ACCEPT_PAUSE_S, self._resume_accepting, self._listener)

    def _resume_accepting(self, listener: socket.socket) -> None:
        if self._listener is listener:
            asyncio.get_running_loop().add_reader(listener, self._accept)

    async def _open(self, client: socket.socket, ordinal: int) -> None:
        """Make one accepted socket a connection and start it, or end it."""
        connection = Connection(ordinal, self._closed)
        try:
            is_open = await self._admitted(client) and await self._dialed(client, connection)
        except asyncio.CancelledError:
            connection.abandon()
            raise
        finally:
            self._opening.pop(ordinal, None)
        if not is_open:
            connection.abandon()
            if self._unreachable == "rst":
                reset(client)
            client.close()
            return
        self._connections[ordinal] = connection
        if self._journal is not None:
            self._journal.opened(ordinal)
        if self.tap.active:
            self._attach(self.tap, connection)
        for toxic in list(self._toxics.values()):
            self._attach(toxic, connection)  # in order, so each goes behind the others
        connection.start()

    async def _dialed(self, client: socket.socket, connection: Connection) -> bool:
        """Open the connection, or say in the log and the counters why that failed."""
        try:
            await connection.open(client, self.upstream, self.address, DIAL_TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            self._failed_dials += 1
            log.info("proxy %s cannot reach %s: %s", self.name, self.upstream, repr(error))
            return False
        return True

    async def _admitted(self, client: socket.socket) -> bool:
        """Ask every toxic, also those that come while we wait."""
        asked: set[Toxic] = set()
        while waiting := [toxic for toxic in self._toxics.values() if toxic not in asked]:
            asked.add(waiting[0])
            if not await waiting[0].admit(client):
                return False
        return True

    def _opened(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        """Close what was cut while it was opening, perhaps before its task had run at all."""
        if task.cancelled():
            client.close()  # cut_all has said whether this sends RST
        elif (error := task.exception()) is not None:
            log.error("proxy %s could not open a connection", self.name, exc_info=error)

    def _attach(self, toxic: Toxic, connection: Connection, before: AbstractSet[Toxic] = frozenset()) -> None:
        """Have a toxic act on a connection, in front of those of `before` and behind all others."""
        if not toxic.touches(connection.ordinal):
            return
        for link in connection.links:
            stage = toxic.stage(connection, link)
            if stage is not None:
                link.add(stage, before)

    def _read_frames(self, wanted: bool) -> None:
        """Put the tap in front of all toxics of every open connection, or take it out."""
        for connection in self.connections():
            if wanted:
                self._attach(self.tap, connection, before=frozenset(self._toxics.values()))
            else:
                self._detach(self.tap, connection)

    def _detach(self, toxic: Toxic, connection: Connection) -> None:
        for link in connection.links:
            link.remove(toxic)

    def _closed(self, connection: Connection) -> None:
        with contextlib.suppress(KeyError):
            del self._connections[connection.ordinal]
            for link in connection.links:
                self._received_bytes[link.side] += link.received_bytes
                self._passed_bytes[link.side] += link.passed_bytes
            if self._journal is not None:
                passed = (link.passed_bytes for link in connection.links)
                self._journal.closed(connection.ordinal, *passed, how=connection.how_cut)
