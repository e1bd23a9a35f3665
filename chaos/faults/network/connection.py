"""A proxied connection: two ends, a link each way, and the ways in which it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Literal

from chaos.faults.network.end import End, Signal
from chaos.faults.network.link import Link
from chaos.faults.network.sockets import connected

Cut = Literal["rst", "fin"]
"""How a connection is cut: reset at once, or closed in order after what is on its way was sent."""

FIN_LINGER_S = 1.0
"""After an orderly cut the sockets stay open this long for the peers' own FIN, so that no RST overtakes ours."""


class Connection:
    """One client's connection and its counterpart to the upstream."""

    def __init__(self, ordinal: int, closed: Callable[[Connection], None]) -> None:
        """`ordinal` counts the proxy's connections from 0 in order of accept; `closed` hears of the end, once."""
        self.ordinal = ordinal
        self._closed = closed
        self._client = End()
        self._upstream = End()
        self.request = Link("request", self._client, self._upstream, self._link_finished)
        self.reply = Link("reply", self._upstream, self._client, self._link_finished)
        self._finished: set[Link] = set()
        self._cut = False
        self._linger: asyncio.TimerHandle | None = None
        for end in self.ends:
            end.lost = self._end_lost
            end.pause(self)

    @property
    def ends(self) -> tuple[End, End]:
        """The client's end and the upstream's."""
        return self._client, self._upstream

    @property
    def links(self) -> tuple[Link, Link]:
        """The request link and the reply link."""
        return self.request, self.reply

    async def open(self, client: socket.socket, upstream: tuple[str, int], timeout_s: float) -> None:
        """Dial the upstream, then take over the accepted socket; no byte is read before `start`.

        Raises OSError or TimeoutError when the upstream cannot be reached within `timeout_s`; `client` is then
        still the caller's. Cancellation: safe; call `abandon` afterwards.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            server = await connected(upstream)
        await loop.create_connection(lambda: self._upstream, sock=server)
        await loop.connect_accepted_socket(lambda: self._client, client)

    def start(self) -> None:
        """Begin to carry bytes both ways."""
        for end in self.ends:
            end.resume(self)

    def cut(self, how: Cut) -> bool:
        """End the connection on both sides; False when it was cut before or has ended."""
        if self._cut or all(end.gone for end in self.ends):
            return False
        self._cut = True
        if how == "rst":
            self.abandon()
        else:
            self._close_in_order()
        return True

    def abandon(self) -> None:
        """Reset whatever sockets there are. Idempotent."""
        for link in self.links:
            link.sever()
        for end in self.ends:
            end.reset()

    def _close_in_order(self) -> None:
        for link in self.links:
            link.expedite()
            link.sever()
        for end in self.ends:
            end.finish()
            end.resume_all()
        self._linger = asyncio.get_running_loop().call_later(FIN_LINGER_S, self._close_ends)

    def _close_ends(self) -> None:
        for end in self.ends:
            end.close()

    def _link_finished(self, link: Link, signal: Signal) -> None:
        if signal is Signal.RST and not self._cut:
            self.abandon()
            return
        self._finished.add(link)
        if len(self._finished) == len(self.links):
            self._close_ends()

    def _end_lost(self, _: End) -> None:
        if not all(end.gone for end in self.ends):
            return
        if self._linger is not None:
            self._linger.cancel()
        for link in self.links:
            link.sever()
        self._closed(self)
