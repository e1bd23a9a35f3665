"""One TCP proxy: a listening port, an upstream, the connections between them and the toxics that act on them.

It runs in one asyncio loop and is driven by calls; it knows nothing of the channel that brings them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from chaos.backends.ports import Reservation
from chaos.errors import HarnessError
from chaos.faults.network.connection import Connection, Cut
from chaos.faults.network.link import Side
from chaos.faults.network.sockets import close_resets, listening, reset
from chaos.faults.network.toxic import Toxic

DIAL_TIMEOUT_S = 5.0
"""How long the upstream may take to accept; after that the client's connection is reset."""

_PROBE_TIMEOUT_S = 1.0
_ACCEPT_PAUSE_S = 0.1
_ACCEPTS_PER_TURN = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProxyState:
    """A proxy at one moment.

    connections are open; opening ones were accepted and have no upstream yet (dialing, or kept waiting by a
    toxic). The bytes are totals since the proxy was added, of what was passed on, per direction.
    buffered_bytes are in the proxy's memory now; paused_links are directions that are not being read. faults holds the
    lasting ones that act, by id in order of injection, with the evidence each has gathered so far.
    """

    upstream: str
    port: int
    is_listening: bool
    connections: int
    opening: int
    connections_total: int
    failed_dials: int
    request_bytes: int
    reply_bytes: int
    buffered_bytes: int
    paused_links: int
    faults: Mapping[str, Mapping[str, int]]


class Proxy:
    """A proxy in front of one upstream. `listen` starts it; `close` ends it."""

    def __init__(self, name: str, upstream: tuple[str, int], host: str = "127.0.0.1", port: int = 0) -> None:
        """Reserve `port` on the IPv4 address `host` (0: a free port). Raises OSError when it is taken."""
        self.name = name
        self.upstream = upstream
        self._host = host
        self._reservation = Reservation(host, port)
        self.port = self._reservation.port
        self._listener: socket.socket | None = None
        self._closed_by: set[object] = {self}
        self._connections: dict[int, Connection] = {}
        self._opening: dict[int, tuple[asyncio.Task[None], socket.socket]] = {}
        self._toxics: dict[str, Toxic] = {}
        self._ordinal = 0
        self._failed_dials = 0
        self._passed_bytes: dict[Side, int] = {"request": 0, "reply": 0}

    async def inject(self, fault_id: str, toxic: Toxic) -> Mapping[str, int]:
        """Put a toxic to work on every connection, open and new; return its evidence so far.

        Everything but a toxic's own waiting happens before the first await, so a heal that is asked for next
        finds the fault. Raises HarnessError for an id in use.
        """
        if fault_id in self._toxics:
            raise HarnessError(f"proxy {self.name}: fault_id={fault_id!r} is in use")
        self._toxics[fault_id] = toxic
        for ordinal in sorted(self._connections):
            self._attach(toxic, self._connections[ordinal])
        await toxic.start(self)
        return toxic.evidence()

    async def heal(self, fault_id: str) -> Mapping[str, int]:
        """Take a toxic out and return its evidence; {} for an unknown id.

        Raises what the toxic raises when it cannot be taken back (a port that was stolen); call it again then.
        """
        toxic = self._toxics.get(fault_id)
        if toxic is None:
            return {}
        for connection in list(self._connections.values()):
            for link in connection.links:
                link.remove(toxic)
        await toxic.stop(self)
        self._toxics.pop(fault_id, None)
        return toxic.evidence()

    def state(self) -> ProxyState:
        """Describe the proxy now."""
        links = [link for connection in self._connections.values() for link in connection.links]
        ends = [end for connection in self._connections.values() for end in connection.ends]
        passed = dict(self._passed_bytes)
        for link in links:
            passed[link.side] += link.passed_bytes
        return ProxyState(
            upstream="{}:{}".format(*self.upstream),
            port=self.port,
            is_listening=self._listener is not None,
            connections=len(self._connections),
            opening=len(self._opening),
            connections_total=self._ordinal,
            failed_dials=self._failed_dials,
            request_bytes=passed["request"],
            reply_bytes=passed["reply"],
            buffered_bytes=sum(link.held_bytes for link in links) + sum(end.unsent_bytes for end in ends),
            paused_links=sum(end.paused for end in ends),
            faults={fault_id: toxic.evidence() for fault_id, toxic in self._toxics.items() if toxic.lasting},
        )

    def close(self) -> None:
        """Stop listening, reset every connection and give the port back; faults are forgotten. Idempotent."""
        self.stop_listening(self)
        self.cut_all("rst")
        self._toxics.clear()
        self._reservation.close()

    def cut_all(self, how: Cut) -> int:
        """Cut every connection, open or being made; return how many there were."""
        count = sum(connection.cut(how) for connection in list(self._connections.values()))
        opening, self._opening = self._opening, {}
        for task, client in opening.values():
            if how == "rst":
                close_resets(client)
            task.cancel()
        return count + len(opening)

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
        if not self._closed_by - {owner} and self._listener is None:
            self._listener = listening(self._host, self.port)
            asyncio.get_running_loop().add_reader(self._listener, self._accept)
        self._closed_by.discard(owner)

    async def refuses(self) -> bool:
        """Connect to this proxy's own port and tell whether the kernel refused."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                async with asyncio.timeout(_PROBE_TIMEOUT_S):
                    await asyncio.get_running_loop().sock_connect(probe, (self._host, self.port))
            except ConnectionRefusedError:
                return True
            except (OSError, TimeoutError):
                return False
            return False

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
            reset(client)
            return
        self._connections[ordinal] = connection
        for toxic in list(self._toxics.values()):
            self._attach(toxic, connection)
        connection.start()

    async def _dialed(self, client: socket.socket, connection: Connection) -> bool:
        """Open the connection, or say in the log and the counters why that failed."""
        try:
            await connection.open(client, self.upstream, DIAL_TIMEOUT_S)
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

    def _attach(self, toxic: Toxic, connection: Connection) -> None:
        for link in connection.links:
            stage = toxic.stage(connection, link)
            if stage is not None:
                link.add(stage)

    def _closed(self, connection: Connection) -> None:
        with contextlib.suppress(KeyError):
            del self._connections[connection.ordinal]
            for link in connection.links:
                self._passed_bytes[link.side] += link.passed_bytes
