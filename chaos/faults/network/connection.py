"""A proxied connection: two ends, a link each way, and the ways in which it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Literal

from chaos.faults.network.end import End, Signal
from chaos.faults.network.link import Link
from chaos.faults.network.sockets import connected

Cut = Literal["rst", "fin", "half_close", "stall", "discard"]
"""How a connection is cut.

rst: reset on both sides at once. fin: closed in order on both sides, after what is on its way was sent. half_close:
the client reads end of file after the replies that are on their way, its requests still arrive. stall: neither side
is read any more. discard: both are, and everything is thrown away, their ends too. The last two close nothing: the
connection looks open until it is cut by rst or fin, or, with discard, both peers have left.
"""

CUTS: tuple[Cut, ...] = ("rst", "fin", "half_close", "stall", "discard")
_FINAL: tuple[Cut, ...] = ("rst", "fin")
_SILENT: tuple[Cut, ...] = ("stall", "discard")

_CUT = "cut off"

FIN_LINGER_S = 1.0
"""After an orderly cut the sockets stay open this long for the peers' own FIN, so that no RST overtakes ours.

A peer that has not taken by then what was sent to it is reset: it may never read.
"""


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
        self.started = False
        """Whether bytes were allowed to cross; a stage that is made before acts from the first byte on."""
        self._finished: set[Link] = set()
        self._ending: frozenset[Link] = frozenset()
        self._cut: Cut | None = None
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

    async def open(
        self, client: socket.socket, upstream: tuple[str, int], own: tuple[str, int], timeout_s: float
    ) -> None:
        """Dial the upstream, then take over the accepted socket; no byte is read before `start`.

        `own` is the address of the proxy, where no upstream can be. Raises OSError or TimeoutError when the upstream
        cannot be reached within `timeout_s`; `client` is then still the caller's. Cancellation: safe; call
        `abandon` afterwards.
        """
        async with asyncio.timeout(timeout_s):
            server = await connected(upstream, own)
        self._upstream.attach(server)
        self._client.attach(client)

    def start(self) -> None:
        """Begin to carry bytes both ways."""
        self.started = True
        for end in self.ends:
            end.resume(self)

    @property
    def how_cut(self) -> Cut | None:
        """The way in which the proxy has cut it, the latest if there were several; None when it did not."""
        return self._cut

    def cut(self, how: Cut) -> bool:
        """Cut the connection; False when it has ended, or was cut before in a way that `how` adds nothing to.

        Of two final cuts the second adds something only when it is rst and the first still waits for a peer to read.
        """
        if self._cut in _FINAL:
            is_cut = how != "rst" or not any(end.unsent_bytes for end in self.ends)
        else:
            is_cut = (self._cut in _SILENT and how not in _FINAL) or self._cut == how
        if is_cut or all(end.gone for end in self.ends):
            return False
        self._cut = how
        match how:
            case "rst":
                self.abandon()
            case "fin":
                self._close_in_order()
            case "half_close":
                self._end_replies()
            case "stall":
                self._sever()
                for end in self.ends:
                    end.pause(_CUT)
            case "discard":
                self._sever()
        return True

    def end_behind(self, link: Link) -> None:
        """Close both sides in order once a FIN, which a stage is about to forward, has crossed `link`."""
        self._ending |= {link}

    def drop(self) -> None:
        """Close both sides at once, whatever is held back. Peers read end of file, or RST where they sent more."""
        if self._cut != "rst":
            self._cut = "fin"
        self._sever()
        for end in self.ends:
            end.leave()

    def reset_client(self) -> None:
        """Reset the client's side and close the upstream's in order, so that no RST overtakes what was sent there.

        An upstream that has not taken it after FIN_LINGER_S is reset too.
        """
        self._cut = "rst"
        self._sever()
        self._client.reset()
        self._upstream.close()
        self._linger_on()

    def abandon(self) -> None:
        """Reset whatever sockets there are. Idempotent."""
        self._sever()
        for end in self.ends:
            end.reset()

    def _sever(self) -> None:
        for link in self.links:
            link.sever()

    def _end_replies(self) -> None:
        self.reply.expedite()
        self.reply.sever()
        self._client.finish()

    def _close_in_order(self) -> None:
        for link in self.links:
            link.expedite()
            link.sever()
        for end in self.ends:
            end.finish()
            end.resume_all()
        self._linger_on()

    def _linger_on(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self._linger = asyncio.get_running_loop().call_later(FIN_LINGER_S, self._give_up)

    def _give_up(self) -> None:
        """Close what has been sent, and reset a peer that does not read."""
        for end in self.ends:
            if end.unsent_bytes:
                end.reset()
            else:
                end.close()

    def _close_ends(self) -> None:
        for end in self.ends:
            end.close()

    def _link_finished(self, link: Link, signal: Signal) -> None:
        if signal is Signal.RST and self._cut in (None, "half_close"):
            self.abandon()
            return
        if link in self._ending:
            self._ending -= {link}
            self.cut("fin")
            return  # the source has not ended; closed before it does, it might see RST instead of our FIN
        self._finished.add(link)
        if len(self._finished) == len(self.links):
            self._close_ends()

    def _end_lost(self, _: End) -> None:
        if not all(end.gone for end in self.ends):
            return
        if self._linger is not None:
            self._linger.cancel()
        self._sever()
        self._closed(self)
