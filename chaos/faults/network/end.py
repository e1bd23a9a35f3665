"""One socket of a proxied connection, as an asyncio protocol: the client's end or the upstream's."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
from collections.abc import Callable
from typing import cast

from chaos.faults.network.sockets import AnySocket, close_resets, unread_bytes

WRITE_BYTES_HIGH = 64 * 1024
"""Unsent bytes in user space above which the end that feeds this one is no longer read."""


class Signal(enum.Enum):
    """What travels beside bytes: the orderly end of a direction, or the abrupt end of the connection."""

    FIN = "fin"
    RST = "rst"


Item = bytes | Signal
"""What crosses a link, in order: bytes as they were read, then possibly a FIN, then possibly an RST."""


def _ignore(_: object) -> None:
    """Stand in until a link is tied to this end."""


class End(asyncio.Protocol):
    """A socket that is read while nobody has a reason against it.

    The links tie themselves to it: `receive` gets every item that arrives, `throttle` hears True when this
    end takes no more bytes for now and False when it does again, `lost` hears that the socket is closed.
    """

    def __init__(self) -> None:
        """Start without a socket; asyncio brings it by `connection_made`."""
        self.receive: Callable[[Item], None] = _ignore
        self.throttle: Callable[[bool], None] = _ignore
        self.lost: Callable[[End], None] = _ignore
        self.gone = False
        self._transport: asyncio.Transport | None = None
        self._paused_by: set[object] = set()
        self._ended = False
        self._doomed = False

    @property
    def connected(self) -> bool:
        """Whether there is a socket that is neither closed nor about to be."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def paused(self) -> bool:
        """Whether anybody has a reason not to read from it."""
        return bool(self._paused_by)

    @property
    def unsent_bytes(self) -> int:
        """Bytes written to this end that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def unread_bytes(self) -> int:
        """Bytes that wait in the kernel because this end is not being read."""
        return unread_bytes(self._socket()) if self.connected else 0

    def pause(self, reason: object) -> None:
        """Do not read until `reason` (any hashable) is resumed; the peer is slowed down by TCP itself."""
        self._paused_by.add(reason)
        if self._readable():
            cast("asyncio.Transport", self._transport).pause_reading()

    def resume(self, reason: object) -> None:
        """Withdraw one reason; reading goes on when it was the last. Nothing for an unknown reason."""
        self._paused_by.discard(reason)
        if not self._paused_by and self._readable():
            cast("asyncio.Transport", self._transport).resume_reading()

    def resume_all(self) -> None:
        """Withdraw every reason."""
        self._paused_by.clear()
        self.resume(None)

    def write(self, data: bytes) -> bool:
        """Send bytes; False when the socket is gone and they were dropped."""
        if not self.connected:
            return False
        cast("asyncio.Transport", self._transport).write(data)
        return True

    def finish(self) -> None:
        """Send FIN after what was written; reading goes on. Idempotent."""
        if self.connected:
            with contextlib.suppress(OSError):  # the peer reset it a moment ago; reading will say so
                cast("asyncio.Transport", self._transport).write_eof()

    def reset(self) -> None:
        """Close with RST at once; what was written and not yet sent is lost. Idempotent."""
        self._doomed = True
        if self._transport is not None and not self.gone:
            close_resets(self._socket())
            self._transport.abort()

    def close(self) -> None:
        """Close after sending what was written. Idempotent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Callback of asyncio: the socket is ours now."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BYTES_HIGH)
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._doomed:
            self.reset()
        elif self._paused_by:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Callback of asyncio: pass bytes on."""
        self.receive(data)

    def eof_received(self) -> bool:
        """Callback of asyncio: pass the FIN on and keep the socket, since the other direction may still live."""
        self._ended = True
        self.receive(Signal.FIN)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Callback of asyncio: pass an RST on when it was not we who closed."""
        self.gone = self._ended = True
        if exc is not None and not self._doomed:
            self.receive(Signal.RST)
        self.lost(self)

    def pause_writing(self) -> None:
        """Callback of asyncio: too much is unsent."""
        self.throttle(True)

    def resume_writing(self) -> None:
        """Callback of asyncio: the kernel took it."""
        self.throttle(False)

    def _readable(self) -> bool:
        # After a FIN asyncio has stopped reading by itself; resuming would report the same FIN again.
        return self.connected and not self._ended

    def _socket(self) -> AnySocket:
        assert self._transport is not None
        return cast("AnySocket", self._transport.get_extra_info("socket"))
